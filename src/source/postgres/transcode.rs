//! Handlers for what was read: is it sound, and make JSON lines of it.

use super::copy_source::CopySource;
use super::session::ServerFacts;
use crate::batch::{Batch, Content, HEAD, rows};
use crate::chunk::Payload;
use crate::format::copy_text::{Field, Kind, PADDING, RowEncoder, Scratch};
use crate::format::{Charset, Compression, Output};
use crate::memory::{Buffer, Expansion, Pool};
use crate::processor::{Done, Handler, HandlerError, Rejected, Work};
use crate::trouble::{Trouble, TroubleKind};
use std::sync::Arc;

/// The kind of message that a row comes in.
const COPY_DATA: u8 = b'd';

/// Buffers are kept for the next chunk if they are no larger than so many times the chunk.
const KEPT_EXPANSION: usize = 8;

/// What rows are in that are not UTF-8, if somebody knows.
#[derive(Clone)]
pub struct Foreign {
    charset: Charset,
    fields: Vec<Field>,
}

impl Foreign {
    /// Rows with these columns are in `charset` if they are not UTF-8.
    pub fn new(charset: Charset, fields: &[Field]) -> Foreign {
        Foreign { charset, fields: fields.to_vec() }
    }

    /// The row, without its line feed, in UTF-8.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn decode(&self, row: &[u8]) -> Result<Vec<u8>, String> {
        self.charset.decode_row(row, |column| self.fields.get(column).is_some_and(|field| field.kind == Kind::Text))
    }
}

/// Whether a row is text that JSON can hold.
enum Text {
    /// It is.
    Sound,
    /// It is in another encoding: here it is in UTF-8, its line feed included.
    Decoded(Vec<u8>),
    /// It is not, and why.
    Not(String),
}

/// Looks at rows one by one.
#[derive(Clone, Default)]
struct TextCheck {
    foreign: Option<Foreign>,
}

impl TextCheck {
    fn look(&self, row: &[u8]) -> Text {
        let Err(error) = std::str::from_utf8(row) else { return Text::Sound };
        let place = error.valid_up_to() + 1;
        let Some(foreign) = &self.foreign else {
            return Text::Not(format!("not UTF-8: byte {place} of the row is part of no character"));
        };
        match foreign.decode(row.strip_suffix(b"\n").unwrap_or(row)) {
            Ok(mut decoded) => {
                decoded.push(b'\n');
                Text::Decoded(decoded)
            }
            Err(why) => Text::Not(format!("not UTF-8: byte {place} of the row is part of no character; and {why}")),
        }
    }
}

/// Checks that rows are text that JSON can hold. Only databases without an encoding (`SQL_ASCII`) can fail this: the server vouches for
/// all others.
pub struct Validator {
    /// None where the server vouches.
    check: Option<TextCheck>,
}

impl Validator {
    /// For rows of this server.
    pub fn new(server: &ServerFacts) -> Validator {
        Validator { check: server.has_no_encoding().then(TextCheck::default) }
    }

    /// For rows that nobody vouches for, and that may be `foreign`.
    pub fn of_any(foreign: Option<Foreign>) -> Validator {
        Validator { check: Some(TextCheck { foreign }) }
    }
}

impl Handler<Batch> for Validator {
    fn run(&self, work: &Work<Batch>) -> Result<Done<Batch>, HandlerError> {
        let Content::Frames(buffer) = work.payload.content() else { return Ok(Done::same()) };
        let bytes = buffer.bytes();
        let Some(check) = &self.check else { return Ok(Done::same()) };
        if rows(bytes).all(|(start, end)| std::str::from_utf8(&bytes[start..end]).is_ok()) {
            return Ok(Done::same());
        }
        let mut sound = Vec::with_capacity(bytes.len());
        let mut kept = 0;
        let mut rejected = Vec::new();
        for (number, (start, end)) in (0..).zip(rows(bytes)) {
            match check.look(&bytes[start..end]) {
                Text::Sound => sound.extend_from_slice(&bytes[start - HEAD..end]),
                Text::Decoded(row) => push_row(&row, &mut sound),
                Text::Not(reason) => {
                    rejected.push(reject(number, reason, &bytes[start..end]));
                    continue;
                }
            }
            kept += 1;
        }
        Ok(Done::with(Batch::frames(Buffer::copy_of(&sound, PADDING), kept)).rejecting(rejected))
    }
}

/// Appends a row, its line feed included, as the message that the server sends it in.
pub(super) fn push_row(row: &[u8], messages: &mut Vec<u8>) {
    let length = u32::try_from(row.len() + HEAD - 1).expect("a row is less than 4 GiB");
    messages.push(COPY_DATA);
    messages.extend_from_slice(&length.to_be_bytes());
    messages.extend_from_slice(row);
}

fn not_packed(error: std::io::Error) -> HandlerError {
    HandlerError::new("compression", error.to_string())
}

fn reject(row: u64, reason: String, raw: &[u8]) -> Rejected {
    Rejected { row, reason, raw: raw.strip_suffix(b"\n").unwrap_or(raw).into() }
}

/// Makes JSON lines of rows.
pub struct Transcoder {
    encoder: RowEncoder,
    compression: Compression,
    /// None where the server vouches.
    check: Option<TextCheck>,
    expansion: Arc<Expansion>,
    pool: Pool,
}

impl Transcoder {
    /// For rows of `source`, which `server` sends. `workers` run it at the same time.
    pub fn new(source: &CopySource, server: &ServerFacts, compression: Compression, workers: usize) -> Transcoder {
        let pool = Pool::new(source.limits().bytes * KEPT_EXPANSION, workers * 2 + 4);
        // A definition may leave validation out; what is written must be JSON all the same.
        let check = server.has_no_encoding().then(TextCheck::default);
        Transcoder { encoder: source.export().encoder(), compression, check, expansion: source.expansion(), pool }
    }

    /// For rows with these columns that nobody vouches for, and that may be `foreign`, in chunks of about `chunk_bytes`.
    pub fn of_any(fields: &[Field], foreign: Option<Foreign>, compression: Compression, chunk_bytes: usize, workers: usize) -> Transcoder {
        let encoder = RowEncoder::new(fields.iter().map(|field| (&*field.name, field.kind.clone())));
        let pool = Pool::new(chunk_bytes * KEPT_EXPANSION, workers * 2 + 4);
        Transcoder { encoder, compression, check: Some(TextCheck { foreign }), expansion: Arc::default(), pool }
    }

    /// The lines of all rows that can be encoded, and the others.
    fn encode(&self, buffer: &Buffer) -> (Output, Vec<Rejected>) {
        let mut output = Output::reusing(self.pool.take(self.expansion.room(buffer.bytes().len())));
        let mut scratch = Scratch::default();
        let mut rejected = Vec::new();
        for (number, (start, end)) in (0..).zip(rows(buffer.bytes())) {
            if buffer.bytes()[start..end].last() != Some(&b'\n') {
                rejected.push(reject(number, "the row does not end where its message does".into(), &buffer.bytes()[start..end]));
                continue;
            }
            let before = output.len();
            let text = self.check.as_ref().map_or(Text::Sound, |check| check.look(&buffer.bytes()[start..end]));
            let (encoded, row_end) = match text {
                Text::Sound => (self.encoder.encode(buffer.padded(), start, &mut output, &mut scratch), end),
                Text::Decoded(mut row) => {
                    let row_end = row.len();
                    row.resize(row_end + PADDING, 0);
                    (self.encoder.encode(&row, 0, &mut output, &mut scratch), row_end)
                }
                Text::Not(reason) => {
                    rejected.push(reject(number, reason, &buffer.bytes()[start..end]));
                    continue;
                }
            };
            let reason = match encoded {
                Ok(behind) if behind == row_end => continue,
                Ok(_) => "there is more in the message than one row".into(),
                Err(fault) => fault.to_string(),
            };
            output.truncate(before);
            rejected.push(reject(number, reason, &buffer.bytes()[start..end]));
        }
        (output, rejected)
    }

    /// How many bytes the sink would get for these rows.
    ///
    /// # Errors
    /// When they cannot be compressed.
    pub fn measure(&self, batch: &Batch) -> Result<u64, Trouble> {
        let Content::Frames(buffer) = batch.content() else { return Ok(0) };
        let lines = self.compress(self.encode(buffer).0);
        lines.map(|lines| lines.bytes().len() as u64).map_err(|error| Trouble::lasting(TroubleKind::Internal, error.to_string()))
    }

    fn compress(&self, output: Output) -> Result<Buffer, HandlerError> {
        let (memory, length) = output.into_parts();
        let lines = Buffer::new(memory, length, &self.pool);
        if self.compression == Compression::None {
            return Ok(lines);
        }
        let mut packed = Output::default();
        self.compression.pack(lines.bytes(), &mut packed).map_err(not_packed)?;
        drop(lines);
        let (memory, length) = packed.into_parts();
        Ok(Buffer::new(memory, length, &self.pool))
    }
}

impl Handler<Batch> for Transcoder {
    fn run(&self, work: &Work<Batch>) -> Result<Done<Batch>, HandlerError> {
        let Content::Frames(buffer) = work.payload.content() else { return Ok(Done::same()) };
        let (output, rejected) = self.encode(buffer);
        let kept = work.payload.rows() - rejected.len() as u64;
        self.expansion.learn(buffer.bytes().len(), output.len());
        let lines = self.compress(output)?;
        Ok(Done::with(Batch::encoded(lines, self.compression, kept)).rejecting(rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server sends each row in a message of its own. What is not so is set aside whole, with nothing of it in the output.
    #[test]
    fn a_message_is_one_row_and_no_more() {
        let fields = ["a", "b"].map(|name| Field { name: name.into(), kind: Kind::Text });
        let transcoder = Transcoder::of_any(&fields, None, Compression::None, 1 << 10, 1);
        let mut messages = Vec::new();
        for row in ["1\tx\n", "2\ty\n3\tz\n", "4\tx\n\n", "5\tx", "6\n", "7\tx\n"] {
            push_row(row.as_bytes(), &mut messages);
        }
        let (output, rejected) = transcoder.encode(&Buffer::copy_of(&messages, PADDING));
        assert_eq!(std::str::from_utf8(output.bytes()).unwrap(), "{\"a\":\"1\",\"b\":\"x\"}\n{\"a\":\"7\",\"b\":\"x\"}\n");
        let reasons: Vec<String> = rejected.iter().map(|rejected| format!("{}: {}", rejected.row, rejected.reason)).collect();
        insta::assert_snapshot!(reasons.join("\n"), @"
        1: there is more in the message than one row
        2: there is more in the message than one row
        3: the row does not end where its message does
        4: the row ends after 1 fields
        ");
        assert_eq!(&*rejected[0].raw, b"2\ty\n3\tz");
    }
}
