//! The smaller commands, on the real program.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, run, shown, sluicegate};
use insta::assert_snapshot;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

const LIFECYCLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fsm-definitions/chunk.json");

/// A journal of an export of 10,000 rows with this lifecycle, beside its output.
fn journal(lifecycle: &str) -> (Folder, String) {
    let (database, folder) = (database(), Folder::new());
    let arguments = format!("--table t --to {} --quiet --chunk-rows 700 --definition {lifecycle}", folder.text("out.jsonl"));
    ran(&mut export(&database, &arguments)).expect(0);
    let journal = folder.text("out.jsonl.journal");
    (folder, journal)
}

fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 10000) i");
    database
}

fn inspect(journal: &str, words: &[&str]) -> Ran {
    run(["inspect", journal].iter().chain(words))
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(ran.expect(0).text()).expect("JSON")
}

/// Lines of a listing as JSON lines.
fn items(ran: Ran) -> Vec<Value> {
    ran.expect(0).text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn inspect_sums_up_a_run() {
    let (_folder, journal) = journal(LIFECYCLE);
    let summary = json(inspect(&journal, &["--format", "json"]));
    let run = &summary["runs"][0];
    assert_eq!((&run["status"], &run["phase"]), (&"completed".into(), &"complete".into()));
    assert_eq!(run["rows"], serde_json::json!({ "read": 10_000, "written": 10_000, "filtered": 0, "dead_lettered": 0, "cancelled": 0 }));
    assert_eq!(summary["ranges"]["rows"], 10_000);
    assert_eq!(summary["states"][0]["state"], "sunk");
    let text = inspect(&journal, &[]).expect(0);
    assert!(text.text().contains("rows   10000 read = 10000 written + 0 filtered + 0 dead-lettered + 0 cancelled"), "{}", text.text());
}

#[test]
fn inspect_lists_chunks_and_walks() {
    let (_folder, journal) = journal(LIFECYCLE);
    let chunks = items(inspect(&journal, &["chunks", "--format", "jsonl"]));
    assert_eq!(chunks.iter().map(|chunk| chunk["rows"].as_i64().unwrap()).sum::<i64>(), 10_000);
    assert!(chunks.len() >= 15, "{} chunks", chunks.len());
    assert_eq!(items(inspect(&journal, &["chunks", "--state", "sunk", "--format", "jsonl"])).len(), chunks.len());
    assert_eq!(items(inspect(&journal, &["chunks", "--state", "failed", "--format", "jsonl"])).len(), 0);
    let unknown = run(["inspect", &journal, "chunks", "--state", "snuk"]).expect(78);
    assert!(unknown.stderr.contains("the definition in the journal has no state `snuk`; it has "), "{}", unknown.stderr);
    let walk = json(inspect(&journal, &["chunk", "0.1", "--format", "json"]));
    let steps = walk["walk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| format!("{} -> {}", step["event"].as_str().unwrap(), step["to"].as_str().unwrap()));
    assert_snapshot!(steps.collect::<Vec<_>>().join("\n"));
    assert_snapshot!(inspect(&journal, &["chunk", "99.0"]).expect(78).stderr);
    assert_snapshot!(inspect(&journal, &["chunk", "first"]).expect(2).stderr);
}

#[test]
fn inspect_picks_transitions() {
    let (_folder, journal) = journal(LIFECYCLE);
    let count = |words: &[&str]| items(inspect(&journal, &[&["transitions", "--format", "jsonl"], words].concat())).len();
    let chunks = items(inspect(&journal, &["chunks", "--format", "jsonl"])).len();
    assert_eq!(count(&[]), 4 * chunks);
    assert_eq!(count(&["--state", "validated"]), 2 * chunks);
    assert_eq!(count(&["--event", "xstate.done.actor.sink"]), chunks);
    assert_eq!(count(&["--chunk", "0.0"]), 4);
    assert_eq!((count(&["--since", "1h"]), count(&["--since", "2999-01-01T00:00:00Z"])), (4 * chunks, 0));
    assert_eq!(count(&["--follow"]), 4 * chunks, "it ends with the run, and this one has ended");
    assert_snapshot!(inspect(&journal, &["transitions", "--since", "yesterday"]).expect(78).stderr);
}

/// Every lie that a journal could tell about its chunks is noticed.
#[test]
fn audit_believes_no_journal() {
    let (folder, journal) = journal(LIFECYCLE);
    assert_snapshot!(inspect(&journal, &["audit"]).expect(0).text().lines().last().unwrap());
    let told = |lie: &str| {
        let copy = folder.text("copy.journal");
        std::fs::copy(&journal, &copy).unwrap();
        rusqlite::Connection::open(&copy).unwrap().execute_batch(lie).unwrap();
        shown(inspect(&copy, &["audit"]).expect(1).text(), &folder, &database())
    };
    assert_snapshot!(told("UPDATE transitions SET to_state = 'sunk' WHERE range = 0 AND idx = 1 AND seq = 1"));
    assert_snapshot!(told("DELETE FROM transitions WHERE range = 0 AND idx = 1 AND seq = 2"));
    assert_snapshot!(told("UPDATE transitions SET event = 'CANCEL' WHERE range = 0 AND idx = 2 AND seq = 1"));
    assert_snapshot!(told("UPDATE chunks SET rows_written = rows_written - 1 WHERE range = 0 AND idx = 3"));
    assert_snapshot!(told("DELETE FROM chunks WHERE range = 0 AND idx = 4"));
    assert_snapshot!(told("UPDATE ranges SET rows = rows + 1 WHERE range = 0"));
}

#[test]
fn files_that_are_no_journals() {
    let folder = Folder::new();
    let says = |name: &str| shown(&inspect(&folder.text(name), &[]).expect(78).stderr, &folder, &database());
    assert_snapshot!(says("missing"));
    std::fs::write(folder.join("text"), "hello\n".repeat(1000)).unwrap();
    assert_snapshot!(says("text"));
    std::fs::write(folder.join("empty"), "").unwrap();
    assert_snapshot!(says("empty"));
    rusqlite::Connection::open(folder.join("other")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert_snapshot!(says("other"));
    let (_made, journal) = journal(LIFECYCLE);
    std::fs::copy(&journal, folder.join("newer")).unwrap();
    rusqlite::Connection::open(folder.join("newer")).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert_snapshot!(says("newer"));
}

#[test]
fn graphs_show_what_happened() {
    let (folder, journal) = journal(LIFECYCLE);
    let chunks = items(inspect(&journal, &["chunks", "--format", "jsonl"])).len();
    let graph = |words: &[&str]| run(["graph"].iter().chain(words));
    let mermaid = graph(&["--journal", &journal]).expect(0);
    assert!(mermaid.text().contains(&format!("s_transformed --> s_sunk : done · {chunks}")), "{}", mermaid.text());
    assert_eq!(graph(&[LIFECYCLE, "--journal", &journal]).expect(0).text(), mermaid.text());
    let svg = graph(&["--journal", &journal, "--format", "svg"]).expect(0);
    assert!(svg.text().starts_with("<svg") && svg.text().contains(&format!("entered {chunks}")), "{}", svg.text());
    assert!(graph(&[LIFECYCLE, "--format", "dot"]).expect(0).text().starts_with("digraph"));
    std::fs::write(folder.join("broken.json"), r#"{ "id": "x", "initial": "a", "states": { "b": {} } }"#).unwrap();
    assert_snapshot!(shown(&graph(&[&folder.text("broken.json")]).expect(78).stderr, &folder, &database()));
    assert_snapshot!(graph(&["/nowhere.json"]).expect(78).stderr);
    graph(&[]).expect(2);
}

#[test]
fn simulate_tells_a_walk() {
    let walk = |events: &str| run(["simulate", LIFECYCLE, "--events", events]);
    assert_snapshot!(walk("done:validate fail:transform=busy +1s done:transform done:sink").expect(0).text());
    assert_snapshot!(walk("done:validat").expect(78).stderr);
    assert_snapshot!(walk("done:sink").expect(78).stderr);
    assert_snapshot!(walk("+soon").expect(78).stderr);
}

/// What the conformance kit relies on: one answer a line, whatever the line.
#[test]
fn simulate_answers_case_lines() {
    let mut child = sluicegate().arg("simulate").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let case = r#"{"id":"one","definition":{"id":"m","initial":"a","states":{"a":{"on":{"GO":"b"}},"b":{"type":"final"}}},"events":[{"type":"GO"}]}"#;
    child.stdin.take().unwrap().write_all(format!("{case}\nnonsense\n").as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).expect(0);
    let answers: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "{}", ran.text());
    assert_eq!(answers[0]["id"], "one");
}

#[test]
fn schema_is_the_file_beside_the_definitions() {
    let file = include_str!("../../fsm-definitions/definition.schema.json");
    assert_eq!(run(["schema"]).expect(0).text(), file);
}

#[test]
fn check_names_file_line_and_column() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(LIFECYCLE).unwrap();
    std::fs::write(folder.join("bad.json"), text.replacen("\"target\": \"validated\"", "\"target\": \"validatd\"", 1)).unwrap();
    let bad = folder.text("bad.json");
    let both = run(["check", LIFECYCLE, &bad]).expect(78);
    assert_snapshot!(shown(&both.text().replace(env!("CARGO_MANIFEST_DIR"), "[repository]"), &folder, &database()));
    let found: Value = serde_json::from_str(run(["check", "--format", "json", &bad]).expect(78).text()).unwrap();
    assert_eq!(found[0]["findings"][0]["code"], "unknown-target");
    run(["check", "--for-export", LIFECYCLE]).expect(0);
    assert_snapshot!(run(["check", "/nowhere.json"]).expect(78).stderr);
}

/// What a person finds who asks for help.
#[test]
fn every_command_has_examples() {
    let commands = ["export", "inspect", "verify", "check", "graph", "simulate", "schema", "completions"];
    let help = run(["--help"]).expect(0);
    for command in commands {
        assert!(help.text().contains(&format!("\n  {command}")), "{command} is not in\n{}", help.text());
        let own = run([command, "--help"]).expect(0);
        assert!(own.text().contains("Example") && own.text().contains(&format!("sluicegate {command}")), "{}", own.text());
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(["completions", shell]).expect(0).text().contains("memory-limit"), "{shell}");
    }
}

#[test]
fn verify_reads_every_byte_again() {
    let database = database();
    for compress in ["none", "gzip", "zstd"] {
        let folder = Folder::new();
        let (to, journal) = (folder.text("part-{n}.jsonl"), folder.text("part-N.jsonl.journal"));
        ran(&mut export(&database, &format!("--table t --to {to} --quiet --chunk-rows 700 --compress {compress} --connections 1")))
            .expect(0);
        let verify = |words: &[&str]| run(["verify", &journal].iter().chain(words));
        assert!(verify(&[]).expect(0).text().ends_with("as written\n"));
        let found = json(verify(&["--format", "json"]));
        assert_eq!((&found["verified"]["rows"], &found["complete"]), (&10_000.into(), &true.into()));
        let file = folder.join("part-0.jsonl");
        let bytes = std::fs::read(&file).unwrap();
        for damage in ["a bit", "a byte less", "a byte more"] {
            let mut damaged = bytes.clone();
            match damage {
                "a bit" => damaged[bytes.len() / 2] ^= 4,
                "a byte less" => drop(damaged.pop()),
                _ => damaged.push(b'\n'),
            }
            std::fs::write(&file, &damaged).unwrap();
            assert!(verify(&[]).expect(1).text().ends_with("NOT AS WRITTEN\n"), "{damage}");
        }
        std::fs::write(folder.join("moved-0"), &bytes).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_snapshot!("verify_what_was_moved", shown(&verify(&[]).expect(78).stderr, &folder, &database));
        verify(&["--output", &folder.text("moved-{n}")]).expect(0);
    }
}
