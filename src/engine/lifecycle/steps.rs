//! What a step of the machine makes of the chunk: its moves written down, its effects performed.

use super::{Cell, Deferred, Life, Notebook, remember};
use crate::chunk::Payload;
use crate::clock::Moment;
use crate::engine::metrics::Move;
use crate::engine::registry::View;
use crate::engine::shared::Shared;
use crate::engine::timers::TimerKey;
use crate::fsm::{Action, Context, Effect, Event, EventData, EventId, GuardId, Host, InvocationId, Microstep, StateId, Status, TimerId};
use crate::journal::{Entry, Transition, Waiting};
use crate::processor::HandlerError;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Lets the machine ask for guards and actions of the program, and remembers its moves.
pub(super) struct Stage<'a, P> {
    pub(super) shared: &'a Shared<P>,
    pub(super) moves: &'a mut Vec<(StateId, StateId, EventId)>,
}

impl<P: Payload> Host for Stage<'_, P> {
    fn guard(&mut self, guard: GuardId, params: Option<&Value>, context: &Context, event: &Event<'_>) -> bool {
        self.shared.registry.guard(guard, &View { machine: &self.shared.machine, context, event, params })
    }

    fn action(&mut self, action: &Action, context: &Context, event: &Event<'_>) {
        let params = action.params.as_ref();
        self.shared.registry.act(action.id, &View { machine: &self.shared.machine, context, event, params });
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        if step.transition.is_some() {
            self.moves.push((step.from, step.to, step.event.id));
        }
    }
}

/// What made a machine step, beyond the event.
#[derive(Clone, Copy, Default)]
pub(super) struct Cause<'a> {
    /// The event's spelling.
    pub(super) name: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    /// The state that an earlier run left the chunk in.
    pub(super) left_in: Option<StateId>,
}

impl<P: Payload> Life<P> {
    /// The handler under way has ended: tells the machine, and then what had to wait for it.
    pub fn settle_handler(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        result: Result<Option<&Value>, HandlerError>,
    ) {
        let Some(running) = self.running.take() else { return };
        self.outcome(cell, shared, book, running.invocation, result);
        while let Some(deferred) = self.deferred.pop_front() {
            match deferred {
                Deferred::Event(name, payload) => self.outside(cell, shared, book, &name, &payload),
                Deferred::Timer(timer, key) => self.due(cell, shared, book, timer, key),
            }
        }
    }

    pub(super) fn outcome(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        invocation: InvocationId,
        result: Result<Option<&Value>, HandlerError>,
    ) {
        let invocation = shared.machine.invocation(invocation);
        match result {
            Ok(output) => {
                let data = EventData::Output(output.unwrap_or(&Value::Null));
                self.step(cell, shared, book, &Event { id: invocation.done, name: None, data }, Cause::default());
            }
            Err(error) => {
                let (data, text) = (error.to_event(), error.to_string());
                remember(&mut self.errors, error);
                let event = Event { id: invocation.error, name: None, data: EventData::Error(&data) };
                self.step(cell, shared, book, &event, Cause { error: Some(&text), ..Cause::default() });
            }
        }
    }

    pub(super) fn outside(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        name: &str,
        payload: &Map<String, Value>,
    ) {
        let event = Event { id: shared.machine.event(name), name: Some(name), data: EventData::Payload(payload) };
        self.step(cell, shared, book, &event, Cause { name: Some(name), ..Cause::default() });
    }

    pub(super) fn due(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, timer: TimerId, key: TimerKey) {
        let Some(armed) = self.armed.iter().position(|armed| *armed == (timer, key)) else { return };
        self.armed.swap_remove(armed);
        let timer = shared.machine.timer(timer);
        let event = Event { id: timer.event, name: None, data: EventData::None };
        let timeout = self.running.as_ref().map(|running| {
            let handler = &shared.machine.invocation(running.invocation).src;
            HandlerError::new(HandlerError::TIMEOUT, format!("`{handler}` had not ended when `{}` was over", timer.key))
        });
        let text = timeout.as_ref().map(ToString::to_string);
        timeout.into_iter().for_each(|timeout| remember(&mut self.errors, timeout));
        self.step(cell, shared, book, &event, Cause { error: text.as_deref(), ..Cause::default() });
    }

    fn step(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, event: &Event<'_>, cause: Cause<'_>) {
        let now = shared.clock.now();
        book.moves.clear();
        let mut stage = Stage { shared, moves: &mut book.moves };
        let before = self.instance.state();
        if shared.machine.send(&mut self.instance, event, &mut stage, &mut book.effects).is_err() {
            let message = format!("the transitions from `{}` come to no end", shared.machine.state_name(before));
            remember(&mut self.errors, HandlerError::new("endless", message));
        }
        self.after_step(cell, shared, book, now, cause);
    }

    /// Writes the step's moves down and performs its effects.
    pub(super) fn after_step(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, now: Moment, cause: Cause<'_>) {
        let moves = std::mem::take(&mut book.moves);
        for (microstep, &(from, to, event)) in moves.iter().enumerate() {
            let cause = if microstep == 0 { cause } else { Cause::default() };
            self.note(cell, shared, book, now, (Some(from), to, event), (microstep, cause));
        }
        book.moves = moves;
        for effect in book.effects.iter() {
            match *effect {
                Effect::Start(invocation) => self.start_invocation(cell, shared, invocation),
                Effect::Stop(invocation) => book.abandoned.extend(self.stop_invocation(invocation)),
                Effect::Cancel(timer) => self.disarm(shared, timer),
                Effect::Arm { .. } => {}
            }
        }
        // Timers come last: those of a state with a handler wait for the handler's start.
        for effect in book.effects.iter() {
            if let Effect::Arm { timer, delay_ms, jitter } = *effect {
                let delay = self.delay(cell, shared, timer, delay_ms, jitter);
                self.arm(cell, shared, timer, delay);
            }
        }
        self.note_wait(cell, shared, book);
        if self.instance.status() != Status::Active {
            std::mem::take(&mut self.armed).into_iter().for_each(|(_, key)| shared.timers.cancel(key));
            self.deferred.clear();
        }
    }

    /// Writes down until when the chunk waits, if it does, so that a run that goes on from here does not begin before.
    fn note_wait(&self, cell: &Cell<P>, shared: &Shared<P>, book: &mut Notebook) {
        let first = self.armed.iter().map(|(_, key)| key.due()).min();
        if let Some(due) = first.filter(|_| self.running.is_none() && self.instance.status() == Status::Active) {
            let context = serde_json::Value::Object(self.instance.context().to_json()).to_string().into();
            book.entries.push(Entry::Waiting(Waiting { chunk: cell.id, until_micros: shared.clock.unix_micros(due), context }));
        }
    }

    /// Writes one move down: journal, metrics, subscribers. `step` is the move's place in the macrostep and what caused that.
    pub(super) fn note(
        &mut self,
        cell: &Cell<P>,
        shared: &Shared<P>,
        book: &mut Notebook,
        now: Moment,
        (from, to, event): (Option<StateId>, StateId, EventId),
        (microstep, cause): (usize, Cause<'_>),
    ) {
        let in_state = now.since(self.entered);
        self.entered = now;
        let before = self.metered;
        self.metered = self.payload.as_ref().map_or((cell.rows, 0), |payload| (payload.rows(), payload.resident_bytes() as u64));
        shared.metrics.moved(&Move { from, to, event, in_state, before, after: self.metered, error: cause.error.is_some() });
        let transition = Transition {
            chunk: cell.id,
            seq: self.seq,
            at_micros: shared.clock.unix_micros(now),
            event,
            event_name: cause.name.filter(|name| *name != shared.machine.event_name(event)).map(Into::into),
            from: from.or(cause.left_in),
            to,
            microstep: u32::try_from(microstep).unwrap_or(u32::MAX),
            attempt: self.attempt(),
            worker: book.worker,
            in_state_micros: u64::try_from(in_state.as_micros()).unwrap_or(u64::MAX),
            error: cause.error.map(Into::into),
        };
        self.seq += 1;
        shared.publish(&transition);
        book.entries.push(Entry::Transition(transition));
    }
}
