//! Rows that cannot be written, with their reason, as JSON lines.

mod file;
mod ids;
mod intent;
mod record;

pub use file::{DeadLetters, Fate, Records, write_records};
pub use ids::{IdSet, ParseIdsError};
pub use intent::Intent;
pub use record::{DeadRecord, Replayed};

use super::file::file_name;
use super::output_file::{FileOptions, OutputFile, partial_name};
use super::{Delivery, Position, Sink, SinkError, Written};
use crate::chunk::Payload;
use crate::processor::Rejected;
use crate::trouble::Trouble;
use record::{About, NewRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Room for a record that is kept for the next.
const KEPT_LINE: usize = 64 << 10;

/// A payload that can be taken apart into rows.
pub trait ToRows: Payload {
    /// What a row's bytes are as they come from the source, in a word for who reads the dead letter: those of
    /// [`Rejected::raw`](crate::Rejected::raw).
    fn form_as_read(&self) -> &'static str {
        "raw"
    }

    /// What the bytes of this payload's rows are, as far as it has come.
    fn form(&self) -> &'static str {
        self.form_as_read()
    }

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
    begun: Begun,
    /// Room for a record.
    line: Vec<u8>,
}

/// How much of a delivery is in the file, for when the rest has to be tried again.
#[derive(Default)]
struct Begun {
    at: Option<u64>,
    records: u64,
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
            begun: Begun::default(),
            line: Vec::new(),
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
        if position.bytes == 0 {
            // What was in it was given up. It comes into being again with the first row.
            OutputFile::discard(target)?;
            return Ok(sink);
        }
        if !has_partial && target.metadata().is_ok_and(|found| found.len() == position.bytes) {
            sink.finished = true;
        } else {
            sink.file = Some(OutputFile::resume("dead_letter", target, options, position.bytes)?);
        }
        sink.durable = (position.bytes, position.rows);
        sink.rows = position.rows;
        Ok(sink)
    }
}

/// Calls `each` for every row of a delivery.
fn each_row<P: ToRows>(delivery: &Delivery<P>, each: &mut dyn FnMut(&About<'_>, &[u8])) {
    for Rejected { row, reason, raw } in &delivery.rejected {
        each(&About { reason, errors: &[], row: Some(*row), form: delivery.payload.form_as_read() }, raw);
    }
    if delivery.whole {
        let errors: Vec<String> = delivery.errors.iter().map(ToString::to_string).collect();
        let reason = errors.last().map_or("the chunk could not be written", String::as_str);
        let about = About { reason, errors: &errors, row: None, form: delivery.payload.form() };
        delivery.payload.rows_raw(&mut |raw| each(&about, raw));
    }
}

impl<P: ToRows> Sink<P> for DeadLetterSink {
    /// One record at a time is in memory: a chunk with many rows and long errors is much larger here than it was.
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        let DeadLetterSink { target, options, file, rows, begun, line, .. } = self;
        let file = match file {
            Some(file) => file,
            none => none.insert(OutputFile::create("dead_letter", target, *options)?),
        };
        let at = *begun.at.get_or_insert(file.length());
        let chunk = delivery.id.to_string();
        let mut number = 0;
        let mut refused = None;
        each_row(delivery, &mut |about, raw| {
            number += 1;
            if refused.is_some() || number <= begun.records {
                return;
            }
            line.clear();
            let record = NewRecord::new(*rows + number, &chunk, &delivery.origin, about, raw);
            serde_json::to_writer(&mut *line, &record).expect("records are plain data, and memory takes them");
            line.push(b'\n');
            match file.append(line) {
                Ok(()) => begun.records = number,
                Err(trouble) => refused = Some(trouble),
            }
        });
        // One giant row is no reason to keep as much for ever.
        line.shrink_to(KEPT_LINE);
        if let Some(trouble) = refused {
            return Err(trouble.into());
        }
        let bytes = file.length() - at;
        self.rows += number;
        self.begun = Begun::default();
        Ok(Written { at: Some(at), bytes })
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
