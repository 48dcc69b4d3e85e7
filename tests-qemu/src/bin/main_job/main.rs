//! The main job: two cells with the same input addresses, a device in each, and nothing gets across.
//!
//! With `no-queue` on the command line, the unit has no invalidation queue.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod audit;
mod memory;
mod stage;
mod steps;

use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Broken, Fault, Report, Words, bring_up};

use stage::Stage;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "main_job");
    let result = main_job(pc, &report);
    report.finish(result)
}

fn main_job(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let fault = (pc.command_line() == "no-queue").then_some(Fault::NoQueue);
    let iommu = bring_up(pc, Broken { hal: pc, fault }, report)?;
    let stage = Stage::set(pc, &iommu, report)?;
    stage.blocked_without_a_cell();
    stage.make_cells()?;
    stage.copies_stay_within_the_cell();
    stage.what_is_not_granted_is_blocked()?;
    stage.an_unmapped_page_is_gone_at_once()?;
    stage.a_remapped_page_is_the_new_one()?;
    stage.snoop_is_set_as_the_unit_can()?;
    stage.the_tables_are_as_granted("a device in each cell", 2)?;
    stage.a_device_moves()?;
    stage.the_tables_are_as_granted("both devices in cell B", 2)?;
    stage.a_foreign_entry_is_found()?;
    stage.nothing_is_left_behind()?;
    stage.the_tables_are_as_granted("the cells are gone", 0)
}
