//! The engine: carries chunks through their machine.
//!
//! ```text
//!  reader lanes ──chunks──▶ intake ──▶ worker 1..N ──▶ committer: order ▸ sink ▸ flush (group) ▸ journal checkpoint
//!    (I/O)                    ▲  │      (run the handlers,   (one thread: ordered handlers)
//!                             │  └timers  step the machine)
//!                             └────────── settled, timers, commands: the only back edge ─────────┘
//! ```
//! Generic over the payload; knows traits ([`Source`](crate::source::Source), [`Handler`](crate::processor::Handler),
//! [`Sink`](crate::sink::Sink), [`Journal`](crate::journal::Journal)) and no concrete part. What is in flight is bounded by the budget, in
//! chunks and in bytes, so every channel behind it can be unbounded and no cycle can deadlock.
//!
//! ```
//! use sluicegate::{Delivery, Done, Orchestrator, Work, definitions, sink, source};
//!
//! let report = Orchestrator::new(definitions::direct())
//!     .source(source::items([vec![20.5, 21.0], vec![f64::NAN, 22.5]]))
//!     .handler("transform", |work: &Work<Vec<f64>>| {
//!         let kept: Vec<f64> = work.payload.iter().copied().filter(|value| value.is_finite()).collect();
//!         let dropped = work.payload.len() - kept.len();
//!         Ok(Done::with(kept).filtering(dropped as u64))
//!     })
//!     .sink("sink", sink::each(|chunk: &Delivery<Vec<f64>>| {
//!         println!("{}: {:?}", chunk.id, chunk.payload);
//!         Ok(())
//!     }))
//!     .run()?;
//! assert!(report.to_string().starts_with("complete: 4 read = 3 written + 1 filtered + 0 dead-lettered + 0 cancelled, in "));
//! # Ok::<(), sluicegate::RunError>(())
//! ```

mod committer;
mod conductor;
mod family;
mod handle;
mod intake;
mod lane;
mod lifecycle;
mod metrics;
#[cfg(sluicegate_model)]
#[doc(hidden)]
pub mod models;
mod orchestrator;
mod order;
mod patience;
mod registry;
mod report;
mod resident;
mod run_state;
mod running;
mod shared;
mod timers;
mod worker;

pub use committer::GroupLimits;
pub use handle::Handle;
pub use metrics::{Bytes, Durations, MemoryMetrics, MetricsSnapshot, PausedMetrics, StateMetrics, TransitionMetrics};
pub use orchestrator::Orchestrator;
pub use patience::Patience;
pub use registry::View;
pub use report::{Outcome, RunError, RunReport};
pub use run_state::{RUN_DEFINITION, RunStatus};
pub use running::Running;
pub use shared::{Settled, TransitionEvent};
