//! What a step leaves for its caller to do.

use super::definition::Jitter;
use super::instance::Running;
use super::machine::{InvocationId, TimerId};

/// What the caller has to do after a macrostep.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin the work.
    Start(InvocationId),
    /// End work that is running and has not settled. What it may still report must not be sent.
    Stop(InvocationId),
    /// Send the event of the timer after a while.
    Arm {
        /// Which; it is not armed at this moment.
        timer: TimerId,
        /// At least 0 and never NaN, but infinite (never due) when a backoff has no `max` and outgrew a double.
        delay_ms: f64,
        /// [`Jitter::Full`]: draw between 0 and `delay_ms`.
        jitter: Jitter,
    },
    /// Forget the timer. It may have fired already.
    Cancel(TimerId),
}

/// The effects of one macrostep, in order. Owned by the caller and used again: cleared by each step, its memory kept.
#[derive(Debug, Default)]
pub struct Effects {
    pub(super) list: Vec<Effect>,
    /// Events that the machine sends to itself, first in first out from `handled` on; into its `internals`.
    pub(super) queue: Vec<u32>,
    handled: usize,
}

impl Effects {
    /// None.
    pub fn new() -> Effects {
        Effects::default()
    }

    /// In the order in which they are to be performed.
    pub fn iter(&self) -> std::slice::Iter<'_, Effect> {
        self.list.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.clear_queue();
    }

    #[inline]
    pub(super) fn clear_queue(&mut self) {
        self.queue.clear();
        self.handled = 0;
    }

    pub(super) fn next_internal(&mut self) -> Option<u32> {
        let next = self.queue.get(self.handled).copied();
        self.handled += usize::from(next.is_some());
        next
    }

    #[inline]
    pub(super) fn arm(&mut self, timer: TimerId, delay_ms: f64, jitter: Jitter) {
        self.list.push(Effect::Arm { timer, delay_ms, jitter });
    }

    /// A timer armed in this macrostep was never told to the caller.
    #[inline]
    pub(super) fn cancel(&mut self, timer: TimerId) {
        let armed_now = |effect: &Effect| matches!(effect, Effect::Arm { timer: armed, .. } if *armed == timer);
        if !self.take_back(armed_now) {
            self.list.push(Effect::Cancel(timer));
        }
    }

    #[inline]
    pub(super) fn start(&mut self, invocation: InvocationId, running: &mut Running) {
        running.set(invocation);
        self.list.push(Effect::Start(invocation));
    }

    /// An invocation created in this macrostep never starts, and one that has settled needs no stop.
    #[inline]
    pub(super) fn stop(&mut self, invocation: InvocationId, running: &mut Running) {
        if running.clear(invocation) && !self.take_back(|effect| *effect == Effect::Start(invocation)) {
            self.list.push(Effect::Stop(invocation));
        }
    }

    /// Takes back what was asked for in this macrostep; false when it was not.
    #[inline]
    fn take_back(&mut self, effect: impl Fn(&Effect) -> bool) -> bool {
        !self.list.is_empty() && self.take_back_from_some(effect)
    }

    /// Out of line: a state is seldom left in the macrostep that entered it.
    #[inline(never)]
    fn take_back_from_some(&mut self, is_it: impl Fn(&Effect) -> bool) -> bool {
        let found = self.list.iter().rposition(is_it);
        found.map(|at| self.list.remove(at)).is_some()
    }
}

impl<'a> IntoIterator for &'a Effects {
    type Item = &'a Effect;
    type IntoIter = std::slice::Iter<'a, Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
