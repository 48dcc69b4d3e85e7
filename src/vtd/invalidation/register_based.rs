//! Invalidation through registers (S 6.5.1, 11.4.6), for units without a queue: one at a time, each confirmed before the
//! next. Not from major version 6 on, and never while the queue is on (R5).
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use super::Invalidation;
use crate::error::UnitError;
use crate::hal::Hal;
use crate::vtd::Capabilities;
use crate::vtd::command::wait_until;
use crate::vtd::registers::{CCMD, IOTLB, Registers};

/// Granularities, requested and reported: the smaller, the coarser. 0 reports an error.
const GLOBAL: u64 = 0b01;
const DOMAIN: u64 = 0b10;
const SELECTIVE: u64 = 0b11;

/// What is written to have an invalidation done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// CCMD_REG, S 11.4.6.1: ICC 63, CIRG in 62:61, SID in 31:16, DID in 15:0.
    Context { granularity: u64, command: u64 },
    /// IVA_REG first, if there is an address, S 11.4.6.4: ADDR in 63:12, IH 6, AM in 5:0. Then IOTLB_REG, S 11.4.6.3:
    /// IVT 63, IIRG in 61:60, DR 49, DW 48, DID in 47:32.
    Iotlb { granularity: u64, address: Option<u64>, command: u64 },
}

impl Request {
    /// The one that has `invalidation` done, draining as the unit can (R25). `None` for device-TLBs and interrupts, which
    /// only the queue reaches.
    fn of(invalidation: Invalidation, unit: &Capabilities) -> Option<Self> {
        let context = |granularity, which| Self::Context { granularity, command: 1 << 63 | granularity << 61 | which };
        let drains = u64::from(unit.write_draining) << 48 | u64::from(unit.read_draining) << 49;
        let iotlb = |granularity, domain_id, address| Self::Iotlb {
            granularity,
            address,
            command: 1 << 63 | granularity << 60 | drains | u64::from(domain_id) << 32,
        };
        Some(match invalidation {
            Invalidation::ContextGlobal => context(GLOBAL, 0),
            Invalidation::ContextDomain(domain_id) => context(DOMAIN, domain_id.into()),
            Invalidation::ContextDevice { requester, domain_id } => {
                context(SELECTIVE, u64::from(requester.get()) << 16 | u64::from(domain_id))
            }
            Invalidation::IotlbGlobal => iotlb(GLOBAL, 0, None),
            Invalidation::IotlbDomain(domain_id) => iotlb(DOMAIN, domain_id, None),
            Invalidation::IotlbPages { domain_id, start, mask, leaves_only } => {
                let address = start.as_u64() & !0xfff | u64::from(leaves_only) << 6 | u64::from(mask & 0x3f);
                iotlb(SELECTIVE, domain_id, Some(address))
            }
            Invalidation::InterruptsGlobal
            | Invalidation::Interrupts(_)
            | Invalidation::DeviceTlb(_)
            | Invalidation::DeviceTlbPages { .. } => return None,
        })
    }
}

/// Has all of `invalidations` done, one after the other. One caller at a time.
///
/// # Errors
///
/// The unit refused one, or did not confirm it in time: neither that one nor any behind it is known to be done.
pub(in crate::vtd) fn run<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    mut invalidations: impl Iterator<Item = Invalidation>,
    timeout_ns: u64,
) -> Result<(), UnitError> {
    invalidations.try_for_each(|invalidation| match Request::of(invalidation, unit) {
        None => {
            let (unit, register, bit, missing) =
                (registers.window, "ECAP_REG", "QI", "way to reach device-TLBs and interrupts");
            Err(UnitError::Unsupported { unit, register, bit, missing })
        }
        Some(Request::Context { granularity, command }) => {
            registers.ccmd().set(command);
            wait_context(registers, timeout_ns)?;
            check(registers, "CCMD_REG", "CAIG", granularity, registers.ccmd().read(CCMD::CAIG))
        }
        Some(Request::Iotlb { granularity, address, command }) => {
            if let Some(address) = address {
                registers.iva(unit.iotlb_offset).set(address);
            }
            let register = registers.iotlb(unit.iotlb_offset);
            // Bits 31:0 are reserved, and to be kept.
            register.set(register.get() & 0xffff_ffff | command);
            wait_iotlb(registers, unit, timeout_ns)?;
            check(registers, "IOTLB_REG", "IAIG", granularity, register.read(IOTLB::IAIG))
        }
    })
}

/// Waits until nothing that somebody else requested is pending: before the queue is switched on (S 6.5.2).
pub(in crate::vtd) fn wait_idle<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    timeout_ns: u64,
) -> Result<(), UnitError> {
    wait_context(registers, timeout_ns)?;
    wait_iotlb(registers, unit, timeout_ns)
}

fn wait_context<H: Hal>(registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
    wait_until(registers, timeout_ns, "CCMD_REG", "ICC", || Ok(!registers.ccmd().is_set(CCMD::ICC)))
}

fn wait_iotlb<H: Hal>(registers: &Registers<'_, H>, unit: &Capabilities, timeout_ns: u64) -> Result<(), UnitError> {
    let done = || Ok(!registers.iotlb(unit.iotlb_offset).is_set(IOTLB::IVT));
    wait_until(registers, timeout_ns, "IOTLB_REG", "IVT", done)
}

/// A unit may do more than was requested, but not less.
fn check<H>(
    registers: &Registers<'_, H>,
    register: &'static str,
    bit: &'static str,
    asked: u64,
    done: u64,
) -> Result<(), UnitError> {
    let unit = registers.window;
    if (GLOBAL..=asked).contains(&done) { Ok(()) } else { Err(UnitError::Invalidation { unit, register, bit }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Iova;
    use crate::addr::Requester;
    use crate::invalidation::DeviceTlb;
    use crate::vtd::capabilities::tests::QEMU;

    #[test]
    fn each_field_is_where_the_specification_has_it() {
        use Invalidation::{ContextDevice, ContextDomain, ContextGlobal, IotlbDomain, IotlbGlobal, IotlbPages};
        let plain = Capabilities { write_draining: false, read_draining: false, ..QEMU };
        let context = |granularity, command| Request::Context { granularity, command };
        let iotlb = |granularity, address, command| Request::Iotlb { granularity, address, command };
        let device = ContextDevice { requester: Requester::new(0xabcd), domain_id: 0x1234 };
        let pages = |leaves_only| IotlbPages { domain_id: 0x1234, start: Iova::new(0x5555_6000), mask: 9, leaves_only };
        for (invalidation, request) in [
            (ContextGlobal, context(1, 0xa000_0000_0000_0000)),
            (ContextDomain(0x1234), context(2, 0xc000_0000_0000_1234)),
            (device, context(3, 0xe000_0000_abcd_1234)),
            (IotlbGlobal, iotlb(1, None, 0x9000_0000_0000_0000)),
            (IotlbDomain(0x1234), iotlb(2, None, 0xa000_1234_0000_0000)),
            (pages(false), iotlb(3, Some(0x5555_6009), 0xb000_1234_0000_0000)),
            (pages(true), iotlb(3, Some(0x5555_6049), 0xb000_1234_0000_0000)),
        ] {
            assert_eq!(Request::of(invalidation, &plain), Some(request), "{invalidation:?}");
        }
        let device = DeviceTlb { requester: Requester::new(0xabcd), physical: Requester::new(0xabcd), queue_depth: 32 };
        assert_eq!(Request::of(Invalidation::DeviceTlb(device), &plain), None);
    }

    #[test]
    fn draining_is_asked_for_where_the_unit_can() {
        let drains = |write_draining, read_draining| {
            let unit = Capabilities { write_draining, read_draining, ..QEMU };
            match Request::of(Invalidation::IotlbGlobal, &unit) {
                Some(Request::Iotlb { command, .. }) => command >> 48 & 0b11,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([drains(false, false), drains(true, false), drains(false, true)], [0, 1, 2]);
    }

    #[test]
    fn a_unit_may_invalidate_more_but_not_less_than_requested() {
        let window = crate::hal::RegisterWindow { base: crate::addr::PhysAddr::zero(), bytes: 4096 };
        let registers = Registers { hal: &(), window, first: None };
        let accepted = |asked| [0, 1, 2, 3].map(|done| check(&registers, "IOTLB_REG", "IAIG", asked, done).is_ok());
        assert_eq!(accepted(GLOBAL), [false, true, false, false]);
        assert_eq!(accepted(DOMAIN), [false, true, true, false]);
        assert_eq!(accepted(SELECTIVE), [false, true, true, true]);
    }
}
