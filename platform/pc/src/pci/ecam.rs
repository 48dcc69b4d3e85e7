//! Where configuration space lies in memory (PCI Firmware Specification 3.3, section 4.1.2, table MCFG).

use cofferdam::addr::SourceId;

/// Ranges of buses that are kept: enough for a machine with eight sockets.
const RANGES: usize = 32;
/// Header of the table and reserved bytes before its entries.
const ENTRIES: usize = 44;
/// Bytes of an entry: base address at 0, segment at 8, first bus at 10, last bus at 11.
const ENTRY: usize = 16;

/// The configuration space of some buses. Where bus 0 is, or would be, is what the table calls base address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BusRange {
    base: u64,
    segment: u16,
    first: u8,
    last: u8,
}

/// All configuration space that can be reached.
#[derive(Debug, Default)]
pub(crate) struct Ecam {
    ranges: heapless::Vec<BusRange, RANGES>,
}

impl Ecam {
    /// Reads the bytes of the table. An entry is dropped if its base is not aligned to a bus or its end passes 2^64; and
    /// so are those that do not fit. One whose buses run backwards serves none.
    pub(crate) fn read(mcfg: &[u8]) -> Self {
        let entries = mcfg.get(ENTRIES..).unwrap_or_default();
        let usable = entries.chunks_exact(ENTRY).filter_map(|entry| {
            let range = BusRange {
                base: u64::from_le_bytes(*entry.first_chunk()?),
                segment: u16::from_le_bytes([*entry.get(8)?, *entry.get(9)?]),
                first: *entry.get(10)?,
                last: *entry.get(11)?,
            };
            let end = range.base.checked_add(bus_offset(range.last))?.checked_add(bus_offset(1));
            (end.is_some() && range.base.is_multiple_of(bus_offset(1))).then_some(range)
        });
        Self { ranges: usable.take(RANGES).collect() }
    }

    /// Physical address of a configuration register; `None` if `offset` is not a multiple of 4 below 4096, or nothing
    /// leads to that bus.
    pub(crate) fn address(&self, function: SourceId, offset: u16) -> Option<u64> {
        let bus = function.bus();
        let serves =
            |range: &&BusRange| range.segment == function.segment() && (range.first..=range.last).contains(&bus);
        let range = self.ranges.iter().find(serves).filter(|_| offset < 4096 && offset.is_multiple_of(4))?;
        Some(range.base + bus_offset(bus) + (u64::from(function.devfn()) << 12) + u64::from(offset))
    }

    /// Every bus that can be reached, as segment and number.
    pub(crate) fn buses(&self) -> impl Iterator<Item = (u16, u8)> {
        self.ranges.iter().flat_map(|range| (range.first..=range.last).map(|bus| (range.segment, bus)))
    }
}

fn bus_offset(bus: u8) -> u64 {
    u64::from(bus) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xb000_0000;

    fn mcfg(entries: &[(u64, u16, u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![0; ENTRIES];
        for &(base, segment, first, last) in entries {
            bytes.extend(base.to_le_bytes());
            bytes.extend(segment.to_le_bytes());
            bytes.extend([first, last, 0, 0, 0, 0]);
        }
        bytes
    }

    fn id(segment: u16, bus: u8, device: u8, function: u8) -> SourceId {
        SourceId::new(segment, bus, device, function).unwrap()
    }

    #[test]
    fn every_function_has_4_kib_in_the_range_of_its_bus() {
        let ecam = Ecam::read(&mcfg(&[(BASE, 0, 0, 0x7f), (0x40_0000_0000, 1, 0x80, 0xff)]));
        assert_eq!(ecam.address(id(0, 0, 0, 0), 0), Some(BASE));
        assert_eq!(ecam.address(id(0, 0x7f, 0x1f, 7), 0xffc), Some(BASE + 0x7ff_fffc));
        // The base address is bus 0's, also where the range starts higher.
        assert_eq!(ecam.address(id(1, 0x80, 1, 0), 4), Some(0x40_0800_8004));
        assert_eq!(ecam.buses().count(), 0x100);
        assert_eq!(ecam.buses().last(), Some((1, 0xff)));
    }

    #[test]
    fn what_no_range_serves_has_no_address() {
        let ecam = Ecam::read(&mcfg(&[(BASE, 0, 1, 0x7f)]));
        for (function, offset) in [
            (id(0, 0, 0, 0), 0),
            (id(0, 0x80, 0, 0), 0),
            (id(1, 1, 0, 0), 0),
            (id(0, 1, 0, 0), 2),
            (id(0, 1, 0, 0), 0x1000),
            (id(0, 1, 0, 0), 0xfffc),
        ] {
            assert_eq!(ecam.address(function, offset), None, "{function} {offset:#x}");
        }
    }

    #[test]
    fn a_bad_entry_costs_that_entry_alone() {
        let entries =
            [(BASE + 0x1000, 0, 0, 1), (BASE, 0, 5, 4), (u64::MAX << 20, 0, 0, 0), (u64::MAX << 24, 0, 0, 255)];
        assert_eq!(Ecam::read(&mcfg(&entries)).buses().count(), 0);
        let mut with_a_good_one = mcfg(&entries);
        with_a_good_one.extend(&mcfg(&[(BASE, 0, 0, 3)])[ENTRIES..]);
        // And half an entry at the end.
        with_a_good_one.extend([0xff; 15]);
        assert_eq!(Ecam::read(&with_a_good_one).buses().count(), 4);
    }

    #[test]
    fn more_ranges_than_fit_and_tables_too_short_do_no_harm() {
        assert_eq!(Ecam::read(&mcfg(&[(BASE, 0, 0, 0); RANGES + 1])).buses().count(), RANGES);
        for len in 0..ENTRIES + ENTRY {
            assert_eq!(Ecam::read(&vec![0; len]).buses().count(), 0);
        }
    }
}
