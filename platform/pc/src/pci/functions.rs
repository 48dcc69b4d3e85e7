//! Which functions there are.

use cofferdam::addr::SourceId;

use super::HEADER_TYPE;

/// Looks at every device of `buses` by `read`, and at its further functions where it says that it has several.
pub(crate) fn functions(
    buses: impl Iterator<Item = (u16, u8)>,
    read: impl Fn(SourceId, u16) -> u32 + Copy,
) -> impl Iterator<Item = SourceId> {
    let is_there = move |function: SourceId| read(function, 0) as u16 != 0xffff;
    buses
        .flat_map(|(segment, bus)| (0..32).filter_map(move |device| SourceId::new(segment, bus, device, 0)))
        .filter(move |&first| is_there(first))
        .flat_map(move |first| {
            let count = if read(first, HEADER_TYPE) & 1 << 23 != 0 { 8 } else { 1 };
            (0..count).filter_map(move |number| SourceId::new(first.segment(), first.bus(), first.device(), number))
        })
        .filter(move |&function| function.function() == 0 || is_there(function))
}
