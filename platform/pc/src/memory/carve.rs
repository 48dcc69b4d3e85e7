//! Which memory nobody else has.
#![forbid(unsafe_code)]

use core::ops::Range;

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
    fn a_map_as_qemu_gives_it_loses_the_first_mib_the_image_and_the_tables() {
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
