//! A hand on a run under way: watch its transitions, pause it, ask what it is doing, resume it, cancel one chunk, stop it.
//!
//! Run with `cargo run --example 06_pause_and_resume`.

use sluicegate::{ChunkId, Delivery, Done, Handle, HandlerError, Orchestrator, Outcome, Work, definitions, sink, source};
use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

type Numbers = Vec<u32>;

/// The chunk that takes too long, so that it has to be cancelled.
const STUCK: ChunkId = ChunkId::new(0, 500);

/// Takes its time. A handler that may take long looks at its token now and then: it says when nobody waits for the result any more.
fn validate(work: &Work<Numbers>) -> Result<Done<Numbers>, HandlerError> {
    sleep(Duration::from_micros(100));
    while work.id == STUCK && !work.cancel.is_cancelled() {
        sleep(Duration::from_millis(1));
    }
    Ok(Done::same())
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("waited in vain: {what}"));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn show(what: &str, handle: &Handle) {
    let (status, metrics) = (handle.status(), handle.metrics());
    let reason = status.reason.map_or(String::new(), |reason| format!(" ({reason})"));
    println!("{what:<10} {}{reason}: {} rows read, {} written", status.state, metrics.rows_admitted, metrics.rows.written);
}

fn main() -> Result<(), Box<dyn Error>> {
    // An endless source: this run ends because it is told to.
    let running = Orchestrator::new(definitions::chunk())
        .source(source::items((0..).map(|chunk| vec![chunk; 10])))
        .handler("validate", validate)
        .handler("transform", |_: &Work<Numbers>| Ok(Done::same()))
        .sink("sink", sink::each(|_: &Delivery<Numbers>| Ok(())))
        .dead_letter("deadLetter", sink::each(|_: &Delivery<Numbers>| Ok(())))
        .workers(4)
        .max_chunks(64)
        .start()?;

    // Handles are cheap to clone and go to any thread: one to a signal handler, one to a web server.
    let handle = running.handle();
    let transitions = handle.subscribe(1000);
    until("chunks flow", || handle.metrics().rows.written > 100)?;
    show("under way", &handle);

    // Transitions as they happen, up to 1000 waiting for a slow listener: here the walk of the first chunk that was seen from its start.
    let first = transitions.iter().find(|event| event.from.is_none()).ok_or("the run is over")?;
    let mut walk = vec![first.to];
    for event in transitions.iter().filter(|event| event.chunk == first.chunk).take(3) {
        walk.push(event.to);
    }
    println!("chunk {}: {}", first.chunk, walk.join(" -> "));
    assert_eq!(walk, ["received", "validated", "transformed", "sunk"]);
    // Nobody listens from here on, which costs the run nothing.
    drop(transitions);

    // A pause reads nothing more; what is in flight goes on to its end.
    handle.pause();
    until("all is quiet", || {
        let metrics = handle.metrics();
        handle.status().state == "paused" && metrics.rows_admitted == metrics.rows.written
    })?;
    show("paused", &handle);
    let written = handle.metrics().rows.written;
    sleep(Duration::from_millis(50));
    assert_eq!(handle.metrics().rows.written, written, "nothing moves");
    assert_eq!(handle.status().reason.as_deref(), Some("user"));

    handle.resume();
    // Sinks get chunks in order, so the run comes to a halt behind the one that is stuck; the limit on chunks in flight holds.
    until("all wait for one", || handle.metrics().rows.written == u64::from(STUCK.index) * 10)?;
    show("stuck", &handle);
    handle.cancel_chunk(STUCK);
    until("chunks flow again", || handle.metrics().rows.written > 6000)?;
    show("cancelled", &handle);

    // A stop reads nothing more and finishes what is in flight. (`stop_now` would not wait, `cancel_run` would cancel every chunk.)
    handle.stop();
    let report = running.wait()?;
    show("stopped", &handle);
    println!("\n{report}");
    for state in &report.metrics.states {
        println!("  {:<12} {:>5} chunks, median {:.6} s", state.state, state.entered, state.time_in_state.p50);
    }
    assert_eq!((report.outcome, report.rows.cancelled), (Outcome::Stopped, 10));
    assert_eq!(report.metrics.rows_admitted, report.rows.written + report.rows.cancelled, "nothing was left behind");
    Ok(())
}
