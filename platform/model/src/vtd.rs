//! A unit of Intel VT-d, from its specification (revision 5.10) alone.
//!
//! [`state`] is all that a unit is; the other rooms are functions that act on it, each using only those before it in this
//! list: formats, state, walks, interrupts, caches, commands, registers, run.
#![forbid(unsafe_code)]

pub(crate) mod caches;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod formats;
pub(crate) mod interrupts;
pub(crate) mod registers;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod walks;
