//! **sluicegate**: a stream orchestrator in which every chunk of data moves through an explicit finite state machine.

#[cfg(feature = "postgres")]
pub mod batch;
pub mod budget;
pub mod chunk;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod diagram;
pub mod engine;
pub mod format;
pub mod fsm;
pub mod journal;
pub mod memory;
pub mod processor;
pub mod sink;
pub mod source;
mod trouble;

pub use trouble::{Stop, Trouble, TroubleKind};
