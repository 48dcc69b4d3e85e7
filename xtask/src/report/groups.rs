//! Which functions belong to one group, as the functions of a report say it.

use super::contents::{Contents, ReportedFunction};

/// The group of each function, counted from 1; `None` for one that something isolates.
pub fn groups(contents: &Contents) -> Vec<Option<usize>> {
    let all = &contents.functions;
    // The first function of each one's group, as far as it is known.
    let mut first = Vec::from_iter(0..all.len());
    for (number, function) in all.iter().enumerate() {
        for other in (0..all.len()).filter(|other| all.get(*other).is_some_and(|other| shares(function, other))) {
            let [one, two] = [number, other].map(|index| first.get(index).copied().unwrap_or(index));
            if one != two {
                first.iter_mut().filter(|it| **it == one.max(two)).for_each(|it| *it = one.min(two));
            }
        }
    }
    let is_shared = |number: usize| {
        let is_lonely = all.get(number).is_none_or(|function| !function.isolated.is_empty() || function.unit.is_none());
        !is_lonely || first.iter().filter(|it| **it == first.get(number).copied().unwrap_or(number)).count() > 1
    };
    let mut known = Vec::new();
    let each = first.iter().enumerate().map(|(number, root)| {
        is_shared(number).then(|| {
            let index = known.iter().position(|it| it == root).unwrap_or_else(|| {
                known.push(*root);
                known.len() - 1
            });
            index + 1
        })
    });
    each.collect()
}

/// True if a function says that nothing isolates it from another.
fn shares(function: &ReportedFunction, other: &ReportedFunction) -> bool {
    function.shares.iter().any(|(first, last)| *first <= other.id && other.id <= *last)
}
