//! What the connections of a run read under: how all of them see the same, or each range what there is at its own moment.

use super::frozen::{LOOK, Standstill};
use super::keyset::Guard;
use super::session::Row;
use super::wire::{RawConnection, WireError};
use crate::trouble::Trouble;
use std::borrow::Cow;

/// What a lane's connection does when it begins, what each range is wrapped in, and what answers beside its rows must say.
///
/// `begin` are the statements that begin a transaction with everything pinned.
pub(super) enum View {
    /// One transaction under the session's snapshot, and all ranges in it.
    Snapshot { begin: String },
    /// Each range in a transaction of its own, with a look before and after whether the server still stands still. Each statement takes a
    /// snapshot of its own, so that the one that reads takes it between the two looks.
    Frozen {
        begin: String,
        /// Where the server stands.
        at: Standstill,
    },
    /// Each range in a transaction of its own, at a moment of its own, with a look before whether the table is still the same one.
    Moments { begin: String, guard: Guard },
}

/// Why a connection does not see it.
pub(super) enum Unseen {
    Wire(WireError),
    Trouble(Trouble),
}

impl View {
    /// Prepares a new connection.
    pub fn enter(&self, connection: &mut RawConnection) -> Result<(), Unseen> {
        match self {
            View::Snapshot { begin } => connection.simple(begin).map(drop).map_err(Unseen::Wire),
            View::Frozen { at, .. } => {
                let rows = connection.simple(LOOK).map_err(Unseen::Wire)?;
                at.holds(rows.first().unwrap_or(&Row::new())).map_err(Unseen::Trouble)
            }
            View::Moments { .. } => Ok(()),
        }
    }

    /// What to send to have a range read by `sql`.
    pub fn statement<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        match self {
            View::Snapshot { .. } => sql.into(),
            View::Frozen { begin, .. } => format!("{begin}{LOOK};{sql};{LOOK};COMMIT").into(),
            View::Moments { begin, guard } => format!("{begin}{}{sql};COMMIT", guard.sql).into(),
        }
    }

    /// Takes note of a row beside those of the range: an answer to a look.
    ///
    /// # Errors
    /// When the server does not stand still any more, or the table is another.
    pub fn look(&self, row: &Row) -> Result<(), Trouble> {
        match self {
            View::Snapshot { .. } => Ok(()),
            View::Frozen { at, .. } => at.holds(row),
            View::Moments { guard, .. } => guard.holds(row),
        }
    }

    /// How many looks belong to a range.
    pub fn looks(&self) -> u32 {
        match self {
            View::Snapshot { .. } => 0,
            View::Frozen { .. } => 2,
            View::Moments { .. } => 1,
        }
    }
}
