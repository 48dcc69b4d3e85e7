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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_functions_are_looked_at_only_where_there_are_several() {
        // Device 1 has functions 0 and 3 and says so; device 2 does not say so; device 3 has no function 0.
        let read = |function: SourceId, offset: u16| match (function.device(), function.function(), offset) {
            (1, 0 | 3, 0) | (2, 0 | 1, 0) | (3, 1, 0) => 0x1234_8086,
            (1, 0, HEADER_TYPE) => 0x80 << 16,
            (1 | 2, _, HEADER_TYPE) => 0,
            _ => u32::MAX,
        };
        let found: Vec<_> = functions([(0, 0), (7, 0x40)].into_iter(), read).map(|id| id.to_string()).collect();
        assert_eq!(
            found,
            ["0000:00:01.0", "0000:00:01.3", "0000:00:02.0", "0007:40:01.0", "0007:40:01.3", "0007:40:02.0"]
        );
    }
}
