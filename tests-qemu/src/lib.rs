//! What the scenarios have in common: a report over the serial line, a device that does DMA, a look at the hardware's
//! tables that shares nothing with the driver, and a platform that goes wrong on request.
#![no_std]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod ats;
mod blocked;
mod broken;
mod config_space;
mod edu;
mod igb;
mod kept;
mod machine;
mod marks;
mod memory_map;
mod nic;
mod nvme;
mod queue;
mod registers;
mod report;
mod snapshot;
mod sr_iov;
mod tables;
mod times;
mod unit_view;
mod verdict;
mod virtio;
mod virtual_nic;

pub use ats::Ats;
pub use blocked::{Blocked, forget_faults};
pub use broken::{Broken, Fault, Spoil};
pub use config_space::msi_messages;
pub use edu::Edu;
pub use igb::Igb;
pub use kept::{all_touched, keep, touched};
pub use machine::{Front, LIMITS, Table, bring_up, discover, dmar, dmar_without_snoop, memory};
pub use marks::Marks;
pub use memory_map::MapAnswer;
pub use nic::Nic;
pub use nvme::Nvme;
pub use queue::{Kind, OwnQueue};
pub use registers::{Registers, amd_is_on, translate};
pub use report::{Report, Words};
pub use snapshot::{Changed, Snapshot};
pub use sr_iov::SrIov;
pub use tables::{Entry, Leaves, count_leaves, live_words, mapped};
pub use times::Times;
pub use unit_view::UnitView;
pub use verdict::Verdict;
pub use virtio::VirtioRng;
pub use virtual_nic::VirtualNic;
