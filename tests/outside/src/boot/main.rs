//! The same client, booted: a small hypervisor with a heap, which sees all memory at an offset and whose frames free themselves.
//! It makes each call of the front on a painted stack, and tells how many bytes were written to.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../calls.rs"]
mod calls;
mod platform;

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use cofferdam::addr::{Iova, PhysAddr, Region, Requester, Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::{CpuSet, FaultEvent, InterruptTargets, Posting, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, Others};
use cofferdam::limits::{Limits, Memory};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Pc, entry, println, stack_depth};
use cofferdam_tests_qemu::{Edu, Report, Words, dmar};

use calls::Front;

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
const LIMITS: Limits = Limits::DEFAULT;

/// The front, which is made where it stays, and its memory: all zero until then.
static FRONT: Place = Place(UnsafeCell::new(MaybeUninit::zeroed()));
static MEMORY: Memory<{ LIMITS.words() }> = Memory::new();

struct Place(UnsafeCell<MaybeUninit<Front>>);

// SAFETY: `run` alone uses it, once.
unsafe impl Sync for Place {}

/// How often a call has reported something.
static REPORTED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count<T>(_: &T) {
    REPORTED.fetch_add(1, Ordering::Relaxed);
}

/// Makes a call, whose result is written to `result` if that is named.
macro_rules! painted {
    ($name:ident($($arg:expr),* $(,)?) -> $result:expr) => {{
        let result = $result;
        let ((), depth) = stack_depth(|| calls::$name($($arg,)* result));
        println!("stack: {} {depth}", stringify!($name));
    }};
    ($name:ident($($arg:expr),* $(,)?)) => {{
        let mut result = MaybeUninit::uninit();
        painted!($name($($arg),*) -> &mut result);
        // SAFETY: each call writes its result.
        unsafe { result.assume_init() }
    }};
}

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "outside");
    calls::keep();
    let result = platform::begin(pc).and_then(|()| all(pc, &report));
    report.finish(result)
}

fn words(text: &str) -> Words {
    Words::new(format_args!("{text}"))
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let table = dmar(pc)?;
    let device = Edu::all(pc).next().ok_or_else(|| words("no edu device"))?.source();
    let block = pc.allocate_block(4 * LARGE, LARGE).ok_or_else(|| words("too little memory"))?;
    platform_alone(report)?;
    let lent = platform::lent();
    // SAFETY: nobody else has the place.
    let place = unsafe { &mut *FRONT.0.get() };
    painted!(new(&Options::DEFAULT) -> &mut *place);
    // SAFETY: the call has written it.
    let front: &'static Front = unsafe { place.assume_init_ref() };
    bring_up(front, table, device)?;
    carve(front, &block, device, report)?;
    end(front, device)?;
    report.expect(platform::lent() == lent, "all frames are free again", format_args!("{}", platform::lent()));
    let reported = REPORTED.load(Ordering::Relaxed);
    report.expect(reported > 10, "calls report what there is", format_args!("{reported} times"));
    Ok(())
}

/// What the hypervisor's own functions take, which is in what calls take.
fn platform_alone(report: &Report) -> Result<(), Words> {
    let hal = platform::platform();
    let (frame, allocate) = stack_depth(|| hal.allocate(0));
    let frame = frame.ok_or_else(|| words("no frame"))?;
    let (_, word_at) = stack_depth(|| hal.word_at(frame));
    // SAFETY: it was allocated so, and nobody has it.
    let ((), free) = stack_depth(|| unsafe { hal.free(frame, 0) });
    let (_, config_read) = stack_depth(|| hal.config_read(SourceId::from_requester(0, 0), 0));
    let (_, now_ns) = stack_depth(|| hal.now_ns());
    let all = [allocate, word_at, free, config_read, now_ns];
    report.expect(
        all.iter().all(|depth| *depth <= 256),
        "the platform takes at most 256 bytes",
        format_args!("{all:?}"),
    );
    Ok(())
}

/// From the firmware's table to units that are on.
fn bring_up(front: &'static Front, table: &'static [u8], device: SourceId) -> Result<(), Words> {
    let memory = MEMORY.take().ok_or_else(|| words("the memory is taken"))?;
    let memory: calls::Memory = (memory.as_mut_ptr(), memory.len());
    let _ = painted!(words(&LIMITS));
    painted!(probe_acpi(front, &memory, &LIMITS, &table, count))?;
    let _ = painted!(topology(front));
    let _ = painted!(hal(front));
    painted!(units(front, count));
    let _ = painted!(statistics(front));
    let _ = painted!(code(&Error::NotEnabled));
    let _ = painted!(detail(&Error::NotEnabled));
    let _ = painted!(others(&Others::default(), count));
    let _ = painted!(reserved_at(front, &device, &Iova::new(0)));
    painted!(found_interrupts(front, count))?;
    painted!(remap_interrupts(front, &&[0_u8][..], false))?;
    painted!(prepare(front))?;
    let unblocked = painted!(enable(front))?;
    let _ = painted!(is_nothing(&unblocked));
    let _ = painted!(unblocked(front, count));
    Ok(())
}

/// The root cell, and a cell with a device of its own; and all that can be asked of them.
fn carve(front: &'static Front, block: &Block, device: SourceId, report: &Report) -> Result<(), Words> {
    let region = |input: u64, bytes| {
        let output = PhysAddr::new_truncate(block.base().as_u64() + input % (4 * LARGE));
        Region::new(Iova::new(input), output, bytes, Rights::all()).ok_or_else(|| words("no region"))
    };
    let interrupts = InterruptTargets { cpus: CpuSet::NONE.with(0, 0), vectors: VectorSet::ALL, flat_ids: 0 };
    let config = CellConfig { interrupts, ..CellConfig::DEFAULT };
    let one_to_one = Region::new(Iova::new(block.base().as_u64()), block.base(), 4 * LARGE, Rights::all());
    let one_to_one = one_to_one.ok_or_else(|| words("no region"))?;
    let (large, more, shared) = (region(0, 2 * LARGE)?, region(3 * LARGE, LARGE)?, region(PAGE, PAGE)?);
    let (hole, page, pages) = (shared.input, region(16 * PAGE, PAGE)?.input, region(32 * PAGE, 2 * PAGE)?.input);

    let root = painted!(create_root_cell(front, &config))?;
    painted!(map(front, &root, &one_to_one))?;
    painted!(assign(front, &device, &root))?;
    let cell = painted!(create_cell(front, &config))?;
    let with = DeviceConfig { messages: 1, ..DeviceConfig::default() };
    let edits = [Edit::Map(cell, large), Edit::Assign(device, cell, with), Edit::Unmap(cell, hole)];
    let committed = painted!(commit(front, &&edits[..]))?;
    let _ = painted!(coherency_change(front, &committed, &cell))?;
    let _ = painted!(changes_coherency(&committed));
    painted!(commit_reporting(front, &&[Edit::Map(cell, more)][..], count))?;
    painted!(protect(front, &cell, &page, &Rights::READ))?;
    painted!(map_shared(front, &cell, &shared))?;
    painted!(unmap(front, &cell, &page))?;
    painted!(unmap_any(front, &cell, &pages))?;
    route(front, cell, device)?;

    let _ = painted!(coherency(front, &cell))?;
    painted!(input_ranges(front, &cell, count))?;
    painted!(windows(front, &device, count))?;
    let info = painted!(device_info(front, &device))?;
    let _ = painted!(faults(front, count));
    painted!(faults_by_device(front, count));
    painted!(set_fault_event(front, &Some(FaultEvent::to(0, 0x50))))?;
    painted!(mute(front, &device, true))?;
    let audit = painted!(audit(front, count))?;
    report.expect(audit.differences == 0, "an audit finds nothing", format_args!("{audit:?}"));
    let _ = painted!(shares(front, &cell))?;
    let _ = painted!(allows_unsafe_interrupts(front, &cell))?;
    painted!(reach(front, count))?;
    painted!(regions(front, &cell, count))?;
    painted!(assigned(front, count))?;
    painted!(senders(front, &device, count))?;
    painted!(withheld(front, count))?;
    painted!(coherency_changes(front, count))?;
    painted!(shared_memory(front, count))?;
    painted!(isolate(front))?;
    // It is in service, and refuses.
    let _ = painted!(forget_unit(front, &info.unit));
    painted!(release(front, &device))?;
    painted!(assign_with(front, &device, &cell, &with))?;
    painted!(destroy_cell(front, &cell))?;
    Ok(())
}

/// The interrupts of a device, and a pin. The unit posts none, and the device has no MSI-X: these refuse.
fn route(front: &'static Front, cell: CellId, device: SourceId) -> Result<(), Words> {
    let (message, pin) = (Source::Message { device, index: 0 }, Source::Pin { io_apic: 0, pin: 4 });
    painted!(route(front, &cell, &message, &Route::to(0, 0x40)))?;
    painted!(route(front, &cell, &pin, &Route::to(0, 0x41)))?;
    let _ = painted!(message(front, &message))?;
    let _ = painted!(redirection(front, 0, 4))?;
    painted!(program_msi(front, &device))?;
    let _ = painted!(msi_x_table(front, &device));
    let _ = painted!(program_msi_x(front, &device, NonNull::dangling()));
    painted!(routes(front, count))?;
    // SAFETY: the unit can post nothing, so nothing is written there.
    let posting = unsafe { Posting::new(PhysAddr::new(0x1000), 0x42) };
    let _ = painted!(post(front, &cell, &message, &posting));
    painted!(unroute(front, &cell, &pin))?;
    Ok(())
}

/// The machine sleeps and wakes, is given back, and taken again.
fn end(front: &'static Front, device: SourceId) -> Result<(), Words> {
    painted!(suspend(front))?;
    painted!(resume(front, count))?;
    painted!(hand_back(front))?;
    painted!(add_alias(front, &device, &Requester::new(device.requester() ^ 1)))?;
    painted!(enable(front))?;
    painted!(disable(front))?;
    Ok(())
}
