//! Handlers for what was read: is it sound, and make JSON lines of it.

use super::copy_source::CopySource;
use super::session::ServerFacts;
use crate::batch::{Batch, Content, HEAD, rows};
use crate::chunk::Payload;
use crate::format::copy_text::{PADDING, RowEncoder, Scratch};
use crate::format::{Compression, Output};
use crate::memory::{Buffer, Expansion, Pool};
use crate::processor::{Done, Handler, HandlerError, Rejected, Work};
use std::sync::Arc;

/// Buffers are kept for the next chunk if they are no larger than so many times the chunk.
const KEPT_EXPANSION: usize = 8;

/// Checks that rows are text that JSON can hold. Only databases without an encoding (`SQL_ASCII`) can fail this: the server vouches for
/// all others.
pub struct Validator {
    checks_encoding: bool,
}

impl Validator {
    /// For rows of this server.
    pub fn new(server: &ServerFacts) -> Validator {
        Validator { checks_encoding: server.has_no_encoding() }
    }
}

impl Handler<Batch> for Validator {
    fn run(&self, work: &Work<Batch>) -> Result<Done<Batch>, HandlerError> {
        let Content::Frames(buffer) = work.payload.content() else { return Ok(Done::same()) };
        let bytes = buffer.bytes();
        if !self.checks_encoding || rows(bytes).all(|(start, end)| std::str::from_utf8(&bytes[start..end]).is_ok()) {
            return Ok(Done::same());
        }
        let mut sound = Vec::with_capacity(bytes.len());
        let mut kept = 0;
        let mut rejected = Vec::new();
        for (number, (start, end)) in (0..).zip(rows(bytes)) {
            match not_utf8(&bytes[start..end]) {
                None => {
                    sound.extend_from_slice(&bytes[start - HEAD..end]);
                    kept += 1;
                }
                Some(reason) => rejected.push(reject(number, reason, &bytes[start..end])),
            }
        }
        Ok(Done::with(Batch::frames(Buffer::copy_of(&sound, PADDING), kept)).rejecting(rejected))
    }
}

/// Why a row is no text that JSON can hold.
fn not_utf8(row: &[u8]) -> Option<String> {
    let error = std::str::from_utf8(row).err()?;
    Some(format!("not UTF-8: byte {} of the row is part of no character", error.valid_up_to() + 1))
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
    checks_encoding: bool,
    expansion: Arc<Expansion>,
    pool: Pool,
}

impl Transcoder {
    /// For rows of `source`, which `server` sends. `workers` run it at the same time.
    pub fn new(source: &CopySource, server: &ServerFacts, compression: Compression, workers: usize) -> Transcoder {
        let pool = Pool::new(source.limits().bytes * KEPT_EXPANSION, workers * 2 + 4);
        // A definition may leave validation out; what is written must be JSON all the same.
        let checks_encoding = server.has_no_encoding();
        Transcoder { encoder: source.export().encoder(), compression, checks_encoding, expansion: source.expansion(), pool }
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
            let fault = if self.checks_encoding { not_utf8(&buffer.bytes()[start..end]) } else { None };
            if let Some(reason) = fault {
                rejected.push(reject(number, reason, &buffer.bytes()[start..end]));
            } else if let Err(fault) = self.encoder.encode(buffer.padded(), start, &mut output, &mut scratch) {
                rejected.push(reject(number, fault.to_string(), &buffer.bytes()[start..end]));
            }
        }
        (output, rejected)
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
