//! JSON lines: one JSON value a line.

use super::json_text::quoted;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// What `serde_json` reads no deeper than, when a row has to be taken apart.
pub const MOST_DEPTH: usize = 128;

/// Whether a line has nothing in it.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether `line` is one JSON value, whatever it is. Nothing is kept of it, so that it may be as deep and as long as it likes.
///
/// # Errors
/// What is wrong, and at which byte of the line.
pub fn check(line: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(line).map(drop).map_err(|error| fault(&error))
}

/// What is wrong with a line, in the words of `serde_json`, with its place in the line.
pub fn fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what);
    // A line has only one line; the column counts bytes.
    format!("not JSON: {what} at byte {} of the line", error.column().max(1))
}

/// An object whose values are as they are written, not taken apart: digits, escapes and blanks stay. Of equal names the last one counts.
#[derive(Debug, Default)]
pub struct RawRow<'a> {
    /// Names and values, in order.
    pub members: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl<'a> RawRow<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub fn parse(line: &'a str) -> Result<RawRow<'a>, String> {
        serde_json::from_str(line).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "the row is no JSON object".to_owned(),
            _ => fault(&error),
        })
    }

    /// The value of the member `name`.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Appends the row as a line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (key, value)) in self.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&quoted(key));
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}

impl<'a> Deserialize<'a> for RawRow<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawRowVisitor)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct RawRowVisitor;

impl<'a> Visitor<'a> for RawRowVisitor {
    type Value = RawRow<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<RawRow<'a>, A::Error> {
        let mut row = RawRow::default();
        while let Some((Name(name), value)) = map.next_entry::<Name<'a>, &'a RawValue>()? {
            row.members.push((name, Cow::Borrowed(value)));
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_values_as_they_are_written() {
        let line = r#"{"a":1.50, "b\u0041":"\u00e9" ,"a":[1, 2],"c":1e999}"#;
        let row = RawRow::parse(line).unwrap();
        assert_eq!((row.get("a").unwrap().get(), row.get("bA").unwrap().get()), ("[1, 2]", r#""\u00e9""#));
        let mut out = Vec::new();
        row.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":1.50,\"bA\":\"\\u00e9\",\"a\":[1, 2],\"c\":1e999}\n");
        assert_eq!(RawRow::parse("[1]").unwrap_err(), "the row is no JSON object");
        assert_eq!(RawRow::parse("{").unwrap_err(), "not JSON: EOF while parsing an object at byte 1 of the line");
    }

    #[test]
    fn lines_are_checked_whatever_they_hold() {
        for sound in [r#"{"a":1,"a":2}"#, "[]", "\"x\"", "1e999", " {} \r\n", &("[".repeat(20_000) + &"]".repeat(20_000))] {
            assert_eq!(check(sound), Ok(()));
        }
        assert_eq!(check(r#"{"a":1,}"#).unwrap_err(), "not JSON: key must be a string at byte 8 of the line");
        assert_eq!(check(r#"{"a":"#).unwrap_err(), "not JSON: EOF while parsing a value at byte 5 of the line");
        assert_eq!(
            check("{\"a\":\"\0\"}").unwrap_err(),
            "not JSON: control character (\\u0000-\\u001F) found while parsing a string at byte 6 of the line"
        );
        assert_eq!(check("{} {}").unwrap_err(), "not JSON: trailing characters at byte 4 of the line");
    }
}
