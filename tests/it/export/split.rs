//! Bad rows in an export of somebody's own handler, and lifecycles that leave chunks where nobody can move them.

use super::assert_same;
use crate::support::cluster::Cluster;
use crate::support::program::{Folder, export, ran, row_to_json, run};
use sluicegate::batch::Batch;
use sluicegate::clock::Clock;
use sluicegate::engine::Outcome;
use sluicegate::export::{Settings, orchestrator};
use sluicegate::journal::sqlite::{Audit, Reader, RunRecord, SqliteJournal};
use sluicegate::processor::{Done, HandlerError, Work};
use sluicegate::sink::{DeadLetterSink, FileOptions, FileSink, ToRows};
use sluicegate::source::postgres::{Export, Request, Session};

/// A handler that can only say that some row is bad, over rows as the server sent them: the halves of a chunk share its buffer.
#[test]
fn bad_rows_of_a_table_are_found_by_halving() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, CASE WHEN i IN (1, 777, 778, 4242, 5000) THEN 'poison' ELSE repeat('ok', i % 60) END AS note FROM generate_series(1, 5000) i");
    let folder = Folder::new();
    let mut session = Session::connect(&database.url()).unwrap();
    let table = Export::table(&mut session, "t", &Request::default()).unwrap();
    let validate = |work: &Work<Batch>| {
        let mut is_bad = false;
        work.payload.rows_raw(&mut |row| is_bad |= row.ends_with(b"\tpoison"));
        if is_bad { Err(HandlerError::new("invalid", "some row is poison").of_some_row()) } else { Ok(Done::same()) }
    };
    let clock = Clock::real();
    let journal = folder.join("journal");
    let report = orchestrator(&session, table, &Settings::default())
        .optional_handler("validate", validate)
        .sink("sink", FileSink::create([folder.join("out.jsonl")], FileOptions::default()).unwrap())
        .dead_letter("deadLetter", DeadLetterSink::new(&folder.join("dead.jsonl"), FileOptions::default()))
        .clock(clock.clone())
        .journal(SqliteJournal::open(&journal, 0o600, RunRecord::new("out.jsonl"), clock).unwrap())
        .run()
        .unwrap();
    assert_eq!(report.rows.to_string(), "5000 read = 4995 written + 0 filtered + 5 dead-lettered + 0 cancelled");
    assert_eq!(
        (report.outcome, report.metrics.memory.permits_bytes > 0),
        (Outcome::CompleteWithDeadLetters, true),
        "the lanes' own buffers"
    );
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "(SELECT * FROM t WHERE note <> 'poison')"));
    let dead: Vec<String> =
        folder.read("dead.jsonl").lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["raw"].to_string()).collect();
    assert_eq!(dead, [1, 777, 778, 4242, 5000].map(|id| format!(r#""{id}\tpoison""#)));

    let reader = Reader::open(&journal).unwrap();
    let audit = Audit::of(&reader).unwrap();
    assert!(audit.is_sound() && audit.complete && audit.rows == report.rows, "{:?}", audit.findings);
    let split = reader.chunks(Some("split")).unwrap();
    assert!(split.len() > 8, "{}", split.len());
    let journal = folder.text("journal");
    let shown = run(["inspect", &journal, "chunk", &split[0].chunk]).expect(0);
    assert!(shown.text().contains(&format!("goes on as {0}/0 and {0}/1", split[0].chunk)), "{}", shown.text());
    run(["inspect", &journal, "audit"]).expect(0);
    let verified = run(["verify", &journal]);
    assert!(verified.text().contains("4,995") || verified.stderr.contains("4,995"), "{} {}", verified.text(), verified.stderr);
}

/// A command cannot send an event: where nothing else moves a chunk, it does not wait.
#[test]
fn an_export_whose_chunks_wait_for_an_event_stops_and_says_so() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS pad FROM generate_series(1, 20000) i");
    let folder = Folder::new();
    let lifecycle = r#"{
      "id": "parks", "initial": "received", "meta": { "fsm": { "allow": ["parked", "no-timeout"] } }, "on": { "GO": ".transformed" },
      "states": {
        "received": { "invoke": { "src": "transform", "onDone": "held", "onError": "failed" } },
        "held": {},
        "transformed": { "invoke": { "src": "sink", "onDone": "sunk", "onError": "failed" } },
        "sunk": { "type": "final" }, "failed": { "type": "final" } }
    }"#;
    std::fs::write(folder.join("parks.json"), lifecycle).unwrap();
    let (to, definition) = (folder.text("out.jsonl"), folder.text("parks.json"));
    for order in ["", "--unordered"] {
        let arguments = format!("--table t --to {to} --definition {definition} --chunk-bytes 64KiB --fresh {order}");
        let stopped = ran(&mut export(&database, &arguments)).expect(75);
        // Which of them is told of first is a matter of which worker was.
        let told = stopped.stderr.contains(" for an event that nobody can send here: ") && stopped.stderr.contains(" in `held`");
        assert!(told, "{}", stopped.stderr);
        let summary = run(["inspect", &format!("{to}.journal")]).expect(0);
        assert!(summary.text().contains("that nobody can send here"), "{}", summary.text());
        assert!(run(["inspect", &format!("{to}.journal"), "audit"]).expect(0).text().contains("sound"));
    }
}
