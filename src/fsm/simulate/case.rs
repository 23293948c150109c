//! The line format of the conformance kit (`tests/conformance/README.md`): one case in, one trajectory out.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Clock, What};
use crate::fsm::compile::{CompileOptions, compile};
use crate::fsm::context::Context;
use crate::fsm::machine::{Action, Event, EventData, EventId, GuardId, InvocationId, Machine, StateId};
use crate::fsm::step::{Host, Microstep, StepError};
use crate::fsm::value::number_to_text;
use crate::fsm::{Class, Definition, Effect, Effects, Instance, Status};

/// Alarms in one `advance`, at most: a timer of 0 ms that re-arms itself would hold the clock for ever.
const MAX_ALARMS: usize = 10_001;

/// Runs every line that is not blank.
///
/// # Errors
/// When `input` or `output` fails. A case that cannot be run is a line with `error`, not an error.
pub fn run_lines(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            writeln!(output, "{}", run_case(&line))?;
        }
    }
    output.flush()
}

/// Runs one case: `{id?, definition, events, guards?, delays?, invokes?, maxIterations?}`.
///
/// The answer is `{id, steps, final, error?}`. `error` is `"infinite-loop"`, `{"unhandled": error}`,
/// `"invalid-definition: …"` or `"invalid-case: …"`; the last two stand alone.
pub fn run_case(line: &str) -> String {
    let case: Map<String, Value> = match serde_json::from_str(line) {
        Ok(case) => case,
        Err(error) => return print(&json!({ "error": format!("invalid-case: {error}") })),
    };
    let mut answer = Map::new();
    answer.extend(case.get("id").map(|id| ("id".to_owned(), id.clone())));
    match machine_of(&case).and_then(|machine| Run::new(&machine, &case)?.run(&case)) {
        Ok(trajectory) => answer.extend(trajectory),
        Err(error) => drop(answer.insert("error".to_owned(), error.into())),
    }
    print(&Value::Object(answer))
}

fn machine_of(case: &Map<String, Value>) -> Result<Machine, String> {
    let definition = case.get("definition").ok_or("invalid-case: there is no definition")?;
    let invalid = |error: &dyn std::fmt::Display| format!("invalid-definition: {error}");
    let definition: Definition = serde_json::from_value(definition.clone()).map_err(|error| invalid(&error))?;
    let mut options = CompileOptions { delays: case.get("delays").and_then(Value::as_object).cloned(), ..CompileOptions::default() };
    if let Some(limit) = case.get("maxIterations").and_then(Value::as_u64) {
        options.default_max_iterations = u32::try_from(limit).map_err(|error| invalid(&error))?;
    }
    compile(definition, &options).map_err(|report| {
        let findings: Vec<String> = report.of(Class::Error).map(ToString::to_string).collect();
        invalid(&findings.join("; "))
    })
}

/// What happened in the current macrostep, as the answer wants it.
struct Recorder<'m> {
    machine: &'m Machine,
    guards: Vec<bool>,
    actions: Vec<Value>,
    micro: Vec<Value>,
}

impl Recorder<'_> {
    fn record(&mut self, action: &Action) {
        self.actions.push(match &action.params {
            None => json!(action.name),
            Some(params) => json!([action.name, params]),
        });
    }

    fn set_guards(&mut self, values: &Value) {
        for (id, name) in self.machine.guard_names() {
            if let Some(value) = values.get(name) {
                self.guards[id.index()] = truthy(value);
            }
        }
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

impl Host for Recorder<'_> {
    fn guard(&mut self, guard: GuardId, _: Option<&Value>, _: &Context, _: &Event<'_>) -> bool {
        self.guards[guard.index()]
    }

    fn action(&mut self, action: &Action, _: &Context, _: &Event<'_>) {
        self.record(action);
    }

    fn builtin(&mut self, action: &Action) {
        self.record(action);
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        let machine = self.machine;
        let mut transitions = Vec::new();
        if let Some(transition) = step.transition.map(|id| machine.transition(id)) {
            let targets = transition.target.map(|target| vec![machine.state_id(target)]);
            let mut entry = json!({ "source": machine.state_id(transition.source), "targets": targets });
            if transition.reenter {
                entry["reenter"] = true.into();
            }
            transitions.push(entry);
        }
        self.micro.push(json!({
            "event": machine.spelling(&step.event), "value": value_of(machine, step.to), "transitions": transitions,
        }));
    }
}

/// A state the way XState prints it: `"a"`, or `{"a": {"b": "c"}}`.
fn value_of(machine: &Machine, leaf: StateId) -> Value {
    let mut keys = machine.state_name(leaf).rsplit('.');
    let innermost = Value::from(keys.next().unwrap_or_default());
    keys.fold(innermost, |inner, key| Value::Object(Map::from_iter([(key.to_owned(), inner)])))
}

struct Run<'m> {
    machine: &'m Machine,
    recorder: Recorder<'m>,
    clock: Clock<Value>,
    effects: Effects,
    /// Outcomes by handler.
    outcomes: Map<String, Value>,
    starts: HashMap<String, usize>,
    instance: Option<Instance>,
    steps: Vec<Value>,
    /// The item of the script that is being done; -1 is the start.
    index: i64,
    failure: Option<Value>,
}

impl<'m> Run<'m> {
    fn new(machine: &'m Machine, case: &Map<String, Value>) -> Result<Run<'m>, String> {
        let guards = vec![false; machine.guard_names().count()];
        let mut recorder = Recorder { machine, guards, actions: Vec::new(), micro: Vec::new() };
        recorder.set_guards(case.get("guards").unwrap_or(&Value::Null));
        let outcomes = match case.get("invokes") {
            None => Map::new(),
            Some(Value::Object(outcomes)) => outcomes.clone(),
            Some(_) => return Err("invalid-case: `invokes` is not an object".to_owned()),
        };
        Ok(Run {
            machine,
            recorder,
            clock: Clock::new(),
            effects: Effects::new(),
            outcomes,
            starts: HashMap::new(),
            instance: None,
            steps: Vec::new(),
            index: -1,
            failure: None,
        })
    }

    fn run(mut self, case: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        self.start();
        let script = match case.get("events") {
            None => &[],
            Some(Value::Array(script)) => script.as_slice(),
            Some(_) => return Err("invalid-case: `events` is not a list".to_owned()),
        };
        for item in script {
            self.index += 1;
            if self.failure.is_some() {
                break;
            }
            self.item(item)?;
        }
        Ok(self.answer())
    }

    fn start(&mut self) {
        let context = self.machine.initial_context();
        match self.machine.start(context, &mut self.recorder, &mut self.effects) {
            Ok(instance) => {
                self.instance = Some(instance);
                // XState reports no microsteps of the initial macrostep.
                self.recorder.micro.clear();
                self.flush("xstate.init");
            }
            Err(error) => self.endless(error, "xstate.init"),
        }
    }

    fn item(&mut self, item: &Value) -> Result<(), String> {
        if let Some(values) = item.get("set") {
            self.recorder.set_guards(values);
            return Ok(());
        }
        if let Some(ms) = item.get("advance") {
            self.advance(ms.as_f64().ok_or("invalid-case: `advance` is not a number")?);
            return Ok(());
        }
        let name = item.as_str().or_else(|| item.get("type").and_then(Value::as_str));
        let name = name.ok_or_else(|| format!("invalid-case: {item} is not an event"))?;
        let status = self.instance.as_ref().map_or(Status::Error, Instance::status);
        if status != Status::Active {
            self.steps.push(json!({ "i": self.index, "t": self.clock.now, "event": name, "ignored": status_name(status) }));
            return Ok(());
        }
        let data = item.as_object().map_or(EventData::None, EventData::Payload);
        self.send(&Event { id: self.machine.event(name), name: Some(name), data });
        Ok(())
    }

    fn advance(&mut self, ms: f64) {
        let limit = self.clock.now + ms;
        for _ in 0..MAX_ALARMS {
            if self.failure.is_some() {
                break;
            }
            match self.clock.next(limit) {
                None => break,
                Some(What::Timer(timer)) => self.send(&Event::bare(self.machine.timer(timer).event)),
                Some(What::Settle(invocation, outcome)) => self.settle(invocation, &outcome),
            }
        }
        self.clock.now = limit;
    }

    fn settle(&mut self, invocation: InvocationId, outcome: &Value) {
        let invocation = self.machine.invocation(invocation);
        let null = Value::Null;
        let (id, data): (EventId, _) = match outcome.get("error") {
            Some(error) => (invocation.error, EventData::Error(error)),
            None => (invocation.done, EventData::Output(outcome.get("done").unwrap_or(&null))),
        };
        self.send(&Event { id, name: None, data });
    }

    fn send(&mut self, event: &Event<'_>) {
        let machine = self.machine;
        let Some(instance) = &mut self.instance else { return };
        let sent = machine.send(instance, event, &mut self.recorder, &mut self.effects);
        let ended_by_error = instance.status() == Status::Error;
        let name = machine.spelling(event);
        if let Err(error) = sent {
            return self.endless(error, name);
        }
        if ended_by_error {
            let error = match event.data {
                EventData::Error(error) => error.clone(),
                EventData::Payload(map) => map.get("error").cloned().unwrap_or_default(),
                EventData::None | EventData::Output(_) => Value::Null,
            };
            self.failure = Some(json!({ "unhandled": error }));
        }
        self.flush(name);
    }

    /// Performs the effects and writes the step down.
    fn flush(&mut self, event: &str) {
        let machine = self.machine;
        for effect in self.effects.iter().copied().collect::<Vec<_>>() {
            match effect {
                Effect::Start(invocation) => self.begin(invocation),
                Effect::Stop(invocation) => {
                    self.clock.stop(invocation);
                    self.recorder.actions.push(json!(format!("@stop {}", machine.invocation(invocation).id)));
                }
                Effect::Arm { timer, delay_ms, .. } => self.clock.arm(delay_ms, What::Timer(timer)),
                Effect::Cancel(timer) => self.clock.cancel(timer),
            }
        }
        let Some(instance) = &self.instance else { return };
        if instance.status() != Status::Active {
            self.clock.alarms.clear();
        }
        self.steps.push(json!({
            "i": self.index, "t": self.clock.now, "event": event,
            "value": value_of(machine, instance.state()), "status": status_name(instance.status()),
            "actions": std::mem::take(&mut self.recorder.actions), "micro": std::mem::take(&mut self.recorder.micro),
        }));
    }

    fn begin(&mut self, id: InvocationId) {
        let invocation = self.machine.invocation(id);
        let count = self.starts.entry(invocation.src.clone()).or_default();
        *count += 1;
        let plan = self.outcomes.get(&invocation.src).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let outcome = plan.get(*count - 1).or(plan.last()).filter(|outcome| !outcome.get("never").is_some_and(truthy));
        if let Some(outcome) = outcome {
            let after = outcome.get("after").and_then(Value::as_f64).unwrap_or(0.0);
            self.clock.arm(after, What::Settle(id, outcome.clone()));
        }
        let mut told = json!({ "src": invocation.src, "n": *count });
        if let Some(input) = &invocation.input {
            told["input"] = input.clone();
        }
        self.recorder.actions.push(json!([format!("@start {}", invocation.id), told]));
    }

    fn endless(&mut self, error: StepError, event: &str) {
        let StepError::MaxIterations = error;
        self.failure = Some(json!("infinite-loop"));
        self.steps.push(json!({ "i": self.index, "t": self.clock.now, "event": event, "status": "error" }));
    }

    fn answer(self) -> Map<String, Value> {
        let endless = self.failure.as_ref().is_some_and(Value::is_string);
        let mut end = match self.instance {
            Some(instance) if !endless => {
                let mut end = json!({
                    "status": status_name(instance.status()), "value": value_of(self.machine, instance.state()),
                    "context": instance.context().to_json(),
                });
                if instance.status() == Status::Active {
                    let mut due: Vec<f64> = self.clock.alarms.iter().map(|alarm| alarm.due).collect();
                    due.sort_by(f64::total_cmp);
                    end["pendingTimers"] = due.into();
                }
                end
            }
            _ => json!({ "status": "error" }),
        };
        let mut answer = Map::new();
        answer.insert("steps".to_owned(), self.steps.into());
        answer.insert("final".to_owned(), end.take());
        answer.extend(self.failure.map(|failure| ("error".to_owned(), failure)));
        answer
    }
}

pub(super) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Done => "done",
        Status::Error => "error",
    }
}

/// JSON with numbers as JavaScript prints them: all are doubles, `1.0` is `1`.
fn print(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Script);
    // Writing a Value to memory cannot fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(bytes).unwrap_or_default()
}

struct Script;

#[allow(clippy::cast_precision_loss, reason = "that is what JavaScript does with large integers")]
impl serde_json::ser::Formatter for Script {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number_to_text(value).as_bytes())
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }
}
