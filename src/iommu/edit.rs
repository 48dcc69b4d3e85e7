#![forbid(unsafe_code)]

use crate::addr::{IovaRange, Region, Rights, SourceId};
use crate::cell::CellId;
use crate::interrupt::{Posting, Route, Source};

/// How a device is given to a cell.
///
/// Its bus mastering is left as it is, and as a device that leaves a cell loses it, the driver of the device in its new cell
/// has to switch it on.
///
/// With a device-TLB, the device's ATS is switched on last, and off first when it is released. Have its driver stop it for
/// the time of either: the specification advises to (VT-d 5.10, section 4.5). Release a device before you reset it, and
/// assign it again only when the reset is over; what [`ResetPolicy`](crate::ResetPolicy) resets is released by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The device may cache translations itself (ATS). Off by default.
    ///
    /// It is trusted then: what it sends with a translated address is checked for who sent it, but not for where it goes.
    /// Take only devices whose makers can be trusted with all memory.
    pub device_tlb: bool,
    /// How many different interrupts it may send, by MSI or MSI-X: rounded up to a power of two. Each can be [routed](Edit::Route),
    /// and what is not is blocked. None by default: where interrupts are remapped, the device sends none then.
    pub messages: u16,
}

/// One edit of a [change](crate::Iommu::commit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Grants a cell's devices, present and future, a region of memory for themselves: the
    /// [root cell](crate::Iommu::create_root_cell) loses it as long as they have it, and no other cell may have it, nor may it be
    /// what firmware reserves for a device of another cell ([`Error::Owned`](crate::iommu::Error::Owned)). How wide addresses may be follows from the
    /// devices: that is checked for those that the cell has, and for others when they are assigned; so is whether requests
    /// to that memory reach a remapping unit at all ([`BridgeWindow`](crate::topology::BridgeWindow)). Which memory can be
    /// mapped at all, [`Region`] says.
    Map(CellId, Region),
    /// As [`Map`](Self::Map), but others may have the memory, too: the root cell keeps what it has of it, with its own rights,
    /// and so does each cell that maps it as shared as well. A buffer between two cells, for example, or memory that the root
    /// cell fills before the cell begins. [`shared_memory`](crate::Iommu::shared_memory) lists what is shared, and by whom.
    ///
    /// This takes nothing from the root cell and gives it nothing, so it need not have the memory. To end the sharing only, unmap the range and map it again
    /// in one change: the cell's own devices go on meanwhile. For the root cell itself this is `Map`.
    MapShared(CellId, Region),
    /// Takes a range away from a cell; it may be part of a region, or of several, but is made of whole 4 KiB pages, and all of
    /// it has to be granted.
    Unmap(CellId, IovaRange),
    /// Takes away what the cell was granted in a range, however much of the range that is: it may be nothing.
    UnmapAny(CellId, IovaRange),
    /// Gives a range of a cell other rights, at least one; it may be part of a region, or of several, but is made of whole
    /// 4 KiB pages, and all of it has to be granted.
    Protect(CellId, IovaRange, Rights),
    /// Gives a device to a cell: it reaches the cell's memory, with the cell's rights, and nothing else. Its interrupts have to be
    /// [remapped](crate::Iommu::remap_interrupts), or the cell has to [allow that they are
    /// not](crate::CellConfig::allow_unsafe_interrupts). What else may stand in its way,
    /// [`Iommu::device_info`](crate::Iommu::device_info) says before.
    ///
    /// Its bus mastering stays as it is, which is off if it was another cell's before: whoever drives it in its new cell
    /// knows best when it may begin, and switches it on.
    Assign(SourceId, CellId, DeviceConfig),
    /// Takes a device away from its cell, and its routes with it. It is blocked, unless the change gives it to another.
    ///
    /// Its ATS is switched off, its entry blocked and flushed, its bus mastering switched off, unless it is a bridge, and what
    /// it has under way awaited; then it is reset, as its cell's [`ResetPolicy`](crate::ResetPolicy) says, which takes 100 ms.
    /// All in this order, and before any other cell has it.
    Release(SourceId),
    /// Has an interrupt go there: one of a device that the cell has, with so many [messages](DeviceConfig::messages); or that of a
    /// pin or a timer, which is the cell's from then on until it is [unrouted](Self::Unroute). The cell has to have the
    /// [CPUs and the vector](crate::CellConfig::interrupts).
    ///
    /// An interrupt that is routed already goes to the old place or the new one meanwhile, and none is lost. What is to be
    /// programmed into the source, [`Iommu::message`](crate::Iommu::message) and [`Iommu::redirection`](crate::Iommu::redirection) say
    /// afterwards; for all but pins it stays the same. For a pin, the vector and the trigger mode are in it: mask it before, and
    /// program it afterwards.
    Route(CellId, Source, Route),
    /// Has an interrupt recorded in a descriptor instead of delivered, for a virtual CPU: one of a device that the cell has, or of a
    /// timer, behind a unit [that can](crate::iommu::Features). Edge triggered, so pins cannot have it. The CPUs and vectors of the cell say nothing of
    /// that: whom the unit notifies, the descriptor says, which is the hypervisor's. It lies in the platform's [own
    /// memory](crate::hal::Hal::own_memory), and all that is posted to it is of one cell.
    ///
    /// An interrupt that is routed or posted already takes the old course or the new one meanwhile, as for [`Route`](Self::Route), and
    /// [`Unroute`](Self::Unroute) ends either.
    Post(CellId, Source, Posting),
    /// Has an interrupt go on by the entry that its unit is found with, and where that has it go: one of those that
    /// [`found_interrupts`](crate::Iommu::found_interrupts) lists, for CPUs in the mode that they are in now. The cell has to have the
    /// CPUs and the vector, and later may [route](Self::Route) it elsewhere. After [`prepare`](crate::Iommu::prepare) and before
    /// [`enable`](crate::Iommu::enable), over which the interrupt goes on without a gap; until then it goes nowhere else, and whoever
    /// owns that table leaves the entry as it is. What a pin is programmed with stays as it is, too: its trigger mode may not be the
    /// one that its entry has.
    ///
    /// A device needs no [messages](DeviceConfig::messages) for it. It has the entry until it leaves the cell, or that is
    /// [unrouted](Self::Unroute).
    Keep(CellId, Source, u16),
    /// Blocks an interrupt that the cell has routed. Mask its source before: what it sends is lost, and reported as a fault.
    Unroute(CellId, Source),
    /// Takes a cell's devices, memory and interrupts away and forgets it. Its devices are blocked, unless the change gives them to
    /// another cell. Edits that come after this one cannot name the cell.
    Destroy(CellId),
}

impl Edit {
    /// The cell that it names.
    pub(super) fn cell(&self) -> Option<CellId> {
        match *self {
            Self::Map(cell, _) | Self::MapShared(cell, _) => Some(cell),
            Self::Unmap(cell, _) | Self::UnmapAny(cell, _) | Self::Protect(cell, ..) => Some(cell),
            Self::Assign(_, cell, _) | Self::Destroy(cell) => Some(cell),
            Self::Route(cell, ..) | Self::Post(cell, ..) | Self::Keep(cell, ..) | Self::Unroute(cell, _) => Some(cell),
            Self::Release(_) => None,
        }
    }

    /// The cell whose memory it edits.
    pub(super) fn memory_of(&self) -> Option<CellId> {
        match *self {
            Self::Map(..) | Self::MapShared(..) => self.cell(),
            Self::Unmap(..) | Self::UnmapAny(..) | Self::Protect(..) => self.cell(),
            Self::Assign(..) | Self::Release(_) | Self::Destroy(_) => None,
            Self::Route(..) | Self::Post(..) | Self::Keep(..) | Self::Unroute(..) => None,
        }
    }

    /// True if it looks at configuration space for what stands between its device and others.
    pub(super) fn looks_at_functions(&self) -> bool {
        matches!(self, Self::Assign(..))
    }
}
