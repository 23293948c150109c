//! What a reader finds of a run that kept a journal.

use super::*;
use sluicegate::chunk::ChunkId;
use sluicegate::clock::Clock;
use sluicegate::journal::sqlite::query::TransitionFilter;
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
