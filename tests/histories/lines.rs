//! Pins of IOAPICs and timers of HPETs: which there are, and what firmware says of them.

use cofferdam::addr::SourceId;
use cofferdam::interrupt::Source;
use cofferdam_support::tables::scope;

/// A pin or a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) source: Source,
    /// In whose name it sends.
    pub(crate) requester: SourceId,
    /// Index of its unit.
    pub(crate) unit: usize,
}

const IO_APIC: u8 = 0x1e;
const HPET: u8 = 0x1f;
/// A bus of the last unit, which has all the rest.
const BUS_OF_REST: u8 = 0xff;

const fn at(bus: u8, device: u8) -> SourceId {
    SourceId::from_requester(0, (bus as u16) << 8 | (device as u16) << 3)
}

/// Another function of the HPET of the last unit, in whose name its timers may send, too.
pub(crate) const HPET_FUNCTION: SourceId = SourceId::from_requester(0, at(BUS_OF_REST, HPET).requester() | 3);

/// An IOAPIC and an HPET behind the last unit; and an IOAPIC behind the first, on the bus that is its own.
pub(crate) fn of_machine(units: usize, first_bus: u8) -> Vec<Line> {
    let last = units - 1;
    let pin = |io_apic, pin| Source::Pin { io_apic, pin };
    let timer = |timer| Source::Timer { hpet: 0, timer };
    let of_rest = [(pin(0, 1), IO_APIC), (pin(0, 2), IO_APIC), (timer(0), HPET), (timer(1), HPET)];
    let of_rest = of_rest.map(|(source, device)| Line { source, requester: at(BUS_OF_REST, device), unit: last });
    let first = Line { source: pin(1, 9), requester: at(first_bus, IO_APIC), unit: 0 };
    of_rest.into_iter().chain((last != 0).then_some(first)).collect()
}

/// The ids of the IOAPICs.
pub(crate) fn io_apics(lines: &[Line]) -> Vec<u8> {
    let ids = lines.iter().filter_map(|line| match line.source {
        Source::Pin { io_apic, .. } => Some(io_apic),
        _ => None,
    });
    let mut ids: Vec<u8> = ids.collect();
    ids.dedup();
    ids
}

/// What firmware's table has of them for each unit.
pub(crate) fn scopes(lines: &[Line], units: usize) -> Vec<Vec<Vec<u8>>> {
    let of_unit = |unit: usize| {
        let own = lines.iter().filter(|line| line.unit == unit);
        let mut scopes: Vec<_> = own
            .map(|Line { source, requester, .. }| {
                let (kind, id) = match *source {
                    Source::Timer { hpet, .. } => (4, hpet),
                    Source::Pin { io_apic, .. } => (3, io_apic),
                    Source::Message { .. } => unreachable!(),
                };
                scope(kind, id, requester.bus(), &[(requester.device(), requester.function())])
            })
            .collect();
        scopes.dedup();
        scopes
    };
    (0..units).map(of_unit).collect()
}
