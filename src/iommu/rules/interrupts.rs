//! Where interrupts may go, and who can send them.
#![forbid(unsafe_code)]

use crate::addr::PhysRange;
use crate::contract::InterruptFeatures;
use crate::hal::Hal;
use crate::interrupt::{Cpus, InterruptTargets, Posting, Route, Source, Trigger};
use crate::iommu::error::{Error, Refusal, Unroutable};
use crate::iommu::state::{CellSet, Config, Stay, forger, holders};

/// Below are the CPU's exceptions.
const FIRST_VECTOR: u8 = 16;
/// Of posted interrupts; it is aligned to that.
const DESCRIPTOR_BYTES: u64 = 64;

/// Fails unless a cell may have interrupts of a source go there. `extended`: the CPUs are in x2APIC mode.
pub(in crate::iommu) fn check_route(
    targets: &InterruptTargets,
    extended: bool,
    source: Source,
    route: Route,
) -> Result<(), Error> {
    let reason = if route.vector < FIRST_VECTOR || !targets.vectors.has(route.vector) {
        Unroutable::Vector(route.vector)
    } else if !has(targets, extended, route.cpus) {
        Unroutable::Cpus(route.cpus)
    } else if route.trigger == Trigger::Level && !matches!(source, Source::Pin { .. }) {
        Unroutable::Level
    } else {
        return Ok(());
    };
    Err(Error::Route { source, reason })
}

/// Fails unless interrupts of a source, behind a unit with these features, may be posted there: in memory that no cell is granted, so
/// that no device writes to it (section 5.2.5).
pub(in crate::iommu) fn check_posting(
    hal: &impl Hal,
    features: Option<InterruptFeatures>,
    host_bits: u8,
    source: Source,
    posting: Posting,
) -> Result<(), Error> {
    let descriptor = posting.descriptor();
    let is_own = || {
        let memory =
            PhysRange::new(descriptor, DESCRIPTOR_BYTES).filter(|memory| memory.last().as_u64() >> host_bits == 0);
        memory.is_some_and(|memory| hal.own_memory(memory) == Some(memory))
    };
    let reason = if posting.vector() < FIRST_VECTOR {
        Unroutable::Vector(posting.vector())
    } else if matches!(source, Source::Pin { .. }) {
        Unroutable::PostedPin
    } else if !features.is_some_and(|features| features.posted) {
        Unroutable::NotPosted
    } else if !descriptor.is_aligned(DESCRIPTOR_BYTES) || !is_own() {
        Unroutable::Descriptor(descriptor)
    } else {
        return Ok(());
    };
    Err(Error::Route { source, reason })
}

/// True if all CPUs that are named are the cell's. All ones names all CPUs of the machine, in each form (SDM 3A, section 11.6.2).
fn has(targets: &InterruptTargets, extended: bool, cpus: Cpus) -> bool {
    match (cpus, extended) {
        (Cpus::Physical(id), true) => id != u32::MAX && targets.cpus.has(id),
        (Cpus::Physical(id), false) => id < 0xff && targets.cpus.has(id),
        (Cpus::Logical(u32::MAX), true) => false,
        (Cpus::Logical(set), true) => {
            let mut bits = (0..16).filter(|bit| set >> bit & 1 == 1).peekable();
            bits.peek().is_some() && bits.all(|bit| targets.cpus.has(set >> 16 << 4 | bit))
        }
        (Cpus::Logical(set), false) => set != 0 && set < 0xff && set & !u32::from(targets.flat_ids) == 0,
    }
}

/// Fails if a device of one cell can send what an entry for another cell takes: one of the two comes by the change.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet) -> Result<(), Error> {
    if config.interrupts.config.is_none() {
        return Ok(());
    }
    for device in config.devices.iter().filter(|device| device.arrives(scope)) {
        let own = device.interrupts.and_then(|held| {
            forger(&config.devices, scope, (device.cell, device.unit, held.senders)).map(|other| other.device)
        });
        let theirs = || {
            let others = holders(&config.devices, &config.interrupts.lines);
            others
                .filter(|(cell, unit, _, stay)| {
                    *cell != device.cell && *unit == device.unit && (*stay != Stay::Leaving || !scope.has(*cell))
                })
                .any(|(_, _, held, _)| device.requesters.iter().any(|requester| held.senders.takes(*requester)))
        };
        if own.is_some() || theirs() {
            let reason = Refusal::SharesInterrupts(own);
            return Err(Error::Refused { device: device.device, reason });
        }
    }
    for line in config.interrupts.lines.iter().filter(|line| line.arrives(scope)) {
        if let Some(other) = forger(&config.devices, scope, (line.cell, line.unit, line.held.senders)) {
            return Err(Error::Route { source: line.source, reason: Unroutable::Forged(other.device) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::{CpuSet, Delivery, VectorSet};

    const TARGETS: InterruptTargets =
        InterruptTargets { cpus: CpuSet::NONE.with(2, 3).with(0x20, 0x21), vectors: VectorSet::ALL, flat_ids: 0b1100 };
    const DEVICE: Source = Source::Message { device: crate::addr::SourceId::from_requester(0, 8), index: 0 };

    fn may(extended: bool, cpus: Cpus) -> bool {
        let route = Route { cpus, ..Route::to(0, 32) };
        check_route(&TARGETS, extended, DEVICE, route).is_ok()
    }

    #[test]
    fn a_cell_reaches_its_own_cpus_and_never_all() {
        for extended in [false, true] {
            let ids = [1, 2, 3, 4, 0x20, 0xff, u32::MAX].map(|id| may(extended, Cpus::Physical(id)));
            assert_eq!(ids, [false, true, true, false, true, false, false]);
        }
        let all = InterruptTargets { cpus: CpuSet::NONE.with(0, u32::MAX), flat_ids: 0xff, ..TARGETS };
        let to = |extended, cpus| check_route(&all, extended, DEVICE, Route { cpus, ..Route::to(0, 32) }).is_ok();
        assert!(
            !to(true, Cpus::Physical(u32::MAX)) && to(true, Cpus::Physical(0xff)) && !to(false, Cpus::Physical(0xff))
        );
        assert!(!to(false, Cpus::Physical(0x100)) && to(false, Cpus::Physical(0xfe)));
        assert!(
            !to(true, Cpus::Logical(u32::MAX)) && !to(false, Cpus::Logical(0xff)) && to(false, Cpus::Logical(0xfe))
        );
    }

    #[test]
    fn each_cpu_of_a_logical_set_is_the_cells() {
        let clusters = [0x2_0003, 0x2_0007, 0x0_000c, 0x0_001c, 0x2_0000, 0].map(|set| may(true, Cpus::Logical(set)));
        assert_eq!(clusters, [true, false, true, false, false, false]);
        let flat = [0b1100, 0b0100, 0b1110, 0, 0x104].map(|set| may(false, Cpus::Logical(set)));
        assert_eq!(flat, [true, true, false, false, false]);
    }

    #[test]
    fn each_bit_of_a_cluster_is_a_cpu() {
        for bit in 0..16 {
            let targets = InterruptTargets { cpus: CpuSet::NONE.with(0x30 + bit, 0x30 + bit), ..TARGETS };
            let to = |set| check_route(&targets, true, DEVICE, Route { cpus: Cpus::Logical(set), ..Route::to(0, 32) });
            for other in 0..16 {
                assert_eq!(to(3 << 16 | 1 << other).is_ok(), other == bit);
                assert_eq!(to(3 << 16 | 1 << other | 1 << bit).is_ok(), other == bit);
            }
        }
    }

    #[test]
    fn vectors_and_triggers_are_the_cells() {
        let targets = InterruptTargets { vectors: VectorSet::NONE.with(0, 40), ..TARGETS };
        let reason = |source, route| match check_route(&targets, false, source, route) {
            Err(Error::Route { reason, .. }) => Some(reason),
            _ => None,
        };
        assert_eq!(reason(DEVICE, Route::to(2, 15)), Some(Unroutable::Vector(15)));
        assert_eq!(reason(DEVICE, Route::to(2, 41)), Some(Unroutable::Vector(41)));
        assert_eq!(reason(DEVICE, Route::to(2, 16)), None);
        let level = Route { trigger: Trigger::Level, delivery: Delivery::LowestPriority, ..Route::to(2, 40) };
        assert_eq!(reason(DEVICE, level), Some(Unroutable::Level));
        assert_eq!(reason(Source::Timer { hpet: 0, timer: 0 }, level), Some(Unroutable::Level));
        assert_eq!(reason(Source::Pin { io_apic: 0, pin: 1 }, level), None);
    }
}
