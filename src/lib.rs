//! `cofferdam` keeps the DMA of each partition of a machine within that partition's memory.
#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod error;
pub mod firmware;
pub mod hal;
pub mod limits;
mod paging;
mod vtd;
pub mod topology;
