//! Where chunks go.

#[cfg(all(unix, any(feature = "pipeline", feature = "postgres")))]
mod batch;
#[cfg(unix)]
mod dead_letter;
mod each;
#[cfg(unix)]
mod file;
#[cfg(unix)]
pub(crate) mod output_file;
mod stream;

#[cfg(unix)]
pub use dead_letter::{
    DeadLetterSink, DeadLetters, DeadRecord, Fate, IdSet, Intent, ParseIdsError, Records, Replayed, ToRows, write_records,
};
pub use each::{Each, each};
#[cfg(unix)]
pub use file::{FileSink, output_names};
#[cfg(all(unix, feature = "cli"))]
pub(crate) use output_file::sync_folder;
#[cfg(unix)]
pub use output_file::{FileOptions, claim_partial, partial_name, present_name};
pub use stream::StreamSink;

use crate::chunk::{ChunkId, Payload};
use crate::processor::{HandlerError, Rejected};
use crate::trouble::{Trouble, TroubleKind};
use std::fmt;
use std::sync::Arc;

/// Where chunks go: an ordered handler. All calls come from the committer's thread, chunks in order unless the run is unordered.
///
/// `write`, `write`, …, `flush`, `write`, …, `flush`, `finish`. A chunk counts as done when the flush behind it has returned.
pub trait Sink<P>: Send {
    /// Accepts all of the chunk or, on error, none of it.
    ///
    /// # Errors
    /// [`SinkError::Chunk`] when this chunk is at fault: the machine gets it as the invocation's error event. Where only some row is, which is
    /// not known, the error says so ([`HandlerError::of_some_row`]), and the chunk may be split.
    /// [`SinkError::Component`] when the sink is: a passing trouble pauses the run and the same chunk is written again later.
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError>;

    /// Returns once every accepted chunk is durable.
    ///
    /// # Errors
    /// After a passing trouble it is called again; accepted chunks are not written again.
    fn flush(&mut self) -> Result<(), Trouble>;

    /// Nothing more comes, everything is flushed: make the result visible under its final name.
    ///
    /// # Errors
    /// After a passing trouble it is called again.
    fn finish(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// What is durable so far, for the journal's checkpoint. One position for each output; none if there is nothing to truncate
    /// to after a crash.
    fn positions(&self) -> Vec<Position> {
        Vec::new()
    }

    /// Bytes of memory the sink keeps, whatever flows.
    fn buffer_bytes(&self) -> usize {
        0
    }
}

/// A payload that a sink can write as bytes.
pub trait ToBytes: Payload {
    /// The bytes; `None` while the payload is still on its way there, which a definition has to see to.
    fn to_bytes(&self) -> Option<&[u8]>;
}

impl ToBytes for String {
    fn to_bytes(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
}

impl ToBytes for Vec<u8> {
    fn to_bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// The bytes of a delivery.
fn bytes_of<P: ToBytes>(delivery: &Delivery<P>) -> Result<&[u8], Trouble> {
    delivery.payload.to_bytes().ok_or_else(|| {
        let message =
            format!("chunk {} comes to the sink as it was read: the definition leads there past the handler that encodes", delivery.id);
        Trouble::lasting(TroubleKind::Configuration, message)
    })
}

/// What a sink took of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Where it begins in its output, if that has places.
    pub at: Option<u64>,
    /// How many bytes it is there.
    pub bytes: u64,
}

/// How far an output has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which output: a file name without its directory, or with it where two outputs of a run have the same name.
    pub output: Arc<str>,
    /// Bytes that are durable.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

/// A chunk on its way into a sink.
pub struct Delivery<P> {
    /// Which chunk.
    pub id: ChunkId,
    /// Which output it belongs to, where there are several.
    pub part: u32,
    /// Where it came from.
    pub origin: Arc<str>,
    /// How often this invocation has been started for this chunk, this time included.
    pub attempt: u32,
    /// Its rows.
    pub payload: Arc<P>,
    /// For a dead letter: what went wrong, the first error first; of many the first eight and the last eight.
    pub errors: Vec<HandlerError>,
    /// For a dead letter: rows that handlers took out of the chunk. The payload is empty of them.
    pub rejected: Vec<Rejected>,
    /// Whether the payload's rows are meant too, or only the rejected ones.
    pub whole: bool,
}

/// Why a sink did not accept a chunk. A [`HandlerError`] or a [`Trouble`] becomes one by `?`.
#[derive(Debug)]
pub enum SinkError {
    /// The chunk is at fault.
    Chunk(HandlerError),
    /// The sink is.
    Component(Trouble),
}

impl From<HandlerError> for SinkError {
    fn from(error: HandlerError) -> SinkError {
        SinkError::Chunk(error)
    }
}

impl From<Trouble> for SinkError {
    fn from(trouble: Trouble) -> SinkError {
        SinkError::Component(trouble)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Chunk(error) => error.fmt(f),
            SinkError::Component(trouble) => trouble.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SinkError::Chunk(_) => None,
            SinkError::Component(trouble) => std::error::Error::source(trouble),
        }
    }
}
