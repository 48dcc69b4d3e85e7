//! Which devices a unit serves.
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

/// What one unit names: its segment, buses, and functions by bus and devfn.
pub(crate) type Named<'a> = (u16, &'a [u8], &'a [(u8, u8)]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) segment: u16,
    /// All of the segment that no other unit serves if this and `functions` are empty.
    buses: Vec<u8>,
    functions: Vec<(u8, u8)>,
    buses_of_others: Vec<u8>,
    functions_of_others: Vec<(u8, u8)>,
}

impl Scope {
    /// The scopes of all units of a machine.
    pub(crate) fn all(units: &[Named<'_>]) -> Vec<Self> {
        let scope = |(number, (segment, buses, functions)): (usize, &Named<'_>)| {
            let others = || {
                let others = units.iter().enumerate().filter(move |(other, _)| *other != number);
                others.filter(|(_, (other, ..))| other == segment).map(|(_, named)| named)
            };
            Self {
                segment: *segment,
                buses: buses.to_vec(),
                functions: functions.to_vec(),
                buses_of_others: others().flat_map(|(_, buses, _)| buses.iter().copied()).collect(),
                functions_of_others: others().flat_map(|(.., functions)| functions.iter().copied()).collect(),
            }
        };
        units.iter().enumerate().map(scope).collect()
    }

    /// True if requests of this source come to the unit: one that names the function comes before one that names its bus.
    pub(crate) fn serves(&self, source: SourceId) -> bool {
        let (bus, function) = (source.bus(), (source.bus(), source.requester() as u8));
        let takes_rest = self.buses.is_empty() && self.functions.is_empty();
        let by_bus = self.buses.contains(&bus) || takes_rest && !self.buses_of_others.contains(&bus);
        let by_name = self.functions.contains(&function);
        source.segment() == self.segment && (by_name || by_bus && !self.functions_of_others.contains(&function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(scopes: &[Scope], segment: u16, bus: u8, devfn: u8) -> Vec<bool> {
        let source = SourceId::from_requester(segment, u16::from(bus) << 8 | u16::from(devfn));
        scopes.iter().map(|scope| scope.serves(source)).collect()
    }

    #[test]
    fn a_unit_without_buses_serves_what_is_left_of_its_segment() {
        let scopes = Scope::all(&[(0, &[1, 2], &[]), (0, &[], &[]), (1, &[3], &[])]);
        let serving = |segment, bus| serving(&scopes, segment, bus, 0);
        assert_eq!(serving(0, 2), [true, false, false]);
        assert_eq!(serving(0, 3), [false, true, false], "bus 3 is another unit's in segment 1 only");
        assert_eq!(serving(1, 3), [false, false, true]);
        assert_eq!(serving(1, 2), [false, false, false]);
    }

    #[test]
    fn a_function_is_served_by_the_unit_that_names_it() {
        let scopes = Scope::all(&[(0, &[], &[(0, 0x10), (1, 0x08)]), (0, &[1], &[]), (0, &[], &[]), (1, &[], &[])]);
        assert_eq!(serving(&scopes, 0, 0, 0x10), [true, false, false, false]);
        assert_eq!(serving(&scopes, 0, 0, 0x11), [false, false, true, false], "another function of the device");
        assert_eq!(serving(&scopes, 0, 1, 0x08), [true, false, false, false], "though its bus is another's");
        assert_eq!(serving(&scopes, 0, 1, 0x10), [false, true, false, false]);
        assert_eq!(serving(&scopes, 1, 0, 0x10), [false, false, false, true], "of another segment");
    }
}
