//! Sizes and durations as people write them in settings.

use std::time::Duration;

/// A size: `64MiB`, `512k`, `1.5GB` or plain bytes.
///
/// # Errors
/// What is wrong with it, and how to write it.
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

/// A duration: `30s`, `2m 30s`, `1h`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; durations are written like 30s, 500ms, 5m or 1h 30m"))
}
