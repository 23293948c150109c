//! The engine with scripted parts: what it promises whatever flows through it.

mod control;
mod failures;
mod flow;
mod journal;
mod memory;
mod parked;
mod simulation;
mod split;
mod split_journal;

use parking_lot::Mutex;
use serde_json::json;
use sluicegate::engine::{GroupLimits, Orchestrator, Patience};
use sluicegate::fsm::{Definition, check_text};
use sluicegate::processor::{Done, HandlerError, Work};
use sluicegate::sink::{Delivery, Sink, SinkError, each};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a chunk, as tests write them.
type Rows = Vec<u32>;

/// The lifecycle as it lies in `fsm-definitions/`, with retries that do not make tests wait.
fn lifecycle(name: &str) -> Definition {
    lifecycle_with(name, 3_600_000)
}

/// The same with this many milliseconds for each stage.
fn lifecycle_with(name: &str, stage_timeout: u64) -> Definition {
    let path = format!("{}/fsm-definitions/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    value["meta"]["fsm"]["delays"]["retryBackoff"] = json!({ "base": 1, "factor": 1, "max": 1, "by": "attempt" });
    value["meta"]["fsm"]["delays"]["stageTimeout"] = json!(stage_timeout);
    definition(value)
}

/// A definition from JSON written in a test.
fn definition(value: serde_json::Value) -> Definition {
    let (definition, report) = check_text(&value.to_string(), None);
    definition.unwrap_or_else(|| panic!("{report}"))
}

/// Handlers that find nothing to do.
fn nothing(_: &Work<Rows>) -> Result<Done<Rows>, HandlerError> {
    Ok(Done::same())
}

/// What arrived somewhere, in order of arrival.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, Rows)>>>);

impl Seen {
    /// A sink that remembers.
    fn sink(&self) -> impl Sink<Rows> + use<> {
        let seen = self.clone();
        each(move |delivery: &Delivery<Rows>| {
            seen.take_in(delivery);
            Ok(())
        })
    }

    /// A sink that fails as `script` says (by chunk id and attempt) and else remembers.
    fn unless<F: FnMut(&Delivery<Rows>) -> Option<SinkError> + Send + 'static>(&self, mut script: F) -> impl Sink<Rows> + use<F> {
        let seen = self.clone();
        each(move |delivery: &Delivery<Rows>| {
            if let Some(error) = script(delivery) {
                return Err(error);
            }
            seen.take_in(delivery);
            Ok(())
        })
    }

    fn take_in(&self, delivery: &Delivery<Rows>) {
        let mut rows: Rows = delivery.rejected.iter().map(|rejected| rejected.row as u32).collect();
        if delivery.whole {
            rows.extend(delivery.payload.iter());
        }
        self.0.lock().push((delivery.id.to_string(), rows));
    }

    fn chunks(&self) -> Vec<String> {
        self.0.lock().iter().map(|(id, _)| id.clone()).collect()
    }

    fn rows(&self) -> Rows {
        self.0.lock().iter().flat_map(|(_, rows)| rows.clone()).collect()
    }
}

/// `count` chunks of ten rows each: 0 to 9, 10 to 19, …
fn chunks(count: u32) -> impl Iterator<Item = Rows> + Send {
    (0..count).map(|chunk| (chunk * 10..chunk * 10 + 10).collect())
}

/// The default lifecycle with handlers that do nothing, and a sink and a dead letter that remember.
fn standard(seen: &Seen, dead: &Seen) -> Orchestrator<Rows> {
    handlers(Orchestrator::new(lifecycle("chunk"))).sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink())
}

fn handlers(run: Orchestrator<Rows>) -> Orchestrator<Rows> {
    run.handler("validate", nothing)
        .handler("transform", nothing)
        .workers(2)
        .patience(quick())
        .group(GroupLimits { idle: Duration::from_millis(2), ..GroupLimits::default() })
}

/// Waits until something is so; a test that waits in vain fails here.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Patience that does not make tests wait.
fn quick() -> Patience {
    Patience { total: Duration::from_millis(200), first_wait: Duration::from_millis(1), longest_wait: Duration::from_millis(5) }
}
