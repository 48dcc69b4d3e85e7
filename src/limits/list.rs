use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// A list in borrowed memory: it holds as many values as there is room for, and takes no more.
///
/// Its values are never dropped: what goes in there owns nothing that would have to be given back.
pub(crate) struct List<'s, T> {
    /// The first `len` hold a value.
    slots: &'s mut [MaybeUninit<T>],
    len: usize,
}

/// A list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl<'s, T> List<'s, T> {
    /// An empty list with room for nothing.
    pub(crate) const fn without_room() -> Self {
        Self { slots: &mut [], len: 0 }
    }

    /// An empty list with room for as many values as there are slots.
    pub(crate) fn new(slots: &'s mut [MaybeUninit<T>]) -> Self {
        Self { slots, len: 0 }
    }

    /// How many values there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.slots.len()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a value, if there is room.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> Result<(), NoRoom> {
        self.push_with(|| value)
    }

    /// Appends what `make` makes, if there is room: a large value is made in its place.
    #[inline]
    pub(crate) fn push_with(&mut self, make: impl FnOnce() -> T) -> Result<(), NoRoom> {
        let slot = self.slots.get_mut(self.len).ok_or(NoRoom)?;
        slot.write(make());
        self.len += 1;
        Ok(())
    }

    /// Takes the last value.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let slot = self.slots.get(last)?;
        self.len = last;
        // SAFETY: the slot is among the first `len`, so it holds a value; it is not any more, so nobody reads it again.
        Some(unsafe { slot.assume_init_read() })
    }

    /// Takes the value at `index`; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        if index > last {
            return None;
        }
        if let Ok([hole, last]) = self.slots.get_disjoint_mut([index, last]) {
            core::mem::swap(hole, last);
        }
        self.pop()
    }

    /// Keeps the values of which `keep` is true, in their order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for index in 0..self.len {
            if self.get(index).is_some_and(&mut keep) {
                if let Ok([hole, value]) = self.slots.get_disjoint_mut([kept, index]) {
                    core::mem::swap(hole, value);
                }
                kept += 1;
            }
        }
        self.len = kept;
    }
}

impl<T: Copy> List<'_, T> {
    /// Has the values of another list, as many as there is room for.
    pub(crate) fn copy_from(&mut self, other: &[T]) {
        self.clear();
        for (slot, value) in self.slots.iter_mut().zip(other) {
            slot.write(*value);
            self.len += 1;
        }
    }

    /// Puts a value before the one at `index`, or at the end if there are not so many, if there is room.
    pub(crate) fn insert(&mut self, index: usize, value: T) -> Result<(), NoRoom> {
        self.push(value)?;
        if let Some(tail) = self.get_mut(index..) {
            // Not `rotate_right`, which takes 344 bytes of stack.
            let mut moved = value;
            tail.iter_mut().for_each(|slot| core::mem::swap(slot, &mut moved));
        }
        Ok(())
    }

    /// Takes out the values from `first` up to `end`, which is not among them; those that there are.
    pub(crate) fn remove(&mut self, first: usize, end: usize) {
        let end = end.min(self.len);
        let Some(removed) = end.checked_sub(first) else { return };
        for index in end..self.len {
            let value = self.get(index).copied();
            if let Some((value, hole)) = value.zip(self.slots.get_mut(index.wrapping_sub(removed))) {
                hole.write(value);
            }
        }
        self.len -= removed;
    }
}

impl<T> Deref for List<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let first = self.slots.as_ptr().cast();
        // SAFETY: the first `len` slots hold values, and they are borrowed for as long as the list is.
        unsafe { core::slice::from_raw_parts(first, self.len) }
    }
}

impl<T> DerefMut for List<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let first = self.slots.as_mut_ptr().cast();
        // SAFETY: as above, and nobody else has the list meanwhile.
        unsafe { core::slice::from_raw_parts_mut(first, self.len) }
    }
}

impl<'l, T> IntoIterator for &'l List<'_, T> {
    type Item = &'l T;
    type IntoIter = core::slice::Iter<'l, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'s, const N: usize>(slots: &'s mut [MaybeUninit<u32>; N], values: &[u32]) -> List<'s, u32> {
        let mut list = List::new(slots);
        values.iter().for_each(|value| list.push(*value).unwrap());
        list
    }

    #[test]
    fn it_takes_no_more_than_it_has_room_for() {
        let mut slots = [MaybeUninit::uninit(); 3];
        let mut full = list(&mut slots, &[1, 2, 3]);
        assert_eq!(
            (full.push(4), full.insert(0, 4), full.is_full(), full.capacity()),
            (Err(NoRoom), Err(NoRoom), true, 3)
        );
        assert_eq!((full.to_vec(), full.pop()), (std::vec![1, 2, 3], Some(3)));
        full.insert(1, 9).unwrap();
        assert_eq!(*full, [1, 9, 2]);
        assert_eq!(List::<u32>::without_room().push(1), Err(NoRoom));
    }

    #[test]
    fn what_is_kept_stays_in_order() {
        let mut slots = [MaybeUninit::uninit(); 8];
        let mut all = list(&mut slots, &[1, 2, 3, 4, 5, 6]);
        all.retain(|value| value % 2 == 0);
        assert_eq!(*all, [2, 4, 6]);
        all.copy_from(&[7, 8, 9, 10]);
        all.remove(1, 3);
        assert_eq!(*all, [7, 10]);
        all.remove(2, 9);
        all.remove(1, 9);
        assert_eq!((all.to_vec(), all.pop(), all.pop()), (std::vec![7], Some(7), None));
    }

    #[test]
    fn a_copy_that_does_not_fit_is_cut() {
        let mut slots = [MaybeUninit::uninit(); 2];
        let mut short = list(&mut slots, &[]);
        short.copy_from(&[1, 2, 3]);
        assert_eq!(*short, [1, 2]);
    }
}
