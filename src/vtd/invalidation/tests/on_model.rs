//! The queue on the hardware model, which judges by the rules what devices' TLBs are asked.

use core::iter::empty;

use cofferdam_model::{Answer, Config, Machine, UnitConfig};
use tock_registers::interfaces::Writeable;

use crate::addr::{PhysAddr, Requester};
use crate::error::UnitError;
use crate::hal::on_model::OnModel;
use crate::hal::{Frames, Hal, RegisterWindow};
use crate::vtd::command::Command;
use crate::vtd::invalidation::descriptor::Descriptor;
use crate::vtd::invalidation::queue::Queue;
use crate::vtd::registers::Registers;

const SOON: u64 = 1_000_000_000;
const A: u16 = 0x18;
const B: u16 = 0x20;

struct Bench {
    hal: OnModel,
    window: RegisterWindow,
    queue: Queue,
}

impl Bench {
    /// A unit that translates, by an empty root table.
    fn new() -> Self {
        let hal = OnModel(Machine::new(Config::new([UnitConfig::server()])));
        let window = hal.0.windows()[0];
        let window = RegisterWindow { base: PhysAddr::new(window.base.as_u64()), bytes: window.bytes };
        let queue = Queue::new(&hal, 256, 52, false).unwrap();
        let root = Frames::allocate(&hal, 0, 52).unwrap();
        let bench = Self { hal, window, queue };
        let registers = bench.registers();
        bench.queue.start(&registers, SOON).unwrap();
        registers.rtaddr().set(root.base().as_u64());
        Command::SET_ROOT_TABLE.run(&registers, SOON).unwrap();
        // All of the context-cache and of the IOTLB, draining.
        let all = [Descriptor { lower: 0x11, upper: 0 }, Descriptor { lower: 0xd2, upper: 0 }];
        let ticket = bench.queue.begin(&registers, all.into_iter(), empty(), SOON).unwrap();
        bench.queue.wait(&registers, ticket, SOON).unwrap();
        Command::TRANSLATION_ON.run(&registers, SOON).unwrap();
        bench
    }

    fn registers(&self) -> Registers<'_, OnModel> {
        Registers::of(&self.hal, self.window)
    }

    fn answers(&self, device: u16, answer: Answer, depth: usize) {
        let device = cofferdam_model::addr::SourceId::from_requester(0, device);
        self.hal.0.set_device_tlb(device, answer, depth);
    }

    /// Empties the TLBs of these devices, each of which takes so many at a time, and does something for the unit before.
    fn run(&self, devices: &[u16], depth: u64) -> Result<(), UnitError> {
        let registers = self.registers();
        let unit = [Descriptor { lower: 0xe2 | 7 << 16, upper: 0 }];
        let all = |&device: &u16| Descriptor {
            lower: 0x3 | (depth & 0x1f) << 16 | u64::from(device) << 32,
            upper: 0x7fff_ffff_ffff_f001,
        };
        let ticket = self.queue.begin(&registers, unit.into_iter(), devices.iter().map(all), SOON)?;
        self.queue.wait(&registers, ticket, SOON)
    }
}

#[test]
fn devices_that_answer_cost_one_batch_however_slow() {
    for (depth, delay) in [(32, 100), (1, 100_000), (4, 5_000), (2, 1)] {
        let bench = Bench::new();
        bench.answers(A, Answer::After(delay), depth);
        let doorbells = bench.queue.counts().doorbells;
        bench.run(&[A; 9], depth as u64).unwrap();
        bench.run(&[A, B, A, A], depth as u64).unwrap();
        assert_eq!(bench.queue.counts().doorbells, doorbells + 2);
    }
}

#[test]
fn batches_under_way_at_once_do_not_add_up_for_a_device() {
    let bench = Bench::new();
    bench.answers(A, Answer::After(50_000), 1);
    let tlb = Descriptor { lower: 0x3 | 1 << 16 | u64::from(A) << 32, upper: 0x7fff_ffff_ffff_f001 };
    let unit = Descriptor { lower: 0xe2 | 7 << 16, upper: 0 };
    let submit = || bench.queue.begin(&bench.registers(), [unit].into_iter(), [tlb].into_iter(), SOON).unwrap();
    let tickets = [submit(), submit(), submit()];
    tickets.into_iter().for_each(|ticket| bench.queue.wait(&bench.registers(), ticket, SOON).unwrap());
}

#[test]
fn a_device_that_died_is_named_and_all_others_are_served() {
    let bench = Bench::new();
    bench.answers(A, Answer::Never, 32);
    let registers = bench.registers();
    let page = [Descriptor { lower: 0xe2 | 9 << 16, upper: 0 }];
    let before = bench.queue.begin(&registers, page.into_iter(), empty(), SOON).unwrap();
    let named = UnitError::Device { unit: bench.window, requester: Requester::new(A) };
    assert_eq!(bench.run(&[B, A], 0), Err(named));
    bench.queue.wait(&registers, before, SOON).unwrap();
    bench.run(&[B], 0).unwrap();
    assert_eq!(bench.run(&[A], 0), Err(named), "and the unit goes on");
    bench.run(&[B; 40], 0).unwrap();
}

#[test]
fn two_devices_that_died_are_named_in_turn() {
    let bench = Bench::new();
    bench.answers(A, Answer::Never, 32);
    bench.answers(B, Answer::Never, 32);
    let Err(UnitError::Device { requester: first, .. }) = bench.run(&[A, B], 0) else { panic!() };
    let other = if first.get() == A { B } else { A };
    assert_eq!(bench.run(&[other], 0), Err(UnitError::Device { unit: bench.window, requester: Requester::new(other) }));
    bench.run(&[], 0).unwrap();
}

#[test]
fn a_device_that_comes_back_in_time_stays_in_service() {
    let bench = Bench::new();
    bench.answers(A, Answer::Never, 32);
    let registers = bench.registers();
    let tlb = Descriptor { lower: 0x3 | u64::from(A) << 32, upper: 0x7fff_ffff_ffff_f001 };
    let unit = Descriptor { lower: 0xe2 | 7 << 16, upper: 0 };
    let ticket = bench.queue.begin(&registers, [unit].into_iter(), [tlb].into_iter(), SOON).unwrap();
    let doorbells = bench.queue.counts().doorbells;
    while bench.queue.counts().doorbells == doorbells {
        assert_eq!(bench.queue.poll(&registers, &ticket), None);
        bench.hal.pause();
    }
    bench.answers(A, Answer::After(1_000), 32);
    bench.queue.wait(&registers, ticket, SOON).unwrap();
}

#[test]
fn an_answer_that_nobody_asked_for_stops_nothing() {
    let bench = Bench::new();
    bench.answers(A, Answer::Twice, 32);
    (0..5).for_each(|_| bench.run(&[A, B], 0).unwrap());
    // Whoever looks why something takes long: the unit reports them all at once.
    bench.queue.wait_for_room(&bench.registers(), 1, SOON).unwrap();
    assert_eq!(bench.queue.counts().completion_errors, 1);
    bench.queue.wait_for_room(&bench.registers(), 1, SOON).unwrap();
    assert_eq!(bench.queue.counts().completion_errors, 1);
}
