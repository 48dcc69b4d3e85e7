//! What a read of a register shows (section 11.4).
#![forbid(unsafe_code)]

use crate::vtd::registers::offset::{self, half};
use crate::vtd::state::VtdUnit;

pub(crate) fn read(unit: &mut VtdUnit, at: u32) -> u32 {
    let iotlb = unit.capability.iotlb_offset();
    let queue = unit.capability.has_queue();
    if let Some(at) = unit.capability.fault_record(at) {
        return unit.faults.read_record(at).unwrap_or(0);
    }
    match at & !7 {
        offset::CAP => return half(unit.capability.cap, at),
        offset::ECAP => return half(unit.capability.ecap, at),
        offset::RTADDR => return half(unit.root_register, at),
        offset::CCMD => return half(unit.context_command, at),
        offset::PHMBASE => return half(unit.protected.high.0, at),
        offset::PHMLIMIT => return half(unit.protected.high.1, at),
        offset::IQH if queue => return half(unit.queue.head, at),
        offset::IQT if queue => return half(unit.queue.tail, at),
        offset::IQA if queue => return half(unit.queue.address, at),
        offset::IQERCD if queue => return half(unit.faults.queue_error, at),
        offset::IRTA if unit.capability.remaps_interrupts() => return half(unit.interrupt_register, at),
        at8 if at8 == iotlb + 8 => return half(unit.iotlb_command, at),
        _ => {}
    }
    match at {
        offset::VER => unit.capability.ver,
        offset::GSTS => unit.global.read() & !unit.defects.stuck_low | unit.defects.stuck_high,
        offset::FSTS => unit.faults.status(),
        offset::FECTL..=offset::FEUADDR => unit.faults.event.read((at - offset::FECTL) / 4),
        offset::PMEN => unit.protected.enable,
        offset::PLMBASE => unit.protected.low.0,
        offset::PLMLIMIT => unit.protected.low.1,
        offset::ICS => unit.completion,
        offset::IECTL..=offset::IEUADDR if queue => unit.completion_event.read((at - offset::IECTL) / 4),
        offset::PECTL..=offset::PEUADDR if unit.capability.has_page_requests() => {
            unit.page_event.read((at - offset::PECTL) / 4)
        }
        _ => 0,
    }
}
