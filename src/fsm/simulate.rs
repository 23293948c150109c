//! Scripted runs under a virtual clock: for people ([`walk()`]) and for the conformance kit ([`run_case`]).
//!
//! No time passes but what the script says, so a run of days takes microseconds and always goes the same way. Timers
//! due at one instant fire in the order in which they were armed. Jitter is not drawn: the full delay passes.

mod case;
mod script;
mod walk;

use super::machine::{InvocationId, TimerId};

pub use case::{run_case, run_lines};
pub use script::ScriptError;
pub use walk::walk;

/// Alarms under a clock that only moves when told to.
struct Clock<T> {
    /// Milliseconds since the start.
    now: f64,
    armed: u64,
    alarms: Vec<Alarm<T>>,
}

struct Alarm<T> {
    due: f64,
    order: u64,
    what: What<T>,
}

/// What happens when an alarm is due. `T` is the outcome of an invocation.
#[derive(Clone, Debug)]
enum What<T> {
    Timer(TimerId),
    Settle(InvocationId, T),
}

impl<T> Clock<T> {
    fn new() -> Clock<T> {
        Clock { now: 0.0, armed: 0, alarms: Vec::new() }
    }

    fn arm(&mut self, delay_ms: f64, what: What<T>) {
        self.armed += 1;
        self.alarms.push(Alarm { due: self.now + delay_ms.max(0.0), order: self.armed, what });
    }

    fn cancel(&mut self, timer: TimerId) {
        self.alarms.retain(|alarm| !matches!(alarm.what, What::Timer(armed) if armed == timer));
    }

    fn stop(&mut self, invocation: InvocationId) {
        self.alarms.retain(|alarm| !matches!(alarm.what, What::Settle(running, _) if running == invocation));
    }

    /// Moves to the next alarm that is due at or before `limit`, and takes it.
    fn next(&mut self, limit: f64) -> Option<What<T>> {
        let due = self.alarms.iter().enumerate().filter(|(_, alarm)| alarm.due <= limit);
        let first = due.min_by(|(_, a), (_, b)| a.due.total_cmp(&b.due).then(a.order.cmp(&b.order)));
        let index = first.map(|(index, _)| index)?;
        let alarm = self.alarms.remove(index);
        self.now = self.now.max(alarm.due);
        Some(alarm.what)
    }
}
