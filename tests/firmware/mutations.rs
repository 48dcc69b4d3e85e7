//! Real tables with bytes changed at random: no panic, no byte read past the end, progress, and answers that hang together.

use cofferdam::addr::SourceId;
use cofferdam::firmware::Finding;
use cofferdam::firmware::dmar::{Dmar, Structure};
use cofferdam::firmware::ivrs::{Ivrs, IvrsBlock};
use cofferdam::limits::Limits;
use cofferdam::topology::{ConfigSpace, Topology};
use cofferdam_support::front::memory;
use cofferdam_support::random::Random;

use super::tables::{RealTable, real_tables};

const MUTATIONS: u64 = 2000;

/// A configuration space of noise: the same at each look, and mostly bridges.
struct Noise(u64);

impl ConfigSpace for Noise {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        let seed = self.0 ^ u64::from(function.requester()) << 32 ^ u64::from(offset) << 16 ^ 1;
        let noise = Random::new(seed).word() as u32;
        match offset {
            0 if noise.is_multiple_of(4) => u32::MAX,
            0x0c => noise & !0x7f_0000 | 0x1_0000,
            0x18 => noise | 0xff_0000,
            _ => noise,
        }
    }
}

fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut table = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if table.is_empty() {
            break;
        }
        let at = random.index(table.len());
        match random.below(6) {
            0 => table[at] = random.word() as u8,
            1 => table[at] ^= 1 << random.below(8),
            2 => table[at] = random.of(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => table.truncate(at),
            4 => table.insert(at, random.word() as u8),
            _ => {
                // A part of the table once more, somewhere.
                let from = random.index(table.len());
                let part = table[from..(from + random.index(64)).min(table.len())].to_vec();
                table.splice(at..at, part);
            }
        }
    }
    // The length often fits, so that what is behind the header is looked at.
    if !random.one_in(4) && table.len() >= 8 {
        let length = (table.len() as u32).to_le_bytes();
        table[4..8].copy_from_slice(&length);
    }
    table
}

fn check_finding(finding: &Finding, table: &[u8]) {
    assert!(finding.offset as usize <= table.len().max(48), "{finding}");
    assert!(!finding.to_string().is_empty());
}

/// Each structure starts where the one before ended, or behind it.
fn walk(table: &[u8]) {
    if let Ok(dmar) = Dmar::new(table, |finding| check_finding(&finding, table)) {
        let mut last = 0;
        for structure in dmar.structures() {
            let offset = structure.map_or_else(|finding| finding.offset, |structure| structure.offset());
            assert!(offset > last && offset as usize <= table.len());
            last = offset;
        }
        for structure in dmar.sound() {
            let scopes = match structure {
                Structure::Drhd(it) => it.scopes(),
                Structure::Rmrr(it) => it.scopes(),
                Structure::Atsr(it) => it.scopes(),
                Structure::Satc(it) => it.scopes(),
                Structure::Sidp(it) => it.scopes(),
                _ => continue,
            };
            assert!(scopes.clone().count() <= table.len() / 6 + 1);
            assert!(scopes.sound().all(|scope| !scope.path().is_empty()));
        }
    }
    if let Ok(ivrs) = Ivrs::new(table, |finding| check_finding(&finding, table)) {
        assert!(ivrs.blocks().count() <= table.len() / 4);
        for block in ivrs.sound() {
            if let IvrsBlock::Ivhd(ivhd) = block {
                assert!(ivhd.entries().count() <= table.len() / 4 + 1);
                assert!(ivhd.devices().count() <= 2 * ivhd.entries().count());
            }
        }
    }
}

/// Look-ups agree with the lists that they look into.
fn look_up(topology: &Topology, config: &impl ConfigSpace, random: &mut Random) {
    for _ in 0..4 {
        let source = match topology.scopes() {
            [] => SourceId::from_requester(0, random.word() as u16),
            scopes => random.of(scopes).source,
        };
        let source = SourceId::from_requester(source.segment(), source.requester() ^ (random.below(3) as u16) << 3);
        if let Some(unit) = topology.unit_of(config, source) {
            assert_eq!(topology.units()[unit.get()].segment, source.segment());
        }
        if let Ok(requesters) = topology.requesters(config, source) {
            assert_eq!(requesters.ids()[0], source);
            assert!(requesters.shared_with(source));
        }
        assert!(topology.reserved(config, source).count() <= topology.reserved_memory().len());
        let _ = (topology.snoop_forbidden(config, source), topology.ats_allowed(config, source));
        let _ = (topology.ioapic(random.word() as u8), topology.hpet(0).count());
    }
    for unit in topology.units() {
        assert!(unit.window.base.as_u64() != 0 && unit.window.base.is_aligned(4096_u64));
    }
    for memory in topology.reserved_memory() {
        assert!(memory.region.input.is_page_aligned());
    }
}

fn torture(table: &RealTable, seed: u64, mutations: u64) {
    let mut random = Random::new(seed);
    let mut memory = memory(&Limits::DEFAULT);
    for turn in 0..mutations {
        let bytes = mutate(&table.bytes, &mut random);
        walk(&bytes);
        let config = Noise(seed ^ turn << 20);
        let report = |finding| check_finding(&finding, &bytes);
        match Topology::read(&mut memory, &Limits::DEFAULT, &bytes, &config, report) {
            // The way up from a function is long in a noisy tree; the rest is the same for all.
            Ok(topology) if turn % 16 == 0 => look_up(&topology, &config, &mut random),
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn no_mutation_of_a_real_table_harms() {
    for (index, table) in (0_u64..).zip(&real_tables()) {
        torture(table, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index + 1), MUTATIONS);
    }
}

#[test]
fn every_cut_of_a_real_table_is_refused_or_used_in_part() {
    for table in real_tables() {
        for end in 0..table.bytes.len() {
            let cut = &table.bytes[..end];
            walk(cut);
            // Behind the cut nothing is read: the same in a buffer that ends there.
            let exact: Box<[u8]> = cut.into();
            walk(&exact);
        }
    }
}
