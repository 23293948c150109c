//! The whole engine under a clock that is moved by hand, with a source, handlers, sinks and a journal that fail as a seed says, and with runs
//! that are stopped or killed in the middle and gone on with: whatever happens, every row ends once, and in order.

mod journal;
mod parts;

use super::*;
use journal::{History, Memory};
use parts::{Ends, Output, Scripted, handler};
use sluicegate::chunk::ChunkId;
use sluicegate::clock::Clock;
use sluicegate::engine::{Handle, Outcome, RunError, RunReport};
use sluicegate::{Trouble, TroubleKind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// Seeds that once failed.
const REGRESSIONS: &[u64] = &[];

/// Seeds in a test run, unless `SLUICEGATE_SEEDS` says otherwise.
const SEEDS: u64 = 2000;

/// So many runs of one world at most; the last one is let be.
const MOST_RUNS: u64 = 4;

/// How long nothing must happen for time to go on.
const QUIET: Duration = Duration::from_micros(60);

/// After so long by the real clock, a run will never end.
const HANGS: Duration = Duration::from_secs(30);

/// Steps by which time goes on while nothing happens.
const FIRST_STEP: Duration = Duration::from_millis(1);
const LONGEST_STEP: Duration = Duration::from_secs(8);

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

    /// Whether something happens to a chunk, once in `times` cases.
    fn draws(self, what: u64, chunk: ChunkId, attempt: u64, times: u64) -> bool {
        let part = chunk.split().bytes().fold(0, |part, byte| part * 3 + u64::from(byte));
        mix(&[self.0, what, u64::from(chunk.range), u64::from(chunk.index), part, attempt]).is_multiple_of(times)
    }

    /// Whether a row is so, once in `times` cases: for whoever sees it in whatever chunk. Rows end in 0 to 7.
    fn row_is(self, what: u64, row: u32, last_digit: u32, times: u64) -> bool {
        row % 10 == last_digit && row / 1000 < self.ranges() && mix(&[self.0, what, u64::from(row)]).is_multiple_of(times)
    }

    /// Rows that this handler, or the sink, cannot bear, without saying which they are.
    fn is_poison(self, what: u64, row: u32) -> bool {
        self.row_is(what + 5, row, (what % 4) as u32 + 4, 4)
    }

    /// Only rows are at fault, never for good a whole chunk.
    fn is_gentle(self) -> bool {
        self.pick(12, 2) == 0
    }

    fn is_ordered(self) -> bool {
        self.pick(10, 3) > 0
    }

    fn ranges(self) -> u32 {
        1 + self.pick(1, 5) as u32
    }

    /// One more range comes when all faults have stopped.
    fn chunks_of(self, range: u32) -> u32 {
        if range == self.ranges() { 2 } else { mix(&[self.0, 2, u64::from(range)]) as u32 % 5 }
    }

    /// Every row of the source, chunk by chunk: its number is its place.
    fn rows_of(self, chunk: ChunkId) -> Rows {
        let count = 1 + mix(&[self.0, 3, u64::from(chunk.range), u64::from(chunk.index)]) as u32 % 8;
        (0..count).map(|row| chunk.range * 1000 + chunk.index * 10 + row).collect()
    }

    fn all_rows(self) -> Rows {
        let chunks = (0..=self.ranges()).flat_map(|range| (0..self.chunks_of(range)).map(move |index| ChunkId::new(range, index)));
        chunks.flat_map(|chunk| self.rows_of(chunk)).collect()
    }
}

/// The numbers by which handlers and sinks draw their fates.
const VALIDATE: u64 = 100;
const TRANSFORM: u64 = 201;
const SINK: u64 = 302;
const DEAD: u64 = 403;

/// What all parts of a world share.
struct Stage {
    world: World,
    clock: Clock,
    /// From now on nothing fails any more.
    calm: AtomicBool,
    /// This run is over for who is still at something.
    over: AtomicBool,
    /// Who is at work at this moment, and how often somebody was: time stands still meanwhile.
    busy: AtomicUsize,
    ticks: AtomicU64,
}

/// Somebody is at work.
struct Busy<'a>(&'a Stage);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

impl Stage {
    fn busy(&self) -> Busy<'_> {
        self.ticks.fetch_add(1, SeqCst);
        self.busy.fetch_add(1, SeqCst);
        Busy(self)
    }

    fn happens(&self, what: u64, chunk: ChunkId, attempt: u64, times: u64) -> bool {
        !self.calm.load(SeqCst) && self.world.draws(what, chunk, attempt, times)
    }

    /// A trouble that passes, once in `times` cases.
    fn trouble(&self, what: u64, call: u64, times: u64) -> Result<(), Trouble> {
        if self.happens(what, ChunkId::new(0, 0), call, times) {
            return Err(Trouble::passing(TroubleKind::Unavailable, "away for a moment"));
        }
        Ok(())
    }
}

/// How a run is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CutOff {
    /// What is in flight is finished.
    Stop,
    /// Everything stops where it is.
    StopNow,
    /// As by SIGKILL: from that moment on nothing gets into the journal.
    Kill,
}

/// One run of a world, that goes on where the runs in `history` ended.
fn live(stage: &Arc<Stage>, outputs: &[Output; 2], history: &mut History, cut_off: Option<(CutOff, u64)>) -> Result<RunReport, RunError> {
    let world = stage.world;
    let carried = history.carried_over();
    for (output, name) in outputs.iter().zip(["out", "dead"]) {
        output.truncate(history.durable(name));
    }
    let memory = Arc::new(Memory::new(stage.clone()));
    let source = Scripted::new(stage, 1 + world.pick(5, 3) as usize, &carried);
    let mut run = Orchestrator::new(lifecycle())
        .source(source)
        .handler("validate", handler(stage, VALIDATE))
        .handler("transform", handler(stage, TRANSFORM))
        .sink("sink", Ends::new(stage, &outputs[0], "out", SINK))
        .dead_letter("deadLetter", Ends::new(stage, &outputs[1], "dead", DEAD))
        .workers(2 + world.pick(6, 2) as usize)
        .memory_limit(1 + world.pick(7, 200) as usize)
        .patience(Patience { total: Duration::from_secs(36_000), ..Patience::default() })
        .journal(memory.clone())
        .clock(stage.clock.clone())
        .carry_over(carried)
        .split_chunks_at_any_stage()
        .group(GroupLimits {
            bytes: 1 + world.pick(8, 64),
            chunks: 1 + world.pick(9, 8) as usize,
            idle: Duration::from_micros(200),
            ..GroupLimits::default()
        });
    if world.pick(13, 3) == 0 {
        run = run.max_chunks(1 + world.pick(14, 4) as usize);
    }
    if !world.is_ordered() {
        run = run.unordered();
    }
    let running = run.start()?;
    pass_time(stage, &running.handle(), &memory, cut_off);
    stage.over.store(true, SeqCst);
    let result = running.wait();
    stage.over.store(false, SeqCst);
    history.add(&memory);
    result
}

/// Lets time go on whenever nothing else does, until the run has ended, and cuts it off when it is time.
fn pass_time(stage: &Stage, handle: &Handle, memory: &Memory, mut cut_off: Option<(CutOff, u64)>) {
    let (began, mut seen, mut step) = (stage.ticks.load(SeqCst), 0, FIRST_STEP);
    let started = Instant::now();
    while !handle.status().ended {
        std::thread::sleep(QUIET);
        let ticks = stage.ticks.load(SeqCst);
        let (seed, elapsed) = (stage.world.0, started.elapsed());
        assert!(
            elapsed < HANGS,
            "seed {seed} hangs: {:?} {:#?} busy {}",
            handle.status(),
            handle.metrics().states,
            stage.busy.load(SeqCst)
        );
        if let Some((how, _)) = cut_off.take_if(|(_, when)| ticks - began >= *when) {
            match how {
                CutOff::Stop => handle.stop(),
                CutOff::StopNow => handle.stop_now(),
                CutOff::Kill => {
                    memory.die();
                    handle.stop_now();
                }
            }
        }
        if ticks == seen && stage.busy.load(SeqCst) == 0 {
            stage.clock.advance(step);
            step = (step * 2).min(LONGEST_STEP);
        } else {
            (seen, step) = (ticks, FIRST_STEP);
        }
    }
}

/// The default lifecycle, with its own delays, in which nothing hangs for longer than five minutes.
fn lifecycle() -> Definition {
    let mut definition = sluicegate::definitions::chunk();
    definition.delays.insert("stageTimeout".to_owned(), 300_000.into());
    definition
}

/// Runs a world to its end, whatever comes between.
fn play(seed: u64) -> (RunReport, [Output; 2]) {
    let world = World(seed);
    let stage = Arc::new(Stage {
        world,
        clock: Clock::manual(),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
        busy: AtomicUsize::new(0),
        ticks: AtomicU64::new(0),
    });
    let outputs = [Output::default(), Output::default()];
    let mut history = History::default();
    let cut_offs = world.pick(15, MOST_RUNS);
    for run in 0..cut_offs {
        let how = [CutOff::Stop, CutOff::StopNow, CutOff::Kill][world.pick(16 + run, 3) as usize];
        match live(&stage, &outputs, &mut history, Some((how, world.pick(20 + run, 50)))) {
            // It was at its end before.
            Ok(report) if report.outcome != Outcome::Stopped => return (report, outputs),
            Ok(_) => {}
            Err(_) if how == CutOff::Kill => {}
            Err(error) => panic!("seed {seed}: {how:?}: {error}"),
        }
    }
    match live(&stage, &outputs, &mut history, None) {
        Ok(report) => (report, outputs),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

/// Every row ends once; what is written is in order; only bad rows are set aside; what came when the faults had stopped is written.
fn judge(seed: u64) {
    let world = World(seed);
    let (report, outputs) = play(seed);
    let overtaken = outputs[1].overtaken();
    let [written, set_aside] = outputs.map(|output| output.rows());
    assert!(matches!(report.outcome, Outcome::Complete | Outcome::CompleteWithDeadLetters), "seed {seed}: {:?}", report.outcome);
    assert!(report.rows.is_equal(), "seed {seed}: {}", report.rows);
    assert_eq!(report.rows.written, written.len() as u64, "seed {seed}: rows written");
    assert_eq!(report.rows.dead_lettered, set_aside.len() as u64, "seed {seed}: rows set aside");
    assert_eq!(report.metrics.memory.permits_bytes, 0, "seed {seed}: bytes that are never given back");
    let all = world.all_rows();
    assert_eq!(report.rows.read, all.len() as u64, "seed {seed}: rows read");
    let mut ended: Rows = written.iter().chain(&set_aside).copied().collect();
    ended.sort_unstable();
    let twice = ended.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "seed {seed}: a row ended twice");
    assert!(ended.iter().all(|row| all.binary_search(row).is_ok()), "seed {seed}: a row that was never read");
    let missing: Vec<&u32> = all.iter().filter(|row| ended.binary_search(row).is_err()).collect();
    assert_eq!(missing.len() as u64, report.rows.filtered, "seed {seed}: {missing:?} ended nowhere");
    assert!(missing.iter().all(|row| parts::is_filtered(world, **row)), "seed {seed}: {missing:?} were not to be filtered");
    assert!(!world.is_ordered() || written.is_sorted(), "seed {seed}: out of order: {written:?}");
    let is_bad = |row: &u32| parts::is_rejected(world, *row) || [VALIDATE, TRANSFORM, SINK].iter().any(|what| world.is_poison(*what, *row));
    assert!(!written.iter().any(is_bad), "seed {seed}: a bad row was written");
    let given_up: Vec<&u32> = set_aside.iter().filter(|row| !is_bad(row) && !overtaken.contains(row)).collect();
    assert!(!world.is_gentle() || given_up.is_empty(), "seed {seed}: {given_up:?} are good rows");
    let afterwards: Rows = all.iter().filter(|row| **row / 1000 == world.ranges()).copied().collect();
    assert!(
        afterwards.iter().all(|row| written.contains(row) || overtaken.contains(row)),
        "seed {seed}: nothing failed any more, but {afterwards:?} are not all written"
    );
}

#[test]
fn whatever_fails_every_row_ends_once_and_in_order() {
    REGRESSIONS.iter().copied().for_each(judge);
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let count = number("SLUICEGATE_SEEDS").unwrap_or(SEEDS);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = number("SLUICEGATE_FIRST_SEED").unwrap_or_else(|| mix(&[time.as_micros() as u64]) >> 16);
    println!("seeds {first} to {}", first + count - 1);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, SeqCst);
                    if number >= count {
                        break;
                    }
                    judge(first + number);
                }
            });
        }
    });
    println!("{:.0} seeds a second", count as f64 / began.elapsed().as_secs_f64());
}
