//! Calls with arguments that nobody should hand over, and in an order that nobody should have: each has its code. What calls do
//! to a machine is tried on one, by `capi/example`.

mod platform;

use core::ffi::c_void;
use core::ptr::{null, null_mut};
use std::ffi::CStr;
use std::format;
use std::vec::Vec;

use crate::calls::{cells::*, commit::*, faults::*, life::*, lists::*, table::*, words::*};
use crate::flat::cell::Cpus;
use crate::flat::*;

const FIRMWARE: i32 = 1;
const UNIT: i32 = 2;
const NOT_PROBED: i32 = 8;
const FULL: i32 = 5;
const NO_SUCH_CELL: i32 = 13;

/// An error that nobody has filled.
fn error() -> Error {
    // SAFETY: all of its fields are numbers, pointers and words.
    unsafe { core::mem::zeroed() }
}

fn edit() -> Edit {
    // SAFETY: all of its fields are numbers.
    unsafe { core::mem::zeroed() }
}

fn cell_config() -> CellConfig {
    // SAFETY: all of its fields are numbers.
    unsafe { core::mem::zeroed() }
}

fn words(error: &Error) -> std::string::String {
    let mut buffer = [0x55_u8; 200];
    // SAFETY: the buffer has so many bytes.
    let needed = unsafe { cofferdam_error_words(error, buffer.as_mut_ptr().cast(), buffer.len()) };
    let text = CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap();
    assert_eq!(text.len(), needed.min(buffer.len() - 1));
    text.to_owned()
}

/// What an error names.
fn name(error: &Error) -> &str {
    // SAFETY: a call has put a text of its own there.
    let bytes = unsafe { core::slice::from_raw_parts(error.name.text.cast::<u8>(), error.name.bytes) };
    core::str::from_utf8(bytes).unwrap()
}

fn commit(edits: &[Edit]) -> (i32, Error) {
    let mut error = error();
    // SAFETY: the edits are there, and so is the error.
    (unsafe { cofferdam_commit(edits.as_ptr(), edits.len(), &raw mut error) }, error)
}

unsafe extern "C" fn no_fault(_: *mut c_void, _: *const Fault) {}

/// A front is one a process, so all that is tried of it comes in one order.
#[test]
fn whatever_is_handed_over_has_a_code() {
    before_probe();
    tables();
    let memory = probe();
    cells_and_edits();
    words_of_errors();
    threads();
    assert!(!memory.is_empty());
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn before_probe() {
    let mut error = error();
    // SAFETY: what is handed over is null, or is there.
    unsafe {
        assert_eq!(cofferdam_prepare(&raw mut error), NOT_PROBED);
        assert_eq!((error.code, error.detail, error.has), (NOT_PROBED, 0, 0));
        assert_eq!(cofferdam_enable(null_mut(), null_mut()), NOT_PROBED);
        assert_eq!(cofferdam_hand_back(null_mut()), NOT_PROBED);
        assert_eq!(cofferdam_faults_by_device(None, null_mut(), null_mut()), COFFERDAM_ERROR_NULL);
        assert_eq!(cofferdam_commit(null(), 0, null_mut()), NOT_PROBED);
        assert_eq!(cofferdam_faults(Some(no_fault), null_mut(), null_mut(), null_mut()), NOT_PROBED);
        assert_eq!(cofferdam_faults(None, null_mut(), null_mut(), &raw mut error), COFFERDAM_ERROR_NULL);
        assert_eq!(name(&error), "each");
        assert_eq!(cofferdam_probe(null(), &raw mut error), COFFERDAM_ERROR_NULL);
        assert_eq!(name(&error), "probe");
        assert_eq!(cofferdam_words(null()), usize::MAX);
        cofferdam_default_limits(null_mut());
        cofferdam_default_options(null_mut());
    }
}

fn tables() {
    let entry = |kind| Entry { kind, all: 0, id: 0, segment: 0, device: 0xff00, first: 0xfed9_0000, last: 0 };
    let sound = [entry(COFFERDAM_ENTRY_UNIT), entry(COFFERDAM_ENTRY_IO_APIC)];
    let (mut bytes, mut error) = ([0_u8; 96], error());
    let mut code = |entries: &[Entry], room: usize| {
        let (count, entries) = (entries.len(), entries.as_ptr());
        let table = Table { entries, count, host_address_width: 39, remaps_interrupts: 1 };
        let (at, mut needed) = (bytes.as_mut_ptr(), usize::MAX);
        // SAFETY: the entries are there, and so many bytes.
        let code = unsafe { cofferdam_write_table(&raw const table, at, room, &raw mut needed, &raw mut error) };
        (code, words(&error), needed)
    };
    let argument = |name: &str, index| format!("argument {name} has no such value (index {index})");
    assert_eq!((code(&sound, 72).0, code(&sound, 72).2), (0, 72));
    assert_eq!(code(&sound, 71), (COFFERDAM_ERROR_ARGUMENT, argument("size", 0), 72));
    assert_eq!(code(&sound[1..], 96).1, argument("kind", 0));
    for (wrong, field) in [
        (Entry { all: 2, ..sound[0] }, "all"),
        (Entry { first: 1 << 60, ..sound[0] }, "first"),
        (Entry { kind: COFFERDAM_ENTRY_RESERVED, ..sound[0] }, "last"),
        (Entry { kind: 8, ..sound[0] }, "kind"),
        (Entry { kind: 0, ..sound[0] }, "kind"),
    ] {
        assert_eq!(code(&[sound[0], wrong], 96).1, argument(field, 1));
    }
    let elsewhere = Entry { segment: 1, ..sound[0] };
    assert_eq!(code(&[sound[0], elsewhere, sound[1]], 96).1, argument("device", 2));
}

fn probe() -> &'static mut [u64] {
    let table = platform::dmar();
    let (mut limits, mut options, mut error) = (Limits::DEFAULT, Options::DEFAULT, error());
    (limits.cells, limits.edits) = (2, 4);
    // SAFETY: the limits are there.
    let words_for = |limits: &Limits| unsafe { cofferdam_words(limits) };
    let words = words_for(&limits);
    let memory = Vec::leak(std::vec![0_u64; words]);
    let it = Probe {
        table: table.as_ptr(),
        table_bytes: table.len(),
        memory: memory.as_mut_ptr().cast(),
        memory_words: words,
        limits: &raw const limits,
        options: null(),
        finding: None,
        context: null_mut(),
    };
    // SAFETY: what is handed over is null, or is there, or is refused before it is looked at.
    let mut code = |it: &Probe| (unsafe { cofferdam_probe(it, &raw mut error) }, name(&error).to_owned());
    let null_of = |name: &str| (COFFERDAM_ERROR_NULL, name.to_owned());
    assert_eq!(code(&Probe { table: null(), ..it }), null_of("table"));
    assert_eq!(code(&Probe { memory: null_mut(), ..it }), null_of("memory"));
    assert_eq!(code(&Probe { memory: (it.memory as *mut u8).wrapping_add(1).cast(), ..it }), null_of("memory"));
    assert_eq!(code(&Probe { limits: null(), ..it }), null_of("limits"));
    let argument = |name: &str| (COFFERDAM_ERROR_ARGUMENT, name.to_owned());
    assert_eq!(code(&Probe { table_bytes: usize::MAX, ..it }), argument("table"));
    assert_eq!(code(&Probe { memory_words: usize::MAX, ..it }), argument("memory_words"));
    options.max_leaf_level = 4;
    assert_eq!(code(&Probe { options: &raw const options, ..it }), argument("max_leaf_level"));
    (options.max_leaf_level, options.take_over) = (3, 2);
    assert_eq!(code(&Probe { options: &raw const options, ..it }), argument("take_over"));
    for less in [words / 2, 2, 0] {
        assert_eq!(code(&Probe { memory_words: less, ..it }).0, FULL, "{less} words");
    }
    let many = Limits { edits: usize::MAX, ..limits };
    assert_eq!(code(&Probe { limits: &raw const many, ..it }).0, FULL);
    assert_eq!(words_for(&many), usize::MAX);
    let none = Limits { units: 0, ..limits };
    assert_eq!(code(&Probe { limits: &raw const none, ..it }).0, FIRMWARE);
    // What failed can be repeated, with the same memory.
    assert_eq!(code(&it).0, 0);
    assert_eq!(code(&it).0, 7);
    memory
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
fn cells_and_edits() {
    let mut config = cell_config();
    let (mut cell, mut error) = (0, error());
    let mut create = |config: &CellConfig| {
        // SAFETY: all three are there.
        let code = unsafe { cofferdam_create_cell(config, &raw mut cell, &raw mut error) };
        (code, name(&error).to_owned())
    };
    let argument = |name: &str| (COFFERDAM_ERROR_ARGUMENT, name.to_owned());
    assert_eq!(create(&CellConfig { flags: 64, ..config }), argument("flags"));
    assert_eq!(create(&CellConfig { reset: 3, ..config }), argument("reset"));
    assert_eq!(create(&CellConfig { cpu_ranges: 9, ..config }), argument("cpu_ranges"));
    config.cpu_ranges = 1;
    config.cpus[0] = Cpus { first: 3, last: 2 };
    assert_eq!(create(&config), argument("cpus"));
    config.cpus[0].last = 3;
    assert_eq!(create(&config).0, 0);
    assert!(cell != 0);
    // SAFETY: what is handed over is null, or is there.
    unsafe {
        assert_eq!(cofferdam_create_cell(null(), &raw mut cell, null_mut()), COFFERDAM_ERROR_NULL);
        assert_eq!(cofferdam_create_cell(&raw const config, null_mut(), null_mut()), COFFERDAM_ERROR_NULL);
        assert_eq!(cofferdam_commit(null(), 1, null_mut()), COFFERDAM_ERROR_NULL);
        assert_eq!(cofferdam_commit(null(), usize::MAX, null_mut()), COFFERDAM_ERROR_ARGUMENT);
        assert_eq!(cofferdam_regions(cell ^ 1 << 40, None, null_mut(), null_mut()), COFFERDAM_ERROR_NULL);
        assert_eq!(cofferdam_coherency(cell ^ 1 << 40, null_mut(), null_mut()), NO_SUCH_CELL);
    }
    let map = Edit { kind: COFFERDAM_EDIT_MAP, cell, output: 1 << 20, bytes: 4096, rights: 3, ..edit() };
    for (wrong, field) in [
        (Edit { kind: 0, ..map }, "kind"),
        (Edit { kind: u32::MAX, ..map }, "kind"),
        (Edit { cell: 0, ..map }, "cell"),
        (Edit { bytes: 0, ..map }, "bytes"),
        (Edit { input: u64::MAX, ..map }, "bytes"),
        (Edit { output: u64::MAX, ..map }, "output"),
        (Edit { rights: 4, ..map }, "rights"),
        (Edit { kind: COFFERDAM_EDIT_ASSIGN, device_tlb: 2, ..map }, "device_tlb"),
        (Edit { kind: COFFERDAM_EDIT_ROUTE, ..map }, "source.kind"),
        (Edit { kind: COFFERDAM_EDIT_KEEP, entry: 1 << 16, ..map }, "entry"),
    ] {
        let (code, error) = commit(&[map, wrong]);
        assert_eq!((code, name(&error), error.value), (COFFERDAM_ERROR_ARGUMENT, field, 1));
    }
    assert_eq!(commit(&[map; 5]).0, FULL);
    assert_eq!(commit(&[map]).0, 0);
    let (code, error) = commit(&[map]);
    assert_eq!((code, error.address, error.bytes), (25, 0, 4096), "it has that memory already");
}

/// Two threads change a cell each, a third takes all units: each call waits until it may.
fn threads() {
    const TIMES: u64 = 200;
    let (mut cells, config) = ([0; 2], cell_config());
    let destroyed = |cell| commit(&[Edit { kind: COFFERDAM_EDIT_DESTROY, cell, ..edit() }]).0;
    for cell in &mut cells {
        // SAFETY: both are there. One of the two cells that there is room for was made before.
        if unsafe { cofferdam_create_cell(&raw const config, cell, null_mut()) } != 0 {
            *cell = 1 << 16;
        }
    }
    let change = |cell: u64| {
        let (input, output) = (1 << 30, (cell >> 16) << 24);
        let map = Edit { kind: COFFERDAM_EDIT_MAP, cell, input, output, bytes: 4096, rights: 3, ..edit() };
        let unmap = Edit { kind: COFFERDAM_EDIT_UNMAP, ..map };
        (0..TIMES).all(|_| commit(&[map]).0 == 0 && commit(&[unmap]).0 == 0)
    };
    // SAFETY: no error is to be filled. The unit is mapped nowhere, so that it cannot be prepared.
    let alone = || unsafe { cofferdam_prepare(null_mut()) };
    std::thread::scope(|scope| {
        let changes = cells.map(|cell| scope.spawn(move || change(cell)));
        while changes.iter().any(|change| !change.is_finished()) {
            assert_eq!(alone(), UNIT);
        }
        changes.into_iter().for_each(|change| assert!(change.join().unwrap()));
    });
    cells.into_iter().for_each(|cell| assert_eq!(destroyed(cell), 0));
    assert_eq!(alone(), UNIT);
}

fn words_of_errors() {
    assert_eq!(words(&error()), "no error");
    let (_, mut filled) = commit(&[Edit { kind: COFFERDAM_EDIT_RELEASE, device: 0x1234_0008, ..edit() }]);
    assert_eq!(words(&filled), "1234:00:01.0 belongs to no cell");
    let mut cut = [0x55_u8; 5];
    // SAFETY: the buffer has so many bytes; with none of them, nothing is written.
    let needed = unsafe { cofferdam_error_words(&raw const filled, cut.as_mut_ptr().cast(), 4) };
    assert_eq!((needed, &cut), (31, b"123\0\x55"));
    // SAFETY: as above.
    assert_eq!(unsafe { cofferdam_error_words(&raw const filled, null_mut(), 9) }, 31);
    filled.filled ^= 1;
    assert_eq!(words(&filled), "no error");
    assert_eq!(words(&commit(&[edit()]).1), "argument kind has no such value (index 0)");
}

/// "On an error bytes hold no table": also where an entry behind the first is the wrong one.
#[test]
fn bytes_hold_no_table_after_an_error() {
    let entry = |kind| Entry { kind, all: 1, id: 0, segment: 0, device: 0, first: 0xfed9_0000, last: 0 };
    let entries = [entry(COFFERDAM_ENTRY_UNIT), entry(99)];
    let table = Table { entries: entries.as_ptr(), count: 2, host_address_width: 39, remaps_interrupts: 1 };
    let (mut bytes, mut needed) = ([0_u8; 64], usize::MAX);
    // SAFETY: the entries are there, and so many bytes.
    let code = unsafe { cofferdam_write_table(&raw const table, bytes.as_mut_ptr(), 64, &raw mut needed, null_mut()) };
    assert_eq!(code, COFFERDAM_ERROR_ARGUMENT);
    let read = cofferdam::firmware::dmar::Dmar::new(&bytes, |_| ());
    assert!(read.is_err(), "a sound table of the entries before: needed {needed}");
}
