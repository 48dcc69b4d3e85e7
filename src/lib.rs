//! `cofferdam` keeps the DMA of each partition of a machine within that partition's memory.
//!
//! The floors, each of which uses only those below it:
//!
//! - [`iommu`]: the front: discover, enable, cells, faults
//! - `cell`: what a partition is granted
//! - `domain`: a page table, its attributes and its id
//! - [`vtd`]: one Intel unit: registers, tables, invalidation, faults
//! - [`paging`]: one walker, many entry formats
//! - [`topology`]: who serves whom
//! - [`firmware`]: ACPI bytes, checked once
//! - [`hal`], [`addr`], [`error`], [`limits`]: the ground
#![cfg_attr(not(test), no_std)]

pub mod addr;
mod cell;
mod domain;
pub mod error;
pub mod firmware;
pub mod hal;
pub mod iommu;
pub mod limits;
pub mod paging;
pub mod topology;
pub mod vtd;

pub use cell::{CellConfig, CellId};
pub use domain::Coherency;
pub use iommu::Iommu;
