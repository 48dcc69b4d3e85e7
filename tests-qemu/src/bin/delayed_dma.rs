//! A device begins to write, which takes it 100 ms, and its cell is gone before: nothing arrives in the cell that has the
//! memory then.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::CellConfig;
use cofferdam::addr::{Iova, Region, Rights};
use cofferdam::fault::Access;
use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Edu, Report, Words, bring_up, dmar};

const BYTES: u64 = 2 << 20;
/// Where in the memory the device finds what it writes, and where that would arrive.
const FROM: u64 = 0x1000;
const TO: u64 = 0x5000;
const WRITTEN: u64 = 0x1a7e_da7a;
const KEPT: u64 = 0x6b65_7074;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "delayed_dma");
    let result = all(pc, &report);
    report.finish(result)
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = bring_up(pc, dmar(pc)?, report)?;
    let device = Edu::all(pc).next().ok_or_else(|| words("no edu device"))?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
    let region = Region::new(Iova::new(0), memory.base(), BYTES, Rights::all()).ok_or_else(|| words("no region"))?;
    let config = CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT };

    // With its cell there, without, and without though somebody lets it be a bus master again.
    for (stays, resumes) in [(true, false), (false, false), (false, true)] {
        let cell = iommu.create_cell(config)?;
        iommu.map(cell, region)?;
        iommu.assign(device.source(), cell)?;
        device.resume();
        memory.write(FROM, WRITTEN);
        memory.write(TO, KEPT);
        device.read(Iova::new(FROM), 8);
        iommu.faults(|_| ());
        device.begin_write(Iova::new(TO), 8);
        if stays {
            device.is_done();
            let found = memory.read(TO);
            let what = "what a device writes late arrives while its cell is there";
            report.expect(found == WRITTEN, what, format_args!("{found:#x}"));
            iommu.destroy_cell(cell)?;
            continue;
        }
        iommu.destroy_cell(cell)?;
        let next = iommu.create_cell(config)?;
        iommu.map(next, region)?;
        if resumes {
            device.resume();
        }
        let is_late = device.is_busy();
        report.expect(
            is_late,
            "the device has still to write when another cell has the memory",
            format_args!("{is_late}"),
        );
        device.is_done();
        let found = memory.read(TO);
        let what = Words::new(format_args!("nothing arrives there, bus master or not: {resumes}"));
        report.expect(found == KEPT, what.as_str(), format_args!("{found:#x}"));
        let mut blocked = 0_u32;
        iommu.faults(|fault| blocked += u32::from(fault.source == device.source() && fault.access == Access::Write));
        // A device that is no bus master sends nothing that could be blocked.
        let what = "its write is blocked and told if it is sent, and not sent otherwise";
        report.expect(blocked == u32::from(resumes), what, format_args!("{blocked} faults"));
        iommu.destroy_cell(next)?;
    }
    iommu.disable()?;
    Ok(())
}
