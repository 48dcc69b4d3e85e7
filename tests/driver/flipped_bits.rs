//! Every bit of every table that a unit walks is flipped, and an audit finds it.

use std::collections::BTreeSet;

use cofferdam::addr::{PhysAddr, Rights};
use cofferdam::iommu::Difference;
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, MEMORY_A, MEMORY_B, RW, assert_nothing_differs, audit};
use crate::differences::root_table;

/// A table that the unit walks: the root table, a context table, or a page table and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Root,
    Contexts,
    Pages(u64),
}

/// All tables that a unit walks, found by following whatever is present.
fn tables(machine: &Machine) -> BTreeSet<(u64, Kind)> {
    fn pages(machine: &Machine, table: u64, level: u64, all: &mut BTreeSet<(u64, Kind)>) {
        all.insert((table, Kind::Pages(level)));
        for entry in (0..512).map(|index| peek(machine, table + index * 8)).filter(|entry| entry & 3 != 0) {
            if level > 1 && entry & 0x80 == 0 {
                pages(machine, entry & 0x000f_ffff_ffff_f000, level - 1, all);
            }
        }
    }
    let mut all = BTreeSet::new();
    let root = root_table(machine);
    all.insert((root, Kind::Root));
    for bus in 0..256 {
        let entry = peek(machine, root + bus * 16);
        if entry & 1 != 0 {
            let contexts = entry & !0xfff;
            all.insert((contexts, Kind::Contexts));
            for function in 0..256 {
                let [lower, upper] = [0, 8].map(|half| peek(machine, contexts + function * 16 + half));
                if lower & 1 != 0 {
                    pages(machine, lower & !0xfff, (upper & 7) + 2, &mut all);
                }
            }
        }
    }
    all
}

/// Two cells, pages of `bytes` and of 4 KiB with all rights, a device with reserved memory and a muted one, and a context
/// table without an entry.
fn two_cells(machine: &Machine, bytes: u64) -> Front<&Machine> {
    let iommu = enabled_with_reserved(machine, &[(0x4009_0000, 0x4009_0fff, 5)]);
    let a = cell_with(&iommu, region(INPUT + bytes, MEMORY_A, bytes, RW), function(0, 3));
    iommu.map(a, region(INPUT, MEMORY_A + bytes, PAGE, Rights::READ)).unwrap();
    let b = cell_with(&iommu, region(INPUT, MEMORY_B, PAGE, Rights::WRITE), function(0, 5));
    iommu.map(b, region(INPUT + PAGE, MEMORY_B, PAGE, RW)).unwrap();
    iommu.assign(function(7, 3), b).unwrap();
    iommu.release(function(7, 3)).unwrap();
    iommu.mute(function(0, 3), true).unwrap();
    iommu
}

/// True if a difference tells that one bit of the entry at `at`, which was zero, is set.
fn is_about(difference: &Difference, kind: Kind, at: PhysAddr, bit: u32) -> bool {
    match *difference {
        Difference::IgnoredBits { at: place, bits, .. } => (place, bits) == (at, 1 << bit),
        // It leads to the table at 0, or grants that only part of the rights.
        Difference::Unreadable { table, .. } => (kind, table, bit) == (Kind::Root, 0, 0),
        Difference::NarrowedTable { at: place, .. } => place == at,
        // A context entry whose upper half is zero has no width.
        Difference::Malformed { at: place, bits, .. } => (kind, place, bits) == (Kind::Contexts, at + 8, 7),
        Difference::ExtraMapping { region, .. } => {
            let index = region.input.start().as_u64() >> 12 & 0x1ff;
            (kind, region.output, index) == (Kind::Pages(1), PhysAddr::zero(), at.as_u64() >> 3 & 0x1ff)
        }
        _ => false,
    }
}

/// Flips every bit of every entry of every table, and has it found. Tells how many that are.
///
/// Those of an entry that is not zero are flipped one by one. In entries that are zero a bit is flipped in all of a table
/// at a time, and each has to be told.
fn every_flip_is_found(unit: UnitConfig, bytes: u64) {
    let machine = machine([unit]);
    let iommu = two_cells(&machine, bytes);
    assert_nothing_differs(&iommu, "before");
    let (mut flips, all) = (0, tables(&machine));
    let contexts = all.iter().filter(|(_, kind)| *kind == Kind::Contexts).count();
    assert_eq!(contexts, 2);
    for &(table, kind) in &all {
        let words: Vec<u64> = (0..512).map(|index| peek(&machine, table + index * 8)).collect();
        let place = |index: usize| PhysAddr::new(table + index as u64 * 8);
        let is_live = |index: usize| match kind {
            Kind::Pages(_) => words[index] != 0,
            _ => words[index] | words[index ^ 1] != 0,
        };
        for bit in 0..64 {
            let flip = |index: &usize| machine.flip(place(*index), 1 << bit);
            // FPD concerns the recording of faults alone (section 9.3).
            let is_free = |index: &usize| kind == Kind::Contexts && bit == 1 && index.is_multiple_of(2);
            let (free, rest): (Vec<usize>, Vec<usize>) = (0..512).partition(is_free);
            free.iter().for_each(flip);
            assert_nothing_differs(&iommu, "FPD");
            free.iter().for_each(flip);

            let (alone, together): (Vec<usize>, Vec<usize>) = rest.iter().partition(|index| is_live(**index));
            for index in &alone {
                flip(index);
                assert!(!audit(&iommu).is_empty(), "{kind:?}: bit {bit} of {:#x}, entry {index}", words[*index]);
                flip(index);
            }
            // The halves of an entry of 128 bits apart.
            for half in 0..2 {
                let together: Vec<usize> = together.iter().copied().filter(|index| index % 2 == half).collect();
                together.iter().for_each(flip);
                let mut found = audit(&iommu);
                for &index in &together {
                    let position = found.iter().position(|one| is_about(one, kind, place(index), bit));
                    found.swap_remove(position.unwrap_or_else(|| panic!("{kind:?}: bit {bit} of entry {index}")));
                }
                together.iter().for_each(flip);
            }
            flips += rest.len();
        }
    }
    assert_nothing_differs(&iommu, "after");
    assert_eq!(flips, all.len() * 512 * 64 - contexts * 256);
    println!("{flips} flips in {} tables", all.len());
}

#[test]
fn every_flipped_bit_is_found_in_three_levels_of_small_pages() {
    every_flip_is_found(UnitConfig::first_generation(), PAGE);
}

#[test]
fn every_flipped_bit_is_found_in_four_levels_without_snooping() {
    every_flip_is_found(UnitConfig::qemu_10_0(false), LARGE);
}

#[test]
fn every_flipped_bit_is_found_in_five_levels_with_snoop_control() {
    every_flip_is_found(UnitConfig::server().coherent(false), LARGE);
}
