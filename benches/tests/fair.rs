//! The contenders do the same work, and the driver asks of a machine what it is said to ask.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cofferdam::internals::{SecondStage, V1};
use cofferdam_benches::driver::{Cost, Edits, cost_of_carving, cost_of_cell, cost_of_rerouting, registers_of_batch};
use cofferdam_benches::job;
use cofferdam_benches::ours::Cofferdam;
use cofferdam_benches::peers::{Aarch64Paging, PageTableGeneric, PageTableMultiarch, X86_64};
use cofferdam_benches::pool::{POOL, pointer};
use cofferdam_benches::tables::Tables;

const MIB: u64 = 1 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Pages of 2 MiB, and of 4 KiB before and behind them.
const RANGE: (u64, u64, u64) = ((1 << 30) - 4096, (1 << 40) - 4096, 8 * MIB + 8192);

/// The pool is counted, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Input address, level and content of each entry that maps a page.
type Pages = Vec<(u64, u32, u64)>;

fn pages(table: u64, level: u32, input: u64, is_table: fn(u64) -> bool, found: &mut Pages) {
    for index in 0..512 {
        // SAFETY: there are 512 words in a table.
        let entry = unsafe { pointer(table).add(index as usize) };
        // SAFETY: as above.
        let entry = unsafe { entry.read() };
        let at = input + (index << (3 + 9 * level));
        if entry != 0 && level > 1 && is_table(entry) {
            pages(entry & ADDRESS, level - 1, at, is_table, found);
        } else if entry != 0 {
            found.push((at, level, entry));
        }
    }
}

/// What a contender leaves in memory: with one call for a range, after that was unmapped, with a call for each page, and
/// after every other of those was unmapped.
fn left_by<T: Tables>(is_table: fn(u64) -> bool) -> [Pages; 4] {
    let (input, output, bytes) = RANGE;
    let found = |tables: &T| {
        let mut found = Vec::new();
        pages(tables.root(), 4, 0, is_table, &mut found);
        found
    };
    let used = POOL.used();
    let mut tables = T::new();
    tables.map(input, output, bytes);
    let whole = found(&tables);
    tables.unmap(input, output, bytes);
    let none = found(&tables);
    drop(tables);
    let mut tables = T::new();
    let pages = || (0..64).map(|page| page * 4096);
    pages().for_each(|offset| tables.map_page(input + offset, output + offset));
    let by_page = found(&tables);
    pages().step_by(2).for_each(|offset| tables.unmap_page(input + offset));
    let half = found(&tables);
    drop(tables);
    assert_eq!(POOL.used(), used, "all frames came back");
    [whole, none, by_page, half]
}

fn is_small(entry: u64) -> bool {
    entry & 1 << 7 == 0
}

#[test]
fn all_leave_the_same_in_memory() {
    let _alone = alone();
    let ours = left_by::<Cofferdam<SecondStage, true>>(is_small);
    assert_eq!(ours.each_ref().map(Vec::len), [6, 0, 64, 32]);
    assert_eq!(ours.first().unwrap().first(), Some(&(RANGE.0, 1, RANGE.1 | 0x803)));
    assert_eq!(left_by::<Cofferdam<SecondStage, false>>(is_small), ours);
    assert_eq!(left_by::<PageTableMultiarch>(is_small), ours);
    assert_eq!(left_by::<PageTableGeneric>(is_small), ours);
    // The entries of these are others, but lead to the same place.
    let places = |left: [Pages; 4]| {
        left.map(|pages| Pages::from_iter(pages.iter().map(|&(at, level, entry)| (at, level, entry & ADDRESS))))
    };
    let ours = places(ours);
    assert_eq!(places(left_by::<Cofferdam<V1, true>>(|entry| entry >> 9 & 7 != 0)), ours);
    assert_eq!(places(left_by::<X86_64>(is_small)), ours);
    assert_eq!(places(left_by::<Aarch64Paging>(|entry| entry & 0b11 == 0b11)), ours);
}

#[test]
fn every_contender_does_every_work_and_gives_all_frames_back() {
    let _alone = alone();
    let all = ["stores", "cofferdam", "x86_64", "page_table_multiarch", "page_table_generic", "aarch64_paging"];
    let others = ["stores_unsnooped", "cofferdam_unsnooped", "cofferdam_v1"];
    let used = POOL.used();
    for contender in all.iter().chain(&others) {
        for work in ["map_page", "map_page_alike", "unmap_page", "map_4k", "unmap_4k", "map_2m", "unmap_2m"] {
            job(work, contender, 4 * MIB).unwrap().run();
        }
        assert_eq!(POOL.used(), used, "{contender}");
    }
    assert!(job("map_page", "nobody", MIB).is_none() && job("nothing", "cofferdam", MIB).is_none());
}

#[test]
fn a_batch_takes_one_register_access_the_doorbell() {
    let _alone = alone();
    assert_eq!(registers_of_batch(), 1);
}

#[test]
fn a_cell_costs_one_doorbell_and_one_wait_when_it_is_destroyed() {
    let _alone = alone();
    // The others are looks at whether the unit is on still.
    let cost = Cost { doorbells: 1, waits: 1, registers: 3, frames: 5, frames_at_most: 5, frames_left: 0 };
    assert_eq!(cost_of_cell(), cost);
}

#[test]
fn carving_a_cell_splits_only_leaves_at_its_edges_until_it_ends() {
    let _alone = alone();
    // The others are looks at whether the unit is on still, before what is carved.
    let cost = Cost { doorbells: 3, waits: 3, registers: 9, frames: 8, frames_at_most: 14, frames_left: 0 };
    assert_eq!(cost_of_carving(), cost);
}

#[test]
fn an_interrupt_goes_elsewhere_by_one_doorbell_and_one_wait() {
    let _alone = alone();
    // The others are looks at whether the unit is on still, and remaps interrupts by the driver's table.
    let cost = Cost { doorbells: 1, waits: 1, registers: 4, frames: 0, frames_at_most: 0, frames_left: 0 };
    assert_eq!(cost_of_rerouting(), cost);
}

#[test]
fn units_with_latency_confirm_no_sooner() {
    let _alone = alone();
    let (latency, rounds) = (Duration::from_millis(2), 3);
    let edits = Edits::with_latency(2, latency);
    let doorbells = edits.doorbells();
    assert!(edits.run_waits(1, rounds) >= latency.as_nanos() as f64);
    // One for each unit and each page that is unmapped; to map asks for nothing.
    assert_eq!(edits.doorbells() - doorbells, 2 * u64::from(rounds));
}

#[test]
fn four_threads_edit_their_cells_on_64_units() {
    let _alone = alone();
    let edits = Edits::new(64);
    let before = edits.doorbells();
    assert!(edits.run(4, 10) > 0.0);
    assert_eq!(edits.doorbells() - before, 4 * 10 * 64, "each unmap invalidates in each unit");
}
