//! Chunks fed by hand while the run goes on, stops, or is over.

use crate::{check, dawdle, happens};
use shuttle::thread;
use sluicegate::clock::Clock;
use sluicegate::source::{Feeder, PushError, feed};
use sluicegate::{ChunkId, Definition, Delivery, Done, Orchestrator, Work, definitions, sink};
use std::sync::{Arc, LazyLock, Mutex};

static DIRECT: LazyLock<Definition> = LazyLock::new(definitions::direct);

/// Pushes three chunks, waiting for room or not; gives those that were taken.
fn feeds(feeder: &Feeder<String>) -> Vec<ChunkId> {
    let mut taken = Vec::new();
    for _ in 0..3 {
        dawdle(5);
        let pushed = if happens(2) { feeder.push("row".into()) } else { feeder.try_push("row".into()) };
        match pushed {
            Ok(id) => taken.push(id),
            Err(PushError::Full(_)) => {}
            Err(PushError::Closed(_)) => break,
        }
    }
    if happens(3) {
        feeder.close();
    }
    taken
}

/// What was taken is written, all of it, once and in order, even if the run is stopped; `now` leaves things where they are.
fn scenario(stops: bool, now: bool) {
    let (feeder, source) = feed::<String>();
    let written = Arc::<Mutex<Vec<ChunkId>>>::default();
    let writes = written.clone();
    let run = Orchestrator::new(DIRECT.clone()).source(source).clock(Clock::manual()).workers(1).max_chunks(2);
    let run = run.handler("transform", |_: &Work<String>| Ok(Done::same()));
    let run = run.sink(
        "sink",
        sink::each(move |chunk: &Delivery<String>| {
            writes.lock().unwrap().push(chunk.id);
            Ok(())
        }),
    );
    let running = run.start().unwrap_or_else(|error| panic!("{error}"));
    let handle = running.handle();
    let second = feeder.clone();
    let hands = [feeder, second].map(|feeder| thread::spawn(move || feeds(&feeder)));
    if stops {
        dawdle(20);
        if now { handle.stop_now() } else { handle.stop() }
    }
    let report = running.wait().unwrap_or_else(|error| panic!("{error}"));
    let mut taken: Vec<ChunkId> = hands.into_iter().flat_map(|hand| hand.join().unwrap()).collect();
    taken.sort_unstable();
    let written = written.lock().unwrap();
    assert!(written.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {written:?}");
    if !now {
        assert_eq!((&*written, report.rows.written), (&taken, taken.len() as u64), "what was taken is written");
        assert!(report.rows.is_equal(), "{}", report.rows);
    }
}

#[test]
fn what_was_pushed_is_written() {
    check(1500, || scenario(false, false));
}

#[test]
fn what_was_pushed_before_a_stop_is_written() {
    check(1500, || scenario(true, false));
}

#[test]
fn who_pushes_into_a_run_that_stops_at_once_is_told() {
    check(1500, || scenario(true, true));
}
