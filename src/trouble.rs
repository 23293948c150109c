//! What goes wrong with a component, and how a run is told to stop.

use crate::sync::atomic::{AtomicU8, Ordering};
use std::fmt;
use std::sync::Arc;

/// What kind of trouble, which is what a program that started the run wants to know. The numbers are the command's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TroubleKind {
    /// A fault of the program itself.
    Internal = 1,
    /// A source or sink cannot be reached or refuses to serve.
    Unavailable = 69,
    /// A file cannot be read or written: disk full, no permission, an I/O error.
    Io = 74,
    /// Somebody else is at it.
    Busy = 75,
    /// What was asked for cannot be done as it was asked.
    Configuration = 78,
    /// Who reads the output has gone away.
    BrokenPipe = 141,
}

/// A source, sink or journal does not work. Not the fault of any row, so no row is given up for it.
#[derive(Debug)]
pub struct Trouble {
    kind: TroubleKind,
    passing: bool,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Trouble {
    /// Trouble that lasts: trying again cannot help.
    pub fn lasting(kind: TroubleKind, message: impl Into<String>) -> Trouble {
        Trouble { kind, passing: false, message: message.into(), cause: None }
    }

    /// Trouble that may pass: the engine pauses and tries again for a while.
    pub fn passing(kind: TroubleKind, message: impl Into<String>) -> Trouble {
        Trouble { passing: true, ..Trouble::lasting(kind, message) }
    }

    /// With what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Trouble {
        self.cause = Some(cause.into());
        self
    }

    /// What kind of trouble.
    pub fn kind(&self) -> TroubleKind {
        self.kind
    }

    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// The message with everything that caused it, for a log line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Whether and how a run is to stop. Cloning gives the same switch.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Read nothing more; what is in flight goes on to its end.
    pub fn drain(&self) {
        self.0.fetch_max(1, Ordering::SeqCst);
    }

    /// Stop where things are. Still resumable.
    pub fn now(&self) {
        self.0.fetch_max(2, Ordering::SeqCst);
    }

    /// Whether reading is to stop.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 1
    }

    /// Whether everything is to stop.
    pub fn is_now(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 2
    }
}
