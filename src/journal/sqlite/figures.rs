//! Sums over the transitions of a journal, by state and by edge.

use super::query::Reader;
use crate::trouble::Trouble;
use serde::Serialize;

/// One state's figures over all runs in the journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateFigures {
    /// Keys below the root joined by dots.
    pub state: String,
    /// Chunks that are in it now.
    pub now: i64,
    /// How often a chunk entered it.
    pub entered: i64,
    /// How often a chunk entered it again in the same run.
    pub again: i64,
    /// How often a chunk left it by a failed invocation.
    pub errors: i64,
    /// How often a chunk left it by a timer.
    pub timers: i64,
    /// Median of the time in it, in microseconds. Of stays that have ended; 0 if there is none.
    pub median_micros: i64,
    /// 99th percentile of the time in it, in microseconds.
    pub p99_micros: i64,
}

/// How often chunks went from one state to another by one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EdgeCount {
    /// The state before; empty for a chunk's first.
    pub from: String,
    /// The state after.
    pub to: String,
    /// The event, by the machine's name.
    pub event: String,
    /// How often.
    pub count: i64,
}

/// Percentiles by the nearest-rank method: the smallest stay that is at least as long as that part of all.
const STATES: &str = "
WITH
entries AS (
    SELECT to_state AS state, sum(times) AS entered, sum(times - 1) AS again
    FROM (SELECT to_state, count(*) AS times FROM transitions WHERE event <> 'sluicegate.discarded' GROUP BY run, range, idx, split, to_state) GROUP BY to_state
),
stays AS (
    SELECT from_state AS state, in_state, event,
        row_number() OVER (PARTITION BY from_state ORDER BY in_state) AS rank, count(*) OVER (PARTITION BY from_state) AS total
    FROM transitions WHERE from_state IS NOT NULL AND event <> 'sluicegate.discarded'
),
times AS (
    SELECT state, min(CASE WHEN rank * 2 >= total THEN in_state END) AS median, min(CASE WHEN rank * 100 >= total * 99 THEN in_state END) AS p99,
        sum(event GLOB 'xstate.error.*') AS errors, sum(event GLOB 'xstate.after.*') AS timers
    FROM stays GROUP BY state
),
present AS (SELECT state, count(*) AS now FROM chunks GROUP BY state)
SELECT state, coalesce(now, 0), entered, again, coalesce(errors, 0), coalesce(timers, 0), coalesce(median, 0), coalesce(p99, 0)
FROM entries LEFT JOIN times USING (state) LEFT JOIN present USING (state) ORDER BY state";

const EDGES: &str = "SELECT coalesce(from_state, ''), to_state, event, count(*) FROM transitions WHERE event <> 'sluicegate.discarded' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";

impl Reader {
    /// The figures of every state that a chunk has entered.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn state_figures(&self) -> Result<Vec<StateFigures>, Trouble> {
        self.all(STATES, &[], |row| {
            Ok(StateFigures {
                state: row.get(0)?,
                now: row.get(1)?,
                entered: row.get(2)?,
                again: row.get(3)?,
                errors: row.get(4)?,
                timers: row.get(5)?,
                median_micros: row.get(6)?,
                p99_micros: row.get(7)?,
            })
        })
    }

    /// How often each edge was taken.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn edge_counts(&self) -> Result<Vec<EdgeCount>, Trouble> {
        self.all(EDGES, &[], |row| Ok(EdgeCount { from: row.get(0)?, to: row.get(1)?, event: row.get(2)?, count: row.get(3)? }))
    }
}
