//! Any edits of a cell's regions, against a map of each address.

use cofferdam_support::random::Random;

use super::*;
use crate::cell::fresh_regions;

/// So few regions there are room for, and so few addresses there are.
const CAPACITY: usize = 5;
const ADDRESSES: u64 = 24;

/// Few under an interpreter.
const ROUNDS: u32 = if cfg!(miri) { 1 } else { 300 };

/// Output address, rights, and whether the root cell keeps it.
type Map = [Option<(u64, Rights, bool)>; ADDRESSES as usize];

/// The fewest regions that say what a map says.
fn regions_of(map: &Map) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for (at, page) in (0..).zip(map) {
        let Some((output, rights, shared)) = *page else { continue };
        let continues = |last: &&mut Part| {
            let region = last.region;
            region.input.last().as_u64() + 1 == at
                && region.output.as_u64() + region.input.bytes() == output
                && (region.rights, last.shared) == (rights, shared)
        };
        let of = |start, output, bytes| Region::new(Iova::new(start), PhysAddr::new(output), bytes, rights).unwrap();
        match all.last_mut().filter(continues) {
            Some(last) => {
                let region = last.region;
                last.region = of(region.input.start().as_u64(), region.output.as_u64(), region.input.bytes() + 1);
            }
            None => all.push(Part { region: of(at, output, 1), shared }),
        }
    }
    all
}

fn any_range(random: &mut Random) -> (u64, u64) {
    let first = random.below(ADDRESSES);
    (first, first + 1 + random.below((ADDRESSES - first).min(9)))
}

fn range((first, end): (u64, u64)) -> IovaRange {
    IovaRange::new(Iova::new(first), end - first).unwrap()
}

fn any_rights(random: &mut Random) -> Rights {
    [Rights::READ, Rights::WRITE][random.below(2) as usize]
}

fn set(map: &mut Map, (first, end): (u64, u64), mut to: impl FnMut(u64) -> Option<(u64, Rights, bool)>) {
    (first..end).for_each(|at| map[at as usize] = to(at));
}

/// What an edit has to come to.
fn judge(map: &mut Map, after: Map, refused: Option<RegionError>, full: RegionError) -> Result<(), RegionError> {
    if let Some(error) = refused {
        return Err(error);
    }
    if regions_of(&after).len() > CAPACITY {
        return Err(full);
    }
    *map = after;
    Ok(())
}

#[test]
fn after_any_edits_the_regions_are_the_fewest_that_say_it() {
    let mut random = Random::new(5);
    let mut counts = [0; 3];
    for _ in 0..ROUNDS {
        let (mut regions, mut map) = (fresh_regions(CAPACITY), [None; ADDRESSES as usize]);
        let full = regions.full();
        for _ in 0..60 {
            let bounds = any_range(&mut random);
            let rights = any_rights(&mut random);
            let mut after = map;
            let granted = |at: &u64| map[*at as usize].is_some();
            let hole = (bounds.0..bounds.1).find(|at| !granted(at)).map(|at| RegionError::NotGranted(Iova::new(at)));
            let (made, expected) = match random.below(4) {
                0 | 1 => {
                    let (base, shared) = (0x1000 + random.below(2) * 0x100, random.one_in(4));
                    let region =
                        Region::new(Iova::new(bounds.0), PhysAddr::new(base + bounds.0), bounds.1 - bounds.0, rights);
                    let other =
                        regions_of(&map).iter().map(|part| part.region).find(|it| it.input.overlaps(range(bounds)));
                    set(&mut after, bounds, |at| Some((base + at, rights, shared)));
                    let made = regions.insert(region.unwrap(), shared);
                    (made, judge(&mut map, after, other.map(RegionError::Overlap), full))
                }
                2 => {
                    set(&mut after, bounds, |_| None);
                    (regions.remove(range(bounds)), judge(&mut map, after, hole, full))
                }
                _ => {
                    set(&mut after, bounds, |at| map[at as usize].map(|(output, _, shared)| (output, rights, shared)));
                    (regions.set_rights(range(bounds), rights), judge(&mut map, after, hole, full))
                }
            };
            assert_eq!(made, expected);
            assert_eq!(regions.parts(), regions_of(&map));
            counts[match made {
                Ok(()) => 0,
                Err(RegionError::Full(_)) => 1,
                Err(_) => 2,
            }] += 1;
            let at = random.below(ADDRESSES);
            assert_eq!(regions.is_shared(Iova::new(at)), map[at as usize].is_some_and(|(.., shared)| shared));
            check_copies(&mut random, &regions, &map);
        }
    }
    assert!(cfg!(miri) || counts.iter().all(|count| *count > 500), "{counts:?}");
}

/// What lies outside of holes, in a list of its own, and added to another.
fn check_copies(random: &mut Random, regions: &Regions<'_>, map: &Map) {
    let holes: Vec<_> = (0..random.below(4)).map(|_| any_range(random)).collect();
    let lowest = |at| IovaRange::lowest_from(holes.iter().copied().map(range), at);
    let mut left = *map;
    holes.iter().for_each(|hole| set(&mut left, *hole, |_| None));
    let expected = regions_of(&left);
    let mut copied = fresh_regions(CAPACITY);
    let result = copied.copy_outside(regions, lowest);
    assert_eq!(result.is_ok(), expected.len() <= CAPACITY);
    assert_eq!(copied.parts(), &expected[..expected.len().min(CAPACITY)]);
    // What is there already is not added twice, and stays.
    let mut added = fresh_regions(2 * ADDRESSES as usize);
    added.insert_outside(regions, lowest);
    assert_eq!(added.parts(), expected);
    added.insert_outside(regions, |at| {
        let there = expected.iter().map(|part| part.region.input);
        IovaRange::lowest_from(there, at)
    });
    assert_eq!(added.parts(), regions.parts());
}
