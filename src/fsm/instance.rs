//! One run of a machine.

use super::context::Context;
#[cfg(doc)]
use super::effect::Effect;
use super::machine::{InvocationId, StateId};

/// Where an instance stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It takes events.
    Active,
    /// It reached a final child of the root.
    Done,
    /// The error of an invocation met no transition, or a macrostep did not end.
    Error,
}

/// One run of a machine. Belongs to the machine that started it; with another one the result is unspecified (it may
/// panic), but nothing worse.
///
/// When it has ended, all its timers are void: no [`Effect::Cancel`] is given for them.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(super) context: Context,
    pub(super) running: Running,
    pub(super) leaf: StateId,
    pub(super) status: Status,
}

impl Instance {
    /// The active leaf; the last one when it has ended.
    #[inline]
    pub fn state(&self) -> StateId {
        self.leaf
    }

    /// Whether it still takes events.
    #[inline]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The values that its guards see.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// True from [`Effect::Start`] until it settles or [`Effect::Stop`]. An outcome that arrives while this is false is
    /// stale and must not be sent. (An invocation that was stopped and started again is running; telling its two runs
    /// apart is the caller's.)
    pub fn is_running(&self, invocation: InvocationId) -> bool {
        self.running.has(invocation)
    }
}

/// The invocations that run. Machines with up to 64 invocations need no memory for it.
#[derive(Clone, Debug)]
pub(super) enum Running {
    Few(u64),
    Many(Box<[u64]>),
}

impl Running {
    pub fn none(invocations: usize) -> Running {
        if invocations <= 64 { Running::Few(0) } else { Running::Many(vec![0; invocations.div_ceil(64)].into()) }
    }

    #[inline]
    fn word(&mut self, invocation: InvocationId) -> (&mut u64, u64) {
        let bit = 1 << (invocation.index() % 64);
        match self {
            Running::Few(word) => (word, bit),
            Running::Many(words) => (&mut words[invocation.index() / 64], bit),
        }
    }

    fn has(&self, invocation: InvocationId) -> bool {
        let bit = 1u64 << (invocation.index() % 64);
        match self {
            Running::Few(word) => word & bit != 0,
            Running::Many(words) => words[invocation.index() / 64] & bit != 0,
        }
    }

    #[inline]
    pub fn set(&mut self, invocation: InvocationId) {
        let (word, bit) = self.word(invocation);
        *word |= bit;
    }

    /// True when it was running.
    #[inline]
    pub fn clear(&mut self, invocation: InvocationId) -> bool {
        let (word, bit) = self.word(invocation);
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }
}
