//! Chunks one behind the other to something that only takes bytes: standard output, a pipe, a device.

use super::{Delivery, Sink, SinkError, ToBytes, Written, bytes_of};
use crate::trouble::{Trouble, TroubleKind};
use std::io::{self, Write};

/// Writes payloads that are bytes. What was given away cannot be taken back, so a run into a stream is not resumable.
pub struct StreamSink<W> {
    name: String,
    writer: W,
    /// How much of a chunk that failed was written.
    taken: usize,
}

impl<W: Write + Send> StreamSink<W> {
    /// Writes to `writer`, which people know as `name`.
    pub fn new(name: impl Into<String>, writer: W) -> StreamSink<W> {
        StreamSink { name: name.into(), writer, taken: 0 }
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Trouble::lasting(TroubleKind::BrokenPipe, format!("who reads {} has gone away", self.name)).because(error);
        }
        let message = format!("{} cannot be written", self.name);
        let passing = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let trouble = if passing { Trouble::passing(TroubleKind::Io, message) } else { Trouble::lasting(TroubleKind::Io, message) };
        trouble.because(error)
    }
}

impl<P: ToBytes, W: Write + Send> Sink<P> for StreamSink<W> {
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        let bytes = bytes_of(delivery)?;
        while self.taken < bytes.len() {
            match self.writer.write(&bytes[self.taken..]) {
                Ok(0) => return Err(self.trouble(io::ErrorKind::WriteZero.into()).into()),
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(error).into()),
            }
        }
        self.taken = 0;
        Ok(Written { at: None, bytes: bytes.len() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.writer.flush().map_err(|error| self.trouble(error))
    }
}
