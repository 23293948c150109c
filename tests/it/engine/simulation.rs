//! The whole engine with a source, handlers and sinks that fail as a seed says: whatever happens, every row ends once, and in order.

use super::*;
use sluicegate::budget::{Budget, Permit};
use sluicegate::chunk::ChunkId;
use sluicegate::engine::{Outcome, RunReport};
use sluicegate::processor::Rejected;
use sluicegate::source::{Incoming, Lane, RangeDone, Read, Source};
use sluicegate::{Payload, Stop, Trouble, TroubleKind};
use std::collections::VecDeque;

/// Seeds that once failed.
const REGRESSIONS: &[u64] = &[];

/// Seeds in a test run, unless `SLUICEGATE_SEEDS` says otherwise.
const SEEDS: u64 = 2000;

/// A number made of others, evenly (SplitMix64 by Steele, Lea and Flood).
fn mix(parts: &[u64]) -> u64 {
    let step = |state: u64, part: &u64| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    parts.iter().fold(0, step)
}

/// What a seed decides.
#[derive(Clone, Copy)]
struct World(u64);

impl World {
    fn pick(self, what: u64, below: u64) -> u64 {
        mix(&[self.0, what]) % below
    }

    /// Whether something happens, once in `times` cases.
    fn happens(self, what: u64, chunk: ChunkId, attempt: u64, times: u64) -> bool {
        mix(&[self.0, what, u64::from(chunk.range), u64::from(chunk.index), attempt]).is_multiple_of(times)
    }

    fn ranges(self) -> u32 {
        1 + self.pick(1, 6) as u32
    }

    fn chunks_of(self, range: u32) -> u32 {
        mix(&[self.0, 2, u64::from(range)]) as u32 % 5
    }

    /// Every row of the source, chunk by chunk: its number is its place.
    fn rows_of(self, chunk: ChunkId) -> Rows {
        let count = 1 + mix(&[self.0, 3, u64::from(chunk.range), u64::from(chunk.index)]) as u32 % 4;
        (0..count).map(|row| chunk.range * 1000 + chunk.index * 10 + row).collect()
    }

    fn all_rows(self) -> Rows {
        let chunks = (0..self.ranges()).flat_map(|range| (0..self.chunks_of(range)).map(move |index| ChunkId::new(range, index)));
        chunks.flat_map(|chunk| self.rows_of(chunk)).collect()
    }
}

fn passing() -> Trouble {
    Trouble::passing(TroubleKind::Unavailable, "away for a moment")
}

struct Scripted {
    world: World,
    lanes: usize,
}

struct ScriptedLane {
    world: World,
    queue: Arc<Mutex<VecDeque<u32>>>,
    at: Option<ChunkId>,
    rows: u64,
    failed: bool,
}

impl Source<Rows> for Scripted {
    fn lanes(&mut self, _: &Budget) -> Result<Vec<Box<dyn Lane<Rows>>>, Trouble> {
        let queue: Arc<Mutex<VecDeque<u32>>> = Arc::new(Mutex::new((0..self.world.ranges()).collect()));
        let lane = |_| Box::new(ScriptedLane { world: self.world, queue: queue.clone(), at: None, rows: 0, failed: false }) as _;
        Ok((0..self.lanes).map(lane).collect())
    }
}

impl Lane<Rows> for ScriptedLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Rows>, Trouble> {
        let at = match self.at {
            Some(at) => at,
            None => {
                let Some(range) = self.queue.lock().pop_front() else { return Ok(Read::End) };
                budget.enter(range);
                self.rows = 0;
                *self.at.insert(ChunkId::new(range, 0))
            }
        };
        if at.index == self.world.chunks_of(at.range) {
            self.at = None;
            budget.leave(at.range);
            let origin = format!("range {}", at.range).into();
            return Ok(Read::RangeDone(RangeDone { range: at.range, part: 0, chunks: at.index, rows: self.rows, origin }));
        }
        self.failed = !self.failed;
        if self.failed && self.world.happens(4, at, 0, 8) {
            return Err(passing());
        }
        let payload = self.world.rows_of(at);
        let Ok(permit): Result<Permit, _> = budget.acquire(at.range, payload.resident_bytes()) else { return Ok(Read::Stopped) };
        if stop.is_draining() {
            return Ok(Read::Stopped);
        }
        self.rows += payload.len() as u64;
        self.at = Some(ChunkId::new(at.range, at.index + 1));
        Ok(Read::Chunk(Incoming { id: at, part: 0, origin: format!("{at}").into(), payload, permit }))
    }
}

/// Fails, panics, rejects and filters. Rows that end in 3 may be rejected, rows that end in 2 filtered.
fn handler(world: World, what: u64) -> impl Fn(&Work<Rows>) -> Result<Done<Rows>, HandlerError> + Send + Sync {
    move |work| {
        let attempt = u64::from(work.attempt);
        if world.happens(what, work.id, attempt, 6) {
            return Err(HandlerError::new("io", "not this time"));
        }
        if world.happens(what + 1, work.id, attempt, 40) {
            return Err(HandlerError::new("invalid", "never"));
        }
        if world.happens(what + 2, work.id, attempt, 40) {
            // Like a panic, without the message on standard error.
            std::panic::resume_unwind(Box::new("no"));
        }
        let rejects = |row: &u32| row % 10 == 3 && world.happens(what + 3, work.id, 0, 3);
        let filters = |row: &u32| row % 10 == 2 && world.happens(what + 4, work.id, 0, 3);
        let rejected: Vec<Rejected> =
            work.payload.iter().filter(|row| rejects(row)).map(|row| Rejected::new(u64::from(*row), "three", "")).collect();
        let filtered = work.payload.iter().filter(|row| filters(row)).count() as u64;
        let kept: Rows = work.payload.iter().filter(|row| !rejects(row) && !filters(row)).copied().collect();
        Ok(Done::with(kept).rejecting(rejected).filtering(filtered))
    }
}

/// A sink in trouble now and then, that refuses a chunk now and then.
fn sink(seen: &Seen, world: World, what: u64) -> impl Sink<Rows> + use<> {
    let mut calls = 0;
    seen.unless(move |delivery| {
        calls += 1;
        if world.happens(what, delivery.id, calls, 12) {
            return Some(SinkError::Component(passing()));
        }
        let refused = what == 20 && world.happens(what + 1, delivery.id, u64::from(delivery.attempt), 15);
        refused.then(|| SinkError::Chunk(HandlerError::new("refused", "not this one")))
    })
}

fn live(seed: u64) -> (RunReport, Seen, Seen) {
    let world = World(seed);
    let (seen, dead) = (Seen::default(), Seen::default());
    let mut run = Orchestrator::new(lifecycle("chunk"))
        .source(Scripted { world, lanes: 1 + world.pick(5, 3) as usize })
        .handler("validate", handler(world, 6))
        .handler("transform", handler(world, 13))
        .sink("sink", sink(&seen, world, 20))
        .dead_letter("deadLetter", sink(&dead, world, 30))
        .workers(1 + world.pick(6, 3) as usize)
        .memory_limit(1 + world.pick(7, 120) as usize)
        .patience(Patience {
            total: Duration::from_secs(20),
            first_wait: Duration::from_micros(100),
            longest_wait: Duration::from_millis(1),
        })
        .group(GroupLimits {
            bytes: 1 + world.pick(8, 64),
            chunks: 1 + world.pick(9, 8) as usize,
            idle: Duration::from_micros(500),
            ..GroupLimits::default()
        });
    if world.pick(10, 3) == 0 {
        run = run.unordered();
    }
    (run.run().unwrap_or_else(|error| panic!("seed {seed}: {error}")), seen, dead)
}

/// Every row ends once; what is written is in order.
fn judge(seed: u64) {
    let world = World(seed);
    let (report, seen, dead) = live(seed);
    let (written, set_aside) = (seen.rows(), dead.rows());
    assert!(matches!(report.outcome, Outcome::Complete | Outcome::CompleteWithDeadLetters), "seed {seed}: {:?}", report.outcome);
    assert!(report.rows.is_equal(), "seed {seed}: {}", report.rows);
    assert_eq!(report.rows.written, written.len() as u64, "seed {seed}: rows written");
    assert_eq!(report.rows.dead_lettered, set_aside.len() as u64, "seed {seed}: rows set aside");
    let all = world.all_rows();
    assert_eq!(report.rows.read, all.len() as u64, "seed {seed}: rows read");
    let mut ended: Rows = written.iter().chain(&set_aside).copied().collect();
    ended.sort_unstable();
    let twice = ended.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "seed {seed}: a row ended twice");
    assert!(ended.iter().all(|row| all.binary_search(row).is_ok()), "seed {seed}: a row that was never read");
    let missing: Vec<&u32> = all.iter().filter(|row| ended.binary_search(row).is_err()).collect();
    assert_eq!(missing.len() as u64, report.rows.filtered, "seed {seed}: {missing:?} ended nowhere");
    assert!(missing.iter().all(|row| *row % 10 == 2), "seed {seed}: {missing:?} were not to be filtered");
    if world.pick(10, 3) != 0 {
        assert!(written.is_sorted(), "seed {seed}: out of order");
    }
}

#[test]
fn whatever_fails_every_row_ends_once_and_in_order() {
    REGRESSIONS.iter().copied().for_each(judge);
    let count = std::env::var("SLUICEGATE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = mix(&[time.as_micros() as u64]) >> 16;
    println!("seeds {first} to {}", first + count - 1);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    judge(first + number);
                }
            });
        }
    });
}
