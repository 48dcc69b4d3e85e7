//! The guide for those who link the driver into a hypervisor.
//!
//! | page | it answers |
//! |---|---|
//! | [`integrate`] | what to write, from `Cargo.toml` to the first device |
//! | [`c`] | the same from C: what to build, to define and to call |
//! | [`concurrency`] | which locks there are, and what a handler or an NMI may call |
//! | [`failures`] | for each error: what is left, and what to do |
//! | [`devices`] | groups, source-ids, reserved memory, windows of bridges, device-TLBs, resets |
//! | [`capacities`] | how much the driver holds, how much memory and stack that takes |
//! | [`trust`] | what protection rests on |
//! | [`rules`] | what a correct driver does, by number |
//! | [`features`] | what works, and what does not |
//! | [`jailhouse`] | where to find what Jailhouse does |

#[doc = include_str!("../docs/guide/integrate.md")]
pub mod integrate {}

#[doc = include_str!("../docs/guide/c.md")]
pub mod c {}

#[doc = include_str!("../docs/guide/concurrency.md")]
pub mod concurrency {}

#[doc = include_str!("../docs/guide/failures.md")]
pub mod failures {}

#[doc = include_str!("../docs/guide/devices.md")]
pub mod devices {}

#[doc = include_str!("../docs/guide/capacities.md")]
pub mod capacities {}

#[doc = include_str!("../docs/guide/trust.md")]
pub mod trust {}

#[doc = include_str!("../docs/rules.md")]
pub mod rules {}

#[doc = include_str!("../docs/guide/features.md")]
pub mod features {}

#[doc = include_str!("../docs/guide/jailhouse.md")]
pub mod jailhouse {}
