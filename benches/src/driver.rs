//! The driver as a hypervisor uses it, on stub units: what cells cost.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use cofferdam::hal::RegisterWindow;
use cofferdam::internals::QueueAlone;
use cofferdam::interrupt::{CpuSet, InterruptTargets, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit, Options, Statistics};
use cofferdam::{CellConfig, CellId};
use cofferdam_support::cost;
use cofferdam_support::front::{self, UNSAFE_INTERRUPTS};
use cofferdam_support::tables::{dmar, scope};

use crate::job::Job;
use crate::pool::POOL;
use crate::stub::Machine;

/// The cell whose cost is known of another hypervisor: 1 MiB by 4 KiB, 64 MiB and 2 GiB, one to one.
const MEMORY: [(u64, u64); 3] =
    [((20 << 30) + (3 << 20), 1 << 20), ((21 << 30) + (64 << 20), 64 << 20), (24 << 30, 2 << 30)];
/// The root cell that it is carved out of: 16 GiB in leaves of 1 GiB.
const ROOT: (u64, u64) = (16 << 30, 16 << 30);
/// Devices of a cell.
const DEVICES: u8 = 4;
/// What gives a cell its memory and its devices.
const GIFTS: usize = MEMORY.len() + DEVICES as usize;

/// A machine with its driver, switched on.
pub struct Front {
    /// The driver.
    pub iommu: front::Front<Machine>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Front")
    }
}

impl Front {
    /// A machine with so many units, each of which serves four functions of bus 0; the last serves the rest, too.
    pub fn new(units: usize) -> Box<Self> {
        Self::over(Machine::new(units))
    }

    fn over(machine: Machine) -> Box<Self> {
        let table = table(&machine, 0);
        Box::new(Self { iommu: front::enabled_front(machine, &table, Options::default()) })
    }

    /// A cell without anything.
    pub fn cell(&self) -> CellId {
        self.iommu.create_cell(UNSAFE_INTERRUPTS).expect("room for a cell")
    }

    /// Makes edits take effect together.
    pub fn change(&self, edits: &[Edit]) {
        self.iommu.commit(edits).expect("edits that can be made");
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.iommu.statistics()
    }

    /// Makes the cell, and destroys it; `between` is done while it exists.
    fn create_and_destroy(&self, between: impl FnOnce()) {
        let cell = self.cell();
        self.change(&give(cell));
        between();
        self.change(&[Edit::Destroy(cell)]);
    }

    /// Makes the cell of memory and devices of the root cell, destroys it and gives the devices back; the memory goes back
    /// by itself.
    fn carve_and_give_back(&self, root: CellId, between: impl FnOnce()) {
        let cell = self.cell();
        self.change(&give(cell));
        between();
        let mut edits = [Edit::Destroy(cell); 1 + DEVICES as usize];
        for (edit, device) in edits[1..].iter_mut().zip(devices(0)) {
            *edit = assign(device, root);
        }
        self.change(&edits);
    }
}

fn region((start, bytes): (u64, u64)) -> Region {
    Region::new(Iova::new(start), PhysAddr::new(start), bytes, Rights::all()).expect("a region")
}

fn assign(device: SourceId, cell: CellId) -> Edit {
    Edit::Assign(device, cell, DeviceConfig::default())
}

/// Gives a cell what the cell has whose cost is known.
fn give(cell: CellId) -> [Edit; GIFTS] {
    let mut edits = MEMORY.map(|memory| Edit::Map(cell, region(memory))).into_iter();
    let mut devices = devices(0).map(|device| assign(device, cell));
    std::array::from_fn(|_| edits.next().or_else(|| devices.next()).expect("memory or a device"))
}

/// The functions that a unit serves, each of a device of its own.
pub fn devices(unit: u8) -> impl Iterator<Item = SourceId> {
    let first = u16::from(unit) * u16::from(DEVICES);
    // A bus has 32 devices, and bits 7:3 of an id are the device.
    (0..u16::from(DEVICES)).map(move |number| SourceId::from_requester(0, (first + number) << 3))
}

/// What creating a cell and destroying it took, on a machine of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Writes of the queue's tail register.
    pub doorbells: u64,
    /// Wait descriptors.
    pub waits: u64,
    /// Registers read and written.
    pub registers: u64,
    /// Frames in use while the cell exists, beyond those before.
    pub frames: usize,
    /// The most frames in use at any time, beyond those before.
    pub frames_at_most: usize,
    /// Frames in use afterwards, beyond those before.
    pub frames_left: usize,
}

fn cost(front: &Front, work: impl FnOnce(&dyn Fn())) -> Cost {
    let (registers, used) = (front.iommu.hal().register_accesses(), POOL.used());
    POOL.take_peak();
    let existing = Cell::new(0);
    let asked = cost::cost(&front.iommu, || work(&|| existing.set(POOL.used() - used)));
    Cost {
        doorbells: asked.doorbells,
        waits: asked.waits,
        registers: front.iommu.hal().register_accesses() - registers,
        frames: existing.get(),
        frames_at_most: POOL.take_peak() - used,
        frames_left: POOL.used() - used,
    }
}

/// What the cell costs where the memory and the devices are nobody's. Nobody else uses the pool meanwhile.
pub fn cost_of_cell() -> Cost {
    let front = Front::new(1);
    front.create_and_destroy(|| ()); // The table of the devices' bus stays.
    cost(&front, |between| front.create_and_destroy(between))
}

/// What it costs to carve the cell out of the root cell and to give all back. Nobody else uses the pool meanwhile.
pub fn cost_of_carving() -> Cost {
    let (front, root) = with_root();
    cost(&front, |between| front.carve_and_give_back(root, between))
}

/// A machine whose interrupts are remapped, with a device that has one routed, and whose it is.
fn with_route() -> (Box<Front>, CellId, Source) {
    let machine = Machine::new(1);
    let table = table(&machine, INTERRUPT_REMAPPING);
    // It names no IOAPIC, which a finding says.
    let iommu = front::front_with_findings(machine, &table, Options::default(), |_| ()).expect("a unit");
    iommu.remap_interrupts(&[], false).expect("units that remap interrupts");
    iommu.enable().expect("units that can be switched on");
    let interrupts = InterruptTargets { cpus: CpuSet::NONE.with(0, 3), vectors: VectorSet::ALL, flat_ids: 0 };
    let cell = iommu.create_cell(CellConfig { interrupts, ..UNSAFE_INTERRUPTS }).expect("room for a cell");
    let device = devices(0).next().expect("a device");
    let source = Source::Message { device, index: 0 };
    iommu.assign_with(device, cell, DeviceConfig { messages: 1, ..DeviceConfig::default() }).expect("a free device");
    iommu.route(cell, source, Route::to(0, 0x40)).expect("a free entry");
    (Box::new(Front { iommu }), cell, source)
}

/// Has an interrupt that is routed go to another CPU.
fn reroute(front: &Front, cell: CellId, source: Source) {
    front.iommu.route(cell, source, Route::to(1, 0x40)).expect("a CPU of the cell");
}

/// What it costs to have an interrupt go to another CPU.
pub fn cost_of_rerouting() -> Cost {
    let (front, cell, source) = with_route();
    cost(&front, |_| reroute(&front, cell, source))
}

/// A queue of the machine's first unit, by itself.
fn queue(machine: &Machine) -> QueueAlone {
    let window = machine.windows().next().expect("a unit");
    QueueAlone::switch_on(machine, RegisterWindow { base: PhysAddr::new(window), bytes: 4096 }).expect("a queue")
}

/// What a batch of 16 descriptors costs, from the second on: registers read and written.
pub fn registers_of_batch() -> u64 {
    let machine = Machine::new(1);
    let queue = queue(&machine);
    queue.submit_and_wait(&machine).expect("a unit that confirms");
    let before = machine.register_accesses();
    queue.submit_and_wait(&machine).expect("a unit that confirms");
    machine.register_accesses() - before
}

/// A machine with a root cell, which has all memory, the cell's devices and one more.
fn with_root() -> (Box<Front>, CellId) {
    let front = Front::new(1);
    let root = front.iommu.create_root_cell(UNSAFE_INTERRUPTS).expect("room for a cell");
    let devices = devices(0).chain(devices(1).take(1)).map(|device| assign(device, root));
    front.change(&[Edit::Map(root, region(ROOT))].into_iter().chain(devices).collect::<Vec<_>>());
    (front, root)
}

/// Cells that are edited by several threads at a time. Each has a device behind every unit.
#[derive(Debug)]
pub struct Edits {
    front: Box<Front>,
    cells: [CellId; DEVICES as usize],
}

impl Edits {
    /// A machine with so many units, and a cell for each of up to four threads.
    pub fn new(units: usize) -> Self {
        Self::over(Machine::new(units))
    }

    /// The same with units that take so long to confirm something.
    pub fn with_latency(units: usize, latency: Duration) -> Self {
        Self::over(Machine::with_latency(units, latency))
    }

    fn over(machine: Machine) -> Self {
        let units = machine.windows().count();
        let front = Front::over(machine);
        let cells = std::array::from_fn(|thread| {
            let cell = front.cell();
            for unit in 0..units {
                let device = devices(unit as u8).nth(thread).expect("a device for each thread");
                front.iommu.assign(device, cell).expect("a free device");
            }
            cell
        });
        Self { front, cells }
    }

    /// How often the doorbell of a unit was rung.
    pub fn doorbells(&self) -> u64 {
        self.front.statistics().doorbells
    }

    /// Has each thread map 2 MiB, which all share, in its cell and unmap them, so many times. Nanoseconds for one time, of all threads
    /// together: half as many for two threads that do not hinder each other.
    pub fn run(&self, threads: usize, rounds: u32) -> f64 {
        let memory = region((1 << 30, 2 << 20));
        self.time(
            threads,
            rounds,
            |_| (),
            |cell, _| {
                self.front.iommu.map_shared(cell, memory).expect("memory that can be mapped");
                self.front.iommu.unmap(cell, memory.input).expect("memory of the cell");
            },
        )
    }

    /// Has each thread unmap a page of its cell, so many times: a change that waits for the units, and does little else.
    /// Nanoseconds, as for [`run`](Self::run).
    pub fn run_waits(&self, threads: usize, rounds: u32) -> f64 {
        let page = |round: u32| (1 << 30) + u64::from(round) * 4096;
        // So far off an alignment to 2 MiB that only pages of 4 KiB fit.
        let (start, bytes) = (Iova::new(page(0)), page(rounds) - page(0));
        let memory = Region::new(start, PhysAddr::new(page(1)), bytes, Rights::all()).expect("a region");
        let map = |cell| {
            self.front.iommu.map_shared(cell, memory).expect("memory that can be mapped");
        };
        self.time(threads, rounds, map, |cell, round| {
            let range = IovaRange::new(Iova::new(page(round)), 4096).expect("a page");
            self.front.iommu.unmap(cell, range).expect("memory of the cell");
        })
    }

    /// How long a piece of work takes, done by each thread with its cell so many times, after something else once.
    fn time(
        &self,
        threads: usize,
        rounds: u32,
        once: impl Fn(CellId) + Sync,
        work: impl Fn(CellId, u32) + Sync,
    ) -> f64 {
        let (ready, start) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
        let began = thread::scope(|scope| {
            for &cell in &self.cells[..threads] {
                let (ready, start, once, work) = (&ready, &start, &once, &work);
                scope.spawn(move || {
                    once(cell);
                    ready.wait();
                    start.wait();
                    (0..rounds).for_each(|round| work(cell, round));
                });
            }
            ready.wait();
            let began = Instant::now();
            start.wait();
            began
        });
        began.elapsed().as_nanos() as f64 / (f64::from(rounds) * threads as f64)
    }
}

/// Something to do with a machine, again and again.
struct Deed<F>(F);

impl<F: FnMut()> Job for Deed<F> {
    fn run(&mut self) {
        (self.0)();
    }
}

/// Makes a machine ready for a piece of work; `None` if there is no such work.
pub fn job(work: &str) -> Option<Box<dyn Job>> {
    Some(match work {
        "cell" => {
            let front = Front::new(1);
            front.create_and_destroy(|| ());
            front.iommu.hal().set_hardware_apart();
            Box::new(Deed(move || front.create_and_destroy(|| ())))
        }
        "batch" => {
            let machine = Machine::new(1);
            let queue = queue(&machine);
            queue.submit_and_wait(&machine).expect("a unit that confirms");
            machine.set_hardware_apart();
            Box::new(Deed(move || queue.submit_and_wait(&machine).expect("a unit that confirms")))
        }
        "carve" => {
            let (front, root) = with_root();
            front.iommu.hal().set_hardware_apart();
            Box::new(Deed(move || front.carve_and_give_back(root, || ())))
        }
        "route" => {
            let (front, cell, source) = with_route();
            front.iommu.hal().set_hardware_apart();
            Box::new(Deed(move || reroute(&front, cell, source)))
        }
        _ => return None,
    })
}

/// The flag of a table whose units may remap interrupts (VT-d 5.10, section 8.1).
const INTERRUPT_REMAPPING: u8 = 1;

/// The firmware's table of a machine.
fn table(machine: &Machine, flags: u8) -> Vec<u8> {
    let last = machine.windows().count() - 1;
    // Host address width 48.
    let empty = dmar().set(36, 47).set(37, flags);
    let units = machine.windows().enumerate().fold(empty, |table, (index, window)| {
        let own = devices(index as u8).filter(|_| index != last);
        let scopes: Vec<_> = own.map(|device| scope(1, 0, device.bus(), &[(device.device(), 0)])).collect();
        table.drhd(u8::from(index == last), 0, window, &scopes)
    });
    units.table()
}
