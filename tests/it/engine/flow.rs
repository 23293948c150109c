//! The undisturbed way, and what order and sums look like at its end.

use super::*;
use sluicegate::chunk::Payload;
use sluicegate::engine::{Outcome, RunError};
use sluicegate::processor::Rejected;
use sluicegate::source::items;
use std::time::Duration;

#[test]
fn chunks_arrive_in_the_order_they_were_read_whatever_the_workers_do() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let uneven = |work: &Work<Rows>| {
        std::thread::sleep(Duration::from_micros(u64::from(work.id.index * 7919 % 900)));
        Ok(Done::with(work.payload.iter().map(|row| row + 1000).collect()))
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", nothing).handler("transform", uneven);
    let report = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(200))).workers(4).run().unwrap();
    assert_eq!(seen.rows(), (1000..3000).collect::<Rows>());
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!((report.rows.read, report.rows.written), (2000, 2000));
    assert_eq!(report.metrics.chunks_settled, 200);
    let names: Vec<&str> = report.metrics.states.iter().map(|state| state.state.as_str()).collect();
    assert_eq!(names, ["received", "validated", "transformed", "sunk"]);
    assert!(report.metrics.states.iter().all(|state| state.entered == 200), "{:#?}", report.metrics.states);
}

#[test]
fn unordered_runs_write_the_same_chunks() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let written = seen.clone();
    let waits_for_all_others = move |work: &Work<Rows>| {
        while work.id.index == 0 && written.chunks().len() < 19 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Done::same())
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", waits_for_all_others).handler("transform", nothing).workers(2);
    let run = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(20))).unordered();
    let _ = run.run().unwrap();
    assert_eq!(seen.chunks().last().unwrap(), "0.0");
    let mut rows = seen.rows();
    rows.sort_unstable();
    assert_eq!(rows, (0..200).collect::<Rows>());
}

#[test]
fn rejected_rows_go_to_the_dead_letter_and_filtered_rows_nowhere() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let pick = |work: &Work<Rows>| {
        let is_bad = |row: &u32| row % 10 == 3;
        let bad = work.payload.iter().filter(|row| is_bad(row));
        let rejected =
            bad.map(|row| Rejected { row: u64::from(*row), reason: "three".into(), raw: row.to_string().into_bytes().into() }).collect();
        let good = work.payload.iter().filter(|row| !is_bad(row) && **row % 10 != 7).copied().collect();
        Ok(Done::with(good).rejecting(rejected).filtering(1))
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", pick).handler("transform", nothing);
    let report = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(5))).run().unwrap();
    assert_eq!(dead.rows(), [3, 13, 23, 33, 43]);
    assert_eq!(seen.rows().len(), 40);
    assert_eq!(report.outcome, Outcome::CompleteWithDeadLetters);
    assert_eq!((report.rows.written, report.rows.filtered, report.rows.dead_lettered), (40, 5, 5));
}

#[test]
fn nothing_to_read_is_a_complete_run() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let report = standard(&seen, &dead).source(items(chunks(0))).run().unwrap();
    assert_eq!((report.outcome, report.rows.read), (Outcome::Complete, 0));
}

#[test]
fn a_definition_without_validation_needs_no_validator() {
    let seen = Seen::default();
    let report = Orchestrator::new(lifecycle("direct"))
        .handler("transform", nothing)
        .sink("sink", seen.sink())
        .source(items(chunks(3)))
        .run()
        .unwrap();
    assert_eq!(report.rows.written, 30);
}

/// Text is a payload too: what the README shows.
#[test]
fn any_payload_will_do() {
    struct Order(u64);
    impl Payload for Order {
        fn bytes(&self) -> usize {
            8
        }
        fn rows(&self) -> u64 {
            1
        }
    }
    let total = Arc::new(Mutex::new(0));
    let sum = total.clone();
    let sink = each(move |delivery: &Delivery<Order>| {
        *sum.lock() += delivery.payload.0;
        Ok(())
    });
    let _ = Orchestrator::new(lifecycle("direct"))
        .handler("transform", |_: &Work<Order>| Ok(Done::same()))
        .sink("sink", sink)
        .source(items((1..=100).map(Order)))
        .run()
        .unwrap();
    assert_eq!(*total.lock(), 5050);
}

#[test]
fn what_is_registered_is_checked_against_the_definition_both_ways() {
    let seen = Seen::default();
    let run = Orchestrator::new(lifecycle("chunk")).handler("validat", nothing).handler("transform", nothing).sink("sink", seen.sink());
    let error = run.source(items(chunks(1))).run().unwrap_err();
    let RunError::Definition(report) = error else { panic!("{error:?}") };
    insta::assert_snapshot!(report, @"
    E unused-handler: no state invokes `validat`, which the program requires
    E unknown-handler states.received.invoke.src: unknown handler `validate`; did you mean `validat`?
    E unknown-handler states.rejected.invoke.src: unknown handler `deadLetter`
    ");
}

#[test]
fn a_run_without_a_source_has_nothing_to_do() {
    let seen = Seen::default();
    let error = Orchestrator::<Rows>::new(lifecycle("direct")).handler("transform", nothing).sink("sink", seen.sink()).run().unwrap_err();
    insta::assert_snapshot!(error, @"there is no source: nothing to do");
}

#[test]
fn a_context_value_that_the_definition_lacks_cannot_be_set() {
    let seen = Seen::default();
    let run = Orchestrator::new(lifecycle("direct"))
        .handler("transform", nothing)
        .sink("sink", seen.sink())
        .source(items(chunks(1)))
        .context("maxAttempts", 3);
    insta::assert_snapshot!(run.run().unwrap_err(), @"the definition's context has no `maxAttempts` that could be set");
}

#[tokio::test]
async fn a_run_can_be_awaited() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let report = standard(&seen, &dead).source(items(chunks(30))).run_async().await.unwrap();
    assert_eq!(report.rows.written, 300);
}
