//! Every accessor of an IVRS, and the words of every finding.
#![no_main]

use std::hint::black_box;

use cofferdam::firmware::Finding;
use cofferdam::firmware::ivrs::{IvrsBlock, Ivrs, Listed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|table: &[u8]| {
    let report = |finding: Finding| {
        assert!(finding.offset as usize <= table.len());
        black_box(finding.to_string());
    };
    let Ok(ivrs) = Ivrs::new(table, report) else { return };
    ivrs.lint(report);
    let info = ivrs.info();
    black_box((ivrs.header(), info.physical_width(), info.virtual_width(), info.dma_remap()));
    let mut last = 0;
    for block in ivrs.blocks() {
        let offset = block.map_or_else(|finding| finding.offset, |block| block.offset());
        assert!(offset > last, "progress");
        last = offset;
    }
    for block in ivrs.sound() {
        match block {
            IvrsBlock::Ivhd(it) => {
                black_box((it.kind(), it.flags(), it.device(), it.capability(), it.base(), it.segment()));
                black_box((it.info(), it.attributes(), it.features(), it.features2(), it.bytes()));
                for entry in it.entries() {
                    black_box(entry.is_ok());
                }
                for (offset, listed) in it.devices().filter_map(Result::ok) {
                    assert!((offset as usize) < table.len());
                    if let Listed::Range { first, last, .. } = listed {
                        assert!(first <= last);
                    }
                }
            }
            IvrsBlock::Ivmd(it) => {
                black_box((it.flags(), it.devices(), it.segment(), it.start(), it.bytes()));
            }
            other => {
                black_box(other.number());
            }
        }
    }
});
