//! Putting up with a component in trouble.

use crate::clock::{Clock, Moment};
use crate::sync::thread;
use crate::trouble::Stop;
use std::time::Duration;

/// How long to put up with a component in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// In all, from the first failure.
    pub total: Duration,
    /// Before the second try; doubled each time.
    pub first_wait: Duration,
    /// But never longer than this.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { total: Duration::from_secs(60), first_wait: Duration::from_millis(100), longest_wait: Duration::from_secs(5) }
    }
}

/// How often who waits looks whether the run is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The least it sleeps; and how often it looks at a clock that is moved by hand.
const SHORTEST_NAP: Duration = Duration::from_micros(100);

/// One row of tries.
pub(super) struct Waiting<'a> {
    patience: Patience,
    clock: &'a Clock,
    since: Option<Moment>,
    next: Duration,
}

impl<'a> Waiting<'a> {
    pub fn new(patience: Patience, clock: &'a Clock) -> Waiting<'a> {
        Waiting { patience, clock, since: None, next: patience.first_wait }
    }

    /// Waits before the next try. `false` when there should be none: patience is at its end, or the run is to stop.
    pub fn wait(&mut self, stop: &Stop) -> bool {
        let now = self.clock.now();
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= self.patience.total {
            return false;
        }
        let due = now.after(self.next);
        self.next = (self.next * 2).min(self.patience.longest_wait);
        while self.clock.now() < due {
            if stop.is_draining() {
                return false;
            }
            thread::sleep(self.clock.until(due).map_or(SHORTEST_NAP, |left| left.clamp(SHORTEST_NAP, LOOK_EVERY)));
        }
        !stop.is_draining()
    }

    pub fn has_waited(&self) -> bool {
        self.since.is_some()
    }
}
