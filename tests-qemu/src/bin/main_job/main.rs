//! The main job: two cells with the same input addresses, a device and a CPU in each, and nothing gets across.
//!
//! With `no-queue` on the command line, the unit has no invalidation queue, so it remaps no interrupts; with `no-snoop`,
//! firmware says that the second device must not be made to snoop.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod audit;
mod coherency;
mod interrupts;
mod memory;
mod stage;
mod steps;

use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Broken, Edu, Fault, Report, Words, discover, dmar, dmar_without_snoop};

use stage::Stage;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "main_job");
    let result = main_job(pc, &report);
    report.finish(result)
}

fn main_job(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let fault = (pc.command_line() == "no-queue").then_some(Fault::NoQueue);
    let last = Edu::all(pc).last().map(|device| device.source());
    let forbidden = last.filter(|_| pc.command_line() == "no-snoop");
    let added_to = forbidden.map(|device| dmar_without_snoop(pc, device)).transpose()?;
    let table = added_to.as_deref().map_or_else(|| dmar(pc), Ok)?;
    let iommu = discover(Broken { hal: pc, fault }, table, report)?;
    // Interrupt remapping needs the queue.
    let remaps = fault.is_none();
    if remaps {
        iommu.remap_interrupts(&[0], false)?;
    }
    iommu.enable()?;
    let stage = Stage::set(pc, &iommu, report, forbidden, remaps)?;
    let both = [&stage.a, &stage.b];
    stage.each_device_is_who_the_driver_says();
    stage.blocked_without_a_cell();
    stage.make_cells()?;
    stage.copies_stay_within_the_cell();
    stage.interrupts_stay_within_the_cell()?;
    stage.what_is_not_granted_is_blocked()?;
    stage.an_unmapped_page_is_gone_at_once()?;
    stage.a_remapped_page_is_the_new_one()?;
    stage.snoop_is_set_as_the_device_can()?;
    stage.the_tables_are_as_granted("a device in each cell", &both)?;
    stage.a_device_moves()?;
    stage.the_tables_are_as_granted("both devices in cell B", &both)?;
    stage.a_foreign_entry_is_found()?;
    stage.nothing_is_left_behind()?;
    stage.each_policy_does_what_it_says()?;
    stage.a_cell_is_as_coherent_as_its_devices()?;
    stage.the_tables_are_as_granted("the cells are gone", &[])
}
