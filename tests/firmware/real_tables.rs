use std::collections::BTreeSet;

use cofferdam::firmware::dmar::Dmar;
use cofferdam::firmware::Error;
use cofferdam::topology::{NoConfigSpace, Topology};

use super::tables::real_tables;

#[test]
fn each_real_dmar_has_the_structures_that_its_index_names() {
    for table in real_tables().iter().filter(|table| table.signature == "DMAR") {
        let dmar = Dmar::new(&table.bytes, |finding| panic!("{}: {finding}", table.file)).unwrap();
        let kinds: BTreeSet<u16> = dmar.structures().map(|it| it.unwrap().number()).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), table.kinds, "{}", table.file);
        assert_eq!(table.bytes.len(), table.length);
    }
}

#[test]
fn each_real_dmar_becomes_a_topology() {
    for table in real_tables().iter().filter(|table| table.signature == "DMAR") {
        let mut findings = Vec::new();
        let topology: Result<Topology, Error> =
            Topology::from_dmar(&table.bytes, &NoConfigSpace, |finding| findings.push(finding));
        for finding in findings {
            println!("{}: {} {finding}", table.file, finding.severity());
        }
        println!("{}: {:x?}", table.file, topology.map(|it| it.units().to_vec()));
    }
}
