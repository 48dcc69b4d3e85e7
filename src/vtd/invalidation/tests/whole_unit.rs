//! T2: a whole unit that several CPUs use at a time, over locks and atomics of an explorer of schedules: commands,
//! invalidation through registers, and the flush of everything that a unit needs after one that it refused.

use core::mem::MaybeUninit;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::fake_unit::{FakeUnit, MAPPED, Manners, WINDOW};
use super::registers_unit::{IOTLB_OFFSET, RegistersUnit};
use super::schedules::{explore, sync};
use crate::addr::{Iova, IovaRange, PAGE_BYTES};
use crate::contract::{DomainId, UnitConfig};
use crate::error::UnitError;
use crate::hal::Hal;
use crate::invalidation::Flush;
use crate::limits::{Carver, List};
use crate::paging::Change;
use crate::vtd::capabilities::tests::QEMU;
use crate::vtd::{Capabilities, CommandList, command, counters, former, interrupts, quirks, registers, tables};
use invalidation::queue::Queue;
use unit::{Invalidator, VtdUnit};

#[path = "../../condition.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "with other locks and atomics, and a part is enough here")]
mod condition;
#[path = "../../unit.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "with other locks and atomics, and a part is enough here")]
mod unit;

/// What the unit finds beside it.
mod invalidation {
    pub(super) use super::super::schedules::queue;
    pub(super) use crate::vtd::invalidation::{Invalidation, descriptor, list, register_based};
}

const SOON: u64 = 2_000_000;
const CONFIG: UnitConfig = UnitConfig {
    host_bits: 52,
    timeout_ns: SOON,
    device_timeout_ns: SOON,
    queue_slots: 256,
    device_tlbs: 0,
    max_leaf_level: 3,
    interrupts: None,
};

struct Bench<H> {
    hal: H,
    unit: VtdUnit,
}

impl<H: Hal> Bench<H> {
    fn new(hal: H, capabilities: Capabilities, invalidator: Invalidator) -> Arc<Self> {
        let mut unit = VtdUnit::new(WINDOW, 0, CONFIG);
        unit.mapped = MAPPED;
        unit.is_known_to_have(capabilities);
        unit.invalidator = Some(invalidator);
        unit.on = true;
        Arc::new(Self { hal, unit })
    }

    /// Has the unit do what is collected, as a change does. The CPU may be away before it looks.
    fn flush(&self, collect: impl FnOnce(&mut Flush<'_>)) -> Result<(), UnitError> {
        let mut memory = vec![MaybeUninit::uninit(); CommandList::words(0)];
        let mut list = CommandList::cut(&mut Carver::new(&mut memory), 0).unwrap();
        let mut flush = Flush::new(List::without_room());
        collect(&mut flush);
        list.fill(self.unit.capabilities(), false, &flush);
        match self.unit.begin(&self.hal, &flush, &list)? {
            Some(begun) => {
                let away = thread_rng().gen_range(0..3) * 300;
                (0..away).for_each(|_| thread::yield_now());
                self.unit.finish(&self.hal, begun)
            }
            None => Ok(()),
        }
    }

    /// A page that was taken out of a domain's table.
    fn flush_page(&self, domain: u16, page: u64) -> Result<(), UnitError> {
        let range = IovaRange::new(Iova::new(page * PAGE_BYTES), PAGE_BYTES).unwrap();
        let change = Change { was_present: true, ..Change::none(range) };
        let id = DomainId::new(domain).unwrap();
        self.flush(|flush| flush.page_table(self.unit.features(), id, &change, core::iter::empty()))
    }
}

/// Has each of three CPUs do this, by its number from 1 on.
fn on_three_cpus<H: Hal + Send + Sync + 'static>(bench: &Arc<Bench<H>>, each: fn(&Bench<H>, u16)) {
    on_cpus(bench, 3, each);
}

fn on_cpus<H: Hal + Send + Sync + 'static>(bench: &Arc<Bench<H>>, count: u16, each: fn(&Bench<H>, u16)) {
    let threads: Vec<_> = (1..=count)
        .map(|cpu| {
            let bench = Arc::clone(bench);
            thread::spawn(move || each(&bench, cpu))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn registers_unit() -> Arc<Bench<RegistersUnit>> {
    let capabilities =
        Capabilities { queued_invalidation: false, write_buffer_flush: true, iotlb_offset: IOTLB_OFFSET, ..QEMU };
    let hal = RegistersUnit::new(thread_rng().r#gen(), thread::yield_now);
    Bench::new(hal, capabilities, Invalidator::Registers)
}

/// T2: a command is given only when the one before is confirmed, whichever CPU gave that.
#[test]
fn three_cpus_give_commands_one_after_the_other() {
    let each = |bench: &Bench<RegistersUnit>, _| {
        for _ in 0..2 {
            bench.flush(|flush| flush.not_cached(bench.unit.features())).unwrap();
        }
    };
    explore(
        move || {
            let bench = registers_unit();
            on_three_cpus(&bench, each);
            let state = bench.hal.state();
            assert_eq!((state.buffers, &state.wrongs), (6, &vec![]));
        },
        150,
    );
}

/// T2: each CPU's pages are invalidated with their own address, and none while another CPU's are.
#[test]
fn three_cpus_invalidate_through_registers_in_turn() {
    let each = |bench: &Bench<RegistersUnit>, cpu: u16| {
        for page in 1..3 {
            bench.flush_page(cpu, u64::from(cpu) * 16 + page).unwrap();
            let address = (u64::from(cpu) * 16 + page) * PAGE_BYTES;
            let state = bench.hal.state();
            // IH in bit 6: no table changed.
            assert!(state.done.contains(&(cpu, address | 1 << 6)), "{cpu}: {:x?}", state.done);
        }
    };
    explore(
        move || {
            let bench = registers_unit();
            on_three_cpus(&bench, each);
            let state = bench.hal.state();
            assert_eq!((state.done.len(), &state.wrongs), (6, &vec![]));
        },
        150,
    );
}

/// If nothing is owed, the unit has dropped all that it had after each descriptor that it refused. Nobody uses it now.
#[track_caller]
fn assert_nothing_is_stale(bench: &Bench<FakeUnit>) {
    let order = &bench.hal.hardware().order;
    let Some(refused) = order.iter().rposition(|(_, executed)| !executed) else { return };
    if bench.unit.needs_full_flush() {
        return;
    }
    for kind in [0x11, 0x12] {
        let global = |&([lower, _], executed): &([u64; 2], bool)| executed && lower & 0x3f == kind;
        assert!(order.iter().skip(refused).any(global), "{kind:#x} is missing after {refused} of {order:x?}");
    }
}

/// T2: a unit refuses what one CPU asks for while another repeats what it refused before.
#[test]
fn a_refusal_is_owed_until_a_later_flush_of_everything() {
    let each = |bench: &Bench<FakeUnit>, cpu: u16| {
        let result = match cpu {
            1 => bench.flush(|flush| flush.everything(core::iter::empty())),
            _ => bench.flush_page(cpu, cpu.into()),
        };
        assert!(matches!(result, Ok(()) | Err(UnitError::Queue { bit: "IQE", .. })), "{result:?}");
    };
    explore(
        move || {
            let manners = Manners { refuses_after: Some(0), ..Manners::default() };
            let hal = FakeUnit::new(256, thread_rng().r#gen(), manners, thread::yield_now);
            let queue = Queue::new(&hal, 256, 52, false).unwrap();
            queue.start(&registers::Registers::of(&hal, WINDOW), SOON).unwrap();
            let bench = Bench::new(hal, QEMU, Invalidator::Queue(queue));
            bench.flush_page(1, 1).unwrap_err();
            assert!(bench.unit.needs_full_flush());
            bench.hal.hardware().manners.refuses_one_in = Some((4, 1));
            on_three_cpus(&bench, each);
            assert_nothing_is_stale(&bench);
            let repeated = (0..2).any(|_| bench.flush(|flush| flush.everything(core::iter::empty())).is_ok());
            assert!(repeated && !bench.unit.needs_full_flush());
            assert_nothing_is_stale(&bench);
        },
        400,
    );
}

/// T2: a flush that is refused behind a repetition is owed after it: only what was refused before it was submitted is repeated.
#[test]
fn what_is_refused_behind_a_repetition_is_owed() {
    let each = |bench: &Bench<FakeUnit>, cpu: u16| {
        let result = match cpu {
            1 => bench.flush(|flush| flush.everything(core::iter::empty())),
            _ => bench.flush_page(2, 2),
        };
        assert!(matches!(result, Ok(()) | Err(UnitError::Queue { bit: "IQE", .. })), "{result:?}");
    };
    // One switch at the worst of places is enough, which drawing them all seldom finds.
    shuttle::check_pct(
        move || {
            // The page that comes behind what is repeated and its wait. Nobody yields, so that one CPU may come far at once.
            let manners = Manners { refuses_after: Some(3), ..Manners::default() };
            let hal = FakeUnit::new(256, thread_rng().r#gen(), manners, || ());
            let queue = Queue::new(&hal, 256, 52, false).unwrap();
            queue.start(&registers::Registers::of(&hal, WINDOW), SOON).unwrap();
            let bench = Bench::new(hal, QEMU, Invalidator::Queue(queue));
            on_cpus(&bench, 2, each);
            assert_nothing_is_stale(&bench);
        },
        1500,
        2,
    );
}
