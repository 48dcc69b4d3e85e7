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

#[cfg(test)]
mod tests {
    use super::*;

    fn served(scope: &Scope, segment: u16, bus: u8) -> bool {
        scope.serves(SourceId::from_requester(segment, u16::from(bus) << 8))
    }

    #[test]
    fn a_unit_without_buses_serves_what_is_left_of_its_segment() {
        let scopes = Scope::all(&[(0, &[1, 2]), (0, &[]), (1, &[3])]);
        let serving = |segment, bus| scopes.iter().map(|scope| served(scope, segment, bus)).collect::<Vec<_>>();
        assert_eq!(serving(0, 2), [true, false, false]);
        assert_eq!(serving(0, 3), [false, true, false], "bus 3 is another unit's in segment 1 only");
        assert_eq!(serving(1, 3), [false, false, true]);
        assert_eq!(serving(1, 2), [false, false, false]);
    }
}
