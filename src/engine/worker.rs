//! Workers: take a chunk, run the handler of its state, and go on with the same chunk while they can.

use super::committer::ToCommitter;
use super::lifecycle::{Begun, Cell, Next, Notebook};
use super::registry::Role;
use super::shared::{Back, Shared};
use crate::chunk::Payload;
use crate::fsm::StepError;
use crate::processor::{Done, HandlerError, Work};
use crate::sync::{Receiver, Sender};
use crate::trouble::{Trouble, TroubleKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A chunk to carry, or the end of the worker's day.
pub(super) type Job<P> = Option<Arc<Cell<P>>>;

/// Where chunks go from a step: to the workers, to the committer, or nowhere for now.
pub(super) struct Routes<P> {
    pub work: Sender<Job<P>>,
    pub committer: Sender<ToCommitter<P>>,
}

impl<P> Clone for Routes<P> {
    fn clone(&self) -> Self {
        Routes { work: self.work.clone(), committer: self.committer.clone() }
    }
}

impl<P: Payload> Routes<P> {
    /// Sends a chunk on its way. Neither channel can be full: both have room for all that is in flight.
    pub fn dispatch(&self, cell: Arc<Cell<P>>, next: Next) {
        // A receiver that is gone means that the run is over, and with it the chunk's way.
        match next {
            Next::Work => drop(self.work.send(Some(cell))),
            Next::Commit => drop(self.committer.send(ToCommitter::Ready(cell))),
            Next::Final => drop(self.committer.send(ToCommitter::Ended(cell))),
            Next::Wait | Next::Park => {}
        }
    }

    /// Sends a chunk that has just come in on its way; or its parts, of which those without a place are held back.
    pub fn send_all(&self, shared: &Shared<P>, cells: Vec<Arc<Cell<P>>>) {
        let (placed, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(|cell| cell.family.is_none() || cell.life.lock().has_place());
        // Held back before the first goes: it may be at its end before we are done here, and hand over its place.
        others.into_iter().for_each(|cell| cell.family.iter().for_each(|family| family.hold_back(cell.clone())));
        placed.into_iter().for_each(|cell| self.set_going(shared, cell));
    }

    /// The chunk begins, unless an earlier run has put that off.
    pub fn set_going(&self, shared: &Shared<P>, cell: Arc<Cell<P>>) {
        if !shared.puts_off(&cell) {
            let next = cell.life.lock().next(shared);
            self.pass_on(shared, cell, next);
        }
    }

    /// Sends a chunk on; one that only an outside event could move is left where it is, if the run waits for none.
    pub fn pass_on(&self, shared: &Shared<P>, cell: Arc<Cell<P>>, next: Next) {
        if next == Next::Park && shared.leaves_parked {
            let _ = shared.back.send(Back::Parked(cell));
        } else {
            self.dispatch(cell, next);
        }
    }

    /// A chunk was split: its halves go on, and have its turn.
    pub fn split(&self, shared: &Shared<P>, cell: &Cell<P>, halves: Result<Vec<Arc<Cell<P>>>, StepError>) {
        let _ = self.committer.send(ToCommitter::Split { part: cell.part, id: cell.id });
        match halves {
            Ok(halves) => self.send_all(shared, halves),
            Err(error) => {
                let trouble = Trouble::lasting(TroubleKind::Configuration, format!("the definition cannot start: {error}"));
                let _ = shared.back.send(Back::Failed(trouble));
            }
        }
    }
}

/// One worker's thread: number (from 1), queue and routes.
pub(super) struct Worker<P> {
    pub number: u32,
    pub queue: Receiver<Job<P>>,
    pub routes: Routes<P>,
    pub shared: Arc<Shared<P>>,
}

/// The handler ran for so long that its chunk went on without it, and somebody else has taken the worker's place.
struct LeftBehind;

impl<P: Payload> Worker<P> {
    pub fn run(self) {
        let mut book = Notebook::of(self.number);
        while let Ok(Some(cell)) = self.queue.recv() {
            if self.shared.stop.is_now() {
                continue;
            }
            if let Err(LeftBehind) = self.carry(cell, &mut book) {
                let _ = self.shared.back.send(Back::Returned);
                return;
            }
        }
    }

    /// Takes one chunk as far as handlers of this kind take it.
    fn carry(&self, cell: Arc<Cell<P>>, book: &mut Notebook) -> Result<(), LeftBehind> {
        let mut next = Next::Work;
        while next == Next::Work {
            let Some(begun) = cell.begin(&self.shared, self.number) else { return Ok(()) };
            let epoch = begun.epoch;
            let result = self.handle(&cell, begun);
            let mut life = cell.life.lock();
            if !life.awaits(epoch) {
                life.reclaim();
                return Err(LeftBehind);
            }
            let outcome = match result {
                Ok(done) => {
                    life.rows.filtered += done.filtered;
                    life.rejected.extend(done.rejected);
                    life.rejected.sort_by_key(|rejected| rejected.row);
                    if let Some(payload) = done.payload {
                        life.replace(payload);
                    }
                    Ok(done.output)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &outcome
                && let Some(halves) = life.halves(&cell, &self.shared, error)
            {
                let halves = life.split(&cell, &self.shared, book, error, halves);
                self.shared.journal.record(&mut book.entries);
                drop(life);
                self.routes.split(&self.shared, &cell, halves);
                return Ok(());
            }
            life.settle_handler(&cell, &self.shared, book, outcome.as_ref().map(Option::as_ref).map_err(Clone::clone));
            next = life.next(&self.shared);
            // Under the chunk's lock: a timer that was just armed cannot be written down before what armed it.
            self.shared.journal.record(&mut book.entries);
            drop(life);
        }
        self.routes.pass_on(&self.shared, cell, next);
        Ok(())
    }

    fn handle(&self, cell: &Cell<P>, begun: Begun<P>) -> Result<Done<P>, HandlerError> {
        let Role::Parallel(handler) = self.shared.registry.role(begun.invocation) else {
            unreachable!("only parallel handlers are sent to workers");
        };
        let rows = begun.payload.rows();
        let work = Work {
            id: cell.id,
            origin: cell.origin.clone(),
            attempt: begun.attempt,
            payload: begun.payload,
            cancel: begun.cancel,
            input: self.shared.machine.invocation(begun.invocation).input.clone(),
        };
        let done = contained(|| handler.run(&work))?;
        check_rows(rows, &done)?;
        Ok(done)
    }
}

/// A handler that drops rows without saying so is at fault, and found out here and not in the run's sum.
fn check_rows<P: Payload>(before: u64, done: &Done<P>) -> Result<(), HandlerError> {
    let after = done.payload.as_ref().map_or(before, Payload::rows);
    let told = done.rejected.len() as u64 + done.filtered;
    if after + told == before {
        return Ok(());
    }
    let message = format!("the handler was given {before} rows and gave back {after}, with {told} rejected or filtered");
    Err(HandlerError::new("rows", message))
}

/// Runs `work`; a panic in it is an error of this kind, and stays here.
pub(super) fn contained<T>(work: impl FnOnce() -> Result<T, HandlerError>) -> Result<T, HandlerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(HandlerError::new(HandlerError::PANIC, panic_message(panic.as_ref()))))
}

/// What a panic says, as far as it says anything.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a handler panicked").to_owned()
}
