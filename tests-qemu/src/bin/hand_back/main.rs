//! A machine is taken over and handed back while another CPU has its devices write to memory and interrupt, at least once before each
//! write to a register of the unit, and nothing is lost.
//!
//! With `left-on` on the command line, the unit is found translating, with a queue and interrupt remapping, and whoever has it goes
//! on by all that afterwards. With `left-remapping` it is found so, but does not translate. Otherwise it is found off.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod former;
mod worker;

use cofferdam::addr::{Iova, Region};
use cofferdam::fault::Access;
use cofferdam::hal::RegisterWindow;
use cofferdam::interrupt::{Message, Source};
use cofferdam::iommu::{DeviceConfig, Edit, Options, UnitState};
use cofferdam::limits::Memory;
use cofferdam::{CellConfig, CellId, Iommu};
use cofferdam_pc::{Block, Cpus, Pc, entry};
use cofferdam_tests_qemu::{Broken, Edu, Fault, Front, LIMITS, Nic, Registers, Report, Words, dmar};
use heapless::Vec;

use former::{Former, on, one_to_one};
use worker::Worker;

const VECTOR: u8 = 0x41;
/// How much the root cell has for its devices, and as much again that a cell gets meanwhile.
const BYTES: u64 = 2 << 20;
/// Where in the root cell's memory another device tries to write: the card has no use for that.
const TRIED: u64 = 0x8000;
const WRITTEN: u64 = 0xd0d0_d0d0_0000_0001;
const ROUNDS: u32 = 3;

static SECOND: Memory<{ LIMITS.words() }> = Memory::new();

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "hand_back");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    pc: &'static Pc,
    report: &'r Report,
    iommu: Front<Broken<&'static Pc>>,
    window: RegisterWindow,
    worker: &'static Worker,
    device: Edu,
    root: CellId,
    /// What the root cell keeps, and what a cell gets.
    own: Region,
    part: Region,
    block: Block,
    left_on: bool,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let (left_on, translates) = match pc.command_line() {
        "left-on" => (true, true),
        "left-remapping" => (true, false),
        _ => (false, false),
    };
    let cpus: Cpus = pc.start_cpus(false)?;
    let ids: Vec<u32, 8> = cpus.ids().collect();
    let [_, first, .., last] = *ids else { return Err(words("fewer than three CPUs")) };
    let blocks = [(); 2].map(|()| pc.allocate_block(BYTES, BYTES));
    let [Some(cards), Some(block)] = blocks else { return Err(words("too little memory")) };
    let (own, part) = (one_to_one(&cards)?, one_to_one(&block)?);
    let nic = Nic::first(pc, cards).ok_or_else(|| words("no e1000e device"))?;
    let mut devices = Edu::all(pc);
    let (Some(device), Some(other)) = (devices.next(), devices.next()) else { return Err(words("no two edu devices")) };

    let (former, message) = if left_on {
        let (former, message) =
            Former::new(pc, report, cpus, [nic.source(), other.source()], [own, part], (first, VECTOR))?;
        former.translates(pc, translates)?;
        (Some(former), message)
    } else {
        // To the CPU with this id, in compatibility format.
        (None, Message { address: 0xfee0_0000 | u64::from(first) << 12, data: VECTOR.into() })
    };
    other.program(message);
    let worker = Worker::start(nic, other, cpus, last, (first, VECTOR));

    let hal = Broken { hal: pc, fault: Some(Fault::Late(worker::get_something_done)) };
    let iommu = Iommu::new(hal, Options { take_over: left_on, ..Options::default() });
    let second = SECOND.take().ok_or_else(|| words("the memory is taken"))?;
    iommu.probe_acpi(second, &LIMITS, dmar(pc)?, |finding| cofferdam_pc::println!("DMAR: {finding}"))?;
    if left_on {
        iommu.remap_interrupts(&[0], false)?;
    }
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    let root = iommu.create_root_cell(CellConfig { allow_unsafe_interrupts: !left_on, ..on(first) })?;
    iommu.commit(&[own, part].map(|region| Edit::Map(root, region)))?;
    let job = Job { pc, report, iommu, window, worker, device, root, own, part, block, left_on };
    for _ in 0..ROUNDS {
        job.round()?;
    }
    if !translates {
        let is_reached = job.device_reaches_part();
        report.expect(is_reached, "a device without a cell reaches memory again", format_args!("{is_reached}"));
    }
    if let Some(former) = &former {
        former.translates(pc, true)?;
        former.goes_on(report, &job.device, part)?;
    }
    let arrived = worker.stop();
    let (sent, lost) = (worker.sent(), worker.lost());
    let what = "no write and no interrupt is lost, from before the first round to after the last";
    let seen = format_args!("of {sent} lost: {lost:?}; {arrived:?} interrupts arrived");
    report.expect(lost == (0, 0) && arrived == Some(sent), what, seen);
    former.map_or(Ok(()), Former::end)
}

impl Job<'_> {
    /// The machine is taken over, a cell is carved and is gone again, and the machine is handed back.
    fn round(&self) -> Result<(), Words> {
        let before = self.registers()?;
        self.iommu.prepare()?;
        for device in [self.worker.writes.source(), self.worker.interrupts.source()] {
            self.iommu.assign(device, self.root)?;
        }
        if self.left_on {
            self.keep()?;
        }
        let enabled = self.while_it_works(|| self.iommu.enable().map(drop))?;
        self.report.expect(
            enabled > 10,
            "devices work on while units are switched on",
            format_args!("{enabled} times"),
        );
        self.carve()?;
        let handed_back = self.while_it_works(|| self.iommu.hand_back())?;
        let what = "and while the machine is handed back";
        self.report.expect(handed_back > 10, what, format_args!("{handed_back} times"));
        let differences = self.registers()?.differences(&before);
        let what = "registers are as they were found";
        self.report.expect(differences.as_str().is_empty(), what, format_args!("{}", differences.as_str()));
        let frames = self.iommu.statistics().table_frames;
        let is_off = self.iommu.units().all(|unit| unit.state == UnitState::Off);
        self.report.expect(is_off && frames == 0, "and all frames are given back", format_args!("{frames} left"));
        Ok(())
    }

    fn registers(&self) -> Result<Registers, Words> {
        Registers::read(self.pc, self.window).ok_or_else(|| Words::new(format_args!("registers are out of reach")))
    }

    /// How often the devices got something done meanwhile.
    fn while_it_works<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<u32, E> {
        let before = self.worker.sent();
        work()?;
        Ok(self.worker.sent() - before)
    }

    /// The device's interrupt goes on as it was found.
    fn keep(&self) -> Result<(), Words> {
        let device = self.worker.interrupts.source();
        let mut entry = None;
        self.iommu.found_interrupts(|found| {
            if found.requester == Some(device) {
                entry = Some(found.entry);
            }
        })?;
        let entry = entry.ok_or_else(|| Words::new(format_args!("its interrupt is not found")))?;
        self.iommu.commit(&[Edit::Keep(self.root, Source::Message { device, index: 0 }, entry)])?;
        Ok(())
    }

    /// A cell has part of the memory and a device, and that device reaches nothing else; then the root cell has it again.
    fn carve(&self) -> Result<(), Words> {
        let config = CellConfig { allow_unsafe_interrupts: !self.left_on, ..CellConfig::DEFAULT };
        let cell = self.iommu.create_cell(config)?;
        let assign = Edit::Assign(self.device.source(), cell, DeviceConfig::default());
        self.iommu.commit(&[Edit::Map(cell, self.part), assign])?;
        self.iommu.faults(|_| ());
        let is_reached = self.device_reaches_part();
        let tried = Iova::new(self.own.input.start().as_u64() + TRIED);
        self.device.write(tried, 8);
        let mut faults = 0;
        self.iommu.faults(|fault| faults += u32::from((fault.access, fault.address) == (Access::Write, Some(tried))));
        let what = "a cell is carved meanwhile, and its device reaches its memory alone";
        self.report.expect(is_reached && faults == 1, what, format_args!("{is_reached}, {faults} faults outside"));
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions, audit.interrupts) == (0, 3, u64::from(self.left_on));
        self.report.expect(is_so, "the live tables are as granted", format_args!("{audit:?}"));
        self.iommu.destroy_cell(cell)?;
        Ok(())
    }

    /// True if the device reads and writes what a cell gets.
    fn device_reaches_part(&self) -> bool {
        let start = self.part.input.start();
        self.device.resume();
        self.block.write(0, WRITTEN);
        self.device.read(start, 8);
        self.block.write(0, 0);
        self.device.write(start, 8);
        self.block.read(0) == WRITTEN
    }
}
