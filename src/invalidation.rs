//! What a unit has to invalidate, whoever made the unit.
#![forbid(unsafe_code)]

mod blocks;
mod device_tlb;
mod request;

pub(crate) use blocks::{Block, Blocks, Cost, MAX_BLOCKS};
pub(crate) use device_tlb::DeviceTlb;
pub(crate) use request::{DOMAINS, ENTRIES, Flush, Pages, RANGES, StaleDeviceTlb, StaleEntry};
