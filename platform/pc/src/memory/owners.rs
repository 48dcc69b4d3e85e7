//! Whose memory is whose, by the loader's map.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::identity::LOW;
use crate::boot::MapEntry;

/// Bytes of a frame.
const PAGE: u64 = 4096;
/// Below are the firmware's and the loader's structures, told or not.
const FIRST_MIB: u64 = 1 << 20;

/// Calls `give` for each range of whole frames that is memory by `map`, outside of everything in `taken`, and in nothing
/// else of the map. No frame comes twice, whatever the map says.
pub(crate) fn carve(map: &[MapEntry], taken: &[Range<u64>], mut give: impl FnMut(Range<u64>)) {
    for (index, ram) in map.iter().enumerate().filter(|(_, entry)| entry.is_ram()) {
        // What another entry claims too: it is not free if that is no memory, and given already if that came before.
        let claimed = map.iter().enumerate().filter(|(other, entry)| !entry.is_ram() || *other < index);
        let obstacles = || claimed.clone().map(|(_, entry)| entry.start()..entry.end()).chain(taken.iter().cloned());

        let mut start = up(ram.start().max(FIRST_MIB));
        let end = down(ram.end());
        while start < end {
            let first = obstacles()
                .filter(|range| range.start < range.end && range.start < end && start < range.end)
                .min_by_key(|range| range.start);
            let stop = first.as_ref().map_or(end, |range| down(range.start));
            if start < stop {
                give(start..stop);
            }
            let Some(first) = first else { break };
            start = up(first.end);
        }
    }
}

/// The first address in `range` that is not free by `map`.
pub(crate) fn first_in_use(map: &[MapEntry], range: &Range<u64>) -> Option<u64> {
    let mut at = range.start;
    while at < range.end {
        let ram = map.iter().filter(|entry| entry.is_ram() && entry.start() <= at && at < entry.end());
        let Some(end) = ram.map(MapEntry::end).max() else { return Some(at) };
        let others = map.iter().filter(|entry| !entry.is_ram() && entry.start() < entry.end());
        let others = others.filter(|entry| entry.start() < end.min(range.end) && at < entry.end());
        if let Some(first) = others.map(|entry| entry.start().max(at)).min() {
            return Some(first);
        }
        at = end;
    }
    None
}

/// True if all of `range` is free by `map`, and nothing of it is in `taken`, of which each has its first address and its end.
pub(crate) fn is_free(map: &[MapEntry], taken: &[(u64, u64)], range: &Range<u64>) -> bool {
    first_in_use(map, range).is_none() && !taken.iter().any(|&(first, end)| first < range.end && range.start < end)
}

/// True if there is memory at `at`, whoever it is for.
pub(crate) fn is_memory(map: &[MapEntry], at: u64) -> bool {
    map.iter().any(|entry| entry.is_memory() && entry.start() <= at && at < entry.end())
}

/// True if `at` is in memory that is free when the image starts, except for the image and what the loader left.
pub(crate) fn is_free_at_boot(map: &[MapEntry], at: u64) -> bool {
    let holds = |entry: &MapEntry| entry.start() <= at && at < entry.end();
    let mut there = map.iter().filter(|entry| holds(entry)).peekable();
    at >= FIRST_MIB && there.peek().is_some() && there.all(MapEntry::is_ram)
}

/// True if the firmware's tables may be in `range`: nowhere in memory that is free, and above 4 GiB in memory that the
/// map tells of, since nothing else is mapped there.
pub(crate) fn is_for_tables(map: &[MapEntry], range: &Range<u64>) -> bool {
    let is_free = range.end > FIRST_MIB
        && map
            .iter()
            .filter(|entry| entry.start() < entry.end())
            .any(|entry| entry.is_ram() && entry.start() < range.end && range.start < entry.end());
    let is_told = |entry: &MapEntry| entry.is_memory() && entry.start() <= range.start && range.end <= entry.end();
    range.start != 0 && !is_free && (range.end <= LOW || map.iter().any(is_told))
}

fn down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// The last frame of all is never reached.
fn up(address: u64) -> u64 {
    down(address.saturating_add(PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: u32 = 1;
    const RESERVED: u32 = 2;
    const ACPI: u32 = 3;
    const MIB: u64 = 1 << 20;

    /// Starts and ends of what is given, for entries (start, end, kind) and what is taken from start to end.
    fn carved(map: &[(u64, u64, u32)], taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let map: Vec<_> = map.iter().map(|&(start, end, kind)| MapEntry::new(start, end, kind)).collect();
        let taken: Vec<_> = taken.iter().map(|&(start, end)| start..end).collect();
        let mut ranges = Vec::new();
        carve(&map, &taken, |range| ranges.push((range.start, range.end)));
        ranges
    }

    #[test]
    fn a_map_of_qemu_loses_the_first_mib_the_image_and_the_tables() {
        let map = [
            (0, 0x9_fc00, RAM),
            (0x9_fc00, 0xa_0000, RESERVED),
            (0xf_0000, MIB, RESERVED),
            (MIB, 0xffe_0000, RAM),
            (0xffe_0000, 0x1000_0000, RESERVED),
            (0x1_0000_0000, 0x1_8000_0000, RAM),
        ];
        assert_eq!(
            carved(&map, &[(2 * MIB, 5 * MIB), (0x1000, 0x2000)]),
            [(MIB, 2 * MIB), (5 * MIB, 0xffe_0000), (0x1_0000_0000, 0x1_8000_0000)]
        );
    }

    #[test]
    fn only_whole_frames_come_out() {
        assert_eq!(carved(&[(MIB + 1, 2 * MIB - 1, RAM)], &[]), [(MIB + PAGE, 2 * MIB - PAGE)]);
        assert_eq!(
            carved(&[(MIB, 2 * MIB, RAM)], &[(MIB + 0x1800, MIB + 0x1801)]),
            [(MIB, MIB + PAGE), (MIB + 2 * PAGE, 2 * MIB)]
        );
        assert_eq!(carved(&[(MIB + 1, MIB + PAGE, RAM)], &[]), []);
    }

    #[test]
    fn overlaps_are_given_once_and_never_against_a_reservation() {
        let map = [(MIB, 4 * MIB, RAM), (2 * MIB, 6 * MIB, RAM), (3 * MIB, 5 * MIB, RESERVED), (MIB, 4 * MIB, RAM)];
        assert_eq!(carved(&map, &[]), [(MIB, 3 * MIB), (5 * MIB, 6 * MIB)]);
    }

    #[test]
    fn an_image_is_in_free_memory_alone() {
        let map = [(MIB, 8 * MIB, RAM), (8 * MIB, 9 * MIB, 4), (9 * MIB, 16 * MIB, RAM), (16 * MIB, 32 * MIB, RAM)];
        let map: Vec<_> = map.iter().map(|&(start, end, kind)| MapEntry::new(start, end, kind)).collect();
        for (start, end, first) in [
            (2, 6, None),
            (1, 8, None),
            (2, 10, Some(8)),
            (8, 10, Some(8)),
            (9, 32, None),
            (9, 33, Some(32)),
            (0, 2, Some(0)),
            (40, 41, Some(40)),
        ] {
            assert_eq!(first_in_use(&map, &(start * MIB..end * MIB)), first.map(|at| at * MIB), "{start}..{end}");
        }
        // An entry of no bytes claims nothing, and what two claim is not free.
        let empty = [MapEntry::new(0, u64::MAX, RAM), MapEntry::new(5 * MIB, 5 * MIB, RESERVED)];
        assert_eq!(first_in_use(&empty, &(2 * MIB..8 * MIB)), None);
        let over = [MapEntry::new(0, u64::MAX, RAM), MapEntry::new(5 * MIB, 6 * MIB, RESERVED)];
        assert_eq!(first_in_use(&over, &(2 * MIB..8 * MIB)), Some(5 * MIB));
    }

    #[test]
    fn a_page_is_free_if_nobody_else_claims_any_of_it() {
        let low = MapEntry::new(0, 0x9_fc00, RAM);
        let free = |entry, taken| is_free(&[low, entry], &[taken], &(0x8000..0x9000));
        let (nothing, none) = (MapEntry::new(0, 0, RESERVED), (0, 0));
        assert!(free(nothing, none));
        for (start, end) in [(0x8000, 0x9000), (0, 0x8001), (0x8fff, 0x9_0000), (0x8400, 0x8401)] {
            assert!(!free(MapEntry::new(start, end, RESERVED), none), "{start:#x}..{end:#x}");
            assert!(!free(nothing, (start, end)), "{start:#x}..{end:#x}");
        }
        assert!(free(MapEntry::new(0x9000, 0xa000, RESERVED), (0x7000, 0x8000)));
        assert!(!is_free(&[MapEntry::new(0, 0x8fff, RAM)], &[], &(0x8000..0x9000)), "no memory");
    }

    #[test]
    fn tables_are_in_no_free_memory_and_in_nothing_unmapped() {
        let map = [
            (0, 0xa_0000, RAM),
            (MIB, 0xff0_0000, RAM),
            (0xff0_0000, 0x1000_0000, ACPI),
            (LOW, 2 * LOW, RAM),
            (2 * LOW, 3 * LOW, ACPI),
        ]
        .map(|(start, end, kind)| MapEntry::new(start, end, kind));
        for (start, end, is) in [
            (0, 16, false),
            (0x9_fc00, 0xa_0000, true),
            (MIB - 16, MIB, true),
            (MIB - 16, MIB + 1, false),
            (0xfef_fff0, 0xff0_0001, false),
            (0xff0_0000, 0x1000_0001, true),
            (LOW - 16, LOW, true),
            (LOW - 16, LOW + 1, false),
            (2 * LOW, 3 * LOW, true),
            (2 * LOW - 1, 2 * LOW + 1, false),
            (3 * LOW - 1, 3 * LOW + 1, false),
            (3 * LOW, 3 * LOW + 1, false),
        ] {
            assert_eq!(is_for_tables(&map, &(start..end)), is, "{start:#x}..{end:#x}");
        }
        let free =
            [0x9_ffff, MIB, 0xfef_ffff, 0xff0_0000, 2 * LOW - 1, 2 * LOW, 3 * LOW].map(|at| is_free_at_boot(&map, at));
        assert_eq!(free, [false, true, true, false, true, false, false]);
        let there = [0x9_ffff, MIB, 0xfff_ffff, 2 * LOW].map(|at| is_memory(&map, at));
        let not_there = [0xa_0000, MIB - 1, 0x1000_0000, LOW - 1, 3 * LOW].map(|at| is_memory(&map, at));
        assert_eq!((there, not_there), ([true; 4], [false; 5]));
    }

    #[test]
    fn memory_of_no_bytes_keeps_no_table_out() {
        let map = [MapEntry::new(0xff0_0000, 0x1000_0000, ACPI), MapEntry::new(0xff0_1000, 0xff0_1000, RAM)];
        assert!(is_for_tables(&map, &(0xff0_0000..0xff0_2000)));
    }

    #[test]
    fn a_hostile_map_ends_and_stays_within_bounds() {
        let top = u64::MAX;
        assert_eq!(carved(&[(top - 1, top, RAM), (top, 0, RAM)], &[]), []);
        assert_eq!(carved(&[(5 * MIB, MIB, RAM)], &[]), [(5 * MIB, down(top))]);
        assert_eq!(carved(&[(0, top, RAM)], &[(top - 2, top)]), [(MIB, down(top - 2))]);
        assert_eq!(carved(&[(0, top, RAM)], &[(0, top)]), []);
        let taken = [(3 * MIB, 2 * MIB), (MIB + 5, MIB + 5)];
        assert_eq!(carved(&[(0, 2 * MIB, RAM)], &taken), [(MIB, 2 * MIB)]);
    }
}
