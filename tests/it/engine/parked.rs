//! Runs that wait for no event from outside.

use super::*;
use sluicegate::engine::{Outcome, RunReport};
use sluicegate::source::items;

/// A run in which chunks with these numbers are put into quarantine, which nobody will ever end.
fn run(quarantined: &'static [u32], set_up: impl FnOnce(Orchestrator<Rows>) -> Orchestrator<Rows>) -> (Seen, RunReport) {
    let (seen, dead) = (Seen::default(), Seen::default());
    let picky = move |work: &Work<Rows>| {
        if quarantined.contains(&work.id.index) { Err(HandlerError::new("bad", "never")) } else { Ok(Done::same()) }
    };
    let run = Orchestrator::new(lifecycle("quarantine")).handler("validate", picky).sink("sink", seen.sink());
    let run = run.dead_letter("deadLetter", dead.sink()).leave_parked_chunks();
    let report = set_up(run).run().unwrap();
    assert_eq!(report.metrics.memory.permits_bytes, 0, "nothing is kept for a chunk that is left");
    (seen, report)
}

#[test]
fn a_run_that_waits_for_no_event_stops_at_a_parked_chunk() {
    let (seen, report) = run(&[2], |run| run.source(items(chunks(5))));
    assert_eq!((report.outcome, seen.chunks()), (Outcome::Stopped, vec!["0.0".to_owned(), "0.1".to_owned()]));
    insta::assert_snapshot!(report.stopped_because.unwrap(), @"1 chunk waits for an event that nobody can send here: 0.2 in `quarantined`");
}

/// However much there would be to read behind it.
#[test]
fn a_parked_chunk_ends_reading_too() {
    let endless = (0..).map(|chunk| vec![chunk]);
    let (seen, report) = run(&[3], |run| run.source(items(endless)).memory_limit(100));
    assert_eq!((report.outcome, seen.rows()), (Outcome::Stopped, vec![0, 1, 2]));
}

#[test]
fn without_order_the_others_come_to_their_end() {
    let (seen, report) = run(&[1, 3, 4, 5, 6, 7, 8], |run| run.source(items(chunks(12))).unordered().memory_limit(1));
    let mut rows = seen.chunks();
    rows.sort_by_key(|id| id.len());
    assert_eq!((report.outcome, rows), (Outcome::Stopped, ["0.0", "0.2", "0.9", "0.10", "0.11"].map(str::to_owned).into()));
    insta::assert_snapshot!(report.to_string().split("; ").nth(1).unwrap(), @"7 chunks wait for an event that nobody can send here: 0.1 in `quarantined`, 0.3 in `quarantined`, 0.4 in `quarantined`, 0.5 in `quarantined`, 0.6 in `quarantined` and 2 more");
}

#[test]
fn a_run_without_parked_chunks_is_complete() {
    let (_, report) = run(&[], |run| run.source(items(chunks(5))));
    assert_eq!((report.outcome, report.stopped_because), (Outcome::Complete, None));
}
