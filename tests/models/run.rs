//! Whole runs: every thread of the engine, a source in ranges, handlers and a sink that fail, and somebody who interferes.

use crate::{check, dawdle, happens, pick, run};
use serde_json::json;
use shuttle::scheduler::{RandomScheduler, UncontrolledNondeterminismCheckScheduler};
use shuttle::sync::Mutex as ModelMutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use sluicegate::budget::Budget;
use sluicegate::clock::Clock;
use sluicegate::engine::{GroupLimits, Handle, Outcome, Patience, RunError, RunReport};
use sluicegate::fsm::Machine;
use sluicegate::journal::{Ending, Entry, Journal};
use sluicegate::sink::{Position, SinkError, Written};
use sluicegate::source::{Incoming, Lane, RangeDone, Read};
use sluicegate::{
    ChunkId, Definition, Delivery, Done, HandlerError, Orchestrator, Payload, Sink, Source, Stop, Trouble, TroubleKind, Work,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

type Rows = Vec<u32>;

/// Time goes on for so long: many times what a run needs. Who waits then still waits for ever, which shuttle finds to be a deadlock.
const TICKS: u32 = 2000;

static LIFECYCLE: LazyLock<Definition> = LazyLock::new(|| {
    let definition = json!({
        "id": "chunk", "initial": "received", "context": { "attempt": 0 }, "on": { "CANCEL": ".cancelled" },
        "states": {
            "received": {
                "invoke": { "id": "work", "src": "work", "onDone": "worked", "onError": "retried" }, "after": { "100": "retried" }
            },
            "retried": {
                "entry": { "type": "fsm.assign", "params": { "attempt": { "$inc": 1 } } },
                "always": { "guard": { "type": "fsm.gt", "params": { "key": "attempt", "value": 2 } }, "target": "rejected" },
                "after": { "10": "received" }
            },
            "worked": { "invoke": { "id": "sink", "src": "sink", "onDone": "sunk", "onError": "rejected" } },
            "rejected": { "invoke": { "id": "deadLetter", "src": "deadLetter", "onDone": "failed", "onError": "failed" } },
            "sunk": { "type": "final" },
            "failed": { "type": "final" },
            "cancelled": { "type": "final", "tags": ["cancelled"] }
        }
    });
    definition.to_string().parse().unwrap_or_else(|report| panic!("{report}"))
});

/// What happens in one schedule. Everything is drawn from the schedule before the run starts.
struct World {
    /// How many chunks each range has.
    ranges: Vec<u32>,
    /// What handler and sink do with a chunk at their first attempts.
    fates: BTreeMap<ChunkId, Vec<Fate>>,
    /// Rows that no handler can take: their chunks are split until they are alone.
    poison: BTreeSet<u32>,
    /// Passing troubles that source and sink still have.
    source_troubles: Mutex<u32>,
    sink_troubles: Mutex<u32>,
    /// How many the sink had at first.
    troubles: u32,
    /// Nobody waits for handlers any more.
    over: AtomicBool,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Nothing.
    Calm,
    /// Handlers fail and linger, the sink refuses chunks.
    Uneasy,
    /// Source and sink are in passing trouble, too.
    Stormy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Fails,
    /// Outlives its time.
    Lingers,
    Filters,
    Refused,
}

impl World {
    fn draw(mood: Mood) -> World {
        let ranges: Vec<u32> = (0..1 + pick(3)).map(|_| pick(3)).collect();
        let fate = || match pick(12) {
            0 | 1 => Fate::Fails,
            2 => Fate::Lingers,
            3 => Fate::Filters,
            4 => Fate::Refused,
            _ => Fate::Fine,
        };
        let calm = mood == Mood::Calm;
        let chunks = ids(&ranges).map(|id| (id, if calm { Vec::new() } else { (0..3).map(|_| fate()).collect() }));
        let fates = chunks.collect();
        let poison = ids(&ranges).flat_map(rows_of).filter(|_| !calm && happens(10)).collect();
        let troubles = if mood == Mood::Stormy { pick(3) } else { 0 };
        World {
            fates,
            poison,
            ranges,
            source_troubles: Mutex::new(if mood == Mood::Stormy { pick(2) } else { 0 }),
            sink_troubles: Mutex::new(troubles),
            troubles,
            over: AtomicBool::new(false),
        }
    }

    fn fate(&self, id: ChunkId, attempt: u32) -> Fate {
        self.fates[&id.whole()].get(attempt as usize - 1).copied().unwrap_or(Fate::Fine)
    }

    fn all_rows(&self) -> Vec<u32> {
        ids(&self.ranges).flat_map(rows_of).collect()
    }
}

fn ids(ranges: &[u32]) -> impl Iterator<Item = ChunkId> {
    (0..).zip(ranges).flat_map(|(range, chunks)| (0..*chunks).map(move |index| ChunkId::new(range, index)))
}

fn rows_of(id: ChunkId) -> Rows {
    let first = id.range * 100 + id.index * 10;
    (first..first + 3).collect()
}

fn away() -> Trouble {
    Trouble::passing(TroubleKind::Unavailable, "away for a moment")
}

/// Takes one of the troubles that are left, now and then.
fn trouble(left: &Mutex<u32>) -> bool {
    let mut left = left.lock().unwrap();
    let strikes = *left > 0 && happens(3);
    *left -= u32::from(strikes);
    strikes
}

struct Ranges(Arc<World>);

struct RangesLane {
    world: Arc<World>,
    queue: Arc<ModelMutex<VecDeque<u32>>>,
    at: Option<ChunkId>,
}

impl Source<Rows> for Ranges {
    fn lanes(&mut self, _: &Budget) -> Result<Vec<Box<dyn Lane<Rows>>>, Trouble> {
        let queue = Arc::new(ModelMutex::new((0..).take(self.0.ranges.len()).collect()));
        let lane = |_| Box::new(RangesLane { world: self.0.clone(), queue: queue.clone(), at: None }) as _;
        Ok((0..2).map(lane).collect())
    }
}

impl Lane<Rows> for RangesLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Rows>, Trouble> {
        let at = match self.at {
            Some(at) => at,
            None => {
                let Some(range) = self.queue.lock().unwrap().pop_front() else { return Ok(Read::End) };
                budget.enter(range);
                *self.at.insert(ChunkId::new(range, 0))
            }
        };
        if at.index == self.world.ranges[at.range as usize] {
            self.at = None;
            budget.leave(at.range);
            let rows = (0..at.index).map(|index| rows_of(ChunkId::new(at.range, index)).len() as u64).sum();
            return Ok(Read::RangeDone(RangeDone { range: at.range, part: 0, chunks: at.index, rows, origin: "range".into() }));
        }
        if trouble(&self.world.source_troubles) {
            return Err(away());
        }
        let payload = rows_of(at);
        let Ok(permit) = budget.acquire(at.range, payload.resident_bytes()) else { return Ok(Read::Stopped) };
        if stop.is_draining() {
            return Ok(Read::Stopped);
        }
        self.at = Some(ChunkId::new(at.range, at.index + 1));
        Ok(Read::Chunk(Incoming { id: at, part: 0, origin: "chunk".into(), payload, permit }))
    }
}

fn work(world: &World, work: &Work<Rows>) -> Result<Done<Rows>, HandlerError> {
    if work.payload.iter().any(|row| world.poison.contains(row)) {
        return Err(HandlerError::new("poison", "a row is bad").of_some_row());
    }
    match world.fate(work.id, work.attempt) {
        Fate::Fails => Err(HandlerError::new("io", "not this time")),
        Fate::Filters => Ok(Done::with(work.payload[1..].to_vec()).filtering(1)),
        Fate::Lingers => {
            while !work.cancel.is_cancelled() && !world.over.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            Ok(Done::same())
        }
        Fate::Fine | Fate::Refused => Ok(Done::same()),
    }
}

/// What has arrived at a sink, and how much of it is durable.
#[derive(Default)]
struct Arrived {
    chunks: Vec<(ChunkId, Rows)>,
    durable: usize,
    finished: bool,
}

struct Remembers {
    world: Arc<World>,
    arrived: Arc<Mutex<Arrived>>,
    refuses: bool,
}

impl Sink<Rows> for Remembers {
    fn write(&mut self, delivery: &Delivery<Rows>) -> Result<Written, SinkError> {
        if trouble(&self.world.sink_troubles) {
            return Err(away().into());
        }
        if self.refuses && self.world.fate(delivery.id, delivery.attempt) == Fate::Refused {
            return Err(HandlerError::new("refused", "not this one").into());
        }
        self.arrived.lock().unwrap().chunks.push((delivery.id, delivery.payload.to_vec()));
        Ok(Written { at: None, bytes: delivery.payload.bytes() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        if trouble(&self.world.sink_troubles) {
            return Err(away());
        }
        let arrived = &mut *self.arrived.lock().unwrap();
        arrived.durable = arrived.chunks.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.arrived.lock().unwrap().finished = true;
        Ok(())
    }
}

/// What was written down, and what was wrong with it.
#[derive(Default)]
struct Notes {
    transitions: BTreeMap<ChunkId, u32>,
    admitted: BTreeSet<ChunkId>,
    settled: BTreeMap<ChunkId, sluicegate::journal::ChunkRows>,
    split: BTreeSet<ChunkId>,
    ranges: BTreeSet<u32>,
    ended: Option<Ending>,
    late: Vec<String>,
    faults: Vec<String>,
}

#[derive(Clone)]
struct Book {
    written: Arc<Mutex<Notes>>,
    sinks: [Arc<Mutex<Arrived>>; 2],
}

impl Book {
    fn take(&self, entries: &mut Vec<Entry>) {
        let book = &mut *self.written.lock().unwrap();
        for entry in entries.drain(..) {
            if book.ended.is_some() {
                book.late.push(format!("{entry:?}"));
            }
            match entry {
                Entry::Admitted(admitted) => {
                    if !book.admitted.insert(admitted.chunk) {
                        book.faults.push(format!("{} was admitted twice", admitted.chunk));
                    }
                }
                Entry::Transition(transition) => {
                    let next = book.transitions.entry(transition.chunk).or_default();
                    if transition.seq != *next {
                        book.faults.push(format!("{}: transition {} where {next} was to come", transition.chunk, transition.seq));
                    }
                    *next = transition.seq + 1;
                }
                Entry::Settled(settled) => {
                    let sinks = self.sinks.each_ref().map(|sink| sink.lock().unwrap());
                    let durable = sinks.iter().any(|sink| sink.chunks[..sink.durable].iter().any(|(id, _)| *id == settled.chunk));
                    if settled.rows.written + settled.rows.dead_lettered > 0 && !durable {
                        book.faults.push(format!("{} ended before it was durable", settled.chunk));
                    }
                    if book.settled.insert(settled.chunk, settled.rows).is_some() {
                        book.faults.push(format!("{} ended twice", settled.chunk));
                    }
                }
                Entry::Split(split) => {
                    if book.transitions.remove(&split.chunk) != Some(split.seq) || !book.split.insert(split.chunk) {
                        book.faults.push(format!("{} was split by its transition {}", split.chunk, split.seq));
                    }
                }
                Entry::RangeDone(done) => drop(book.ranges.insert(done.range)),
                Entry::Waiting(_) | Entry::Run(_) => {}
            }
        }
    }
}

impl Journal for Book {
    fn begin(&self, _: &Arc<Machine>) -> Result<(), Trouble> {
        Ok(())
    }

    fn record(&self, entries: &mut Vec<Entry>) {
        self.take(entries);
    }

    fn checkpoint(&self, entries: &mut Vec<Entry>, _: &[Position]) -> Result<(), Trouble> {
        self.take(entries);
        Ok(())
    }

    fn intend_finish(&self) -> Result<(), Trouble> {
        Ok(())
    }

    fn end(&self, ending: &Ending) -> Result<(), Trouble> {
        self.written.lock().unwrap().ended = Some(ending.clone());
        Ok(())
    }
}

/// What somebody outside asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    PauseAndResume,
    CancelChunk,
    Stop,
    StopNow,
    CancelRun,
}

fn interfere(handle: &Handle, asks: &[Ask], ranges: &[u32]) {
    for ask in asks {
        dawdle(30);
        match ask {
            Ask::PauseAndResume => {
                handle.pause();
                dawdle(30);
                handle.resume();
            }
            Ask::CancelChunk => {
                let chunks: Vec<ChunkId> = ids(ranges).collect();
                if !chunks.is_empty() {
                    handle.cancel_chunk(chunks[pick(chunks.len() as u32) as usize]);
                }
            }
            Ask::Stop => handle.stop(),
            Ask::StopNow => handle.stop_now(),
            Ask::CancelRun => handle.cancel_run(),
        }
    }
}

/// One run with these interferences, judged.
fn live(mood: Mood, asks: &[Ask]) {
    let world = Arc::new(World::draw(mood));
    let (out, dead) = (Arc::<Mutex<Arrived>>::default(), Arc::<Mutex<Arrived>>::default());
    let book = Book { written: Arc::default(), sinks: [out.clone(), dead.clone()] };
    let clock = Clock::manual();
    let at_work = world.clone();
    let mut run = Orchestrator::new(LIFECYCLE.clone())
        .source(Ranges(world.clone()))
        .handler("work", move |chunk: &Work<Rows>| work(&at_work, chunk))
        .sink("sink", Remembers { world: world.clone(), arrived: out.clone(), refuses: true })
        .dead_letter("deadLetter", Remembers { world: world.clone(), arrived: dead.clone(), refuses: false })
        .split_chunks()
        .journal(book.clone())
        .clock(clock.clone())
        .workers(2)
        .memory_limit(if happens(2) { 10 } else { 1000 })
        .patience(Patience {
            total: Duration::from_secs(3600),
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(2),
        })
        .group(GroupLimits { chunks: 1 + pick(4) as usize, ..GroupLimits::default() });
    if happens(3) {
        // Halves have to wait for a place.
        run = run.max_chunks(1 + pick(2) as usize);
    }
    let unordered = happens(4);
    if unordered {
        run = run.unordered();
    }
    let running = run.start().expect("a definition without findings");
    let (handle, asked, ranges) = (running.handle(), asks.to_vec(), world.ranges.clone());
    let outside = thread::spawn(move || interfere(&handle, &asked, &ranges));
    let passing = world.clone();
    let time = thread::spawn(move || {
        for _ in 0..TICKS {
            if passing.over.load(Ordering::SeqCst) {
                break;
            }
            clock.advance(Duration::from_millis(5));
            thread::yield_now();
        }
    });
    let ended = running.wait();
    world.over.store(true, Ordering::SeqCst);
    outside.join().unwrap();
    time.join().unwrap();
    let report = match ended {
        Ok(report) => report,
        // Handlers that were given no turn for so long that they were left behind, one after the other.
        Err(RunError::Failed { trouble, report }) if trouble.to_string().contains("do not return") => *report,
        Err(error) => panic!("{error}"),
    };
    let stopped = asks.iter().any(|ask| matches!(ask, Ask::Stop | Ask::CancelRun));
    let cut_short = asks.contains(&Ask::StopNow)
        || report.outcome == Outcome::Failed
        || stopped && *world.sink_troubles.lock().unwrap() < world.troubles;
    judge(&world, unordered, &report, &book, cut_short);
    assert!(
        stopped || cut_short || matches!(report.outcome, Outcome::Complete | Outcome::CompleteWithDeadLetters),
        "nobody asked: {:?}",
        report.outcome
    );
}

/// `cut_short`: the run was to stop where it was, or its sink was in trouble when it was to finish.
fn judge(world: &World, unordered: bool, report: &RunReport, book: &Book, cut_short: bool) {
    let written = book.written.lock().unwrap();
    assert!(written.faults.is_empty(), "{:#?}", written.faults);
    assert!(written.ended.is_some(), "the journal has no end");
    let sinks = book.sinks.each_ref().map(|sink| sink.lock().unwrap());
    let chunks: Vec<ChunkId> = sinks[0].chunks.iter().map(|(id, _)| *id).collect();
    assert!(unordered || chunks.is_sorted(), "out of order: {chunks:?}");
    let mut arrived: Vec<ChunkId> = sinks.iter().flat_map(|sink| &sink.chunks).map(|(id, _)| *id).collect();
    arrived.sort_unstable();
    assert!(arrived.windows(2).all(|pair| pair[0] != pair[1]), "written twice: {arrived:?}");
    let rows = written.settled.values();
    assert_eq!(report.rows.written, rows.clone().map(|rows| rows.written).sum::<u64>(), "rows written");
    assert_eq!(report.rows.cancelled, rows.map(|rows| rows.cancelled).sum::<u64>(), "rows cancelled");
    if matches!(report.outcome, Outcome::Complete | Outcome::CompleteWithDeadLetters) {
        assert!(report.rows.is_equal(), "{}", report.rows);
        assert_eq!(report.rows.read, world.all_rows().len() as u64, "rows read");
        assert!(sinks.iter().all(|sink| sink.finished && sink.durable == sink.chunks.len()));
    }
    if cut_short {
        return;
    }
    assert!(written.late.is_empty(), "written down after the end: {:#?}", written.late);
    // A stop finishes what is in flight and has its turn before the first gap; a chunk that is cut off behind one stays as it is.
    for (range, _) in (0..).zip(&world.ranges) {
        let has_ended = |id: &ChunkId| written.settled.contains_key(id) || written.split.contains(id);
        let left: Vec<_> = written.admitted.iter().filter(|id| id.range == range && !has_ended(id)).collect();
        assert!(left.is_empty(), "{left:?} came in and were not finished");
        if !written.ranges.contains(&range) && !unordered {
            break;
        }
    }
}

/// Or a failure could not be looked at again.
#[test]
fn a_seed_decides_everything() {
    let twice = UncontrolledNondeterminismCheckScheduler::new(RandomScheduler::new(100));
    run(twice, || live(Mood::Stormy, &[Ask::PauseAndResume, Ask::CancelChunk]));
}

#[test]
fn a_run_comes_to_its_end() {
    check(2000, || live(Mood::Stormy, &[]));
}

#[test]
fn a_run_can_be_paused_and_chunks_cancelled() {
    check(2000, || live(Mood::Stormy, &[Ask::PauseAndResume, Ask::CancelChunk, Ask::PauseAndResume]));
}

#[test]
fn a_stop_finishes_what_is_in_flight() {
    check(2000, || live(Mood::Uneasy, &[Ask::Stop]));
}

#[test]
fn a_stop_does_not_wait_for_a_sink_in_trouble() {
    check(2000, || live(Mood::Stormy, &[Ask::Stop]));
}

#[test]
fn a_run_can_be_stopped_twice() {
    check(2000, || live(Mood::Stormy, &[Ask::PauseAndResume, Ask::Stop, Ask::StopNow]));
}

#[test]
fn a_calm_run_can_be_stopped_now() {
    check(2000, || live(Mood::Calm, &[Ask::StopNow]));
}

#[test]
fn a_run_can_be_cancelled() {
    check(2000, || live(Mood::Uneasy, &[Ask::CancelRun]));
}
