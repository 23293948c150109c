//! The committer: ordered handlers (sinks, the dead letter), one thread, chunks in order.
//!
//! Chunks are written as they come and become durable in *groups*: after a flush, all chunks of the group get `done`, in order, in
//! one journal transaction together with how far the outputs have come.

use super::lifecycle::{Begun, Cell, Next, Notebook};
use super::order::{Length, Order};
use super::patience::{Patience, Waiting};
use super::registry::Role;
use super::shared::{Back, Command, Shared};
use super::worker::{Routes, contained, panic_message};
use crate::budget::Hold;
use crate::chunk::{ChunkId, Payload};
use crate::clock::Moment;
use crate::journal::{Entry, Placed};
use crate::processor::{HandlerError, Rejected};
use crate::sink::{Delivery, Position, Sink, SinkError, Written};
use crate::sync::{Receiver, RecvTimeoutError};
use crate::trouble::{Trouble, TroubleKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// When a group is flushed, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// So many bytes were written since the last flush.
    pub bytes: u64,
    /// So many chunks were.
    pub chunks: usize,
    /// So long ago was the first write since the last flush.
    pub age: Duration,
    /// For so long nothing more came.
    pub idle: Duration,
}

impl Default for GroupLimits {
    fn default() -> GroupLimits {
        GroupLimits { bytes: 64 << 20, chunks: 1024, age: Duration::from_secs(1), idle: Duration::from_millis(30) }
    }
}

/// What the committer is told.
pub(super) enum ToCommitter<P> {
    /// An ordered invocation waits for this chunk.
    Ready(Arc<Cell<P>>),
    /// The chunk has ended elsewhere: its turn passes.
    Ended(Arc<Cell<P>>),
    /// The chunk has ended in favour of its halves: they have its turn.
    Split { part: u32, id: ChunkId },
    /// How many chunks a range has.
    Range { part: u32, range: u32, length: Length },
    /// The chunk is left as it is in this run.
    Left { part: u32, id: ChunkId },
    /// Reading has ended, by itself or because it was stopped.
    ReadingEnded,
    /// Everything in flight has ended: give the outputs their final names.
    Finish,
    /// The run is over.
    End,
}

/// What a sink is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What it accepts is written.
    Output,
    /// What it accepts is dead-lettered. Rejected rows go here.
    DeadLetter,
}

/// A sink with its purpose.
pub(super) struct Outlet<P> {
    pub purpose: Purpose,
    pub sink: Box<dyn Sink<P>>,
}

pub(super) struct Committer<P> {
    pub shared: Arc<Shared<P>>,
    pub outlets: Vec<Outlet<P>>,
    pub inbox: Receiver<ToCommitter<P>>,
    pub routes: Routes<P>,
    pub group_limits: GroupLimits,
    pub patience: Patience,
    pub order: Order<Arc<Cell<P>>>,
    pub pending: Pending<P>,
    pub book: Notebook,
}

/// What the next flush settles.
pub(super) struct Pending<P> {
    /// Accepted by a sink, not yet durable.
    group: Vec<Arc<Cell<P>>>,
    /// Ended, not yet in the journal.
    ended: Vec<Arc<Cell<P>>>,
    /// Going on to others as soon as the journal has how they came here.
    onward: Vec<(Arc<Cell<P>>, Next)>,
    /// Written since the last flush.
    bytes: u64,
    /// When the first of the group was written.
    since: Moment,
    reading_ended: bool,
}

impl<P> Default for Pending<P> {
    fn default() -> Self {
        Pending { group: Vec::new(), ended: Vec::new(), onward: Vec::new(), bytes: 0, since: Moment(0), reading_ended: false }
    }
}

impl<P> Pending<P> {
    fn chunks(&self) -> usize {
        self.group.len() + self.ended.len()
    }
}

/// Why the committer stops before the end.
pub(super) enum Halt {
    /// It was told to stop where things are.
    StopNow,
    /// A component's trouble lasts.
    Trouble(Trouble),
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Halt {
        Halt::Trouble(trouble)
    }
}

impl<P: Payload> Committer<P> {
    pub fn run(mut self) {
        let shared = self.shared.clone();
        match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => {}
            // Also where a stop met a component in trouble: nobody else knows that nothing more will be written.
            Ok(Err(Halt::StopNow)) => drop(shared.back.send(Back::Command(Command::StopNow))),
            Ok(Err(Halt::Trouble(trouble))) => drop(shared.back.send(Back::Failed(trouble))),
            Err(panic) => drop(shared.back.send(Back::Panicked(panic_message(panic.as_ref())))),
        }
    }

    fn serve(&mut self) -> Result<(), Halt> {
        while let Some(message) = self.next_message()? {
            match message {
                ToCommitter::Ready(cell) => self.order.offer(cell.part, cell.id, cell),
                ToCommitter::Ended(cell) => {
                    self.order.pass(cell.part, cell.id);
                    self.pending.ended.push(cell);
                }
                ToCommitter::Split { part, id } => self.order.split(part, id),
                ToCommitter::Range { part, range, length } => self.order.range(part, range, length),
                ToCommitter::Left { part, id } => self.order.block(part, id),
                ToCommitter::ReadingEnded => {
                    self.pending.reading_ended = true;
                    self.order.close();
                }
                ToCommitter::Finish => return self.finish(),
                ToCommitter::End => return Ok(()),
            }
            self.write_what_is_due()?;
            if self.is_group_full() || self.holds_all_that_is_left() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// The only place where the committer waits for work. While a group is open it waits no longer than the group may. `None` when
    /// the run is over without a finish.
    fn next_message(&mut self) -> Result<Option<ToCommitter<P>>, Halt> {
        loop {
            if self.shared.stop.is_now() {
                return Err(Halt::StopNow);
            }
            if self.pending.chunks() == 0 {
                return Ok(self.inbox.recv().ok());
            }
            match self.inbox.recv_timeout(self.group_limits.idle) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => self.flush()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    fn is_group_full(&self) -> bool {
        let limits = &self.group_limits;
        let is_old = || !self.pending.group.is_empty() && self.shared.clock.now().since(self.pending.since) >= limits.age;
        self.pending.bytes >= limits.bytes || self.pending.chunks() >= limits.chunks || is_old()
    }

    /// Nothing will come any more but what flushing lets go on.
    fn holds_all_that_is_left(&self) -> bool {
        let here = self.pending.chunks();
        self.pending.reading_ended && here > 0 && self.shared.budget.status().chunks <= here
    }

    fn write_what_is_due(&mut self) -> Result<(), Halt> {
        while let Some(cell) = self.order.take() {
            self.write(cell)?;
        }
        if self.pending.reading_ended {
            let unreachable = self.order.take_unreachable();
            if !unreachable.is_empty() {
                let _ = self.shared.back.send(Back::Left(unreachable));
            }
        }
        Ok(())
    }

    /// Gives one chunk to the sink that its state invokes.
    fn write(&mut self, cell: Arc<Cell<P>>) -> Result<(), Halt> {
        let Some(begun) = cell.begin(&self.shared, 0) else {
            // It has moved on while it waited for its turn, and comes again or has ended.
            return Ok(());
        };
        let Role::Ordered(outlet) = *self.shared.registry.role(begun.invocation) else {
            unreachable!("only ordered handlers are sent to the committer");
        };
        match self.deliver(&cell, begun, outlet)? {
            Ok(()) => {
                self.order.pass(cell.part, cell.id);
                if self.pending.group.is_empty() {
                    self.pending.since = self.shared.clock.now();
                }
                self.pending.group.push(cell);
            }
            Err(error) => {
                let mut life = cell.life.lock();
                if let Some(halves) = life.halves(&cell, &self.shared, &error) {
                    let halves = life.split(&cell, &self.shared, &mut self.book, &error, halves);
                    self.shared.journal.record(&mut self.book.entries);
                    drop(life);
                    self.routes.split(&self.shared, &cell, halves);
                    return Ok(());
                }
                drop(life);
                self.tell(cell, Err(error));
                self.shared.journal.record(&mut self.book.entries);
                self.send_on();
            }
        }
        Ok(())
    }

    fn deliver(&mut self, cell: &Arc<Cell<P>>, begun: Begun<P>, outlet: usize) -> Result<Result<(), HandlerError>, Halt> {
        let dead = self.outlets[outlet].purpose == Purpose::DeadLetter;
        let mut life = cell.life.lock();
        let rejected = std::mem::take(&mut life.rejected);
        let errors = if dead { life.errors.clone() } else { Vec::new() };
        drop(life);
        let (rows, digest) = (begun.payload.rows(), begun.payload.digest());
        let set_aside = rejected.len() as u64;
        let mut delivery = Delivery {
            id: cell.id,
            part: cell.part,
            origin: cell.origin.clone(),
            attempt: begun.attempt,
            payload: begun.payload,
            errors,
            rejected: if dead { rejected.clone() } else { Vec::new() },
            whole: true,
        };
        let written = match self.offer(outlet, &delivery)? {
            Ok(written) => written,
            Err(error) => {
                cell.life.lock().rejected = rejected;
                return Ok(Err(error));
            }
        };
        if !dead && !rejected.is_empty() {
            delivery.rejected = rejected;
            delivery.whole = false;
            self.reject(&delivery)?;
        }
        drop(delivery);
        let mut life = cell.life.lock();
        if dead {
            life.rows.dead_lettered += rows + set_aside;
        } else {
            life.rows.written += rows;
            life.rows.dead_lettered += set_aside;
            life.placed = Placed { at: written.at, bytes: written.bytes, digest };
        }
        life.unload();
        self.pending.bytes += written.bytes;
        Ok(Ok(()))
    }

    /// Sends the rows that handlers rejected to the dead letter.
    fn reject(&mut self, delivery: &Delivery<P>) -> Result<(), Halt> {
        let Some(outlet) = self.outlets.iter().position(|outlet| outlet.purpose == Purpose::DeadLetter) else {
            let Rejected { row, reason, .. } = &delivery.rejected[0];
            let message =
                format!("row {row} of chunk {} cannot be written and there is no dead letter to set it aside: {reason}", delivery.id);
            return Err(Halt::Trouble(Trouble::lasting(TroubleKind::Configuration, message)));
        };
        match self.offer(outlet, delivery)? {
            Ok(_) => Ok(()),
            Err(error) => Err(Halt::Trouble(Trouble::lasting(TroubleKind::Io, format!("the dead letter refuses a row: {error}")))),
        }
    }

    /// Writes to a sink, with patience for the sink's own troubles; a chunk's own error is the inner one.
    fn offer(&mut self, outlet: usize, delivery: &Delivery<P>) -> Result<Result<Written, HandlerError>, Halt> {
        self.patiently(Hold::Sink, |committer| {
            let sink = &mut committer.outlets[outlet].sink;
            let written = contained(|| match sink.write(delivery) {
                Ok(written) => Ok(Ok(written)),
                Err(SinkError::Chunk(error)) => Err(error),
                Err(SinkError::Component(trouble)) => Ok(Err(trouble)),
            });
            match written {
                Ok(Ok(written)) => Ok(Ok(written)),
                Ok(Err(trouble)) => Err(trouble),
                Err(error) => Ok(Err(error)),
            }
        })
    }

    /// Makes everything that was written durable, and says so to machine, journal and main loop.
    fn flush(&mut self) -> Result<(), Halt> {
        let began = self.shared.clock.now();
        for outlet in 0..self.outlets.len() {
            self.patiently(Hold::Sink, |committer| committer.outlets[outlet].sink.flush())?;
        }
        for cell in std::mem::take(&mut self.pending.group) {
            self.tell(cell, Ok(()));
        }
        let mut entries = std::mem::take(&mut self.book.entries);
        let mut lost = None;
        for cell in &self.pending.ended {
            lost = cell.life.lock().settle(cell, &self.shared, &mut entries).err().or(lost);
        }
        self.checkpoint(&mut entries)?;
        if let Some(trouble) = lost {
            return Err(Halt::Trouble(trouble));
        }
        self.book.entries = entries;
        self.send_on();
        self.pending.bytes = 0;
        let took = self.shared.clock.now().since(began);
        self.shared.metrics.checkpoint(took);
        tracing::debug!(?took, "checkpoint");
        let ended = std::mem::take(&mut self.pending.ended);
        if !ended.is_empty() {
            let freed = self.shared.settle(&ended);
            freed.into_iter().for_each(|part| self.routes.set_going(&self.shared, part));
        }
        self.write_what_is_due()
    }

    fn checkpoint(&mut self, entries: &mut Vec<Entry>) -> Result<(), Halt> {
        let positions: Vec<Position> = self.outlets.iter().flat_map(|outlet| outlet.sink.positions()).collect();
        let journal = self.shared.journal.clone();
        self.patiently(Hold::Journal, |_| journal.checkpoint(entries, &positions))
    }

    /// Sends chunks on to others, now that the journal has how they came here.
    fn send_on(&mut self) {
        for (cell, next) in std::mem::take(&mut self.pending.onward) {
            self.routes.pass_on(&self.shared, cell, next);
        }
    }

    /// Tells the machine what became of an ordered invocation. Written down with the next checkpoint; the chunk goes on after that.
    fn tell(&mut self, cell: Arc<Cell<P>>, result: Result<(), HandlerError>) {
        let mut life = cell.life.lock();
        life.settle_handler(&cell, &self.shared, &mut self.book, result.map(|()| None));
        let next = life.next(&self.shared);
        drop(life);
        match next {
            Next::Commit => self.order.offer(cell.part, cell.id, cell),
            Next::Final => {
                self.order.pass(cell.part, cell.id);
                self.pending.ended.push(cell);
            }
            Next::Work | Next::Wait | Next::Park => self.pending.onward.push((cell, next)),
        }
    }

    fn finish(&mut self) -> Result<(), Halt> {
        self.flush()?;
        let journal = self.shared.journal.clone();
        self.patiently(Hold::Journal, |_| journal.intend_finish())?;
        for outlet in 0..self.outlets.len() {
            self.patiently(Hold::Sink, |committer| committer.outlets[outlet].sink.finish())?;
        }
        let _ = self.shared.back.send(Back::Finished);
        Ok(())
    }

    /// Tries until it works, the trouble turns out to last, patience ends, or the run is told to stop. Meanwhile nothing is read.
    fn patiently<T>(&mut self, hold: Hold, mut attempt: impl FnMut(&mut Self) -> Result<T, Trouble>) -> Result<T, Halt> {
        let shared = self.shared.clone();
        let mut patience = Waiting::new(self.patience, &shared.clock);
        let result = loop {
            match attempt(self) {
                Ok(value) => break Ok(value),
                Err(trouble) if !trouble.is_passing() => break Err(Halt::Trouble(trouble)),
                Err(trouble) => {
                    shared.trouble(hold, Some(&trouble));
                    if !patience.wait(&shared.stop) {
                        break Err(if shared.stop.is_draining() { Halt::StopNow } else { Halt::Trouble(trouble) });
                    }
                }
            }
        };
        if patience.has_waited() {
            shared.trouble(hold, None);
        }
        result
    }
}
