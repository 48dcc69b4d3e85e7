//! Where configuration space lies in memory (PCI Firmware Specification 3.3, section 4.1.2, table MCFG).

use cofferdam::addr::SourceId;
use heapless::Vec;

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
    ranges: Vec<BusRange, RANGES>,
}

impl Ecam {
    /// Reads the bytes of the table. An entry is dropped if its base is not aligned to a bus, its buses run backwards,
    /// its end passes 2^64, or `is_memory` says that some of it is memory; and so are those that do not fit.
    pub(crate) fn read(mcfg: &[u8], is_memory: impl Fn(u64, u64) -> bool) -> Self {
        let entries = mcfg.get(ENTRIES..).unwrap_or_default();
        let usable = entries.chunks_exact(ENTRY).filter_map(|entry| {
            let range = BusRange {
                base: u64::from_le_bytes(*entry.first_chunk()?),
                segment: u16::from_le_bytes([*entry.get(8)?, *entry.get(9)?]),
                first: *entry.get(10)?,
                last: *entry.get(11)?,
            };
            let start = range.base.checked_add(bus_offset(range.first))?;
            let end = range.base.checked_add(bus_offset(range.last))?.checked_add(bus_offset(1))?;
            let is_sane = range.base.is_multiple_of(bus_offset(1)) && range.first <= range.last;
            (is_sane && !is_memory(start, end)).then_some(range)
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
