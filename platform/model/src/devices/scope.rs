//! Which devices a unit serves.
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) segment: u16,
    /// All buses of the segment that no other unit serves if it is empty.
    buses: Vec<u8>,
    buses_of_others: Vec<u8>,
}

impl Scope {
    /// The scopes of units that are given by segment and buses.
    pub(crate) fn all(units: &[(u16, &[u8])]) -> Vec<Self> {
        let scope = |(segment, buses): &(u16, &[u8])| {
            let others = units.iter().filter(|(other, _)| other == segment);
            let buses_of_others = others.flat_map(|(_, buses)| buses.iter().copied()).collect();
            Self { segment: *segment, buses: buses.to_vec(), buses_of_others }
        };
        units.iter().map(scope).collect()
    }

    /// True if requests of this source come to the unit.
    pub(crate) fn serves(&self, source: SourceId) -> bool {
        let bus = source.bus();
        let rest = self.buses.is_empty() && !self.buses_of_others.contains(&bus);
        source.segment() == self.segment && (self.buses.contains(&bus) || rest)
    }
}
