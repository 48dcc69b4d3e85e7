//! Translation requests and translated requests (sections 4.2 and 4.3).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, Rights, SourceId};

use crate::board::Board;
use crate::devices::tlb::Cached;
use crate::fault::{Fault, Reason};
use crate::vtd::formats::entry::{ContextEntry, Translation};
use crate::vtd::state::VtdUnit;
use crate::vtd::walks::translate;

/// True if a context entry lets requests of a device-TLB through.
pub(crate) fn allows(unit: &VtdUnit, entry: ContextEntry) -> bool {
    entry.present() && entry.translation(&unit.capability) == Some(Translation::DeviceTlb)
}

/// True if the context entry of a source lets requests of its device-TLB through.
fn trusts(unit: &VtdUnit, source: SourceId, board: &Board) -> Result<bool, Reason> {
    let cached = unit.stale.contexts.get(&source.requester()).copied();
    let entry = cached.map_or_else(|| translate::context(unit, source.requester(), board), Ok)?;
    if !entry.present() {
        return Err(Reason::ContextNotPresent);
    }
    Ok(allows(unit, entry))
}

/// A translation request for one page. `None` if the device may do nothing with it, which is no fault.
fn translation_request(
    unit: &VtdUnit,
    source: SourceId,
    address: u64,
    board: &Board,
) -> Result<Option<Cached>, Reason> {
    if !unit.translates() || !trusts(unit, source, board)? {
        return Err(Reason::TranslatedBlocked);
    }
    let page = address & !0xfff;
    let mut cached = Cached { page, output: 0, rights: Rights::empty() };
    for (write, right) in [(false, Rights::READ), (true, Rights::WRITE)] {
        match translate::translate(unit, source, page, write, board) {
            Ok(output) => {
                cached.output = output;
                cached.rights |= right;
            }
            Err((Reason::NotReadable | Reason::NotWritable | Reason::BeyondWidth, _)) => {}
            Err((reason, _)) => return Err(reason),
        }
    }
    Ok((!cached.rights.is_empty()).then_some(cached))
}

/// A request that carries a physical address.
fn translated_request(unit: &VtdUnit, source: SourceId, board: &Board) -> Result<(), Reason> {
    match trusts(unit, source, board)? && unit.translates() {
        true => Ok(()),
        false => Err(Reason::TranslatedBlocked),
    }
}

/// A request of a device with a device-TLB: with the address that it has cached, or with one that it requests now.
pub(crate) fn translated(
    unit: &mut VtdUnit,
    source: SourceId,
    address: u64,
    write: bool,
    cached: Option<u64>,
    board: &mut Board,
) -> Result<u64, Fault> {
    let right = if write { Rights::WRITE } else { Rights::READ };
    let fault = |reason| Fault { source, address: Iova::new(address), write, reason };
    let translation = match cached {
        Some(output) => Ok(Some(output)),
        None => translation_request(unit, source, address, board).map(|answer| {
            let answer = answer?;
            board.devices.of(source).tlb.cached.push(answer);
            answer.rights.contains(right).then_some(answer.output | address & 0xfff)
        }),
    };
    let output = match translation {
        Ok(Some(output)) => translated_request(unit, source, board).map(|()| output),
        // The device knows that it may not; the unit has nothing to record.
        Ok(None) if write => return Err(fault(Reason::NotWritable)),
        Ok(None) => return Err(fault(Reason::NotReadable)),
        Err(reason) => Err(reason),
    };
    output.map_err(|reason| {
        let fault = fault(reason);
        unit.faults.record(&fault, address, &mut board.journal);
        fault
    })
}
