//! Checks beyond the corpus in `broken/`.

use serde_json::{Value, json};
use sluicegate::fsm::builder::{State, to};
use sluicegate::fsm::{CODES, Class, CompileOptions, Definition, Report, Role, Use, Vocabulary, check, check_text, compile};

use super::{examples, shipped};

fn codes(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

fn check_value(value: &Value) -> Report {
    check_text(&value.to_string(), None).1
}

#[test]
fn a_finding_reads_as_the_readme_says() {
    let text = "{\n  \"id\": \"m\", \"initial\": \"ä\",\n  \"states\": { \"ä\": {} }\n}";
    let (definition, report) = check_text(text, None);
    assert!(definition.is_none() && report.partial);
    let rule = "letters, digits, `_` and `-`, not beginning with a digit or `-`";
    let expected = format!(
        "E bad-name initial (2:25): `ä` is not a name: {rule}\n\
         E bad-name states.ä (3:15): `ä` cannot name a state: {rule}\n\
         The checks of the whole graph wait until these errors are mended.\n"
    );
    // `ä` has two bytes and one column.
    assert_eq!(report.to_string(), expected);
    assert_eq!(serde_json::to_value(&report.findings[0]).unwrap()["position"], json!({ "line": 2, "column": 25 }));
}

#[test]
fn compile_refuses_errors_and_nothing_else() {
    let lints = json!({ "id": "m", "initial": "a", "states": { "a": {}, "b": { "type": "final" } } });
    let definition: Definition = serde_json::from_value(lints).unwrap();
    assert!(!check(&definition, None).is_clean(Class::Lint));
    assert!(compile(definition.clone(), &CompileOptions::default()).is_ok());

    let closed = CompileOptions { vocabulary: Some(Vocabulary::new().handler("sink", Use::Required, Role::Ordered)), ..Default::default() };
    let report = compile(definition, &closed).unwrap_err();
    assert_eq!(report.errors().map(|finding| finding.code).collect::<Vec<_>>(), ["unused-handler"]);
}

#[test]
fn delays_can_be_replaced_as_a_whole() {
    let waits = Definition::new("m", State::starting_in("a").state("a", State::new().after("soon", "b")).state("b", State::end()));
    let with = |delays: Value| CompileOptions { delays: delays.as_object().cloned(), ..Default::default() };
    assert_eq!(codes(&compile(waits.clone(), &with(json!({}))).unwrap_err()), ["undefined-delay"]);
    assert!(compile(waits.clone(), &with(json!({ "soon": 5 }))).is_ok());
    let report = compile(waits, &with(json!({ "soon": { "bse": 5 } }))).unwrap_err();
    let first = "E unknown-key delays.soon.bse: unknown key `bse` in a delay; did you mean `base`?";
    assert_eq!((report.findings[0].to_string().as_str(), codes(&report)), (first, vec!["unknown-key", "missing-key"]));
}

#[test]
fn a_category_is_open_until_something_is_registered() {
    let (_, text) = examples().remove(3);
    let two_phase = |vocabulary: Vocabulary| {
        let (_, report) = check_text(&text, Some(&vocabulary));
        report.errors().map(|finding| finding.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(two_phase(Vocabulary::new()), [""; 0]);
    assert_eq!(two_phase(Vocabulary::new().guard("sinkHasCredit")), [""; 0]);
    assert_eq!(two_phase(Vocabulary::new().no_guards()), ["unknown guard `sinkHasCredit`"]);
    assert_eq!(two_phase(Vocabulary::new().action("acquireLease").action("releaseLease")), ["unknown action `pageOperator`"]);
    assert_eq!(two_phase(Vocabulary::closed()).len(), 1 + 3 + 3, "one guard, three actions, three handlers");
}

#[test]
fn watchers_run_beside_a_payload_handler() {
    let beside = json!({
        "id": "m", "initial": "a",
        "states": {
            "a": {
                "after": { "9": "done" },
                "invoke": [{ "src": "work", "onDone": "done", "onError": "done" }, { "src": "watch", "onError": "done" }],
            },
            "done": { "type": "final" },
        },
    });
    let program = Vocabulary::new().handler("work", Use::Required, Role::Payload).handler("watch", Use::Optional, Role::Watcher);
    assert_eq!(codes(&check_value(&beside)), ["two-payload-handlers"]);
    assert_eq!(codes(&check_text(&beside.to_string(), Some(&program)).1), [""; 0]);
}

/// A retry loop whose edges carry the given guards: on the error, on the way out, and on the timer.
fn retry(entry: &Value, on_error: &Value, leave: &Value, deadline: bool) -> Report {
    let mut work = json!({
        "initial": "trying", "onDone": "done",
        "states": {
            "trying": { "entry": entry, "invoke": { "src": "w", "onDone": "fin", "onError": on_error } },
            "waiting": { "always": leave, "after": { "10": "trying" } },
            "fin": { "type": "final" },
        },
    });
    if deadline {
        work["after"] = json!({ "9000": "done" });
    }
    let whole = json!({
        "id": "m", "initial": "work", "context": { "n": 0 }, "options": { "maxIterations": 9 },
        "states": { "work": work, "done": { "type": "final" } },
    });
    check_value(&whole)
}

#[test]
fn a_retry_is_bounded_by_a_counter_or_a_deadline() {
    let inc = |by: i32| json!({ "type": "fsm.assign", "params": { "n": { "$inc": by } } });
    let guard = |name: &str| json!({ "type": name, "params": { "key": "n", "value": 3 } });
    let not = |inner: Value| json!({ "type": "fsm.not", "params": { "guard": inner } });
    let both = |name: &str, inner: Value| json!({ "type": name, "params": { "guards": ["other", inner] } });
    let go = |guard: Value| json!([{ "target": "waiting", "guard": guard }, { "target": "#m.done" }]);
    let out = |guard: Value| json!({ "target": "#m.done", "guard": guard });
    let none = json!([]);
    let waiting = json!("waiting");

    for (name, report) in [
        ("guarded error", retry(&inc(1), &go(guard("fsm.lt")), &none, false)),
        ("guard and more", retry(&inc(1), &go(both("fsm.and", guard("fsm.lte"))), &none, false)),
        ("no guard to stay", retry(&inc(1), &go(not(guard("fsm.gte"))), &none, false)),
        ("way out before the timer", retry(&inc(1), &waiting, &out(guard("fsm.gt")), false)),
        ("way out or more", retry(&inc(2), &waiting, &out(both("fsm.or", guard("fsm.gte"))), false)),
        ("equal", retry(&inc(1), &waiting, &out(guard("fsm.eq")), false)),
        ("counting down", retry(&inc(-1), &go(guard("fsm.gt")), &none, false)),
        ("deadline", retry(&none, &waiting, &none, true)),
    ] {
        assert_eq!(codes(&report), [""; 0], "{name}");
    }
    for (name, report) in [
        ("nothing", retry(&none, &waiting, &none, false)),
        ("a counter that nobody asks", retry(&inc(1), &waiting, &none, false)),
        ("a guard that nobody moves", retry(&none, &go(guard("fsm.lt")), &none, false)),
        ("the wrong way", retry(&inc(-1), &go(guard("fsm.lt")), &none, false)),
        ("no step", retry(&inc(0), &go(guard("fsm.lt")), &none, false)),
        ("only perhaps", retry(&inc(1), &go(both("fsm.or", guard("fsm.lt"))), &none, false)),
        ("a way out that needs more", retry(&inc(1), &waiting, &out(both("fsm.and", guard("fsm.gt"))), false)),
        ("a guard of the program", retry(&inc(1), &go(json!("tryAgain")), &none, false)),
    ] {
        assert_eq!(codes(&report), ["unbounded-retry"], "{name}");
    }
}

#[test]
fn a_poll_is_no_retry() {
    let poll = json!({
        "id": "m", "initial": "waiting", "options": { "maxIterations": 9 },
        "states": {
            "waiting": { "always": { "guard": "credit", "target": "done" }, "after": { "10": { "target": "waiting", "reenter": true } } },
            "done": { "type": "final" },
        },
    });
    assert_eq!(codes(&check_value(&poll)), [""; 0]);
}

#[test]
fn an_always_that_leads_onward_needs_no_limit() {
    for (name, text) in shipped().into_iter().chain(examples()) {
        assert!(!codes(&check_text(&text, None).1).contains(&"missing-max-iterations"), "{name}");
    }
    // Round by way of a finished child: every step happens at once.
    let around = json!({
        "id": "m", "initial": "p",
        "states": {
            "p": {
                "initial": "x", "onDone": [{ "guard": "again", "target": "p", "reenter": true }, { "target": "end" }],
                "states": { "x": { "always": { "guard": "ready", "target": "y" }, "after": { "1": "y" } }, "y": { "type": "final" } },
            },
            "end": { "type": "final" },
        },
    });
    assert_eq!(codes(&check_value(&around)), ["missing-max-iterations"]);
    let limited = json!({ "options": { "maxIterations": 9 } });
    let mut around = around;
    around.as_object_mut().unwrap().extend(limited.as_object().unwrap().clone());
    assert_eq!(codes(&check_value(&around)), [""; 0]);
}

#[test]
fn an_always_cycle_with_a_way_out_is_no_error() {
    let cycle = |first: Value| {
        check_value(&json!({
            "id": "m", "initial": "a", "options": { "maxIterations": 9 },
            "states": { "a": { "always": first }, "b": { "always": "a" }, "end": { "type": "final" } },
        }))
    };
    assert_eq!(codes(&cycle(json!([{ "guard": "enough", "target": "end" }, { "target": "b" }]))), [""; 0]);
    // The guard only picks one of two ways into the same cycle.
    let stuck = cycle(json!([{ "guard": "enough", "target": "b" }, { "target": "b" }]));
    assert!(codes(&stuck).contains(&"endless-always"), "{stuck}");
    let alone = check_value(&json!({
        "id": "m", "initial": "a", "context": { "n": 0 },
        "states": { "a": { "always": { "actions": { "type": "fsm.assign", "params": { "n": { "$inc": 1 } } } } }, "b": { "type": "final" } },
    }));
    assert_eq!(codes(&alone), ["endless-always", "unreachable-state"]);
    // An unguarded `always` that changes nothing is taken once per event.
    let once = check_value(&json!({
        "id": "m", "initial": "a", "states": { "a": { "always": { "actions": "note" }, "after": { "1": "b" } }, "b": { "type": "final" } },
    }));
    assert_eq!(codes(&once), [""; 0]);
}

#[test]
fn an_allowance_may_name_one_place() {
    let parked = |allow: Value| {
        check_value(&json!({
            "id": "m", "initial": "a", "meta": { "fsm": { "allow": allow } },
            "states": { "a": { "on": { "GO": "b" } }, "b": { "on": { "GO": "c" } }, "c": { "type": "final" } },
        }))
    };
    assert_eq!(codes(&parked(json!([]))), ["parked", "parked"]);
    assert_eq!(codes(&parked(json!(["parked"]))), [""; 0]);
    let one = parked(json!(["parked@states.b"]));
    assert_eq!((codes(&one), one.findings[0].path.as_str()), (vec!["parked"], "states.a"));
    assert_eq!(codes(&parked(json!(["parked", "parked@states.b"]))), ["unused-allow"], "the first took it all");
}

#[test]
fn what_does_not_fit_a_table_is_refused() {
    let long = |count: usize| {
        let chain = |root: State, number: usize| root.state(format!("s{number}"), State::new().after("1", to(format!("s{}", number + 1))));
        let states = (0..count).fold(State::starting_in("s0"), chain);
        Definition::new("m", states.state(format!("s{count}"), State::end()))
    };
    assert_eq!(codes(&check(&long(100), None)), [""; 0]);
    assert_eq!(codes(&check(&long(5_000), None)), ["too-large"]);
    let deep = (0..70).fold(State::end(), |inner, _| State::starting_in("a").state("a", inner));
    assert_eq!(codes(&check(&Definition::new("m", deep), None)), ["too-large"]);
    let names =
        (0..61_000).fold(State::starting_in("a").state("a", State::new()), |root, number| root.entry(format!("act{number}").as_str()));
    assert_eq!(codes(&check(&Definition::new("m", names), None)), ["too-large"]);
}

#[test]
fn codes_are_unique_and_explained() {
    let mut names: Vec<&str> = CODES.iter().map(|code| code.name).collect();
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    assert!(CODES.iter().all(|code| code.about.ends_with('.')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CODES.len());
}
