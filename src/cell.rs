//! A cell's view: the memory that its devices may reach, and the domains that give it to them.

mod difference;
mod policy;
mod regions;
mod reserved;

pub(crate) use difference::{RegionDifference, RegionDifferences, check_room_without_grants, without_grants};
pub use policy::{CoherencyPolicy, ResetPolicy, Sharing};
pub(crate) use regions::{Part, RegionError, Regions, SLACK, cut};
pub(crate) use reserved::{Reserved, for_each_mapped};

use crate::domain::{Coherency, Domain};
use crate::hal::{FrameList, Hal};
use crate::interrupt::InterruptTargets;
use crate::limits::List;

/// Which cell: valid from its creation until it is destroyed. The handle of a destroyed cell never names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellId {
    pub(crate) index: u16,
    /// Counts the cells that were ever made.
    pub(crate) generation: u32,
    pub(crate) tag: u16,
}

impl CellId {
    /// The number of the caller's that the cell was [made with](CellConfig::tag).
    pub const fn tag(self) -> u16 {
        self.tag
    }

    /// The handle as a number, never 0: for other languages, which hand it back to [`from_bits`](Self::from_bits).
    pub const fn to_bits(self) -> u64 {
        (self.tag as u64) << 48 | (self.generation as u64) << 16 | self.index as u64
    }

    /// The handle with this number; `None` for a number that none has. It need not be of a cell: then each call that it is handed
    /// to says so ([`Error::NoSuchCell`](crate::iommu::Error)).
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match (bits >> 16) as u32 {
            0 => None,
            generation => Some(Self { index: bits as u16, generation, tag: (bits >> 48) as u16 }),
        }
    }

    /// True for one of the first cells that were made, so many of them. What was noted by slots at that time is about it, and not
    /// about a later cell in the same slot.
    pub(crate) fn is_among(self, first_made: u32) -> bool {
        self.generation <= first_made
    }
}

impl core::fmt::Display for CellId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cell {}", self.index)?;
        if self.tag == 0 { Ok(()) } else { write!(f, " (tag {})", self.tag) }
    }
}

/// What a cell is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellConfig {
    /// A number of the caller's, by which it knows the cell: its own id for it, for instance. The cell's [handle](CellId::tag) has it,
    /// and all texts that name the cell, unless it is 0. It means nothing to the driver, and several cells may have the same.
    pub tag: u16,
    /// Devices may be assigned although their interrupts are not remapped, so that a device can send any interrupt to any
    /// CPU. Without it, such a device is refused.
    pub allow_unsafe_interrupts: bool,
    /// Devices may be assigned although configuration space does not show them, so that nobody can tell which others they
    /// share a group with ([`Isolation::Unknown`](crate::topology::Isolation)). Without it, such a device is refused. For a
    /// platform that does not let the driver read configuration space, and knows that no two cells have devices of one group.
    pub allow_unknown_isolation: bool,
    /// Devices may be assigned although others of their group are devices of other cells that allow this as well
    /// ([`Group`](crate::topology::Group)). **Nothing keeps such devices apart**: what one sends to another's registers does not
    /// pass a unit. An [audit](crate::Iommu::audit) counts them. Without it, such a device is refused. Devices with a source-id in common
    /// belong to one cell in any case.
    pub allow_shared_group: bool,
    /// The cell may have memory of its own where firmware reserves some for one of its devices, if that is the same memory:
    /// mapped one to one, with all rights that the device needs. The device keeps what is reserved when the cell loses its
    /// own. Without it, such memory or such a device is refused.
    pub allow_identical_reserved: bool,
    /// Memory that firmware reserves for USB host controllers and for graphics is not mapped for them
    /// ([`DeviceInfo::relaxable`](crate::iommu::DeviceInfo)): once a driver has taken such a device over from firmware, it does
    /// without. Otherwise it is mapped like any other reserved memory.
    pub leave_out_relaxable: bool,
    /// Memory that firmware reserves for its devices may be reached by other cells: by one that has it mapped as
    /// [shared](crate::iommu::Edit::MapShared), by the root cell, and by devices of a cell that allows this as well and for which
    /// firmware reserves the same memory. Without it, that memory is this cell's alone while it has the device, and a device of
    /// another cell with reserved memory in common is refused ([`Refusal::SharesReserved`](crate::iommu::Refusal)).
    pub allow_shared_reserved: bool,
    /// Which page tables its devices are given.
    pub coherency: CoherencyPolicy,
    /// When its devices share one.
    pub sharing: Sharing,
    /// Whether its devices are reset when they leave it.
    pub reset: ResetPolicy,
    /// Where its interrupts may go: nowhere by default.
    pub interrupts: InterruptTargets,
}

impl CellConfig {
    /// No tag, no unsafe interrupts, no unknown isolation, no group shared with other cells, all reserved memory mapped and shared
    /// with no other cell, snooping enforced for each device that can be made to, tables shared by those alike, devices reset that
    /// can be, and interrupts that go nowhere.
    pub const DEFAULT: Self = Self {
        tag: 0,
        allow_unsafe_interrupts: false,
        allow_unknown_isolation: false,
        allow_shared_group: false,
        allow_identical_reserved: false,
        leave_out_relaxable: false,
        allow_shared_reserved: false,
        coherency: CoherencyPolicy::PerDevice,
        sharing: Sharing::ByAttributes,
        reset: ResetPolicy::IfPossible,
        interrupts: InterruptTargets::NONE,
    };
}

impl Default for CellConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The slot of a cell. What a cell needs room for stays with its slot.
#[derive(Debug)]
pub(crate) struct Cell<'s> {
    /// 0 if there is no cell.
    pub generation: u32,
    pub config: CellConfig,
    /// What is committed.
    pub regions: Regions<'s>,
    /// What is to be, in a change.
    pub staged: Regions<'s>,
    /// A change is under way, and the configuration's lock may be free meanwhile.
    pub busy: bool,
    /// Which of the calls that wait for it has waited longest; 0 if none waits.
    pub awaited_by: u64,
    /// The change ends with the cell.
    pub doomed: bool,
    /// What the hypervisor learned last.
    pub coherency_reported: Coherency,
    /// One for each combination of attributes that its devices need; each has at least one device.
    pub domains: List<'s, Domain>,
}

impl<'s> Cell<'s> {
    /// A slot without a cell, with room for these regions and page tables.
    pub(crate) fn none(regions: Regions<'s>, staged: Regions<'s>, domains: List<'s, Domain>) -> Self {
        Self {
            generation: 0,
            config: CellConfig::DEFAULT,
            regions,
            staged,
            busy: false,
            awaited_by: 0,
            doomed: false,
            coherency_reported: Coherency::Enforced,
            domains,
        }
    }

    /// The handle of the cell that has this slot, whose number the caller knows.
    pub(crate) fn id(&self, index: u16) -> CellId {
        CellId { index, generation: self.generation, tag: self.config.tag }
    }

    pub(crate) fn exists(&self) -> bool {
        self.generation != 0
    }

    /// A cell without memory or devices begins here.
    pub(crate) fn begin(&mut self, generation: u32, config: CellConfig) {
        (self.generation, self.config) = (generation, config);
        (self.busy, self.doomed, self.coherency_reported) = (false, false, Coherency::Enforced);
        self.awaited_by = 0;
        self.regions.clear();
        self.staged.clear();
        self.domains.clear();
    }

    /// The cell is gone: it has no domain any more.
    pub(crate) fn end(&mut self) {
        self.generation = 0;
    }

    /// Not enforced, if any table in use is not (C3).
    pub(crate) fn coherency(&self) -> Coherency {
        let enforced = self.domains.iter().all(|domain| domain.attributes.coherency == Coherency::Enforced);
        if enforced { Coherency::Enforced } else { Coherency::NotEnforced }
    }

    /// Its coherency, if that is another than what the hypervisor learned last: it has learned of it now.
    pub(crate) fn learn_coherency(&mut self) -> Option<Coherency> {
        let now = self.coherency();
        (core::mem::replace(&mut self.coherency_reported, now) != now).then_some(now)
    }

    /// Takes some domains out, and gives away their frames.
    pub(crate) fn remove_domains(
        &mut self,
        hal: &impl Hal,
        is_removed: impl Fn(&Domain) -> bool,
        mut give: impl FnMut(FrameList),
    ) {
        let mut index = 0;
        while let Some(domain) = self.domains.get(index) {
            if !is_removed(domain) {
                index += 1;
            } else if let Some(domain) = self.domains.swap_remove(index) {
                give(domain.into_frames(hal));
            }
        }
    }
}

/// Room for so many regions, for a test.
#[cfg(test)]
pub(crate) fn fresh_regions(capacity: usize) -> Regions<'static> {
    let room = std::vec::Vec::from_iter((0..capacity + SLACK).map(|_| core::mem::MaybeUninit::uninit()));
    Regions::new(List::new(room.leak()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_comes_back_from_its_number_and_no_other_number_is_one() {
        for (index, generation, tag) in [(0, 1, 0), (63, 0x1234_5678, 7), (u16::MAX, u32::MAX, u16::MAX)] {
            let id = CellId { index, generation, tag };
            assert_eq!(CellId::from_bits(id.to_bits()), Some(id));
        }
        for none in [0, 7, 0xffff, 1 << 48, 0xffff_0000_0000_ffff] {
            assert_eq!(CellId::from_bits(none), None, "{none:#x}");
        }
    }
}
