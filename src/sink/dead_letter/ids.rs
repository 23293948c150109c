//! Numbers of records: single ones and runs of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A set of record ids. Runs of neighbours take no more memory than one.
///
/// Written `1-5,8`, which reads back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdSet {
    /// First to last of each run; no two touch.
    runs: BTreeMap<u64, u64>,
}

impl IdSet {
    /// Adds all ids from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        // Runs that overlap or touch the new one become part of it.
        while let Some((&from, &to)) =
            self.runs.range(..=last.saturating_add(1)).next_back().filter(|(_, to)| to.saturating_add(1) >= first)
        {
            self.runs.remove(&from);
            first = first.min(from);
            last = last.max(to);
        }
        self.runs.insert(first, last);
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u64) {
        let Some((&first, &last)) = self.runs.range(..=id).next_back().filter(|(_, last)| **last >= id) else { return };
        self.runs.remove(&first);
        if first < id {
            self.runs.insert(first, id - 1);
        }
        if id < last {
            self.runs.insert(id + 1, last);
        }
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: u64) -> bool {
        self.runs.range(..=id).next_back().is_some_and(|(_, last)| *last >= id)
    }

    /// How many ids there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add(last - first).saturating_add(1))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The lowest, if there is one.
    pub fn first(&self) -> Option<u64> {
        self.runs.keys().next().copied()
    }

    /// Its runs, in order: first and last of each.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(first, last)| (*first, *last))
    }

    /// The id at `place` (from 0), in order.
    pub fn nth(&self, place: u64) -> Option<u64> {
        let mut left = place;
        for (first, last) in self.runs() {
            if left <= last - first {
                return Some(first + left);
            }
            left -= last - first + 1;
        }
        None
    }
}

impl fmt::Display for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.runs().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

/// The text names no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseIdsError(String);

impl fmt::Display for ParseIdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` names no record; records are numbered from 1, like 7, 3-9 or 1,4-6", self.0)
    }
}

impl std::error::Error for ParseIdsError {}

impl FromStr for IdSet {
    type Err = ParseIdsError;

    fn from_str(text: &str) -> Result<IdSet, ParseIdsError> {
        let refused = || ParseIdsError(text.to_owned());
        let number = |text: &str| text.parse::<u64>().ok().filter(|id| *id > 0).ok_or_else(refused);
        let mut ids = IdSet::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(refused());
            }
            ids.insert(first, last);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_runs_is_a_set(inserted in proptest::collection::vec((1..60_u64, 0..9_u64), 0..30), removed in proptest::collection::vec(1..70_u64, 0..20)) {
            let (mut ids, mut model) = (IdSet::default(), BTreeSet::new());
            for (first, more) in inserted {
                ids.insert(first, first + more);
                model.extend(first..=first + more);
            }
            for id in removed {
                ids.remove(id);
                model.remove(&id);
            }
            prop_assert_eq!(ids.len(), model.len() as u64);
            prop_assert!((0..80).all(|id| ids.contains(id) == model.contains(&id)));
            prop_assert!((0..).zip(&model).all(|(place, id)| ids.nth(place) == Some(*id)));
            prop_assert_eq!(ids.nth(model.len() as u64), None);
            prop_assert!(ids.runs().zip(ids.runs().skip(1)).all(|(one, next)| one.1 + 1 < next.0));
            if !ids.is_empty() {
                prop_assert_eq!(ids.to_string().parse(), Ok(ids));
            }
        }
    }

    #[test]
    fn what_names_no_record_is_refused() {
        for text in ["", "0", "-1", "1-", "5-3", "a", "1,,2", "1 2"] {
            assert!(text.parse::<IdSet>().is_err(), "{text}");
        }
    }
}
