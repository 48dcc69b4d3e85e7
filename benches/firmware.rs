//! How long the tables take: time is in proportion to their length.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::mem::MaybeUninit;

use cofferdam::firmware::dmar::{Dmar, Structure};
use cofferdam::firmware::ivrs::{Ivrs, IvrsBlock};
use cofferdam::limits::Limits;
use cofferdam::topology::{NoConfigSpace, Topology};
use divan::Bencher;
use divan::counter::BytesCount;

const LIMITS: Limits = Limits::DEFAULT;
const QUARTER_MIB: usize = 1 << 18;
const MIB: usize = 1 << 20;

fn main() {
    divan::main();
}

fn table(signature: &[u8; 4], structure: &[u8], bytes: usize) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend([0; 44]);
    table.extend([[0, 0, 16, 0, 1, 0, 0, 0], [0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0]].concat());
    while table.len() < bytes {
        table.extend(structure);
    }
    let length = (table.len() as u32).to_le_bytes();
    table.get_mut(4..8).unwrap().copy_from_slice(&length);
    table
}

/// The smallest structure that there is: an unknown one of four bytes.
#[divan::bench(args = [QUARTER_MIB, MIB])]
fn dmar_of_unknown_structures(bencher: Bencher<'_, '_>, bytes: usize) {
    let table = table(b"DMAR", &[9, 0, 4, 0], bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| walk_dmar(black_box(&table)));
}

/// Structures of a known type, with one scope each.
#[divan::bench(args = [QUARTER_MIB, MIB])]
fn dmar_of_root_ports(bencher: Bencher<'_, '_>, bytes: usize) {
    let table = table(b"DMAR", &[2, 0, 16, 0, 0, 0, 0, 0, 2, 8, 0, 0, 0, 0, 1, 0], bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| walk_dmar(black_box(&table)));
}

/// Blocks with one entry each.
#[divan::bench(args = [QUARTER_MIB, MIB])]
fn ivrs_of_units(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut block = vec![0x10, 0, 28, 0];
    block.extend([0; 20]);
    block.extend([1, 0, 0, 0]);
    let table = table(b"IVRS", &block, bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| walk_ivrs(black_box(&table)));
}

/// With all findings, and each structure compared with those before.
#[divan::bench(args = [QUARTER_MIB, MIB])]
fn topology_of_affinities(bencher: Bencher<'_, '_>, bytes: usize) {
    let table = table(b"DMAR", &[3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], bytes);
    let mut memory = vec![MaybeUninit::uninit(); LIMITS.words()];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let mut findings = 0_usize;
        let topology = Topology::read(&mut memory, &LIMITS, black_box(&table), &NoConfigSpace, |_| findings += 1);
        (topology.is_ok(), findings)
    });
}

fn walk_dmar(table: &[u8]) -> usize {
    let dmar = Dmar::new(table, |_| {}).unwrap();
    dmar.sound()
        .map(|structure| match structure {
            Structure::Atsr(atsr) => atsr.scopes().sound().count(),
            _ => 1,
        })
        .sum()
}

fn walk_ivrs(table: &[u8]) -> usize {
    let ivrs = Ivrs::new(table, |_| {}).unwrap();
    ivrs.sound()
        .map(|block| match block {
            IvrsBlock::Ivhd(ivhd) => ivhd.devices().count(),
            _ => 1,
        })
        .sum()
}
