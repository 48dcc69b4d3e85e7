//! The firmware's tables of real machines, and tables with each defect that other drivers fell over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may stop")]

mod firmware {
    mod real_tables;
    pub(crate) mod tables;
}
