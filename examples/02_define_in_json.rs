//! A lifecycle from JSON: what the check says to a broken one, and what a run says when it is mended.
//!
//! Run with `cargo run --example 02_define_in_json`.

use sluicegate::fsm::{Role, Use, Vocabulary, check_text};
use sluicegate::{Definition, Delivery, Done, Orchestrator, Outcome, Work, sink, source};
use std::error::Error;
use std::sync::mpsc;

/// Three mistakes: a handler that does not exist, a target that does not exist, and work without a timeout.
const BROKEN: &str = r#"{
    "id": "shout",
    "initial": "received",
    "states": {
        "received": {
            "invoke": { "src": "upperCase", "onDone": "shouted", "onError": "failed" }
        },
        "shouted": {
            "invoke": { "src": "writ", "onDone": "writen", "onError": "failed" }
        },
        "written": { "type": "final" },
        "failed": { "type": "final" }
    }
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    // What the program has, so that the check knows it: the same names are registered with the run below.
    let program = Vocabulary::closed().handler("upperCase", Use::Required, Role::Payload).handler("write", Use::Required, Role::Ordered);

    let (_, report) = check_text(BROKEN, Some(&program));
    println!("As it was written:\n{report}");
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["unused-handler", "unknown-handler", "unknown-target"]);

    // The mistakes left holes in the graph. With them filled, the checks of the whole graph find the rest.
    let better = BROKEN.replace(r#""writ""#, r#""write""#).replace("writen", "written");
    let (_, report) = check_text(&better, Some(&program));
    println!("With the names mended:\n{report}");
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["no-timeout"]);

    let good = better.replace(
        r#""onError": "failed" }
        },
        "shouted""#,
        r#""onError": "failed" },
            "after": { "1000": "failed" }
        },
        "shouted""#,
    );
    let (_, report) = check_text(&good, Some(&program));
    assert!(report.findings.is_empty(), "{report}");

    // A text that is known to be good needs no more than `parse`, which refuses it with all its errors if it is not.
    let definition: Definition = good.parse()?;
    let (written, lines) = mpsc::channel();
    let report = Orchestrator::new(definition)
        .source(source::items(["a chunk is a string here\n".to_owned(), "and a row is a line\n".to_owned()]))
        .handler("upperCase", |work: &Work<String>| Ok(Done::with(work.payload.to_uppercase())))
        .sink(
            "write",
            sink::each(move |delivery: &Delivery<String>| {
                written.send(delivery.payload.to_string()).expect("the other end is open until the run has ended");
                Ok(())
            }),
        )
        .run()?;

    let output: String = lines.iter().collect();
    println!("The run's output:\n{output}\n{report}");
    assert_eq!(output, "A CHUNK IS A STRING HERE\nAND A ROW IS A LINE\n");
    assert_eq!((report.outcome, report.rows.written), (Outcome::Complete, 2));
    Ok(())
}
