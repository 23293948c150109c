//! How wide a text is, without a font; breaking it into lines; what may stand in an XML document.

/// Widths of the printable ASCII characters in hundredths of the font size: of DejaVu Sans and Liberation Sans (which
/// has the widths of Arial and Helvetica) the wider one, so that a text fits whichever font a viewer takes.
#[rustfmt::skip]
const WIDTHS: [u8; 95] = [
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, // space to /
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 56, // 0 to ?
    102, 69, 69, 73, 78, 67, 62, 78, 76, 30, 50, 67, 56, 87, 75, 79, // @ to O
    67, 79, 73, 67, 62, 74, 69, 99, 69, 67, 69, 40, 34, 40, 84, 56, // P to _
    50, 62, 64, 55, 64, 62, 36, 64, 64, 28, 28, 58, 28, 98, 64, 62, // ` to o
    64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84, // p to ~
];

/// The width of `text` in pixels at a font size of `size` pixels, rounded up.
pub(super) fn width(text: &str, size: i32) -> i32 {
    let hundredths: i32 = text.chars().map(char_width).sum();
    (hundredths * size + 99) / 100
}

/// The same for bold letters.
pub(super) fn bold_width(text: &str, size: i32) -> i32 {
    (width(text, size) * 113 + 99) / 100
}

fn char_width(c: char) -> i32 {
    let ascii = u32::from(c).checked_sub(32).and_then(|index| usize::try_from(index).ok()).and_then(|index| WIDTHS.get(index));
    match (ascii, u32::from(c)) {
        (Some(width), _) => i32::from(*width),
        // Combining marks and what joins letters.
        (None, 0x300..=0x36f | 0x200b..=0x200f) => 0,
        (None, 0xb7) => 32,
        // Latin, Greek, Cyrillic and signs such as ×.
        (None, ..0x1100) => 84,
        // Everything from Hangul on may fill a square.
        (None, _) => 105,
    }
}

/// Breaks `text` at spaces into lines of at most `limit` pixels; a word that is longer is broken where it must be.
pub(super) fn wrap(text: &str, size: i32, limit: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in units(text) {
        let joined = if line.is_empty() { word.clone() } else { format!("{line} {word}") };
        if width(&joined, size) <= limit {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            if !line.is_empty() && width(&line, size) + width(c.encode_utf8(&mut [0; 4]), size) > limit {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Words; a sign between two values is one word with them.
fn units(text: &str) -> Vec<String> {
    let is_sign = |word: &str| word.chars().all(|c| "<≤>≥=:+−".contains(c));
    let mut units: Vec<String> = Vec::new();
    let mut glued = false;
    for word in text.split_whitespace() {
        match units.last_mut() {
            Some(last) if glued || is_sign(word) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => units.push(word.to_owned()),
        }
        glued = is_sign(word);
    }
    units
}

/// At most `count` lines; what does not fit is replaced by an ellipsis.
pub(super) fn at_most(mut lines: Vec<String>, count: usize) -> Vec<String> {
    if lines.len() > count {
        lines.truncate(count);
        if let Some(last) = lines.last_mut() {
            last.pop();
            last.push('…');
        }
    }
    lines
}

/// For XML text and attribute values. What XML cannot hold, and what would turn the reading direction of the rest of the
/// picture, becomes a replacement character.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c => escaped.push(if is_harmless(c) { c } else { '\u{fffd}' }),
        }
    }
    escaped
}

/// Neither a control character, nor a non-character, nor an override of the reading direction.
pub(super) fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_their_limit() {
        let text = "after retryBackoff (100 ms ×2 … 5 s, full jitter)";
        let lines = wrap(text, 11, 150);
        assert_eq!(lines, ["after retryBackoff (100 ms", "×2 … 5 s, full jitter)"]);
        assert!(lines.iter().all(|line| width(line, 11) <= 150));
        let long = wrap(&"x".repeat(100), 10, 60);
        assert!(long.len() > 5 && long.iter().all(|line| width(line, 10) <= 60));
        assert!(wrap(" \t ", 11, 150).is_empty());
        assert_eq!(wrap("ready and score < 10", 10, 90), ["ready and", "score < 10"]);
    }

    #[test]
    fn xml_stays_xml() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(escape("a\u{0}b\u{202e}c\u{ffff}d"), "a\u{fffd}b\u{fffd}c\u{fffd}d");
    }
}
