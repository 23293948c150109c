//! A run with a journal, and what can be asked of it afterwards: every chunk, every transition, every error, and whether the story that
//! they tell can have happened.
//!
//! Run with `cargo run --example 05_read_a_journal`. The same questions from a shell: `sluicegate inspect JOURNAL …`; and the journal is an
//! SQLite file, so any tool can ask.

use sluicegate::clock::Clock;
use sluicegate::journal::sqlite::{Audit, Reader, RunRecord, SqliteJournal};
use sluicegate::{ChunkId, Delivery, Done, HandlerError, Orchestrator, Work, definitions, sink, source};
use std::error::Error;

type Numbers = Vec<u64>;

/// Fails twice for one chunk, for good for another.
fn validate(work: &Work<Numbers>) -> Result<Done<Numbers>, HandlerError> {
    match (work.id.index, work.attempt) {
        (3, attempt @ 1..=2) => Err(HandlerError::new("io", format!("lookup table not there (attempt {attempt})"))),
        (5, _) => Err(HandlerError::new("invalid", "numbers must be even")),
        _ => Ok(Done::same()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("numbers.journal");

    // Nothing secret may stand in the record: what it says is in the file.
    let clock = Clock::real();
    let journal = SqliteJournal::open(&path, 0o600, RunRecord::new("numbers"), clock.clone())?;
    let report = Orchestrator::new(definitions::chunk().delay("retryBackoff", 10))
        .source(source::items((0..8).map(|chunk| vec![chunk; 100])))
        .handler("validate", validate)
        .handler("transform", |_: &Work<Numbers>| Ok(Done::same()))
        .sink("sink", sink::each(|_: &Delivery<Numbers>| Ok(())))
        .dead_letter("deadLetter", sink::each(|_: &Delivery<Numbers>| Ok(())))
        .clock(clock)
        .journal(journal)
        .run()?;
    println!("{report}\n");

    // A reader opens the file read-only and leaves it as it is; it may also read along while a run is on.
    let reader = Reader::open(&path)?;
    let run = reader.runs()?.pop().ok_or("the journal has a run")?;
    println!("run {} by {}: {} ({})", run.run, run.program, run.status, run.phase);
    for step in reader.run_transitions(run.run)? {
        println!("  {} -> {}", step.from, step.to);
    }
    assert_eq!((run.status.as_str(), run.phase.as_str(), run.rows), ("completed", "complete", Some(report.rows)));

    println!("\nChunks by state:");
    for state in reader.states()? {
        println!("  {:<8} {} chunks, {} rows", state.state, state.chunks, state.rows);
    }
    let failed = reader.chunks(Some("failed"))?;
    assert_eq!(failed.iter().map(|chunk| chunk.chunk.as_str()).collect::<Vec<_>>(), ["0.5"]);

    println!("\nThe walk of chunk 0.3:");
    let walk = reader.walk(ChunkId::new(0, 3))?;
    for step in &walk {
        let from = step.from.as_deref().unwrap_or("(read)");
        let error = step.error.as_ref().map_or(String::new(), |error| format!("   {error}"));
        println!("  {:>7} µs in {from:<12} -> {}{error}", step.in_state, step.to);
    }
    let states: Vec<&str> = walk.iter().map(|step| step.to.as_str()).collect();
    assert_eq!(states, ["received", "retried", "received", "retried", "received", "validated", "transformed", "sunk"]);

    println!("\nErrors:");
    for error in reader.errors(10)? {
        println!("  {} × {}", error.count, error.error);
    }
    assert_eq!(reader.errors(10)?.len(), 3);

    // An audit replays every walk against the definition in the journal, and adds the rows up.
    let audit = Audit::of(&reader)?;
    println!(
        "\naudit: {} chunks, {} transitions, {}: {}",
        audit.chunks,
        audit.transitions,
        audit.rows,
        if audit.is_sound() { "sound" } else { "unsound" }
    );
    assert!(audit.is_sound(), "{:?}", audit.findings);
    assert_eq!((audit.chunks, audit.rows), (8, report.rows));
    Ok(())
}
