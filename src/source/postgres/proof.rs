//! Has a table changed since an earlier snapshot? Asked before a run goes on under another one: rows that moved between pages meanwhile
//! would be lost or doubled.

use super::export::{Cut, Export};
use super::session::{Row, Session, SnapshotFacts};
use crate::trouble::Trouble;
use std::collections::HashMap;

/// Ranges that one question asks for.
const RANGES_AT_ONCE: usize = 64;

/// Transactions behind this distance cannot be told apart by the 32 bits that row versions carry.
const HALF_CIRCLE: u64 = 1 << 31;

/// Tables below this object id are the server's own; some of them all databases share.
const FIRST_OWN_TABLE: u32 = 16_384;

/// What `pg_current_snapshot()` prints as `xmin:xmax:xip,…`.
struct Transactions {
    oldest_running: u64,
    next: u64,
    running: Vec<u64>,
}

impl Transactions {
    fn parse(text: &str) -> Option<Transactions> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (oldest_running, next) = (number()?, number()?);
        let running = parts.next()?.split(',').filter(|number| !number.is_empty());
        Some(Transactions { oldest_running, next, running: running.map(|number| number.parse().ok()).collect::<Option<_>>()? })
    }

    /// Every transaction whose row versions this snapshot did not see has this number or a later one, unless it is of another database:
    /// those in `elsewhere` are known to be.
    ///
    /// What was running is one of the list, or a subtransaction of one, which has a later number than it and is nowhere else. On a
    /// standby the list is empty, whatever runs, and nothing is known of it: then all from the oldest on count. That may call a row
    /// changed that is not, and never the other way round.
    fn first_unseen(&self, elsewhere: Option<&[u64]>) -> u64 {
        let Some(elsewhere) = elsewhere else { return self.oldest_running };
        self.running.iter().copied().filter(|number| !elsewhere.contains(number)).min().unwrap_or(self.next)
    }
}

/// A place in the write-ahead log, as in `16/B374D848`.
pub(super) fn place_in_log(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some((u64::from(u32::from_str_radix(high, 16).ok()?) << 32) | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// Whether the snapshot `now` was taken before `then`: on a standby that lags behind, or after a restore. What `then` saw may be missing.
fn is_older(now: &SnapshotFacts, then: &SnapshotFacts) -> bool {
    let place = |facts: &SnapshotFacts| facts.lsn.as_deref().and_then(place_in_log);
    place(now).zip(place(then)).is_some_and(|(now, then)| now < then)
}

impl Export {
    /// Says what of the table has changed since the snapshot `before`, under which the ranges in `finished` had so many rows. `None`
    /// proves: no row version has come since on any page, and no row has gone from a finished range. So what was read of those is
    /// what the session's own snapshot sees, and the rest can be read under it.
    ///
    /// Reads the whole table once, on the server.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn changes_since(
        &self,
        session: &mut Session,
        before: &SnapshotFacts,
        finished: &HashMap<u32, u64>,
    ) -> Result<Option<String>, Trouble> {
        let Some(Cut::Pages(cut)) = &self.cut else {
            return Ok(Some("it is read by one statement, whose rows have no fixed order".into()));
        };
        if is_older(session.snapshot(), before) {
            return Ok(Some("the server shows an older state than it did then; a standby may have to catch up".into()));
        }
        let now = Transactions::parse(&session.snapshot().transactions);
        let (Some(then), Some(now)) = (Transactions::parse(&before.transactions), now) else {
            return Ok(Some("the journal does not say which transactions its snapshot saw".into()));
        };
        let is_shared = cut.heaps.iter().any(|heap| heap.oid < FIRST_OWN_TABLE);
        let first = then.first_unseen(before.elsewhere.as_deref().filter(|_| !is_shared));
        if now.next.saturating_sub(first) >= HALF_CIRCLE || now.next < first {
            return Ok(Some("too many transactions lie between the two snapshots to tell".into()));
        }
        // age() counts back from the same moment on both sides, so that the comparison holds across the wrap of 32 bits. Frozen row
        // versions keep their number: one from more than half a circle ago may be called new, and never the other way round.
        let since = format!("pg_catalog.age(xmin) <= pg_catalog.age('{}'::pg_catalog.xid)", first & 0xffff_ffff);
        for questions in self.count_ranges(&since).chunks(RANGES_AT_ONCE) {
            for answer in session.ask(&questions.join(" UNION ALL "), "look what has changed")? {
                if let Some(change) = self.change(&answer, finished) {
                    return Ok(Some(change));
                }
            }
        }
        Ok(None)
    }

    /// What an answer of [`Export::count_ranges`] tells.
    fn change(&self, answer: &Row, finished: &HashMap<u32, u64>) -> Option<String> {
        let number = |column: usize| answer.get(column)?.as_ref()?.parse::<u64>().ok();
        let (Some(range), Some(rows), Some(new)) = (number(0), number(1), number(2)) else {
            return Some("the server's answer cannot be read".into());
        };
        let range = u32::try_from(range).ok()?;
        let origin = &self.ranges.get(range as usize)?.origin;
        if new > 0 {
            return Some(format!("{new} rows were inserted or updated on {origin}"));
        }
        let before = finished.get(&range).copied().filter(|before| *before != rows)?;
        Some(format!("{origin} had {before} rows and has {rows} now"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_transactions_begin_with_the_oldest_that_ran_in_this_database() {
        let first = |text: &str, elsewhere: Option<&[u64]>| Transactions::parse(text).unwrap().first_unseen(elsewhere);
        assert_eq!(first("750:750:", Some(&[])), 750);
        assert_eq!(first("740:750:740,745", Some(&[])), 740);
        assert_eq!(first("740:750:740,745", Some(&[740])), 745, "what ran elsewhere wrote nothing here");
        assert_eq!(first("740:750:740,745", Some(&[745])), 740);
        assert_eq!(first("740:750:740,745", Some(&[745, 740])), 750, "nothing ran here");
        assert_eq!(first("740:750:740,745", None), 740, "where is not known");
        assert_eq!(first("740:750:", None), 740, "on a standby the list is empty, whatever runs");
        assert!(Transactions::parse("").is_none());
        assert!(Transactions::parse("7:x:").is_none());
        assert!(Transactions::parse("7:8:x").is_none());
    }

    #[test]
    fn an_older_state_is_told_by_its_place_in_the_log() {
        let at = |lsn: Option<&str>| SnapshotFacts {
            id: String::new(),
            transactions: String::new(),
            lsn: lsn.map(str::to_owned),
            taken_at: String::new(),
            elsewhere: None,
            frozen: false,
        };
        assert!(is_older(&at(Some("1/FFFFFFFF")), &at(Some("2/0"))));
        assert!(!is_older(&at(Some("2/0")), &at(Some("2/0"))));
        assert!(!is_older(&at(None), &at(Some("2/0"))));
    }
}
