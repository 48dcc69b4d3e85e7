//! A unit of Intel VT-d, from its specification (revision 5.10) alone.
//!
//! [`state`] is all that a unit is; the other folders are functions that act on it. Each uses only those before it in this
//! list: formats, state, walks, interrupts, caches, commands, registers.
#![forbid(unsafe_code)]

pub(crate) mod caches;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod formats;
pub(crate) mod interrupts;
pub(crate) mod registers;
pub(crate) mod state;
pub(crate) mod walks;
