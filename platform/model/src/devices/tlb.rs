//! The translations that a device caches itself (section 4.1), and the capability that lets it (PCI Express 6.0, section
//! 10.5.1).
#![forbid(unsafe_code)]

use cofferdam::addr::Rights;

/// How a device answers an invalidation of its device-TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It drops what it has, and says so after that many nanoseconds.
    After(u64),
    /// It does not answer; the unit gives up after [`GIVES_UP_NS`].
    Never,
    /// It answers as it should, and once more for an invalidation that nobody sent.
    Twice,
}

/// How long a unit waits for a device. (PCI Express allows a minute; no test would wait for that.)
pub const GIVES_UP_NS: u64 = 10_000_000;

/// Where the ATS extended capability of a device is that has one: the header, then capability and control register in one
/// word.
pub(crate) const HEADER: u16 = 0x140;
pub(crate) const REGISTERS: u16 = HEADER + 4;
/// Id of the extended capability, and version 1.
pub(crate) const FIRST_VERSION: u32 = 1 << 16 | 0xf;
/// E of the control register, and with STU all of it that can be written.
pub(crate) const ENABLE: u32 = 1 << 31;
pub(crate) const WRITABLE: u32 = ENABLE | 0x1f << 16;

/// A device's ATS control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ats {
    /// E = 1.
    On,
    /// E = 0, and since then the device-TLB was not emptied.
    Off,
    /// E = 0, and the device-TLB is empty.
    Done,
}

impl Ats {
    /// What the control register says.
    pub(crate) fn set_by(register: u32) -> Self {
        if register & ENABLE != 0 { Self::On } else { Self::Off }
    }
}

/// A page that a device has a translation of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) page: u64,
    pub(crate) output: u64,
    pub(crate) rights: Rights,
}

#[derive(Debug)]
pub(crate) struct DeviceTlb {
    pub(crate) cached: Vec<Cached>,
    pub(crate) answer: Answer,
    /// Invalidations that the device takes at a time (Invalidate Queue Depth).
    pub(crate) queue_depth: usize,
    /// The device did not answer the last invalidation.
    pub(crate) unresponsive: bool,
    /// For a device that has the capability. One without uses its device-TLB whenever a test says so.
    pub(crate) ats: Option<Ats>,
}

impl Default for DeviceTlb {
    fn default() -> Self {
        Self { cached: Vec::new(), answer: Answer::After(1_000), queue_depth: 32, unresponsive: false, ats: None }
    }
}

impl DeviceTlb {
    pub(crate) fn lookup(&self, address: u64, right: Rights) -> Option<u64> {
        let hit = self.cached.iter().find(|entry| entry.page == address & !0xfff && entry.rights.contains(right))?;
        Some(hit.output | address & 0xfff)
    }

    /// It has dropped all that it had, as an invalidation said.
    pub(crate) fn emptied(&mut self) {
        if self.ats == Some(Ats::Off) {
            self.ats = Some(Ats::Done);
        }
    }

    /// Drops the translations of all pages from `first` to `last`.
    pub(crate) fn invalidate(&mut self, first: u64, last: u64) {
        self.cached.retain(|entry| entry.page > last || entry.page | 0xfff < first);
    }
}
