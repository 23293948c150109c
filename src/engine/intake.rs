//! Admission: what a lane has read becomes a chunk in flight. Runs on the lane's own thread: handing every chunk to another thread first
//! would cost more than admitting it.

use super::committer::ToCommitter;
use super::lifecycle::{Cell, Notebook};
use super::order::Length;
use super::shared::{Back, Shared};
use super::worker::Routes;
use crate::chunk::{ChunkId, Payload};
use crate::journal::{Admitted, Entry};
use crate::source::{Incoming, RangeDone};
use crate::sync::Mutex;
use crate::trouble::{Trouble, TroubleKind};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is in flight, and how far ranges have been read.
pub(super) struct InFlight<P> {
    state: Mutex<State<P>>,
}

struct State<P> {
    cells: HashMap<ChunkId, Arc<Cell<P>>>,
    /// Ranges that are being read: their part and how many chunks they have so far, those of earlier runs included.
    ranges: BTreeMap<u32, (u32, u32)>,
}

impl<P> InFlight<P> {
    pub fn new() -> InFlight<P> {
        InFlight { state: Mutex::new(State { cells: HashMap::new(), ranges: BTreeMap::new() }) }
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().cells.is_empty()
    }

    pub fn get(&self, id: ChunkId) -> Option<Arc<Cell<P>>> {
        self.state.lock().cells.get(&id).cloned()
    }

    /// In the order they were read, so that what is done to all of them is done in the same order every time.
    pub fn all(&self) -> Vec<Arc<Cell<P>>> {
        let mut cells: Vec<_> = self.state.lock().cells.values().cloned().collect();
        cells.sort_unstable_by_key(|cell| cell.id);
        cells
    }

    /// These have come to their end, or stay where they are in this run.
    pub fn remove<'a>(&self, cells: impl IntoIterator<Item = &'a Arc<Cell<P>>>)
    where
        P: 'a,
    {
        let mut state = self.state.lock();
        cells.into_iter().for_each(|cell| drop(state.cells.remove(&cell.id)));
    }

    /// Ranges that were begun and not read to their end: range, part, chunks so far.
    pub fn cut_off(&self) -> Vec<(u32, u32, u32)> {
        let ranges = std::mem::take(&mut self.state.lock().ranges);
        ranges.into_iter().map(|(range, (part, chunks))| (range, part, chunks)).collect()
    }
}

/// A lane's way into the run.
pub(super) struct Intake<P> {
    pub shared: Arc<Shared<P>>,
    pub routes: Routes<P>,
    pub book: Notebook,
}

impl<P: Payload> Intake<P> {
    pub fn admit(&mut self, incoming: Incoming<P>) {
        let (id, part) = (incoming.id, incoming.part);
        let (rows, bytes) = (incoming.payload.rows(), incoming.payload.bytes() as u64);
        let digest = incoming.payload.digest();
        self.shared.metrics.read(rows, bytes);
        self.book.entries.push(Entry::Admitted(Admitted { chunk: id, part, origin: incoming.origin.clone(), rows, bytes, digest }));
        let cell = match Cell::start(incoming, &self.shared, &mut self.book) {
            Ok(cell) => cell,
            Err(error) => {
                let trouble = Trouble::lasting(TroubleKind::Configuration, format!("the definition cannot start: {error}"));
                let _ = self.shared.back.send(Back::Failed(trouble));
                return;
            }
        };
        let mut state = self.shared.in_flight.state.lock();
        state.cells.insert(id, cell.clone());
        state.ranges.insert(id.range, (part, id.index + 1));
        drop(state);
        self.shared.journal.record(&mut self.book.entries);
        if !self.shared.puts_off(&cell) {
            let next = cell.life.lock().next(&self.shared);
            self.routes.dispatch(cell, next);
        }
    }

    pub fn range_done(&mut self, done: RangeDone) {
        self.shared.in_flight.state.lock().ranges.remove(&done.range);
        self.shared.metrics.range_done(done.rows);
        let length = Length::Complete(done.chunks);
        let _ = self.routes.committer.send(ToCommitter::Range { part: done.part, range: done.range, length });
        self.book.entries.push(Entry::RangeDone(done));
        self.shared.journal.record(&mut self.book.entries);
    }
}
