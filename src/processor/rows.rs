//! Handlers for rows of text formats: are they sound, and make of them what the sink wants.

use super::{Done, Handler, HandlerError, Rejected, Work};
use crate::batch::{Batch, Content, Place, TextRows};
use crate::chunk::Payload;
use crate::format::csv::{self, RowEncoder, RowWriter};
use crate::format::json_lines::{self, RawRow};
use crate::format::text_lines::LineEncoder;
use crate::format::{Compression, Output, PADDING, Records, Scan};
use crate::memory::{Buffer, Expansion, Pool};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::Range;
use std::str::from_utf8;
use std::sync::Arc;

/// Buffers are kept for the next chunk if they are no larger than so many times the chunk.
#[cfg(feature = "pipeline")]
const KEPT_EXPANSION: usize = 4;

/// What rows are written in, as they come.
pub enum RowReader {
    /// A JSON value each.
    JsonLines,
    /// Fields between delimiters.
    Csv(RowEncoder),
    /// Any text.
    Lines(LineEncoder),
}

/// What rows are written in, as they go.
pub enum RowsOut {
    /// A JSON value each.
    JsonLines,
    /// Fields between delimiters.
    Csv(RowWriter),
    /// The text of this member.
    Lines(Box<str>),
}

/// Something to be done with each row, in place.
#[derive(Clone)]
pub enum RowStep {
    /// Only these members, in this order. One that a row does not have is left out.
    Select(Vec<Box<str>>),
    /// All members but these.
    Drop(Vec<Box<str>>),
    /// Other names (from, to).
    Rename(Vec<(Box<str>, Box<str>)>),
    /// What a function makes of it.
    Map(Mapping),
}

/// A function over rows as `serde_json` has them; see [`map`].
pub type Mapping = Arc<dyn Fn(Map<String, Value>) -> Result<Option<Map<String, Value>>, String> + Send + Sync>;

/// A step that makes of every row what `each` makes of it: another row; `None`, which filters it; or an error, which sends it to the dead
/// letter with this reason. Numbers that neither 64 bits nor a double can hold do not come through unchanged.
pub fn map(each: impl Fn(Map<String, Value>) -> Result<Option<Map<String, Value>>, String> + Send + Sync + 'static) -> RowStep {
    RowStep::Map(Arc::new(each))
}

impl RowStep {
    /// Does it. `false` filters the row.
    fn apply(&self, row: &mut RawRow<'_>) -> Result<bool, String> {
        match self {
            RowStep::Select(names) => {
                let mut taken: Vec<_> = std::mem::take(&mut row.members).into_iter().map(Some).collect();
                for name in names {
                    let found = taken.iter().rposition(|member| member.as_ref().is_some_and(|(key, _)| **key == **name));
                    row.members.extend(found.and_then(|place| taken[place].take()));
                }
            }
            RowStep::Drop(names) => row.members.retain(|(key, _)| !names.iter().any(|name| **name == **key)),
            RowStep::Rename(names) => {
                for (key, _) in &mut row.members {
                    if let Some((_, to)) = names.iter().find(|(from, _)| **from == **key) {
                        *key = Cow::Owned(to.to_string());
                    }
                }
            }
            RowStep::Map(each) => {
                let value = |(key, raw): &(Cow<'_, str>, Cow<'_, serde_json::value::RawValue>)| {
                    let value = serde_json::from_str(raw.get()).map_err(|error| format!("`{key}` cannot be taken apart: {error}"))?;
                    Ok((key.clone().into_owned(), value))
                };
                let object = row.members.iter().map(value).collect::<Result<Map<String, Value>, String>>()?;
                let Some(made) = each(object)? else { return Ok(false) };
                let raw = |(key, value): (String, Value)| {
                    let raw = serde_json::value::to_raw_value(&value).map_err(|error| error.to_string())?;
                    Ok((Cow::Owned(key), Cow::Owned(raw)))
                };
                row.members = made.into_iter().map(raw).collect::<Result<_, String>>()?;
            }
        }
        Ok(true)
    }
}

/// The rows of a chunk with their places: in the buffer, in the chunk as it was read, in the input.
fn rows(text: &TextRows) -> impl Iterator<Item = (usize, usize, Place)> + '_ {
    let bytes = text.buffer.bytes();
    let (mut start, mut number) = (0, 0_usize);
    std::iter::from_fn(move || {
        if start >= bytes.len() {
            return None;
        }
        let end = text.records.end(&bytes[start..], &mut Scan::default()).map_or(bytes.len(), |length| start + length);
        let place = match &text.places {
            Some(places) => places[number],
            None => Place { row: number as u64, at: text.at + start as u64 },
        };
        let row = (start, end, place);
        (start, number) = (end, number + 1);
        Some(row)
    })
}

fn reject(place: Place, reason: impl std::fmt::Display, raw: &[u8]) -> Rejected {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    Rejected { row: place.row, reason: format!("{reason} (the row at byte {})", place.at), raw: raw.into() }
}

fn not_utf8(row: &[u8]) -> Option<String> {
    let error = from_utf8(row).err()?;
    Some(format!("not UTF-8: byte {} of the row is part of no character", error.valid_up_to() + 1))
}

/// Sets aside rows that are no text, or not there as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowValidator;

impl RowValidator {
    /// What is wrong with a row.
    fn fault(text: &TextRows, place: Place, row: &[u8]) -> Option<String> {
        let fault = text.fault.as_ref().filter(|(number, _)| *number == place.row);
        fault.map(|(_, reason)| reason.to_string()).or_else(|| not_utf8(row))
    }
}

impl Handler<Batch> for RowValidator {
    fn run(&self, work: &Work<Batch>) -> Result<Done<Batch>, HandlerError> {
        let Content::Rows(text) = work.payload.content() else { return Ok(Done::same()) };
        let bytes = text.buffer.bytes();
        if text.fault.is_none() && from_utf8(bytes).is_ok() {
            return Ok(Done::same());
        }
        let (mut sound, mut places, mut rejected) = (Vec::with_capacity(bytes.len()), Vec::new(), Vec::new());
        for (start, end, place) in rows(text) {
            match RowValidator::fault(text, place, &bytes[start..end]) {
                None => {
                    sound.extend_from_slice(&bytes[start..end]);
                    places.push(place);
                }
                Some(reason) => rejected.push(reject(place, reason, &bytes[start..end])),
            }
        }
        let kept = places.len() as u64;
        let buffer = Buffer::copy_of(&sound, PADDING);
        let rest = TextRows { buffer, records: text.records, at: text.at, fault: None, places: Some(places.into()) };
        Ok(Done::with(Batch::text(rest, kept)).rejecting(rejected))
    }
}

/// Makes of rows what the sink wants, through steps if there are some.
pub struct RowTranscoder {
    reader: RowReader,
    steps: Vec<RowStep>,
    writer: RowsOut,
    compression: Compression,
    expansion: Arc<Expansion>,
    pool: Pool,
}

/// What came of a chunk's rows.
#[derive(Default)]
struct Made {
    rejected: Vec<Rejected>,
    filtered: u64,
    /// Of the rows that go on: their places, and where each begins and ends in the chunk's buffer.
    places: Vec<(Place, Range<usize>)>,
}

impl RowTranscoder {
    /// From `reader` through `steps` to `writer`, and packed. `workers` run it at the same time, on chunks of about `chunk_bytes`.
    #[cfg(feature = "pipeline")]
    pub(crate) fn new(
        (reader, steps, writer): (RowReader, Vec<RowStep>, RowsOut),
        compression: Compression,
        expansion: Arc<Expansion>,
        chunk_bytes: usize,
        workers: usize,
    ) -> RowTranscoder {
        let pool = Pool::new(chunk_bytes * KEPT_EXPANSION, workers * 2 + 4);
        RowTranscoder { reader, steps, writer, compression, expansion, pool }
    }

    /// Whether rows go out as the reader leaves them.
    fn is_direct(&self) -> bool {
        self.steps.is_empty() && matches!(self.writer, RowsOut::JsonLines)
    }

    /// What the output's rows end with.
    fn records_out(&self) -> Records {
        match &self.writer {
            RowsOut::Csv(writer) => writer.records(),
            RowsOut::JsonLines | RowsOut::Lines(_) => Records::Lines,
        }
    }

    /// JSON lines of the rows that are sound.
    fn read(&self, text: &TextRows, made: &mut Made) -> Result<Output, HandlerError> {
        let bytes = text.buffer.bytes();
        let source = &text.buffer.padded()[..bytes.len() + PADDING];
        let is_text = from_utf8(bytes).is_ok();
        let mut output = Output::reusing(self.pool.take(self.expansion.room(bytes.len())));
        for (start, end, place) in rows(text) {
            let row = &bytes[start..end];
            let is_blank = match self.reader {
                RowReader::JsonLines => json_lines::is_blank(row),
                RowReader::Csv(_) => csv::is_blank(row),
                RowReader::Lines(_) => false,
            };
            if is_blank {
                made.filtered += 1;
                continue;
            }
            // A definition may leave validation out; what is written must be right all the same.
            let unsound = if is_text && text.fault.is_none() { None } else { RowValidator::fault(text, place, row) };
            let fault = match (unsound, &self.reader) {
                (Some(reason), _) => Some(reason),
                // What is taken apart later is checked then.
                (None, RowReader::JsonLines) if !self.is_direct() => {
                    append(row, &mut output);
                    None
                }
                (None, RowReader::JsonLines) => check(row).map(|()| append(row, &mut output)).err(),
                (None, RowReader::Lines(encoder)) => {
                    encoder.encode(source, start, end, &mut output);
                    None
                }
                (None, RowReader::Csv(encoder)) => match encoder.encode(source, start, &mut output) {
                    Ok(next) if next != end => {
                        let message = format!("the row at byte {} ends at {next} for one reader, at {end} for another", place.at);
                        return Err(HandlerError::new("internal", message));
                    }
                    Ok(_) => None,
                    Err(fault) => Some(fault.to_string()),
                },
            };
            match fault {
                None => made.places.push((place, start..end)),
                Some(reason) => made.rejected.push(reject(place, reason, row)),
            }
        }
        Ok(output)
    }

    /// Takes the lines through the steps and writes them.
    fn process(&self, text: &TextRows, lines: &[u8], made: &mut Made) -> Output {
        let mut output = Output::reusing(self.pool.take(self.expansion.room(lines.len() / 2)));
        let (mut line_out, mut at) = (Vec::new(), 0);
        for (place, span) in std::mem::take(&mut made.places) {
            let length = Records::Lines.end(&lines[at..], &mut Scan::default()).unwrap_or(lines.len() - at);
            let line = &lines[at..at + length];
            at += length;
            line_out.clear();
            match self.row(line, &mut line_out) {
                Ok(true) => {
                    append(&line_out, &mut output);
                    made.places.push((place, span));
                }
                Ok(false) => made.filtered += 1,
                // As it came: that is what can be mended and read again.
                Err(reason) => made.rejected.push(reject(place, reason, &text.buffer.bytes()[span])),
            }
        }
        output
    }

    /// One row. `false` filters it.
    fn row(&self, line: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let line = from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).map_err(|error| error.to_string())?;
        let mut row = RawRow::parse(line)?;
        for step in &self.steps {
            if !step.apply(&mut row)? {
                return Ok(false);
            }
        }
        match &self.writer {
            RowsOut::JsonLines => row.write(out),
            RowsOut::Csv(writer) => writer.write(&row, out)?,
            RowsOut::Lines(member) => {
                let raw = row.get(member).ok_or_else(|| format!("the row has no member `{member}` whose text could be written"))?;
                let text: Cow<'_, str> = serde_json::from_str(raw.get()).map_err(|_| format!("`{member}` is no string"))?;
                if text.contains('\n') {
                    return Err(format!("`{member}` has line breaks, and a line has none"));
                }
                out.extend_from_slice(text.as_bytes());
                out.push(b'\n');
            }
        }
        Ok(true)
    }

    fn compress(&self, output: Output) -> Result<Buffer, HandlerError> {
        let (memory, length) = output.into_parts();
        let lines = Buffer::new(memory, length, &self.pool);
        if self.compression == Compression::None {
            return Ok(lines);
        }
        let mut packed = Output::default();
        self.compression.pack(lines.bytes(), &mut packed).map_err(|error| HandlerError::new("compression", error.to_string()))?;
        drop(lines);
        let (memory, length) = packed.into_parts();
        Ok(Buffer::new(memory, length, &self.pool))
    }
}

fn append(row: &[u8], output: &mut Output) {
    std::io::Write::write_all(output, row).expect("memory takes it");
}

/// Without the line end, behind which places would be told as those of another line.
fn check(row: &[u8]) -> Result<(), String> {
    json_lines::check(from_utf8(row.strip_suffix(b"\n").unwrap_or(row)).map_err(|error| error.to_string())?)
}

impl Handler<Batch> for RowTranscoder {
    fn run(&self, work: &Work<Batch>) -> Result<Done<Batch>, HandlerError> {
        let Content::Rows(text) = work.payload.content() else { return Ok(Done::same()) };
        let mut made = Made::default();
        let mut output = self.read(text, &mut made)?;
        if !self.is_direct() {
            let (memory, length) = output.into_parts();
            let lines = Buffer::new(memory, length, &self.pool);
            output = self.process(text, lines.bytes(), &mut made);
        }
        self.expansion.learn(work.payload.bytes(), output.len());
        let Made { mut rejected, filtered, places } = made;
        rejected.sort_by_key(|rejected| rejected.row);
        let payload =
            Batch::encoded_as(self.compress(output)?, self.compression, self.records_out(), text.records.form(), places.len() as u64);
        Ok(Done::with(payload).rejecting(rejected).filtering(filtered))
    }
}
