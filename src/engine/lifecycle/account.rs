//! A chunk's bytes and rows: what it holds of the budget, and where its rows ended.

use super::{Cell, Life};
use crate::budget::{Permit, Place};
use crate::chunk::Payload;
use crate::engine::shared::Shared;
use crate::fsm::Status;
use crate::journal::{ChunkRows, Entry, Settled};
use crate::trouble::{Trouble, TroubleKind};
use std::sync::Arc;

impl<P: Payload> Life<P> {
    /// The chunk goes on as this, after a handler made it so.
    pub fn replace(&mut self, payload: P) {
        self.payload = Some(Arc::new(payload));
        self.changed = true;
        self.weigh();
    }

    /// The permit covers what the chunk has: its payload and, if that is another and it is kept, the payload as it was read. A part of a chunk
    /// shares what was read with the other parts. As long as somebody who was left behind sees what the chunk had, nothing is given back.
    fn weigh(&mut self) {
        let (Some(payload), Some(permit), 0) = (&self.payload, &mut self.permit, self.abandoned) else { return };
        let as_read = self.as_read.as_ref().map_or(0, |as_read| as_read.resident_bytes());
        match (self.changed, permit.is_shared()) {
            (false, false) => permit.resize(payload.resident_bytes()),
            (false, true) => {}
            (true, false) => permit.resize(payload.resident_bytes() + as_read),
            (true, true) => {
                permit.resize(payload.resident_bytes());
                if self.as_read.is_none() {
                    permit.let_go_of_shared();
                }
            }
        }
    }

    /// The payload is where it belongs; its bytes are free.
    pub fn unload(&mut self) {
        (self.payload, self.as_read) = (None, None);
        self.give_back();
    }

    /// A handler that was left behind has returned, and sees the payload no more.
    pub fn reclaim(&mut self) {
        self.abandoned -= 1;
        if self.abandoned == 0 {
            self.left_over = None;
        }
        if self.payload.is_some() { self.weigh() } else { self.give_back() }
    }

    /// Whether it is still one of those in flight, and does not count as one.
    pub fn needs_place(&self) -> bool {
        self.is_alive() && self.permit.as_ref().is_some_and(|permit| !permit.has_place())
    }

    pub fn has_place(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::has_place)
    }

    pub fn give_place(&mut self, place: Place) {
        if let Some(permit) = &mut self.permit {
            permit.give_place(place);
        }
    }

    /// It leaves: its place is free for another.
    pub fn take_place(&mut self) -> Option<Place> {
        self.place.take().or_else(|| self.permit.as_mut()?.take_place())
    }

    fn give_back(&mut self) {
        if self.abandoned > 0 {
            return;
        }
        if self.instance.status() == Status::Active {
            self.permit.iter_mut().for_each(Permit::empty);
        } else {
            self.permit = None;
        }
    }

    /// The chunk has come to its end: accounts for its rows and gives its bytes back.
    ///
    /// # Errors
    /// When some of its rows went nowhere.
    pub fn settle(&mut self, cell: &Cell<P>, shared: &Shared<P>, entries: &mut Vec<Entry>) -> Result<(), Trouble> {
        let state = self.instance.state();
        if shared.machine.has_tag(state, "cancelled") {
            let elsewhere = self.rows.written + self.rows.filtered + self.rows.dead_lettered;
            self.rows.cancelled = cell.rows.saturating_sub(elsewhere);
        }
        entries.push(Entry::Settled(Settled { chunk: cell.id, state, attempt: self.attempt(), rows: self.rows, placed: self.placed }));
        shared.metrics.settled(&self.rows, self.placed.bytes);
        // A part's place goes to another part of the same chunk, and not to who reads on.
        self.place = self.permit.as_mut().and_then(Permit::take_place).filter(|_| cell.family.is_some());
        self.unload();
        let ChunkRows { written, filtered, dead_lettered, cancelled } = self.rows;
        let lost = cell.rows.saturating_sub(written + filtered + dead_lettered + cancelled);
        if lost == 0 {
            return Ok(());
        }
        let (id, state, all) = (cell.id, shared.machine.state_name(state), cell.rows);
        let why = self.errors.last().map_or(String::new(), |error| format!(" ({error})"));
        let message = format!("chunk {id} ended in `{state}`{why}, where {lost} of its {all} rows are neither written nor set aside");
        Err(Trouble::lasting(TroubleKind::Internal, message))
    }
}
