//! The life of a partitioning hypervisor, on the hardware model: boot, root cell, a cell carved out of it, a fault, the
//! cell's end, hand back. `cargo run --example partitioning` prints what happens.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example fails by panicking; constants are never wrong")]

use cofferdam::addr::{Iova, PhysAddr, Region, Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Options};
use cofferdam::topology::Topology;
use cofferdam::{CellConfig, Iommu};
use cofferdam_model::{Config, Machine, UnitConfig};

// The README shows this part.
const DISK: SourceId = SourceId::new(0, 0, 1, 0).unwrap();
const CARD: SourceId = SourceId::new(0, 0, 2, 0).unwrap();
/// All memory, one to one: 1 GiB at 1 GiB.
const MEMORY: Region = Region::new(Iova::new(1 << 30), PhysAddr::new(1 << 30), 1 << 30, Rights::all()).unwrap();
/// What the cell gets of it: the card sees it at 0.
const PART: Region = Region::new(Iova::new(0), PhysAddr::new(1 << 30 | 64 << 20), 64 << 20, Rights::all()).unwrap();
// Interrupts are not remapped yet, so each cell has to say that it knows.
const CELL: CellConfig = CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT };

/// What a hypervisor does in its life; guests run where `run` is called.
fn life<H: Hal>(hal: H, dmar: &[u8], run: impl Fn(&str)) -> Result<(), Error> {
    // What firmware got wrong is told, and costs the structure that is wrong, not the machine.
    let topology = Topology::from_dmar(dmar, &hal, |finding| println!("firmware: {finding}"))?;
    let mut iommu: Iommu<H> = Iommu::discover(hal, topology, Options::default())?;
    iommu.enable()?;
    run("every device is blocked");

    let root = iommu.create_root_cell(CELL)?;
    let mut change = iommu.change();
    change.map(root, MEMORY)?.assign(DISK, root)?.assign(CARD, root)?;
    change.commit()?;
    run("the root cell has all memory and both devices");

    let snooped = iommu.device_info(CARD)?.snoop_enforceable;
    println!("the card can be made to snoop: {snooped}");
    let cell = iommu.create_cell(CELL)?;
    let mut change = iommu.change();
    change.map(cell, PART)?.assign(CARD, cell)?;
    // As a whole, or not at all: the root cell loses what the cell gets.
    let committed = change.commit()?;
    for (cell, coherency) in committed.coherency_changes() {
        println!("{cell} has to honour WBINVD from now on: {coherency}");
    }
    run("the card has 64 MiB of its own, which the disk does not reach any more");
    iommu.faults(|fault| println!("{fault}"));

    iommu.destroy_cell(cell)?;
    run("the memory is the root cell's again, the card is blocked until it is assigned anew");
    iommu.faults(|fault| println!("{fault}"));

    iommu.destroy_cell(root)?;
    iommu.disable()?;
    run("the units are off, as firmware left them");
    Ok(())
}
// Up to here.

fn main() {
    let machine = Machine::new(Config::new([UnitConfig::client()]));
    [DISK, CARD].iter().for_each(|device| machine.add_express(*device));
    let dmar = machine.dmar();
    let run = |what: &str| {
        println!("\n== {what}");
        // Both devices try to write to the cell's part, by the physical address and by the cell's own.
        for (name, device) in [("disk", DISK), ("card", CARD)] {
            for at in [PART.output.as_u64(), PART.input.start().as_u64()] {
                let result = machine.dma_write(device, Iova::new(at), &[0; 8]);
                println!("   the {name} writes at {at:#x}: {}", if result.is_ok() { "done" } else { "blocked" });
            }
        }
    };
    life(&machine, &dmar, run).expect("the model does what hardware has to");
    machine.check();
    println!("\nNo rule of the hardware was broken.");
}
