//! An iterator as a source.

use super::{Incoming, Lane, RangeDone, Read, Source, Stop};
use crate::budget::Budget;
use crate::chunk::{ChunkId, Payload};
use crate::trouble::Trouble;
use std::marker::PhantomData;
use std::sync::Arc;

/// A source with one lane and one range: every item is a chunk, in this order. Cannot be read again after a crash.
pub fn items<I>(items: I) -> Items<I::IntoIter>
where
    I: IntoIterator,
    I::Item: Payload,
    I::IntoIter: Send + 'static,
{
    Items { iterator: Some(items.into_iter()) }
}

/// See [`items`].
pub struct Items<I> {
    iterator: Option<I>,
}

impl<P: Payload, I: Iterator<Item = P> + Send + 'static> Source<P> for Items<I> {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<P>>>, Trouble> {
        budget.enter(0);
        let lane =
            |iterator| Box::new(ItemsLane { iterator, tally: Tally::new("item"), last_bytes: 0, ended: false, item: PhantomData }) as _;
        Ok(self.iterator.take().map(lane).into_iter().collect())
    }
}

struct ItemsLane<I, P> {
    iterator: I,
    tally: Tally,
    /// What the next item probably needs: as much as the last.
    last_bytes: usize,
    ended: bool,
    item: PhantomData<fn() -> P>,
}

impl<P: Payload, I: Iterator<Item = P> + Send> Lane<P> for ItemsLane<I, P> {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<P>, Trouble> {
        if self.ended {
            return Ok(Read::End);
        }
        let Ok(mut permit) = budget.acquire(0, self.last_bytes) else { return Ok(Read::Stopped) };
        if stop.is_draining() {
            return Ok(Read::Stopped);
        }
        let Some(payload) = self.iterator.next() else {
            self.ended = true;
            budget.leave(0);
            return Ok(Read::RangeDone(self.tally.done()));
        };
        self.last_bytes = payload.resident_bytes();
        permit.resize(self.last_bytes);
        let (id, origin) = self.tally.count(payload.rows());
        Ok(Read::Chunk(Incoming { id, part: 0, origin, payload, permit }))
    }
}

/// Numbers the chunks of a source that has one range.
pub(super) struct Tally {
    word: &'static str,
    chunks: u32,
    rows: u64,
}

impl Tally {
    pub(super) fn new(word: &'static str) -> Tally {
        Tally { word, chunks: 0, rows: 0 }
    }

    pub(super) fn count(&mut self, rows: u64) -> (ChunkId, Arc<str>) {
        let index = self.chunks;
        self.chunks += 1;
        self.rows += rows;
        (ChunkId::new(0, index), format!("{} {index}", self.word).into())
    }

    pub(super) fn done(&self) -> RangeDone {
        RangeDone { range: 0, part: 0, chunks: self.chunks, rows: self.rows, origin: self.word.into() }
    }
}
