//! Walks for people.

use insta::assert_snapshot;
use sluicegate::fsm::simulate::walk;

use super::{examples, machine, machine_of_value, shipped};

fn told(definition: &str, script: &str) -> String {
    let (_, text) = shipped().into_iter().chain(examples()).find(|(name, _)| name == definition).unwrap();
    walk(&machine(&text), script).unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_retry_reads_like_a_story() {
    assert_snapshot!(told("chunk", "done:validate done:transform fail:sink=io +40ms +60ms done:sink CANCEL"));
}

#[test]
fn payloads_guards_and_raised_events() {
    let script = r#"done:score={"score": 50} NOTE audit.view CLAMI CLAIM ASSIGN={"reviewer": "bo"} guard:autoRejectEnabled=true +1h"#;
    assert_snapshot!(told("3-quarantine-routing", script));
}

#[test]
fn nested_states_and_a_forbidden_event() {
    assert_snapshot!(told("4-two-phase-sink", "guard:sinkHasCredit=true +0.2s done:prepare BARRIER CANCEL fail:commit +50ms"));
}

#[test]
fn an_error_ends_the_run_and_a_loop_is_given_up() {
    let machine = machine_of_value(serde_json::json!({
        "id": "m", "initial": "a",
        "states": { "a": { "invoke": { "src": "w", "id": "work" }, "on": { "GO": "b" } }, "b": { "entry": { "type": "fsm.raise", "params": { "event": { "type": "GO" } } }, "on": { "GO": { "target": "b", "reenter": true } } } },
    }));
    let failed = walk(&machine, "fail:work GO").unwrap();
    assert!(
        failed.ends_with("0 ms: a --xstate.error.actor.work--> unhandled\n0 ms: GO ignored: the run has ended\n0 ms: error in a\n"),
        "{failed}"
    );
    let endless = walk(&machine, "GO").unwrap();
    assert!(endless.contains("given up: the macrostep takes more microsteps than options.maxIterations allows"), "{endless}");
}

#[test]
fn timers_without_end_are_told() {
    let again = serde_json::json!({ "target": "a", "reenter": true });
    let machine = machine_of_value(serde_json::json!({ "id": "m", "initial": "a", "states": { "a": { "after": { "0": again } } } }));
    let told = walk(&machine, "+1ms").unwrap();
    assert!(told.ends_with("1 ms: (10000 timers in one advance; the rest is left out)\n1 ms: active in a\n"), "{told}");
}

#[test]
fn a_bad_word_is_named() {
    let errors = [
        ("done:validate +100", "event 2 `+100`: a duration is a number with ms, s, m or h: +100ms, +1.5s"),
        ("+x1ms", "event 1 `+x1ms`: `x1` is not a number"),
        ("+-1ms", "event 1 `+-1ms`: `-1` is not a number"),
        ("done:validat", "event 1 `done:validat`: unknown invocation `validat`; did you mean `validate`?"),
        ("fail:nobody", "event 1 `fail:nobody`: unknown invocation `nobody`; the definition has deadLetter, sink, transform, validate"),
        ("done:sink", "event 1 `done:sink`: `sink` does not run here; in received validate does"),
        ("CANCEL done:validate", "event 2 `done:validate`: `validate` does not run here; in cancelled nothing does"),
        ("guard:ready=true", "event 1 `guard:ready=true`: unknown guard `ready`; the definition has none"),
        ("guard:ready", "event 1 `guard:ready`: say guard:NAME=true or guard:NAME=false"),
        ("faill:sink", "event 1 `faill:sink`: `faill:` is not known; done:, fail: and guard: are; did you mean `fail:`?"),
        ("CANCEL=1", "event 1 `CANCEL=1`: the payload of an event is a JSON object: NAME={\"key\": value}"),
        ("CAN-CEL!", "event 1 `CAN-CEL!`: not an event: a name, +100ms, done:WHO, fail:WHO or guard:NAME=true is"),
    ];
    for (script, message) in errors {
        assert_eq!(told("chunk", script), message);
    }
    let broken = told("chunk", r#"done:validate={"rows":}"#);
    assert!(broken.starts_with("event 1 `done:validate={\"rows\":}`: `{\"rows\":}` is neither a word nor JSON: "), "{broken}");
}
