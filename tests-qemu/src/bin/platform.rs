//! The platform itself: what all other scenarios stand on.
//!
//! With `fault`, `overflow` or `panic` on the command line it crashes in that way instead, to show how that is reported.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::fmt::{self, Write};
use core::hint::black_box;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::{Hal, Window};
use cofferdam_pc::{Bar, Block, Pc, Serial, entry};
use cofferdam_report::{EXIT_FAILED, EXIT_OK, Record};
use heapless::{String, Vec};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Size of a block as a cell would have it.
const CELL: u64 = 64 * MIB;
/// QEMU's teaching device: vendor 1234h, device 11E8h (QEMU, docs/specs/edu.rst).
const EDU: u32 = 0x11e8_1234;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    match pc.command_line() {
        "fault" => fault(pc),
        "overflow" => _ = overflow(0),
        "panic" => indexes_past_the_end(),
        _ => {}
    }
    let (memory_mib, tsc_mhz) = (pc.memory_bytes() / MIB, pc.tsc_hz() / 1_000_000);
    let mut report = Report { failed: false };
    report.tell(Record::Started { scenario: "platform", memory_mib, tsc_mhz });
    clock(pc, &mut report);
    frames(pc, &mut report);
    blocks(pc, &mut report);
    all_memory(pc, &mut report);
    tables(pc, &mut report);
    functions(pc, &mut report);
    edu(pc, &mut report);
    out_of_reach(pc, &mut report);
    report.tell(Record::Finished);
    if report.failed { EXIT_FAILED } else { EXIT_OK }
}

struct Report {
    failed: bool,
}

impl Report {
    fn tell(&mut self, record: Record<&str>) {
        self.failed |= record.write(&mut Serial).is_err();
    }

    fn expect(&mut self, what: &str, ok: bool, seen: fmt::Arguments<'_>) {
        let mut text = String::<256>::new();
        // What does not fit is cut off.
        let _ = text.write_fmt(seen);
        self.failed |= !ok;
        self.tell(Record::Expect { what, ok, seen: &text });
    }
}

/// Time goes on, and as fast as a timer says that the clock was not made from (IA-PC HPET Specification 1.0a, 2.3).
fn clock(pc: &Pc, report: &mut Report) {
    let start = pc.now_ns();
    let mut before = start;
    let mut is_forward = true;
    for _ in 0..1000 {
        let now = pc.now_ns();
        is_forward &= before <= now;
        before = now;
    }
    report.expect("the clock goes forward", is_forward && start < before, format_args!("{} ns", before - start));

    let base = pc.table(*b"HPET").ok().flatten().and_then(|table| table.get(44..52)?.first_chunk());
    let Some(base) = base.and_then(|base| PhysAddr::try_new(u64::from_le_bytes(*base)).ok()) else {
        return report.expect("the clock agrees with the HPET", false, format_args!("no HPET"));
    };
    let hpet = Window { base, bytes: PAGE as u32 };
    // SAFETY: the firmware says that the timer is there: capabilities at 0, configuration at 10h, counter at F0h.
    let period_fs = unsafe { pc.read32(hpet, 4) };
    // SAFETY: as above; bit 0 lets it count, which nobody else minds.
    unsafe { pc.write32(hpet, 0x10, 1) };
    let sample = || {
        // Whoever runs the machine may stop it between two looks, so the closest of some counts.
        let look = || {
            let before = pc.now_ns();
            // SAFETY: as above.
            let hpet = unsafe { pc.read32(hpet, 0xf0) };
            (pc.now_ns() - before, before, hpet)
        };
        (0..20).map(|_| look()).min().unwrap_or_default()
    };
    let (_, start, first) = sample();
    pc.delay_ns(20_000_000);
    let (_, end, last) = sample();
    let (clock, hpet) = (end - start, u64::from(last.wrapping_sub(first)) * u64::from(period_fs) / 1_000_000);
    report.expect(
        "the clock agrees with the HPET within 2 %",
        clock.abs_diff(hpet) < hpet / 50,
        format_args!("{clock} ns, {hpet} ns"),
    );
}

fn overlap(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.1 && other.0 < one.1
}

/// What the driver gets for its tables.
fn frames(pc: &Pc, report: &mut Report) {
    let free = pc.free_bytes();
    for round in ["fresh frames", "used frames"] {
        let mut taken = Vec::<(u64, u64), 64>::new();
        let (mut are_zero, mut are_good) = (true, true);
        for order in (0..=5).cycle().take(taken.capacity()) {
            let Some(frames) = pc.allocate(order) else { break };
            let span = (frames.as_u64(), frames.as_u64() + (PAGE << order));
            are_good &= frames.is_aligned(PAGE << order) && !taken.iter().any(|&other| overlap(span, other));
            // SAFETY: the frames were allocated just now.
            let first = unsafe { pc.virt(frames) };
            for index in 0..(512 << order) {
                // SAFETY: the word lies in the frames.
                let word = unsafe { first.add(index) };
                // SAFETY: as above.
                are_zero &= unsafe { pc.load(word) } == 0;
                // SAFETY: as above.
                unsafe { pc.store(word, u64::MAX) };
            }
            are_good &= taken.push(span).is_ok();
        }
        report.expect(round, are_zero && are_good && taken.is_full(), format_args!("{} of 64, all zero", taken.len()));
        for (start, end) in taken {
            // SAFETY: they were allocated with that order, and nobody uses them any more.
            unsafe { pc.free(PhysAddr::new_truncate(start), ((end - start) / PAGE).trailing_zeros() as u8) };
        }
    }
    report.expect("freed frames are free", pc.free_bytes() == free, format_args!("{} of {free}", pc.free_bytes()));
    report.expect("no frames of any order too large", pc.allocate(60).is_none(), format_args!(""));
}

/// What cells get.
fn blocks(pc: &Pc, report: &mut Report) {
    let free = pc.free_bytes();
    let mut blocks = Vec::<Block, 128>::new();
    let mut are_good = true;
    while let Some(block) = (!blocks.is_full()).then(|| pc.allocate_block(CELL, CELL)).flatten() {
        are_good &= block.bytes() == CELL && block.base().is_aligned(CELL);
        for offset in [0, CELL / 2, CELL - 8] {
            block.write(offset, block.base().as_u64() + offset);
        }
        are_good &= blocks.push(block).is_ok();
    }
    for block in &blocks {
        are_good &= [0, CELL / 2, CELL - 8].iter().all(|&offset| block.read(offset) == block.base().as_u64() + offset);
    }
    // The image, the first MiB and the end of memory each break a piece of the grid.
    let enough = (pc.memory_bytes() / CELL).saturating_sub(2);
    let count = blocks.len() as u64;
    report.expect("blocks of 64 MiB", are_good && enough <= count, format_args!("{count}, at least {enough}"));
    let highest = blocks.iter().map(|block| block.base().as_u64()).max().unwrap_or(0);
    report.expect(
        "the highest memory is among them",
        enough == 0 || pc.usable_top().as_u64() < highest + 2 * CELL,
        format_args!("{highest:#x}, memory ends at {:#x}", pc.usable_top().as_u64()),
    );
    for block in blocks {
        // SAFETY: no device was told of it.
        unsafe { pc.free_block(block) };
    }
    report.expect("freed blocks are free", pc.free_bytes() == free, format_args!("{} of {free}", pc.free_bytes()));
}

/// Nothing that somebody needs is among the memory that is handed out.
fn all_memory(pc: &Pc, report: &mut Report) {
    let span = |bytes: &[u8]| (bytes.as_ptr().addr() as u64, (bytes.as_ptr().addr() + bytes.len()) as u64);
    let code = run as *const () as u64;
    let stack = (&raw const report).addr() as u64;
    let dmar = pc.table(*b"DMAR").ok().flatten().unwrap_or_default();
    let needed = [
        ("the first MiB", (0, MIB)),
        ("the code", (code, code + 1)),
        ("the stack", (stack, stack + 1)),
        ("the command line", span(pc.command_line().as_bytes())),
        ("the DMAR", span(dmar)),
    ];
    let (free, mut given) = (pc.free_bytes(), 0);
    let mut blocks = Vec::<Block, 512>::new();
    let mut hit = None;
    for order in (0..28).rev() {
        while let Some(block) = (!blocks.is_full()).then(|| pc.allocate_block(PAGE << order, PAGE)).flatten() {
            let taken = (block.base().as_u64(), block.base().as_u64() + block.bytes());
            hit = hit.or(needed.iter().find(|(_, need)| overlap(taken, *need)));
            given += block.bytes();
            let _ = blocks.push(block);
        }
    }
    let seen = hit.map_or("none was hit", |(what, _)| what);
    report.expect("what is needed is never handed out", hit.is_none(), format_args!("{seen}"));
    report.expect("all free memory is handed out", given == free, format_args!("{given} of {free} bytes"));
    report.expect("then there is no frame", pc.allocate(0).is_none(), format_args!("{} bytes", pc.free_bytes()));
    for block in blocks {
        // SAFETY: no device was told of it.
        unsafe { pc.free_block(block) };
    }
}

fn tables(pc: &Pc, report: &mut Report) {
    let dmar = pc.table(*b"DMAR");
    let ok = matches!(dmar, Ok(Some(table)) if table.starts_with(b"DMAR") && table.len() > 48);
    let bytes = dmar.map(|table| table.map(<[u8]>::len));
    report.expect("the DMAR is found", ok, format_args!("{bytes:?} bytes"));
    let none = pc.table(*b"NONE").map(|table| table.is_some());
    report.expect("no table is made up", none == Ok(false), format_args!("{none:?}"));
}

fn functions(pc: &Pc, report: &mut Report) {
    let start = pc.now_ns();
    let mut functions = Vec::<SourceId, 128>::new();
    functions.extend(pc.functions().take(128));
    let ms = (pc.now_ns() - start) / 1_000_000;
    let is_ordered = functions.is_sorted_by(|one, other| one < other);
    let has_edu = functions.iter().any(|&function| pc.config_read(function, 0) == EDU);
    let count = functions.len();
    report.expect("functions are listed once each", is_ordered && has_edu, format_args!("{count} in {ms} ms"));

    let mut bars = Vec::<Bar, 128>::new();
    let mut wrong = None;
    for &function in &functions {
        for bar in (0..6).filter_map(|index| pc.bar(function, index)) {
            let span = |bar: &Bar| (bar.base.as_u64(), bar.base.as_u64() + bar.bytes);
            let is_alone = !bars.iter().any(|other| overlap(span(&bar), span(other)));
            let is_good = bar.bytes.is_power_of_two() && bar.base.is_aligned(bar.bytes);
            // SAFETY: only read, and only BARs; no register of QEMU's devices minds being read.
            let answers = unsafe { pc.registers(bar) }.is_some_and(|registers| {
                black_box(registers.read32(0));
                registers.bytes() == bar.bytes
            });
            if !(is_alone && is_good && answers) || bars.push(bar).is_err() {
                wrong = wrong.or(Some(function));
            }
        }
    }
    let highest = bars.iter().map(|bar| bar.base.as_u64()).max().unwrap_or(0);
    report.expect(
        "BARs are aligned, apart, and can be read",
        wrong.is_none() && !bars.is_empty(),
        format_args!("{} up to {highest:#x}, wrong: {wrong:?}", bars.len()),
    );
}

/// A device whose registers are known is driven.
fn edu(pc: &Pc, report: &mut Report) {
    let Some(edu) = pc.functions().find(|&function| pc.config_read(function, 0) == EDU) else {
        return report.expect("there is an edu", false, format_args!(""));
    };
    let before = pc.config_read(edu, 4) & 0xffff;
    pc.enable(edu);
    let on = pc.config_read(edu, 4) & 0xffff;
    pc.disable_bus_master(edu);
    let off = pc.config_read(edu, 4) & 0xffff;
    report.expect(
        "a function is enabled and kept from memory",
        on & 6 == 6 && off & 6 == 2,
        format_args!("command {before:#x}, then {on:#x}, then {off:#x}"),
    );
    // Interrupt Line, which only software reads (PCI Local Bus Specification 3.0, section 6.2.4).
    let line = pc.config_read(edu, 0x3c);
    // SAFETY: hardware does nothing with it.
    unsafe { pc.config_write(edu, 0x3c, line ^ 0xff) };
    let changed = pc.config_read(edu, 0x3c);
    // SAFETY: as above.
    unsafe { pc.config_write(edu, 0x3c, line) };
    report.expect("a configuration write arrives", changed == line ^ 0xff, format_args!("{line:#x}, {changed:#x}"));

    let bar = pc.bar(edu, 0);
    // SAFETY: bus mastering is off.
    let Some(registers) = bar.and_then(|bar| unsafe { pc.registers(bar) }) else {
        return report.expect("edu has registers", false, format_args!("{bar:?}"));
    };
    // Identification at 0; what is written at 4 reads inverted.
    registers.write32(4, 0x1234_5678);
    let (id, inverted) = (registers.read32(0), registers.read32(4));
    report.expect(
        "registers are read and written",
        registers.bytes() == MIB && id == 0x0100_00ed && inverted == !0x1234_5678,
        format_args!("{} bytes, {id:#x}, {inverted:#x}", registers.bytes()),
    );
}

/// What firmware or a caller gets wrong reads as absent, and is no crash.
fn out_of_reach(pc: &Pc, report: &mut Report) {
    let absent = SourceId::new(0, 0xff, 0x1f, 7).unwrap_or(SourceId::from_requester(0, 0xffff));
    let far = SourceId::from_requester(0xffff, 0);
    let host = SourceId::from_requester(0, 0);
    let reads =
        [(absent, 0), (far, 0), (host, 2), (host, 4096)].map(|(function, offset)| pc.config_read(function, offset));
    report.expect("absent configuration space reads all ones", reads == [u32::MAX; 4], format_args!("{reads:x?}"));

    // Memory, the guard page below the stack, and the last page of all.
    let bases = [pc.usable_top().as_u64() - PAGE, 2 * MIB, (1 << 52) - PAGE];
    let reads = bases.map(|base| {
        let window = Window { base: PhysAddr::new_truncate(base), bytes: PAGE as u32 };
        // SAFETY: no unit is there, and the platform has to know.
        unsafe { pc.read32(window, 0) }
    });
    report.expect("no registers where memory is, or nothing", reads == [u32::MAX; 3], format_args!("{reads:x?}"));
}

fn fault(pc: &Pc) {
    let nowhere = core::ptr::with_exposed_provenance::<u64>(pc.usable_top().as_u64() as usize + (1 << 40));
    // SAFETY: nothing is mapped there, so the CPU refuses the read before it happens.
    black_box(unsafe { nowhere.read_volatile() });
}

fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == black_box(u64::MAX) { 0 } else { overflow(depth + 1) + frame.iter().sum::<u64>() }
}

#[allow(clippy::indexing_slicing, reason = "the panic is wanted")]
fn indexes_past_the_end() {
    let index = black_box(8);
    black_box([0u8; 8][index]);
}
