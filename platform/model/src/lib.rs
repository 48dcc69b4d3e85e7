//! A model of remapping hardware, stricter than silicon, for host tests.
//!
//! A [`Machine`] is a [`Hal`](cofferdam::hal::Hal): a driver, or a hypervisor with the driver in it, runs on it
//! unchanged. It is written from the VT-d specification (revision 5.10) alone and shares no bit definition with the
//! driver, so a wrong one is found.
//!
//! # What it does
//!
//! - **Memory** has two sides. A store goes to the CPU's caches; a unit that does not snoop sees it after
//!   `write_back` and `fence`. A fresh frame is zero for the CPU and garbage for such a unit.
//! - **Caches** hold every entry that a walk could reach, at every moment, until an invalidation covers it: a flush that
//!   is missing, too narrow, too late or of the wrong domain always shows, with the first DMA and without any
//!   ([`Machine::settle`]). [`Config::seed`] has them keep some entries only, and lines leave the CPU's caches by chance.
//! - **Devices** read, write and interrupt ([`Machine::dma_read`], [`Machine::ats_read`], [`Machine::interrupt`]), and see
//!   what hardware would let them see.
//! - **Time** is the machine's own. It moves with each look at the clock or a register, each load and each pause;
//!   commands take time, and nothing is done before that.
//! - **Rules** of the specification that a driver breaks become [`Violation`]s, each with its number, a sentence and the
//!   last lines of the journal. A machine that is dropped with violations fails the test. [`rules::RULES`] says what is
//!   checked and what is not.
//! - **Defects** happen on request ([`Machine::break_unit`], [`Machine::set_device_tlb`],
//!   [`Machine::allow_allocations`]).
//!
//! It does not have scalable mode, page requests, or more of a PCI topology than bridges and ports
//! ([`Machine::add_bridge`]) and what these keep apart ([`Machine::reaches`]). The ATS of a device without the capability
//! ([`Machine::add_ats`]) is on whenever a test uses it.
//!
//! # Where it is
//!
//! | folder or file | what is there | uses |
//! |---|---|---|
//! | `machine` | what a test holds: the machine, its `Hal`, its clock, what it can break | all below |
//! | `unit.rs` | the units, by vendor | `vtd` |
//! | `vtd` | a VT-d unit: `state` is plain data, the other folders are functions that act on it | `board.rs` and below |
//! | `board.rs` | what the units of a machine share | all below |
//! | `devices` | functions, bridges, peers, device-TLBs, resets, and which devices a unit serves | nothing |
//! | `memory` | frames as the CPU and as hardware sees them, lines that are not written back, memory of cells | `judge`, `random.rs` |
//! | `judge` | violations, the rules that they break, and the journal | nothing |
//! | `fault.rs`, `random.rs` | why a request fails, free choices of hardware | nothing |
//!
//! # Finding a bug
//!
//! The driver here maps a page, takes it away again, and forgets the invalidation.
//!
//! ```
//! use cofferdam::addr::{Iova, PhysAddr, SourceId};
//! # use core::ptr::NonNull;
//! use cofferdam::hal::{Hal, MappedRegisters};
//! use cofferdam_model::{Config, Machine, UnitConfig};
//!
//! let machine = Machine::new(Config::new([UnitConfig::server()]));
//! # let registers = MappedRegisters { window: machine.windows()[0], first: NonNull::dangling() };
//! # let poll = |done: &dyn Fn() -> bool| while !done() { machine.pause() };
//! # let frame = || machine.allocate(0).unwrap();
//! # let store = |frame: PhysAddr, word: usize, value: u64| {
//! #     // SAFETY: `word` is one of the 512 of a frame that the machine gave and that is not freed.
//! #     unsafe { machine.store(machine.phys_to_virt(frame).add(word), value) }
//! # };
//! # // SAFETY: the machine has a unit in this window; it takes any access and reports a wrong one.
//! # let write = |offset: u32, value: u64| unsafe { machine.write64(registers, offset, value) };
//! # // SAFETY: as above.
//! # let status = || unsafe { machine.read32(registers, 0x1c) };
//! # let command = |value: u32, bit: u32| {
//! #     // SAFETY: as above.
//! #     unsafe { machine.write32(registers, 0x18, value | bit) };
//! #     poll(&|| status() & bit != 0);
//! # };
//! # let (queue, root, contexts) = (frame(), frame(), frame());
//! # let tables = [frame(), frame(), frame(), frame()];
//! # write(0x90, queue.as_u64());
//! # command(0, 1 << 26);
//! # write(0x20, root.as_u64());
//! # command(1 << 26, 1 << 30);
//! # store(queue, 0, 0x11);
//! # store(queue, 2, 0xd2);
//! # store(queue, 4, 0x25 | 1 << 32);
//! # store(queue, 5, queue.as_u64() + 0x800);
//! # write(0x88, 48);
//! # // SAFETY: the word is in the queue's frame, which the machine gave and which is not freed.
//! # poll(&|| unsafe { machine.load(machine.phys_to_virt(queue).add(0x100)) } == 1);
//! # command(1 << 26, 1 << 31);
//! # for level in 0..3 {
//! #     store(tables[level], 0, tables[level + 1].as_u64() | 3);
//! # }
//! # store(contexts, 0x31, 5 << 8 | 2);
//! # store(contexts, 0x30, tables[0].as_u64() | 1);
//! # store(root, 0, contexts.as_u64() | 1);
//! # let map = |page: usize, to: u64| store(tables[3], page, to | 3);
//! # let unmap = |page: usize| store(tables[3], page, 0);
//! // Units are up, and the device has a page table of its own.
//! let device = SourceId::new(0, 0, 3, 0).unwrap();
//! let reads = || machine.dma_read(device, Iova::new(0x1000), &mut [0; 8]).is_ok();
//!
//! map(1, 0x8000_0000);
//! assert!(reads());
//! unmap(1);
//! assert!(reads(), "the device still reaches it, as it may on real hardware");
//!
//! machine.settle();
//! let found = machine.take_violations();
//! assert_eq!(found[0].rule, "R31");
//! assert_eq!(found[0].what, "domain-id 5: the IOTLB still has a page that is not mapped any more at 0x1000");
//! # machine.abandon();
//! ```
//!
//! A test that does not take the violations fails with them, and with how it came to that:
//!
//! ```text
//! R31: domain-id 5: the IOTLB still has a page that is not mapped any more at 0x1000
//!          4451 ns  store      0x10006008: 0x0 -> 0x80000003
//!          4551 ns  dma        0000:00:03.0 reads 0x1000
//!          4551 ns  store      0x10006008: 0x80000003 -> 0x0
//!          4651 ns  dma        0000:00:03.0 reads 0x1000
//! ```

mod board;
mod devices;
mod fault;
mod judge;
mod machine;
mod memory;
mod random;
mod unit;
mod vtd;

/// The seam that a [`Machine`] implements and its addresses, for the driver's own tests: the driver under test is another
/// crate to them than the one that the model is built on.
pub use cofferdam::{addr, hal};
pub use devices::bridge::BridgeKind;
pub use devices::late::Late;
pub use devices::reset::Reset;
pub use devices::tlb::{Answer, GIVES_UP_NS};
pub use fault::{Fault, Reason};
pub use judge::{
    ownership::{Owner, Targets},
    rules,
    violation::Violation,
};
pub use machine::Machine;
pub use machine::config::Config;
pub use unit::{Defect, UnitConfig};
