//! The outside's hand on a run.

use super::*;
use sluicegate::chunk::ChunkId;
use sluicegate::clock::Clock;
use sluicegate::engine::{Handle, Outcome};
use sluicegate::processor::CancelToken;
use sluicegate::source::{PushError, feed, items};
use sluicegate::{Trouble, TroubleKind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

fn state(handle: &Handle) -> String {
    handle.status().state
}

#[test]
fn a_run_can_be_paused_and_resumed() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let endless = (0..).map(|chunk| vec![chunk]);
    let running = standard(&seen, &dead).source(items(endless)).max_chunks(8).start().unwrap();
    let handle = running.handle();
    until("chunks flow", || seen.chunks().len() > 10);
    handle.pause();
    until("paused", || state(&handle) == "paused");
    until("nothing moves", || handle.metrics().rows_admitted == handle.metrics().rows.written);
    let written = seen.chunks().len();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(seen.chunks().len(), written);
    assert_eq!(handle.status().reason.as_deref(), Some("user"));
    handle.resume();
    until("chunks flow again", || seen.chunks().len() > written + 10);
    handle.stop();
    let report = running.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Stopped);
    assert!(report.metrics.paused[0].seconds >= 0.05, "{:?}", report.metrics.paused);
}

#[test]
fn a_stop_finishes_what_is_in_flight() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let slow = |_: &Work<Rows>| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(Done::same())
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", slow).handler("transform", nothing).workers(3).max_chunks(20);
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(100_000))).start().unwrap();
    let handle = running.handle();
    until("chunks flow", || seen.chunks().len() > 3);
    handle.stop();
    let report = running.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Stopped);
    assert_eq!(report.metrics.rows_admitted, report.rows.written, "everything that was read was written");
    assert_eq!(seen.rows(), (0..u32::try_from(report.rows.written).unwrap()).collect::<Rows>());
    assert_eq!((handle.status().state.as_str(), handle.status().ended), ("stopped", true));
}

#[test]
fn a_second_stop_does_not_wait() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let stuck = |work: &Work<Rows>| {
        while !work.cancel.is_cancelled() && work.id.index == 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Done::same())
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", stuck).handler("transform", nothing);
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(1000))).start().unwrap();
    until("the first chunks are written", || seen.chunks().len() == 2);
    running.handle().stop();
    running.handle().stop_now();
    let began = Instant::now();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Stopped);
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// What cannot be written now is not waited for: it is written when the run goes on.
#[test]
fn a_stop_while_a_sink_is_in_trouble_ends_the_run() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let troubled = |delivery: &Delivery<Rows>| {
        (delivery.id.index >= 2).then(|| SinkError::Component(Trouble::passing(TroubleKind::Unavailable, "away")))
    };
    let run = handlers(Orchestrator::new(lifecycle("chunk"))).patience(Patience::default());
    let run = run.sink("sink", seen.unless(troubled)).dead_letter("deadLetter", dead.sink()).source(items(chunks(10)));
    let running = run.start().unwrap();
    let handle = running.handle();
    until("the sink is in trouble", || handle.status().reason.is_some_and(|reason| reason.contains("away")));
    handle.stop();
    let began = Instant::now();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Stopped);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((seen.chunks().len(), dead.chunks().len()), (2, 0));
}

#[test]
fn one_chunk_can_be_cancelled() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let waits = |work: &Work<Rows>| {
        while !work.cancel.is_cancelled() && work.id.index == 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Done::same())
    };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", waits).handler("transform", nothing).workers(2);
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(3))).start().unwrap();
    until("the first chunk is written", || seen.chunks().len() == 1);
    running.handle().cancel_chunk(ChunkId::new(0, 1));
    let report = running.wait().unwrap();
    assert_eq!(seen.chunks(), ["0.0", "0.2"]);
    assert_eq!((report.outcome, report.rows.cancelled, report.rows.written), (Outcome::Complete, 10, 20));
}

#[test]
fn a_whole_run_can_be_cancelled() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let running = standard(&seen, &dead).source(items(chunks(1_000_000))).max_chunks(50).start().unwrap();
    until("chunks flow", || seen.chunks().len() > 10);
    running.handle().cancel_run();
    let report = running.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!(report.metrics.rows_admitted, report.rows.written + report.rows.cancelled);
}

#[test]
fn chunks_can_be_fed_by_hand() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed::<Rows>();
    assert!(matches!(feeder.try_push(vec![1]), Err(PushError::Full(rows)) if rows == [1]), "not started");
    let running = standard(&seen, &dead).source(source).max_chunks(2).start().unwrap();
    let mut refused = 0;
    for row in 0..50 {
        let mut rows = vec![row];
        while let Err(PushError::Full(back)) = feeder.try_push(rows) {
            refused += 1;
            rows = back;
            running.next_settled(Duration::from_millis(10));
        }
    }
    feeder.close();
    assert!(matches!(feeder.try_push(vec![1]), Err(PushError::Closed(_))));
    assert!(refused > 0, "two at a time");
    let report = running.wait().unwrap();
    assert_eq!(seen.rows(), (0..50).collect::<Rows>());
    assert_eq!(report.rows.read, 50);
}

#[test]
fn a_push_waits_for_room_and_gives_the_chunk_back_when_there_will_be_none() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed::<Rows>();
    assert!(matches!(feeder.push(vec![1]), Err(PushError::Full(rows)) if rows == [1]), "not started");
    let running = standard(&seen, &dead).source(source).max_chunks(2).start().unwrap();
    let handle = running.handle();
    for row in 0..50 {
        feeder.push(vec![row]).unwrap();
    }
    handle.pause();
    until("paused", || state(&handle) == "paused");
    let second_hand = feeder.clone();
    let waits = std::thread::spawn(move || second_hand.push(vec![50]));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waits.is_finished(), "paused");
    handle.stop();
    assert_eq!(waits.join().unwrap().unwrap_err().into_payload(), [50]);
    let report = running.wait().unwrap();
    assert_eq!((report.outcome, report.rows.written), (Outcome::Stopped, 50));
    assert!(matches!(feeder.push(vec![1]), Err(PushError::Closed(_))));
}

#[test]
fn settled_chunks_can_be_waited_for() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed::<Rows>();
    let refuse_odd = |work: &Work<Rows>| if work.payload[0] % 2 == 1 { Err(HandlerError::new("invalid", "odd")) } else { Ok(Done::same()) };
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", refuse_odd).handler("transform", nothing);
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(source).start().unwrap();
    let first = feeder.try_push(vec![2]).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.chunk, settled.state.as_str(), settled.rows.written), (first, "sunk", 1));
    feeder.try_push(vec![3]).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.state.as_str(), settled.errors), ("failed", vec!["invalid: odd".to_owned()]));
    feeder.close();
    assert!(running.next_settled(Duration::from_secs(20)).is_none());
    let _ = running.wait().unwrap();
}

#[test]
fn transitions_can_be_watched_as_they_happen() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed::<Rows>();
    let running = standard(&seen, &dead).source(source).start().unwrap();
    let events = running.handle().subscribe(100);
    feeder.try_push(vec![1]).unwrap();
    feeder.close();
    let _ = running.wait().unwrap();
    let walk: Vec<String> = events.try_iter().map(|event| format!("{} -> {}", event.from.unwrap_or_default(), event.to)).collect();
    assert_eq!(walk, [" -> received", "received -> validated", "validated -> transformed", "transformed -> sunk"]);
}

#[test]
fn a_parked_chunk_waits_for_its_event() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let picky = move |work: &Work<Rows>| {
        if work.id.index == 0 && !is_mended.load(Ordering::SeqCst) { Err(HandlerError::new("bad", "not yet")) } else { Ok(Done::same()) }
    };
    let run = Orchestrator::new(lifecycle("quarantine")).handler("validate", picky).sink("sink", seen.sink());
    let running = run.dead_letter("deadLetter", dead.sink()).source(items(chunks(3))).start().unwrap();
    let handle = running.handle();
    until("parked", || handle.metrics().states.iter().any(|state| state.state == "quarantined" && state.chunks == 1));
    assert_eq!(seen.chunks().len(), 0, "the others wait for their turn");
    mended.store(true, Ordering::SeqCst);
    handle.send(ChunkId::new(0, 0), "RETRY", serde_json::Map::new());
    let _ = running.wait().unwrap();
    assert_eq!(seen.chunks(), ["0.0", "0.1", "0.2"]);
}

#[test]
fn a_stop_leaves_parked_chunks_and_what_waits_behind_them() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let picky = |work: &Work<Rows>| if work.id.index == 1 { Err(HandlerError::new("bad", "never")) } else { Ok(Done::same()) };
    let run = Orchestrator::new(lifecycle("quarantine")).handler("validate", picky).sink("sink", seen.sink());
    let running = run.dead_letter("deadLetter", dead.sink()).source(items(chunks(5))).start().unwrap();
    let handle = running.handle();
    until("parked", || handle.metrics().states.iter().any(|state| state.state == "quarantined" && state.chunks == 1));
    handle.stop();
    let report = running.wait().unwrap();
    assert_eq!((report.outcome, seen.chunks()), (Outcome::Stopped, vec!["0.0".to_owned()]));
}

#[test]
fn timers_go_by_the_clock_they_are_given() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let clock = Clock::manual();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let fails_once = move |_: &Work<Rows>| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 { Err(HandlerError::new("io", "once")) } else { Ok(Done::same()) }
    };
    let mut value = serde_json::to_value(lifecycle("chunk")).unwrap();
    value["meta"]["fsm"]["delays"]["retryBackoff"] = json!(3_600_000);
    let run = Orchestrator::new(definition(value)).handler("validate", fails_once).handler("transform", nothing).clock(clock.clone());
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(1))).start().unwrap();
    let handle = running.handle();
    until("waiting", || handle.metrics().states.iter().any(|state| state.state == "retried" && state.chunks == 1));
    clock.advance(Duration::from_secs(3599));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(1));
    until("tried again", || attempts.load(Ordering::SeqCst) == 2);
    let flush = std::thread::spawn(move || running.wait().unwrap());
    let report = flush.join().unwrap();
    let waited = report.metrics.states.iter().find(|state| state.state == "retried").unwrap();
    assert!((waited.time_in_state.p50 / 3600.0 - 1.0).abs() < 0.01, "{:?}", waited.time_in_state);
}

#[test]
fn a_watcher_runs_beside_the_handlers() {
    let seen = Seen::default();
    let machine = json!({
        "id": "m", "initial": "work", "states": {
            "work": {
                "invoke": { "src": "lease", "onDone": "done", "onError": "lost" }, "initial": "writing", "onDone": "done",
                "states": { "writing": { "invoke": { "src": "sink", "onDone": "written", "onError": "#m.lost" } }, "written": { "type": "final" } }
            },
            "done": { "type": "final" }, "lost": { "type": "final" }
        }
    });
    let stopped = Arc::new(AtomicU32::new(0));
    let counted = stopped.clone();
    let lease = move |cancel: &CancelToken| {
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let run = Orchestrator::new(definition(machine)).watcher("lease", lease).sink("sink", seen.sink()).source(items(chunks(3)));
    assert_eq!(run.run().unwrap().rows.written, 30);
    until("every lease was given back", || stopped.load(Ordering::SeqCst) == 3);
}

#[test]
fn who_listens_is_told_of_the_end() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let running = standard(&seen, &dead).source(items(chunks(20))).start().unwrap();
    let handle = running.handle();
    let transitions = handle.subscribe(1000);
    assert_eq!(running.wait().unwrap().outcome, Outcome::Complete);
    assert!(transitions.iter().count() <= 80, "and the channel ends, although the handle is still there");
    assert!(handle.subscribe(1).recv().is_err());
    let sunk = handle.metrics().states.into_iter().find(|state| state.state == "sunk").unwrap();
    assert_eq!((sunk.chunks, sunk.rows, sunk.bytes), (20, 200, 0));
}

#[test]
fn when_the_last_feeder_is_gone_nothing_more_comes() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed();
    let running = standard(&seen, &dead).source(source).start().unwrap();
    let second = feeder.clone();
    feeder.push(vec![1]).unwrap();
    drop(feeder);
    second.push(vec![2, 3]).unwrap();
    drop(second);
    assert_eq!(running.wait().unwrap().rows.written, 3);
}
