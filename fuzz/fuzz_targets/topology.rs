//! A table put together over a configuration space of noise, and devices looked up in it.
#![no_main]

use std::hint::black_box;
use std::mem::MaybeUninit;

use cofferdam::addr::SourceId;
use cofferdam::firmware::Finding;
use cofferdam::limits::Limits;
use cofferdam::topology::{ConfigSpace, Topology};
use libfuzzer_sys::fuzz_target;

/// Soon full.
const FEW: Limits = Limits { units: 2, scopes: 4, reserved: 1, ..Limits::DEFAULT };

/// The same at each look, but another one for each table. Few functions are there, so that a way up is not long.
struct Noise(u64);

impl ConfigSpace for Noise {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        let seed = self.0 ^ u64::from(function.requester()) << 16 ^ u64::from(offset);
        let noise = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as u32;
        match offset {
            0 if !noise.is_multiple_of(16) => u32::MAX,
            // Mostly bridges, with buses behind them.
            0x0c if !noise.is_multiple_of(4) => noise & !0x7f_0000 | 0x1_0000,
            0x18 => noise | 0xff_0000,
            _ => noise,
        }
    }
}

fuzz_target!(|table: &[u8]| {
    let hash = table
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let config = Noise(hash);
    let report = |finding: Finding| assert!(finding.offset as usize <= table.len());
    let limits = if hash.is_multiple_of(8) { FEW } else { Limits::DEFAULT };
    let mut memory = vec![MaybeUninit::uninit(); limits.words()];
    let Ok(topology) = Topology::read(&mut memory, &limits, table, &config, report) else { return };
    assert!(!topology.units().is_empty());
    for unit in topology.units() {
        assert!(unit.window.base.as_u64() != 0 && unit.window.base.is_aligned(4096_u64));
    }
    for memory in topology.reserved_memory() {
        assert!(memory.region.input.is_page_aligned());
    }
    // One device that the table names, and one beside it.
    let scopes = topology.scopes();
    let Some(scope) = scopes.get(hash as usize % scopes.len().max(1)) else { return };
    for source in [scope.source, SourceId::from_requester(scope.source.segment(), hash as u16)] {
        if let Some(unit) = topology.unit_of(&config, source) {
            assert_eq!(topology.units()[unit.get()].segment, source.segment());
        }
        assert!(topology.reserved(&config, source).count() <= topology.reserved_memory().len());
        black_box((topology.properties(&config, source), topology.ats_allowed(&config, source)));
        black_box((topology.device_settings(&config, source), topology.hpet(hash as u8).count()));
        // The way up reads many functions: not each time.
        if hash.is_multiple_of(64)
            && let Ok(requesters) = topology.requesters(&config, source)
        {
            assert_eq!(requesters.ids().first(), Some(&source));
            assert!(requesters.ids().iter().all(|id| requesters.shared_with(*id)));
        }
    }
    black_box(topology.match_ioapics(&[0, 1, 2, hash as u8], report).count());
});
