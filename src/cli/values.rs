//! Sizes and durations as people write them.

pub use crate::quantity::{duration, size};
use std::time::Duration;

/// A size as people read it: `1.5 GiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn show_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(|| format!("{bytes} B"), |(name, shift)| format!("{:.1} {name}", bytes as f64 / f64::from(1 << shift)))
}

/// A number with its thousands apart: `4,000,000`.
pub fn show_count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

/// A duration as people read it, to about three digits.
pub fn show_duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.2} s"),
        s => humantime::format_duration(Duration::from_secs(s.round().clamp(0.0, 1e12) as u64)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("1", 1), ("64MiB", 64 << 20), ("64 mib", 64 << 20), ("512k", 512 << 10), ("1GB", 1_000_000_000), ("1.5K", 1536)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MiB", "-1", "12q", "1e9", "0", "0.1", "1..2", "99999999999GB", "64MiB/s"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(show_count(4_000_000), "4,000,000");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(1_541_779_838), "1.4 GiB");
        assert_eq!(show_duration(0.000_002), "2 µs");
        assert_eq!(show_duration(2.456), "2.46 s");
        assert_eq!(show_duration(3700.0), "1h 1m 40s");
    }
}
