//! Standbys that stand still. While replay is paused every transaction sees the same, so no snapshot has to be held, and none can be
//! lost: what stands at one place in the log shows the same rows on the same pages, on this server and on every physical clone of it.

use super::proof::place_in_log;
use super::session::Row;
use crate::trouble::{Trouble, TroubleKind};

/// Servers before this version say that a pause was asked for, and not whether replay has stopped.
pub(super) const PAUSE_STATE: u32 = 140_000;

/// Asks where replay stands. Its answer is one row, which [`Standstill`] reads.
pub(super) const LOOK: &str = "SELECT pg_catalog.pg_is_in_recovery(),
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() END,
    pg_catalog.pg_last_wal_replay_lsn(), (SELECT system_identifier FROM pg_catalog.pg_control_system())";

/// Where a standby has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standstill {
    system_identifier: String,
    /// As the server writes it.
    pub lsn: String,
    place: u64,
}

/// What an answer to [`LOOK`] says.
struct Seen {
    in_recovery: bool,
    pause: Option<String>,
    lsn: String,
    place: Option<u64>,
    system_identifier: String,
}

impl Seen {
    fn read(row: &Row) -> Seen {
        let text = |column: usize| row.get(column).cloned().flatten();
        let lsn = text(2);
        Seen {
            in_recovery: text(0).as_deref() == Some("t"),
            pause: text(1),
            place: lsn.as_deref().and_then(place_in_log),
            lsn: lsn.unwrap_or_else(|| "an unknown place".into()),
            system_identifier: text(3).unwrap_or_default(),
        }
    }

    fn is_paused(&self) -> bool {
        self.pause.as_deref() == Some("paused")
    }
}

impl Standstill {
    /// Where the server stands that gave this answer.
    ///
    /// # Errors
    /// When it does not stand still, with what to do.
    pub fn find(row: &Row) -> Result<Standstill, Trouble> {
        let refused = |why: &str| {
            let message = format!("--consistency frozen reads a standby whose replay is paused, and {why}");
            Err(Trouble::lasting(TroubleKind::Configuration, message))
        };
        let seen = Seen::read(row);
        if !seen.in_recovery {
            return refused(
                "this server is a primary: connect to a standby or a clone, and stop it there with SELECT pg_wal_replay_pause()",
            );
        }
        let (true, Some(place)) = (seen.is_paused(), seen.place) else {
            return match seen.pause.as_deref() {
                Some("pause requested") => {
                    let message = "the standby was asked to pause, and its replay has not stopped yet";
                    Err(Trouble::passing(TroubleKind::Unavailable, message))
                }
                _ => refused("this one is replaying: stop it with SELECT pg_wal_replay_pause()"),
            };
        };
        Ok(Standstill { system_identifier: seen.system_identifier, lsn: seen.lsn, place })
    }

    /// Whether the server that gave this answer stands where this says. Replay never goes back, so what was read between two looks that
    /// both say so was read there.
    ///
    /// # Errors
    /// When it does not: for a while, if it may yet come there.
    pub fn holds(&self, row: &Row) -> Result<(), Trouble> {
        let lasting = |message| Err(Trouble::lasting(TroubleKind::Configuration, message));
        let seen = Seen::read(row);
        if seen.system_identifier != self.system_identifier {
            return lasting(format!("the server is of another cluster now: {}, not {}", seen.system_identifier, self.system_identifier));
        }
        if !seen.in_recovery {
            return lasting(format!("the standby was promoted while it was read; {}", self.advice()));
        }
        match seen.place {
            Some(place) if place > self.place => {
                let message = format!("replay went on while the standby was read, from {} to {}; {}", self.lsn, seen.lsn, self.advice());
                lasting(message)
            }
            Some(place) if place == self.place && seen.is_paused() => Ok(()),
            // After a restart, replay may be on its way to where it is to stop.
            _ => {
                let state = seen.pause.as_deref().unwrap_or("in an unknown state");
                let message = format!("the standby does not stand at {}: it is at {}, {state}", self.lsn, seen.lsn);
                Err(Trouble::passing(TroubleKind::Unavailable, message))
            }
        }
    }

    fn advice(&self) -> String {
        format!("go on from a clone that stands at {}, or start over with --fresh", self.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(in_recovery: &str, pause: Option<&str>, lsn: Option<&str>, system: &str) -> Row {
        vec![Some(in_recovery.into()), pause.map(Into::into), lsn.map(Into::into), Some(system.into())]
    }

    fn paused(lsn: &str) -> Row {
        row("t", Some("paused"), Some(lsn), "7")
    }

    #[test]
    fn only_what_has_stopped_stands_still() {
        assert_eq!(Standstill::find(&paused("0/20")).unwrap().lsn, "0/20");
        for (row, passes) in [
            (row("f", None, None, "7"), false),
            (row("t", Some("not paused"), Some("0/20"), "7"), false),
            (row("t", Some("pause requested"), Some("0/20"), "7"), true),
            (row("t", Some("paused"), None, "7"), false),
            (vec![], false),
        ] {
            assert_eq!(Standstill::find(&row).unwrap_err().is_passing(), passes, "{row:?}");
        }
    }

    #[test]
    fn what_may_yet_come_there_is_waited_for_and_what_has_passed_is_not() {
        let still = Standstill::find(&paused("1/20")).unwrap();
        assert!(still.holds(&paused("1/20")).is_ok());
        for (row, passes) in [
            (paused("1/21"), false),
            (row("t", Some("not paused"), Some("1/21"), "7"), false),
            (row("f", None, Some("1/20"), "7"), false),
            (row("t", Some("paused"), Some("1/20"), "8"), false),
            (row("t", Some("pause requested"), Some("1/20"), "7"), true),
            (row("t", Some("not paused"), Some("0/FFFFFFFF"), "7"), true),
            (row("t", Some("not paused"), None, "7"), true),
        ] {
            assert_eq!(still.holds(&row).unwrap_err().is_passing(), passes, "{row:?}");
        }
    }
}
