//! Fault status and fault recording registers (S 7.2, 11.4.7.1, 11.4.7.6).
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use super::FaultReason;
use crate::addr::{Iova, SourceId};
use crate::error::UnitError;
use crate::fault::{Access, Fault, FaultLog};
use crate::hal::{Hal, RegisterWindow};
use crate::vtd::Capabilities;
use crate::vtd::registers::{FSTS, Registers};

/// Reads and clears the pending records of one unit, oldest first, and the overflow; each record at most once a call, so
/// a device that never stops faulting cannot hold the caller (R62 to R64). Queue errors are left alone.
///
/// # Errors
///
/// The unit is gone: from then on its registers read all ones, which are no faults.
pub(in crate::vtd) fn drain<H: Hal>(
    registers: &Registers<'_, H>,
    segment: u16,
    unit: &Capabilities,
    log: &mut FaultLog,
    mut each: impl FnMut(Fault),
) -> Result<(), UnitError> {
    let status = registers.fault_status()?;
    if status.is_set(FSTS::PPF) {
        let (first, count) = (status.read(FSTS::FRI), u32::from(unit.fault_records));
        for index in (first..first + count).filter_map(|index| index.checked_rem(count)) {
            let offset = unit.fault_offset + index * 16;
            let top = registers.frcd(offset, 3);
            let top_value = top.get();
            // F is set last, so the rest is valid once it is seen (S 11.4.7.6, note 1).
            if top_value & F == 0 {
                break;
            }
            let word = |index| registers.frcd(offset, index).get();
            let (low, high) = (u64::from(word(0)) | u64::from(word(1)) << 32, word(2));
            // Each has bits that are always zero. The rest was read before the last of them.
            if top_value == u32::MAX || high == u32::MAX {
                registers.fault_status()?;
            }
            top.set(F);
            log.records += 1;
            each(decode(registers.window, segment, low, high, top_value));
        }
    }
    if status.is_set(FSTS::PFO) {
        log.overflowed = true;
        registers.fsts().write(FSTS::PFO::SET);
    }
    // An event comes only when both were clear (S 7.3).
    log.pending |= registers.fault_status()?.any_matching_bits_set(FSTS::PPF::SET + FSTS::PFO::SET);
    Ok(())
}

/// Bit 127 of a record, in its top doubleword.
const F: u32 = 1 << 31;

/// A record (S 11.4.7.6): FI in 63:12; SID in 79:64, T2 92, PP 95; FR in 103:96, PV in 123:104, T1 126.
#[inline(never)]
fn decode(unit: RegisterWindow, segment: u16, low: u64, high: u32, top: u32) -> Fault {
    let bit = |word: u32, bit: u32| word >> bit & 1 == 1;
    let reason = FaultReason::new(top as u8);
    let interrupt = reason.is_interrupt();
    let access = match (interrupt, bit(top, 30), bit(high, 28)) {
        (true, ..) => Access::Interrupt,
        (false, false, false) => Access::Write,
        (false, false, true) => Access::PageRequest,
        (false, true, false) => Access::Read,
        (false, true, true) => Access::Atomic,
    };
    Fault {
        unit,
        source: SourceId::from_requester(segment, high as u16),
        access,
        address: (!interrupt).then(|| Iova::new(low & !0xfff)),
        interrupt_index: (interrupt && !reason.lacks_index()).then_some((low >> 48) as u16),
        pasid: (!interrupt && bit(high, 31)).then_some(top >> 8 & 0xf_ffff),
        cause: reason.cause(),
        code: reason.code().into(),
        words: reason.words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;

    const UNIT: RegisterWindow = RegisterWindow { base: PhysAddr::zero(), bytes: 4096 };

    #[test]
    fn a_record_says_who_wanted_what_where_and_why_not() {
        let write = decode(UNIT, 3, 0x1234_5000, 0x0028, F | 0x5);
        assert_eq!(write.to_string(), "0003:00:05.0: write at 0x12345000 blocked: no write permission (0x5)");
        let read = decode(UNIT, 0, 0xfff, 0x0100, F | 1 << 30 | 0x2);
        assert_eq!(read.to_string(), "0000:01:00.0: read at 0x0 blocked: context entry not present (0x2)");
        assert_eq!(decode(UNIT, 0, 0, 1 << 28, F).access, Access::PageRequest);
        assert_eq!(decode(UNIT, 0, 0, 1 << 28, F | 1 << 30).access, Access::Atomic);
    }

    #[test]
    fn the_pasid_counts_only_where_it_is_said_to_be_present() {
        assert_eq!(decode(UNIT, 0, 0, 0, F | 0xab_cdef << 8 | 6).pasid, None);
        assert_eq!(decode(UNIT, 0, 0, 1 << 31, F | 0xab_cdef << 8 | 6).pasid, Some(0xb_cdef));
    }

    #[test]
    fn an_interrupt_has_an_index_instead_of_an_address() {
        let blocked = decode(UNIT, 0, 0xabcd << 48, 0x00f8, F | 0x22);
        assert_eq!((blocked.access, blocked.address, blocked.interrupt_index), (Access::Interrupt, None, Some(0xabcd)));
        assert_eq!(decode(UNIT, 0, 0xabcd << 48, 0, F | 0x25).interrupt_index, None);
        assert_eq!(blocked.to_string(), "0000:00:1f.0: interrupt 43981 blocked: interrupt entry not present (0x22)");
    }
}
