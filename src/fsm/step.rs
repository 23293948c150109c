//! One event at a time: pure, total, and without a search.
//!
//! An event is one *macrostep*: its own microstep, then `always` transitions and events raised on the way, until nothing
//! more is enabled. Guards and actions of the program run inside; starting and stopping work and arming timers is left
//! to the caller, in [`Effects`], after the macrostep is stable.

use std::fmt;

use serde_json::Value;

use super::context::{Cell, Context};
use super::definition::Jitter;
use super::effect::{Effect, Effects};
use super::instance::{Instance, Running, Status};
use super::machine::{Action, Event, EventData, EventId, GuardId, Machine, StateId, TimerId, TransitionId};
use super::plan::{Choice, NONE, Op, Plan, Source};

/// What the core asks of its caller while it steps. Every method has a default, so `()` is a host too.
///
/// Static dispatch: what a host does not override costs nothing.
pub trait Host {
    /// Whether a guard of the program holds. Must not depend on how often or when it is asked.
    #[inline]
    fn guard(&mut self, guard: GuardId, params: Option<&Value>, context: &Context, event: &Event<'_>) -> bool {
        let _ = (guard, params, context, event);
        false
    }

    /// An action of the program, in execution order. It cannot change the context.
    #[inline]
    fn action(&mut self, action: &Action, context: &Context, event: &Event<'_>) {
        let _ = (action, context, event);
    }

    /// An `fsm.assign` or `fsm.raise`, just before the machine performs it.
    #[inline]
    fn builtin(&mut self, action: &Action) {
        let _ = action;
    }

    /// A microstep, after its actions. A macrostep has one or more.
    #[inline]
    fn microstep(&mut self, step: &Microstep<'_>) {
        let _ = step;
    }
}

impl Host for () {}

/// One transition taken, or one event that nothing took.
#[derive(Copy, Clone, Debug)]
pub struct Microstep<'a> {
    /// For an `always` transition, the event before it.
    pub event: Event<'a>,
    /// The leaf before; the root in the first microstep of [`Machine::start`].
    pub from: StateId,
    /// The leaf afterwards.
    pub to: StateId,
    /// `None` when nothing took the event, and in the first microstep of [`Machine::start`].
    pub transition: Option<TransitionId>,
}

/// What became of an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// A transition took it.
    Transition,
    /// None did. `always` transitions may have been taken all the same; after an invocation's error the status is
    /// [`Status::Error`].
    Unhandled,
    /// The instance had ended before.
    Ignored,
}

/// Why a macrostep was given up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// It took more microsteps than the machine allows. The instance, if there is one, has [`Status::Error`]; the
    /// effects hold a [`Effect::Stop`] for all that was running, and nothing else.
    MaxIterations,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::MaxIterations => f.write_str("the macrostep takes more microsteps than options.maxIterations allows"),
        }
    }
}

impl std::error::Error for StepError {}

impl Machine {
    /// Starts an instance: enters the initial states.
    ///
    /// The effects of this first macrostep have all starts before all else, as in XState. The first
    /// microstep told to the host is from the root to the initial leaf with the event `xstate.init`.
    ///
    /// # Errors
    /// [`StepError::MaxIterations`]; there is no instance then.
    pub fn start<H: Host>(&self, context: Context, host: &mut H, effects: &mut Effects) -> Result<Instance, StepError> {
        effects.clear();
        let running = Running::none(self.invocations.len());
        let mut instance = Instance { context, running, leaf: StateId::ROOT, status: Status::Active };
        let event = Event::bare(EventId::INIT);
        self.perform(&self.start, &mut instance, &event, host, effects);
        host.microstep(&Microstep { event, from: StateId::ROOT, to: instance.leaf, transition: None });
        self.settle(&mut instance, event, host, effects)?;
        // Stable: both halves keep their order.
        effects.list.sort_by_key(|effect| !matches!(effect, Effect::Start(_)));
        Ok(instance)
    }

    /// Gives an event to an instance: one macrostep.
    ///
    /// An event with [`EventData::Output`] or [`EventData::Error`] marks its invocation as settled. An event of an
    /// invocation that does not run is taken like any other; see [`Instance::is_running`].
    ///
    /// # Errors
    /// [`StepError::MaxIterations`]; the instance has [`Status::Error`] then.
    #[inline]
    pub fn send<H: Host>(
        &self,
        instance: &mut Instance,
        event: &Event<'_>,
        host: &mut H,
        effects: &mut Effects,
    ) -> Result<Handled, StepError> {
        effects.clear();
        if instance.status != Status::Active {
            return Ok(Handled::Ignored);
        }
        if let EventData::Output(_) | EventData::Error(_) = event.data
            && let Some(invocation) = self.settles[event.id.index()]
        {
            instance.running.clear(invocation);
        }
        let Some(plan) = self.select(self.choice(instance.leaf, event.id), instance, event, host) else {
            return self.unhandled(instance, event, host, effects);
        };
        self.microstep(Some(plan), instance, event, host, effects);
        if instance.status != Status::Active {
            self.end(instance, effects);
        } else if !effects.queue.is_empty() || !self.always_of(instance).is_nobody() {
            // Most events never come here.
            self.settle(instance, *event, host, effects)?;
        }
        Ok(Handled::Transition)
    }

    /// An event that no transition takes. After it, too, `always` is looked at.
    #[inline(never)]
    fn unhandled<H: Host>(
        &self,
        instance: &mut Instance,
        event: &Event<'_>,
        host: &mut H,
        effects: &mut Effects,
    ) -> Result<Handled, StepError> {
        let is_error = self.spelling(event).starts_with("xstate.error.actor");
        if is_error {
            instance.status = Status::Error;
        }
        self.microstep(None, instance, event, host, effects);
        self.settle(instance, *event, host, effects)?;
        Ok(Handled::Unhandled)
    }

    #[inline]
    fn always_of(&self, instance: &Instance) -> &Choice {
        &self.always[instance.leaf.index()]
    }

    /// The first candidate whose guard holds.
    #[inline]
    fn select<'m, H: Host>(&'m self, choice: &'m Choice, instance: &Instance, event: &Event<'_>, host: &mut H) -> Option<&'m Plan> {
        if choice.first.test == NONE { Some(&choice.first) } else { self.select_guarded(choice, instance, event, host) }
    }

    #[inline(never)]
    fn select_guarded<'m, H: Host>(&'m self, choice: &'m Choice, instance: &Instance, event: &Event<'_>, host: &mut H) -> Option<&'m Plan> {
        let mut holds = |plan: &Plan| plan.test == NONE || self.tests[plan.test as usize].holds(self, &instance.context, event, host);
        if choice.is_nobody() {
            None
        } else if holds(&choice.first) {
            Some(&choice.first)
        } else {
            self.plans[choice.rest.range()].iter().find(|plan| holds(plan))
        }
    }

    #[inline]
    fn microstep<H: Host>(&self, plan: Option<&Plan>, instance: &mut Instance, event: &Event<'_>, host: &mut H, effects: &mut Effects) {
        let from = instance.leaf;
        if let Some(plan) = plan {
            self.perform(plan, instance, event, host, effects);
        }
        let transition = plan.map(|plan| plan.transition);
        host.microstep(&Microstep { event: *event, from, to: instance.leaf, transition });
    }

    /// Takes `always` transitions and internal events until neither is enabled.
    #[inline(never)]
    fn settle<'a, H: Host>(
        &'a self,
        instance: &mut Instance,
        mut event: Event<'a>,
        host: &mut H,
        effects: &mut Effects,
    ) -> Result<(), StepError> {
        let mut look_at_always = true;
        let mut rounds = 0;
        while instance.status == Status::Active {
            rounds += 1;
            if rounds > self.max_iterations {
                self.give_up(instance, effects);
                return Err(StepError::MaxIterations);
            }
            let always = if look_at_always { self.always_of(instance) } else { &Choice::NOBODY };
            if let Some(plan) = self.select(always, instance, &event, host) {
                self.microstep(Some(plan), instance, &event, host, effects);
                // An `always` that changed nothing would be enabled again for ever.
                look_at_always = plan.changes;
                continue;
            }
            let Some(internal) = effects.next_internal() else { break };
            event = self.internals[internal as usize].event();
            let plan = self.select(self.choice(instance.leaf, event.id), instance, &event, host);
            self.microstep(plan, instance, &event, host, effects);
            look_at_always = true;
        }
        if instance.status != Status::Active {
            self.end(instance, effects);
        }
        Ok(())
    }

    /// Stops what runs. Timers are void with the end, so none is armed any more.
    fn end(&self, instance: &mut Instance, effects: &mut Effects) {
        effects.clear_queue();
        for invocation in &self.states[instance.leaf.index()].invocations {
            effects.stop(*invocation, &mut instance.running);
        }
        if !effects.list.is_empty() {
            effects.list.retain(|effect| !matches!(effect, Effect::Arm { .. }));
        }
    }

    #[cold]
    fn give_up(&self, instance: &mut Instance, effects: &mut Effects) {
        instance.status = Status::Error;
        self.end(instance, effects);
        effects.list.retain(|effect| matches!(effect, Effect::Stop(_)));
    }

    #[inline]
    fn perform<H: Host>(&self, plan: &Plan, instance: &mut Instance, event: &Event<'_>, host: &mut H, effects: &mut Effects) {
        for op in &self.ops[plan.ops.range()] {
            match *op {
                Op::Custom { action } => host.action(&self.actions[action as usize], &instance.context, event),
                Op::SetNumber { slot, action, value } => {
                    self.tell(action, host);
                    instance.context.put(slot, Cell::Number(value));
                }
                Op::SetLiteral { slot, action, literal } => {
                    self.tell(action, host);
                    instance.context.put(slot, Cell::Literal(literal));
                }
                Op::Cancel { timer } => effects.cancel(timer),
                Op::Stop { invocation } => effects.stop(invocation, &mut instance.running),
                Op::Arm { timer, delay_ms } => effects.arm(timer, delay_ms, Jitter::None),
                Op::Start { invocation } => effects.start(invocation, &mut instance.running),
                Op::CancelStop { timer, invocation } => {
                    effects.cancel(timer);
                    effects.stop(invocation, &mut instance.running);
                }
                Op::ArmStart { timer, invocation, delay_ms } => {
                    effects.arm(timer, delay_ms, Jitter::None);
                    effects.start(invocation, &mut instance.running);
                }
                rare => self.perform_rare(rare, instance, event, host, effects),
            }
        }
        instance.leaf = plan.to;
        if plan.finishes {
            instance.status = Status::Done;
        }
    }

    /// Kept out of the loop above: what is here needs registers, and most macrosteps need none of it.
    #[inline(never)]
    fn perform_rare<H: Host>(&self, op: Op, instance: &mut Instance, event: &Event<'_>, host: &mut H, effects: &mut Effects) {
        match op {
            Op::Increment { slot, action, by } => {
                self.tell(action, host);
                instance.context.increment(slot, by);
            }
            Op::SetEvent { slot, action, path } => {
                self.tell(action, host);
                let cell = Cell::copy(self.paths[path as usize].view(self, event));
                instance.context.put(slot, cell);
            }
            Op::Assign { action, assign } => {
                self.tell(action, host);
                self.assign(assign, instance, event);
            }
            Op::Raise { action, internal } => {
                self.tell(action, host);
                effects.queue.push(internal);
            }
            Op::Queue { internal } => effects.queue.push(internal),
            Op::ArmBackoff { timer } => self.arm_backoff(timer, instance, effects),
            common => debug_assert!(false, "{common:?} is performed above"),
        }
    }

    #[inline]
    fn tell<H: Host>(&self, action: u32, host: &mut H) {
        if let Some(action) = self.actions.get(action as usize) {
            host.builtin(action);
        }
    }

    /// Computes all values before it stores the first.
    fn assign(&self, assign: u32, instance: &mut Instance, event: &Event<'_>) {
        let changes = &self.assigns[assign as usize];
        let context = &mut instance.context;
        let value = |(slot, source): &(super::context::Slot, Source)| match source {
            Source::Number(value) => Cell::Number(*value),
            Source::Literal(literal) => Cell::Literal(*literal),
            Source::Increment(by) => context.sum(*slot, *by),
            Source::Context(path) => Cell::copy(path.view(context)),
            Source::Event(path) => Cell::copy(path.view(self, event)),
        };
        let cells: Vec<Cell> = changes.iter().map(value).collect();
        for ((slot, _), cell) in changes.iter().zip(cells) {
            context.put(*slot, cell);
        }
    }

    fn arm_backoff(&self, timer: TimerId, instance: &Instance, effects: &mut Effects) {
        if let Some(formula) = &self.formulas[timer.index()] {
            let delay_ms = formula.delay_ms(&instance.context);
            effects.arm(timer, delay_ms, formula.jitter);
        }
    }
}
