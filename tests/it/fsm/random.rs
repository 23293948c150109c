//! Nothing that can be written makes the core panic, and its parts agree with each other.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use sluicegate::fsm::{
    Class, CompileOptions, Context, Definition, Effect, Effects, Event, EventData, EventId, GuardId, Host, Machine, Microstep, StateId,
    Status, TransitionId, check, check_text, compile,
};

use super::{examples, read, repository, shipped};

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(&read(&repository("fsm-definitions/definition.schema.json"))).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

static VALID: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let corpus = read(&repository("tests/conformance/golden/cases.jsonl"));
    let random = corpus.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["definition"].clone());
    let written = shipped().into_iter().chain(examples()).map(|(_, text)| serde_json::from_str(&text).unwrap());
    written.chain(random).collect()
});

static CHUNK: LazyLock<Machine> = LazyLock::new(|| super::machine_of_value(VALID[0].clone()));

/// Words that mean something to the format, so that random JSON is not merely unknown keys.
const WORDS: &[&str] = &[
    "id",
    "initial",
    "states",
    "on",
    "after",
    "always",
    "invoke",
    "onDone",
    "onError",
    "entry",
    "exit",
    "type",
    "final",
    "target",
    "guard",
    "actions",
    "params",
    "reenter",
    "meta",
    "fsm",
    "delays",
    "allow",
    "context",
    "options",
    "maxIterations",
    "tags",
    "output",
    "fsm.assign",
    "fsm.raise",
    "fsm.lt",
    "fsm.and",
    "guards",
    "key",
    "value",
    "$inc",
    "$event",
    "$context",
    "event",
    "a",
    "b",
    "m",
    ".a",
    "#m",
    "#m.a",
    "*",
    "x.*",
    "100",
    "1e2",
    "__proto__",
    "parallel",
    "",
    "xstate.init",
    "parked",
    "src",
    "base",
    "ä",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(WORDS).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key = prop_oneof![9 => select(WORDS).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// One change to one place of a definition.
#[derive(Clone, Debug)]
enum Mutation {
    Drop,
    Rename(&'static str),
    Replace(Value),
    Swap(Index),
    Wrap,
}

fn mutation() -> impl Strategy<Value = (Index, Mutation)> {
    let change = prop_oneof![
        Just(Mutation::Drop),
        select(WORDS).prop_map(Mutation::Rename),
        json_value().prop_map(Mutation::Replace),
        any::<Index>().prop_map(Mutation::Swap),
        Just(Mutation::Wrap),
    ];
    (any::<Index>(), change)
}

/// The JSON pointers of all places in `value`.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    let members: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (escape(key), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in members {
        let place = format!("{here}/{key}");
        places(value, &place, found);
        found.push(place);
    }
}

fn mutate(value: &mut Value, at: Index, mutation: &Mutation) {
    let mut found = Vec::new();
    places(value, "", &mut found);
    if found.is_empty() {
        return;
    }
    let place = found[at.index(found.len())].clone();
    let (parent, key) = place.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    match mutation {
        Mutation::Replace(new) => *value.pointer_mut(&place).unwrap() = new.clone(),
        Mutation::Swap(other) => {
            let other = value.pointer(&found[other.index(found.len())]).unwrap().clone();
            *value.pointer_mut(&place).unwrap() = other;
        }
        Mutation::Wrap => {
            let inner = value.pointer_mut(&place).unwrap();
            *inner = json!([inner.take()]);
        }
        Mutation::Drop | Mutation::Rename(_) => match value.pointer_mut(parent).unwrap() {
            Value::Array(list) => drop(list.remove(key.parse().unwrap())),
            Value::Object(map) => {
                let old = map.shift_remove(&key).unwrap();
                if let Mutation::Rename(new) = mutation {
                    map.insert((*new).to_owned(), old);
                }
            }
            _ => unreachable!("a place has a list or an object around it"),
        },
    }
}

fn mutated() -> impl Strategy<Value = Value> {
    let base = any::<Index>().prop_map(|at| VALID[at.index(VALID.len())].clone());
    (base, prop::collection::vec(mutation(), 1..5)).prop_map(|(mut value, mutations)| {
        for (at, mutation) in mutations {
            mutate(&mut value, at, &mutation);
        }
        value
    })
}

/// Answers guards by a counter, so that all kinds of ways are gone.
struct Fickle(u64);

impl Host for Fickle {
    fn guard(&mut self, guard: GuardId, _: Option<&Value>, _: &Context, _: &Event<'_>) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(guard.index() as u64 + 1);
        self.0 >> 40 & 1 == 1
    }
}

/// Everything that a definition can be put through.
fn put_through(text: &str) {
    let (definition, report) = check_text(text, None);
    let read = serde_json::from_str::<Definition>(text);
    assert_eq!(definition.is_some(), read.is_ok(), "{report}\n{text}");
    let end = sluicegate::fsm::Position { line: text.lines().count() + 1, column: usize::MAX };
    assert!(report.findings.iter().all(|finding| finding.position.is_some_and(|position| position <= end)));
    let Some(definition) = definition else {
        assert!(!report.is_clean(Class::Error));
        return;
    };
    let canonical = serde_json::to_string(&definition).unwrap();
    assert_eq!(serde_json::from_str::<Definition>(&canonical).unwrap(), definition);
    // Keys that come twice are a fault of the text, not of the definition.
    let own = |report: &sluicegate::fsm::Report| {
        let mut findings: Vec<_> = report.findings.iter().filter(|finding| finding.code != "duplicate-key").cloned().collect();
        findings.iter_mut().for_each(|finding| finding.position = None);
        findings.sort_by(|a, b| (a.code, &a.path, &a.message).cmp(&(b.code, &b.path, &b.message)));
        findings
    };
    let judged = check(&definition, None);
    assert_eq!(own(&judged), own(&report), "{text}");
    match compile(definition, &CompileOptions { default_max_iterations: 30, ..Default::default() }) {
        Ok(machine) => {
            assert!(judged.is_clean(Class::Error));
            let (mut host, mut effects) = (Fickle(7), Effects::new());
            let Ok(mut instance) = machine.start(machine.initial_context(), &mut host, &mut effects) else { return };
            let value = json!({ "kind": "io" });
            for round in 0..200 {
                let ids: Vec<EventId> = machine.events().collect();
                let started = effects.iter().find_map(|effect| match effect {
                    Effect::Start(invocation) => Some(machine.invocation(*invocation).error),
                    _ => None,
                });
                let id = started.filter(|_| round % 3 == 0).unwrap_or(ids[round * 7 % ids.len()]);
                let data = if round % 2 == 0 { EventData::Error(&value) } else { EventData::Output(&value) };
                if machine.send(&mut instance, &Event { id, name: None, data }, &mut host, &mut effects).is_err() {
                    assert_eq!(instance.status(), Status::Error);
                }
                assert!(machine.is_leaf(instance.state()));
            }
        }
        Err(refused) => assert_eq!(own(&refused), own(&judged)),
    }
}

/// Keeps what really happened.
struct Witness<'m> {
    machine: &'m Machine,
    fickle: Fickle,
    taken: Vec<TransitionId>,
    been: Vec<StateId>,
}

impl Host for Witness<'_> {
    fn guard(&mut self, guard: GuardId, params: Option<&Value>, context: &Context, event: &Event<'_>) -> bool {
        self.fickle.guard(guard, params, context, event)
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        self.taken.extend(step.transition);
        self.been.extend(self.machine.configuration(step.to));
    }
}

impl Witness<'_> {
    /// A run with whatever may happen: events from outside, and timers and outcomes of what is armed and running.
    fn run(&mut self, seed: u64) {
        let machine = self.machine;
        let values = ["io", "bad", "ok", "invalid", "skip"].map(|kind| json!({ "kind": kind, "verdict": kind, "score": 5 }));
        let mut effects = Effects::new();
        let Ok(mut instance) = machine.start(machine.initial_context(), self, &mut effects) else { return };
        let (mut armed, mut random) = (Vec::new(), Fickle(seed));
        let mut pick = |count: usize| {
            random.0 = random.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random.0 >> 33).unwrap() % count
        };
        for _ in 0..120 {
            for effect in &effects {
                match *effect {
                    Effect::Arm { timer, .. } => armed.push(timer),
                    Effect::Cancel(timer) => armed.retain(|other| *other != timer),
                    Effect::Start(_) | Effect::Stop(_) => {}
                }
            }
            let outside = machine.events().filter(|event| !machine.event_name(*event).starts_with("xstate."));
            let mut events: Vec<Event<'_>> = outside.map(Event::bare).collect();
            events.extend(armed.iter().map(|timer| Event::bare(machine.timer(*timer).event)));
            for running in machine.invocations().filter(|id| instance.is_running(*id)) {
                let (running, value) = (machine.invocation(running), &values[pick(values.len())]);
                events.push(Event { id: running.done, name: None, data: EventData::Output(value) });
                events.push(Event { id: running.error, name: None, data: EventData::Error(value) });
            }
            let event = events[pick(events.len())];
            armed.retain(|timer| machine.timer(*timer).event != event.id);
            if machine.send(&mut instance, &event, self, &mut effects).is_err() {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_can_be_checked(text in ".{0,64}") {
        put_through(&text);
    }

    #[test]
    fn any_json_can_be_checked(value in json_value()) {
        put_through(&value.to_string());
    }

    #[test]
    fn any_root_can_be_checked(members in prop::collection::vec((select(WORDS), json_value()), 0..8)) {
        let mut root: Map<String, Value> = json!({ "id": "m", "initial": "a", "states": { "a": {} } }).as_object().unwrap().clone();
        root.extend(members.into_iter().map(|(key, value)| (key.to_owned(), value)));
        put_through(&Value::Object(root).to_string());
    }

    #[test]
    fn any_mutated_definition_can_be_checked(value in mutated()) {
        put_through(&value.to_string());
    }

    /// What the check calls impossible does not happen.
    #[test]
    fn a_run_never_contradicts_the_check(value in mutated(), seed in any::<u64>()) {
        let Ok(definition) = serde_json::from_value::<Definition>(value) else { return Ok(()) };
        let report = check(&definition, None);
        let Ok(machine) = compile(definition, &CompileOptions { default_max_iterations: 30, ..Default::default() }) else { return Ok(()) };
        let mut witness = Witness { machine: &machine, fickle: Fickle(seed), taken: Vec::new(), been: Vec::new() };
        for round in 0..5 {
            witness.run(seed ^ round);
        }
        let path = |state: StateId| machine.state_name(state).split('.').map(|key| format!("states.{key}")).collect::<Vec<_>>().join(".");
        let been: BTreeSet<String> = witness.been.iter().map(|state| path(*state)).collect();
        let taken: BTreeSet<&str> = witness.taken.iter().map(|id| machine.transition(*id).path.as_str()).collect();
        for finding in &report.findings {
            match finding.code {
                "unreachable-state" => prop_assert!(!been.contains(&finding.path), "{}", finding),
                "never-taken" => prop_assert!(!taken.contains(finding.path.as_str()), "{}", finding),
                _ => {}
            }
        }
    }

    /// The schema that editors use and the reader that decides accept the same shapes.
    #[test]
    fn the_schema_and_the_reader_agree(value in mutated()) {
        let read = serde_json::from_value::<Definition>(value.clone());
        let valid = SCHEMA.is_valid(&value);
        let faults = || SCHEMA.iter_errors(&value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect::<Vec<_>>();
        prop_assert_eq!(read.is_ok(), valid, "{:?}\n{:?}\n{}", read.err(), faults(), value);
    }

    /// No outcome of a walk is a panic either.
    #[test]
    fn any_script_can_be_walked(script in "([A-Z]{1,3}|[+]|[0-9]{1,3}|ms|done:|fail:|guard:|sink|validate|=|[{}\"\\[\\] ]){0,12}") {
        let _ = sluicegate::fsm::simulate::walk(&CHUNK, &script);
    }
}
