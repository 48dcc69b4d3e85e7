//! The remapping units: what each can do, and what it was found doing.

use cofferdam::iommu::{RemappingUnit, UnitDetails, UnitState};
use cofferdam::vtd::Capabilities;
use cofferdam_pc::println;
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Report, Verdict};

use crate::records;

/// Prints what a unit is, and says what of it limits the board.
pub(crate) fn look_at(unit: &RemappingUnit, host_bits: u8, report: &Report, verdict: &mut Verdict) {
    println!("\nUnit {}, segment {:04x}: {}", unit.window, unit.segment, unit.details);
    records::unit(report, unit, host_bits);
    let (window, features) = (unit.window, unit.features);
    match unit.state {
        UnitState::Failed { error, .. } => {
            println!("  cannot be used: {error}");
            verdict
                .limit(format_args!("{error}: no cell has a device behind it, and its devices may reach all memory"));
            return;
        }
        UnitState::On | UnitState::Off => {}
    }
    let UnitDetails::Vtd(can) = unit.details else { return };
    for (has, bit, words) in abilities(&can) {
        ability(report, window.base.as_u64(), bit, has, words);
    }
    println!("  found: {}", if unit.found_on { "translating" } else { "not translating" });
    if unit.found_on {
        verdict.limit(format_args!(
            "unit {window} translates for somebody already: switch that off in set-up (DMA protection before boot), or take it over \
             (Options::take_over)"
        ));
    }
    if features.interrupts.is_none() {
        verdict.limit(format_args!(
            "unit {window} remaps no interrupts: its devices can send any to any CPU, and cells have to allow that \
             (CellConfig::allow_unsafe_interrupts)"
        ));
    }
    if !features.snoop_control {
        verdict.limit(format_args!(
            "unit {window} cannot make DMA snoop the caches: a cell with a device behind it is not coherent, and its guest's WBINVD has \
             to be let through"
        ));
    }
}

/// Prints whether a unit can do something.
pub(crate) fn ability(report: &Report, unit: u64, bit: &str, has: bool, words: &str) {
    println!("  {} {bit}: {words}", if has { "yes" } else { "no " });
    report.tell(Record::Ability { unit, bit, has, words });
}

/// All that the unit's registers say in a bit each (S 11.4.2, 11.4.3): its name, and what it means.
fn abilities(can: &Capabilities) -> [(bool, &'static str, &'static str); 20] {
    [
        (can.queued_invalidation, "QI", "an invalidation queue"),
        (can.page_selective.is_some(), "PSI", "invalidation of single pages"),
        (can.write_draining, "DWD", "invalidations drain writes"),
        (can.read_draining, "DRD", "invalidations drain reads"),
        (can.caching_mode, "CM", "caches what is not present"),
        (can.write_buffer_flush, "RWBF", "needs its write buffer flushed"),
        (can.coherent, "C", "snoops the CPU's caches when it reads tables"),
        (can.snoop_control, "SC", "can make DMA snoop the CPU's caches"),
        (can.root_pointer_invalidates, "ESRTPS", "a new root table empties its caches"),
        (can.abort_mode, "ADMS", "can abort all DMA without a table"),
        (can.protected_low, "PLMR", "protects a region below 4 GiB"),
        (can.protected_high, "PHMR", "protects a region anywhere"),
        (can.device_tlb, "DT", "device-TLBs"),
        (can.device_tlb_throttling, "DIT", "counts what it sends to each device-TLB"),
        (can.page_requests, "PRS", "page requests of devices"),
        (can.interrupt_remapping, "IR", "interrupt remapping"),
        (can.extended_interrupts, "EIM", "interrupts to CPUs with ids above 255"),
        (can.extended_interrupts_only, "EIMER", "remaps interrupts in that mode only"),
        (can.posted_interrupts, "PI", "posted interrupts"),
        (can.interrupt_pointer_invalidates, "ESIRTPS", "a new table of interrupts empties its cache"),
    ]
}
