//! Memory of one cell that a device of another reaches.
#![forbid(unsafe_code)]

use crate::addr::{PhysAddr, Region};

/// First and last physical address.
pub(crate) type Owned = (PhysAddr, PhysAddr);

/// The memory behind a region.
pub(crate) fn owned(region: &Region) -> Owned {
    let last = region.output.as_u64().saturating_add(region.input.bytes() - 1);
    (region.output, PhysAddr::new_truncate(last))
}

/// The parts of `reached` that are in `theirs` and in nothing of `own`.
pub(crate) fn unowned<'o>(
    reached: Owned,
    theirs: Owned,
    own: impl Iterator<Item = Owned> + Clone + 'o,
) -> impl Iterator<Item = Owned> + 'o {
    let last = reached.1.min(theirs.1).as_u64();
    let mut next = Some(reached.0.max(theirs.0).as_u64());
    core::iter::from_fn(move || {
        loop {
            let start = next.filter(|&start| start <= last)?;
            let holds = |&(first, end): &Owned| first.as_u64() <= start && start <= end.as_u64();
            if let Some((_, end)) = own.clone().find(holds) {
                next = end.as_u64().checked_add(1);
                continue;
            }
            let behind = own.clone().map(|(first, _)| first.as_u64()).filter(|&first| first > start).min();
            let end = behind.map_or(last, |first| first.wrapping_sub(1)).min(last);
            next = end.checked_add(1);
            return Some((PhysAddr::new_truncate(start), PhysAddr::new_truncate(end)));
        }
    })
}
