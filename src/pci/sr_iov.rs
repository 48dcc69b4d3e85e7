//! The extended capability of SR-IOV (PCIe 6.0, section 9.3.3): which virtual functions a physical one has.
#![forbid(unsafe_code)]

use super::capability::extended_capabilities;
use super::{ConfigSpace, is_there};
use crate::addr::SourceId;

const ID: u16 = 0x10;
const BYTES: u16 = 0x40;
/// NumVFs in bits 15:0 (section 9.3.3.7).
const COUNT: u16 = 0x10;
/// First VF Offset in bits 15:0, VF Stride in bits 31:16 (sections 9.3.3.9 and 9.3.3.10).
const ROUTING: u16 = 0x14;

/// True if `function` is one of the virtual functions that `physical` has enabled (section 9.2.1.2).
pub(crate) fn is_virtual_function_of(config: &impl ConfigSpace, function: SourceId, physical: SourceId) -> bool {
    if is_there(config, function) || !is_there(config, physical) {
        return false;
    }
    let Some(at) = extended_capabilities(config, physical, ID, BYTES).next() else { return false };
    let count = config.read(physical, at + COUNT) as u16;
    let routing = config.read(physical, at + ROUTING);
    let (first, stride) = (routing as u16, (routing >> 16) as u16);
    let Some(distance) = function.requester().wrapping_sub(physical.requester()).checked_sub(first) else {
        return false;
    };
    match (count, stride) {
        (0, _) => false,
        (1, _) | (_, 0) => distance == 0,
        _ => distance.is_multiple_of(stride) && distance / stride < count,
    }
}
