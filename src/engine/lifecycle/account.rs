//! A chunk's bytes and rows: what it holds of the budget, and where its rows ended.

use super::{Cell, Life};
use crate::budget::Permit;
use crate::chunk::Payload;
use crate::engine::shared::Shared;
use crate::fsm::Status;
use crate::journal::{ChunkRows, Entry, Settled};
use crate::trouble::{Trouble, TroubleKind};
use std::sync::Arc;

impl<P: Payload> Life<P> {
    /// The chunk goes on as this, after a handler made it so.
    pub fn replace(&mut self, payload: P) {
        if let Some(permit) = &mut self.permit
            && self.abandoned == 0
        {
            permit.resize(payload.resident_bytes());
        }
        self.payload = Some(Arc::new(payload));
    }

    /// The payload is where it belongs; its bytes are free.
    pub fn unload(&mut self) {
        self.payload = None;
        self.give_back();
    }

    /// A handler that was left behind has returned, and sees the payload no more.
    pub fn reclaim(&mut self) {
        self.abandoned -= 1;
        match (&self.payload, &mut self.permit) {
            (Some(payload), Some(permit)) if self.abandoned == 0 => permit.resize(payload.resident_bytes()),
            _ => self.give_back(),
        }
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
