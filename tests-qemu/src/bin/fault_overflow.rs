//! Two devices are blocked more often than the unit has room to record: the driver gives what was recorded, says that more was lost,
//! and what is blocked afterwards is recorded again, with an event.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, SourceId};
use cofferdam::fault::{Access, Fault, FaultLog};
use cofferdam::interrupt::FaultEvent;
use cofferdam_pc::{Cpus, Pc, entry};
use cofferdam_tests_qemu::{Edu, Front, Report, Words, bring_up, dmar};
use heapless::Vec;

const EVENT: u8 = 0x71;
/// Where the first device writes, and the second reads.
const WRITE_AT: Iova = Iova::new(0x20_0000_0000);
const READ_AT: Iova = Iova::new(0x1000);
/// How often each of them does.
const TIMES: u64 = 10;
const ROUNDS: u64 = 3;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "fault_overflow");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    report: &'r Report,
    iommu: Front<&'static Pc>,
    cpus: Cpus,
    cpu: u32,
    writes: Edu,
    reads: Edu,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = bring_up(pc, dmar(pc)?, report)?;
    let cpus = pc.start_cpus(false)?;
    let cpu = cpus.ids().next().ok_or_else(|| words("no CPU"))?;
    let mut devices = Edu::all(pc);
    let (Some(writes), Some(reads)) = (devices.next(), devices.next()) else { return Err(words("no two edu devices")) };
    iommu.set_fault_event(Some(FaultEvent::to(cpu, EVENT)))?;
    let job = Job { report, iommu, cpus, cpu, writes, reads };
    for round in 1..=ROUNDS {
        job.too_many(round);
        job.one(
            "the next fault is recorded, with an event",
            || job.reads(),
            (job.reads.source(), Access::Read, READ_AT),
        );
        job.one("and so is the one after it", || job.writes(), (job.writes.source(), Access::Write, WRITE_AT));
    }
    let mut counted = Vec::<(SourceId, u64), 4>::new();
    job.iommu.faults_by_device(|device, faults| _ = counted.push((device, faults)));
    // What was lost is not among them.
    let expected = [(job.writes.source(), 2 * ROUNDS), (job.reads.source(), ROUNDS)];
    report.expect(counted.as_slice() == expected, "each fault that was read is counted", format_args!("{counted:?}"));
    job.iommu.disable()?;
    Ok(())
}

impl Job<'_> {
    fn writes(&self) {
        self.writes.write(WRITE_AT, 8);
    }

    fn reads(&self) {
        self.reads.read(READ_AT, 8);
    }

    /// What was recorded, what is said of that, and how many events there were.
    fn seen(&self, blocked: impl Fn()) -> (Vec<Fault, 4>, FaultLog, u32) {
        let events = || self.cpus.taken(self.cpu, EVENT);
        let before = events();
        blocked();
        self.cpus.settle();
        let mut faults = Vec::new();
        let log = self.iommu.faults(|fault| _ = faults.push(fault));
        (faults, log, events() - before)
    }

    /// Both devices are blocked many times, and the unit has one record.
    fn too_many(&self, round: u64) {
        let (faults, log, events) = self.seen(|| {
            (0..TIMES).for_each(|_| self.writes());
            (0..TIMES).for_each(|_| self.reads());
            (0..TIMES).for_each(|_| self.writes());
        });
        let expected = FaultLog { records: 1, overflowed: true, ..FaultLog::default() };
        let is_first = matches!(
            faults.as_slice(),
            [fault] if (fault.source, fault.access, fault.address) == (self.writes.source(), Access::Write, Some(WRITE_AT))
        );
        let what =
            Words::new(format_args!("round {round}: of too many faults the first is read, and that others were lost"));
        self.report.expect(is_first && log == expected, what.as_str(), format_args!("{faults:?} {log:?}"));
        self.report.expect(events == 1, "there was one event for all of them", format_args!("{events}"));
        let (faults, log, _) = self.seen(|| ());
        let is_nothing = faults.is_empty() && log == FaultLog::default();
        self.report.expect(is_nothing, "nothing of them is left", format_args!("{faults:?} {log:?}"));
    }

    /// One request is blocked: its fault is recorded, nothing is lost, and there is an event.
    fn one(&self, what: &str, blocked: impl Fn(), (source, access, at): (SourceId, Access, Iova)) {
        let (faults, log, events) = self.seen(blocked);
        let is_it = matches!(
            faults.as_slice(),
            [fault] if (fault.source, fault.access, fault.address) == (source, access, Some(at))
        );
        let is_all = log == FaultLog { records: 1, ..FaultLog::default() } && events == 1;
        self.report.expect(is_it && is_all, what, format_args!("{faults:?} {log:?} {events} events"));
    }
}
