//! Admission: what a lane has read becomes a chunk in flight. Runs on the lane's own thread: handing every chunk to another thread first
//! would cost more than admitting it.

use super::committer::ToCommitter;
use super::family::Family;
use super::lifecycle::{Cell, Notebook};
use super::order::Length;
use super::shared::{Back, Shared};
use super::worker::Routes;
use crate::chunk::{ChunkId, Payload};
use crate::journal::Entry;
use crate::source::{Incoming, RangeDone};
use crate::sync::Mutex;
use crate::trouble::{Trouble, TroubleKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is in flight, and how far ranges have been read.
pub(super) struct InFlight<P> {
    state: Mutex<State<P>>,
}

struct State<P> {
    /// In the order they were read, so that what is done to all of them is done in the same order every time.
    cells: BTreeMap<ChunkId, Arc<Cell<P>>>,
    /// Ranges that are being read: their part and how many chunks they have so far, those of earlier runs included.
    ranges: BTreeMap<u32, (u32, u32)>,
}

impl<P> InFlight<P> {
    pub fn new() -> InFlight<P> {
        InFlight { state: Mutex::new(State { cells: BTreeMap::new(), ranges: BTreeMap::new() }) }
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().cells.is_empty()
    }

    /// The chunk, or its parts if it was split.
    pub fn within(&self, id: ChunkId) -> Vec<Arc<Cell<P>>> {
        let state = self.state.lock();
        match state.cells.get(&id) {
            Some(cell) => vec![cell.clone()],
            None => state.cells.range(id..).map(|(_, cell)| cell).take_while(|cell| cell.id.is_within(id)).cloned().collect(),
        }
    }

    /// A chunk has come in.
    fn insert(&self, cells: &[Arc<Cell<P>>], whole: ChunkId, part: u32) {
        let mut state = self.state.lock();
        state.cells.extend(cells.iter().map(|cell| (cell.id, cell.clone())));
        state.ranges.insert(whole.range, (part, whole.index + 1));
    }

    /// A chunk has ended in favour of its parts.
    pub fn replace(&self, whole: &Arc<Cell<P>>, parts: &[Arc<Cell<P>>]) {
        let mut state = self.state.lock();
        state.cells.remove(&whole.id);
        state.cells.extend(parts.iter().map(|cell| (cell.id, cell.clone())));
    }

    pub fn all(&self) -> Vec<Arc<Cell<P>>> {
        self.state.lock().cells.values().cloned().collect()
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
        let (whole, part) = (incoming.id, incoming.part);
        let cells = match self.start(incoming) {
            Ok(cells) => cells,
            Err(trouble) => {
                let _ = self.shared.back.send(Back::Failed(trouble));
                return;
            }
        };
        let (rows, bytes) = cells.iter().fold((0, 0), |(rows, bytes), cell| (rows + cell.rows, bytes + cell.bytes));
        self.shared.metrics.read(rows, bytes);
        self.shared.in_flight.insert(&cells, whole, part);
        self.shared.journal.record(&mut self.book.entries);
        self.routes.send_all(&self.shared, cells);
    }

    /// Starts the life of a chunk; of one that an earlier run has split, those of its parts that have not come to their end.
    fn start(&mut self, incoming: Incoming<P>) -> Result<Vec<Arc<Cell<P>>>, Trouble> {
        let unstarted = |error| Trouble::lasting(TroubleKind::Configuration, format!("the definition cannot start: {error}"));
        if !self.shared.split_before.contains_key(&incoming.id) {
            let cell = Cell::admit(incoming, None, &self.shared, &mut self.book).map_err(unstarted)?;
            return Ok(vec![cell]);
        }
        let Incoming { id, part, origin, payload, mut permit } = incoming;
        let mut payloads = Vec::new();
        self.part(id, payload, &mut payloads)?;
        let family = Family::of(id, payloads.len());
        let mut cells = Vec::new();
        let mut last = payloads.len();
        for (id, payload) in payloads {
            last -= 1;
            // The first one has the place of the whole; see `Family`.
            let other = if last > 0 { Some(permit.part()) } else { None };
            let incoming = Incoming { id, part, origin: origin.clone(), payload, permit };
            cells.push(Cell::admit(incoming, Some(&family), &self.shared, &mut self.book).map_err(unstarted)?);
            match other {
                Some(other) => permit = other,
                None => break,
            }
        }
        Ok(cells)
    }

    /// Splits a chunk as earlier runs did; gives the parts that have not come to their end.
    fn part(&self, id: ChunkId, payload: P, parts: &mut Vec<(ChunkId, P)>) -> Result<(), Trouble> {
        let Some(before) = self.shared.split_before.get(&id) else {
            parts.extend((!self.shared.parts_ended.contains(&id)).then_some((id, payload)));
            return Ok(());
        };
        let refused = |why: &str| Trouble::lasting(TroubleKind::Configuration, format!("chunk {id} was split by an earlier run, {why}"));
        let is_same = before.digest.is_none() || before.digest == payload.digest();
        if (before.rows, before.bytes) != (payload.rows(), payload.bytes() as u64) || !is_same {
            return Err(refused("and has other rows now, so it cannot be continued"));
        }
        let splitting = self.shared.splitting.as_ref().ok_or_else(|| refused("but this run does not split chunks"))?;
        let halves = splitting.halve(id, &payload).ok_or_else(|| refused("but cannot be cut any more"))?;
        drop(payload);
        id.halves().into_iter().flatten().zip(halves).try_for_each(|(id, half)| self.part(id, half, parts))
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
