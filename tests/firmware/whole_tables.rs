//! A table as a whole: cut, of a wrong checksum, too large, or none.

use std::time::{Duration, Instant};

use super::tables::{bases, good, read};
use cofferdam::firmware::dmar::Dmar;
use cofferdam::firmware::{Finding, Flaw, Strictness};
use cofferdam::topology::NoConfigSpace;
use cofferdam_support::front::read_table;
use cofferdam_support::tables::{dmar, endpoint, ivrs};

#[test]
fn a_wrong_checksum_or_a_cut_is_reported_and_the_rest_used() {
    let sound = good().table();
    let wrong = {
        let mut table = sound.clone();
        table[20] ^= 4;
        table
    };
    let (topology, findings) = read(&wrong);
    assert!(topology.is_ok());
    assert_eq!(findings, [Finding { offset: 9, flaw: Flaw::Checksum { sum: findings_sum(&wrong) } }]);

    let cut = &good().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).table()[..80];
    let (topology, findings) = read(cut);
    assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
    assert_eq!(findings[0], Finding { offset: 4, flaw: Flaw::TableCut { length: 104, bytes: 80 } });

    // Bytes behind the table are none of it.
    let mut page = sound;
    page.resize(4096, 0xff);
    assert_eq!(read(&page).1, []);
}

fn findings_sum(table: &[u8]) -> u8 {
    table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

#[test]
fn a_topology_says_if_a_unit_may_be_missing() {
    let is_complete = |table: Vec<u8>| read(&table).0.unwrap().is_complete();
    assert!(is_complete(good().table()));
    assert!(is_complete(good().structure(7, &[]).rmrr(0, 1, 0, &[endpoint(2, 0)]).drhd(0, 0, 0, &[]).table()));
    assert!(!is_complete(good().structure(0, &[0; 11]).table()));
    assert!(is_complete(good().raw(&[0; 4]).table()));
    assert!(!is_complete(good().raw(&[0, 0, 0, 0, 1]).table()));
    assert!(!is_complete(good().raw(&[0, 0, 200, 0]).table()));
    assert!(!is_complete(good().drhd(0, 0, 0x1000, &[vec![1, 6, 0, 0, 0, 0]]).table()));
    assert!(!is_complete(good().drhd(0, 0, 0x1000, &[]).table()[..72].to_vec()));

    let sound: &[&[u8]] = &[&[1, 0, 0, 0]];
    let is_complete = |table: Vec<u8>| read(&table).0.unwrap().is_complete();
    assert!(is_complete(ivrs().ivhd(0x10, 2, 0x4000, sound).table()));
    assert!(!is_complete(ivrs().ivhd(0x10, 2, 0x4000, sound).block(0x11, 0, &[0; 30]).table()));
    assert!(!is_complete(ivrs().ivhd(0x10, 2, 0x4000, &[&[1, 0, 0, 0], &[3, 0, 4, 0]]).table()));
}

#[test]
fn the_caller_decides_how_strict_to_be() {
    let (_, findings) = read(&good().drhd(0, 0, 0, &[endpoint(2, 0)]).structure(7, &[]).table());
    assert_eq!(findings.len(), 3);
    assert!(!findings.iter().any(|finding| Strictness::default().refuses(finding)));
    let refused: Vec<_> = findings.iter().filter(|finding| Strictness::RefuseErrors.refuses(finding)).collect();
    assert_eq!(refused, [&Finding { offset: 72, flaw: Flaw::NoBase }]);
}

#[test]
fn what_is_no_table_is_refused_in_words() {
    let no_units = dmar().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).table();
    for (bytes, expected) in [
        (&[][..], "0 bytes are no table: its header alone has 48"),
        (b"DMAR", "4 bytes are no table: its header alone has 48"),
        (&ivrs().table(), "offset 0x30: no structure describes a unit that can be used"),
        (&[0xff; 64], "offset 0x0: the signature is \"\\xff\\xff\\xff\\xff\", not \"DMAR\""),
        (&dmar().table_of_length(0), "offset 0x4: the table gives its length as 0 bytes, but has at least 48"),
        (&dmar().table_of_length(47), "offset 0x4: the table gives its length as 47 bytes, but has at least 48"),
        (&no_units, "offset 0x30: no structure describes a unit that can be used"),
    ] {
        assert_eq!(read(bytes).0.unwrap_err().to_string(), expected);
    }
}

#[test]
fn many_structures_take_time_in_proportion() {
    // 1 MiB of the smallest structures; an ANDD, an unknown one, an ATSR and a DRHD's scopes.
    let started = Instant::now();
    for body in [&[0, 0, 0, 1, 0][..], &[][..], &[0, 0, 0, 0][..]] {
        for kind in [4, 7, 2] {
            let mut table = good();
            while table.offset() < 1 << 20 {
                table = table.structure(kind, body);
            }
            let table = table.table();
            let mut findings = 0_usize;
            let _ = read_table(&table, &NoConfigSpace, |_| findings += 1);
            let dmar = Dmar::new(&table, |_| {}).unwrap();
            assert_eq!(dmar.structures().count(), (table.len() - 48 - 24) / (4 + body.len()) + 1);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
