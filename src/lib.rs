//! **sluicegate** is a stream orchestrator: data moves in *chunks*, and every chunk is one instance of an explicit finite state machine,
//! which is checked like a program before a byte moves and whose every transition can be journaled.
//!
//! ```text
//!  source lanes ──chunks──▶ intake ──▶ worker 1..N ──▶ committer: order ▸ sink ▸ flush ▸ journal
//!     (I/O)                   ▲  │      (your handlers,     (one thread: your sinks)
//!                             │  └timers  the machine)
//!                             └───────── settled, retry due: the only back edge ─────────┘
//! ```
//!
//! A state's name says what a chunk has achieved; its invocation does the next step. You write the states as JSON or in Rust, and register
//! the code behind the names. Threads, backpressure, retries, order and sums are the engine's.
//!
//! # An example
//!
//! ```
//! use sluicegate::{Definition, Delivery, Done, Orchestrator, Payload, Work, sink, source};
//!
//! struct Readings(Vec<f64>);
//!
//! impl Payload for Readings {
//!     fn bytes(&self) -> usize { self.0.len() * size_of::<f64>() }
//!     fn rows(&self) -> u64 { self.0.len() as u64 }
//! }
//!
//! let lifecycle: Definition = r#"{
//!     "id": "reading", "initial": "received", "states": {
//!         "received": { "invoke": { "src": "check", "onDone": "checked", "onError": "failed" }, "after": { "5000": "failed" } },
//!         "checked": { "invoke": { "src": "store", "onDone": "stored", "onError": "failed" } },
//!         "stored": { "type": "final" }, "failed": { "type": "final" }
//!     }
//! }"#.parse()?;
//!
//! let report = Orchestrator::new(lifecycle)
//!     .source(source::items([Readings(vec![20.5, 21.0]), Readings(vec![f64::NAN, 22.5])]))
//!     .handler("check", |work: &Work<Readings>| {
//!         let kept: Vec<f64> = work.payload.0.iter().copied().filter(|value| value.is_finite()).collect();
//!         let dropped = work.payload.rows() - kept.len() as u64;
//!         Ok(Done::with(Readings(kept)).filtering(dropped))
//!     })
//!     .sink("store", sink::each(|chunk: &Delivery<Readings>| {
//!         println!("{}: {:?}", chunk.id, chunk.payload.0);
//!         Ok(())
//!     }))
//!     .run()?;
//!
//! assert_eq!(report.rows.to_string(), "4 read = 3 written + 1 filtered + 0 dead-lettered + 0 cancelled");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - **Nothing runs unchecked.** An [`Orchestrator`] starts only if the definition has no error and no lint finding that it does not allow
//!   by name, and if the definition and what you registered name the same things, both ways. All findings come at once.
//! - **What is in flight is bounded**, in bytes and in chunks: a chunk takes its place before it is read and gives it back at its end.
//!   Not reading is the backpressure; it cannot deadlock.
//! - **The same input gives the same output**, whatever the number of workers: sinks get chunks in the order they were read, unless
//!   [`Orchestrator::unordered`] says otherwise.
//! - **Nothing is lost silently.** Every row is written, filtered, dead-lettered with its reason, or cancelled; a run whose sum does not
//!   come out fails. See [`RowSum`].
//! - **An error has a scope.** What is wrong with a *chunk* goes to its machine as an event ([`HandlerError`]). What is wrong with a
//!   *source or sink* pauses the run and is tried again ([`Trouble`]); no row is given up for it.
//! - **Written means durable.** A chunk comes to its end when the [`Sink`]'s flush behind it has returned and the journal has it.
//!
//! # Features
//!
//! Without default features this is a small crate: machines, engine, own sources and sinks, files.
//!
//! | feature | gives |
//! |---|---|
//! | `cli` (default) | the command-line program `sluicegate`; brings `journal`, `postgres`, `compression` and `pipeline` |
//! | `async` (default) | `Orchestrator::run_async`: a run as a future |
//! | `journal` | `journal::sqlite`: every transition as a row in an SQLite file, which can be queried and audited |
//! | `postgres` | `source::postgres` and `export`: tables and queries to JSON lines |
//! | `pipeline` | `pipeline`, `source::file`, `processor::rows`: runs over files of JSON lines, CSV and text, as a YAML, TOML or JSON file describes them |
//! | `compression` | gzip and zstd, in and out |
//!
//! # Where to go next
//!
//! - [`fsm`]: the format of definitions, their checks, the simulator; [`fsm::builder`] writes them in Rust, [`definitions`] has four to
//!   start from, [`diagram`] draws them.
//! - [`engine`]: [`Orchestrator`] puts a run together, [`Running`] and [`Handle`] are for a run under way: pause, resume, stop, cancel,
//!   metrics, transitions as they happen.
//! - [`source`], [`processor`], [`sink`], [`journal`]: the traits to implement, and what is there already.
//! - `examples/` in the repository: programs to copy from, numbered by what one learns.

#[cfg(any(feature = "pipeline", feature = "postgres"))]
pub mod batch;
pub mod budget;
mod cgroup;
pub mod chunk;
#[cfg(unix)]
pub mod claim;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod definitions;
pub mod diagram;
pub mod engine;
#[cfg(all(feature = "postgres", unix))]
pub mod export;
mod failpoint;
pub mod format;
pub mod fsm;
pub mod journal;
pub mod memory;
#[cfg(all(feature = "pipeline", unix))]
pub mod pipeline;
pub mod processor;
#[cfg(feature = "pipeline")]
mod quantity;
pub mod sink;
pub mod source;
mod sync;
mod trouble;

pub use chunk::{ChunkId, Halves, Payload};
pub use engine::{Handle, Orchestrator, Outcome, RunError, RunReport, Running};
pub use fsm::Definition;
pub use journal::RowSum;
pub use processor::{Done, Handler, HandlerError, Rejected, Work};
pub use sink::{Delivery, Sink, SinkError};
pub use source::Source;
pub use trouble::{Stop, Trouble, TroubleKind};

/// The examples of `README.md`, compiled and run with those here.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
