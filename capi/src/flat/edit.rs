//! Edits, and what a change leaves.

use core::mem::MaybeUninit;

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Rights};
use cofferdam::iommu::{self, DeviceConfig};

use super::{Posting, Range, Route, Source, number};
use crate::failure::Wrong;

pub const COFFERDAM_EDIT_MAP: u32 = 1;
pub const COFFERDAM_EDIT_MAP_SHARED: u32 = 2;
pub const COFFERDAM_EDIT_UNMAP: u32 = 3;
pub const COFFERDAM_EDIT_PROTECT: u32 = 4;
pub const COFFERDAM_EDIT_ASSIGN: u32 = 5;
pub const COFFERDAM_EDIT_RELEASE: u32 = 6;
pub const COFFERDAM_EDIT_ROUTE: u32 = 7;
pub const COFFERDAM_EDIT_POST: u32 = 8;
pub const COFFERDAM_EDIT_KEEP: u32 = 9;
pub const COFFERDAM_EDIT_UNROUTE: u32 = 10;
pub const COFFERDAM_EDIT_DESTROY: u32 = 11;
pub const COFFERDAM_EDIT_UNMAP_ANY: u32 = 12;

pub const COFFERDAM_READ: u32 = 1;
pub const COFFERDAM_WRITE: u32 = 2;
const _: () = assert!(Rights::READ.bits() as u32 == COFFERDAM_READ && Rights::WRITE.bits() as u32 == COFFERDAM_WRITE);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    pub kind: u32,
    pub rights: u32,
    pub cell: u64,
    pub input: u64,
    pub output: u64,
    pub bytes: u64,
    pub device: u32,
    pub messages: u16,
    pub device_tlb: u8,
    pub reserved: u8,
    pub source: Source,
    pub route: Route,
    pub posting: Posting,
    pub entry: u32,
}

impl Edit {
    /// The driver's edit, if each field that this kind has is something that the header names.
    ///
    /// # Safety
    ///
    /// A descriptor that interrupts are posted to is one, as [`cofferdam::interrupt::Posting::new`] asks.
    pub(crate) unsafe fn read(&self) -> Result<iommu::Edit, Wrong> {
        let wrong = Wrong::value;
        let cell = super::cell(self.cell);
        let input = IovaRange::new(Iova::new(self.input), self.bytes).ok_or(wrong("bytes"));
        let rights = u8::try_from(self.rights).ok().and_then(Rights::from_bits).ok_or(wrong("rights"));
        let region = || {
            let output = PhysAddr::try_new(self.output).map_err(|_| wrong("output"))?;
            Ok::<_, Wrong>(cofferdam::addr::Region { input: input?, output, rights: rights? })
        };
        Ok(match self.kind {
            COFFERDAM_EDIT_MAP => iommu::Edit::Map(cell?, region()?),
            COFFERDAM_EDIT_MAP_SHARED => iommu::Edit::MapShared(cell?, region()?),
            COFFERDAM_EDIT_UNMAP => iommu::Edit::Unmap(cell?, input?),
            COFFERDAM_EDIT_UNMAP_ANY => iommu::Edit::UnmapAny(cell?, input?),
            COFFERDAM_EDIT_PROTECT => iommu::Edit::Protect(cell?, input?, rights?),
            COFFERDAM_EDIT_ASSIGN => {
                let device_tlb = match self.device_tlb {
                    0 => false,
                    1 => true,
                    _ => return Err(wrong("device_tlb")),
                };
                let config = DeviceConfig { device_tlb, messages: self.messages };
                iommu::Edit::Assign(super::device(self.device), cell?, config)
            }
            COFFERDAM_EDIT_RELEASE => iommu::Edit::Release(super::device(self.device)),
            COFFERDAM_EDIT_ROUTE => iommu::Edit::Route(cell?, self.source.read()?, self.route.read()?),
            COFFERDAM_EDIT_POST => {
                // SAFETY: passed on from the caller.
                let posting = unsafe { self.posting.read()? };
                iommu::Edit::Post(cell?, self.source.read()?, posting)
            }
            COFFERDAM_EDIT_KEEP => {
                let entry = u16::try_from(self.entry).map_err(|_| wrong("entry"))?;
                iommu::Edit::Keep(cell?, self.source.read()?, entry)
            }
            COFFERDAM_EDIT_UNROUTE => iommu::Edit::Unroute(cell?, self.source.read()?),
            COFFERDAM_EDIT_DESTROY => iommu::Edit::Destroy(cell?),
            _ => return Err(wrong("kind")),
        })
    }
}

/// Room for what a change did beside what was asked for, in words: the header has the same number.
pub const COFFERDAM_COMMITTED_WORDS: usize = 3;
const _: () = assert!(size_of::<iommu::Committed>() <= size_of::<[u64; COFFERDAM_COMMITTED_WORDS]>());

/// A copy of what C does not look into, but for one field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Committed {
    pub changes_coherency: u32,
    pub filled: u32,
    pub committed: OpaqueCommitted,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union OpaqueCommitted {
    words: [u64; COFFERDAM_COMMITTED_WORDS],
    committed: MaybeUninit<iommu::Committed>,
}

/// What a struct holds that a call has filled.
const FILLED: u32 = 0x636f_6d6d;

impl Committed {
    pub(crate) fn of(committed: iommu::Committed) -> Self {
        let mut opaque = OpaqueCommitted { words: [0; COFFERDAM_COMMITTED_WORDS] };
        opaque.committed = MaybeUninit::new(committed);
        Self { changes_coherency: committed.changes_coherency().into(), filled: FILLED, committed: opaque }
    }

    pub(crate) fn read(&self) -> Result<iommu::Committed, Wrong> {
        if self.filled != FILLED {
            return Err(Wrong::value("committed"));
        }
        // SAFETY: any bytes are a value of this type.
        let committed = unsafe { self.committed.committed };
        // SAFETY: a call has written one there, and any numbers are one: it holds three.
        Ok(unsafe { committed.assume_init() })
    }
}

pub const COFFERDAM_REMAINS_WITHHELD: u32 = 1;
pub const COFFERDAM_REMAINS_QUARANTINED: u32 = 2;
pub const COFFERDAM_REMAINS_COHERENCY: u32 = 3;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Remains {
    pub kind: u32,
    pub device: u32,
    pub cell: u64,
    pub memory: Range,
    pub shared: u32,
    pub enforced: u32,
}

impl Remains {
    /// `None` for a kind that the header does not name.
    pub(crate) fn of(remains: iommu::Remains) -> Option<Self> {
        let none = Self { kind: 0, device: 0, cell: 0, memory: Range { first: 0, last: 0 }, shared: 0, enforced: 0 };
        Some(match remains {
            iommu::Remains::Withheld(it) => Self {
                kind: COFFERDAM_REMAINS_WITHHELD,
                cell: it.cell.to_bits(),
                memory: it.memory.into(),
                shared: it.shared.into(),
                ..none
            },
            iommu::Remains::Quarantined(it) => {
                Self { kind: COFFERDAM_REMAINS_QUARANTINED, device: number(it.device), cell: it.cell.to_bits(), ..none }
            }
            iommu::Remains::Coherency(cell, now) => Self {
                kind: COFFERDAM_REMAINS_COHERENCY,
                cell: cell.to_bits(),
                enforced: (now == cofferdam::Coherency::Enforced).into(),
                ..none
            },
            _ => return None,
        })
    }
}
