//! Sizes and durations as people write them.

use std::time::Duration;

/// A size: `64MiB`, `512k`, `1.5GB` or plain bytes.
pub fn size(text: &str) -> Result<usize, String> {
    let refuse = |why: &str| Err(format!("{why}; sizes are written like 64MiB, 512KiB, 1GB or 1048576"));
    let number_end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..number_end], text[number_end..].trim());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return refuse(&format!("`{unit}` is no unit")),
    };
    match number.parse::<f64>() {
        Ok(count) if count > 0.0 && count * factor >= 1.0 && count * factor < 9e15 =>
        {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range by the guard")]
            Ok((count * factor) as usize)
        }
        Ok(_) => refuse("a size must be at least one byte and less than 8 PiB"),
        Err(_) => refuse(&format!("`{text}` is no size")),
    }
}

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

/// A duration: `30s`, `2m 30s`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; durations are written like 30s, 500ms, 5m or 1h 30m"))
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
