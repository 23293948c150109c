//! What a reader finds of a run that kept a journal.

use super::*;
use sluicegate::chunk::ChunkId;
use sluicegate::clock::Clock;
use sluicegate::journal::sqlite::query::TransitionFilter;
use sluicegate::journal::sqlite::recover::Earlier;
use sluicegate::journal::sqlite::{Audit, Reader, RunRecord, SqliteJournal};
use sluicegate::source::items;

/// Timers fire on one thread and handlers end on others, and each writes down its own.
#[test]
fn a_walk_is_told_in_the_order_in_which_it_was_made() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let fails_twice = |work: &Work<Rows>| if work.attempt < 3 { Err(HandlerError::new("io", "not yet")) } else { Ok(Done::same()) };
    let clock = Clock::real();
    let report = Orchestrator::new(lifecycle("chunk"))
        .handler("validate", fails_twice)
        .handler("transform", nothing)
        .sink("sink", seen.sink())
        .dead_letter("deadLetter", dead.sink())
        .source(items(chunks(50)))
        .workers(2)
        .clock(clock.clone())
        .journal(SqliteJournal::open(&path, 0o600, RunRecord::new("test"), clock).unwrap())
        .run()
        .unwrap();
    let reader = Reader::open(&path).unwrap();
    // In the order of writing, too: a reader that follows a run sees each chunk's steps as they were made.
    for chunk in 0..50 {
        let filter = TransitionFilter { chunk: Some(ChunkId::new(0, chunk)), ..TransitionFilter::default() };
        let seqs: Vec<i64> = reader.transitions(&filter).unwrap().iter().map(|step| step.seq).collect();
        assert_eq!(seqs, (0..8).collect::<Vec<i64>>());
    }
    for chunk in 0..50 {
        let walk = reader.walk(ChunkId::new(0, chunk)).unwrap();
        let states: Vec<&str> = walk.iter().map(|step| step.to.as_str()).collect();
        assert_eq!(states, ["received", "retried", "received", "retried", "received", "validated", "transformed", "sunk"]);
    }
    assert_eq!(reader.runs().unwrap()[0].rows, Some(report.rows));
    let audit = Audit::of(&reader).unwrap();
    assert!(audit.is_sound(), "{:?}", audit.findings);
}

/// A chunk that waits for its next attempt when the run is cut off is read again, counts on, and is not tried before its time.
#[test]
fn what_waited_when_a_run_was_cut_off_waits_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let clock = Clock::manual();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let mut lifecycle = lifecycle("chunk");
    lifecycle.delays.insert("retryBackoff".to_owned(), 60_000_000.into());
    let run = |clock: &Clock| {
        let (attempts, at) = (attempts.clone(), clock.clone());
        Orchestrator::new(lifecycle.clone())
            .handler("validate", move |_: &Work<Rows>| {
                attempts.lock().push(at.unix_micros(at.now()) / 1_000_000);
                Err(HandlerError::new("io", "never"))
            })
            .handler("transform", nothing)
            .sink("sink", Seen::default().sink())
            .dead_letter("deadLetter", Seen::default().sink())
            .source(items(chunks(1)))
            .workers(1)
            .clock(clock.clone())
            .journal(SqliteJournal::open(&path, 0o600, RunRecord::new("test"), clock.clone()).unwrap())
    };
    let tried = |times: usize| {
        let began = std::time::Instant::now();
        while attempts.lock().len() < times {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", attempts.lock());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let first = run(&clock).start().unwrap();
    tried(1);
    // Its transition is in the journal within 100 ms, and with the end of the run in any case.
    while first.handle().metrics().states.iter().all(|state| state.state != "retried") {
        std::thread::sleep(Duration::from_millis(1));
    }
    first.handle().stop_now();
    let _ = first.wait().unwrap();

    let earlier = Earlier::read(&path, &["xstate.done.actor.sink".to_owned()]).unwrap().unwrap();
    let left = &earlier.carried().begun[&ChunkId::new(0, 0)];
    assert_eq!((left.state.as_str(), &left.context["attempt"]), ("retried", &serde_json::json!(1)));
    let second = run(&clock).carry_over(earlier.carried()).start().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(attempts.lock().len(), 1, "it was tried before its time");
    clock.advance(Duration::from_secs(60_000));
    tried(2);
    while second.handle().metrics().states.iter().all(|state| state.state != "retried") {
        std::thread::sleep(Duration::from_millis(1));
    }
    second.handle().stop_now();
    let _ = second.wait().unwrap();
    let earlier = Earlier::read(&path, &["xstate.done.actor.sink".to_owned()]).unwrap().unwrap();
    assert_eq!(earlier.carried().begun[&ChunkId::new(0, 0)].context["attempt"], serde_json::json!(2), "it counts on");
    let reader = Reader::open(&path).unwrap();
    let steps: Vec<(String, String)> = reader.walk(ChunkId::new(0, 0)).unwrap().into_iter().map(|step| (step.event, step.to)).collect();
    assert!(steps.contains(&("sluicegate.recovered".into(), "received".into())), "{steps:?}");
    let audit = Audit::of(&reader).unwrap();
    assert!(audit.is_sound(), "{:?}", audit.findings);
}
