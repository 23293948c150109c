//! Whose turn it is: chunks come as workers finish them and leave in the order they were read.

use crate::chunk::ChunkId;
use crate::journal::CarriedOver;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Chunks waiting for their turn, for each part (output) on its own. Plain data: no lock, no thread.
///
/// A chunk *passes* when nothing of it comes behind: it was accepted by a sink, or ended without one. Then it is the next one's
/// turn. Without order, every chunk's turn is at once.
///
/// A chunk that is *split* gives its turn to its halves, the first one first.
pub(super) struct Order<T> {
    ordered: bool,
    parts: BTreeMap<u32, Part<T>>,
    /// Chunks that had their turn and need another ordered handler.
    again: VecDeque<T>,
}

struct Part<T> {
    /// Whose turn it is.
    turn: ChunkId,
    waiting: BTreeMap<ChunkId, T>,
    /// Chunks that passed before their turn: they ended without a sink.
    passed: BTreeSet<ChunkId>,
    /// Chunks that were split before their turn.
    split: BTreeSet<ChunkId>,
    /// Ranges that this part has, once they are known, with how many chunks each has.
    ranges: BTreeMap<u32, Length>,
    /// Chunks that will not have their turn in this run.
    blocked: BTreeSet<ChunkId>,
    /// No more ranges will be told.
    closed: bool,
}

/// How many chunks a range has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Exactly so many.
    Complete(u32),
    /// So many were read, and then reading stopped.
    CutOff(u32),
}

impl<T> Order<T> {
    pub fn new(ordered: bool) -> Order<T> {
        Order { ordered, parts: BTreeMap::new(), again: VecDeque::new() }
    }

    fn part(&mut self, part: u32, first_range: u32) -> &mut Part<T> {
        self.parts.entry(part).or_insert_with(|| Part {
            turn: ChunkId::new(first_range, 0),
            waiting: BTreeMap::new(),
            passed: BTreeSet::new(),
            split: BTreeSet::new(),
            ranges: BTreeMap::new(),
            blocked: BTreeSet::new(),
            closed: false,
        })
    }

    /// Says which range a part begins with; 0 for a part nothing was said of.
    pub fn begin(&mut self, part: u32, first_range: u32) {
        self.part(part, first_range);
    }

    /// What earlier runs have done needs no turn.
    pub fn carry_over(&mut self, carried: &CarriedOver) {
        carried.ranges.iter().for_each(|(part, range)| self.range(*part, *range, Length::Complete(0)));
        carried.split.iter().for_each(|(chunk, read)| self.split(read.part, *chunk));
        carried.ended.iter().for_each(|(part, chunk)| self.pass(*part, *chunk));
    }

    /// A chunk that an ordered handler should see. If it has passed before, it does not wait for its turn again.
    pub fn offer(&mut self, part: u32, id: ChunkId, item: T) {
        let ordered = self.ordered;
        let part = self.part(part, 0);
        if ordered && id < part.turn {
            self.again.push_back(item);
        } else {
            part.waiting.insert(id, item);
        }
    }

    /// The chunk needs no further turn.
    pub fn pass(&mut self, part: u32, id: ChunkId) {
        if !self.ordered {
            return;
        }
        let part = self.part(part, 0);
        if id >= part.turn {
            part.passed.insert(id);
            part.advance();
        }
    }

    /// The chunk's turn is that of its halves.
    pub fn split(&mut self, part: u32, id: ChunkId) {
        if !self.ordered {
            return;
        }
        let part = self.part(part, 0);
        if id >= part.turn {
            part.split.insert(id);
            part.advance();
        }
    }

    /// How many chunks a range has. Without this the order would not know whether to wait for another.
    pub fn range(&mut self, part: u32, range: u32, length: Length) {
        let part = self.part(part, 0);
        part.ranges.insert(range, length);
        part.advance();
    }

    /// The chunk will not have its turn in this run, and so nothing behind it will.
    pub fn block(&mut self, part: u32, id: ChunkId) {
        self.part(part, 0).blocked.insert(id);
    }

    /// Takes a chunk whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let ordered = self.ordered;
        if let Some(item) = self.again.pop_front() {
            return Some(item);
        }
        self.parts
            .values_mut()
            .find_map(|part| if ordered { part.waiting.remove(&part.turn) } else { part.waiting.pop_first().map(|(_, item)| item) })
    }

    /// Takes what can never have its turn, because reading stopped before it or a chunk before it is left as it is.
    pub fn take_unreachable(&mut self) -> Vec<T> {
        if !self.ordered {
            return Vec::new();
        }
        let waiting = self.parts.values_mut().filter(|part| part.is_stuck()).map(|part| std::mem::take(&mut part.waiting));
        waiting.flat_map(BTreeMap::into_values).collect()
    }

    /// No more ranges come: a part whose turn is at a range that nobody read will not go on.
    pub fn close(&mut self) {
        self.parts.values_mut().for_each(|part| part.closed = true);
    }
}

impl<T> Part<T> {
    fn advance(&mut self) {
        loop {
            if self.passed.remove(&self.turn) {
                self.turn = self.turn.next();
            } else if self.split.remove(&self.turn)
                && let Some([first, _]) = self.turn.halves()
            {
                self.turn = first;
            } else if self.ranges.get(&self.turn.range) == Some(&Length::Complete(self.turn.index)) {
                self.ranges.remove(&self.turn.range);
                self.turn = ChunkId::new(self.turn.range + 1, 0);
            } else {
                return;
            }
        }
    }

    fn is_stuck(&self) -> bool {
        let range = self.ranges.get(&self.turn.range);
        range == Some(&Length::CutOff(self.turn.index)) || self.blocked.contains(&self.turn) || (self.closed && range.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::AsRead;
    use proptest::prelude::*;

    fn id(text: &str) -> ChunkId {
        text.parse().unwrap()
    }

    #[test]
    fn a_chunk_that_comes_back_keeps_its_turn() {
        let mut order = Order::new(true);
        order.offer(0, id("0.1"), "second");
        assert_eq!(order.take(), None);
        order.offer(0, id("0.0"), "first, refused by the sink");
        assert_eq!(order.take(), Some("first, refused by the sink"));
        assert_eq!(order.take(), None, "it has not passed");
        order.offer(0, id("0.0"), "first, again");
        assert_eq!(order.take(), Some("first, again"));
        order.pass(0, id("0.0"));
        assert_eq!(order.take(), Some("second"));
    }

    #[test]
    fn reading_that_stopped_makes_later_chunks_unreachable() {
        let mut order = Order::new(true);
        order.offer(0, id("1.0"), "1.0");
        order.offer(0, id("0.0"), "0.0");
        order.range(0, 0, Length::CutOff(1));
        assert!(order.take_unreachable().is_empty(), "0.0 still has its turn");
        assert_eq!(order.take(), Some("0.0"));
        order.pass(0, id("0.0"));
        assert_eq!(order.take_unreachable(), ["1.0"]);
    }

    #[test]
    fn a_range_nobody_read_makes_later_chunks_unreachable() {
        let mut order = Order::new(true);
        order.offer(0, id("1.0"), "1.0");
        order.range(0, 1, Length::Complete(1));
        assert!(order.take_unreachable().is_empty());
        order.close();
        assert_eq!(order.take_unreachable(), ["1.0"]);
    }

    #[test]
    fn parts_do_not_wait_for_each_other() {
        let mut order = Order::new(true);
        order.begin(0, 0);
        order.begin(1, 10);
        order.offer(1, id("10.0"), "b");
        assert_eq!(order.take(), Some("b"));
    }

    #[test]
    fn the_turn_of_a_chunk_that_is_split_is_that_of_its_halves() {
        let mut order = Order::new(true);
        order.split(0, id("0.1"));
        order.pass(0, id("0.1/0"));
        order.offer(0, id("0.1/1/1"), "0.1/1/1");
        order.offer(0, id("0.2"), "0.2");
        order.offer(0, id("0.0"), "0.0");
        assert_eq!(order.take(), Some("0.0"));
        order.pass(0, id("0.0"));
        assert_eq!(order.take(), None, "0.1/1 may come");
        order.split(0, id("0.1/1"));
        assert_eq!(order.take(), None);
        order.offer(0, id("0.1/1/0"), "0.1/1/0");
        assert_eq!(order.take(), Some("0.1/1/0"));
        order.pass(0, id("0.1/1/0"));
        assert_eq!(order.take(), Some("0.1/1/1"));
        order.pass(0, id("0.1/1/1"));
        assert_eq!(order.take(), Some("0.2"));
    }

    #[test]
    fn a_half_that_is_left_makes_what_is_behind_it_unreachable() {
        let mut order = Order::new(true);
        order.split(0, id("0.0"));
        order.offer(0, id("0.0/1"), "0.0/1");
        order.offer(0, id("0.1"), "0.1");
        order.block(0, id("0.0/0"));
        assert_eq!(order.take_unreachable(), ["0.0/1", "0.1"]);
    }

    /// A chunk, or a part of one, whatever is done with it.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Sunk,
        Ended,
        Split,
    }

    /// What happens to `chunk` and, if it is split, to its parts; each with the moment when it does. A part comes behind the split.
    fn fates(chunk: ChunkId, after: u64, seeds: &mut impl Iterator<Item = (u64, u8)>, events: &mut Vec<(u64, ChunkId, Fate)>) {
        let (when, what) = seeds.next().unwrap_or((0, 0));
        let when = after + when % 1000 + 1;
        let fate = match what % 8 {
            0..4 => Fate::Sunk,
            4 | 5 => Fate::Ended,
            _ if chunk.split().len() < 8 => Fate::Split,
            _ => Fate::Sunk,
        };
        events.push((when, chunk, fate));
        if let (Fate::Split, Some(halves)) = (fate, chunk.halves()) {
            halves.into_iter().for_each(|half| fates(half, when, seeds, events));
        }
    }

    proptest! {
        /// Whatever the order of arrival, chunks leave as they were read; some end without a turn, and some are split.
        #[test]
        fn chunks_leave_as_they_were_read(
            ranges in proptest::collection::vec(0..5_u32, 1..8),
            seeds in proptest::collection::vec(any::<(u64, u8)>(), 200),
            lengths in proptest::collection::vec(0..4000_u64, 8),
            carried in 0..1500_u64,
        ) {
            let mut seeds = seeds.into_iter();
            let mut events = Vec::new();
            for (range, chunks) in (0..).zip(&ranges) {
                (0..*chunks).for_each(|index| fates(ChunkId::new(range, index), 0, &mut seeds, &mut events));
            }
            // What happened before this moment was the business of an earlier run, that ended then.
            let (before, mut events): (Vec<_>, Vec<_>) = events.into_iter().partition(|(when, ..)| *when < carried);
            let mut over = CarriedOver::default();
            for (_, chunk, fate) in before {
                let read = AsRead { part: 0, rows: 0, bytes: 0, digest: None };
                match fate {
                    Fate::Split => drop(over.split.insert(chunk, read)),
                    Fate::Sunk | Fate::Ended => over.ended.push((0, chunk)),
                }
            }
            let mut expected: Vec<ChunkId> = events.iter().filter(|(.., fate)| matches!(fate, Fate::Sunk)).map(|(_, id, _)| *id).collect();
            expected.sort_unstable();
            events.sort_by_key(|(when, ..)| *when);
            let mut lengths: Vec<(u64, u32)> = lengths.into_iter().zip(0..ranges.len() as u32).collect();
            lengths.sort_unstable();
            let mut lengths = lengths.into_iter().peekable();
            let mut order = Order::new(true);
            order.carry_over(&over);
            let mut left = Vec::new();
            let far = (u64::MAX, ChunkId::new(0, 0), Fate::Ended);
            for (when, chunk, fate) in events.into_iter().chain([far]) {
                while let Some((_, range)) = lengths.next_if(|(length, _)| *length < when) {
                    order.range(0, range, Length::Complete(ranges[range as usize]));
                }
                match fate {
                    _ if when == far.0 => {}
                    Fate::Sunk => order.offer(0, chunk, chunk),
                    Fate::Ended => order.pass(0, chunk),
                    Fate::Split => order.split(0, chunk),
                }
                while let Some(id) = order.take() {
                    left.push(id);
                    order.pass(0, id);
                }
            }
            prop_assert_eq!(left, expected);
            let part = &order.parts[&0];
            prop_assert!(part.waiting.is_empty() && part.passed.is_empty() && part.split.is_empty());
        }
    }
}
