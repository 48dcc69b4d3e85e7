//! Sequences written by hand, register by register: the right ones pass, the wrong ones are reported by rule.
#![allow(missing_docs, unreachable_pub)]

#[cfg(test)]
mod caches;
#[cfg(test)]
mod details;
#[cfg(test)]
mod device_tlb;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod registers;
#[cfg(test)]
mod resets;
#[cfg(test)]
mod setup;
