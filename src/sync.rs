//! Locks, channels, atomics, threads: everything by which the engine's threads wait for each other, under one name.
//!
//! Ordinarily these are the real ones and cost nothing more. With `--cfg sluicegate_model` they are those of a model: a scheduler decides
//! at each of them which thread goes on, so that the shipped code can be tried in thousands of interleavings. See `tests/models`.

#[cfg(sluicegate_model)]
mod model;

#[cfg(sluicegate_model)]
pub(crate) use model::*;

#[cfg(not(sluicegate_model))]
pub(crate) use real::*;

#[cfg(not(sluicegate_model))]
mod real {
    pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, unbounded};
    pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;
}
