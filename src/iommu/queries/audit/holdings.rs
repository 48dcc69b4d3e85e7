//! What each cell has, by whatever right, as physical memory.
#![forbid(unsafe_code)]

use core::{fmt, slice};

use crate::addr::{PhysAddr, PhysRange};
use crate::cell::{CellId, Part};
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::Config;
use crate::topology::ReservedMemory;

/// Memory that devices of two cells may reach: both cells have it so, or one has, and devices of the other may still reach it since
/// a unit has not confirmed otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// Which memory.
    pub memory: PhysRange,
    /// The two cells.
    pub cells: [CellId; 2],
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.cells;
        write!(f, "{} is shared by {one} and {other}", self.memory)
    }
}

/// Memory that a cell has, by whatever right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) memory: PhysRange,
    /// The cell has it so that others may have it, too.
    pub(super) shared: bool,
}

/// What devices of a cell are to reach: its regions, and what firmware reserves for them. All that the root cell has is shared
/// as far as it is concerned: it has nothing that another cell has for itself.
pub(super) struct Holdings<'c> {
    parts: slice::Iter<'c, Part>,
    all_reserved: &'c [ReservedMemory],
    /// What is left of the reserved memory of all devices: bit n for the n-th of all.
    left: u64,
    is_root: bool,
    shares_reserved: bool,
}

impl<'c> Holdings<'c> {
    pub(super) fn of(config: &'c Config<'_>, all_reserved: &'c [ReservedMemory], cell: CellId) -> Self {
        let (found, is_root) = (config.cell(cell).ok(), config.root.is(cell));
        let devices = config.devices.iter().filter(|device| device.cell == cell);
        Self {
            parts: found.map_or(&[][..], |cell| cell.regions.parts()).iter(),
            all_reserved,
            left: devices.fold(0, |left, device| left | device.reserved),
            is_root,
            shares_reserved: is_root || found.is_some_and(|cell| cell.config.allow_shared_reserved),
        }
    }
}

impl Iterator for Holdings<'_> {
    type Item = Holding;

    #[inline(never)]
    fn next(&mut self) -> Option<Holding> {
        for part in &mut self.parts {
            if let Some(memory) = part.region.outputs() {
                return Some(Holding { memory, shared: part.shared || self.is_root });
            }
        }
        while self.left != 0 {
            let reserved = self.all_reserved.get(self.left.trailing_zeros() as usize);
            self.left &= self.left.wrapping_sub(1);
            if let Some(memory) = reserved.and_then(|reserved| reserved.region.outputs()) {
                return Some(Holding { memory, shared: self.shares_reserved });
            }
        }
        None
    }
}

/// The lowest part of some memory that is not among what a cell shares.
#[inline(never)]
pub(super) fn not_shared(
    config: &Config<'_>,
    all_reserved: &[ReservedMemory],
    id: Option<CellId>,
    memory: PhysRange,
) -> Option<PhysRange> {
    let Some(id) = id else { return Some(memory) };
    let (mut first, mut last) = (memory.first(), memory.last());
    loop {
        let mut skipped = None;
        for own in Holdings::of(config, all_reserved, id).filter(|own| own.shared) {
            if own.memory.first() <= first && first <= own.memory.last() {
                skipped = Some(own.memory);
            } else if own.memory.first() > first && own.memory.first() <= last {
                last = PhysAddr::new_truncate(own.memory.first().as_u64().wrapping_sub(1));
            }
        }
        match skipped {
            None => return PhysRange::between(first, last),
            Some(own) => {
                (first, last) = (own.after()?, memory.last());
                if first > last {
                    return None;
                }
            }
        }
    }
}

/// What devices of a cell reach, or may still reach.
struct Reached {
    memory: PhysRange,
    shared: bool,
    withheld: bool,
}

fn reached<'c>(
    config: &'c Config<'_>,
    all_reserved: &'c [ReservedMemory],
    cell: CellId,
) -> impl Iterator<Item = Reached> + 'c {
    let own = Holdings::of(config, all_reserved, cell);
    let own = own.map(|Holding { memory, shared }| Reached { memory, shared, withheld: false });
    let withheld = config.withheld.iter().filter(move |range| range.cell == cell);
    own.chain(withheld.map(|range| Reached { memory: range.memory, shared: true, withheld: true }))
}

impl<H: Hal> Iommu<'_, H> {
    /// Calls `each` with all memory that devices of two cells may reach: once for each pair of cells and each range, and once
    /// more for each range that is [withheld](Self::withheld) meanwhile.
    ///
    /// All other memory is reached by devices of one cell at most. That is what [`audit`](Self::audit) holds the live tables
    /// against. The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// As for [`audit`](Self::audit).
    pub fn shared_memory(&self, mut each: impl FnMut(SharedMemory)) -> Result<(), Error> {
        let config = self.at_rest()?;
        let all_reserved = self.topology().reserved_memory();
        for (number, (one, _)) in config.cells.iter().enumerate() {
            for (other, _) in config.cells.iter().skip(number + 1) {
                for own in reached(&config, all_reserved, one) {
                    let theirs = reached(&config, all_reserved, other);
                    // Two that share, or one that may still reach what the other has, be it for itself.
                    for theirs in theirs.filter(|theirs| own.shared && theirs.shared || own.withheld != theirs.withheld)
                    {
                        if let Some(memory) = own.memory.intersection(theirs.memory) {
                            each(SharedMemory { memory, cells: [one, other] });
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
