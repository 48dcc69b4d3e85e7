//! Every accessor of a DMAR, and the words of every finding.
#![no_main]

use std::hint::black_box;

use cofferdam::firmware::Finding;
use cofferdam::firmware::dmar::{Dmar, Scopes, Structure};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|table: &[u8]| {
    let report = |finding: Finding| {
        assert!(finding.offset as usize <= table.len());
        black_box(finding.to_string());
    };
    let Ok(dmar) = Dmar::new(table, report) else { return };
    dmar.lint(report);
    black_box((dmar.header(), dmar.host_address_width(), dmar.flags()));
    let mut last = 0;
    for structure in dmar.structures() {
        let offset = structure.map_or_else(|finding| finding.offset, |structure| structure.offset());
        assert!(offset > last, "progress");
        last = offset;
    }
    for structure in dmar.sound() {
        match structure {
            Structure::Drhd(it) => {
                black_box((it.base(), it.bytes(), it.segment(), it.include_all()));
                look(it.scopes());
            }
            Structure::Rmrr(it) => {
                black_box((it.base(), it.limit(), it.segment()));
                look(it.scopes());
            }
            Structure::Atsr(it) => {
                black_box((it.all_ports(), it.segment()));
                look(it.scopes());
            }
            Structure::Rhsa(it) => {
                black_box((it.base(), it.proximity()));
            }
            Structure::Andd(it) => assert!(!it.name().contains(&0)),
            Structure::Satc(it) => {
                black_box((it.required(), it.segment()));
                look(it.scopes());
            }
            Structure::Sidp(it) => {
                black_box(it.segment());
                look(it.scopes());
            }
            other => {
                black_box(other.number());
            }
        }
    }
});

fn look(scopes: Scopes<'_>) {
    for scope in scopes.sound() {
        assert!(!scope.path().is_empty());
        black_box((scope.kind(), scope.properties(), scope.enumeration_id(), scope.start_bus()));
    }
}
