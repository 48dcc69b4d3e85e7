//! The platform itself: what all other scenarios stand on.
//!
//! With `serial-pci` or `serial-elsewhere`, firmware names another serial port than COM1: one of a PCI function, or one that does not answer.
//! With `cpus`, the other CPUs are started as well.
//! With `fault`, `overflow` or `panic` on the command line it crashes in that way instead, to show how that is reported.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam_pc::{Bar, Block, Dmar, Hpet, Ivrs, Pc, entry};
use cofferdam_tests_qemu::{Report, Words, mapped};
use heapless::Vec;

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
    let report = Report::start(pc, "platform");
    serial(pc, &report);
    clock(pc, &report);
    frames(pc, &report);
    blocks(pc, &report);
    all_memory(pc, &report);
    tables(pc, &report);
    functions(pc, &report);
    edu(pc, &report);
    out_of_reach(pc, &report);
    if pc.command_line() == "cpus" {
        cpus(pc, &report);
    }
    report.finish(Ok(()))
}

/// What is printed goes to the port that firmware names, if that answers.
fn serial(pc: &Pc, report: &Report) {
    let expected = match pc.command_line() {
        "serial-pci" => "I/O port 0xc060 of 0000:00:10.0, 115200 baud, 8N1; the SPCR table names it",
        "serial-elsewhere" => {
            "COM1, I/O port 0x3f8, 115200 baud, 8N1; the SPCR table names I/O port 0x2f8, where nothing answers"
        }
        _ => "COM1, I/O port 0x3f8, 115200 baud, 8N1; there is no SPCR table",
    };
    let port = Words::new(format_args!("{}", pc.serial_port()));
    report.expect(
        port.as_str() == expected,
        "the serial port is the one that firmware names",
        format_args!("{}", port.as_str()),
    );
}

/// Each CPU runs once, as often as it is asked for, and has the same time as the first.
fn cpus(pc: &'static Pc, report: &Report) {
    let mut silent = 0;
    let cpus = match pc.start_cpus_that_answer(pc.x2apic_is_on(), &mut |_| silent += 1) {
        Ok(cpus) => cpus,
        Err(error) => {
            report.expect(false, "the CPUs start", format_args!("{error}"));
            return;
        }
    };
    let (ids, listed): (Vec<u32, 8>, Vec<u32, 8>) = (cpus.ids().collect(), pc.listed_cpus().collect());
    let is_each = ids == listed && silent == 0;
    report.expect(is_each, "each CPU that firmware lists runs", format_args!("{ids:?} of {listed:?}"));
    for id in ids.into_iter().skip(1) {
        let skew = cpus.tsc_skew(id);
        let is_same = skew.is_some_and(|skew| !skew.is_sure());
        report.expect(is_same, "a CPU has the same time as the first", format_args!("CPU {id}: {skew:?}"));
    }
    let nobody = cpus.tsc_skew(200);
    report.expect(nobody.is_none(), "a CPU that is not there does not answer", format_args!("{nobody:?}"));
}

/// Time goes on, and as fast as a timer says that the clock was not made from (IA-PC HPET Specification 1.0a, 2.3).
fn clock(pc: &Pc, report: &Report) {
    let start = pc.now_ns();
    let mut before = start;
    let mut is_forward = true;
    for _ in 0..1000 {
        let now = pc.now_ns();
        is_forward &= before <= now;
        before = now;
    }
    report.expect(is_forward && start < before, "the clock goes forward", format_args!("{} ns", before - start));

    let base = pc.table::<Hpet>().ok().flatten().and_then(|table| table.get(44..52)?.first_chunk());
    let Some(base) = base.and_then(|base| PhysAddr::try_new(u64::from_le_bytes(*base)).ok()) else {
        report.expect(true, "there is no HPET to compare the clock with", format_args!("no HPET"));
        return;
    };
    let Some(hpet) = mapped(pc, RegisterWindow { base, bytes: PAGE as u32 }) else {
        report.expect(false, "the HPET is mapped", format_args!("{base:?}"));
        return;
    };
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
        clock.abs_diff(hpet) < hpet / 50,
        "the clock agrees with the HPET within 2 %",
        format_args!("{clock} ns, {hpet} ns"),
    );
}

fn overlap(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.1 && other.0 < one.1
}

/// What the driver gets for its tables.
fn frames(pc: &Pc, report: &Report) {
    let free = pc.free_own_bytes();
    for round in ["fresh frames", "used frames"] {
        let mut taken = Vec::<(u64, u64), 64>::new();
        let (mut are_zero, mut are_good) = (true, true);
        for order in (0..=5).cycle().take(taken.capacity()) {
            let Some(frames) = pc.allocate(order) else { break };
            let span = (frames.as_u64(), frames.as_u64() + (PAGE << order));
            let memory = PhysRange::new(frames, PAGE << order);
            are_good &= memory.and_then(|memory| pc.own_memory(memory)) == memory;
            are_good &= frames.is_aligned(PAGE << order) && !taken.iter().any(|&other| overlap(span, other));
            // SAFETY: the frames were allocated just now.
            let first = unsafe { pc.phys_to_virt(frames) };
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
        report.expect(are_zero && are_good && taken.is_full(), round, format_args!("{} of 64, all zero", taken.len()));
        for (start, end) in taken {
            // SAFETY: they were allocated with that order, and nobody uses them any more.
            unsafe { pc.free(PhysAddr::new_truncate(start), ((end - start) / PAGE).trailing_zeros() as u8) };
        }
    }
    let left = pc.free_own_bytes();
    report.expect(left == free, "freed frames are free", format_args!("{left} of {free}"));
    report.expect(pc.allocate(60).is_none(), "no frames of any order too large", format_args!(""));
}

/// What cells get.
fn blocks(pc: &Pc, report: &Report) {
    let free = pc.free_bytes();
    let mut blocks = Vec::<Block, 128>::new();
    let mut are_good = true;
    while let Some(block) = (!blocks.is_full()).then(|| pc.allocate_block(CELL, CELL)).flatten() {
        are_good &= PhysRange::new(block.base(), CELL).is_some_and(|memory| pc.own_memory(memory).is_none());
        are_good &= block.bytes() == CELL && block.base().is_aligned(CELL);
        for offset in [0, CELL / 2, CELL - 8] {
            block.write(offset, block.base().as_u64() + offset);
        }
        are_good &= blocks.push(block).is_ok();
    }
    for block in &blocks {
        are_good &= [0, CELL / 2, CELL - 8].iter().all(|&offset| block.read(offset) == block.base().as_u64() + offset);
    }
    // The image, the first MiB, the driver's frames and the end of memory each break a piece of the grid.
    let enough = (pc.memory_bytes() / CELL).saturating_sub(3).min(blocks.capacity() as u64);
    let count = blocks.len() as u64;
    report.expect(are_good && enough <= count, "blocks of 64 MiB", format_args!("{count}, at least {enough}"));
    let highest = blocks.iter().map(|block| block.base().as_u64()).max().unwrap_or(0);
    report.expect(
        enough == 0 || blocks.is_full() || pc.usable_top().as_u64() < highest + 3 * CELL,
        "the highest memory is among them",
        format_args!("{highest:#x}, memory ends at {:#x}", pc.usable_top().as_u64()),
    );
    for block in blocks {
        // SAFETY: no device knows its address.
        unsafe { pc.free_block(block) };
    }
    report.expect(pc.free_bytes() == free, "freed blocks are free", format_args!("{} of {free}", pc.free_bytes()));
}

/// Nothing that somebody needs is among the memory that is handed out.
fn all_memory(pc: &Pc, report: &Report) {
    let span = |bytes: &[u8]| (bytes.as_ptr().addr() as u64, (bytes.as_ptr().addr() + bytes.len()) as u64);
    let code = run as *const () as u64;
    let stack = (&raw const report).addr() as u64;
    let dmar = pc.table::<Dmar>().ok().flatten().unwrap_or_default();
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
    report.expect(hit.is_none(), "what is needed is never handed out", format_args!("{seen}"));
    report.expect(given == free, "all free memory is handed out", format_args!("{given} of {free} bytes"));
    let none = pc.allocate_block(PAGE, PAGE).is_none();
    report.expect(none, "then there is no block", format_args!("{} bytes", pc.free_bytes()));
    let frame = pc.allocate(0);
    report.expect(frame.is_some(), "the driver still has frames of its own", format_args!("{frame:x?}"));
    if let Some(frame) = frame {
        // SAFETY: it was allocated just now.
        unsafe { pc.free(frame, 0) };
    }
    for block in blocks {
        // SAFETY: no device knows its address.
        unsafe { pc.free_block(block) };
    }
}

fn tables(pc: &Pc, report: &Report) {
    let dmar = pc.table::<Dmar>();
    let ok = matches!(dmar, Ok(Some(table)) if table.starts_with(b"DMAR") && table.len() > 48);
    let bytes = dmar.map(|table| table.map(<[u8]>::len));
    report.expect(ok, "the DMAR is found", format_args!("{bytes:?} bytes"));
    // An Intel machine has none of AMD's.
    let none = pc.table::<Ivrs>().map(|table| table.is_some());
    report.expect(none == Ok(false), "no table is made up", format_args!("{none:?}"));
}

fn functions(pc: &Pc, report: &Report) {
    let start = pc.now_ns();
    let mut functions = Vec::<SourceId, 128>::new();
    functions.extend(pc.functions().take(128));
    let ms = (pc.now_ns() - start) / 1_000_000;
    let is_ordered = functions.is_sorted_by(|one, other| one < other);
    let has_edu = functions.iter().any(|&function| pc.config_read(function, 0) == EDU);
    let count = functions.len();
    report.expect(is_ordered && has_edu, "functions are listed once each", format_args!("{count} in {ms} ms"));

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
        wrong.is_none() && !bars.is_empty(),
        "BARs are aligned, apart, and can be read",
        format_args!("{} up to {highest:#x}, wrong: {wrong:?}", bars.len()),
    );
}

/// A device whose registers are known is driven.
fn edu(pc: &Pc, report: &Report) {
    let Some(edu) = pc.functions().find(|&function| pc.config_read(function, 0) == EDU) else {
        report.expect(false, "there is an edu", format_args!(""));
        return;
    };
    let before = pc.config_read(edu, 4) & 0xffff;
    pc.enable(edu);
    let on = pc.config_read(edu, 4) & 0xffff;
    pc.disable_bus_master(edu);
    let off = pc.config_read(edu, 4) & 0xffff;
    report.expect(
        on & 6 == 6 && off & 6 == 2,
        "a function is enabled and kept from memory",
        format_args!("command {before:#x}, then {on:#x}, then {off:#x}"),
    );
    // Interrupt Line, which only software reads (PCI Local Bus Specification 3.0, section 6.2.4).
    let line = pc.config_read(edu, 0x3c);
    // SAFETY: hardware does nothing with it.
    unsafe { pc.config_write(edu, 0x3c, line ^ 0xff) };
    let changed = pc.config_read(edu, 0x3c);
    // SAFETY: as above.
    unsafe { pc.config_write(edu, 0x3c, line) };
    report.expect(changed == line ^ 0xff, "a configuration write arrives", format_args!("{line:#x}, {changed:#x}"));

    let bar = pc.bar(edu, 0);
    // SAFETY: bus mastering is off.
    let Some(registers) = bar.and_then(|bar| unsafe { pc.registers(bar) }) else {
        report.expect(false, "edu has registers", format_args!("{bar:?}"));
        return;
    };
    // Identification at 0; what is written at 4 reads inverted.
    registers.write32(4, 0x1234_5678);
    let (id, inverted) = (registers.read32(0), registers.read32(4));
    report.expect(
        registers.bytes() == MIB && id == 0x0100_00ed && inverted == !0x1234_5678,
        "registers are read and written",
        format_args!("{} bytes, {id:#x}, {inverted:#x}", registers.bytes()),
    );
}

/// What firmware or a caller gets wrong reads as absent, and is no crash.
fn out_of_reach(pc: &Pc, report: &Report) {
    let absent = SourceId::new(0, 0xff, 0x1f, 7).unwrap_or(SourceId::from_requester(0, 0xffff));
    let far = SourceId::from_requester(0xffff, 0);
    let host = SourceId::from_requester(0, 0);
    let reads =
        [(absent, 0), (far, 0), (host, 2), (host, 4096)].map(|(function, offset)| pc.config_read(function, offset));
    report.expect(reads == [u32::MAX; 4], "absent configuration space reads all ones", format_args!("{reads:x?}"));

    let read = |base| {
        let window = RegisterWindow { base: PhysAddr::new_truncate(base), bytes: PAGE as u32 };
        pc.map_registers(window)
    };
    // Memory, the guard page below the stack, and the last page of all.
    let reads = [pc.usable_top().as_u64() - PAGE, 2 * MIB, (1 << 52) - PAGE].map(read);
    report.expect(reads == [None; 3], "no registers where memory is, or nothing", format_args!("{reads:?}"));
    // Few CPUs have that many address bits; those that do read whatever nothing reads as.
    let far = read((1 << 46) - PAGE);
    report.expect(true, "an address that may not exist does no harm", format_args!("{far:?}"));
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
