//! What a source-id reaches, run by run, next to what is granted.
#![forbid(unsafe_code)]

use super::{Difference, Findings, Reach};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, SourceId};

/// The lowest granted region that ends at an input address or above it.
pub(crate) type Granted<'g> = &'g dyn Fn(Iova) -> Option<Region>;

/// A comparison that has come up to an input address.
pub(crate) struct Comparison<'g> {
    source: SourceId,
    granted: Granted<'g>,
    /// Snooping is to be enforced.
    snoop: bool,
    /// What was not compared yet; nothing if the last address of all was.
    next: Option<u64>,
}

impl<'g> Comparison<'g> {
    pub(crate) fn new(source: SourceId, granted: Granted<'g>, snoop: bool) -> Self {
        Self { source, granted, snoop, next: Some(0) }
    }

    /// Takes the next run; they come in ascending order.
    pub(crate) fn run(&mut self, run: &Reach, findings: &mut Findings<'_>) {
        if let Some(before) = run.region.input.start().as_u64().checked_sub(1) {
            self.lacks_up_to(before, findings);
        }
        self.within(run, findings);
        self.next = run.region.input.last().as_u64().checked_add(1);
    }

    /// Compares a run with what is granted there, part by part.
    #[inline(never)]
    fn within(&self, run: &Reach, findings: &mut Findings<'_>) {
        let (first, last) = (run.region.input.start().as_u64(), run.region.input.last().as_u64());
        let mut at = Some(first);
        while let Some(start) = at.filter(|&start| start <= last) {
            let granted = (self.granted)(Iova::new(start));
            let end = match granted {
                Some(region) if region.input.start().as_u64() <= start => region.input.last().as_u64(),
                // It starts behind `start`, so not at 0.
                Some(region) => region.input.start().as_u64().wrapping_sub(1),
                None => last,
            };
            let end = end.min(last);
            let granted = granted.and_then(|it| part(it, start, end));
            self.compare(part(run.region, start, end), run.snoop, granted, findings);
            at = end.checked_add(1);
        }
    }

    /// After the last run.
    pub(crate) fn end(&mut self, findings: &mut Findings<'_>) {
        self.lacks_up_to(u64::MAX, findings);
    }

    #[inline(never)]
    fn lacks_up_to(&mut self, last: u64, findings: &mut Findings<'_>) {
        while let Some(next) = self.next.filter(|&next| next <= last) {
            let Some(region) = (self.granted)(Iova::new(next)) else { return };
            let (start, end) = (region.input.start().as_u64().max(next), region.input.last().as_u64().min(last));
            // None if it starts behind `last`.
            if let Some(region) = part(region, start, end) {
                findings.report(Difference::MissingMapping { source: self.source, region });
            }
            self.next = end.checked_add(1);
        }
    }

    /// Compares two regions of the same input range.
    fn compare(&self, found: Option<Region>, snoop: bool, granted: Option<Region>, findings: &mut Findings<'_>) {
        let (source, Some(found)) = (self.source, found) else { return };
        let input = found.input;
        match granted {
            Some(granted) if granted.output == found.output => {
                if granted.rights != found.rights {
                    let (found, granted) = (found.rights, granted.rights);
                    findings.report(Difference::OtherRights { source, input, found, granted });
                }
                if snoop != self.snoop {
                    findings.report(Difference::OtherSnoop { source, input, found: snoop });
                }
            }
            other => {
                findings.report(Difference::ExtraMapping { source, region: found });
                if let Some(region) = other {
                    findings.report(Difference::MissingMapping { source, region });
                }
            }
        }
    }
}

/// The part of a region from `start` to `end`, if it is all within.
fn part(region: Region, start: u64, end: u64) -> Option<Region> {
    let skipped = start.checked_sub(region.input.start().as_u64())?;
    let input = IovaRange::new(Iova::new(start), end.checked_sub(start)?.saturating_add(1))?;
    let output = PhysAddr::new_truncate(region.output.as_u64().wrapping_add(skipped));
    region.input.contains(input).then_some(Region { input, output, rights: region.rights })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::addr::Rights;

    #[test]
    fn what_is_granted_within_a_run_is_separate_from_the_rest() {
        let source = SourceId::new(0, 0, 3, 0).unwrap();
        let pages = |first: u64, count: u64| {
            let output = PhysAddr::new(0x10_0000 + (first << 12));
            Region::new(Iova::new(first << 12), output, count << 12, Rights::all()).unwrap()
        };
        let granted = [pages(2, 1), pages(4, 2), pages(8, 1), pages(11, 1)];
        let lowest = |at| granted.into_iter().find(|region| region.input.last() >= at);
        let mut found = Vec::new();
        let mut push = |difference| found.push(difference);
        let findings = &mut Findings::new(&mut push);
        let mut comparison = Comparison::new(source, &lowest, true);
        comparison.run(&Reach { source, region: pages(0, 5), snoop: true }, findings);
        comparison.run(&Reach { source, region: pages(7, 1), snoop: true }, findings);
        comparison.end(findings);
        let count = findings.count();
        let reaches = |region| Difference::ExtraMapping { source, region };
        let lacks = |region| Difference::MissingMapping { source, region };
        let (before, between, alone) = (reaches(pages(0, 2)), reaches(pages(3, 1)), reaches(pages(7, 1)));
        let missing = [(5, 1), (8, 1), (11, 1)].map(|(first, count)| lacks(pages(first, count)));
        assert_eq!(count, found.len() as u64);
        assert_eq!(found, [before, between, missing[0], alone, missing[1], missing[2]]);
    }

    /// A run with other rights and other snooping than are granted is reported for both, and so is each alone.
    #[test]
    fn other_rights_do_not_hide_other_snooping_nor_the_reverse() {
        let source = SourceId::new(0, 0, 3, 0).unwrap();
        let page = |rights| Region::new(Iova::new(0x1000), PhysAddr::new(0x10_0000), 0x1000, rights).unwrap();
        let (granted, input) = (Rights::READ, page(Rights::READ).input);
        let lowest = |at| Some(page(granted)).filter(|region| region.input.last() >= at);
        for (wanted, snoop) in [(true, true), (true, false), (false, true), (false, false)] {
            for rights in [granted, Rights::all()] {
                let mut found = Vec::new();
                let mut push = |difference| found.push(difference);
                let mut comparison = Comparison::new(source, &lowest, wanted);
                comparison.run(&Reach { source, region: page(rights), snoop }, &mut Findings::new(&mut push));
                let other_rights = Difference::OtherRights { source, input, found: rights, granted };
                let other_snoop = Difference::OtherSnoop { source, input, found: snoop };
                let expected = [(rights != granted).then_some(other_rights), (snoop != wanted).then_some(other_snoop)];
                assert_eq!(found, Vec::from_iter(expected.into_iter().flatten()), "{rights:?}");
            }
        }
    }
}
