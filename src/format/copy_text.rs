//! COPY text rows (as raw protocol messages) to JSON lines, in one pass.
//!
//! The oracle is the server: each line equals what `row_to_json` gives for the row, byte for byte. Sources of the rules:
//! PostgreSQL documentation, "COPY, File Formats, Text Format" (what the input looks like), and
//! `src/backend/utils/adt/json.c` (`json_categorize_type`, `datum_to_json`; what the output must look like).
//!
//! The two formats escape alike: COPY writes a newline as `\n`, a backslash as `\\`, and so does JSON. Text that has no quote
//! and no rare control character is therefore copied as it is, escapes and all, and the input is looked at once.

use super::Output;
use super::json_text::{Cursor, FieldMarks, Stop, StringMarks, quoted};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a column's text becomes a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Digits as they come: `int2`, `int4`, `int8`.
    Integer,
    /// Digits as they come, but `NaN` and the infinities as strings: `float4`, `float8`, `numeric`.
    Number,
    /// `t` and `f`.
    Bool,
    /// A string.
    Text,
    /// A string with a `T` between date and time: `timestamp`.
    Timestamp,
    /// The same, with the zone as `+00:00`: `timestamptz` under the time zone UTC.
    TimestampTz,
    /// JSON as the server has it, line breaks as spaces: `json`, `jsonb`, and what the query casts to JSON.
    Json,
    /// `{…}` with this delimiter between the elements, nested as deep as the value is.
    Array {
        /// What the elements are.
        element: Box<Kind>,
        /// `,` for all built-in types but `box`.
        delimiter: u8,
    },
    /// Elements with blanks between them: `int2vector`, `oidvector`.
    Vector(Box<Kind>),
}

/// A column of rows in this format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, which becomes the key.
    pub name: String,
    /// What its text means.
    pub kind: Kind,
}

/// A row that is not what its columns say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFault {
    /// The row ended behind this many fields.
    TooFewFields(usize),
    /// The row goes on behind its last column.
    TooManyFields,
    /// The text of this column (from 0) is none that its type can have.
    Malformed(usize),
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowFault::TooFewFields(count) => write!(f, "the row ends after {count} fields"),
            RowFault::TooManyFields => f.write_str("the row has more fields than the table has columns"),
            RowFault::Malformed(column) => write!(f, "field {} is not a value of its column's type", column + 1),
        }
    }
}

impl std::error::Error for RowFault {}

/// Bytes that must be readable behind the last row given to [`RowEncoder::encode`].
pub const PADDING: usize = 32;

/// Deeper than any server's arrays: PostgreSQL's have 6 dimensions at most (`MAXDIM`).
const MAX_DIMENSIONS: usize = 32;

/// Keys up to this long are written as one fixed block.
const SHORT_KEY: usize = 32;

struct Column {
    /// `{"name":` or `,"name":`, with the opening quote where the value is a string.
    key: Box<[u8]>,
    /// The same, padded, where it is short enough.
    block: Option<Box<[u8; SHORT_KEY]>>,
    kind: Kind,
}

/// Room for values that need a second look, used again and again.
#[derive(Default)]
pub struct Scratch {
    field: Vec<u8>,
    item: Vec<u8>,
}

/// Turns rows of one table into JSON lines.
pub struct RowEncoder {
    columns: Box<[Column]>,
}

impl RowEncoder {
    /// For rows with these columns (name, kind), in this order.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Kind)>) -> RowEncoder {
        let column = |(index, (name, kind)): (usize, (&str, Kind))| {
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            key.extend(quoted(name));
            key.push(b':');
            if kind.is_string() {
                key.push(b'"');
            }
            let block = (key.len() <= SHORT_KEY).then(|| {
                let mut block = [0; SHORT_KEY];
                block[..key.len()].copy_from_slice(&key);
                Box::new(block)
            });
            Column { key: key.into(), block, kind }
        };
        RowEncoder { columns: columns.into_iter().enumerate().map(column).collect() }
    }

    /// Appends the JSON line of the row that starts at `src[at]` and ends with a newline; returns where the next byte is.
    ///
    /// `src` must go on for [`PADDING`] bytes behind the row. `scratch` is used for values that need a second look.
    ///
    /// # Errors
    /// A [`RowFault`]; nothing has been appended then.
    pub fn encode(&self, src: &[u8], at: usize, out: &mut Output, scratch: &mut Scratch) -> Result<usize, RowFault> {
        loop {
            let mut cursor = Cursor { out: out.spare(), at: 0 };
            let result = self.row(src, at, &mut cursor, scratch);
            let written = cursor.at;
            match result {
                Ok(end) => {
                    out.commit(written);
                    return Ok(end);
                }
                Err(Stop::Bad(fault)) => return Err(fault),
                Err(Stop::Full) => out.grow(written * 2 + 4096),
            }
        }
    }

    #[inline(always)]
    fn row(&self, src: &[u8], from: usize, out: &mut Cursor<'_>, scratch: &mut Scratch) -> Result<usize, Stop> {
        let Some(last) = self.columns.len().checked_sub(1) else {
            return empty_row(src, from, out);
        };
        let mut at = from;
        for (index, column) in self.columns.iter().enumerate() {
            match &column.block {
                Some(block) => out.block(block, column.key.len())?,
                None => out.bytes(&column.key)?,
            }
            let end = if src[at] == b'\\' && src[at + 1] == b'N' {
                out.at -= usize::from(column.kind.is_string());
                out.block(b"null\0\0\0\0", 4)?;
                at + 2
            } else {
                field(&column.kind, src, at, out, scratch, index)?
            };
            let expected = if index == last { b'\n' } else { b'\t' };
            if src[end] != expected {
                return Err(Stop::Bad(wrong_end(src[end], index)));
            }
            at = end + 1;
        }
        out.bytes(b"}\n")?;
        Ok(at)
    }
}

/// The row of a table without columns: an empty line.
fn empty_row(src: &[u8], at: usize, out: &mut Cursor<'_>) -> Result<usize, Stop> {
    if src[at] != b'\n' {
        return Err(Stop::Bad(RowFault::TooManyFields));
    }
    out.bytes(b"{}\n")?;
    Ok(at + 1)
}

#[cold]
fn wrong_end(found: u8, column: usize) -> RowFault {
    match found {
        b'\n' => RowFault::TooFewFields(column + 1),
        b'\t' => RowFault::TooManyFields,
        _ => RowFault::Malformed(column),
    }
}

impl Kind {
    /// Whether every value but NULL begins with a quote.
    fn is_string(&self) -> bool {
        matches!(self, Kind::Text | Kind::Timestamp | Kind::TimestampTz)
    }
}

/// Writes the value that starts at `src[at]`; returns where its end mark is.
#[inline(always)]
fn field(kind: &Kind, src: &[u8], at: usize, out: &mut Cursor<'_>, scratch: &mut Scratch, column: usize) -> Result<usize, Stop> {
    match kind {
        Kind::Integer => out.copy_to_mark::<FieldMarks>(src, at),
        Kind::Text => text(src, at, out, column),
        Kind::Number if starts_with_digit(&src[at..]) => out.copy_to_mark::<FieldMarks>(src, at),
        Kind::Bool => {
            let word: &[u8; 8] = match src[at] {
                b't' => b"true\0\0\0\0",
                b'f' => b"false\0\0\0",
                _ => return Err(Stop::Bad(RowFault::Malformed(column))),
            };
            out.block(word, if src[at] == b't' { 4 } else { 5 })?;
            Ok(at + 1)
        }
        Kind::Timestamp | Kind::TimestampTz => {
            let start = out.at;
            let end = out.copy_to_mark::<FieldMarks>(src, at)?;
            mend_timestamp(matches!(kind, Kind::TimestampTz), start, out)?;
            out.byte(b'"')?;
            Ok(end)
        }
        Kind::Json => json(src, at, out, column),
        Kind::Number | Kind::Array { .. } | Kind::Vector(_) => {
            let end = unescape(src, at, &mut scratch.field, column)?;
            value(kind, &scratch.field, out, &mut scratch.item, column)?;
            Ok(end)
        }
    }
}

/// Whether this is a number that JSON can hold as it is, seeing that the server wrote it: a digit, or a minus and a digit.
#[inline(always)]
fn starts_with_digit(text: &[u8]) -> bool {
    match text {
        [b'-', next, ..] | [next, ..] => next.is_ascii_digit(),
        [] => false,
    }
}

/// A COPY text field as the rest of a JSON string, closing quote included.
#[inline(always)]
fn text(src: &[u8], at: usize, out: &mut Cursor<'_>, column: usize) -> Result<usize, Stop> {
    let mut i = at;
    loop {
        i = out.copy_to_mark::<StringMarks>(src, i)?;
        match src[i] {
            b'\t' | b'\n' => {
                out.byte(b'"')?;
                return Ok(i);
            }
            // `\v` is the one COPY escape that JSON lacks; all others mean the same in both.
            b'\\' if src[i + 1] == b'v' => {
                out.escaped(0x0b)?;
                i += 2;
            }
            b'\\' => match src[i + 1] {
                code @ (b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {
                    out.bytes(&[b'\\', code])?;
                    i += 2;
                }
                _ => return Err(Stop::Bad(RowFault::Malformed(column))),
            },
            other => {
                out.escaped(other)?;
                i += 1;
            }
        }
    }
}

/// A COPY text field that is JSON: taken out of its escapes, line breaks as spaces so that a row stays one line.
///
/// Only white space between tokens can hold a raw line break, so the value is the same.
#[inline(always)]
fn json(src: &[u8], at: usize, out: &mut Cursor<'_>, column: usize) -> Result<usize, Stop> {
    let mut i = at;
    loop {
        i = out.copy_to_mark::<FieldMarks>(src, i)?;
        match src[i] {
            b'\t' | b'\n' => return Ok(i),
            b'\\' => {
                out.byte(match unescaped(src[i + 1], column)? {
                    b'\n' | b'\r' => b' ',
                    other => other,
                })?;
                i += 2;
            }
            other => {
                out.byte(other)?;
                i += 1;
            }
        }
    }
}

/// What COPY means by a backslash and this.
#[inline(always)]
fn meaning(code: u8) -> u8 {
    match code {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        other => other,
    }
}

/// The same in a row of the server's. A backslash never hides the end of a field or row: nothing behind a row is read for it.
#[inline(always)]
fn unescaped(code: u8, column: usize) -> Result<u8, Stop> {
    if code < 0x20 { Err(Stop::Bad(RowFault::Malformed(column))) } else { Ok(meaning(code)) }
}

/// A field without its escapes.
pub(super) fn plain_field(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        plain.push(escaped.map_or(byte, |code| meaning(*code)));
    }
    plain
}

/// The values of a row (without its line feed), `None` for NULL.
pub fn values(row: &[u8]) -> Vec<Option<Vec<u8>>> {
    row.split(|byte| *byte == b'\t').map(|field| (field != b"\\N").then(|| plain_field(field))).collect()
}

/// Sets `plain` to the field without its escapes; returns where its end mark is.
fn unescape(src: &[u8], at: usize, plain: &mut Vec<u8>, column: usize) -> Result<usize, Stop> {
    plain.clear();
    let mut i = at;
    loop {
        let from = i;
        while !matches!(src[i], b'\t' | b'\n' | b'\\') {
            i += 1;
        }
        plain.extend_from_slice(&src[from..i]);
        if src[i] != b'\\' {
            return Ok(i);
        }
        plain.push(unescaped(src[i + 1], column)?);
        i += 2;
    }
}

/// The timestamp text written since `start`, made ISO 8601: `2024-01-01 10:00:00+00 BC` becomes `2024-01-01T10:00:00+00:00 BC`.
fn mend_timestamp(zone: bool, start: usize, out: &mut Cursor<'_>) -> Result<(), Stop> {
    let text = &mut out.out[start..out.at];
    let Some(blank) = text.iter().position(|&byte| byte == b' ') else {
        return Ok(()); // `infinity`
    };
    text[blank] = b'T';
    if !zone {
        return Ok(());
    }
    if text.ends_with(b" BC") {
        out.at -= 3;
        out.bytes(b":00 BC")
    } else {
        out.bytes(b":00")
    }
}

/// The value with this text (no COPY escapes in it any more), complete with quotes.
fn value(kind: &Kind, text: &[u8], out: &mut Cursor<'_>, item: &mut Vec<u8>, column: usize) -> Result<(), Stop> {
    let is_written_as_it_is = matches!(kind, Kind::Integer | Kind::Timestamp | Kind::TimestampTz | Kind::Number);
    if is_written_as_it_is && text.iter().any(|&byte| byte < 0x20) {
        return Err(Stop::Bad(RowFault::Malformed(column)));
    }
    match kind {
        Kind::Integer => out.bytes(text),
        Kind::Number if starts_with_digit(text) => out.bytes(text),
        Kind::Number | Kind::Text => out.string(text),
        Kind::Bool => match text {
            b"t" => out.bytes(b"true"),
            b"f" => out.bytes(b"false"),
            _ => Err(Stop::Bad(RowFault::Malformed(column))),
        },
        Kind::Timestamp | Kind::TimestampTz => {
            out.byte(b'"')?;
            let start = out.at;
            out.bytes(text)?;
            mend_timestamp(matches!(kind, Kind::TimestampTz), start, out)?;
            out.byte(b'"')
        }
        Kind::Json => text.iter().try_for_each(|&byte| out.byte(if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })),
        Kind::Array { element, delimiter } => {
            let mut array = ArrayText { text, at: bounds_end(text), depth: 0, delimiter: *delimiter, element, column, item };
            array.write(out)?;
            if array.at == text.len() { Ok(()) } else { Err(Stop::Bad(RowFault::Malformed(column))) }
        }
        Kind::Vector(element) => {
            out.byte(b'[')?;
            for (index, part) in text.split(|&byte| byte == b' ').filter(|part| !part.is_empty()).enumerate() {
                if index > 0 {
                    out.byte(b',')?;
                }
                value(element, part, out, item, column)?;
            }
            out.byte(b']')
        }
    }
}

/// Where the braces begin: behind `[2:3]=` if the array has lower bounds of its own. JSON does not show them.
fn bounds_end(text: &[u8]) -> usize {
    if text.first() == Some(&b'[') { text.iter().position(|&byte| byte == b'=').map_or(0, |at| at + 1) } else { 0 }
}

/// An array's text (PostgreSQL documentation, "Array Input and Output Syntax") while it is read.
struct ArrayText<'a> {
    text: &'a [u8],
    at: usize,
    /// How many braces are open.
    depth: usize,
    delimiter: u8,
    element: &'a Kind,
    column: usize,
    /// Where quoted elements lose their quotes.
    item: &'a mut Vec<u8>,
}

impl ArrayText<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn malformed(&self) -> Stop {
        Stop::Bad(RowFault::Malformed(self.column))
    }

    /// One pair of braces and what is between them.
    fn write(&mut self, out: &mut Cursor<'_>) -> Result<(), Stop> {
        if self.peek() != b'{' || self.depth == MAX_DIMENSIONS {
            return Err(self.malformed());
        }
        self.depth += 1;
        self.at += 1;
        out.byte(b'[')?;
        while self.peek() != b'}' {
            match self.peek() {
                b'{' => self.write(out)?,
                b'"' => self.quoted(out)?,
                0 => return Err(self.malformed()),
                _ => self.bare(out)?,
            }
            if self.peek() == self.delimiter && self.text.get(self.at + 1) != Some(&b'}') {
                self.at += 1;
                out.byte(b',')?;
            } else if self.peek() != b'}' {
                return Err(self.malformed());
            }
        }
        self.depth -= 1;
        self.at += 1;
        out.byte(b']')
    }

    fn bare(&mut self, out: &mut Cursor<'_>) -> Result<(), Stop> {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&byte| byte == self.delimiter || byte == b'}').unwrap_or(rest.len());
        self.at += length;
        match &rest[..length] {
            b"NULL" => out.bytes(b"null"),
            part => value(self.element, part, out, self.item, self.column),
        }
    }

    fn quoted(&mut self, out: &mut Cursor<'_>) -> Result<(), Stop> {
        self.item.clear();
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => self.at += 1,
                _ => {}
            }
            self.item.push(*self.text.get(self.at).ok_or_else(|| self.malformed())?);
            self.at += 1;
        }
        self.at += 1;
        // Only an element that is an array itself (a domain over one) needs room of its own.
        value(self.element, self.item, out, &mut Vec::new(), self.column)
    }
}
