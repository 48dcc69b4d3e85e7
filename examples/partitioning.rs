//! The life of a partitioning hypervisor, on the hardware model: boot, root cell, a cell carved out of it, a fault, the
//! cell's end, hand back. `cargo run --example partitioning` prints what happens.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example fails by panicking; constants are never wrong")]

use cofferdam::addr::{Iova, PhysAddr, Rights};
use cofferdam::iommu::Options;
use cofferdam_model::{Config, Machine, UnitConfig};

// The README shows this part.
use cofferdam::addr::{Region, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::{CpuSet, InterruptTargets, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit, Error, Iommu};
use cofferdam::limits::{Limits, Memory};
use cofferdam::{CellConfig, CellId};

const LIMITS: Limits = Limits { units: 8, cells: 4, ..Limits::DEFAULT };
static MEMORY: Memory<{ LIMITS.words() }> = Memory::new();

/// From here on every device is blocked, and so are all interrupts but those that are routed. `acpi_table` is the DMAR with its
/// header, `io_apics` are the ids in the MADT, and no CPU is in x2APIC mode.
fn boot<H: Hal>(iommu: &Iommu<'static, H>, acpi_table: &[u8], io_apics: &[u8]) -> Result<(), Error> {
    let Some(memory) = MEMORY.take() else { return Err(Error::Probed) };
    iommu.probe_acpi(memory, &LIMITS, acpi_table, |finding| println!("firmware: {finding}"))?;
    iommu.remap_interrupts(io_apics, false)?;
    iommu.enable()?;
    Ok(())
}

/// A cell whose interrupts may go to one CPU, with any vector.
const fn on(cpu: u32) -> CellConfig {
    let interrupts = InterruptTargets { cpus: CpuSet::NONE.with(cpu, cpu), vectors: VectorSet::ALL, flat_ids: 0 };
    CellConfig { interrupts, ..CellConfig::DEFAULT }
}

/// A cell whose device reaches this memory and nothing else, and sends this CPU vector 0x40 and nothing else. The root
/// cell, if there is one, loses memory and device in the same change.
fn carve<H: Hal>(iommu: &Iommu<'_, H>, memory: Region, device: SourceId, cpu: u32) -> Result<CellId, Error> {
    let cell = iommu.create_cell(on(cpu))?;
    let (one, first) = (DeviceConfig { messages: 1, ..DeviceConfig::default() }, Source::Message { device, index: 0 });
    let assign = Edit::Assign(device, cell, one);
    iommu.commit(&[Edit::Map(cell, memory), assign, Edit::Route(cell, first, Route::to(cpu, 0x40))])?;
    Ok(cell)
}
// Up to here.

const DISK: SourceId = SourceId::new(0, 0, 1, 0).unwrap();
const CARD: SourceId = SourceId::new(0, 0, 2, 0).unwrap();
/// All memory, one to one: 1 GiB at 1 GiB.
const ALL: Region = Region::new(Iova::new(1 << 30), PhysAddr::new(1 << 30), 1 << 30, Rights::all()).unwrap();
/// What the cell gets of it: the card sees it at 0.
const PART: Region = Region::new(Iova::new(0), PhysAddr::new(1 << 30 | 64 << 20), 64 << 20, Rights::all()).unwrap();

/// What a hypervisor does in its life; guests run where `run` is called.
fn life<H: Hal>(hal: H, acpi_table: &[u8], run: impl Fn(&str)) -> Result<(), Error> {
    let iommu = &Iommu::new(hal, Options::DEFAULT);
    boot(iommu, acpi_table, &[0])?;
    run("every device is blocked");

    let root = iommu.create_root_cell(on(0))?;
    let plain = DeviceConfig::default();
    iommu.commit(&[Edit::Map(root, ALL), Edit::Assign(DISK, root, plain), Edit::Assign(CARD, root, plain)])?;
    run("the root cell has all memory and both devices");

    println!("the card can be made to snoop: {}", iommu.device_info(CARD)?.snoop_enforceable);
    let cell = carve(iommu, PART, CARD, 1)?;
    println!(
        "the card is told to send {:x?} for vector 0x40 of CPU 1",
        iommu.message(Source::Message { device: CARD, index: 0 })?
    );
    run("the card has 64 MiB of its own, which the disk does not reach any more");
    iommu.faults(|fault| println!("{fault}"));

    iommu.destroy_cell(cell)?;
    run("the memory is the root cell's again; the card is blocked until it is assigned");
    iommu.faults(|fault| println!("{fault}"));

    iommu.destroy_cell(root)?;
    iommu.disable()?;
    run("the units are off, and every device reaches all memory");
    Ok(())
}

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
