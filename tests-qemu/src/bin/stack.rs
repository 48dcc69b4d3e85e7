//! How much stack each call takes.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options};
use cofferdam::{CellConfig, Iommu};
use cofferdam_pc::{Pc, entry, stack_depth};
use cofferdam_tests_qemu::{Broken, Edu, Fault, LIMITS, Report, Words, dmar, memory};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
/// What a call may take: small hypervisors have stacks of 4 KiB.
const MOST: u64 = 2048;
/// Two may take more: one is for before guests run, the other looks at all that the first has made.
const MOST_OF_TWO: (u64, [&str; 2]) = (2880, ["enable", "audit"]);
/// What the platform's functions may take beside it: no more than can be told here.
const MOST_OF_PLATFORM: u64 = 256;
/// The unit answers nothing any more.
static DEAD: AtomicBool = AtomicBool::new(false);

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "stack");
    let result = platform(pc, &report).and_then(|()| all(pc, &report));
    report.finish(result)
}

/// What some calls took.
#[derive(Default)]
struct Depths {
    seen: Words,
    any_above: bool,
}

impl Depths {
    fn note(&mut self, call: &str, depth: u64, most: u64) {
        let comma = if self.seen.as_str().is_empty() { "" } else { ", " };
        let mark = if depth > most { "! " } else { "" };
        // Never fails: `Words` cuts.
        let _ = write!(self.seen, "{comma}{call} {mark}{depth}");
        self.any_above |= depth > most;
    }
}

/// What the platform takes that the driver works on here.
fn platform(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let mut depths = Depths::default();
    let mut note = |call, depth| depths.note(call, depth, MOST_OF_PLATFORM);
    let (frame, depth) = stack_depth(|| pc.allocate(0));
    note("allocate", depth);
    let frame = frame.ok_or_else(|| Words::new(format_args!("no frame")))?;
    note("word_at", stack_depth(|| pc.word_at(frame)).1);
    // SAFETY: the frame was allocated so, and nobody has it.
    note("free", stack_depth(|| unsafe { pc.free(frame, 0) }).1);
    let bridge = SourceId::from_requester(0, 0);
    note("config_read", stack_depth(|| pc.config_read(bridge, 0)).1);
    note("now_ns", stack_depth(|| pc.now_ns()).1);
    let what =
        Words::new(format_args!("no function of the platform takes more than {MOST_OF_PLATFORM} bytes of stack"));
    report.expect(!depths.any_above, what.as_str(), format_args!("{}", depths.seen.as_str()));
    Ok(())
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let dmar = dmar(pc)?;
    let device = Edu::all(pc).next().ok_or_else(|| words("no edu device"))?.source();
    let block = pc.allocate_block(4 * LARGE, LARGE).ok_or_else(|| words("too little memory"))?.base();
    let region = |input: u64, bytes| {
        let output = PhysAddr::new_truncate(block.as_u64() + input);
        Region::new(Iova::new(input), output, bytes, Rights::all()).ok_or_else(|| words("no region"))
    };
    let one_to_one = Region::new(Iova::new(block.as_u64()), block, 4 * LARGE, Rights::all());
    let (one_to_one, large) = (one_to_one.ok_or_else(|| words("no region"))?, region(0, 2 * LARGE)?);
    let (page, shared) = (region(PAGE, PAGE)?.input, region(PAGE, PAGE)?);
    let part = region(16 * PAGE, 8 * PAGE)?.input;
    let config = CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT };

    let mut depths = Depths::default();
    let mut note = |call: &str, depth| {
        let (more, calls) = MOST_OF_TWO;
        depths.note(call, depth, MOST_OF_PLATFORM + if calls.contains(&call) { more } else { MOST });
    };
    let hal = Broken { hal: pc, fault: Some(Fault::DeadQueue(&DEAD)) };
    let iommu = Iommu::new(hal, Options { timeout_ns: 1_000_000, ..Options::DEFAULT });
    let front = memory()?;
    macro_rules! failed {
        ($call:literal, $work:expr) => {{
            let (result, depth) = stack_depth(|| $work);
            note($call, depth);
            result.err()
        }};
    }
    macro_rules! measured {
        ($call:literal, $work:expr) => {{
            let (result, depth) = stack_depth(|| $work);
            note($call, depth);
            result?
        }};
    }
    measured!("probe_acpi", iommu.probe_acpi(front, &LIMITS, dmar, |_| ()));
    measured!("prepare", iommu.prepare());
    measured!("enable", iommu.enable());
    let iommu = &iommu;
    let root = measured!("create_root_cell", iommu.create_root_cell(config));
    measured!("map", iommu.map(root, one_to_one));
    measured!("assign", iommu.assign(device, root));
    let cell = measured!("create_cell", iommu.create_cell(config));
    let edits = [Edit::Map(cell, large), Edit::Assign(device, cell, DeviceConfig::default()), Edit::Unmap(cell, page)];
    measured!("commit", iommu.commit(&edits));
    measured!("protect", iommu.protect(cell, part, Rights::READ));
    measured!("map_shared", iommu.map_shared(cell, shared));
    measured!("device_info", iommu.device_info(device));
    measured!("input_ranges", iommu.input_ranges(cell, |_| ()));
    measured!("faults", Ok::<_, Error>(iommu.faults(|_| ())));
    measured!("mute", iommu.mute(device, true));
    measured!("audit", iommu.audit(|_| ()));
    measured!("reach", iommu.reach(|_| ()));
    measured!("unmap", iommu.unmap(cell, part));
    measured!("release", iommu.release(device));
    measured!("destroy_cell", iommu.destroy_cell(cell));
    measured!("disable", iommu.disable());
    iommu.enable()?;
    iommu.assign(device, root)?;
    DEAD.store(true, Ordering::Relaxed);
    let part = IovaRange::new(Iova::new(block.as_u64() + PAGE), PAGE).ok_or_else(|| words("no range"))?;
    let error = failed!("unmap that fails", iommu.unmap(root, part));
    let is_failed = matches!(error, Some(Error::Unit(UnitError::Timeout { .. })));
    report.expect(is_failed, "a unit that answers nothing fails", format_args!("{error:?}"));
    let (more, [one, other]) = MOST_OF_TWO;
    let what = Words::new(format_args!(
        "beside the platform, no call takes more than {MOST} bytes of stack, or {more} for {one} and {other}"
    ));
    report.expect(!depths.any_above, what.as_str(), format_args!("{}", depths.seen.as_str()));
    Ok(())
}
