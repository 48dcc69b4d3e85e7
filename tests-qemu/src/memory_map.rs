//! The memory map against what firmware's table reserves.

use core::fmt;

use cofferdam::addr::PhysRange;
use cofferdam_pc::{MappedRange, MemoryKind};

/// What the memory map says of some memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapAnswer {
    /// It is for firmware or for devices.
    Kept,
    /// Some of it is free.
    Free,
    /// It does not know some of it, and nothing of it is free.
    Unknown,
}

impl MapAnswer {
    /// What entries, in any order, say of some memory.
    pub fn of(memory: PhysRange, map: impl Iterator<Item = MappedRange> + Clone) -> Self {
        let (mut next, last) = (memory.first().as_u64(), memory.last().as_u64());
        let end = |range: &MappedRange| range.first.saturating_add(range.bytes);
        if map.clone().any(|it| it.kind == MemoryKind::Free && it.first <= last && next < end(&it)) {
            return Self::Free;
        }
        while next <= last {
            let known = map.clone().filter(|it| it.first <= next && next < end(it)).map(|it| end(&it)).max();
            let Some(known) = known else { return Self::Unknown };
            next = known;
        }
        Self::Kept
    }

    /// True if the map does not give it away.
    pub fn agrees(self) -> bool {
        self != Self::Free
    }
}

impl fmt::Display for MapAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "reserved there, too",
            Self::Free => "some of it is free there",
            Self::Unknown => "some of it is not there, and nothing is free",
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use cofferdam::addr::PhysAddr;

    use super::*;

    #[test]
    fn what_is_reserved_is_held_against_entries_in_any_order() {
        let entry = |first, end: u64, kind| MappedRange { first, bytes: end - first, kind };
        let map = [
            entry(0x5000, 0x7000, MemoryKind::Nvs),
            entry(0x0, 0x4000, MemoryKind::Free),
            entry(0x4000, 0x6000, MemoryKind::Reserved),
            entry(0x9000, u64::MAX, MemoryKind::Reserved),
        ];
        let of =
            |first, bytes| MapAnswer::of(PhysRange::new(PhysAddr::new(first), bytes).unwrap(), map.iter().copied());
        for (first, bytes, answer) in [
            (0x4000, 0x3000, MapAnswer::Kept),
            (0x5800, 0x100, MapAnswer::Kept),
            (0x4000, 0x3001, MapAnswer::Unknown),
            (0x7000, 0x1000, MapAnswer::Unknown),
            (0x3fff, 0x2, MapAnswer::Free),
            (0x3fff, 0xf000, MapAnswer::Free),
            (0xa000, 0x1000, MapAnswer::Kept),
        ] {
            assert_eq!(of(first, bytes), answer, "{first:#x}, {bytes:#x}");
        }
        let says = [MapAnswer::Kept, MapAnswer::Free, MapAnswer::Unknown].map(MapAnswer::agrees);
        assert_eq!(says, [true, false, true]);
    }
}
