//! Time as the engine sees it: real, or moved by hand in tests.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An instant: microseconds since the run began, by a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This much later; the end of time if that is further off.
    pub fn after(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Called with the present moment; says whether it wants to be called again.
type Wake = Box<dyn Fn(Moment) -> bool + Send>;

#[derive(Clone)]
enum Kind {
    Real(Instant),
    Manual(Arc<Manual>),
}

#[derive(Default)]
struct Manual {
    now: AtomicU64,
    wakes: Mutex<Vec<Wake>>,
}

/// The engine's clock. Cloning gives the same clock.
#[derive(Clone)]
pub struct Clock {
    kind: Kind,
    /// Microseconds between the Unix epoch and moment 0.
    epoch_micros: u64,
}

impl Clock {
    /// The clock of the machine.
    pub fn real() -> Clock {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { kind: Kind::Real(Instant::now()), epoch_micros: u64::try_from(epoch.as_micros()).unwrap_or(0) }
    }

    /// A clock that stands until [`Clock::advance`] moves it; its epoch is 2000-01-01.
    pub fn manual() -> Clock {
        Clock { kind: Kind::Manual(Arc::default()), epoch_micros: 946_684_800_000_000 }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        match &self.kind {
            Kind::Real(start) => Moment(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Kind::Manual(manual) => Moment(manual.now.load(Ordering::SeqCst)),
        }
    }

    /// `moment` as microseconds since the Unix epoch.
    pub fn unix_micros(&self, moment: Moment) -> u64 {
        self.epoch_micros + moment.0
    }

    /// How long a thread may block until `due`; none when the clock is moved by hand, where an advance wakes it.
    pub fn until(&self, due: Moment) -> Option<Duration> {
        match self.kind {
            Kind::Real(_) => Some(due.since(self.now())),
            Kind::Manual(_) => None,
        }
    }

    /// Moves a manual clock and wakes who waits for it; a real clock cannot be moved.
    ///
    /// # Panics
    /// On a real clock.
    pub fn advance(&self, by: Duration) {
        let Kind::Manual(manual) = &self.kind else { panic!("only a manual clock can be advanced") };
        manual.now.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        let now = self.now();
        manual.wakes.lock().retain(|wake| wake(now));
    }

    /// Has `wake` called after each [`Clock::advance`], for as long as it answers `true`.
    pub(crate) fn on_advance(&self, wake: impl Fn(Moment) -> bool + Send + 'static) {
        if let Kind::Manual(manual) = &self.kind {
            manual.wakes.lock().push(Box::new(wake));
        }
    }
}
