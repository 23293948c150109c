//! The engine inside a program: its own payload, closures as handlers and sinks. Some rows are rejected, one chunk is unreadable, and the
//! storage is out now and then; every row is accounted for at the end.
//!
//! Run with `cargo run --example 03_own_payload`.

use sluicegate::{Delivery, Done, HandlerError, Orchestrator, Outcome, Payload, Rejected, SinkError, Work, definitions, sink, source};
use std::error::Error;
use std::sync::{Arc, Mutex};

/// One chunk of a till's receipts.
struct Receipts(Vec<Receipt>);

#[derive(Clone, Debug)]
struct Receipt {
    number: u32,
    cents: i64,
}

/// All that the engine has to know of a payload: what it weighs, and how many rows must be accounted for.
impl Payload for Receipts {
    fn bytes(&self) -> usize {
        self.0.len() * size_of::<Receipt>()
    }

    fn rows(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Six chunks of five receipts. One receipt has a negative sum; one chunk was damaged on its way.
fn receipts() -> impl Iterator<Item = Receipts> {
    let receipt = |number| Receipt { number, cents: if number == 7 { -100 } else { i64::from(number) * 100 } };
    (0..6).map(move |chunk| Receipts((chunk * 5..chunk * 5 + 5).map(receipt).collect()))
}

/// Single rows that cannot be right are rejected; the rest of the chunk goes on. An error of kind `invalid` gives up the whole chunk, with
/// no second try: the lifecycle says so.
fn validate(work: &Work<Receipts>) -> Result<Done<Receipts>, HandlerError> {
    if work.id.index == 4 {
        return Err(HandlerError::new("invalid", "the checksum does not fit"));
    }
    let mut good = Vec::new();
    let mut rejected = Vec::new();
    for (row, receipt) in (0..).zip(&work.payload.0) {
        if receipt.cents >= 0 {
            good.push(receipt.clone());
        } else {
            rejected.push(Rejected::new(row, format!("{} cents", receipt.cents), format!("{receipt:?}")));
        }
    }
    Ok(Done::with(Receipts(good)).rejecting(rejected))
}

/// Receipts over nothing are not wanted: filtered is not rejected, but it is counted too. A panic here would be an error of its chunk.
fn transform(work: &Work<Receipts>) -> Result<Done<Receipts>, HandlerError> {
    let kept: Vec<Receipt> = work.payload.0.iter().filter(|receipt| receipt.cents != 0).cloned().collect();
    let dropped = work.payload.rows() - kept.len() as u64;
    Ok(Done::with(Receipts(kept)).filtering(dropped))
}

fn main() -> Result<(), Box<dyn Error>> {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let into_storage = stored.clone();
    // A sink's own refusal of a chunk is that chunk's error: here the first two attempts at chunk 0.2 fail. What follows waits for it,
    // so the order stays.
    let storage = sink::each(move |chunk: &Delivery<Receipts>| {
        if chunk.id.index == 2 && chunk.attempt < 3 {
            println!("chunk {}: attempt {} fails", chunk.id, chunk.attempt);
            return Err(SinkError::Chunk(HandlerError::new("busy", "come back later")));
        }
        println!("chunk {}: {} receipts stored at attempt {}", chunk.id, chunk.payload.rows(), chunk.attempt);
        into_storage.lock().unwrap().extend(chunk.payload.0.iter().map(|receipt| receipt.number));
        Ok(())
    });

    // A dead letter gets whole chunks with what went wrong, and single rows with their reason.
    let dead = Arc::new(Mutex::new(Vec::new()));
    let into_dead = dead.clone();
    let dead_letter = sink::each(move |chunk: &Delivery<Receipts>| {
        let mut dead = into_dead.lock().unwrap();
        dead.extend(chunk.rejected.iter().map(|row| format!("{} row {}: {}", chunk.id, row.row, row.reason)));
        if chunk.whole {
            dead.extend(chunk.errors.iter().map(|error| format!("{} all {} rows: {error}", chunk.id, chunk.payload.rows())));
        }
        Ok(())
    });

    // The default lifecycle, but nobody wants to wait in an example: 10 ms before each retry.
    let report = Orchestrator::new(definitions::chunk().delay("retryBackoff", 10))
        .source(source::items(receipts()))
        .handler("validate", validate)
        .handler("transform", transform)
        .sink("sink", storage)
        .dead_letter("deadLetter", dead_letter)
        .workers(4)
        .memory_limit(1 << 20)
        .run()?;

    println!("\nIn the dead letter:");
    dead.lock().unwrap().iter().for_each(|line| println!("  {line}"));
    println!("\n{report}");

    let expected: Vec<u32> = (1..20).filter(|number| *number != 7).chain(25..30).collect();
    assert_eq!(*stored.lock().unwrap(), expected, "in order, whatever four workers and two failed attempts did");
    assert_eq!(*dead.lock().unwrap(), ["0.1 row 2: -100 cents", "0.4 all 5 rows: invalid: the checksum does not fit"]);
    assert_eq!(report.outcome, Outcome::CompleteWithDeadLetters);
    assert_eq!(report.rows.to_string(), "30 read = 23 written + 1 filtered + 6 dead-lettered + 0 cancelled");
    assert_eq!(report.metrics.retries, 2);
    Ok(())
}
