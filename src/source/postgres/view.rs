//! How the connections of a run all see the same.

use super::frozen::{LOOK, Standstill};
use super::session::Row;
use super::wire::{RawConnection, WireError};
use crate::trouble::Trouble;
use std::borrow::Cow;

/// What a lane's connection has to do to see what the session sees.
pub(super) enum View {
    /// Begin a transaction under the session's snapshot, and read all ranges in it.
    Snapshot {
        /// The statements that begin it.
        begin: String,
    },
    /// Read each range in a transaction of its own, and look before and after whether the server still stands still.
    Frozen {
        /// The statements that begin one. Each of its statements takes a snapshot of its own, so that the one that reads takes it between
        /// the two looks.
        begin: String,
        /// Where the server stands.
        at: Standstill,
    },
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
        }
    }

    /// What to send to have a range read by `sql`.
    pub fn statement<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        match self {
            View::Snapshot { .. } => sql.into(),
            View::Frozen { begin, .. } => format!("{begin}{LOOK};{sql};{LOOK};COMMIT").into(),
        }
    }

    /// Takes note of a row beside those of the range: an answer to a look.
    ///
    /// # Errors
    /// When the server does not stand still any more.
    pub fn look(&self, row: &Row) -> Result<(), Trouble> {
        match self {
            View::Snapshot { .. } => Ok(()),
            View::Frozen { at, .. } => at.holds(row),
        }
    }

    /// How many looks belong to a range.
    pub fn looks(&self) -> u32 {
        match self {
            View::Snapshot { .. } => 0,
            View::Frozen { .. } => 2,
        }
    }
}
