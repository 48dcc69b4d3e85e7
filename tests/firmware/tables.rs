//! Tables that tests read: those of `tests/firmware-tables`, as its index describes them, and a small one that is sound.

use std::fs;
use std::path::PathBuf;

use cofferdam::firmware::{Finding, TableError};
use cofferdam::topology::{NoConfigSpace, Topology};
use cofferdam_support::front::read_table;
use cofferdam_support::tables::{Table, dmar, ioapic};

/// One real table.
pub(crate) struct RealTable {
    pub(crate) file: String,
    pub(crate) signature: String,
    pub(crate) length: usize,
    /// Types of the structures, in hexadecimal for IVRS, in order, each once.
    pub(crate) kinds: Vec<u16>,
    pub(crate) bytes: Vec<u8>,
}

impl RealTable {
    pub(crate) fn is_dmar(&self) -> bool {
        self.signature == "DMAR"
    }
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/firmware-tables")
}

pub(crate) fn real_tables() -> Vec<RealTable> {
    let index = fs::read_to_string(folder().join("index.csv")).unwrap();
    let tables: Vec<_> = index
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.splitn(5, ',');
            let mut field = || fields.next().unwrap().to_owned();
            let (file, signature, length, kinds) = (field(), field(), field(), field());
            let bytes = fs::read(folder().join(&file)).unwrap();
            let kinds = kinds.split(' ').map(|kind| u16::from_str_radix(kind, 16).unwrap()).collect();
            RealTable { file, signature, length: length.parse().unwrap(), kinds, bytes }
        })
        .collect();
    assert_eq!(tables.len(), 207);
    tables
}

/// What a table says without configuration space, and what is wrong with it.
pub(crate) fn read(table: &[u8]) -> (Result<Topology<'static>, TableError>, Vec<Finding>) {
    let mut findings = Vec::new();
    let topology = read_table(table, &NoConfigSpace, |finding| findings.push(finding));
    (topology, findings)
}

/// A unit that is sound, so that a table can be used.
pub(crate) fn good() -> Table {
    dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
}

/// Where the registers of each unit are.
pub(crate) fn bases(topology: &Topology) -> Vec<u64> {
    topology.units().iter().map(|unit| unit.window.base.as_u64()).collect()
}

/// One of the small tables of `tests/firmware-cases`.
pub(crate) fn case(name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/firmware-cases/{name}.hex"));
    let text: Vec<u8> = fs::read(file).unwrap().into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    text.chunks(2).map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()).collect()
}
