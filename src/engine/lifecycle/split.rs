//! Splitting: a chunk of which some row is at fault ends in favour of its halves.

use super::{Cell, Deferred, Life, Notebook};
use crate::chunk::{ChunkId, Payload};
use crate::engine::family::Family;
use crate::engine::shared::Shared;
use crate::fsm::StepError;
use crate::journal::{Admitted, Entry, Split};
use crate::processor::HandlerError;
use crate::source::Incoming;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl<P: Payload> Life<P> {
    /// The halves of the chunk as it was read, if this error is one to split it for and it can be.
    ///
    /// As it was read, and not as handlers have made it since: the halves start anew, and what handlers took out of the chunk so far they take
    /// out of the halves again.
    pub fn halves(&self, cell: &Cell<P>, shared: &Shared<P>, error: &HandlerError) -> Option<[P; 2]> {
        let splitting = shared.splitting.as_ref().filter(|_| error.some_row && cell.rows > 1)?;
        cell.id.halves()?;
        let as_read = if self.changed { self.as_read.as_ref() } else { self.payload.as_ref() }?;
        splitting.halve(cell.id, as_read)
    }

    /// Ends the chunk; gives its halves, which have begun their lives and are in flight in its place.
    ///
    /// # Errors
    /// When the definition cannot start.
    pub fn split(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        error: &HandlerError,
        halves: [P; 2],
    ) -> Result<Vec<Arc<Cell<P>>>, StepError> {
        self.note_split(cell, shared, book, error);
        self.is_split = true;
        self.running = None;
        std::mem::take(&mut self.armed).into_iter().for_each(|(_, key)| shared.timers.cancel(key));
        self.watching.drain(..).for_each(|(_, cancel)| cancel.cancel());
        let (Some(ids), Some(mut permit)) = (cell.id.halves(), self.permit.take()) else { return Ok(Vec::new()) };
        if permit.is_shared() {
            permit.resize(0);
        } else if let Some(as_read) = self.as_read.as_ref().filter(|_| self.changed) {
            permit.resize(as_read.resident_bytes());
        }
        (self.payload, self.as_read) = (None, None);
        self.rejected.clear();
        let second = permit.part();
        // Who was left behind sees the payload still.
        self.left_over = permit.shared().filter(|_| self.abandoned > 0);
        let family = cell.family.clone().unwrap_or_else(|| Family::of(cell.id.whole(), 1));
        family.grow();
        let mut parts = Vec::new();
        for ((id, payload), permit) in ids.into_iter().zip(halves).zip([permit, second]) {
            let incoming = Incoming { id, part: cell.part, origin: cell.origin.clone(), payload, permit };
            parts.push(Cell::admit(incoming, Some(&family), shared, book)?);
        }
        for deferred in std::mem::take(&mut self.deferred) {
            let Deferred::Event(name, payload) = deferred else { continue };
            parts.iter().for_each(|part| part.life.lock().outside(part, shared, book, &name, &payload));
        }
        shared.in_flight.replace(cell, &parts);
        Ok(parts)
    }

    fn note_split(&mut self, cell: &Cell<P>, shared: &Shared<P>, book: &mut Notebook, error: &HandlerError) {
        let now = shared.clock.now();
        let (from, in_state) = (self.instance.state(), now.since(self.entered));
        shared.metrics.split(from, in_state, self.metered);
        let split = Split {
            chunk: cell.id,
            seq: self.seq,
            at_micros: shared.clock.unix_micros(now),
            from,
            attempt: self.attempt(),
            worker: book.worker,
            in_state_micros: u64::try_from(in_state.as_micros()).unwrap_or(u64::MAX),
            error: error.to_string().into(),
        };
        shared.publish_split(&split);
        book.entries.push(Entry::Split(split));
    }
}

impl<P: Payload> Cell<P> {
    /// Starts the life of a chunk, or of a part of one, and writes down that it came in.
    ///
    /// # Errors
    /// When the definition's first step does not come to an end.
    pub fn admit(
        incoming: Incoming<P>,
        family: Option<&Arc<Family<P>>>,
        shared: &Shared<P>,
        book: &mut Notebook,
    ) -> Result<Arc<Cell<P>>, StepError> {
        let Incoming { id: chunk, part, origin, payload, .. } = &incoming;
        let (rows, bytes, digest) = (payload.rows(), payload.bytes() as u64, payload.digest());
        book.entries.push(Entry::Admitted(Admitted { chunk: *chunk, part: *part, origin: origin.clone(), rows, bytes, digest }));
        Cell::start(incoming, family.cloned(), shared, book)
    }
}

/// How chunks are split.
pub(in crate::engine) struct Splitting<P> {
    /// Cuts a payload in two.
    pub halves: fn(&P) -> Option<[P; 2]>,
    /// Whether every chunk keeps its payload as it was read, so that it can be cut when handlers have made another of it.
    pub keeps_as_read: bool,
}

impl<P: Payload> Splitting<P> {
    /// Two payloads with all rows of `whole`, and some in each. A panic, like halves that are none, is as if it could not be cut.
    pub fn halve(&self, chunk: ChunkId, whole: &P) -> Option<[P; 2]> {
        let halves = catch_unwind(AssertUnwindSafe(|| (self.halves)(whole))).ok().flatten()?;
        let rows = halves.each_ref().map(Payload::rows);
        if rows[0] + rows[1] == whole.rows() && !rows.contains(&0) {
            return Some(halves);
        }
        tracing::warn!("chunk {chunk} is not split: its {} rows were cut into {} and {}", whole.rows(), rows[0], rows[1]);
        None
    }
}
