//! Who is in a call: many, or one alone. Nobody waits here, since an NMI may come in the middle of a call and make another.

use core::sync::atomic::{AtomicU32, Ordering};

/// Set while one is alone; the bits below count who is in.
const ALONE: u32 = 1 << 31;

#[derive(Debug)]
pub(crate) struct Gate(AtomicU32);

/// In, until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'g> {
    gate: &'g Gate,
    left: u32,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Lets one in beside others; `None` while one is alone.
    pub(crate) fn shared(&self) -> Option<Inside<'_>> {
        let inside = Inside { gate: self, left: 1 };
        // Who is not let in was counted for a moment, and leaves again as `inside` is dropped.
        (self.0.fetch_add(1, Ordering::Acquire) & ALONE == 0).then_some(inside)
    }

    /// Lets one in alone; `None` while anybody is in.
    pub(crate) fn alone(&self) -> Option<Inside<'_>> {
        self.0.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Inside { gate: self, left: ALONE })
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.gate.0.fetch_sub(self.left, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_in_or_one_alone() {
        let gate = Gate::new();
        let (one, other) = (gate.shared().unwrap(), gate.shared().unwrap());
        assert!(gate.alone().is_none());
        drop(one);
        assert!(gate.alone().is_none());
        drop(other);
        let alone = gate.alone().unwrap();
        assert!(gate.alone().is_none() && gate.shared().is_none());
        drop(alone);
        assert!(gate.shared().is_some() && gate.alone().is_some());
    }
}
