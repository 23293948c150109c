//! The scripted parts: a source that can be read again, handlers, and outputs that lose what was not flushed.

use super::*;
use sluicegate::Payload;
use sluicegate::Stop;
use sluicegate::budget::{Budget, Permit};
use sluicegate::journal::CarriedOver;
use sluicegate::processor::Rejected;
use sluicegate::sink::{Position, Written};
use sluicegate::source::{Incoming, Lane, RangeDone, Read, Source};
use std::collections::{HashSet, VecDeque};

/// Rows of a world, range by range.
pub struct Scripted {
    stage: Arc<Stage>,
    lanes: usize,
    left: Vec<u32>,
    done: Arc<HashSet<ChunkId>>,
}

impl Scripted {
    /// Without what earlier runs have done.
    pub fn new(stage: &Arc<Stage>, lanes: usize, carried: &CarriedOver) -> Scripted {
        let finished: HashSet<u32> = carried.ranges.iter().map(|(_, range)| *range).collect();
        let left = (0..=stage.world.ranges()).filter(|range| !finished.contains(range)).collect();
        Scripted { stage: stage.clone(), lanes, left, done: Arc::new(carried.need_not_be_read()) }
    }
}

struct ScriptedLane {
    stage: Arc<Stage>,
    queue: Arc<Mutex<VecDeque<u32>>>,
    done: Arc<HashSet<ChunkId>>,
    at: Option<ChunkId>,
    rows: u64,
    calls: u64,
}

impl Source<Rows> for Scripted {
    fn lanes(&mut self, _: &Budget) -> Result<Vec<Box<dyn Lane<Rows>>>, Trouble> {
        let queue: Arc<Mutex<VecDeque<u32>>> = Arc::new(Mutex::new(self.left.iter().copied().collect()));
        let lane = |_| {
            let (stage, queue, done) = (self.stage.clone(), queue.clone(), self.done.clone());
            Box::new(ScriptedLane { stage, queue, done, at: None, rows: 0, calls: 0 }) as _
        };
        Ok((0..self.lanes).map(lane).collect())
    }
}

impl Lane<Rows> for ScriptedLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Rows>, Trouble> {
        let stage = self.stage.clone();
        loop {
            let at = match self.at {
                Some(at) => at,
                None => {
                    let Some(range) = self.queue.lock().pop_front() else { return Ok(Read::End) };
                    if range == stage.world.ranges() {
                        stage.calm.store(true, SeqCst);
                    }
                    budget.enter(range);
                    self.rows = 0;
                    *self.at.insert(ChunkId::new(range, 0))
                }
            };
            if at.index == stage.world.chunks_of(at.range) {
                self.at = None;
                budget.leave(at.range);
                let origin = format!("range {}", at.range).into();
                return Ok(Read::RangeDone(RangeDone { range: at.range, part: 0, chunks: at.index, rows: self.rows, origin }));
            }
            self.calls += 1;
            if stage.happens(4, at, self.calls, 8) {
                return Err(Trouble::passing(TroubleKind::Unavailable, "away for a moment"));
            }
            let payload = stage.world.rows_of(at);
            if self.done.contains(&at) {
                self.rows += payload.len() as u64;
                self.at = Some(ChunkId::new(at.range, at.index + 1));
                continue;
            }
            let Ok(permit): Result<Permit, _> = budget.acquire(at.range, payload.resident_bytes()) else { return Ok(Read::Stopped) };
            if stop.is_draining() {
                return Ok(Read::Stopped);
            }
            let _busy = stage.busy();
            self.rows += payload.len() as u64;
            self.at = Some(ChunkId::new(at.range, at.index + 1));
            return Ok(Read::Chunk(Incoming { id: at, part: 0, origin: format!("{at}").into(), payload, permit }));
        }
    }
}

/// Rows that handlers set aside by themselves.
pub fn is_rejected(world: World, row: u32) -> bool {
    [VALIDATE, TRANSFORM].iter().any(|what| world.row_is(what + 3, row, 3, 3))
}

/// Rows that nobody wants.
pub fn is_filtered(world: World, row: u32) -> bool {
    [VALIDATE, TRANSFORM].iter().any(|what| world.row_is(what + 4, row, 2, 3))
}

/// Fails, panics, hangs, rejects, filters, and refuses chunks with a bad row in them.
pub fn handler(stage: &Arc<Stage>, what: u64) -> impl Fn(&Work<Rows>) -> Result<Done<Rows>, HandlerError> + Send + Sync + use<> {
    let stage = stage.clone();
    move |work| {
        let busy = stage.busy();
        let (world, attempt) = (stage.world, u64::from(work.attempt));
        let may_fail = !world.is_gentle() || attempt == 1;
        if may_fail && stage.happens(what, work.id, attempt, 6) {
            return Err(HandlerError::new("io", "not this time"));
        }
        if may_fail && stage.happens(what + 2, work.id, attempt, 40) {
            // Like a panic, without the message on standard error.
            std::panic::resume_unwind(Box::new("no"));
        }
        if !world.is_gentle() && stage.happens(what + 1, work.id, attempt, 40) {
            return Err(HandlerError::new("invalid", "never"));
        }
        if !world.is_gentle() && stage.happens(what + 6, work.id, attempt, 100) {
            drop(busy);
            while !work.cancel.is_cancelled() && !stage.over.load(SeqCst) {
                std::thread::sleep(Duration::from_micros(100));
            }
            // Nobody waits for this any more, and nobody may take it.
            return Ok(Done::with(vec![u32::MAX; work.payload.len()]));
        }
        if work.payload.iter().any(|row| world.is_poison(what, *row)) {
            return Err(HandlerError::new("invalid", "a row is bad").of_some_row());
        }
        let rejects = |row: &u32| world.row_is(what + 3, *row, 3, 3);
        let filters = |row: &u32| world.row_is(what + 4, *row, 2, 3);
        let rejected: Vec<Rejected> =
            work.payload.iter().filter(|row| rejects(row)).map(|row| Rejected::new(u64::from(*row), "three", "")).collect();
        let filtered = work.payload.iter().filter(|row| filters(row)).count() as u64;
        let kept: Rows = work.payload.iter().filter(|row| !rejects(row) && !filters(row)).copied().collect();
        Ok(Done::with(kept).rejecting(rejected).filtering(filtered))
    }
}

/// Rows that were written, a delivery each, as in a file: what was not flushed may be gone.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<Rows>>>, Arc<Mutex<HashSet<u32>>>);

impl Output {
    pub fn rows(&self) -> Rows {
        self.0.lock().concat()
    }

    /// Rows of chunks that were given up when time was over for one of their handlers. On a busy machine time moved by hand may overtake a
    /// thread that has only just taken its chunk.
    pub fn overtaken(&self) -> HashSet<u32> {
        self.1.lock().clone()
    }

    pub fn truncate(&self, length: u64) {
        let mut deliveries = self.0.lock();
        assert!(deliveries.len() as u64 >= length, "{length} deliveries are said to be durable, of {}", deliveries.len());
        deliveries.truncate(length as usize);
    }
}

/// A sink, or a dead letter, in trouble now and then, that refuses a chunk now and then.
pub struct Ends {
    stage: Arc<Stage>,
    output: Output,
    name: &'static str,
    what: u64,
    calls: u64,
    durable: u64,
}

impl Ends {
    pub fn new(stage: &Arc<Stage>, output: &Output, name: &'static str, what: u64) -> Ends {
        let durable = output.0.lock().len() as u64;
        Ends { stage: stage.clone(), output: output.clone(), name, what, calls: 0, durable }
    }
}

impl Sink<Rows> for Ends {
    fn write(&mut self, delivery: &Delivery<Rows>) -> Result<Written, SinkError> {
        let stage = self.stage.clone();
        let _busy = stage.busy();
        self.calls += 1;
        stage.trouble(self.what, self.calls, 12)?;
        if self.what == SINK {
            if delivery.payload.iter().any(|row| stage.world.is_poison(SINK, *row)) {
                return Err(HandlerError::new("conflict", "a row is bad").of_some_row().into());
            }
            let attempt = u64::from(delivery.attempt);
            let may_fail = !stage.world.is_gentle() || attempt == 1;
            if may_fail && stage.happens(self.what + 1, delivery.id, attempt, 15) {
                return Err(HandlerError::new("refused", "not this one").into());
            }
        }
        let mut rows: Rows = delivery.rejected.iter().map(|rejected| rejected.row as u32).collect();
        if delivery.whole {
            rows.extend(delivery.payload.iter());
        }
        if delivery.errors.iter().any(|error| error.kind == HandlerError::TIMEOUT) {
            self.output.1.lock().extend(&rows);
        }
        let mut output = self.output.0.lock();
        output.push(rows);
        Ok(Written { at: Some(output.len() as u64 - 1), bytes: 1 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        let stage = self.stage.clone();
        let _busy = stage.busy();
        self.calls += 1;
        stage.trouble(self.what + 2, self.calls, 10)?;
        self.durable = self.output.0.lock().len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.calls += 1;
        self.stage.trouble(self.what + 3, self.calls, 4)
    }

    fn positions(&self) -> Vec<Position> {
        vec![Position { output: self.name.into(), bytes: self.durable, rows: 0 }]
    }
}
