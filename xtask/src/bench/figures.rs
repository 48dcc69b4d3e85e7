//! Numbers as people read them.

/// A number with three digits that count, or whole with its thousands apart.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => return thousands(value.round() as u64),
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// `1,234,567`
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in the largest unit that leaves something before the point.
pub fn time(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let found = units.into_iter().find(|(unit, _)| nanoseconds >= *unit);
    found.map_or_else(
        || format!("{} ns", number(nanoseconds)),
        |(unit, name)| format!("{} {name}", number(nanoseconds / unit)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let told = [0.0254, 0.9996, 3.456, 9.996, 45.67, 99.96, 1234.5].map(number);
        assert_eq!(told, ["0.025", "1.00", "3.46", "10.0", "45.7", "100", "1,235"]);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 88_600_000].map(thousands), ["0", "999", "1,000", "88,600,000"]);
    }

    #[test]
    fn a_time_has_its_unit() {
        assert_eq!([411.0, 2474.0, 1_493_930.0, 2e9].map(time), ["411 ns", "2.47 µs", "1.49 ms", "2.00 s"]);
    }
}
