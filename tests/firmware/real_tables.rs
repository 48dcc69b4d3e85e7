use std::collections::BTreeSet;

use super::tables::{RealTable, real_tables};
use super::tree::id;
use cofferdam::firmware::Finding;
use cofferdam::firmware::dmar::Dmar;
use cofferdam::firmware::ivrs::{Ivrs, IvrsBlock, Listed, Uid};
use cofferdam::topology::{NoConfigSpace, Role, Topology, UnitIndex};
use cofferdam_support::front::read_table;

fn table(file: &str) -> RealTable {
    real_tables().into_iter().find(|table| table.file == file).unwrap()
}

#[test]
fn each_real_table_has_the_structures_that_its_index_names() {
    for table in real_tables() {
        let broken = |finding: Finding| panic!("{}: {finding}", table.file);
        let kinds: BTreeSet<u16> = if table.is_dmar() {
            Dmar::new(&table.bytes, broken).unwrap().structures().map(|it| it.unwrap().number()).collect()
        } else {
            let ivrs = Ivrs::new(&table.bytes, broken).unwrap();
            ivrs.blocks().map(|it| u16::from(it.unwrap().number())).collect()
        };
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), table.kinds, "{}", table.file);
        assert_eq!(table.bytes.len(), table.length);
    }
}

pub(crate) fn topology_of(table: &RealTable) -> (Topology<'static>, Vec<Finding>) {
    let mut findings = Vec::new();
    let topology = read_table(&table.bytes, &NoConfigSpace, |finding| findings.push(finding));
    (topology.unwrap(), findings)
}

#[test]
fn properties_of_the_soc_are_read_as_the_bytes_say() {
    // Of these the disassembler knows nothing, so they were read by eye.
    let (topology, _) = topology_of(&table("dmar-50d22a0a0cce.bin"));
    for (device, properties) in [(2, 0x1f), (0xb, 0x1c), (0x14, 0)] {
        let source = id(0, device, 0);
        assert_eq!(topology.properties(&NoConfigSpace, source).bits(), properties);
        assert_eq!(topology.snoop_forbidden(&NoConfigSpace, source), properties & 4 != 0);
    }
    assert_eq!(topology.ioapic(2), Some((UnitIndex::new(1), id(0, 0x1e, 7))));
    assert_eq!(topology.hpet(0).collect::<Vec<_>>(), [(UnitIndex::new(1), id(0, 0x1e, 6))]);

    let (topology, _) = topology_of(&table("dmar-b2b14a9e90e8.bin"));
    let windows: Vec<_> = topology.units().iter().map(|unit| (unit.window.base.as_u64(), unit.window.bytes)).collect();
    assert_eq!(windows, [(0xfc80_0000, 0x1_0000), (0xfc81_0000, 0x1_0000), (0xfc82_0000, 0x1_0000)]);
    assert_eq!(
        [2, 4, 5, 6].map(|device| topology.unit_of(&NoConfigSpace, id(0, device, 0))),
        [0, 1, 1, 2].map(|unit| Some(UnitIndex::new(unit)))
    );
}

#[test]
fn a_block_of_type_40h_is_read_as_the_bytes_say() {
    let real = table("ivrs-005f1a61406e.bin");
    let ivrs = Ivrs::new(&real.bytes, |finding| panic!("{finding}")).unwrap();
    let Some(IvrsBlock::Ivhd(ivhd)) = ivrs.sound().find(|block| block.number() == 0x40) else { panic!() };
    let named: Vec<String> = ivhd
        .devices()
        .filter_map(|listed| match listed.unwrap().1 {
            Listed::Acpi { device, hid, uid: Uid::Text(uid), settings, .. } => {
                Some(format!("{device:#x} {settings:#x} {} {}", hid.escape_ascii(), uid.escape_ascii()))
            }
            _ => None,
        })
        .collect();
    let expected: Vec<String> = (0..4).map(|uart| format!(r"0xa5 0x40 AMDI0020 \\_SB.FUR{uart}")).collect();
    assert_eq!(named, expected);
    let (topology, _) = topology_of(&real);
    // The alias range FF00 to FFFF of bridge 00A5, within the range 0008 to FFFE.
    let requesters = topology.requesters(&NoConfigSpace, id(0xff, 2, 0)).unwrap();
    assert_eq!(requesters.ids(), [id(0xff, 2, 0), id(0, 0x14, 5)]);
    assert_eq!(topology.device_settings(&NoConfigSpace, id(0, 0x14, 0)), 0xd7);
}

#[test]
fn an_amd_unit_with_counters_has_more_registers() {
    // Attributes 00048000h, two counters in two banks, of a block of type 10h; and 00040200h, no counters, of one of type 40h,
    // whose features have them (PCSup).
    for (file, window) in
        [("ivrs-03db289a1dcd.bin", (0xf770_0000, 0x8_0000)), ("ivrs-005f1a61406e.bin", (0xa040_0000, 0x8_0000))]
    {
        let (topology, _) = topology_of(&table(file));
        let unit = topology.units()[0].window;
        assert_eq!((unit.base.as_u64(), unit.bytes), window);
    }
}

#[test]
fn each_real_table_becomes_a_topology() {
    let mut units = 0;
    for table in real_tables() {
        let (topology, _) = topology_of(&table);
        units += topology.units().len();
        assert!(topology.is_complete(), "{}", table.file);
        for (index, unit) in topology.units().iter().enumerate() {
            assert_eq!(unit.segment, 0);
            assert!(
                topology.scopes().iter().any(|scope| scope.role == Role::Unit(UnitIndex::new(index as u16))),
                "{}",
                table.file
            );
        }
    }
    // 313 DRHDs less the one at address 0, and 55 different units in the IVRS tables.
    assert_eq!(units, 312 + 55);
}
