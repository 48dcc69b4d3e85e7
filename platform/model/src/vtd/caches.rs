//! What the caches may hold, and what a change of memory leaves there.
#![forbid(unsafe_code)]

pub(crate) mod ats;
pub(crate) mod buffer;
pub(crate) mod change;
pub(crate) mod contexts;
pub(crate) mod domains;
pub(crate) mod entries;
pub(crate) mod freed;
pub(crate) mod invalidate;
pub(crate) mod pages;
pub(crate) mod settle;
pub(crate) mod stores;
