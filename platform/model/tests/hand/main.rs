//! Sequences written by hand, register by register: the right ones pass, the wrong ones are reported by rule.
#![allow(missing_docs, unreachable_pub)]

mod caches;
mod device_tlb;
mod driver;
mod registers;
mod setup;
