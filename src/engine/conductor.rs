//! The main loop of a run: fires timers, obeys commands, watches memory, and keeps the run's own state.

use super::committer::ToCommitter;
use super::lifecycle::{Cell, Next, Notebook};
use super::order::Length;
use super::report::unequal;
use super::resident::Guard;
use super::run_state::RunState;
use super::shared::{Back, Command, Due, Shared};
use super::worker::{Job, Routes, Worker};
use crate::budget::Hold;
use crate::chunk::{ChunkId, Payload};
use crate::journal::Entry;
use crate::sync::{Receiver, thread};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// How often the resident memory is looked at, and so how long the main loop sleeps at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A chunk that waits for longer than this does not hold up a stop.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// Everything the main loop can react to.
enum Happening<P> {
    Back(Back<P>),
    Time,
}

/// Chunks that were left because only an outside event could move them.
#[derive(Default)]
pub(super) struct Parked {
    shown: Vec<String>,
    count: u64,
}

impl Parked {
    /// So many are named.
    const SHOWN: usize = 5;

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, chunk: ChunkId, state: String) {
        self.count += 1;
        if self.shown.len() < Parked::SHOWN {
            self.shown.push(format!("{chunk} in `{state}`"));
        }
    }

    /// Why the run stopped, if it did for them.
    pub fn reason(&self) -> Option<String> {
        let more = self.count - self.shown.len() as u64;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (chunks, wait) = if self.count == 1 { ("chunk", "waits") } else { ("chunks", "wait") };
        (self.count > 0)
            .then(|| format!("{} {chunks} {wait} for an event that nobody can send here: {}{more}", self.count, self.shown.join(", ")))
    }
}

pub(super) struct Conductor<P> {
    pub shared: Arc<Shared<P>>,
    pub back: Receiver<Back<P>>,
    pub routes: Routes<P>,
    /// Where a replacement for a lost worker takes its chunks from.
    pub queue: Receiver<Job<P>>,
    pub workers: u32,
    pub ordered: bool,
    pub run: RunState,
    pub guard: Guard,
    pub open_lanes: usize,
    pub state: Progress,
    pub book: Notebook,
}

/// How far the run has come, and what speaks against its good end.
#[derive(Default)]
pub(super) struct Progress {
    reading_ended: bool,
    finishing: bool,
    finished: bool,
    left_behind: u32,
    next_worker: u32,
    cancelled: bool,
    pub parked: Parked,
    pub failure: Option<Trouble>,
}

impl<P: Payload> Conductor<P> {
    /// Runs to the end. Says whether the outputs got their final names; a failure is in `state`.
    pub fn run(&mut self) -> bool {
        self.transition("START", None);
        while !self.is_over() {
            match self.next() {
                Happening::Back(back) => self.react(back),
                Happening::Time => {}
            }
            self.fire_timers();
            self.look_at_memory();
            self.shared.journal.record(&mut self.book.entries);
            self.after_reading();
        }
        self.close();
        self.state.finished
    }

    /// Whether the outputs have their final names.
    pub fn has_finished(&self) -> bool {
        self.state.finished
    }

    fn is_over(&self) -> bool {
        let stopped = self.shared.stop.is_now();
        let is_to_end = self.shared.stop.is_draining() || !self.state.parked.is_empty();
        let drained = self.state.reading_ended && self.shared.in_flight.is_empty() && is_to_end;
        self.state.finished || self.state.failure.is_some() || stopped || drained
    }

    /// The only place where the main loop waits.
    fn next(&mut self) -> Happening<P> {
        let look = self.shared.timers.next_look(self.shared.clock.now().after(LOOK_EVERY));
        let message = match self.shared.clock.until(look) {
            Some(wait) => self.back.recv_timeout(wait).ok(),
            None => self.back.recv().ok(),
        };
        message.map_or(Happening::Time, Happening::Back)
    }

    fn react(&mut self, back: Back<P>) {
        match back {
            Back::LaneEnded => self.open_lanes -= 1,
            Back::Settled | Back::Wake => {}
            Back::Left(cells) => self.leave(&cells),
            Back::Parked(cell) => self.leave_parked(cell),
            Back::Returned => self.state.left_behind -= 1,
            Back::Watched { cell, invocation, cancel, result } => {
                let next = cell.watched(&self.shared, &mut self.book, invocation, &cancel, result);
                self.forward(cell, next);
            }
            Back::Trouble { hold, message } => self.trouble(hold, message),
            Back::Failed(trouble) => self.fail(trouble),
            Back::Panicked(message) => {
                self.fail(Trouble::lasting(TroubleKind::Internal, format!("a thread of the engine panicked: {message}")))
            }
            Back::Finished => self.state.finished = true,
            Back::Command(command) => self.obey(command),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Pause => {
                self.shared.budget.hold(Hold::User, true);
                self.transition("PAUSE", Some("user"));
            }
            Command::Resume => {
                self.shared.budget.hold(Hold::User, false);
                self.resume_if_free();
            }
            Command::Drain => {
                self.shared.stop.drain();
                self.shared.budget.close();
                self.transition("DRAIN", Some("stop requested"));
            }
            Command::StopNow => {
                self.shared.stop.now();
                self.shared.budget.close();
            }
            Command::CancelRun => self.cancel_run(),
            Command::Send { chunk, event, payload } => {
                self.send(&self.shared.in_flight.within(chunk), &event, &payload);
            }
        }
    }

    fn send(&mut self, cells: &[Arc<Cell<P>>], event: &str, payload: &Map<String, Value>) {
        for cell in cells {
            match cell.send(&self.shared, &mut self.book, event, payload) {
                Some(next) => self.forward(cell.clone(), next),
                None => self.send(&self.shared.in_flight.within(cell.id), event, payload),
            }
        }
    }

    /// These keep their state for the next run.
    fn leave(&mut self, cells: &[Arc<Cell<P>>]) {
        self.shared.in_flight.remove(cells);
        for part in Shared::hand_over(cells) {
            self.routes.set_going(&self.shared, part);
        }
    }

    /// Nobody will ever move this chunk in this run, nor, in an ordered one, what is behind it.
    fn leave_parked(&mut self, cell: Arc<Cell<P>>) {
        let life = cell.life.lock();
        if !life.is_parked() {
            return;
        }
        let state = self.shared.machine.state_name(life.state()).to_owned();
        drop(life);
        self.state.parked.add(cell.id, state);
        if self.ordered {
            self.shared.stop.drain();
            self.shared.budget.close();
            self.transition("DRAIN", Some("a chunk waits for an event that nobody can send"));
        }
        let (part, id) = (cell.part, cell.id);
        self.leave(&[cell]);
        let _ = self.routes.committer.send(ToCommitter::Left { part, id });
    }

    fn cancel_run(&mut self) {
        self.state.cancelled = true;
        self.shared.stop.drain();
        self.shared.budget.close();
        self.transition("DRAIN", Some("cancel requested"));
        self.send(&self.shared.in_flight.all(), "CANCEL", &Map::new());
    }

    /// Sends a chunk on after a step that was made here, and replaces the workers that the step left behind.
    fn forward(&mut self, cell: Arc<Cell<P>>, next: Next) {
        for _ in std::mem::take(&mut self.book.abandoned) {
            self.state.left_behind += 1;
            if self.state.left_behind > self.workers {
                let message = format!("{} handlers do not return although their time is over", self.state.left_behind);
                self.fail(Trouble::lasting(TroubleKind::Internal, message));
                return;
            }
            self.state.next_worker += 1;
            self.spawn_worker(self.workers + self.state.next_worker);
        }
        // Before anybody else can move it: the journal has a chunk's transitions in their order.
        self.shared.journal.record(&mut self.book.entries);
        self.routes.pass_on(&self.shared, cell, next);
    }

    fn spawn_worker(&self, number: u32) {
        let worker = Worker { number, queue: self.queue.clone(), routes: self.routes.clone(), shared: self.shared.clone() };
        thread::spawn(move || worker.run());
    }

    fn fire_timers(&mut self) {
        while let Some((key, (cell, due))) = self.shared.timers.pop_due(self.shared.clock.now()) {
            let Some(cell) = cell.upgrade() else { continue };
            let next = match due {
                Due::Timer(timer) => cell.fire(&self.shared, &mut self.book, timer, key),
                Due::Work => cell.life.lock().next(&self.shared),
            };
            self.forward(cell, next);
        }
    }

    fn look_at_memory(&mut self) {
        if let Some(verdict) = self.guard.look() {
            self.shared.budget.hold(Hold::Resident, verdict.is_short);
            if let Some(warning) = verdict.warning {
                tracing::warn!("{warning}");
            }
        }
        self.follow_holds();
    }

    /// The run's own state follows what holds reading up.
    fn follow_holds(&mut self) {
        let holds = self.shared.budget.status().holds;
        match holds.first() {
            // What is wrong with a component was said, in more words, when it was found.
            Some(Hold::Sink | Hold::Source | Hold::Journal) => {}
            Some(hold) => self.transition("PAUSE", Some(&hold.to_string())),
            None if self.run.is_paused() => self.transition("RESUME", None),
            None => {}
        }
    }

    fn resume_if_free(&mut self) {
        if self.shared.budget.status().holds.is_empty() {
            self.transition("RESUME", None);
        }
    }

    fn trouble(&mut self, hold: Hold, message: Option<String>) {
        match message {
            Some(message) => {
                tracing::warn!(component = %hold, "paused, will try again: {message}");
                self.transition("PAUSE", Some(&format!("{hold}: {message}")));
            }
            None => self.resume_if_free(),
        }
    }

    fn transition(&mut self, event: &'static str, reason: Option<&str>) {
        let at = self.shared.clock.unix_micros(self.shared.clock.now());
        let Some(transition) = self.run.send(event, reason, at) else { return };
        tracing::info!(from = &*transition.from, to = &*transition.to, reason, "the run is {}", transition.to);
        self.book.entries.push(Entry::Run(transition));
    }

    fn fail(&mut self, trouble: Trouble) {
        self.shared.stop.now();
        self.shared.budget.close();
        self.state.failure.get_or_insert(trouble);
    }

    /// When the last lane has ended: tells the committer what will not come, and asks for the end once everything has settled.
    fn after_reading(&mut self) {
        if self.open_lanes > 0 || self.state.finishing {
            return;
        }
        if !self.state.reading_ended {
            self.state.reading_ended = true;
            for (range, part, chunks) in self.shared.in_flight.cut_off() {
                let _ = self.routes.committer.send(ToCommitter::Range { part, range, length: Length::CutOff(chunks) });
            }
            let _ = self.routes.committer.send(ToCommitter::ReadingEnded);
            self.transition("DRAIN", None);
        }
        if self.shared.stop.is_draining() {
            self.leave_who_waits_long();
        } else if !self.state.parked.is_empty() {
            // What else is in flight goes on to its end; then the run does.
        } else if self.shared.in_flight.is_empty() {
            // Before the outputs get their final names: a file that has one is complete.
            let rows = self.shared.metrics.rows();
            if !rows.is_equal() {
                self.fail(unequal(rows));
                return;
            }
            self.state.finishing = true;
            let _ = self.routes.committer.send(ToCommitter::Finish);
        }
    }

    /// When draining, chunks that wait for an outside event or a distant timer keep their state for the next run.
    fn leave_who_waits_long(&mut self) {
        let limit = self.shared.clock.now().after(DRAIN_PATIENCE);
        let waiting: Vec<_> = self.shared.in_flight.all().into_iter().filter(|cell| cell.life.lock().waits_beyond(limit)).collect();
        for cell in &waiting {
            let _ = self.routes.committer.send(ToCommitter::Left { part: cell.part, id: cell.id });
        }
        self.leave(&waiting);
    }

    /// The run's last transition.
    fn close(&mut self) {
        let event = match (&self.state.failure, self.state.finished, self.state.cancelled) {
            (Some(_), ..) => "FAIL",
            (None, true, _) => "FINISH",
            (None, false, true) => "CANCEL",
            (None, false, false) => "STOP",
        };
        let reason = self.state.failure.as_ref().map(Trouble::chain).or_else(|| self.state.parked.reason());
        self.transition(event, reason.as_deref());
        self.shared.journal.record(&mut self.book.entries);
    }
}
