//! Single rules of the semantics, through the public interface of the core.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sluicegate::fsm::{
    Action, CompileOptions, Context, Definition, Effect, Effects, Event, EventData, EventId, GuardId, Handled, Host, Instance, Jitter,
    Machine, Microstep, StateId, Status, StepError, compile,
};

use super::{machine, machine_of_value, shipped};

/// Writes down what the core tells it, and answers guards by name.
struct Log<'m> {
    machine: &'m Machine,
    yes: Vec<&'static str>,
    lines: Vec<String>,
}

impl<'m> Log<'m> {
    fn new(machine: &'m Machine) -> Log<'m> {
        Log { machine, yes: Vec::new(), lines: Vec::new() }
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}

impl Host for Log<'_> {
    fn guard(&mut self, guard: GuardId, params: Option<&Value>, _: &Context, event: &Event<'_>) -> bool {
        let name = self.machine.guard_names().find(|(id, _)| *id == guard).unwrap().1;
        let params = params.map(Value::to_string).unwrap_or_default();
        self.lines.push(format!("{name}{params}? {}", self.machine.event_name(event.id)));
        self.yes.contains(&name)
    }

    fn action(&mut self, action: &Action, context: &Context, _: &Event<'_>) {
        let own = self.machine.action_names().any(|(id, name)| id == action.id && name == action.name);
        assert!(own, "{} is the program's", action.name);
        self.lines.push(format!("{} {}", action.name, Value::Object(context.to_json())));
    }

    fn builtin(&mut self, action: &Action) {
        assert!(self.machine.action_names().all(|(id, _)| id < action.id));
        self.lines.push(action.name.clone());
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        let name = |state| self.machine.state_name(state);
        let taken = if step.transition.is_some() { "-->" } else { "---" };
        self.lines.push(format!("{} {taken} {}", name(step.from), name(step.to)));
    }
}

/// An instance with what is needed to talk to it.
struct Run<'m> {
    machine: &'m Machine,
    log: Log<'m>,
    effects: Effects,
    instance: Instance,
}

impl<'m> Run<'m> {
    fn new(machine: &'m Machine) -> Run<'m> {
        let (mut log, mut effects) = (Log::new(machine), Effects::new());
        let instance = machine.start(machine.initial_context(), &mut log, &mut effects).unwrap();
        Run { machine, log, effects, instance }
    }

    fn give(&mut self, name: &str, data: EventData<'_>) -> Handled {
        let event = Event { id: self.machine.event(name), name: Some(name), data };
        self.machine.send(&mut self.instance, &event, &mut self.log, &mut self.effects).unwrap()
    }

    fn send(&mut self, name: &str) -> Handled {
        self.give(name, EventData::None)
    }

    fn state(&self) -> &str {
        self.machine.state_name(self.instance.state())
    }

    fn effects(&self) -> Vec<String> {
        let one = |effect: &Effect| match *effect {
            Effect::Start(id) => format!("start {}", self.machine.invocation(id).id),
            Effect::Stop(id) => format!("stop {}", self.machine.invocation(id).id),
            Effect::Arm { timer, delay_ms, jitter } => {
                let jitter = if jitter == Jitter::Full { "~" } else { "" };
                format!("arm {} {jitter}{delay_ms}", self.machine.timer(timer).key)
            }
            Effect::Cancel(timer) => format!("cancel {}", self.machine.timer(timer).key),
        };
        self.effects.iter().map(one).collect()
    }
}

fn chunk() -> Machine {
    machine(&shipped().into_iter().find(|(name, _)| name == "chunk").unwrap().1)
}

#[test]
fn a_machine_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let machine = Arc::new(chunk());
    shared(&machine);
    let there = Arc::clone(&machine);
    let state = std::thread::spawn(move || Run::new(&there).state().to_owned()).join().unwrap();
    assert_eq!(state, "received");
}

#[test]
fn a_chunk_goes_through_the_default_lifecycle() {
    let machine = chunk();
    let mut run = Run::new(&machine);
    assert_eq!(run.effects(), ["start validate", "arm stageTimeout 30000"], "starts come first in the initial macrostep");
    assert_eq!(run.log.take(), ["fsm.assign", " --- received"]);
    let output = json!({ "rows": 3 });
    assert_eq!(run.give("xstate.done.actor.validate", EventData::Output(&output)), Handled::Transition);
    assert_eq!(run.effects(), ["cancel stageTimeout", "arm stageTimeout 30000", "start transform"], "validate had settled: no stop");
    assert_eq!(run.log.take(), ["fsm.assign", "fsm.assign", "received --> validated"]);
    run.send("xstate.after.stageTimeout.chunk.validated");
    assert_eq!(run.effects(), ["cancel stageTimeout", "stop transform", "arm retryBackoff ~100"]);
    assert_eq!((run.state(), run.instance.context().to_json()["error"].as_str()), ("retried", Some("timeout")));
    run.send("CANCEL");
    assert_eq!((run.effects(), run.instance.status()), (vec!["cancel retryBackoff".to_owned()], Status::Done));
    assert_eq!(run.send("CANCEL"), Handled::Ignored);
    assert!(run.effects.is_empty());
}

#[test]
fn the_backoff_grows_with_the_counter_and_has_a_limit() {
    let machine = chunk();
    let attempt = machine.context_slot("attempt").unwrap();
    let delay = |attempts: Value| {
        let mut context = machine.initial_context();
        context.set_number(machine.context_slot("maxAttempts").unwrap(), 99.0);
        context.set(attempt, &attempts);
        let mut effects = Effects::new();
        let mut chunk = machine.start(context, &mut (), &mut effects).unwrap();
        let late = Event::bare(machine.event("xstate.after.stageTimeout.chunk.received"));
        machine.send(&mut chunk, &late, &mut (), &mut effects).unwrap();
        let armed = effects.iter().find_map(|effect| match effect {
            Effect::Arm { delay_ms, .. } => Some(*delay_ms),
            _ => None,
        });
        (chunk.context().get(attempt).unwrap(), armed.unwrap())
    };
    assert_eq!(delay(json!(0)), (json!(1), 100.0));
    assert_eq!(delay(json!(3)), (json!(4), 800.0));
    assert_eq!(delay(json!(40)), (json!(41), 5_000.0));
    assert_eq!(delay(Value::Null), (json!(1), 100.0), "null counts as 0");
    assert_eq!(delay(json!("x")), (json!("x1"), 100.0), "what is no number counts as the first attempt");
}

#[test]
fn a_backoff_without_limit_may_never_be_due() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "context": { "attempt": 5000 }, "meta": { "fsm": { "delays": { "wait": { "base": 1 } } } },
        "states": { "a": { "after": { "wait": "b" } }, "b": { "type": "final" } },
    }));
    assert_eq!(Run::new(&machine).effects(), ["arm wait inf"]);
}

#[test]
fn context_can_be_carried_over_before_the_start() {
    let machine = chunk();
    let slot = machine.context_slot("attempt").unwrap();
    assert_eq!(machine.context_slot("nothing"), None);
    let mut context = machine.initial_context();
    assert_eq!((context.number(slot), context.text(slot)), (Some(0.0), None));
    context.set_number(slot, 2.0);
    let chunk = machine.start(context, &mut (), &mut Effects::new()).unwrap();
    assert_eq!(chunk.context().number(slot), Some(2.0));
    assert_eq!(chunk.context().text(machine.context_slot("stage").unwrap()), Some("validate"));
    let mut context = chunk.context().clone();
    context.remove(slot);
    assert_eq!((context.get(slot), context.to_json().contains_key("attempt")), (None, false));
}

#[test]
fn an_invocation_runs_from_start_to_outcome_or_stop() {
    let machine = chunk();
    let mut run = Run::new(&machine);
    let [validate, transform] =
        ["validate", "transform"].map(|id| machine.invocations().find(|one| machine.invocation(*one).id == id).unwrap());
    assert!(run.instance.is_running(validate) && !run.instance.is_running(transform));
    assert_eq!(machine.state_invocations(run.instance.state()), [validate]);
    run.give("xstate.done.actor.validate", EventData::Output(&Value::Null));
    assert!(!run.instance.is_running(validate) && run.instance.is_running(transform));
    run.send("CANCEL");
    assert_eq!(run.effects(), ["cancel stageTimeout", "stop transform"]);
    assert!(!run.instance.is_running(transform));
}

#[test]
fn more_than_64_invocations_are_told_apart() {
    let all: Vec<Value> = (0..70).map(|n| json!({ "id": format!("i{n}"), "src": "w", "onError": {} })).collect();
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "states": { "a": { "invoke": all, "on": { "GO": "b" } }, "b": { "type": "final" } },
    }));
    let mut run = Run::new(&machine);
    let [third, last] = [3, 69].map(|n| machine.invocations().nth(n).unwrap());
    run.give("xstate.error.actor.i69", EventData::Error(&Value::Null));
    assert!(run.instance.is_running(third) && !run.instance.is_running(last));
    run.send("GO");
    assert_eq!(run.effects.len(), 69);
    assert!(!run.instance.is_running(third));
}

#[test]
fn a_state_left_within_the_macrostep_starts_and_arms_nothing() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a",
        "states": {
            "a": { "on": { "GO": "b" } },
            "b": { "invoke": { "src": "w", "id": "never", "onError": "c" }, "after": { "5": "c" }, "always": "c" },
            "c": { "invoke": { "src": "w", "id": "work", "onError": "d" } },
            "d": { "type": "final" },
        },
    }));
    let mut run = Run::new(&machine);
    run.send("GO");
    assert_eq!(run.effects(), ["start work"]);
    assert_eq!(run.log.take()[1..], ["a --> b", "b --> c"]);
}

#[test]
fn timers_are_armed_as_javascript_orders_their_keys() {
    let machine = machine(
        r#"{
        "id": "m", "initial": "a", "meta": { "fsm": { "delays": { "late": 9, "early": 1 } } },
        "states": { "a": { "after": { "late": "b", "20": "b", "early": "b", "3": "b", "100": [] } }, "b": { "type": "final" } }
    }"#,
    );
    assert_eq!(Run::new(&machine).effects(), ["arm 3 3", "arm 20 20", "arm 100 100", "arm late 9", "arm early 1"]);
}

#[test]
fn an_always_that_changes_nothing_is_not_tried_again() {
    let rounds = |always: Value, invoke: Value| {
        let machine = machine_of_value(json!({
            "id": "m", "initial": "a", "context": { "n": 0 },
            "states": { "a": { "on": { "GO": "b" } }, "b": { "invoke": invoke, "always": always } },
        }));
        let mut run = Run::new(&machine);
        run.log.yes.push("more");
        let sent = machine.send(&mut run.instance, &Event::bare(machine.event("GO")), &mut run.log, &mut run.effects);
        sent.map(|_| run.log.lines.iter().filter(|line| *line == "b --> b").count())
    };
    let (none, watch) = (json!([]), json!({ "src": "w", "onError": {} }));
    let log = json!({ "guard": "more", "actions": "log" });
    let again = json!({ "guard": "more", "target": "b", "reenter": true });
    let count = json!({ "guard": "more", "actions": { "type": "fsm.assign", "params": { "n": 0 } } });
    assert_eq!(rounds(log, none.clone()), Ok(1));
    assert_eq!(rounds(again.clone(), none.clone()), Ok(1));
    // A new invocation is a change, and so is an assign, even of the same value.
    assert_eq!(rounds(again, watch), Err(StepError::MaxIterations));
    assert_eq!(rounds(count, none), Err(StepError::MaxIterations));
}

#[test]
fn unhandled_events_leave_no_trace_but_always_is_looked_at() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "states": { "a": { "always": { "guard": "ready", "target": "b" }, "on": { "GO": "b" } }, "b": {} },
    }));
    let mut run = Run::new(&machine);
    run.log.take();
    assert_eq!(run.send("NOPE"), Handled::Unhandled);
    assert_eq!(run.log.take(), ["a --- a", "ready? *"]);
    run.log.yes.push("ready");
    assert_eq!(run.send("NOPE"), Handled::Unhandled);
    assert_eq!((run.log.take(), run.state()), (vec!["a --- a".to_owned(), "ready? *".into(), "a --> b".into()], "b"));
}

#[test]
fn an_invocation_error_that_nothing_takes_ends_the_instance() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "p", "exit": "never",
        "states": { "p": {
            "initial": "a", "after": { "9": "p" }, "invoke": { "src": "w", "id": "outer", "onError": {} },
            "states": { "a": { "invoke": { "src": "w", "id": "inner", "onError": { "guard": "no", "target": "a" } } } },
        } },
    }));
    let mut run = Run::new(&machine);
    let error = json!({ "kind": "io" });
    run.log.take();
    assert_eq!(run.give("xstate.error.actor.inner", EventData::Error(&error)), Handled::Unhandled);
    assert_eq!((run.instance.status(), run.effects()), (Status::Error, vec!["stop outer".to_owned()]));
    assert_eq!(run.log.take(), ["no? xstate.error.actor.inner", "p.a --- p.a"], "no exit actions");
    assert_eq!(run.send("xstate.error.actor.unheard-of"), Handled::Ignored);
}

#[test]
fn an_endless_macrostep_is_given_up() {
    let looping = json!({
        "id": "m", "initial": "a", "context": { "n": 0 },
        "states": {
            "a": { "invoke": { "src": "w", "id": "old", "onError": "b" }, "on": { "GO": "b" } },
            "b": { "invoke": { "src": "w", "id": "new", "onError": "a" }, "always": { "guard": "more", "target": "c" } },
            "c": { "always": { "guard": "more", "target": "b", "actions": "count" } },
        },
    });
    let definition: Definition = serde_json::from_value(looping).unwrap();
    let machine = compile(definition, &CompileOptions { default_max_iterations: 7, ..Default::default() }).unwrap();
    let mut run = Run::new(&machine);
    run.log.yes.push("more");
    let go = Event::bare(machine.event("GO"));
    let sent = machine.send(&mut run.instance, &go, &mut run.log, &mut run.effects);
    assert_eq!(sent, Err(StepError::MaxIterations));
    assert_eq!((run.instance.status(), run.effects()), (Status::Error, vec!["stop old".to_owned()]), "only what had been running");
    assert_eq!(machine.invocations().filter(|id| run.instance.is_running(*id)).count(), 0);
    assert_eq!(run.log.lines.iter().filter(|line| line.starts_with("count")).count(), 3, "seven rounds");
}

#[test]
fn names_are_resolved_to_the_longest_class() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a",
        "states": { "a": { "on": { "x.y.z": "e", "x.y.*": "d", "x.*": "c", "*": "b" } }, "b": {}, "c": {}, "d": {}, "e": {} },
    }));
    let names = ["x.y.z", "x.y", "x.y.z.q", "x.yy", "x", "xx", "y", "xstate.done.actor.w"];
    let classes: Vec<&str> = names.iter().map(|name| machine.event_name(machine.event(name))).collect();
    assert_eq!(classes, ["x.y.z", "x.y.*", "x.y.*", "x.*", "x.*", "*", "*", "*"]);
    assert_eq!(machine.event("y"), EventId::REST);
    assert!(machine.is_class(machine.event("x")) && !machine.is_class(machine.event("x.y.z")));
    let leaf = machine.state("a").unwrap();
    let targets = |name: &str| -> Vec<&str> {
        machine.candidates(leaf, machine.event(name)).map(|candidate| machine.state_name(candidate.target)).collect()
    };
    assert_eq!([targets("x.y.z"), targets("x.y.q"), targets("x.q"), targets("q")], [["e"], ["d"], ["c"], ["b"]]);
}

#[test]
fn a_class_is_spelled_by_the_event() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "context": {},
        "states": { "a": { "on": { "x.*": { "actions": { "type": "fsm.assign", "params": {
            "last": { "$event": "type" }, "size": { "$event": "rows.length" }, "second": { "$event": "rows.1.n" }, "none": { "$event": "rows.7" },
        } } } } } },
    }));
    let mut run = Run::new(&machine);
    let payload: Map<String, Value> = serde_json::from_value(json!({ "rows": [1, { "n": "two" }] })).unwrap();
    run.give("x.why", EventData::Payload(&payload));
    assert_eq!(Value::Object(run.instance.context().to_json()), json!({ "last": "x.why", "size": 2, "second": "two" }));
}

#[test]
fn texts_of_any_length_are_kept() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "context": { "last": null },
        "states": { "a": { "on": { "SET": { "actions": { "type": "fsm.assign", "params": { "last": { "$event": "value" } } } } } } },
    }));
    let mut run = Run::new(&machine);
    let values = ["", "io", "ääääääa", "äääääää", "äääääääa", "fourteen bytes", "fifteen bytes…"].map(Value::from);
    for value in values.into_iter().chain([json!(null), json!(true), json!([1, "x"]), json!(1.5)]) {
        run.give("SET", EventData::Payload(&Map::from_iter([("value".to_owned(), value.clone())])));
        let slot = machine.context_slot("last").unwrap();
        assert_eq!(run.instance.context().get(slot), Some(value));
        let mut again = machine.initial_context();
        again.set(slot, &run.instance.context().get(slot).unwrap());
        assert_eq!(again.to_json(), run.instance.context().to_json());
    }
}

#[test]
fn an_assign_computes_before_it_stores() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a", "context": { "x": 1, "y": "two", "deep": { "n": [5] } },
        "states": { "a": { "entry": { "type": "fsm.assign", "params": {
            "x": { "$context": "y" }, "y": { "$context": "x" }, "z": { "$context": "deep.n.0" }, "gone": { "$context": "nowhere" },
            "list": [1, 2], "n": { "$inc": 2.5 },
        } } } },
    }));
    let run = Run::new(&machine);
    let expected = json!({ "x": "two", "y": 1, "deep": { "n": [5] }, "z": 5, "list": [1, 2], "n": 2.5 });
    assert_eq!(Value::Object(run.instance.context().to_json()), expected);
}

#[test]
fn undefined_and_null_are_told_apart() {
    let guard = |name: &str, key: &str, value: Value| json!({ "type": name, "params": { "key": key, "value": value } });
    let holds = |guard: Value| {
        let machine = machine_of_value(json!({
            "id": "m", "initial": "a", "context": { "nothing": null, "word": "b", "yes": true },
            "states": { "a": { "on": { "GO": { "guard": guard, "target": "b" } } }, "b": {} },
        }));
        Run::new(&machine).send("GO") == Handled::Transition
    };
    assert!(holds(guard("fsm.eq", "nothing", Value::Null)));
    assert!(!holds(guard("fsm.eq", "missing", Value::Null)));
    assert!(holds(guard("fsm.eq", "missing", json!({ "$context": "absent" }))));
    assert!(holds(guard("fsm.lt", "nothing", json!(1))), "null counts as 0");
    assert!(!holds(guard("fsm.lt", "missing", json!(1))), "undefined is not a number");
    assert!(holds(guard("fsm.gte", "word", json!("a"))));
    assert!(holds(guard("fsm.lte", "yes", json!("1"))));
    assert!(holds(guard("fsm.eq", "word.length", json!(1))));
}

#[test]
fn guards_of_the_program_get_their_params() {
    let machine = machine_of_value(json!({
        "id": "m", "initial": "a",
        "states": { "a": { "on": { "GO": [
            { "guard": { "type": "fsm.and", "params": { "guards": [{ "type": "small", "params": { "n": 3 } }, "late"] } }, "target": "b" },
            { "guard": "late", "target": "b" },
        ] } }, "b": {} },
    }));
    let mut run = Run::new(&machine);
    run.log.take();
    run.log.yes.push("small");
    assert_eq!(run.send("GO"), Handled::Unhandled);
    assert_eq!(run.log.take(), ["small{\"n\":3}? GO", "late? GO", "late? GO", "a --- a"]);
    assert_eq!(machine.guard_names().map(|(_, name)| name).collect::<Vec<_>>(), ["small", "late"]);
}

#[test]
fn a_machine_can_be_asked_about_itself() {
    let (_, text) = super::examples().remove(1);
    let machine = machine(&text);
    let names: Vec<&str> = machine.states().map(|state| machine.state_name(state)).collect();
    assert_eq!(names[..5], ["", "received", "processing", "processing.validating", "processing.transforming"]);
    let attempting = machine.state("processing.sinking.attempting").unwrap();
    assert!(machine.is_leaf(attempting) && !machine.is_final(attempting));
    assert_eq!(machine.state_id(attempting), "order.processing.sinking.attempting");
    let around: Vec<&str> = machine.configuration(attempting).map(|state| machine.state_name(state)).collect();
    assert_eq!(around, ["processing.sinking.attempting", "processing.sinking", "processing", ""]);
    assert_eq!(machine.parent(StateId::ROOT), None);
    let sunk = machine.state("sunk").unwrap();
    assert_eq!((machine.tags(sunk), machine.has_tag(sunk, "ok"), machine.has_tag(sunk, "error")), (&["ok".to_owned()][..], true, false));
    let timers: Vec<(&str, &str)> =
        machine.timers().map(|id| machine.timer(id)).map(|timer| (timer.key.as_str(), machine.event_name(timer.event))).collect();
    assert_eq!(timers[0], ("deadline", "xstate.after.deadline.order.processing"));
    assert_eq!(machine.definition().id, "order");
    assert_eq!(machine.max_iterations(), 200);
    let sink = machine.state_invocations(attempting)[0];
    let sink = machine.invocation(sink);
    assert_eq!((sink.src.as_str(), sink.state, machine.event_name(sink.done)), ("sink", attempting, "xstate.done.actor.sink"));
    let paths: Vec<&str> =
        machine.candidates(attempting, sink.error).map(|candidate| machine.transition(candidate.transition).path.as_str()).collect();
    let on_error = "states.processing.states.sinking.states.attempting.invoke.onError";
    assert_eq!(paths, [format!("{on_error}[0]"), format!("{on_error}[1]")]);
}
