//! What is counted, by state and by transition.

use super::resident::Resident;
use crate::budget::{BudgetStatus, Hold};
use crate::fsm::{EventId, Machine, StateId};
use crate::journal::{RowSum, SPLIT, SPLIT_STATE};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Digits that histograms keep: 1 %.
const DIGITS: u8 = 2;

/// Counters of one run. Labels come from closed sets (states, events of the definition), so their number is bounded.
pub(super) struct Metrics {
    machine: Arc<Machine>,
    inner: Mutex<Inner>,
}

struct Inner {
    states: Vec<StateCounters>,
    transitions: HashMap<(Option<StateId>, StateId, EventId), u64>,
    /// Chunks that were split, by the state they were in.
    splits: BTreeMap<StateId, u64>,
    retries: u64,
    errors: u64,
    checkpoints: Histogram<u64>,
    rows: RowSum,
    rows_admitted: u64,
    rows_carried_over: u64,
    bytes: Bytes,
    chunks_settled: u64,
}

struct StateCounters {
    chunks: u64,
    bytes: u64,
    rows: u64,
    entered: u64,
    retries: u64,
    errors: u64,
    /// Microseconds.
    durations: Histogram<u64>,
}

/// Bytes that came in and went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Of payload, as read.
    pub read: u64,
    /// Of payload, as given to the sinks.
    pub written: u64,
}

/// A chunk's move as the metrics see it.
pub(super) struct Move {
    pub from: Option<StateId>,
    pub to: StateId,
    pub event: EventId,
    pub in_state: Duration,
    /// Rows and bytes that the chunk counted for in `from`.
    pub before: (u64, u64),
    /// Rows and bytes that it counts for in `to`.
    pub after: (u64, u64),
    pub error: bool,
}

fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("two digits are allowed")
}

impl Metrics {
    /// `carried`: what earlier runs of the same target have done.
    pub fn new(machine: Arc<Machine>, carried: RowSum) -> Metrics {
        let state = |_| StateCounters { chunks: 0, bytes: 0, rows: 0, entered: 0, retries: 0, errors: 0, durations: histogram() };
        let inner = Inner {
            states: machine.states().map(state).collect(),
            transitions: HashMap::new(),
            splits: BTreeMap::new(),
            retries: 0,
            errors: 0,
            checkpoints: histogram(),
            rows: carried,
            rows_carried_over: carried.written + carried.filtered + carried.dead_lettered + carried.cancelled,
            rows_admitted: 0,
            bytes: Bytes::default(),
            chunks_settled: 0,
        };
        Metrics { machine, inner: Mutex::new(inner) }
    }

    pub fn moved(&self, step: &Move) {
        let inner = &mut *self.inner.lock();
        if let Some(from) = step.from {
            let left = &mut inner.states[from.index()];
            left.chunks -= 1;
            left.bytes -= step.before.1;
            left.rows -= step.before.0;
            left.errors += u64::from(step.error);
            record(&mut left.durations, step.in_state);
        }
        let entered = &mut inner.states[step.to.index()];
        entered.chunks += 1;
        entered.bytes += step.after.1;
        entered.rows += step.after.0;
        entered.entered += 1;
        inner.errors += u64::from(step.error);
        *inner.transitions.entry((step.from, step.to, step.event)).or_default() += 1;
    }

    /// A chunk ended in favour of its halves: it was in `from` for so long, and counted for so many rows and bytes there.
    pub fn split(&self, from: StateId, in_state: Duration, before: (u64, u64)) {
        let inner = &mut *self.inner.lock();
        let left = &mut inner.states[from.index()];
        left.chunks -= 1;
        left.rows -= before.0;
        left.bytes -= before.1;
        left.errors += 1;
        record(&mut left.durations, in_state);
        inner.errors += 1;
        *inner.splits.entry(from).or_default() += 1;
    }

    pub fn settled(&self, rows: &crate::journal::ChunkRows, bytes: u64) {
        let inner = &mut *self.inner.lock();
        inner.rows.written += rows.written;
        inner.rows.filtered += rows.filtered;
        inner.rows.dead_lettered += rows.dead_lettered;
        inner.rows.cancelled += rows.cancelled;
        inner.bytes.written += bytes;
        inner.chunks_settled += 1;
    }

    /// An invocation of this state was started again for a chunk.
    pub fn retried(&self, state: StateId) {
        let inner = &mut *self.inner.lock();
        inner.states[state.index()].retries += 1;
        inner.retries += 1;
    }

    pub fn read(&self, rows: u64, bytes: u64) {
        let inner = &mut *self.inner.lock();
        inner.rows_admitted += rows;
        inner.bytes.read += bytes;
    }

    pub fn range_done(&self, rows: u64) {
        self.inner.lock().rows.read += rows;
    }

    pub fn checkpoint(&self, took: Duration) {
        record(&mut self.inner.lock().checkpoints, took);
    }

    pub fn rows(&self) -> RowSum {
        self.inner.lock().rows
    }

    pub fn snapshot(&self, budget: &BudgetStatus, limit: usize, resident: &Resident, paused: Vec<(Hold, Duration)>) -> MetricsSnapshot {
        let inner = self.inner.lock();
        let name = |id: StateId| self.machine.state_name(id).to_owned();
        let states = self.machine.states().zip(&inner.states).filter(|(_, state)| state.entered > 0);
        let mut transitions: Vec<_> = inner.transitions.iter().map(|(key, count)| (*key, *count)).collect();
        transitions.sort_unstable();
        MetricsSnapshot {
            states: states.map(|(id, state)| state.snapshot(name(id))).collect(),
            transitions: transitions
                .into_iter()
                .map(|((from, to, event), count)| TransitionMetrics {
                    from: from.map(name),
                    to: name(to),
                    event: self.machine.event_name(event).to_owned(),
                    count,
                })
                .chain(inner.splits.iter().map(|(from, count)| TransitionMetrics {
                    from: Some(name(*from)),
                    to: SPLIT_STATE.to_owned(),
                    event: SPLIT.to_owned(),
                    count: *count,
                }))
                .collect(),
            chunks_split: inner.splits.values().sum(),
            rows: inner.rows,
            rows_admitted: inner.rows_admitted,
            rows_carried_over: inner.rows_carried_over,
            bytes: inner.bytes,
            chunks_settled: inner.chunks_settled,
            retries: inner.retries,
            errors: inner.errors,
            checkpoints: Durations::of(&inner.checkpoints),
            memory: MemoryMetrics {
                limit_bytes: limit as u64,
                permits_bytes: budget.bytes as u64,
                peak_permits_bytes: budget.peak_bytes as u64,
                resident_bytes: resident.now.load(Ordering::Relaxed),
                peak_resident_bytes: resident.peak.load(Ordering::Relaxed),
            },
            paused: paused.into_iter().map(|(reason, time)| PausedMetrics { reason, seconds: time.as_secs_f64() }).collect(),
        }
    }
}

impl StateCounters {
    fn snapshot(&self, state: String) -> StateMetrics {
        StateMetrics {
            state,
            chunks: self.chunks,
            bytes: self.bytes,
            rows: self.rows,
            entered: self.entered,
            retries: self.retries,
            errors: self.errors,
            time_in_state: Durations::of(&self.durations),
        }
    }
}

/// Histograms grow with what they are given; only a time of centuries would be more than they can hold.
fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    if histogram.record(micros).is_err() {
        histogram.saturating_record(micros);
    }
}

/// Everything that is counted, at one moment. The same for progress line, report and embedding programs.
#[derive(Clone, Debug, Serialize)]
pub struct MetricsSnapshot {
    /// Every state that a chunk has been in, in the definition's order.
    pub states: Vec<StateMetrics>,
    /// Every move that a chunk has made.
    pub transitions: Vec<TransitionMetrics>,
    /// The run's sum so far. `read` counts ranges that were read to their end.
    pub rows: RowSum,
    /// Rows of all chunks that have been read, also of ranges that are still being read.
    pub rows_admitted: u64,
    /// Rows that had come to their end in earlier runs of the same target.
    pub rows_carried_over: u64,
    /// Bytes in and out.
    pub bytes: Bytes,
    /// Chunks in a final state; of those that were split, their parts.
    pub chunks_settled: u64,
    /// Chunks, and parts of chunks, that were split because some row of them was at fault.
    pub chunks_split: u64,
    /// Invocations that were started again for a chunk.
    pub retries: u64,
    /// Errors and timeouts of invocations.
    pub errors: u64,
    /// How long checkpoints took: flush and journal.
    pub checkpoints: Durations,
    /// Memory in use.
    pub memory: MemoryMetrics,
    /// For how long nothing was read, by reason.
    pub paused: Vec<PausedMetrics>,
}

/// One state's counters.
#[derive(Clone, Debug, Serialize)]
pub struct StateMetrics {
    /// Its name.
    pub state: String,
    /// Chunks that are in it now.
    pub chunks: u64,
    /// Bytes of memory that they hold: none in a final state.
    pub bytes: u64,
    /// Their rows; in a final state, all that came to their end in it.
    pub rows: u64,
    /// How often a chunk has entered it.
    pub entered: u64,
    /// How often its invocation was started again for a chunk.
    pub retries: u64,
    /// How often a chunk left it by an error or timeout.
    pub errors: u64,
    /// How long chunks stayed in it.
    pub time_in_state: Durations,
}

/// How often chunks went this way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransitionMetrics {
    /// The state before; none at the start.
    pub from: Option<String>,
    /// The state after; `split`, which is the engine's own, for chunks that go on as two halves.
    pub to: String,
    /// What happened.
    pub event: String,
    /// How often.
    pub count: u64,
}

/// A distribution of times, in seconds, to 1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// 95 % are at most this.
    pub p95: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Durations {
    fn of(histogram: &Histogram<u64>) -> Durations {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^53")]
        let seconds = |micros: u64| micros as f64 / 1e6;
        let quantile = |quantile| seconds(histogram.value_at_quantile(quantile));
        Durations { count: histogram.len(), p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max: seconds(histogram.max()) }
    }
}

/// Memory in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryMetrics {
    /// What permits may cover.
    pub limit_bytes: u64,
    /// What they cover now.
    pub permits_bytes: u64,
    /// The most they ever covered.
    pub peak_permits_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// The most that was ever measured (ten times a second).
    pub peak_resident_bytes: u64,
}

/// For how long nothing was read for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PausedMetrics {
    /// Why.
    pub reason: Hold,
    /// For how long.
    pub seconds: f64,
}
