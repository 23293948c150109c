//! What is due when.

use crate::clock::Moment;
use crate::sync::Mutex;
use std::collections::BTreeMap;

/// Names one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    due: Moment,
    number: u64,
}

impl TimerKey {
    pub fn due(self) -> Moment {
        self.due
    }
}

/// Armed timers in the order they fall due; those of one moment in the order they were armed.
pub(super) struct Timers<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    armed: BTreeMap<TimerKey, T>,
    numbers: u64,
    /// When the thread that fires them looks next by itself.
    next_look: Moment,
}

impl<T> Timers<T> {
    pub fn new() -> Timers<T> {
        Timers { state: Mutex::new(State { armed: BTreeMap::new(), numbers: 0, next_look: Moment(0) }) }
    }

    /// Arms a timer. Also says whether the thread that fires them must be woken, because it would look too late.
    pub fn arm(&self, due: Moment, item: T) -> (TimerKey, bool) {
        let mut state = self.state.lock();
        let key = TimerKey { due, number: state.numbers };
        state.numbers += 1;
        state.armed.insert(key, item);
        let late = due < state.next_look;
        if late {
            state.next_look = due;
        }
        (key, late)
    }

    /// Whether the thread that fires them must be woken because it is `now`; once until it looks.
    pub fn wakes_at(&self, now: Moment) -> bool {
        let mut state = self.state.lock();
        let is_time = now >= state.next_look;
        if is_time {
            state.next_look = Moment(u64::MAX);
        }
        is_time
    }

    pub fn cancel(&self, key: TimerKey) {
        self.state.lock().armed.remove(&key);
    }

    /// Takes the first timer that is due at `now`.
    pub fn pop_due(&self, now: Moment) -> Option<(TimerKey, T)> {
        let mut state = self.state.lock();
        let first = state.armed.first_entry()?;
        (first.key().due <= now).then(|| first.remove_entry())
    }

    /// When to look next: at the first timer, or at `latest` if that is earlier. The caller promises to do so.
    pub fn next_look(&self, latest: Moment) -> Moment {
        let mut state = self.state.lock();
        let first = state.armed.first_key_value().map_or(latest, |(key, _)| key.due);
        state.next_look = first.min(latest);
        state.next_look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_wake_only_for_what_comes_sooner() {
        let timers = Timers::new();
        assert_eq!(timers.next_look(Moment(100)), Moment(100));
        assert!(!timers.arm(Moment(300), "late").1);
        let (early, wakes) = timers.arm(Moment(50), "early");
        assert!(wakes);
        assert!(!timers.arm(Moment(50), "early too").1, "already woken for that moment");
        assert_eq!(timers.next_look(Moment(100)), Moment(50));
        assert_eq!([49, 50, 51].map(|now| timers.wakes_at(Moment(now))), [false, true, false], "once");
        assert_eq!(timers.next_look(Moment(100)), Moment(50));
        timers.cancel(early);
        assert_eq!(timers.pop_due(Moment(49)), None);
        assert_eq!(timers.pop_due(Moment(50)).unwrap().1, "early too");
        assert_eq!(timers.pop_due(Moment(299)), None);
        assert_eq!(timers.pop_due(Moment(999)).unwrap().1, "late");
    }
}
