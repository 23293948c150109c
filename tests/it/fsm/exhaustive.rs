//! Every pair of state and event, of every definition that ships and of the examples.
//!
//! A second, plain reading of the selection rules works on the definition as written; the compiled tables must name the
//! same transitions in the same order. Then every reachable leaf is met with every event, under all outcomes of guards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use insta::assert_snapshot;
use serde_json::{Value, json};
use sluicegate::fsm::definition::{State, Transition};
use sluicegate::fsm::{
    Context, Definition, Effects, Event, EventData, EventId, GuardId, Handled, Host, Instance, Machine, Microstep, StateId, Status,
    TransitionId,
};

use super::{examples, machine, shipped};

/// The transitions of one state for one event name, as (path, transition).
fn own_candidates<'d>(definition: &'d Definition, path: &str, id: &str, state: &'d State, event: &str) -> Vec<(String, &'d Transition)> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let quoted = |key: &str| if key.contains(['.', '*']) { format!("[{key:?}]") } else { format!(".{key}") };
    let mut lists: Vec<(String, String, &'d [Transition])> = Vec::new();
    for (descriptor, list) in &state.on {
        lists.push((descriptor.clone(), below(&format!("on{}", quoted(descriptor))), list));
    }
    for (key, list) in &state.after {
        lists.push((format!("xstate.after.{key}.{id}"), below(&format!("after.{key}")), list));
    }
    for (index, invoke) in state.invoke.iter().enumerate() {
        let own = invoke.id.clone().unwrap_or_else(|| format!("{index}.{id}"));
        let place = if state.invoke.len() > 1 { format!("invoke[{index}]") } else { "invoke".to_owned() };
        lists.push((format!("xstate.done.actor.{own}"), below(&format!("{place}.onDone")), &invoke.on_done));
        lists.push((format!("xstate.error.actor.{own}"), below(&format!("{place}.onError")), &invoke.on_error));
    }
    lists.push((format!("xstate.done.state.{id}"), below("onDone"), &state.on_done));
    assert!(!definition.id.is_empty());
    lists.retain(|(descriptor, _, _)| {
        descriptor == event
            || descriptor == "*"
            || descriptor.strip_suffix('*').is_some_and(|prefix| format!("{event}.").starts_with(prefix))
    });
    lists.sort_by_key(|(descriptor, _, _)| (descriptor != event, std::cmp::Reverse(descriptor.len())));
    let number = |(path, list): (String, &'d [Transition])| -> Vec<(String, &'d Transition)> {
        let item = |(index, transition)| (if list.len() > 1 { format!("{path}[{index}]") } else { path.clone() }, transition);
        list.iter().enumerate().map(item).collect()
    };
    lists.into_iter().flat_map(|(_, path, list)| number((path, list))).collect()
}

/// The paths of the candidates, leaf to root, up to the first without a guard.
fn plain_candidates(definition: &Definition, leaf: &str, event: &str) -> Vec<String> {
    let mut chain = vec![(String::new(), definition.id.clone(), &definition.root)];
    let (mut path, mut name, mut state) = (String::new(), definition.id.clone(), &definition.root);
    for key in leaf.split('.') {
        state = &state.states[key];
        path = format!("{path}{}states.{key}", if path.is_empty() { "" } else { "." });
        name = format!("{name}.{key}");
        chain.push((path.clone(), state.id.clone().unwrap_or_else(|| name.clone()), state));
    }
    let all = chain.iter().rev().flat_map(|(path, id, state)| own_candidates(definition, path, id, state, event));
    let mut paths = Vec::new();
    if state.is_final && chain.len() == 2 {
        return paths;
    }
    for (path, transition) in all {
        paths.push(path);
        if transition.guard.is_none() {
            break;
        }
    }
    paths
}

/// A name that belongs to the event, or to its class and to no narrower one.
fn spelling(machine: &Machine, event: EventId) -> String {
    match machine.event_name(event) {
        "*" => "nobody-knows-this".to_owned(),
        name => name.replace(".*", ".nobody-knows-this"),
    }
}

#[test]
fn the_tables_say_what_the_definition_says() {
    for (name, text) in shipped().into_iter().chain(examples()) {
        let machine = machine(&text);
        for leaf in machine.states().filter(|state| machine.is_leaf(*state)) {
            for event in machine.events() {
                let compiled: Vec<&str> =
                    machine.candidates(leaf, event).map(|candidate| machine.transition(candidate.transition).path.as_str()).collect();
                let plain = plain_candidates(machine.definition(), machine.state_name(leaf), &spelling(&machine, event));
                assert_eq!(compiled, plain, "{name}: {} on {}", machine.state_name(leaf), machine.event_name(event));
            }
        }
    }
}

#[test]
fn the_table_of_the_default_lifecycle_is_as_reviewed() {
    let machine = machine(&shipped().into_iter().find(|(name, _)| name == "chunk").unwrap().1);
    let mut table = String::new();
    for leaf in machine.states().filter(|state| machine.is_leaf(*state)) {
        writeln!(table, "{}", machine.state_name(leaf)).unwrap();
        let always = machine.always_candidates(leaf).map(|candidate| ("always", candidate));
        let others = machine.events().flat_map(|event| machine.candidates(leaf, event).map(move |candidate| (event, candidate)));
        let others = others.map(|(event, candidate)| (machine.event_name(event), candidate));
        for (event, candidate) in always.chain(others) {
            let guarded = if candidate.guarded { " if a guard holds" } else { "" };
            writeln!(table, "    {event} → {}{guarded}", machine.state_name(candidate.target)).unwrap();
        }
    }
    assert_snapshot!(table);
}

/// Says the same to every guard, or asks the bits of a number.
#[derive(Clone)]
struct Answers {
    bits: u32,
    steps: Vec<(StateId, StateId, Option<TransitionId>)>,
}

impl Host for Answers {
    fn guard(&mut self, guard: GuardId, _: Option<&Value>, _: &Context, _: &Event<'_>) -> bool {
        self.bits >> guard.index() & 1 == 1
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        self.steps.push((step.from, step.to, step.transition));
    }
}

/// One event to a copy of the instance; checks it against the tables and returns the copy.
fn step(machine: &Machine, before: &Instance, event: &Event<'_>, bits: u32) -> Instance {
    let mut after = before.clone();
    let (mut host, mut effects) = (Answers { bits, steps: Vec::new() }, Effects::new());
    let handled = machine.send(&mut after, event, &mut host, &mut effects).unwrap();
    let candidates: Vec<_> = machine.candidates(before.state(), event.id).collect();
    let (from, to, taken) = host.steps[0];
    assert_eq!(from, before.state());
    match taken {
        Some(taken) => {
            assert_eq!(handled, Handled::Transition);
            assert!(candidates.iter().any(|candidate| candidate.transition == taken && candidate.target == to));
        }
        None => {
            assert_eq!((handled, to), (Handled::Unhandled, from));
            assert!(candidates.iter().all(|candidate| candidate.guarded), "an unguarded candidate is always taken");
        }
    }
    // Each later microstep goes on where the one before ended.
    assert!(host.steps.windows(2).all(|pair| pair[0].1 == pair[1].0));
    assert_eq!(host.steps.last().unwrap().1, after.state());
    for invocation in machine.invocations() {
        let active = machine.state_invocations(after.state()).contains(&invocation);
        assert!(!after.is_running(invocation) || (active && after.status() == Status::Active));
    }
    after
}

#[test]
fn every_leaf_meets_every_event() {
    let values =
        [Value::Null, json!({ "kind": "invalid", "verdict": "skip", "score": 95 }), json!({ "kind": "io", "verdict": "ok", "score": 50 })];
    for (name, text) in shipped().into_iter().chain(examples()) {
        let machine = machine(&text);
        let guards = u32::try_from(machine.guard_names().count()).unwrap();
        let start = machine.start(machine.initial_context(), &mut Answers { bits: 0, steps: Vec::new() }, &mut Effects::new()).unwrap();
        let mut seen = BTreeSet::new();
        let mut waiting = VecDeque::from([start]);
        let mut pairs: BTreeMap<&str, BTreeSet<EventId>> = BTreeMap::new();
        while let Some(instance) = waiting.pop_front() {
            if !seen.insert((instance.state(), Value::Object(instance.context().to_json()).to_string())) || seen.len() > 400 {
                continue;
            }
            for event in machine.events().filter(|event| *event != EventId::INIT) {
                pairs.entry(machine.state_name(instance.state())).or_default().insert(event);
                let spelled = spelling(&machine, event);
                let payloads = values.iter().filter_map(Value::as_object).map(EventData::Payload);
                let data: Vec<EventData<'_>> = match machine.event_name(event) {
                    name if name.starts_with("xstate.done") => values.iter().map(EventData::Output).collect(),
                    name if name.starts_with("xstate.error") => values.iter().map(EventData::Error).collect(),
                    _ => std::iter::once(EventData::None).chain(payloads).collect(),
                };
                for (data, bits) in data.into_iter().flat_map(|data| (0..1 << guards).map(move |bits| (data, bits))) {
                    let after = step(&machine, &instance, &Event { id: event, name: Some(&spelled), data }, bits);
                    if after.status() == Status::Active {
                        waiting.push_back(after);
                    }
                }
            }
        }
        let ends = |state: &StateId| machine.is_final(*state) && machine.parent(*state) == Some(StateId::ROOT);
        // A leaf that an unguarded `always` leaves at once is never at rest.
        let transient = |state: &StateId| machine.always_candidates(*state).any(|candidate| !candidate.guarded);
        let inner_final = |state: &StateId| machine.is_final(*state);
        for leaf in machine.states().filter(|state| machine.is_leaf(*state) && !ends(state) && !transient(state) && !inner_final(state)) {
            let met = pairs.get(machine.state_name(leaf)).map_or(0, BTreeSet::len);
            assert_eq!(met, machine.events().count() - 1, "{name}: {}", machine.state_name(leaf));
        }
    }
}
