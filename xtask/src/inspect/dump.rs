//! Tables in the texts that tools print: acpidump, iasl, hexdump, od, xxd.
//!
//! All but plain digits are rows of an offset and bytes. A table starts at a row with offset 0, and its first four bytes are
//! its name.

use std::{borrow::Cow, collections::BTreeMap};

/// No table is larger: an asterisk before a wild offset ends there.
const MAX_BYTES: usize = 1 << 20;

/// The tables of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dump {
    /// The first of each name.
    pub(super) tables: BTreeMap<String, Vec<u8>>,
    /// Those of which a row is missing, and the offset.
    pub(super) gaps: BTreeMap<String, usize>,
}

/// The text of a file: UTF-16, as a shell of Windows redirects it, or anything near to ASCII.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let wide = |of: fn([u8; 2]) -> u16| {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| of(*pair)).collect();
        Cow::Owned(String::from_utf16_lossy(&units))
    };
    match bytes {
        [0xff, 0xfe, ..] | [1..=255, 0, 1..=255, 0, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] | [0, 1..=255, 0, 1..=255, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Reads the tables in a text.
pub(super) fn read(text: &str) -> Dump {
    let text = text.trim_start_matches('\u{feff}');
    if let Some(bytes) = plain(text) {
        let mut dump = Dump::default();
        dump.close(Some(bytes), None);
        return dump;
    }
    let mut dump = Dump::default();
    let (mut current, mut gap): (Option<Vec<u8>>, Option<usize>) = (None, None);
    // The last row, which a line of an asterisk repeats up to the next one.
    let (mut last, mut repeats) = (Vec::new(), false);
    // od counts in octal: its second row shows it.
    let mut base = 16;
    for line in text.lines() {
        if line.contains(" @ 0x") {
            dump.close(current.take(), gap.take());
        }
        repeats |= line.trim() == "*";
        let Some(Row { offset, is_colon, bytes }) = Row::new(line) else { continue };
        if offset == "0".repeat(offset.len()) {
            dump.close(current.take(), gap.take());
            current = Some(Vec::new());
            (repeats, base) = (false, 16);
        }
        let Some(table) = &mut current else { continue };
        let in_base = |base| usize::from_str_radix(offset, base).unwrap_or_default();
        if !is_colon && !repeats && in_base(16) != table.len() && in_base(8) == table.len() {
            base = 8;
        }
        let at = in_base(base);
        while repeats && table.len() < at.min(MAX_BYTES) && !last.is_empty() {
            table.extend(&last);
        }
        repeats = false;
        if bytes.is_empty() {
            // The last line of hexdump is the length.
            table.truncate(at);
        } else if at != table.len() {
            gap = gap.or(Some(table.len()));
        }
        table.extend(&bytes);
        last = bytes;
    }
    dump.close(current, gap);
    dump
}

impl Dump {
    fn close(&mut self, table: Option<Vec<u8>>, gap: Option<usize>) {
        let Some(table) = table else { return };
        let Some(name) = table.first_chunk::<4>().filter(|name| name.iter().all(u8::is_ascii_graphic)) else { return };
        let name = name.escape_ascii().to_string();
        match gap {
            Some(offset) => drop(self.gaps.insert(name, offset)),
            None => drop(self.tables.entry(name).or_insert(table)),
        }
    }
}

/// The bytes of a text that is nothing but hexadecimal digits, as `xxd -p` prints them.
fn plain(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    // Rows without text in a column would be digits as well: their first would be the offset.
    let is_plain = digits.starts_with("444d4152") || digits.starts_with("49565253") || digits.starts_with("444D4152");
    is_plain.then(|| in_order(&digits)).flatten()
}

/// Digits in the order of the bytes.
fn in_order(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|it| it.len() == 2)?, 16).ok()).collect()
}

/// One line of an offset and bytes.
struct Row<'t> {
    offset: &'t str,
    /// Behind the offset stands a colon: of acpidump, iasl or xxd.
    is_colon: bool,
    bytes: Vec<u8>,
}

impl<'t> Row<'t> {
    fn new(line: &'t str) -> Option<Self> {
        let line = line.trim_start();
        let (offset, rest) = line.split_once(char::is_whitespace).unwrap_or((line.trim_end(), ""));
        let is_colon = offset.ends_with(':');
        let offset = offset.trim_end_matches(':');
        if offset.len() < 4 || !offset.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        // Before the column of text stand two spaces, or a bar: letters could look like bytes.
        let columns = if is_colon { rest.trim_start().split("  ").next() } else { rest.split('|').next() };
        let mut bytes = Vec::new();
        for word in columns?.split_whitespace() {
            let word = in_order(word)?;
            // hexdump and od print words of 16 bits by their value, xxd by their bytes.
            if !is_colon && word.len() == 2 { bytes.extend(word.iter().rev()) } else { bytes.extend(word) }
        }
        // A number alone in a line is a row of hexdump's end; with a colon it is none.
        (!bytes.is_empty() || !is_colon && rest.trim().is_empty()).then_some(Self { offset, is_colon, bytes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
    use super::*;

    /// 69 bytes: an odd number, three equal rows, and bytes that look like digits.
    fn table() -> Vec<u8> {
        let mut table = b"DMARE\0\0\0ABCD1234".to_vec();
        table.extend([0; 48]);
        table.extend(b"12 |z");
        table
    }

    /// What each tool prints of it.
    const PRINTED: [(&str, &str); 9] = [
        (
            "acpidump",
            "DMAR @ 0x000000007A5E8000\n  0000: 44 4D 41 52 45 00 00 00 41 42 43 44 31 32 33 34  DMARE...ABCD1234\n  0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n  0020: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n  0030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n  0040: 31 32 20 7C 7A                                   12 |z\n",
        ),
        (
            "iasl",
            "[000h 0000 004h]                   Signature : \"DMAR\"    [DMA Remapping Table]\n[004h 0004 004h]                Table Length : 00000045\n\nRaw Table Data: Length 69 (0x45)\n\n    0000: 44 4D 41 52 45 00 00 00 41 42 43 44 31 32 33 34  // DMARE...ABCD1234\n    0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  // ................\n    0020: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  // ................\n    0030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  // ................\n    0040: 31 32 20 7C 7A                                   // 12 |z\n",
        ),
        (
            "hexdump -C",
            "00000000  44 4d 41 52 45 00 00 00  41 42 43 44 31 32 33 34  |DMARE...ABCD1234|\n00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000040  31 32 20 7c 7a                                    |12 |z|\n00000045\n",
        ),
        (
            "hexdump",
            "0000000 4d44 5241 0045 0000 4241 4443 3231 3433\n0000010 0000 0000 0000 0000 0000 0000 0000 0000\n*\n0000040 3231 7c20 007a                         \n0000045\n",
        ),
        (
            "od -t x1",
            "0000000 44 4d 41 52 45 00 00 00 41 42 43 44 31 32 33 34\n0000020 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n*\n0000100 31 32 20 7c 7a\n0000105\n",
        ),
        (
            "xxd",
            "00000000: 444d 4152 4500 0000 4142 4344 3132 3334  DMARE...ABCD1234\n00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n00000020: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n00000030: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n00000040: 3132 207c 7a                             12 |z\n",
        ),
        (
            "xxd -g 1",
            "00000000: 44 4d 41 52 45 00 00 00 41 42 43 44 31 32 33 34  DMARE...ABCD1234\n00000010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n00000020: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n00000030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n00000040: 31 32 20 7c 7a                                   12 |z\n",
        ),
        (
            "xxd -p",
            "444d41524500000041424344313233340000000000000000000000000000\n000000000000000000000000000000000000000000000000000000000000\n000000003132207c7a\n",
        ),
        (
            "xxd -a",
            "00000000: 444d 4152 4500 0000 4142 4344 3132 3334  DMARE...ABCD1234\n00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n*\n00000040: 3132 207c 7a                             12 |z\n",
        ),
    ];

    /// F13: what the usual tools print is read as the bytes that they print it of, also with other ends of lines.
    #[test]
    fn what_the_tools_print_is_read() {
        for (tool, printed) in PRINTED {
            for ends in ["\n", "\r\n"] {
                let dump = read(&printed.replace('\n', ends));
                assert_eq!(dump.tables.get("DMAR"), Some(&table()), "{tool}");
                assert!(dump.gaps.is_empty(), "{tool}");
            }
        }
    }

    /// F13: in UTF-16, and with bytes that are no UTF-8 in the column of text.
    #[test]
    fn other_encodings_are_read() {
        let (_, printed) = PRINTED[0];
        let units = || printed.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        let mut latin = printed.as_bytes().to_vec();
        let at = printed.find("DMARE").unwrap();
        latin[at] = 0xe4;
        for bytes in [[&[0xff, 0xfe], &little[..]].concat(), [&[0xfe, 0xff], &big[..]].concat(), little, big, latin] {
            assert_eq!(read(&text(&bytes)).tables.get("DMAR"), Some(&table()));
        }
        let mark = format!("\u{feff}{}", PRINTED[7].1);
        assert_eq!(read(&mark).tables.len(), 1);
    }

    #[test]
    fn a_row_that_is_missing_is_no_table() {
        let (_, printed) = PRINTED[5];
        let lacking: String =
            printed.lines().filter(|line| !line.starts_with("00000020")).map(|line| format!("{line}\n")).collect();
        let dump = read(&lacking);
        assert_eq!((dump.tables.len(), dump.gaps), (0, BTreeMap::from([("DMAR".to_owned(), 0x20)])));
    }
}
