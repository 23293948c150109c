//! What was one chunk when it was read, and was split since.

use super::lifecycle::{Cell, remember};
use super::shared::Settled;
use crate::budget::Place;
use crate::chunk::{ChunkId, Payload};
use crate::journal::{ChunkRows, SPLIT_STATE};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The parts of one chunk.
///
/// Each part that is under way has a place among the chunks in flight, whose number is bounded. A part for which there was none is *held back*
/// until another part of the same chunk leaves and hands it its place: so the first part that has not ended always has one, whatever the
/// order waits for, and splitting cannot deadlock.
pub(super) struct Family<P> {
    /// As it was read.
    whole: ChunkId,
    state: Mutex<State<P>>,
}

struct State<P> {
    held: BTreeMap<ChunkId, Arc<Cell<P>>>,
    /// Parts that have not come to their end.
    open: usize,
    rows: ChunkRows,
    errors: Vec<String>,
}

impl<P: Payload> Family<P> {
    /// Of a chunk that was one, whole, until now: with so many parts.
    pub fn of(whole: ChunkId, parts: usize) -> Arc<Family<P>> {
        let state = State { held: BTreeMap::new(), open: parts, rows: ChunkRows::default(), errors: Vec::new() };
        Arc::new(Family { whole, state: Mutex::new(state) })
    }

    /// A part has become two.
    pub fn grow(&self) {
        self.state.lock().open += 1;
    }

    /// There is no place for this part at present.
    pub fn hold_back(&self, part: Arc<Cell<P>>) {
        self.state.lock().held.insert(part.id, part);
    }

    /// A part leaves, and somebody else may have its place: gives the part that goes on with it, if one was held back.
    pub fn hand_over(&self, place: Option<Place>) -> Option<Arc<Cell<P>>> {
        let place = place?;
        loop {
            let (_, part) = self.state.lock().held.pop_first()?;
            // One that was cancelled meanwhile needs none.
            let mut life = part.life.lock();
            if life.needs_place() {
                life.give_place(place);
                drop(life);
                return Some(part);
            }
        }
    }

    /// A part has come to its end. Gives what became of the whole chunk if it was the last.
    pub fn ended(&self, part: Settled) -> Option<Settled> {
        let mut state = self.state.lock();
        state.open -= 1;
        state.rows.written += part.rows.written;
        state.rows.filtered += part.rows.filtered;
        state.rows.dead_lettered += part.rows.dead_lettered;
        state.rows.cancelled += part.rows.cancelled;
        part.errors.into_iter().for_each(|error| remember(&mut state.errors, error));
        if state.open > 0 {
            return None;
        }
        let errors = std::mem::take(&mut state.errors);
        Some(Settled { chunk: self.whole, state: SPLIT_STATE.to_owned(), rows: state.rows, errors })
    }
}
