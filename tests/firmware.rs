//! The firmware's tables: those of real machines, those with each defect that other drivers fell over, and garbage.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod firmware {
    mod cases;
    mod defects_dmar;
    mod defects_ivrs;
    mod iasl;
    mod lint;
    mod mutations;
    mod real_tables;
    mod senders;
    mod topology;
    mod whole_tables;

    pub(crate) mod tables;
    pub(crate) mod tree;
}
