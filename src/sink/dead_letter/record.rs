//! One row in a dead-letter file: what is said of it, and how that is written and read. `docs/dead-letters.md` describes it to users.

use serde::{Deserialize, Serialize};

/// A record on its way into the file.
#[derive(Serialize)]
pub(super) struct NewRecord<'a> {
    pub id: u64,
    pub reason: &'a str,
    pub errors: &'a [String],
    pub chunk: &'a str,
    pub origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    pub form: &'a str,
    #[serde(flatten)]
    raw: RawOut<'a>,
}

/// The row as it came: as text if it is UTF-8, else in hexadecimal.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RawOut<'a> {
    Raw(&'a str),
    RawHex(String),
}

/// What a record says beside its row.
pub(super) struct About<'a> {
    pub reason: &'a str,
    pub errors: &'a [String],
    pub row: Option<u64>,
    pub form: &'a str,
}

impl<'a> NewRecord<'a> {
    pub fn new(id: u64, chunk: &'a str, origin: &'a str, about: &About<'a>, raw: &'a [u8]) -> NewRecord<'a> {
        let raw = match std::str::from_utf8(raw) {
            Ok(text) => RawOut::Raw(text),
            Err(_) => RawOut::RawHex(hex(raw)),
        };
        NewRecord { id, reason: about.reason, errors: about.errors, chunk, origin, row: about.row, form: about.form, raw }
    }
}

/// A record as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadRecord {
    /// Its number in the file, from 1. Stays what it is when others are dropped.
    pub id: u64,
    /// Why the row is here.
    pub reason: String,
    /// What went wrong before, the first error first; for a whole chunk that failed.
    pub errors: Vec<String>,
    /// The chunk it was in.
    pub chunk: String,
    /// Where that came from.
    pub origin: String,
    /// Its place in the chunk as it was read, from 0; none where the whole chunk was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// What the row's bytes are: `copy`, a row of `COPY … (FORMAT text)`, or `json`, a line that was ready to be written.
    pub form: String,
    /// The row's bytes.
    #[serde(skip)]
    pub raw: Vec<u8>,
    /// That and when it was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
}

/// A mark on a record that was replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// When, by RFC 3339, in UTC.
    pub at: String,
    /// Into which file.
    pub to: String,
}

/// The record as it stands in the file.
#[derive(Deserialize)]
struct Stored {
    id: u64,
    reason: String,
    errors: Vec<String>,
    chunk: String,
    origin: String,
    row: Option<u64>,
    form: String,
    raw: Option<String>,
    raw_hex: Option<String>,
    replayed: Option<Replayed>,
}

impl DeadRecord {
    /// Reads a line of the file.
    ///
    /// # Errors
    /// Why it is no record, for a person.
    pub fn parse(line: &[u8]) -> Result<DeadRecord, String> {
        let stored: Stored = serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            // The line of a text of one line says nothing, and would be taken for one of the file.
            text.replace(" at line 1 column ", ", at its byte ").replace(" at line 0 column ", ", at its byte ")
        })?;
        let raw = match (stored.raw, stored.raw_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => unhex(&digits).ok_or("`raw_hex` is not an even number of hexadecimal digits")?,
            _ => return Err("it has to have one of `raw` and `raw_hex`".into()),
        };
        let Stored { id, reason, errors, chunk, origin, row, form, replayed, .. } = stored;
        Ok(DeadRecord { id, reason, errors, chunk, origin, row, form, raw, replayed })
    }

    /// Whether it has not been replayed.
    pub fn is_pending(&self) -> bool {
        self.replayed.is_none()
    }

    /// All of it, as it stands in the file.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::json!(self);
        let (key, raw) = match std::str::from_utf8(&self.raw) {
            Ok(text) => ("raw", text.to_owned()),
            Err(_) => ("raw_hex", hex(&self.raw)),
        };
        let replayed = value.as_object_mut().and_then(|object| object.shift_remove("replayed"));
        value[key] = raw.into();
        if let Some(replayed) = replayed {
            value["replayed"] = replayed;
        }
        value
    }
}

/// The line with a mark on it, everything else as it was. `line` is one that [`DeadRecord::parse`] takes.
pub(super) fn marked(line: &[u8], replayed: &Replayed) -> Vec<u8> {
    let body = line.trim_ascii_end();
    let mut marked = body.strip_suffix(b"}").unwrap_or(body).to_vec();
    marked.extend_from_slice(b",\"replayed\":");
    serde_json::to_writer(&mut marked, replayed).expect("two strings, and memory takes them");
    marked.extend_from_slice(b"}\n");
    marked
}

fn hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(digits[usize::from(digit)])).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(raw: &[u8]) -> Vec<u8> {
        let about = About { reason: "why \"so\"", errors: &["one".into()], row: Some(3), form: "copy" };
        serde_json::to_vec(&NewRecord::new(7, "1.2", "t pages 0-1", &about, raw)).unwrap()
    }

    proptest! {
        #[test]
        fn every_byte_of_a_row_comes_back(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            let line = written(&raw);
            let record = DeadRecord::parse(&line).unwrap();
            prop_assert_eq!(&record.raw, &raw);
            prop_assert_eq!(serde_json::to_vec(&record.to_json()).unwrap(), line.clone());
            let mark = Replayed { at: "2026-01-31T12:00:00Z".into(), to: "a \"b\"".into() };
            let again = DeadRecord::parse(&marked(&line, &mark)).unwrap();
            prop_assert_eq!(again, DeadRecord { replayed: Some(mark), ..record });
        }
    }

    #[test]
    fn what_is_no_record_says_why() {
        let why = |line: &str| DeadRecord::parse(line.as_bytes()).unwrap_err();
        insta::assert_snapshot!(why("{\"id\":1}"), @"missing field `reason`, at its byte 8");
        insta::assert_snapshot!(why("nonsense"), @"expected ident, at its byte 2");
        let with =
            |raw: &str| format!("{{\"id\":1,\"reason\":\"\",\"errors\":[],\"chunk\":\"0.0\",\"origin\":\"\",\"form\":\"copy\"{raw}}}");
        insta::assert_snapshot!(why(&with("")), @"it has to have one of `raw` and `raw_hex`");
        insta::assert_snapshot!(why(&with(",\"raw_hex\":\"abc\"")), @"`raw_hex` is not an even number of hexadecimal digits");
    }
}
