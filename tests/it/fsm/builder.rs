//! The same machines written in Rust and in JSON.

use serde_json::{Value, json};
use sluicegate::fsm::builder::{
    Backoff, Invoke, State, Transition, all, any, assign, eq, event_in, from_context, from_event, gt, gte, increment, lt, lte, not, raise,
    raise_with, stay, to,
};
use sluicegate::fsm::{Definition, Jitter, check};

use super::{read, repository};

fn failed_to(target: &str) -> Transition {
    to(target).action(assign("error", from_event("error.kind")))
}

fn timed_out() -> Transition {
    to("retried").action(assign("error", "timeout"))
}

fn default_lifecycle() -> Definition {
    let stage = |name: &str, next: &str, then: &str| {
        let work = Invoke::new(name).on_done(to(then).action(assign("attempt", 0)));
        (State::new().tag("running").entry(assign("stage", next)), work)
    };
    let (received, validate) = stage("validate", "validate", "validated");
    let (validated, transform) = stage("transform", "transform", "transformed");
    let invalid = failed_to("rejected").when(event_in("error.kind", ["invalid"]));
    Definition::new(
        "chunk",
        State::starting_in("received")
            .description("Default chunk lifecycle. A state names what the chunk has achieved; its invocation does the next step.")
            .on("CANCEL", ".cancelled")
            .state("received", received.invoke(validate.on_error([invalid, failed_to("retried")])).after("stageTimeout", timed_out()))
            .state("validated", validated.invoke(transform.on_error(failed_to("retried"))).after("stageTimeout", timed_out()))
            .state(
                "transformed",
                State::new()
                    .tag("running")
                    .entry(assign("stage", "sink"))
                    .invoke(Invoke::new("sink").on_done("sunk").on_error(failed_to("retried"))),
            )
            .state(
                "retried",
                State::new()
                    .tag("waiting")
                    .entry(increment("attempt"))
                    .always(to("rejected").when(gt("attempt", from_context("maxAttempts"))))
                    .after("retryBackoff", to("received").when(eq("stage", "validate")))
                    .after("retryBackoff", to("validated").when(eq("stage", "transform")))
                    .after("retryBackoff", "transformed"),
            )
            .state("rejected", State::new().tag("running").invoke(Invoke::new("deadLetter").on_done("failed").on_error("failed")))
            .state("sunk", State::end().tag("ok"))
            .state("failed", State::end().tag("error"))
            .state("cancelled", State::end().tag("cancelled")),
    )
    .schema("./definition.schema.json")
    .version("1.0.0")
    .delay("stageTimeout", 30_000)
    .delay("retryBackoff", Backoff::new(100).factor(2).max(5_000).by("attempt").jitter(Jitter::Full))
    .context("attempt", 0)
    .context("maxAttempts", 3)
    .context("stage", "validate")
    .context("error", Value::Null)
}

fn nested() -> Definition {
    let dead = |reason: Value| to("#order.deadLettering").action(assign("reason", reason));
    let again = event_in("error.kind", ["io", "timeout", "throttled"]);
    let sinking = State::starting_in("attempting")
        .initially(assign("attempt", 0))
        .on_done("completed")
        .state(
            "attempting",
            State::new()
                .entry(increment("attempt"))
                .invoke(
                    Invoke::new("sink")
                        .on_done("written")
                        .on_error([to("backoff").when(all([lt("attempt", 3), again])), dead(from_event("error.kind"))]),
                )
                .after("sinkTimeout", [to("backoff").when(lt("attempt", 3)), dead("sink-timeout".into())]),
        )
        .state("backoff", State::new().tag("waiting").after("sinkBackoff", "attempting"))
        .state("written", State::end());
    let processing = State::starting_in("validating")
        .entry("leaseChunk")
        .exit("releaseChunk")
        .on("CANCEL", "cancelled")
        .after("deadline", to("deadLettering").action(assign("reason", "deadline")))
        .on_done("sunk")
        .state(
            "validating",
            State::new().invoke(
                Invoke::new("validate")
                    .on_done([to("completed").when(event_in("output.verdict", ["skip"])), to("transforming")])
                    .on_error(dead("invalid".into())),
            ),
        )
        .state(
            "transforming",
            State::new()
                .invoke(
                    Invoke::new("transform").input(json!({ "profile": "default" })).on_done("sinking").on_error(dead("transform".into())),
                )
                .after("transformTimeout", dead("transform-timeout".into())),
        )
        .state("sinking", sinking)
        .state("completed", State::end());
    Definition::new(
        "order",
        State::starting_in("received")
            .description("Nested stages, each with its own attempt loop; one overall deadline; dead-lettering that may itself fail.")
            .state("received", State::new().on("DISPATCH", "processing").on("CANCEL", "cancelled"))
            .state("processing", processing)
            .state("deadLettering", State::new().invoke(Invoke::new("deadLetter").on_done("deadLettered").on_error("lost")))
            .state("sunk", State::end().tag("ok"))
            .state("deadLettered", State::end().tag("error"))
            .state("lost", State::end().tag("error").entry("alarm"))
            .state("cancelled", State::end().tag("cancelled")),
    )
    .version("1.0.0")
    .delay("deadline", 60_000)
    .delay("transformTimeout", 2_000)
    .delay("sinkTimeout", 5_000)
    .delay("sinkBackoff", Backoff::new(250).factor(2).max(10_000).by("attempt"))
    .context("attempt", 0)
    .context("reason", Value::Null)
}

fn parsed(path: &str) -> Definition {
    serde_json::from_str(&read(&repository(path))).unwrap()
}

/// Equality does not look at the order of keys; the printed form does.
fn assert_same(built: &Definition, parsed: &Definition) {
    assert_eq!(built, parsed);
    assert_eq!(serde_json::to_string_pretty(built).unwrap(), serde_json::to_string_pretty(parsed).unwrap());
}

#[test]
fn the_default_lifecycle_built_is_the_file() {
    assert_same(&default_lifecycle(), &parsed("fsm-definitions/chunk.json"));
}

#[test]
fn a_nested_definition_built_is_the_file() {
    assert_same(&nested(), &parsed("tests/conformance/examples/2-nested-retry-dead-letter.json"));
}

#[test]
fn every_part_can_be_built() {
    let built = Definition::new(
        "m",
        State::starting_in("a")
            .meta("note", "ours")
            .state(
                "a",
                State::new()
                    .id("first")
                    .entry(assign("n", 1).param("m", from_context("n")))
                    .entry(raise("GO"))
                    .exit(raise_with("LEFT", json!({ "why": 1 }).as_object().unwrap().clone()))
                    .forbid("CANCEL")
                    .on("GO", to("b").when(any([not("ready"), lte("n", 3), gte("n", 1)])).reenter().description("on"))
                    .on("NOTE", stay().action("log"))
                    .on("OLD", Vec::new()),
            )
            .state("b", State::end().output(json!({ "kind": "ok" }))),
    )
    .allow("parked@states.a")
    .max_iterations(9)
    .context("n", 0);
    let parsed: Definition = serde_json::from_value(json!({
        "id": "m", "initial": "a", "context": { "n": 0 }, "options": { "maxIterations": 9 },
        "meta": { "note": "ours", "fsm": { "allow": ["parked@states.a"] } },
        "states": {
            "a": {
                "id": "first",
                "entry": [
                    { "type": "fsm.assign", "params": { "n": 1, "m": { "$context": "n" } } },
                    { "type": "fsm.raise", "params": { "event": { "type": "GO" } } },
                ],
                "exit": { "type": "fsm.raise", "params": { "event": { "type": "LEFT", "why": 1 } } },
                "on": {
                    "CANCEL": {},
                    "GO": {
                        "target": "b", "reenter": true, "description": "on",
                        "guard": { "type": "fsm.or", "params": { "guards": [
                            { "type": "fsm.not", "params": { "guard": "ready" } },
                            { "type": "fsm.lte", "params": { "key": "n", "value": 3 } },
                            { "type": "fsm.gte", "params": { "key": "n", "value": 1 } },
                        ] } },
                    },
                    "NOTE": { "actions": "log" },
                    "OLD": [],
                },
            },
            "b": { "type": "final", "output": { "kind": "ok" } },
        },
    }))
    .unwrap();
    assert_same(&built, &parsed);
}

#[test]
fn a_built_definition_is_judged_by_the_same_rules() {
    let mut odd = State::end();
    odd.on.insert("GO".to_owned(), vec![stay()]);
    let nonsense = Definition::new("m", State::starting_in("a").state("a", odd).state("b.c", State::new()).on_done("a"));
    let report = check(&nonsense, None);
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["unknown-key", "bad-target", "unknown-key", "bad-name"], "{report}");
    assert!(report.findings.iter().all(|finding| finding.position.is_none()));
}
