//! `cofferdam` keeps the DMA of each partition of a machine within that partition's memory.
//!
//! Who links it begins with the [`guide`].
//!
//! The layers, each of which uses only those below it:
//!
//! - [`iommu`]: the front: units, cells and their devices, faults
//! - `audit`: what the live tables let devices reach, read without a line of what writes them
//! - `cell`: what a partition is granted
//! - `domain`: a page table, its attributes and its id
//! - `unit`: one remapping unit of whichever vendor
//! - [`vtd`]: one Intel unit: registers, tables, invalidation, faults
//! - [`fault`], [`interrupt`], `contract`, `invalidation`: what the front and a unit say to each other
//! - `amd`: what AMD units read: page tables so far
//! - `paging`: one walker, many entry formats
//! - [`topology`]: who serves whom
//! - [`firmware`]: ACPI bytes, checked once
//! - `pci`: configuration space: bridges, virtual functions, device-TLBs
//! - [`hal`], [`addr`], [`error`], [`limits`]: the ground
//!
//! A hypervisor implements [`hal::Hal`] and gives it to an [`Iommu`]:
//!
//! ```
//! use cofferdam::hal::Hal;
//! use cofferdam::iommu::{Error, Iommu, Options};
//! use cofferdam::limits::{Limits, Memory};
//!
//! const LIMITS: Limits = Limits { cells: 4, units: 8, ..Limits::DEFAULT };
//! static MEMORY: Memory<{ LIMITS.words() }> = Memory::new();
//!
//! fn block_all_dma<H: Hal>(hal: H, dmar: &[u8]) -> Result<Iommu<'static, H>, Error> {
//!     let iommu = Iommu::new(hal, Options::default());
//!     let memory = MEMORY.take().unwrap_or_default();
//!     iommu.probe_acpi(memory, &LIMITS, dmar, |_finding| ())?;
//!     iommu.enable()?;
//!     Ok(iommu)
//! }
//! ```
#![cfg_attr(not(test), no_std)]
// A guard that is dropped at once guards nothing.
#![deny(let_underscore_drop)]
#![cfg_attr(
    not(feature = "internals"),
    allow(unreachable_pub, reason = "`internals` exports what is beneath the front")
)]

pub mod addr;
#[cfg(any(test, feature = "internals"))]
mod amd;
mod audit;
mod cell;
mod contract;
mod domain;
pub mod error;
pub mod fault;
pub mod firmware;
pub mod guide;
pub mod hal;
pub mod interrupt;
mod invalidation;
pub mod iommu;
pub mod limits;
/// What `audit` reads live tables with, a folder a vendor below `src/audit`.
#[path = "audit"]
mod live {
    mod vtd;

    pub(crate) use vtd::{Ignored, LiveInterrupt, LiveInterrupts, LiveRegisters, LiveTables, LiveTarget, Mode, Seen};
}
mod paging;
mod pci;
pub mod topology;
mod unit;
pub mod vtd;

pub use cell::{CellConfig, CellId, CoherencyPolicy, ResetPolicy, Sharing};
pub use domain::Coherency;
pub use iommu::Iommu;

/// What benchmarks and the proof that nothing panics need from beneath the front, with the feature `internals`. No part of
/// the API: it changes without notice, and it is sound only as the front uses it, each table with the platform that it was
/// made on.
#[doc(hidden)]
#[cfg(any(test, feature = "internals"))]
pub mod internals {
    pub use crate::amd::V1;
    pub use crate::hal::FrameList;
    pub use crate::paging::{Change, Entry, Format, Geometry, Hole, Mappings, PageTable, Prealloc};
    pub use crate::vtd::invalidation::queue_alone::QueueAlone;
    pub use crate::vtd::second_stage::SecondStage;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
