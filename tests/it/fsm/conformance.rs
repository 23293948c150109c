//! What real XState did with 60 random machines (recorded in `tests/conformance/golden`), and the scripted scenarios.
//! `tests/conformance/run.sh` does the same with as many fresh machines as one likes.

use serde_json::{Value, json};
use sluicegate::fsm::simulate::{run_case, run_lines};

use super::{read, repository};

fn lines(path: &str) -> Vec<Value> {
    read(&repository(path)).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn recorded_machines_behave_as_in_xstate() {
    let cases = read(&repository("tests/conformance/golden/cases.jsonl"));
    let mut answers = Vec::new();
    run_lines(cases.as_bytes(), &mut answers).unwrap();
    let answers: Vec<Value> = String::from_utf8(answers).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = lines("tests/conformance/golden/oracle.jsonl");
    assert_eq!((answers.len(), expected.len()), (60, 60));
    for (answer, expected) in answers.iter().zip(&expected) {
        assert_eq!(answer, expected, "{}", expected["id"]);
    }
}

#[test]
fn scenarios_end_as_expected() {
    let scenarios = lines("tests/conformance/examples/scenarios.jsonl");
    assert_eq!(scenarios.len(), 17);
    for mut scenario in scenarios {
        let name = scenario["id"].clone();
        let file = scenario["file"].as_str().unwrap();
        scenario["definition"] = serde_json::from_str(&read(&repository(&format!("tests/conformance/examples/{file}")))).unwrap();
        let answer: Value = serde_json::from_str(&run_case(&scenario.to_string())).unwrap();
        let expect = &scenario["expect"];
        let steps: Vec<&Value> = answer["steps"].as_array().unwrap().iter().filter(|step| step["ignored"].is_null()).collect();
        assert_eq!((&answer["final"]["status"], &answer["error"]), (&json!("done"), &Value::Null), "{name}");
        for (key, found) in [
            ("path", json!(steps.iter().map(|step| &step["value"]).collect::<Vec<_>>())),
            ("final", answer["final"]["value"].clone()),
            ("t", steps.last().unwrap()["t"].clone()),
            ("context", answer["final"]["context"].clone()),
        ] {
            if let Some(wanted) = expect.get(key) {
                assert_eq!(&found, wanted, "{name}: {key}");
            }
        }
        let mut done = steps.iter().flat_map(|step| step["actions"].as_array().unwrap()).map(|action| action.get(0).unwrap_or(action));
        for wanted in expect["actions"].as_array().into_iter().flatten() {
            assert!(done.any(|action| action == wanted), "{name}: {wanted} in this order");
        }
    }
}

#[test]
fn what_cannot_be_run_says_why() {
    let definition = json!({ "id": "m", "initial": "a", "states": { "a": { "on": { "GO": "b" } }, "b": {} } });
    let error = |case: Value| serde_json::from_str::<Value>(&run_case(&case.to_string())).unwrap()["error"].as_str().unwrap().to_owned();
    assert!(run_case("{").contains("invalid-case: EOF while parsing an object"));
    assert_eq!(error(json!({})), "invalid-case: there is no definition");
    assert_eq!(error(json!({ "definition": definition, "events": [7] })), "invalid-case: 7 is not an event");
    assert_eq!(error(json!({ "definition": definition, "events": "GO" })), "invalid-case: `events` is not a list");
    assert_eq!(error(json!({ "definition": definition, "invokes": [] })), "invalid-case: `invokes` is not an object");
    let lost = json!({ "id": "m", "initial": "a", "states": { "a": { "on": { "GO": "c" } }, "b": {} } });
    let message = "invalid-definition: E unknown-target states.a.on.GO: unknown target `c`";
    assert_eq!(run_case(&json!({ "id": 7, "definition": lost }).to_string()), json!({ "id": 7, "error": message }).to_string());
    let shapeless = json!({ "id": "m", "initial": "a", "states": { "a": { "onn": {} } } });
    assert_eq!(
        error(json!({ "definition": shapeless })),
        "invalid-definition: states.a.onn: unknown key `onn` in an atomic state; did you mean `on`?"
    );
}

#[test]
fn numbers_are_printed_as_javascript_does() {
    let case = r#"{"definition":{"id":"m","initial":"a","context":{"a":1.0,"b":1e21,"c":0.1,"d":-0.0,"e":12345678901234567890},
        "states":{"a":{"entry":{"type":"log","params":{"n":2.50}}}}},"events":[{"advance":1.5},"x"]}"#;
    let answer = run_case(&case.replace('\n', ""));
    assert!(answer.contains(r#""context":{"a":1,"b":1e+21,"c":0.1,"d":0,"e":12345678901234567000}"#), "{answer}");
    assert!(answer.contains(r#"["log",{"n":2.5}]"#) && answer.contains(r#""t":1.5,"event":"x""#), "{answer}");
}
