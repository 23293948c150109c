//! Rows that cannot be written, with their reason, as JSON lines.

use super::file::file_name;
use super::output_file::{FileOptions, OutputFile, partial_name};
use super::{Delivery, Position, Sink, SinkError, Written};
use crate::chunk::Payload;
use crate::processor::Rejected;
use crate::trouble::Trouble;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A payload that can be taken apart into rows.
pub trait ToRows: Payload {
    /// Calls `each` with the raw bytes of every row.
    fn rows_raw(&self, each: &mut dyn FnMut(&[u8]));
}

/// A dead-letter file: one JSON object a row. Comes into being with the first one.
pub struct DeadLetterSink {
    target: PathBuf,
    name: Arc<str>,
    options: FileOptions,
    file: Option<OutputFile>,
    rows: u64,
    durable: (u64, u64),
    finished: bool,
}

/// A row in the file.
#[derive(Serialize)]
struct Record<'a> {
    reason: &'a str,
    errors: Vec<String>,
    chunk: String,
    origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    #[serde(flatten)]
    raw: Raw<'a>,
}

/// The row as it came: as text if it is UTF-8, else in hexadecimal.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Raw<'a> {
    Raw(&'a str),
    RawHex(String),
}

impl DeadLetterSink {
    /// Rows go to `target`, if there are any.
    pub fn new(target: &Path, options: FileOptions) -> DeadLetterSink {
        DeadLetterSink {
            target: target.to_owned(),
            name: file_name(target),
            options,
            file: None,
            rows: 0,
            durable: (0, 0),
            finished: false,
        }
    }

    /// Goes on where the journal says that the file is durable, if it has been begun.
    ///
    /// # Errors
    /// When bytes that should be there are not, or it cannot be opened.
    pub fn resume(target: &Path, options: FileOptions, durable: &[Position]) -> Result<DeadLetterSink, Trouble> {
        let mut sink = DeadLetterSink::new(target, options);
        let Some(position) = durable.iter().find(|position| position.output == sink.name) else { return Ok(sink) };
        let has_partial = partial_name(target).symlink_metadata().is_ok();
        if !has_partial && target.metadata().is_ok_and(|found| found.len() == position.bytes) {
            sink.finished = true;
        } else {
            sink.file = Some(OutputFile::resume("dead_letter", target, options, position.bytes)?);
        }
        sink.durable = (position.bytes, position.rows);
        sink.rows = position.rows;
        Ok(sink)
    }

    fn file(&mut self) -> Result<&mut OutputFile, Trouble> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(OutputFile::create("dead_letter", &self.target, self.options)?)),
        }
    }
}

fn raw(bytes: &[u8]) -> Raw<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Raw::Raw(text),
        Err(_) => Raw::RawHex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

/// The records of one delivery, and how many.
fn records<P: ToRows>(delivery: &Delivery<P>) -> (Vec<u8>, u64) {
    let mut lines = Vec::new();
    let mut count = 0;
    let mut add = |reason: &str, errors: Vec<String>, row: Option<u64>, bytes: &[u8]| {
        let record = Record { reason, errors, chunk: delivery.id.to_string(), origin: &delivery.origin, row, raw: raw(bytes) };
        serde_json::to_writer(&mut lines, &record).expect("records are plain data, and memory takes them");
        lines.push(b'\n');
        count += 1;
    };
    for Rejected { row, reason, raw } in &delivery.rejected {
        add(reason, Vec::new(), Some(*row), raw);
    }
    if delivery.whole {
        let errors: Vec<String> = delivery.errors.iter().map(ToString::to_string).collect();
        let reason = errors.last().map_or("the chunk could not be written", String::as_str);
        delivery.payload.rows_raw(&mut |bytes| add(reason, errors.clone(), None, bytes));
    }
    (lines, count)
}

impl<P: ToRows> Sink<P> for DeadLetterSink {
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        let (lines, count) = records(delivery);
        let file = self.file()?;
        let at = file.length();
        file.append(&lines)?;
        self.rows += count;
        Ok(Written { at: Some(at), bytes: lines.len() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        if let Some(file) = self.file.as_mut().filter(|file| file.length() > self.durable.0) {
            file.flush()?;
            self.durable = (file.length(), self.rows);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        if let Some(file) = self.file.as_mut().filter(|_| !self.finished) {
            file.finish()?;
            self.finished = true;
        }
        Ok(())
    }

    fn positions(&self) -> Vec<Position> {
        let position = Position { output: self.name.clone(), bytes: self.durable.0, rows: self.durable.1 };
        self.file.iter().map(|_| position.clone()).collect()
    }
}
