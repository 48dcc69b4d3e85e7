//! How much stack each call takes, of a front that lies elsewhere.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use cofferdam::error::UnitError;
use cofferdam::iommu::{Error, Options};
use cofferdam::{CellConfig, Iommu};
use cofferdam_pc::{Dmar, Pc, entry, stack_depth};
use cofferdam_tests_qemu::{Broken, Edu, Fault, Report, Words};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
/// What a call may take: small hypervisors have stacks of 16 KiB.
const MOST: u64 = 10 << 10;
/// The unit answers nothing any more.
static DEAD: AtomicBool = AtomicBool::new(false);

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "stack");
    let result = all(pc, &report);
    report.finish(result)
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let dmar = pc.table::<Dmar>()?.ok_or_else(|| words("no DMAR table"))?;
    let device = Edu::all(pc).next().ok_or_else(|| words("no edu device"))?.source();
    let memory = pc.allocate_block(4 * LARGE, LARGE).ok_or_else(|| words("too little memory"))?.base();
    let region = |input: u64, bytes| {
        let output = PhysAddr::new_truncate(memory.as_u64() + input);
        Region::new(Iova::new(input), output, bytes, Rights::all()).ok_or_else(|| words("no region"))
    };
    let one_to_one = Region::new(Iova::new(memory.as_u64()), memory, 4 * LARGE, Rights::all());
    let (one_to_one, large) = (one_to_one.ok_or_else(|| words("no region"))?, region(0, 2 * LARGE)?);
    let (page, shared) = (region(PAGE, PAGE)?.input, region(PAGE, PAGE)?);
    let part = region(16 * PAGE, 8 * PAGE)?.input;
    let config = CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT };

    let (mut deepest, mut seen) = (0, Words::default());
    let mut note = |call: &'static str, depth: u64| {
        deepest = depth.max(deepest);
        let _ = write!(seen, "{}{call} {depth}", if seen.as_str().is_empty() { "" } else { ", " });
    };
    // It need not lie in a static to tell what its calls take.
    let hal = Broken { hal: pc, fault: Some(Fault::DeadQueue(&DEAD)) };
    let mut iommu: Iommu<Broken<&'static Pc>> = Iommu::new(hal, Options { timeout_ns: 1_000_000, ..Options::DEFAULT });
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
    measured!("probe_dmar", iommu.probe_dmar(dmar, |_| ()));
    measured!("enable", iommu.enable());
    let iommu = &mut iommu;
    let root = measured!("create_root_cell", iommu.create_root_cell(config));
    measured!("map", iommu.map(root, one_to_one));
    measured!("assign", iommu.assign(device, root));
    let cell = measured!("create_cell", iommu.create_cell(config));
    let change = measured!("change", {
        let mut change = iommu.change();
        change.map(cell, large)?.assign(device, cell)?.unmap(cell, page)?;
        Ok::<_, Error>(change)
    });
    measured!("commit", change.commit());
    measured!("protect", iommu.protect(cell, part, Rights::READ));
    measured!("map_shared", iommu.map_shared(cell, shared));
    measured!("device_info", iommu.device_info(device));
    measured!("input_ranges", iommu.input_ranges(cell));
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
    let part = IovaRange::new(Iova::new(memory.as_u64() + PAGE), PAGE).ok_or_else(|| words("no range"))?;
    let error = failed!("unmap that fails", iommu.unmap(root, part));
    let is_failed = matches!(error, Some(Error::Unit(UnitError::Timeout { .. })));
    report.expect(is_failed, "a unit that answers nothing fails", format_args!("{error:?}"));
    let what = Words::new(format_args!("no call takes more than {MOST} bytes of stack"));
    report.expect(deepest <= MOST, what.as_str(), format_args!("{}", seen.as_str()));
    Ok(())
}
