//! What a run did, and why it did not do more.

use super::metrics::MetricsSnapshot;
use crate::fsm;
use crate::journal::RowSum;
use crate::trouble::{Trouble, TroubleKind};
use serde::Serialize;
use std::fmt;

/// How a run came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was read and written.
    Complete,
    /// Everything was read; some rows are in the dead letter.
    CompleteWithDeadLetters,
    /// It was stopped, and can be resumed.
    Stopped,
    /// It was cancelled.
    Cancelled,
    /// It could not go on.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Complete => "complete",
            Outcome::CompleteWithDeadLetters => "complete, with rows in the dead letter",
            Outcome::Stopped => "stopped",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed => "failed",
        })
    }
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct RunReport {
    /// How it came out.
    pub outcome: Outcome,
    /// Why it was stopped, if nobody asked for it: chunks wait for an event that nobody can send.
    pub stopped_because: Option<String>,
    /// Where its rows went.
    pub rows: RowSum,
    /// How long it took, in seconds by the run's clock.
    pub seconds: f64,
    /// Everything that was counted.
    pub metrics: MetricsSnapshot,
}

impl fmt::Display for RunReport {
    /// In one line: `complete: 100 read = 90 written + …, in 0.012 s`. The sum need only come out when everything was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport { outcome, stopped_because, rows, seconds, metrics } = self;
        if matches!(outcome, Outcome::Complete | Outcome::CompleteWithDeadLetters) {
            return write!(f, "{outcome}: {rows}, in {seconds:.3} s");
        }
        let RowSum { written, filtered, dead_lettered, cancelled, .. } = rows;
        let admitted = metrics.rows_admitted;
        write!(f, "{outcome}: of {admitted} rows that came in, {written} written, {filtered} filtered, {dead_lettered} dead-lettered, ")?;
        write!(f, "{cancelled} cancelled, in {seconds:.3} s")?;
        stopped_because.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

/// Why a run did not come to a good end.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The definition, or what was registered for it, is at fault. Nothing was read.
    Definition(fsm::Report),
    /// The run could not start. Nothing was read.
    Setup(Trouble),
    /// The run could not go on.
    Failed {
        /// Why.
        trouble: Trouble,
        /// What it did until then.
        report: Box<RunReport>,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Definition(report) => write!(f, "the definition cannot be run:\n{report}"),
            RunError::Setup(trouble) | RunError::Failed { trouble, .. } => trouble.fmt(f),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Definition(_) => None,
            RunError::Setup(trouble) | RunError::Failed { trouble, .. } => std::error::Error::source(trouble),
        }
    }
}

/// The trouble of a sum that does not come out.
pub(super) fn unequal(rows: RowSum) -> Trouble {
    let RowSum { read, written, filtered, dead_lettered, cancelled } = rows;
    let message = format!(
        "the rows do not add up: {read} read, but {written} written + {filtered} filtered + {dead_lettered} dead-lettered + {cancelled} cancelled"
    );
    Trouble::lasting(TroubleKind::Internal, message)
}
