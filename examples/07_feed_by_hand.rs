//! Chunks pushed in by the program, and each one's end waited for: the engine behind a request handler, a queue consumer, a test.
//!
//! Run with `cargo run --example 07_feed_by_hand`.

use sluicegate::source::{PushError, feed};
use sluicegate::{Delivery, Done, HandlerError, Orchestrator, Work, definitions, sink};
use std::error::Error;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn validate(work: &Work<String>) -> Result<Done<String>, HandlerError> {
    match work.payload.lines().find(|line| line.parse::<i64>().is_err()) {
        Some(line) => Err(HandlerError::new("invalid", format!("`{line}` is no number"))),
        None => Ok(Done::same()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (feeder, source) = feed::<String>();
    let running = Orchestrator::new(definitions::chunk())
        .source(source)
        .handler("validate", validate)
        .handler("transform", |_: &Work<String>| Ok(Done::same()))
        .sink("sink", sink::each(|_: &Delivery<String>| Ok(())))
        .dead_letter("deadLetter", sink::each(|_: &Delivery<String>| Ok(())))
        .max_chunks(4)
        .start()?;

    // One after the other: push, and wait until the chunk has come to its end. A text has as many rows as lines.
    for (text, expected) in [("1\n2\n3\n", "sunk"), ("4\nfive\n", "failed")] {
        let id = feeder.push(text.to_owned())?;
        let settled = running.next_settled(PATIENCE).ok_or("the run is over")?;
        println!("chunk {id} of {text:?}: {} {}", settled.state, settled.errors.join("; "));
        assert_eq!((settled.chunk, settled.state.as_str()), (id, expected));
    }

    // Many at once, from a thread that must not block: `try_push` gives the chunk back when there is no room, and then it is this
    // program's turn to wait, to shed load, or to look what has come to its end meanwhile.
    let (mut refused, mut settled) = (0, 0);
    for number in 0..1000 {
        let mut text = format!("{number}\n");
        while let Err(error) = feeder.try_push(text) {
            let PushError::Full(back) = error else { return Err("the run takes no more chunks".into()) };
            refused += 1;
            text = back;
            settled += u32::from(running.next_settled(Duration::from_millis(10)).is_some());
        }
    }
    println!("1000 chunks pushed, four at most in flight; refused for lack of room and tried again: {}", refused > 0);
    assert!(refused > 0);

    // The run ends when everything that was pushed has: `next_settled` gives the rest, and then nothing.
    feeder.close();
    while running.next_settled(PATIENCE).is_some() {
        settled += 1;
    }
    assert_eq!(settled, 1000);
    let report = running.wait()?;
    println!("{report}");
    assert_eq!((report.rows.read, report.rows.written, report.rows.dead_lettered), (1005, 1003, 2));
    Ok(())
}
