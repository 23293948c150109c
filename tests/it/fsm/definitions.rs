//! The definitions that ship, and the examples of the kit.

use serde_json::{Value, json};
use sluicegate::fsm::{Class, Definition, Role, Use, Vocabulary, check, check_text};

use super::{examples, machine, read, repository, shipped};

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&read(&repository("fsm-definitions/definition.schema.json"))).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// What the exporter registers.
fn exporter() -> Vocabulary {
    Vocabulary::closed()
        .handler("validate", Use::Optional, Role::Payload)
        .handler("transform", Use::Optional, Role::Payload)
        .handler("sink", Use::Required, Role::Ordered)
        .handler("deadLetter", Use::Optional, Role::Ordered)
}

#[test]
fn all_are_valid_against_the_schema() {
    let schema = schema();
    for (name, text) in shipped().into_iter().chain(examples()) {
        let value: Value = serde_json::from_str(&text).unwrap();
        let faults: Vec<String> = schema.iter_errors(&value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert_eq!(faults, [""; 0], "{name}");
    }
}

#[test]
fn what_ships_has_no_finding_at_all() {
    for (name, text) in shipped() {
        let (definition, report) = check_text(&text, None);
        assert!(report.findings.is_empty(), "{name}:\n{report}");
        let report = check(&definition.unwrap(), (name != "run").then(exporter).as_ref());
        assert!(report.findings.is_empty(), "{name} in an export:\n{report}");
    }
}

#[test]
fn the_examples_have_no_faults() {
    for (name, text) in examples() {
        let (_, report) = check_text(&text, None);
        assert!(report.is_clean(Class::Lint), "{name}:\n{report}");
    }
}

#[test]
fn the_canonical_form_reads_back_and_stays() {
    let schema = schema();
    for (name, text) in shipped().into_iter().chain(examples()) {
        let definition: Definition = serde_json::from_str(&text).unwrap();
        let canonical = serde_json::to_string_pretty(&definition).unwrap();
        let again: Definition = serde_json::from_str(&canonical).unwrap();
        assert_eq!(definition, again, "{name}");
        assert_eq!(canonical, serde_json::to_string_pretty(&again).unwrap(), "{name}");
        assert!(schema.is_valid(&serde_json::from_str(&canonical).unwrap()), "{name}");
        assert!(!canonical.contains("\"onError\": \""), "{name}: a shorthand is left");
    }
}

#[test]
fn the_canonical_form_has_objects_and_no_lists_of_one() {
    let written = json!({
        "id": "m", "initial": { "target": "a" }, "entry": ["log"], "tags": "root",
        "on": { "E": ["a"], "F": [], "G": {}, "H": [{ "target": "a", "guard": { "type": "fsm.not", "params": { "guard": "ready" } } }, "b"] },
        "states": { "a": { "invoke": [{ "src": "w", "onDone": "b" }], "exit": [], "after": {} }, "b": { "type": "final", "output": null } },
    });
    // Targets from the root are wrong here, which is not a matter of shape.
    let definition: Definition = serde_json::from_value(written).unwrap();
    let canonical = json!({
        "id": "m", "tags": ["root"], "initial": "a", "entry": { "type": "log" },
        "on": {
            "E": { "target": "a" }, "F": [], "G": {},
            "H": [{ "guard": { "type": "fsm.not", "params": { "guard": { "type": "ready" } } }, "target": "a" }, { "target": "b" }],
        },
        "states": { "a": { "invoke": { "src": "w", "onDone": { "target": "b" } } }, "b": { "type": "final", "output": null } },
    });
    assert_eq!(serde_json::to_string(&definition).unwrap(), canonical.to_string());
}

#[test]
fn a_paused_run_goes_back_to_where_it_was() {
    let (_, run) = shipped().into_iter().find(|(name, _)| name == "run").unwrap();
    let run = machine(&run);
    let walk = |script: &str| sluicegate::fsm::simulate::walk(&run, script).unwrap();
    let states = |script: &str| -> Vec<String> {
        let told = walk(script);
        let arrows = told.lines().filter(|line| line.contains("-->") && !line.contains("unhandled"));
        arrows.map(|line| line.split("--> ").nth(1).unwrap().split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(states("START PAUSE RESUME FINISH"), ["idle", "active", "paused", "active", "completed"]);
    assert_eq!(states("START DRAIN PAUSE RESUME STOP"), ["idle", "active", "draining", "paused", "draining", "stopped"]);
    assert_eq!(states("START PAUSE DRAIN RESUME FINISH"), ["idle", "active", "paused", "paused", "draining", "completed"]);
    assert_eq!(states("PAUSE FAIL"), ["idle", "failed"], "nothing to pause yet");
    let reason = walk(r#"START PAUSE={"reason":"memory"}"#);
    assert!(reason.ends_with("active in paused (waiting); context {\"was\":\"active\",\"reason\":\"memory\"}\n"), "{reason}");
    let stopped = run.state("stopped").unwrap();
    assert!(run.is_final(stopped) && run.has_tag(stopped, "resumable"));
}
