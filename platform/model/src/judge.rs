//! Who watches the driver: rules that it breaks, and the journal of what led to that.
#![forbid(unsafe_code)]

pub(crate) mod journal;
pub(crate) mod ownership;
pub mod rules;
pub(crate) mod violation;
