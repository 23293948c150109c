//! Delimited text: CSV, TSV and their like, to JSON and from it.
//!
//! Rows are as RFC 4180 has them, and a little more: a quote that does not begin a field is a character like others, line ends are `\n` or
//! `\r\n`, an empty line is no row. What stands behind a closing quote, and a row with another number of fields than the header, is a fault.

use super::json_lines::RawRow;
use super::json_text::{Cursor, Marks, Stop, StringMarks, below, equal, quoted, splat};
use super::{Output, Records};
use std::borrow::Cow;
use std::fmt;

/// What may stand between fields.
pub const DELIMITERS: &[u8] = b",;|:\t\x1f";

/// The quote.
pub const QUOTE: u8 = b'"';

/// What the text of a column becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A string, as it is written.
    #[default]
    String,
    /// A number, digit by digit as it is written; `null` if there is nothing.
    Number,
    /// `true` or `false`; `null` if there is nothing.
    Boolean,
    /// The JSON that it is; `null` if there is nothing.
    Json,
}

/// What becomes of a string without characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Empty {
    /// `""`.
    #[default]
    String,
    /// `null`.
    Null,
}

/// A row that is not what its columns say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFault {
    /// The row ended behind so many fields, of so many.
    TooFew(usize, usize),
    /// It goes on behind so many fields.
    TooMany(usize),
    /// Something stands behind the quote that closes this field (from 0).
    BehindQuote(usize),
    /// The quote that opens this field is never closed.
    Unclosed(usize),
    /// The text of this field is none that its kind can have.
    Malformed(Box<str>, Kind),
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowFault::TooFew(found, expected) => write!(f, "{found} fields instead of {expected}"),
            RowFault::TooMany(expected) => write!(f, "more than {expected} fields"),
            RowFault::BehindQuote(field) => write!(f, "field {} goes on behind its closing quote", field + 1),
            RowFault::Unclosed(field) => write!(f, "the quote that opens field {} is never closed", field + 1),
            RowFault::Malformed(name, kind) => write!(f, "the value of `{name}` is no {}", kind.word()),
        }
    }
}

impl std::error::Error for RowFault {}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Number => "number as JSON writes it",
            Kind::Boolean => "boolean (true or false)",
            Kind::Json => "JSON",
        }
    }

    /// Whether `text` is one.
    fn admits(self, text: &[u8]) -> bool {
        match self {
            Kind::String => true,
            Kind::Number => is_number(text),
            Kind::Boolean => text == b"true" || text == b"false",
            // Line breaks between its parts would break the line.
            Kind::Json => !text.contains(&b'\n') && std::str::from_utf8(text).is_ok_and(|text| super::json_lines::check(text).is_ok()),
        }
    }
}

/// Whether `text` is a number by the grammar of JSON.
fn is_number(text: &[u8]) -> bool {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return false;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at.min(text.len()));
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == text.len()
}

/// Bytes that end or escape a field that begins without a quote.
struct FieldEnds<const DELIMITER: u8>;

impl<const DELIMITER: u8> Marks for FieldEnds<DELIMITER> {
    #[inline(always)]
    fn word(word: u64) -> u64 {
        // Delimiters below 0x20 are marked with the controls.
        below(word, 0x20) | equal(word, b'\\') | equal(word, b'"') | if DELIMITER < 0x20 { 0 } else { below(word ^ splat(DELIMITER), 1) }
    }
    #[inline(always)]
    fn byte(byte: u8) -> bool {
        (byte < 0x20) | (byte == b'\\') | (byte == b'"') | (byte == DELIMITER)
    }
}

struct Column {
    name: Box<str>,
    /// `{"name":` or `,"name":`, with the opening quote where the value is a string in any case.
    key: Box<[u8]>,
    kind: Kind,
}

/// Turns rows with these columns into JSON lines.
pub struct RowEncoder {
    columns: Box<[Column]>,
    delimiter: u8,
    empty: Empty,
}

impl RowEncoder {
    /// For rows with these columns (name, kind), in this order, between `delimiter`s, which is one of [`DELIMITERS`].
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Kind)>, delimiter: u8, empty: Empty) -> RowEncoder {
        debug_assert!(DELIMITERS.contains(&delimiter));
        let column = |(index, (name, kind)): (usize, (&str, Kind))| {
            let open: &[u8] = if kind == Kind::String && empty == Empty::String { b"\"" } else { b"" };
            let key = [if index == 0 { b"{" } else { &b","[..] }, &quoted(name), b":", open].concat();
            Column { name: name.into(), key: key.into(), kind }
        };
        RowEncoder { columns: columns.into_iter().enumerate().map(column).collect(), delimiter, empty }
    }

    /// Appends the JSON line of the row that starts at `src[at]`, which is UTF-8 and ends with a line feed; returns where the next row
    /// begins. `src` must go on for [`PADDING`](super::PADDING) bytes behind the row.
    ///
    /// # Errors
    /// A [`RowFault`]; nothing has been appended then.
    pub fn encode(&self, src: &[u8], at: usize, out: &mut Output) -> Result<usize, RowFault> {
        loop {
            let mut cursor = Cursor { out: out.spare(), at: 0 };
            let tried = match self.delimiter {
                b',' => self.row::<b','>(src, at, &mut cursor),
                b';' => self.row::<b';'>(src, at, &mut cursor),
                b'|' => self.row::<b'|'>(src, at, &mut cursor),
                b':' => self.row::<b':'>(src, at, &mut cursor),
                b'\t' => self.row::<b'\t'>(src, at, &mut cursor),
                _ => self.row::<0x1f>(src, at, &mut cursor),
            };
            match tried {
                Ok(next) => {
                    let written = cursor.at;
                    out.commit(written);
                    return Ok(next);
                }
                Err(Halt::Full) => out.grow((src.len() - at).min(64 << 10) + self.columns.len() * 32),
                Err(Halt::Bad(fault)) => return Err(fault),
            }
        }
    }

    #[inline]
    fn row<const D: u8>(&self, src: &[u8], at: usize, out: &mut Cursor<'_>) -> Result<usize, Halt> {
        let mut at = at;
        let last = self.columns.len() - 1;
        for (index, column) in self.columns.iter().enumerate() {
            out.bytes(&column.key)?;
            at = match column.kind {
                Kind::String if self.empty == Empty::String || !is_empty::<D>(src, at) => {
                    if self.empty == Empty::Null {
                        out.byte(b'"')?;
                    }
                    let at = string::<D>(src, at, index, out)?;
                    out.byte(b'"')?;
                    at
                }
                Kind::String => {
                    out.bytes(b"null")?;
                    at
                }
                _ => typed::<D>(src, at, index, column, out)?,
            };
            if index < last {
                if src[at] != D {
                    return Err(Halt::Bad(RowFault::TooFew(index + 1, last + 1)));
                }
                at += 1;
            }
        }
        out.bytes(b"}\n")?;
        match src[at] {
            b'\n' => Ok(at + 1),
            b'\r' => Ok(at + 2),
            _ => Err(Halt::Bad(RowFault::TooMany(last + 1))),
        }
    }
}

/// Why a row could not be written.
enum Halt {
    /// The buffer ended first: grow it and start the row again.
    Full,
    Bad(RowFault),
}

impl From<Stop> for Halt {
    fn from(_: Stop) -> Halt {
        Halt::Full
    }
}

/// Whether a field that begins without a quote ends at `src[at]`.
#[inline(always)]
fn is_end<const D: u8>(src: &[u8], at: usize) -> bool {
    src[at] == D || src[at] == b'\n' || (src[at] == b'\r' && src.get(at + 1) == Some(&b'\n'))
}

#[inline(always)]
fn is_empty<const D: u8>(src: &[u8], at: usize) -> bool {
    is_end::<D>(src, at)
}

/// Copies the field at `src[at]`, escaped for JSON; returns where its end is.
#[inline(always)]
fn string<const D: u8>(src: &[u8], at: usize, index: usize, out: &mut Cursor<'_>) -> Result<usize, Halt> {
    let mut at = at;
    if src[at] == QUOTE {
        return quoted_string::<D>(src, at + 1, index, out);
    }
    loop {
        at = out.copy_to_mark::<FieldEnds<D>>(src, at)?;
        if is_end::<D>(src, at) {
            return Ok(at);
        }
        out.escaped(src[at])?;
        at += 1;
    }
}

/// The same for a field whose opening quote stands before `src[at]`.
fn quoted_string<const D: u8>(src: &[u8], at: usize, index: usize, out: &mut Cursor<'_>) -> Result<usize, Halt> {
    let mut at = at;
    loop {
        at = out.copy_to_mark::<StringMarks>(src, at)?;
        match src[at] {
            QUOTE if src[at + 1] == QUOTE => {
                out.escaped(QUOTE)?;
                at += 2;
            }
            QUOTE if is_end::<D>(src, at + 1) => return Ok(at + 1),
            QUOTE => return Err(Halt::Bad(RowFault::BehindQuote(index))),
            byte => {
                // A buffer ends with a row, and what follows are zeros.
                if byte == 0 && src.len() - at <= super::PADDING {
                    return Err(Halt::Bad(RowFault::Unclosed(index)));
                }
                out.escaped(byte)?;
                at += 1;
            }
        }
    }
}

/// A field that becomes another value than a string.
fn typed<const D: u8>(src: &[u8], at: usize, index: usize, column: &Column, out: &mut Cursor<'_>) -> Result<usize, Halt> {
    let (text, end) = field::<D>(src, at, index).map_err(Halt::Bad)?;
    if text.is_empty() {
        out.bytes(b"null")?;
    } else if column.kind.admits(&text) {
        out.bytes(&text)?;
    } else {
        return Err(Halt::Bad(RowFault::Malformed(column.name.clone(), column.kind)));
    }
    Ok(end)
}

/// The text of the field at `src[at]`, and where its end is.
fn field<const D: u8>(src: &[u8], at: usize, index: usize) -> Result<(Cow<'_, [u8]>, usize), RowFault> {
    let Some(open) = src.get(at).filter(|byte| **byte == QUOTE).map(|_| at + 1) else {
        let end = (at..src.len()).find(|at| is_end::<D>(src, *at)).unwrap_or(src.len());
        return Ok((src[at..end].into(), end));
    };
    let mut text = Vec::new();
    let mut from = open;
    loop {
        let close = memchr::memchr(QUOTE, &src[from..]).map(|more| from + more).ok_or(RowFault::Unclosed(index))?;
        text.extend_from_slice(&src[from..close]);
        match src.get(close + 1) {
            Some(&QUOTE) => {
                text.push(QUOTE);
                from = close + 2;
            }
            Some(_) if is_end::<D>(src, close + 1) => return Ok((text.into(), close + 1)),
            Some(_) => return Err(RowFault::BehindQuote(index)),
            None => return Err(RowFault::Unclosed(index)),
        }
    }
}

/// Whether a row has nothing in it, not even a blank.
pub fn is_blank(row: &[u8]) -> bool {
    matches!(row, b"" | b"\n" | b"\r\n")
}

/// The fields of one row, which ends with a line feed.
///
/// # Errors
/// A [`RowFault`] if something stands behind a closing quote.
pub fn fields(row: &[u8], delimiter: u8) -> Result<Vec<Cow<'_, [u8]>>, RowFault> {
    let next = match delimiter {
        b',' => field::<b','>,
        b';' => field::<b';'>,
        b'|' => field::<b'|'>,
        b':' => field::<b':'>,
        b'\t' => field::<b'\t'>,
        _ => field::<0x1f>,
    };
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let (text, end) = next(row, at, found.len())?;
        found.push(text);
        if row.get(end) != Some(&delimiter) {
            return Ok(found);
        }
        at = end + 1;
    }
}

/// Writes rows with these columns.
pub struct RowWriter {
    columns: Box<[Box<str>]>,
    delimiter: u8,
    /// Whether members that are no columns are left out.
    picks: bool,
}

impl RowWriter {
    /// Fields between `delimiter`s, which is one of [`DELIMITERS`]. A row with a member that is no column is refused.
    pub fn new(columns: impl IntoIterator<Item = impl Into<Box<str>>>, delimiter: u8) -> RowWriter {
        RowWriter { columns: columns.into_iter().map(Into::into).collect(), delimiter, picks: false }
    }

    /// The same, but members that are no columns are left out: somebody has picked the columns.
    #[must_use]
    pub fn picking(self) -> RowWriter {
        RowWriter { picks: true, ..self }
    }

    /// Where its rows end.
    pub fn records(&self) -> Records {
        Records::Quoted { delimiter: self.delimiter, quote: QUOTE }
    }

    /// The line that says what the columns are called.
    pub fn header(&self) -> Vec<u8> {
        let mut line = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            self.field(index, column, &mut line);
        }
        line.push(b'\n');
        line
    }

    /// Appends a row. A `null` and what is missing are nothing, an empty string is `""`, lists and objects are JSON.
    ///
    /// # Errors
    /// The row has a member that is no column; nothing has been appended then.
    pub fn write(&self, row: &RawRow<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let strange = || row.members.iter().find(|(key, _)| !self.columns.iter().any(|column| **column == **key));
        if let Some((strange, _)) = if self.picks { None } else { strange() } {
            return Err(format!("the row has a member `{strange}`, which is no column of the output"));
        }
        for (index, column) in self.columns.iter().enumerate() {
            match row.get(column).map_or("null", serde_json::value::RawValue::get) {
                "null" => self.raw(index, b"", out),
                r#""""# => self.raw(index, br#""""#, out),
                text if text.starts_with('"') => {
                    let text: Cow<'_, str> =
                        serde_json::from_str(text).map_err(|error| format!("the value of `{column}` is no text: {error}"))?;
                    self.field(index, &text, out);
                }
                other => self.field(index, other, out),
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn raw(&self, index: usize, text: &[u8], out: &mut Vec<u8>) {
        if index > 0 {
            out.push(self.delimiter);
        }
        // A row of one empty field would be no row.
        let alone = self.columns.len() == 1 && text.is_empty();
        out.extend_from_slice(if alone { b"\"\"" } else { text });
    }

    fn field(&self, index: usize, text: &str, out: &mut Vec<u8>) {
        if !text.bytes().any(|byte| byte == self.delimiter || matches!(byte, QUOTE | b'\r' | b'\n')) {
            return self.raw(index, text.as_bytes(), out);
        }
        let doubled = format!("\"{}\"", text.replace('"', "\"\""));
        self.raw(index, doubled.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests;
