//! ACPICA's disassembler reads the same from the real tables.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use cofferdam::firmware::dmar::{Dmar, ScopeKind, Scopes, Structure};
use cofferdam::firmware::ivrs::{EntryKind, IvmdDevices, Ivrs, IvrsBlock, Variety};

use super::tables::{RealTable, real_tables};

/// Fields by offset and length: where their structure starts, and what they say.
type Fields = BTreeMap<(u32, u32), (u32, String)>;
/// Fields by offset and length as iasl shows them: name and value.
type Shown = BTreeMap<(u32, u32), (String, String)>;

#[test]
fn an_independent_decoder_agrees_field_by_field() {
    if Command::new("iasl").arg("-v").output().is_err() {
        assert!(env::var_os("CI").is_none(), "iasl is missing: install Debian's acpica-tools");
        // Not through the macros, whose text the test harness keeps for itself.
        let text =
            "\nNOT TESTED: the decoding of the real tables against iasl, which is missing (Debian: acpica-tools)\n\n";
        let _ = io::stderr().write_all(text.as_bytes());
        return;
    }
    let folder = env::temp_dir().join(format!("cofferdam-iasl-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (mut agreed, mut unknown) = (0, 0);
    for table in real_tables() {
        let (theirs, known) = disassemble(&table, &folder);
        let ours = if table.is_dmar() { dmar_fields(&table.bytes) } else { ivrs_fields(&table.bytes) };
        for (place, (name, value)) in &theirs {
            match ours.get(place) {
                Some((_, our)) => {
                    assert_eq!(our, value, "{} offset {:#x}: {name}", table.file, place.0);
                    agreed += 1;
                }
                // We read no reserved field; iasl shows padding and special devices with a device of 0.
                None => assert!(
                    place.0 < 36 || name == "Reserved" || value.trim_matches(['0', ' ']).is_empty(),
                    "{} offset {:#x}: only iasl has {name} = {value}",
                    table.file,
                    place.0
                ),
            }
        }
        for (place, (structure, our)) in &ours {
            if !theirs.contains_key(place) {
                assert!(!known.contains(structure), "{}: only we have {our} at {place:#x?}", table.file);
                unknown += 1;
            }
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    println!("{agreed} fields agree; {unknown} are in structures that this iasl does not know");
    assert!(agreed > 8000, "{agreed}");
}

/// All fields with their names and values, and where the structures start whose type iasl knows.
///
/// A line is such as `[038h 0056   8]        Register Base Address : 00000000FED90000`.
fn disassemble(table: &RealTable, folder: &Path) -> (Shown, BTreeSet<u32>) {
    let file = folder.join(&table.file);
    fs::write(&file, &table.bytes).unwrap();
    let output = Command::new("iasl").arg("-d").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&fs::read(file.with_extension("dsl")).unwrap()).into_owned();
    let known = text.lines().filter(|line| line.contains("Subtable Type : ") && !line.contains("[Unknown"));
    let known = known.filter_map(field).map(|((offset, _), _)| offset).chain([0]).collect();
    (text.lines().filter_map(field).collect(), known)
}

fn field(line: &str) -> Option<((u32, u32), (String, String))> {
    let (place, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (name, value) = rest.split_once(" : ")?;
    let mut place = place.split_whitespace();
    let offset = u32::from_str_radix(place.next()?.strip_suffix('h')?, 16).ok()?;
    let length = place.nth(1)?;
    // Newer versions have the length in hexadecimal.
    let length = match length.strip_suffix('h') {
        Some(length) => u32::from_str_radix(length, 16).ok()?,
        None => length.parse().ok()?,
    };
    // Behind the value may be an explanation.
    let value = value.split(" [").next()?.trim();
    Some(((offset, length), (name.trim().to_owned(), value.to_owned())))
}

/// Numbers as iasl shows them: all digits of the field.
struct Collector {
    fields: Fields,
    structure: u32,
}

impl Collector {
    fn number(&mut self, offset: u32, length: u32, value: u64) {
        self.text(offset, length, format!("{value:0width$X}", width = length as usize * 2));
    }

    fn text(&mut self, offset: u32, length: u32, text: String) {
        assert_eq!(self.fields.insert((offset, length), (self.structure, text)), None);
    }

    fn scopes(&mut self, scopes: Scopes<'_>) {
        for scope in scopes {
            let scope = scope.unwrap();
            let at = scope.offset();
            let kind = match scope.kind() {
                ScopeKind::Endpoint => 1,
                ScopeKind::Subtree => 2,
                ScopeKind::IoApic => 3,
                ScopeKind::Hpet => 4,
                ScopeKind::Acpi => 5,
                other => panic!("{other}"),
            };
            self.number(at, 1, kind);
            self.number(at + 1, 1, 6 + 2 * scope.path().len() as u64);
            self.number(at + 4, 1, u64::from(scope.enumeration_id()));
            self.number(at + 5, 1, u64::from(scope.start_bus()));
            for (hop, index) in scope.path().iter().zip(0..) {
                self.text(at + 6 + 2 * index, 2, format!("{:02X},{:02X}", hop.device, hop.function));
            }
        }
    }
}

fn dmar_fields(bytes: &[u8]) -> Fields {
    let dmar = Dmar::new(bytes, |finding| panic!("{finding}")).unwrap();
    let mut all = Collector { fields: Fields::new(), structure: 0 };
    all.number(36, 1, u64::from(dmar.host_address_width() - 1));
    all.number(37, 1, u64::from(dmar.flags().bits()));
    let structures: Vec<Structure<'_>> = dmar.structures().map(Result::unwrap).collect();
    let ends = structures.iter().skip(1).map(Structure::offset).chain([bytes.len() as u32]);
    for (structure, end) in structures.iter().zip(ends) {
        let at = structure.offset();
        all.structure = at;
        all.number(at, 2, u64::from(structure.number()));
        all.number(at + 2, 2, u64::from(end - at));
        match *structure {
            Structure::Drhd(drhd) => {
                all.number(at + 4, 1, u64::from(drhd.include_all()));
                all.number(at + 5, 1, u64::from((drhd.bytes() / 4096).trailing_zeros()));
                all.number(at + 6, 2, u64::from(drhd.segment()));
                all.number(at + 8, 8, drhd.base());
                all.scopes(drhd.scopes());
            }
            Structure::Rmrr(rmrr) => {
                all.number(at + 6, 2, u64::from(rmrr.segment()));
                all.number(at + 8, 8, rmrr.base());
                all.number(at + 16, 8, rmrr.limit());
                all.scopes(rmrr.scopes());
            }
            Structure::Atsr(atsr) => {
                all.number(at + 4, 1, u64::from(atsr.all_ports()));
                all.number(at + 6, 2, u64::from(atsr.segment()));
                all.scopes(atsr.scopes());
            }
            Structure::Rhsa(rhsa) => {
                all.number(at + 8, 8, rhsa.base());
                all.number(at + 16, 4, u64::from(rhsa.proximity()));
            }
            Structure::Andd(andd) => {
                all.number(at + 7, 1, u64::from(andd.number()));
                let name = String::from_utf8(andd.name().to_vec()).unwrap();
                all.text(at + 8, name.len() as u32 + 1, format!("\"{name}\""));
            }
            Structure::Satc(satc) => {
                all.number(at + 4, 1, u64::from(satc.required()));
                all.number(at + 6, 2, u64::from(satc.segment()));
                all.scopes(satc.scopes());
            }
            Structure::Sidp(sidp) => {
                all.number(at + 6, 2, u64::from(sidp.segment()));
                all.scopes(sidp.scopes());
            }
            ref other => panic!("{other:?}"),
        }
    }
    all.fields
}

fn ivrs_fields(bytes: &[u8]) -> Fields {
    let ivrs = Ivrs::new(bytes, |finding| panic!("{finding}")).unwrap();
    let mut all = Collector { fields: Fields::new(), structure: 0 };
    all.number(36, 4, u64::from(ivrs.info().bits()));
    let blocks: Vec<IvrsBlock<'_>> = ivrs.blocks().map(Result::unwrap).collect();
    let ends = blocks.iter().skip(1).map(IvrsBlock::offset).chain([bytes.len() as u32]);
    for (block, end) in blocks.iter().zip(ends) {
        let at = block.offset();
        all.structure = at;
        all.number(at, 1, u64::from(block.number()));
        all.number(at + 2, 2, u64::from(end - at));
        match block {
            IvrsBlock::Ivhd(ivhd) => {
                all.number(at + 1, 1, u64::from(ivhd.flags()));
                all.number(at + 4, 2, u64::from(ivhd.device()));
                all.number(at + 6, 2, u64::from(ivhd.capability()));
                all.number(at + 8, 8, ivhd.base());
                all.number(at + 16, 2, u64::from(ivhd.segment()));
                all.number(at + 18, 2, u64::from(ivhd.info()));
                all.number(at + 20, 4, u64::from(ivhd.attributes()));
                if let Some(features) = ivhd.features() {
                    all.number(at + 24, 8, features);
                }
                for entry in ivhd.entries() {
                    let entry = entry.unwrap();
                    let (kind, device) = kind_and_device(&entry.kind);
                    all.number(entry.offset, 1, u64::from(kind));
                    all.number(entry.offset + 1, 2, u64::from(device));
                    all.number(entry.offset + 3, 1, u64::from(entry.settings));
                    match entry.kind {
                        EntryKind::AliasSelect { source, .. } | EntryKind::AliasStartRange { source, .. } => {
                            all.number(entry.offset + 5, 2, u64::from(source));
                        }
                        EntryKind::ExtendedSelect { extended, .. } | EntryKind::ExtendedStartRange { extended, .. } => {
                            all.number(entry.offset + 4, 4, u64::from(extended));
                        }
                        EntryKind::Special { handle, source, variety } => {
                            all.number(entry.offset + 4, 1, u64::from(handle));
                            all.number(entry.offset + 5, 2, u64::from(source));
                            let variety = match variety {
                                Variety::IoApic => 1,
                                Variety::Hpet => 2,
                                other => panic!("{other:?}"),
                            };
                            all.number(entry.offset + 7, 1, variety);
                        }
                        _ => {}
                    }
                }
            }
            IvrsBlock::Ivmd(ivmd) => {
                all.number(at + 1, 1, u64::from(ivmd.flags().bits()));
                let (device, auxiliary) = match ivmd.devices() {
                    IvmdDevices::All => (0, 0),
                    IvmdDevices::One(device) => (device, 0),
                    IvmdDevices::Range(first, last) => (first, last),
                };
                all.number(at + 4, 2, u64::from(device));
                all.number(at + 6, 2, u64::from(auxiliary));
                all.number(at + 16, 8, ivmd.start());
                all.number(at + 24, 8, ivmd.bytes());
            }
            // iasl shows the common header of a block that it does not know as that of an IVHD.
            IvrsBlock::Unknown { bytes, .. } => {
                all.number(at + 1, 1, u64::from(bytes[1]));
                all.number(at + 4, 2, u64::from(u16::from_le_bytes([bytes[4], bytes[5]])));
            }
            other => panic!("{other:?}"),
        }
    }
    all.fields
}

fn kind_and_device(kind: &EntryKind<'_>) -> (u8, u16) {
    match *kind {
        EntryKind::Padding => (0, 0),
        EntryKind::All => (1, 0),
        EntryKind::Select { device } => (2, device),
        EntryKind::StartRange { device } => (3, device),
        EntryKind::EndRange { device } => (4, device),
        EntryKind::AliasSelect { device, .. } => (0x42, device),
        EntryKind::AliasStartRange { device, .. } => (0x43, device),
        EntryKind::ExtendedSelect { device, .. } => (0x46, device),
        EntryKind::ExtendedStartRange { device, .. } => (0x47, device),
        EntryKind::Special { .. } => (0x48, 0),
        EntryKind::Acpi { device, .. } => (0xf0, device),
        ref other => panic!("{other:?}"),
    }
}
