//! Numbers as people read them.

/// Thousands are set off: `2,419`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured time, to three digits: `165 µs`, `1.25 s`, `3.5 h`.
pub(super) fn seconds(value: f64) -> String {
    const UNITS: [(f64, f64, &str); 6] = [
        (1e-3, 1e-6, "µs"),
        (1.0, 1e-3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"),
        (172_800.0, 3600.0, "h"),
        (f64::MAX, 86_400.0, "d"),
    ];
    if !value.is_finite() || value < 0.0 {
        return "?".to_owned();
    }
    // The limits are a little low, so that what rounds up to the next unit is written in it.
    let unit = UNITS.iter().find(|(limit, _, _)| value < limit * 0.9995).unwrap_or(&UNITS[5]);
    format!("{} {}", three_digits(value / unit.1), unit.2)
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    shorten(format!("{value:.decimals$}"))
}

/// A delay as configured, in the largest unit that shows it exactly: `30 s`, `1.5 min`, `1 h`.
pub(super) fn milliseconds(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min"), (1000.0, "s")];
    for (size, unit) in UNITS {
        let tenths = value / size * 10.0;
        if value >= size && (tenths - tenths.round()).abs() < 1e-9 {
            return format!("{} {unit}", number(value / size));
        }
    }
    format!("{} ms", number(value))
}

/// Without a needless `.0`.
pub(super) fn number(value: f64) -> String {
    shorten(format!("{value:.3}"))
}

fn shorten(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_set_off() {
        let shown = [0, 7, 999, 1000, 2419, 1_000_000].map(count);
        assert_eq!(shown, ["0", "7", "999", "1,000", "2,419", "1,000,000"]);
    }

    #[test]
    fn measured_times_have_three_digits() {
        let shown = [0.0, 0.000_165, 0.000_217_4, 0.000_999_9, 0.012_345, 1.25, 61.04, 119.0, 3600.0, 86_400.0, 1e6].map(seconds);
        assert_eq!(shown, ["0 µs", "165 µs", "217 µs", "1 ms", "12.3 ms", "1.25 s", "61 s", "119 s", "60 min", "24 h", "11.6 d"]);
        assert_eq!(seconds(f64::NAN), "?");
    }

    #[test]
    fn delays_are_exact() {
        let shown = [0.0, 0.5, 100.0, 1500.0, 30_000.0, 90_000.0, 100_000.0, 3_600_000.0, 86_400_000.0].map(milliseconds);
        assert_eq!(shown, ["0 ms", "0.5 ms", "100 ms", "1.5 s", "30 s", "1.5 min", "100 s", "1 h", "1 d"]);
    }
}
