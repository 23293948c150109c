//! What goes wrong, and whose fault it is.

use super::*;
use sluicegate::chunk::ChunkId;
use sluicegate::engine::{Outcome, RunError, RunReport};
use sluicegate::processor::Handler;
use sluicegate::source::{feed, items};
use sluicegate::{Trouble, TroubleKind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A handler that fails for chunk 0.1 as often as this.
fn fails(times: u32) -> impl Fn(&Work<Rows>) -> Result<Done<Rows>, HandlerError> {
    move |work: &Work<Rows>| {
        if work.id == ChunkId::new(0, 1) && work.attempt <= times {
            return Err(HandlerError::new("io", format!("attempt {} of chunk {}", work.attempt, work.id)));
        }
        Ok(Done::same())
    }
}

fn run_with(handler: impl Handler<Rows> + 'static) -> (Seen, Seen, RunReport) {
    run_on(lifecycle("chunk"), handler)
}

fn run_on(definition: Definition, handler: impl Handler<Rows> + 'static) -> (Seen, Seen, RunReport) {
    let (seen, dead) = (Seen::default(), Seen::default());
    let run = Orchestrator::new(definition).handler("validate", handler).handler("transform", nothing).workers(2).patience(quick());
    let run = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(4)));
    let report = run.run().unwrap();
    (seen, dead, report)
}

#[test]
fn a_chunk_that_fails_is_tried_again_and_keeps_its_place() {
    let (seen, dead, report) = run_with(fails(2));
    assert_eq!(seen.chunks(), ["0.0", "0.1", "0.2", "0.3"]);
    assert_eq!(dead.chunks(), [] as [&str; 0]);
    assert_eq!((report.metrics.retries, report.metrics.errors), (2, 2));
}

#[test]
fn a_chunk_that_keeps_failing_is_set_aside_with_its_reasons() {
    let (seen, dead, report) = run_with(fails(100));
    assert_eq!(seen.chunks(), ["0.0", "0.2", "0.3"]);
    assert_eq!(dead.rows(), (10..20).collect::<Rows>());
    assert_eq!((report.outcome, report.rows.dead_lettered), (Outcome::CompleteWithDeadLetters, 10));
    assert_eq!(report.metrics.errors, 4, "one attempt and three retries");
}

#[test]
fn a_panic_is_an_error_of_its_chunk() {
    let (seen, dead, _) = run_with(|work: &Work<Rows>| {
        assert!(work.id != ChunkId::new(0, 2), "this chunk makes the handler panic");
        Ok(Done::same())
    });
    assert_eq!((seen.chunks(), dead.chunks()), (vec!["0.0".into(), "0.1".into(), "0.3".into()], vec!["0.2".into()]));
}

#[test]
fn a_stop_does_not_wait_for_a_sink_in_trouble() {
    let seen = Seen::default();
    let patience = Patience { total: Duration::from_secs(3600), ..quick() };
    let away = |_: &Delivery<Rows>| Some(SinkError::Component(Trouble::passing(TroubleKind::Unavailable, "away")));
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", nothing).handler("transform", nothing).patience(patience);
    let run = run.sink("sink", seen.unless(away)).dead_letter("deadLetter", Seen::default().sink());
    let running = run.source(items(chunks(4))).start().unwrap();
    let handle = running.handle();
    let began = std::time::Instant::now();
    while !handle.status().reason.is_some_and(|reason| reason.contains("away")) {
        assert!(began.elapsed() < Duration::from_secs(20), "the sink's trouble does not pause the run");
        std::thread::sleep(Duration::from_millis(1));
    }
    handle.stop();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(running.wait())));
    let report = ended.recv_timeout(Duration::from_secs(20)).expect("the run ends").unwrap();
    assert_eq!((report.outcome, report.rows.written), (Outcome::Stopped, 0));
}

#[test]
fn an_invalid_chunk_is_not_tried_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let (_, dead, _) = run_with(move |work: &Work<Rows>| {
        counted.fetch_add(1, Ordering::SeqCst);
        if work.id.index == 3 { Err(HandlerError::new("invalid", "no good")) } else { Ok(Done::same()) }
    });
    assert_eq!((dead.chunks(), calls.load(Ordering::SeqCst)), (vec!["0.3".to_owned()], 4));
}

#[test]
fn a_handler_that_loses_rows_is_found_out_at_once() {
    let (_, dead, report) = run_with(|work: &Work<Rows>| if work.id.index == 1 { Ok(Done::with(vec![1, 2])) } else { Ok(Done::same()) });
    assert_eq!(dead.rows(), (10..20).collect::<Rows>(), "all rows of the chunk as it was");
    assert_eq!(report.rows.dead_lettered, 10);
}

#[test]
fn a_handler_that_takes_too_long_is_left_behind() {
    let late = Arc::new(AtomicU32::new(0));
    let returned = late.clone();
    let (seen, dead, report) = run_on(lifecycle_with("chunk", 50), move |work: &Work<Rows>| {
        if work.id.index == 1 && work.attempt == 1 {
            while !work.cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            returned.fetch_add(1, Ordering::SeqCst);
            return Ok(Done::with(vec![9; 10]));
        }
        Ok(Done::same())
    });
    assert_eq!(seen.rows(), (0..40).collect::<Rows>(), "what came late was thrown away");
    assert_eq!((dead.chunks().len(), late.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(report.metrics.errors, 1);
}

#[test]
fn handlers_that_never_return_end_the_run() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let stuck = |work: &Work<Rows>| -> Result<Done<Rows>, HandlerError> {
        // Until the test process ends: what must not hang is the run.
        if work.id.index < 4 {
            std::thread::sleep(Duration::from_secs(3600))
        }
        Ok(Done::same())
    };
    let run = Orchestrator::new(lifecycle_with("chunk", 50)).handler("validate", stuck).handler("transform", nothing).workers(2);
    let error = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(10))).run().unwrap_err();
    insta::assert_snapshot!(error, @"3 handlers do not return although their time is over");
    assert_eq!(dead.chunks().len(), 0, "no row is given up for it");
}

#[test]
fn a_sink_that_refuses_a_chunk_gets_it_again_and_then_the_dead_letter_does() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let refuses = |delivery: &Delivery<Rows>| match (delivery.id.index, delivery.attempt) {
        (1, ..=2) | (2, _) => Some(SinkError::Chunk(HandlerError::new("conflict", "not this one"))),
        _ => None,
    };
    let run = handlers(Orchestrator::new(lifecycle("chunk"))).sink("sink", seen.unless(refuses)).dead_letter("deadLetter", dead.sink());
    let report = run.source(items(chunks(5))).run().unwrap();
    assert_eq!(seen.chunks(), ["0.0", "0.1", "0.3", "0.4"]);
    assert_eq!(dead.chunks(), ["0.2"]);
    assert_eq!((report.rows.written, report.rows.dead_lettered), (40, 10));
}

/// The rule that matters most: an unavailable sink never costs a row.
#[test]
fn a_sink_in_trouble_pauses_the_run_and_loses_nothing() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let mut left = 5;
    let troubled = move |delivery: &Delivery<Rows>| {
        (delivery.id.index == 3 && left > 0).then(|| {
            left -= 1;
            SinkError::Component(Trouble::passing(TroubleKind::Unavailable, "the sink is away"))
        })
    };
    let run = handlers(Orchestrator::new(lifecycle("chunk"))).sink("sink", seen.unless(troubled)).dead_letter("deadLetter", dead.sink());
    let report = run.source(items(chunks(20))).run().unwrap();
    assert_eq!(seen.rows(), (0..200).collect::<Rows>());
    assert_eq!((dead.chunks().len(), report.metrics.errors, report.metrics.retries), (0, 0, 0));
    let paused: Vec<String> = report.metrics.paused.iter().map(|paused| paused.reason.to_string()).collect();
    assert_eq!(paused, ["sink"]);
}

#[test]
fn a_sink_whose_trouble_lasts_ends_the_run_and_gives_nothing_up() {
    for trouble in [|kind, message: &str| Trouble::passing(kind, message), |kind, message: &str| Trouble::lasting(kind, message)] {
        let (seen, dead) = (Seen::default(), Seen::default());
        let troubled = move |delivery: &Delivery<Rows>| {
            (delivery.id.index >= 3).then(|| SinkError::Component(trouble(TroubleKind::Io, "the disk is full")))
        };
        let run =
            handlers(Orchestrator::new(lifecycle("chunk"))).sink("sink", seen.unless(troubled)).dead_letter("deadLetter", dead.sink());
        let RunError::Failed { trouble, report } = run.source(items(chunks(20))).run().unwrap_err() else { panic!() };
        assert_eq!((trouble.kind(), trouble.to_string()), (TroubleKind::Io, "the disk is full".into()));
        assert_eq!((report.outcome, dead.chunks().len(), report.rows.dead_lettered), (Outcome::Failed, 0, 0));
        assert_eq!(seen.chunks(), ["0.0", "0.1", "0.2"]);
    }
}

#[test]
fn a_rejected_row_without_a_dead_letter_ends_the_run() {
    let seen = Seen::default();
    let reject = |work: &Work<Rows>| {
        let rejected = vec![sluicegate::processor::Rejected { row: 4, reason: "not UTF-8".into(), raw: Box::from(*b"x") }];
        Ok(Done::with(work.payload[1..].to_vec()).rejecting(rejected))
    };
    let run = Orchestrator::new(definition(json!({
        "id": "m", "initial": "a", "states": {
            "a": { "invoke": { "src": "check", "onDone": "b", "onError": "failed" } },
            "b": { "invoke": { "src": "sink", "onDone": "done", "onError": "failed" } },
            "done": { "type": "final" }, "failed": { "type": "final" } }
    })));
    let error = run.handler("check", reject).sink("sink", seen.sink()).source(items(chunks(2))).run().unwrap_err();
    insta::assert_snapshot!(error, @"row 4 of chunk 0.0 cannot be written and there is no dead letter to set it aside: not UTF-8");
}

#[test]
fn rows_that_end_nowhere_are_an_internal_fault() {
    let seen = Seen::default();
    let refuse = |delivery: &Delivery<Rows>| (delivery.id.index == 1).then(|| SinkError::Chunk(HandlerError::new("no", "never")));
    let error = Orchestrator::new(lifecycle("direct"))
        .handler("transform", nothing)
        .sink("sink", seen.unless(refuse))
        .source(items(chunks(3)))
        .run()
        .unwrap_err();
    let RunError::Failed { trouble, .. } = error else { panic!("{error:?}") };
    assert_eq!(trouble.kind(), TroubleKind::Internal);
    insta::assert_snapshot!(trouble, @"chunk 0.1 ended in `failed` (no: never), where 10 of its 10 rows are neither written nor set aside");
}

/// A loop that looks at nothing: its chunk goes on without it, what it holds counts until it returns, and what it brings then is nobody's.
#[test]
fn a_handler_that_loops_is_left_behind_and_accounted_for() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let go = Arc::new(AtomicBool::new(false));
    let (may_go, returned) = (go.clone(), Arc::new(AtomicU32::new(0)));
    let counted = returned.clone();
    let loops = move |work: &Work<Rows>| {
        if work.payload.contains(&666) {
            while !may_go.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            return Ok(Done::with(vec![1; work.payload.len()]));
        }
        Ok(Done::same())
    };
    let machine = json!({
        "id": "m", "initial": "a", "states": {
            "a": { "invoke": { "src": "work", "onDone": "b", "onError": "bad" }, "after": { "50": "late" } },
            "b": { "invoke": { "src": "sink", "onDone": "sunk", "onError": "bad" } },
            "late": { "invoke": { "src": "deadLetter", "onDone": "tooLate", "onError": "tooLate" } },
            "bad": { "invoke": { "src": "deadLetter", "onDone": "failed", "onError": "failed" } },
            "sunk": { "type": "final" }, "tooLate": { "type": "final" }, "failed": { "type": "final" } }
    });
    let (feeder, source) = feed::<Rows>();
    let run = Orchestrator::new(definition(machine)).handler("work", loops).sink("sink", seen.sink()).workers(1);
    let running = run.dead_letter("deadLetter", dead.sink()).source(source).start().unwrap();
    let bad = feeder.push(vec![666, 667]).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.chunk, settled.state.as_str(), settled.rows.dead_lettered), (bad, "tooLate", 2));
    assert_eq!(settled.errors, ["timeout: `work` had not ended when `50` was over"]);
    assert_eq!(running.handle().metrics().memory.permits_bytes, 8, "somebody sees them still");
    // There is a worker in its place.
    feeder.push(vec![7]).unwrap();
    assert_eq!(running.next_settled(Duration::from_secs(20)).unwrap().state, "sunk");
    go.store(true, Ordering::SeqCst);
    until("it returns", || returned.load(Ordering::SeqCst) == 1 && running.handle().metrics().memory.permits_bytes == 0);
    feeder.close();
    let report = running.wait().unwrap();
    assert_eq!((seen.rows(), dead.rows(), report.rows.read), (vec![7], vec![666, 667], 3));
}

/// Everything fails, again and again: it takes its time and its memory, but no more than that.
#[test]
fn a_storm_of_errors_is_weathered_in_bounded_memory() {
    const CHUNKS: u32 = 20_000;
    let (seen, dead) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let counted = dead.clone();
    let began = Instant::now();
    let report = Orchestrator::new(lifecycle("chunk"))
        .handler("validate", |_: &Work<Rows>| Err(HandlerError::new("io", "never")))
        .handler("transform", nothing)
        .sink("sink", seen.sink())
        .dead_letter(
            "deadLetter",
            each(move |delivery: &Delivery<Rows>| {
                assert_eq!(delivery.errors.len(), 4, "one attempt and three retries");
                counted.fetch_add(delivery.payload.len() as u32, Ordering::SeqCst);
                Ok(())
            }),
        )
        .source(items(chunks(CHUNKS)))
        .memory_limit(4000)
        .max_chunks(500)
        .run()
        .unwrap();
    assert_eq!((dead.load(Ordering::SeqCst), seen.chunks().len()), (CHUNKS * 10, 0));
    assert_eq!(report.rows.dead_lettered, u64::from(CHUNKS) * 10);
    assert!(report.rows.is_equal());
    assert_eq!(report.metrics.errors, u64::from(CHUNKS) * 4);
    assert_eq!((report.metrics.memory.peak_permits_bytes, report.metrics.memory.permits_bytes), (4000, 0));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// What is tried for ever does not grow: the first errors are kept, and the latest.
#[test]
fn of_many_errors_the_first_and_the_latest_are_kept() {
    let dead = Arc::new(Mutex::new(Vec::new()));
    let kept = dead.clone();
    let fails = |work: &Work<Rows>| Err(HandlerError::new("io", work.attempt.to_string()));
    let report = Orchestrator::new(lifecycle("chunk"))
        .context("maxAttempts", 999)
        .handler("validate", fails)
        .handler("transform", nothing)
        .sink("sink", Seen::default().sink())
        .dead_letter(
            "deadLetter",
            each(move |delivery: &Delivery<Rows>| {
                kept.lock().extend(delivery.errors.iter().map(|error| error.message.clone()));
                Ok(())
            }),
        )
        .source(items(chunks(1)))
        .run()
        .unwrap();
    assert_eq!(report.metrics.errors, 1000);
    let expected: Vec<String> = (1..=8).chain(993..=1000).map(|attempt: u32| attempt.to_string()).collect();
    assert_eq!(*dead.lock(), expected);
}
