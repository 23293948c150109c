//! A run that reads like a story.

use std::fmt::Write;

use serde_json::Value;

use super::script::{self, Item, ScriptError};
use super::{Clock, What};
use crate::fsm::builtin;
use crate::fsm::context::Context;
use crate::fsm::definition::Jitter;
use crate::fsm::effect::{Effect, Effects};
use crate::fsm::instance::{Instance, Status};
use crate::fsm::machine::{Action, Event, EventData, EventId, GuardId, InvocationId, Machine};
use crate::fsm::names;
use crate::fsm::step::{Host, Microstep, StepError};
use crate::fsm::value::number_to_text;

/// Alarms in one advance, at most.
const MAX_ALARMS: usize = 10_000;

/// Walks a machine through a script and tells what happens.
///
/// The script is words between blanks:
///
/// | word | meaning |
/// |---|---|
/// | `NAME`, `NAME={"key": 1}` | an event from outside, with its payload |
/// | `+100ms`, `+1.5s`, `+2m`, `+1h` | time passes; what is due happens |
/// | `done:WHO`, `done:WHO=JSON` | the running invocation WHO (its id or `src`) succeeds with that output |
/// | `fail:WHO`, `fail:WHO=KIND`, `fail:WHO={…}` | it fails; a word is the error `{"kind": "KIND"}` |
/// | `guard:NAME=true` | what a guard of the program says from now on (false at first) |
///
/// Invocations that the script does not settle go on for ever.
///
/// ```
/// use sluicegate::fsm::{CompileOptions, Definition, compile, simulate};
/// let definition: Definition = serde_json::from_str(r#"{
///     "id": "lamp", "initial": "off",
///     "states": { "off": { "on": { "PRESS": "on" } }, "on": { "after": { "500": "off" } } }
/// }"#)?;
/// let machine = compile(definition, &CompileOptions::default())?;
/// assert_eq!(simulate::walk(&machine, "PRESS +500ms")?, "\
/// 0 ms: (start) --xstate.init--> off
/// 0 ms: off --PRESS--> on
///     arm 500: 500 ms
/// 500 ms: on --xstate.after.500.lamp.on--> off
///     cancel 500
/// 500 ms: active in off
/// ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first word that means nothing, or that settles what does not run at that point.
pub fn walk(machine: &Machine, script: &str) -> Result<String, ScriptError> {
    let items = script::parse(machine, script)?;
    let teller = Teller { machine, guards: vec![false; machine.guard_names().count()], now: 0.0, actions: Vec::new(), text: String::new() };
    let mut walk = Walk { machine, teller, clock: Clock::new(), effects: Effects::new(), instance: None };
    walk.start();
    for (index, (word, item)) in items.into_iter().enumerate() {
        walk.item(item).map_err(|message| ScriptError { number: index + 1, word, message })?;
    }
    walk.conclude();
    Ok(walk.teller.text)
}

/// Writes down what happens while it happens.
struct Teller<'m> {
    machine: &'m Machine,
    guards: Vec<bool>,
    now: f64,
    actions: Vec<String>,
    text: String,
}

impl Teller<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{} ms: {text}", number_to_text(self.now));
    }

    fn name(&self, state: crate::fsm::StateId) -> &str {
        let name = self.machine.state_name(state);
        if name.is_empty() { "(start)" } else { name }
    }
}

/// `attempt=0 error=$event.error.kind` for an assign, the name and params of all others.
fn told(action: &Action) -> String {
    let value = |value: &Value| match value.as_object().and_then(|map| map.iter().next()) {
        Some((key, inner)) if key == "$inc" => format!("+{inner}"),
        Some((key, Value::String(path))) if key.starts_with('$') => format!("{key}.{path}"),
        _ => value.to_string(),
    };
    match &action.params {
        Some(Value::Object(params)) if action.name == builtin::ASSIGN => {
            params.iter().map(|(key, new)| format!("{key}={}", value(new))).collect::<Vec<_>>().join(" ")
        }
        Some(params) if action.name == builtin::RAISE => {
            format!("raise {}", params.pointer("/event/type").and_then(Value::as_str).unwrap_or_default())
        }
        Some(params) => format!("{} {params}", action.name),
        None => action.name.clone(),
    }
}

impl Host for Teller<'_> {
    fn guard(&mut self, guard: GuardId, _: Option<&Value>, _: &Context, _: &Event<'_>) -> bool {
        self.guards[guard.index()]
    }

    fn action(&mut self, action: &Action, _: &Context, _: &Event<'_>) {
        self.actions.push(told(action));
    }

    fn builtin(&mut self, action: &Action) {
        self.actions.push(told(action));
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        let machine = self.machine;
        let is_always = machine.always_candidates(step.from).any(|candidate| Some(candidate.transition) == step.transition);
        let event = if is_always { "always" } else { machine.spelling(&step.event) };
        let starts = step.event.id == EventId::INIT && !is_always;
        let mut line = format!("{} --{event}--> ", self.name(step.from));
        match step.transition {
            None if !starts => line.push_str("unhandled"),
            _ => line.push_str(self.name(step.to)),
        }
        if !self.actions.is_empty() {
            let _ = write!(line, " [{}]", std::mem::take(&mut self.actions).join(", "));
        }
        self.line(&line);
    }
}

struct Walk<'m> {
    machine: &'m Machine,
    teller: Teller<'m>,
    /// Outcomes come from the script, so no invocation settles by the clock.
    clock: Clock<()>,
    effects: Effects,
    instance: Option<Instance>,
}

impl Walk<'_> {
    fn start(&mut self) {
        match self.machine.start(self.machine.initial_context(), &mut self.teller, &mut self.effects) {
            Ok(instance) => {
                self.instance = Some(instance);
                self.perform();
            }
            Err(error) => self.give_up(error),
        }
    }

    fn item(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Guard { guard, holds } => self.teller.guards[guard.index()] = holds,
            Item::Advance { ms } => self.advance(ms),
            Item::Event { name, payload } => {
                self.mention_unknown(&name);
                let data = payload.as_ref().map_or(EventData::None, EventData::Payload);
                self.send(&Event { id: self.machine.event(&name), name: Some(&name), data });
            }
            Item::Done { who, output } => {
                let id = self.machine.invocation(self.running(&who)?).done;
                self.send(&Event { id, name: None, data: EventData::Output(&output) });
            }
            Item::Fail { who, error } => {
                let id = self.machine.invocation(self.running(&who)?).error;
                self.send(&Event { id, name: None, data: EventData::Error(&error) });
            }
        }
        Ok(())
    }

    fn advance(&mut self, ms: f64) {
        let limit = self.clock.now + ms;
        let mut fired = 0;
        while fired < MAX_ALARMS
            && let Some(What::Timer(timer)) = self.clock.next(limit)
        {
            fired += 1;
            self.teller.now = self.clock.now;
            self.send(&Event::bare(self.machine.timer(timer).event));
        }
        self.clock.now = limit;
        self.teller.now = limit;
        if fired == MAX_ALARMS {
            self.teller.line(&format!("({MAX_ALARMS} timers in one advance; the rest is left out)"));
        }
    }

    /// An event that no descriptor matches is allowed, but most often a slip.
    fn mention_unknown(&mut self, name: &str) {
        let machine = self.machine;
        if machine.event(name) != EventId::REST || machine.definition().root.on.contains_key("*") {
            return;
        }
        let own = machine.events().map(|id| machine.event_name(id)).filter(|known| !names::is_reserved(known) && *known != "*");
        let meant = names::nearest(name, own).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        self.teller.line(&format!("(no state names the event `{name}`{meant})"));
    }

    fn running(&self, who: &str) -> Result<InvocationId, String> {
        let machine = self.machine;
        let running: Vec<InvocationId> = self.running_now().collect();
        let named = |id: &&InvocationId| [&machine.invocation(**id).id, &machine.invocation(**id).src].contains(&&who.to_owned());
        running.iter().find(named).copied().ok_or_else(|| {
            let list: Vec<&str> = running.iter().map(|id| machine.invocation(*id).id.as_str()).collect();
            let state = self.instance.as_ref().map_or("(start)", |instance| machine.state_name(instance.state()));
            let list = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
            format!("`{who}` does not run here; in {state} {list} does")
        })
    }

    fn running_now(&self) -> impl Iterator<Item = InvocationId> + '_ {
        let running = |id: &InvocationId| self.instance.as_ref().is_some_and(|instance| instance.is_running(*id));
        self.machine.invocations().filter(running)
    }

    fn send(&mut self, event: &Event<'_>) {
        let Some(instance) = &mut self.instance else { return };
        if instance.status() != Status::Active {
            let line = format!("{} ignored: the run has ended", self.machine.spelling(event));
            return self.teller.line(&line);
        }
        match self.machine.send(instance, event, &mut self.teller, &mut self.effects) {
            Ok(_) => self.perform(),
            Err(error) => self.give_up(error),
        }
    }

    fn perform(&mut self) {
        let machine = self.machine;
        for effect in &self.effects {
            let line = match *effect {
                Effect::Start(id) => format!("start {}", machine.invocation(id).id),
                Effect::Stop(id) => format!("stop {}", machine.invocation(id).id),
                Effect::Cancel(timer) => {
                    self.clock.cancel(timer);
                    format!("cancel {}", machine.timer(timer).key)
                }
                Effect::Arm { timer, delay_ms, jitter } => {
                    self.clock.arm(delay_ms, What::Timer(timer));
                    let spread = if jitter == Jitter::Full { "at most " } else { "" };
                    format!("arm {}: {spread}{} ms", machine.timer(timer).key, number_to_text(delay_ms))
                }
            };
            let _ = writeln!(self.teller.text, "    {line}");
        }
        if self.instance.as_ref().is_some_and(|instance| instance.status() != Status::Active) {
            self.clock.alarms.clear();
        }
    }

    fn give_up(&mut self, error: StepError) {
        self.clock.alarms.clear();
        self.teller.line(&format!("given up: {error}"));
    }

    fn conclude(&mut self) {
        let Some(instance) = &self.instance else { return };
        let machine = self.machine;
        let state = machine.state_name(instance.state());
        let mut line = format!("{} in {state}", super::case::status_name(instance.status()));
        let tags = machine.tags(instance.state());
        if !tags.is_empty() {
            let _ = write!(line, " ({})", tags.join(", "));
        }
        let running: Vec<&str> = self.running_now().map(|id| machine.invocation(id).id.as_str()).collect();
        if !running.is_empty() {
            let _ = write!(line, "; {} running", running.join(", "));
        }
        let context = instance.context().to_json();
        if !context.is_empty() {
            let _ = write!(line, "; context {}", Value::Object(context));
        }
        self.teller.line(&line);
    }
}
