//! Byte permits: what keeps the memory limit, and who may read when memory is short.
//!
//! Every resident byte of payload belongs to a chunk, and every chunk holds a [`Permit`] for its bytes from before it is
//! read until its payload is gone. [`Ledger`] decides, as plain data; [`Budget`] puts a lock around it and lets lanes wait.

use crate::clock::{Clock, Moment};
use crate::sync::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Between which marks the bytes in use may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBand {
    /// Reading stops before the permits in use exceed this many bytes.
    pub high_water_bytes: usize,
    /// And goes on once they have fallen to this many. The gap is deliberate: with one mark, reading would stop and go with
    /// every chunk.
    pub low_water_bytes: usize,
}

impl MemoryBand {
    /// A band under `limit_bytes`: reading stops at the limit and goes on at three quarters of it.
    pub const fn under(limit_bytes: usize) -> MemoryBand {
        MemoryBand { high_water_bytes: limit_bytes, low_water_bytes: limit_bytes / 4 * 3 }
    }
}

/// Why nothing new is read at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A sink is unavailable.
    Sink,
    /// A source is unavailable.
    Source,
    /// The journal cannot be written.
    Journal,
    /// Somebody asked for it.
    User,
    /// The process or its control group is short of memory, whatever the permits say.
    Resident,
    /// The permits have reached the high water mark.
    Memory,
}

impl Hold {
    /// Every reason, the gravest first.
    pub const ALL: [Hold; 6] = [Hold::Sink, Hold::Source, Hold::Journal, Hold::User, Hold::Resident, Hold::Memory];

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hold::User => "user",
            Hold::Memory => "memory",
            Hold::Resident => "resident",
            Hold::Sink => "sink",
            Hold::Source => "source",
            Hold::Journal => "journal",
        })
    }
}

/// The decisions of a [`Budget`], without lock or wait.
#[derive(Debug)]
pub struct Ledger {
    band: MemoryBand,
    max_chunks: usize,
    bytes: usize,
    peak: usize,
    chunks: usize,
    /// Ranges that are being read, with the number of their chunks that hold bytes.
    reading: BTreeMap<u32, usize>,
    holds: [bool; Hold::ALL.len()],
    /// All places for chunks were taken, and not yet enough are free again.
    crowded: bool,
    closed: bool,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(band: MemoryBand, max_chunks: usize) -> Ledger {
        Ledger {
            band,
            max_chunks,
            bytes: 0,
            peak: 0,
            chunks: 0,
            reading: BTreeMap::new(),
            holds: [false; Hold::ALL.len()],
            crowded: false,
            closed: false,
        }
    }

    /// Whether a chunk of `range` may take `bytes` now. Stops and resumes reading at the water marks on the way.
    pub fn admits(&mut self, range: u32, bytes: usize) -> bool {
        let free_to_read = [Hold::User, Hold::Sink, Hold::Source, Hold::Journal].iter().all(|hold| !self.holds[hold.index()]);
        if self.closed || !free_to_read {
            return false;
        }
        // What the order waits for must be able to move, or a full budget would never empty: the lowest range that is
        // being read may always have one chunk under way. With nothing in flight, waiting could not free anything.
        if self.chunks == 0 || self.is_lowest(range) && self.reading.get(&range) == Some(&0) {
            return true;
        }
        self.crowded = self.chunks >= if self.crowded { self.max_chunks / 4 * 3 } else { self.max_chunks }.max(1);
        if self.holds[Hold::Resident.index()] || self.crowded {
            return false;
        }
        let hold = &mut self.holds[Hold::Memory.index()];
        if self.bytes + bytes > self.band.high_water_bytes {
            *hold = true;
        } else if self.bytes <= self.band.low_water_bytes {
            *hold = false;
        }
        !*hold
    }

    fn is_lowest(&self, range: u32) -> bool {
        self.reading.first_key_value().is_some_and(|(lowest, _)| *lowest == range)
    }

    fn take(&mut self, range: u32, bytes: usize) {
        self.chunks += 1;
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
        if let Some(count) = self.reading.get_mut(&range) {
            *count += 1;
        }
    }

    fn resize(&mut self, from: usize, to: usize) {
        self.bytes = self.bytes - from + to;
        self.peak = self.peak.max(self.bytes);
        if self.bytes <= self.band.low_water_bytes {
            self.holds[Hold::Memory.index()] = false;
        }
    }

    /// The payload is gone: its range may bring the next chunk even above the mark.
    fn release(&mut self, range: u32) {
        if let Some(count) = self.reading.get_mut(&range) {
            *count = count.saturating_sub(1);
        }
    }
}

/// What a budget looks like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BudgetStatus {
    /// Bytes that permits cover now.
    pub bytes: usize,
    /// The most they ever covered.
    pub peak_bytes: usize,
    /// Chunks between being read and being settled.
    pub chunks: usize,
    /// Why nothing is read, if so.
    pub holds: Vec<Hold>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
}

struct State {
    ledger: Ledger,
    /// What those who wait ask for: range and bytes.
    waiting: Vec<(u32, usize)>,
    /// Since when each hold has been keeping somebody, and for how long it did before.
    held: [(Option<Moment>, Duration); Hold::ALL.len()],
}

impl State {
    /// Books the time up to `now` for holds that came or went.
    fn account(&mut self, now: Moment) {
        for (held, on) in self.held.iter_mut().zip(self.ledger.holds) {
            match (held.0, on) {
                (None, true) => held.0 = Some(now),
                (Some(since), false) => *held = (None, held.1 + now.since(since)),
                _ => {}
            }
        }
    }
}

/// The byte permits of one run. Cloning gives the same budget.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// The budget was closed: nothing more is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run takes no more chunks")
    }
}

impl std::error::Error for Closed {}

impl Budget {
    /// A budget of `band.high_water_bytes` for at most `max_chunks` chunks in flight.
    pub fn new(band: MemoryBand, max_chunks: usize, clock: Clock) -> Budget {
        let state = State { ledger: Ledger::new(band, max_chunks), waiting: Vec::new(), held: Default::default() };
        Budget { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), clock }) }
    }

    /// Waits until a chunk of `range` may have `bytes` bytes.
    ///
    /// # Errors
    /// [`Closed`] once the run takes no more chunks.
    pub fn acquire(&self, range: u32, bytes: usize) -> Result<Permit, Closed> {
        let mut state = self.shared.state.lock();
        while !self.admits(&mut state, range, bytes) {
            if state.ledger.closed {
                return Err(Closed);
            }
            state.waiting.push((range, bytes));
            self.shared.changed.wait(&mut state);
            let place = state.waiting.iter().position(|wish| *wish == (range, bytes));
            place.map(|place| state.waiting.swap_remove(place));
        }
        Ok(self.take(&mut state, range, bytes))
    }

    /// The same without waiting; `None` when it would have to wait or the budget is closed.
    pub fn try_acquire(&self, range: u32, bytes: usize) -> Option<Permit> {
        let mut state = self.shared.state.lock();
        self.admits(&mut state, range, bytes).then(|| self.take(&mut state, range, bytes))
    }

    fn admits(&self, state: &mut State, range: u32, bytes: usize) -> bool {
        let admitted = state.ledger.admits(range, bytes);
        if !admitted {
            state.account(self.shared.clock.now());
        }
        admitted
    }

    fn take(&self, state: &mut State, range: u32, bytes: usize) -> Permit {
        state.ledger.take(range, bytes);
        let place = Some(Place { budget: self.clone() });
        let claim = Some(Arc::new(Claim { budget: self.clone(), range }));
        Permit { budget: self.clone(), bytes, shared: None, claim, place }
    }

    /// A place for one more chunk, if there is one: nothing waits for it.
    fn try_place(&self) -> Option<Place> {
        let mut state = self.shared.state.lock();
        let ledger = &mut state.ledger;
        (ledger.chunks < ledger.max_chunks).then(|| {
            ledger.chunks += 1;
            Place { budget: self.clone() }
        })
    }

    /// A lane begins to read `range`. The lowest range that is being read is always let on; see [`Ledger::admits`].
    pub fn enter(&self, range: u32) {
        self.shared.state.lock().ledger.reading.insert(range, 0);
    }

    /// A lane has read all of `range`.
    pub fn leave(&self, range: u32) {
        self.change(|ledger| {
            ledger.reading.remove(&range);
        });
    }

    /// Bytes that the run needs whatever flows: buffers of writers and compressors. Never given back.
    pub fn reserve(&self, bytes: usize) {
        self.change(|ledger| ledger.resize(0, bytes));
    }

    /// Holds reading for this reason, or lets go of it.
    pub fn hold(&self, reason: Hold, on: bool) {
        self.change(|ledger| ledger.holds[reason.index()] = on);
    }

    /// Lets nobody read any more. Permits that are out stay valid.
    pub fn close(&self) {
        self.change(|ledger| ledger.closed = true);
    }

    /// What is in use, and what holds reading up.
    pub fn status(&self) -> BudgetStatus {
        let state = self.shared.state.lock();
        let ledger = &state.ledger;
        let holds = Hold::ALL.into_iter().filter(|hold| ledger.holds[hold.index()]).collect();
        BudgetStatus { bytes: ledger.bytes, peak_bytes: ledger.peak, chunks: ledger.chunks, holds }
    }

    /// For how long each reason has held reading up so far, without those that never did.
    pub fn held(&self) -> Vec<(Hold, Duration)> {
        let now = self.shared.clock.now();
        let state = self.shared.state.lock();
        let total = |(since, before): (Option<Moment>, Duration)| before + since.map_or(Duration::ZERO, |since| now.since(since));
        Hold::ALL.into_iter().map(|hold| (hold, total(state.held[hold.index()]))).filter(|(_, time)| !time.is_zero()).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        let mut state = self.shared.state.lock();
        let holds = state.ledger.holds;
        change(&mut state.ledger);
        if state.ledger.holds != holds {
            state.account(self.shared.clock.now());
        }
        // Waking somebody who has to wait on would cost more than everything else here.
        let State { ledger, waiting, .. } = &mut *state;
        if !waiting.is_empty() && (ledger.closed || waiting.iter().any(|(range, bytes)| ledger.admits(*range, *bytes))) {
            self.shared.changed.notify_all();
        }
    }
}

/// A chunk's right to its bytes. Dropping it gives them, and the chunk's place, back.
///
/// The halves of a chunk that is split share its bytes, which count once, until the last of them has let them go.
pub struct Permit {
    budget: Budget,
    /// Bytes of this chunk alone.
    bytes: usize,
    /// Bytes of the chunk that this one is a part of.
    shared: Option<Arc<SharedBytes>>,
    /// That its range has a chunk with bytes. None when the payload is gone, which the chunk need not be.
    claim: Option<Arc<Claim>>,
    place: Option<Place>,
}

/// One of the chunks in flight. Dropping it makes room for another.
pub(crate) struct Place {
    budget: Budget,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.change(|ledger| ledger.chunks -= 1);
    }
}

/// Bytes that several chunks hold together.
pub(crate) struct SharedBytes {
    budget: Budget,
    bytes: usize,
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.budget.change(|ledger| ledger.resize(bytes, 0));
    }
}

/// Says that a range has a chunk with bytes.
struct Claim {
    budget: Budget,
    range: u32,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.change(|ledger| ledger.release(self.range));
    }
}

impl Permit {
    /// How many bytes the permit covers, beside those that it shares.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The chunk is now this large. Growing never waits: who holds a permit may be what others wait for.
    pub fn resize(&mut self, bytes: usize) {
        if bytes != self.bytes {
            let from = std::mem::replace(&mut self.bytes, bytes);
            self.budget.change(|ledger| ledger.resize(from, bytes));
        }
    }

    /// The payload is gone; the chunk itself goes on to its final state without bytes.
    pub fn empty(&mut self) {
        self.resize(0);
        self.shared = None;
        self.claim = None;
    }

    /// A permit for another part of the same chunk. All bytes are shared from now on. It has a place of its own if there is a free one; it may
    /// not wait for one, because who waits for room may wait for this chunk.
    pub(crate) fn part(&mut self) -> Permit {
        let budget = &self.budget;
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 || self.shared.is_none() {
            debug_assert!(self.shared.is_none(), "bytes of its own are given back before a part is split again");
            self.shared = Some(Arc::new(SharedBytes { budget: budget.clone(), bytes }));
        }
        Permit { budget: budget.clone(), bytes: 0, shared: self.shared.clone(), claim: self.claim.clone(), place: budget.try_place() }
    }

    /// Whether it shares the bytes of a chunk that was split.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What it shares, for somebody who still looks at it.
    pub(crate) fn shared(&self) -> Option<Arc<SharedBytes>> {
        self.shared.clone()
    }

    /// The chunk has made something of its own of what it shared.
    pub(crate) fn let_go_of_shared(&mut self) {
        self.shared = None;
    }

    /// Whether the chunk counts as one of those in flight.
    pub(crate) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Gives the place away, not the bytes.
    pub(crate) fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// Takes over the place of another chunk.
    pub(crate) fn give_place(&mut self, place: Place) {
        self.place = Some(place);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.empty();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(high: usize) -> Budget {
        Budget::new(MemoryBand { high_water_bytes: high, low_water_bytes: high / 2 }, 100, Clock::manual())
    }

    #[test]
    fn reading_stops_at_the_high_mark_and_resumes_at_the_low_one() {
        let budget = budget(100);
        let mut held: Vec<Permit> = (0..4).map(|_| budget.try_acquire(9, 25).unwrap()).collect();
        assert!(budget.try_acquire(9, 1).is_none(), "101 bytes");
        assert_eq!(budget.status().holds, [Hold::Memory]);
        held.pop();
        assert!(budget.try_acquire(9, 1).is_none(), "75 bytes are still above the low mark");
        held.pop();
        assert!(budget.try_acquire(9, 1).is_some(), "50 bytes are not");
        assert_eq!(budget.status().peak_bytes, 100);
    }

    #[test]
    fn the_lowest_range_always_has_one_chunk_under_way() {
        let budget = budget(100);
        budget.enter(1);
        budget.enter(2);
        let later = budget.try_acquire(2, 100).unwrap();
        assert!(budget.try_acquire(2, 1).is_none());
        let mut first = budget.try_acquire(1, 500).expect("range 1 is what the order waits for");
        assert!(budget.try_acquire(1, 1).is_none(), "one at a time");
        first.empty();
        let second = budget.try_acquire(1, 500).expect("its bytes are gone");
        drop((first, second));
        budget.leave(1);
        assert!(budget.try_acquire(2, 1).is_none(), "range 2 has a chunk under way");
        drop(later);
        assert_eq!(budget.status(), BudgetStatus { peak_bytes: 600, ..BudgetStatus::default() });
    }

    #[test]
    fn a_chunk_larger_than_the_limit_runs_alone() {
        let budget = budget(100);
        let giant = budget.try_acquire(0, 1000).unwrap();
        assert!(budget.try_acquire(0, 1).is_none());
        drop(giant);
        assert!(budget.try_acquire(0, 1).is_some());
    }

    #[test]
    fn with_nothing_in_flight_a_guard_never_pauses() {
        let budget = budget(100);
        budget.hold(Hold::Resident, true);
        let only = budget.try_acquire(0, 10).expect("nothing else could free memory");
        assert!(budget.try_acquire(0, 10).is_none(), "one at a time");
        drop(only);
        budget.hold(Hold::User, true);
        assert!(budget.try_acquire(0, 10).is_none(), "a person may pause all the same");
    }

    #[test]
    fn held_time_is_booked_by_reason() {
        let clock = Clock::manual();
        let budget = Budget::new(MemoryBand::under(10), 100, clock.clone());
        budget.hold(Hold::User, true);
        clock.advance(Duration::from_secs(3));
        budget.hold(Hold::User, false);
        clock.advance(Duration::from_secs(5));
        budget.hold(Hold::Sink, true);
        clock.advance(Duration::from_secs(1));
        assert_eq!(budget.held(), [(Hold::Sink, Duration::from_secs(1)), (Hold::User, Duration::from_secs(3))]);
    }

    #[test]
    fn parts_of_a_chunk_share_its_bytes_until_the_last_of_them_is_gone() {
        let budget = Budget::new(MemoryBand::under(1000), 2, Clock::manual());
        budget.enter(0);
        let mut first = budget.try_acquire(0, 100).unwrap();
        let mut second = first.part();
        let mut third = second.part();
        assert_eq!((budget.status().bytes, budget.status().chunks), (100, 2));
        assert_eq!([first.has_place(), second.has_place(), third.has_place()], [true, true, false], "two at a time");
        second.resize(30);
        second.let_go_of_shared();
        first.empty();
        assert_eq!(budget.status().bytes, 130, "the third part is there still");
        third.give_place(first.take_place().unwrap());
        drop(first);
        assert_eq!((budget.status().bytes, budget.status().chunks), (130, 2));
        drop(third);
        assert_eq!((budget.status().bytes, budget.status().chunks), (30, 1));
        assert!(budget.shared.state.lock().ledger.reading[&0] == 1, "the range has a chunk with bytes");
        drop(second);
        assert!(budget.shared.state.lock().ledger.reading[&0] == 0);
        assert_eq!(budget.status(), BudgetStatus { peak_bytes: 130, ..BudgetStatus::default() });
    }

    #[test]
    fn closing_wakes_who_waits() {
        let budget = budget(10);
        let _full = budget.try_acquire(0, 10).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.acquire(0, 10).map(drop));
            budget.close();
            assert_eq!(waiting.join().unwrap(), Err(Closed));
        });
        assert!(budget.try_acquire(0, 0).is_none());
    }
}
