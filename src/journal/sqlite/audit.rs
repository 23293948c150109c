//! Does the journal tell a story that can have happened? Every walk is replayed against the definition, and the rows are added up.

use super::query::{ChunkRow, Reader, RunRow, TransitionRow};
use crate::chunk::ChunkId;
use crate::fsm::{CompileOptions, Definition, Effects, Host, Machine, Microstep, StateId, compile};
use crate::journal::{ChunkRows, DISCARDED, RECOVERED, RowSum, SPLIT, SPLIT_STATE};
use crate::trouble::{Trouble, TroubleKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Where a chunk begins, as an event.
const INIT: &str = "xstate.init";

/// More findings than this are counted but not kept.
const KEPT_FINDINGS: usize = 1000;

/// What an audit found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// Chunks whose walks were replayed.
    pub chunks: u64,
    /// Transitions in them.
    pub transitions: u64,
    /// What cannot have happened, or is missing; the first 1,000.
    pub findings: Vec<AuditFinding>,
    /// How many findings there are, also those that were not kept.
    pub total_findings: u64,
    /// The sum over all ranges and chunks: rows read by the origin's count, and where they ended.
    pub rows: RowSum,
    /// Whether the target is complete. If it is not, rows may be missing without anything being wrong.
    pub complete: bool,
}

/// Something that cannot have happened, or is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The chunk, `range N`, or `run`.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.problem)
    }
}

impl Audit {
    /// Replays everything in the journal, as it is at this moment.
    ///
    /// # Errors
    /// When the journal cannot be read, or holds no run.
    pub fn of(reader: &Reader) -> Result<Audit, Trouble> {
        reader.at_once(Audit::of_now)
    }

    fn of_now(reader: &Reader) -> Result<Audit, Trouble> {
        let runs = reader.runs()?;
        let last = runs.last().ok_or_else(|| Trouble::lasting(TroubleKind::Configuration, "the journal holds no run"))?;
        let mut audit = Audit { complete: last.phase == "complete", ..Audit::default() };
        let machines = runs.iter().map(|run| Ok((run.run, machine(run)?))).collect::<Result<BTreeMap<_, _>, Trouble>>()?;
        let ends = audit.walks(reader, &machines)?;
        audit.chunk_rows(reader, ends)?;
        audit.sums(reader, last)?;
        Ok(audit)
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.total_findings == 0
    }

    fn find(&mut self, what: &str, problem: String) {
        self.total_findings += 1;
        if self.findings.len() < KEPT_FINDINGS {
            self.findings.push(AuditFinding { what: what.to_owned(), problem });
        }
    }

    /// Replays every walk; gives the state in which each ended.
    fn walks(&mut self, reader: &Reader, machines: &BTreeMap<i64, Machine>) -> Result<BTreeMap<String, String>, Trouble> {
        let mut ends = BTreeMap::new();
        let mut walk: Option<Walk> = None;
        let mut whole: Option<Whole> = None;
        reader.walks(|row| {
            self.transitions += 1;
            let Some(machine) = machines.get(&row.run) else {
                self.find(&row.chunk, format!("a transition of run {}, which the journal does not know", row.run));
                return Ok(());
            };
            let same = walk.as_ref().is_some_and(|walk| walk.chunk == row.chunk);
            if !same && let Some(done) = walk.take() {
                self.chunks += 1;
                ends.extend(done.end());
            }
            // Parts come behind the chunk as it was read. If that was begun again, what parts did before is no story any more.
            if row.chunk.contains('/') {
                if whole.as_ref().is_some_and(|whole| row.run < whole.begun && row.chunk.starts_with(&whole.prefix)) {
                    return Ok(());
                }
            } else if row.seq == 0 {
                whole = Some(Whole { prefix: format!("{}/", row.chunk), begun: row.run });
            }
            let before = walk.take();
            if let Some(problem) = problem(machine, before.as_ref(), &row) {
                self.find(&row.chunk, problem);
            }
            let discarded = row.event == DISCARDED;
            walk = Some(Walk { chunk: row.chunk, run: row.run, seq: row.seq, at: row.to, discarded });
            Ok::<(), Trouble>(())
        })?;
        if let Some(done) = walk {
            self.chunks += 1;
            ends.extend(done.end());
        }
        Ok(ends)
    }

    /// Compares the chunks' rows with their walks, and those of chunks that were split with their parts.
    fn chunk_rows(&mut self, reader: &Reader, mut ends: BTreeMap<String, String>) -> Result<(), Trouble> {
        // Chunks that were split, whose halves must come: rows that are still to be found.
        let mut split: BTreeMap<ChunkId, (u64, i64)> = BTreeMap::new();
        for chunk in reader.chunks(None)? {
            match ends.remove(&chunk.chunk) {
                None => self.find(&chunk.chunk, "it has no transition".into()),
                Some(end) if end != chunk.state => {
                    self.find(&chunk.chunk, format!("it is said to be in `{}`, but its walk ends in `{end}`", chunk.state))
                }
                Some(_) => {}
            }
            self.parentage(&chunk, &mut split);
            if let Some(ChunkRows { written, filtered, dead_lettered, cancelled }) = chunk.rows_by_end {
                let sum = written + filtered + dead_lettered + cancelled;
                if sum != chunk.rows.unsigned_abs() {
                    self.find(&chunk.chunk, format!("it had {} rows, and {sum} ended somewhere", chunk.rows));
                }
                self.rows.written += written;
                self.rows.filtered += filtered;
                self.rows.dead_lettered += dead_lettered;
                self.rows.cancelled += cancelled;
            } else if self.complete && !chunk.is_split() {
                self.find(&chunk.chunk, format!("the run is complete, but it is still in `{}`", chunk.state));
            }
        }
        for (chunk, (halves, left)) in split {
            if (halves, left) != (2, 0) {
                let problem = format!("it was split, but the journal has {halves} of its 2 halves, and {left} of its rows are in none");
                self.find(&chunk.to_string(), problem);
            }
        }
        ends.into_keys().for_each(|chunk| self.find(&chunk, "it has transitions, but is not among the chunks".into()));
        Ok(())
    }

    /// Notes a chunk that was split, and takes a half's rows from those of the chunk that it is a half of.
    fn parentage(&mut self, chunk: &ChunkRow, split: &mut BTreeMap<ChunkId, (u64, i64)>) {
        let Ok(id) = chunk.chunk.parse::<ChunkId>() else {
            self.find(&chunk.chunk, "this is no chunk's id".into());
            return;
        };
        match id.parent().map(|parent| split.get_mut(&parent)) {
            None => {}
            Some(None) => self.find(&chunk.chunk, "it is half of a chunk that was not split".into()),
            Some(Some((halves, left))) => {
                *halves += 1;
                *left -= chunk.rows;
            }
        }
        if chunk.is_split() {
            split.insert(id, (0, chunk.rows));
        }
    }

    /// Compares the sums with what ranges and run say.
    fn sums(&mut self, reader: &Reader, last: &RunRow) -> Result<(), Trouble> {
        for range in reader.range_sums()? {
            if (range.chunks, range.rows) != (range.chunks_found, range.rows_found) {
                let problem = format!(
                    "its origin says {} chunks and {} rows, the journal has {} and {}",
                    range.chunks, range.rows, range.chunks_found, range.rows_found
                );
                self.find(&format!("range {}", range.range), problem);
            }
            self.rows.read += range.rows.unsigned_abs();
        }
        if !self.complete {
            return Ok(());
        }
        if !self.rows.is_equal() {
            self.find("run", format!("the rows do not add up: {}", self.rows));
        }
        if last.rows != Some(self.rows) {
            let told = last.rows.map_or("nothing of its rows".into(), |rows| rows.to_string());
            self.find("run", format!("the run says {told}; its chunks say {}", self.rows));
        }
        Ok(())
    }
}

/// How far a replay has come.
struct Walk {
    chunk: String,
    run: i64,
    seq: i64,
    at: String,
    /// Its range was given up: there is no such chunk any more, unless one is read anew.
    discarded: bool,
}

impl Walk {
    /// Which chunk has ended where.
    fn end(self) -> Option<(String, String)> {
        (!self.discarded).then_some((self.chunk, self.at))
    }
}

/// A chunk as it was read, whose parts may follow.
struct Whole {
    /// What the names of its parts begin with.
    prefix: String,
    /// The last run in which it began its life.
    begun: i64,
}

fn machine(run: &RunRow) -> Result<Machine, Trouble> {
    let unusable =
        |why: String| Trouble::lasting(TroubleKind::Configuration, format!("the definition of run {} cannot be used: {why}", run.run));
    let definition: Definition = serde_json::from_str(&run.definition).map_err(|error| unusable(error.to_string()))?;
    compile(definition, &CompileOptions::default()).map_err(|report| unusable(report.to_string()))
}

/// What is wrong with this transition, coming from there.
fn problem(machine: &Machine, before: Option<&Walk>, row: &TransitionRow) -> Option<String> {
    match row.event.as_str() {
        SPLIT => return split(machine, before, row),
        DISCARDED => return discarded(before, row),
        _ => {}
    }
    let Some(to) = machine.state(&row.to) else { return Some(format!("there is no state `{}`", row.to)) };
    let Some(from_name) = &row.from else {
        let restart = before.is_none_or(|before| before.run < row.run);
        let begins = row.event == INIT && row.seq == 0 && restart;
        return (!begins || !is_first(machine, to)).then(|| format!("transition {} comes from nowhere to `{}`", row.seq, row.to));
    };
    if row.event == RECOVERED {
        return recovered(machine, before, row, to);
    }
    if let Some(gap) = gap(before, row, from_name) {
        return Some(gap);
    }
    if before.is_some_and(|before| before.discarded) {
        return Some(format!("transition {} is of a chunk that was discarded before", row.seq));
    }
    let Some(from) = machine.state(from_name) else {
        let is_split = from_name == SPLIT_STATE;
        let ended = || format!("transition {} leaves `{from_name}`, which is final", row.seq);
        return Some(if is_split { ended() } else { format!("there is no state `{from_name}`") });
    };
    if machine.is_final(from) && machine.parent(from).is_none_or(|parent| machine.parent(parent).is_none()) {
        return Some(format!("transition {} leaves `{from_name}`, which is final", row.seq));
    }
    let legal = is_legal(machine, from, &row.event, to, row.microstep);
    (!legal).then(|| format!("transition {}: no `{}` leads from `{from_name}` to `{}`", row.seq, row.event, row.to))
}

/// What is missing between this transition, which leaves `from`, and the one before it.
fn gap(before: Option<&Walk>, row: &TransitionRow, from: &str) -> Option<String> {
    let Some(before) = before.filter(|before| before.run == row.run) else {
        return Some(format!("its first transition in the journal is number {}, from `{from}`", row.seq));
    };
    if row.seq != before.seq + 1 {
        return Some(format!("transitions are missing between number {} and number {}", before.seq, row.seq));
    }
    (from != before.at).then(|| format!("transition {} leaves `{from}`, but the chunk was in `{}`", row.seq, before.at))
}

/// A chunk whose range is given up ends where it was, be that a state of the engine's own.
fn discarded(before: Option<&Walk>, row: &TransitionRow) -> Option<String> {
    let from = row.from.as_deref().unwrap_or_default();
    let problem = || format!("transition {} discards the chunk in `{from}` and leads to `{}`", row.seq, row.to);
    gap(before, row, from).or_else(|| (row.to != from).then(problem))
}

/// A chunk is split where a handler or sink was at it, and nothing comes behind.
fn split(machine: &Machine, before: Option<&Walk>, row: &TransitionRow) -> Option<String> {
    let from_name = row.from.as_deref().unwrap_or_default();
    if let Some(gap) = gap(before, row, from_name) {
        return Some(gap);
    }
    let has_handler = machine.state(from_name).is_some_and(|from| !machine.state_invocations(from).is_empty());
    let is_legal = has_handler && row.to == SPLIT_STATE && row.microstep == 0;
    (!is_legal).then(|| format!("transition {}: a chunk in `{from_name}` cannot be split", row.seq))
}

/// A chunk that an earlier run left starts anew, once in a run and as its first step there.
fn recovered(machine: &Machine, before: Option<&Walk>, row: &TransitionRow, to: StateId) -> Option<String> {
    let left = before.filter(|before| !before.discarded && before.run < row.run && Some(&before.at) == row.from.as_ref());
    let is_recovery = left.is_some() && row.seq == 0 && is_first(machine, to);
    (!is_recovery).then(|| format!("transition {} of run {} recovers a chunk that was not left so", row.seq, row.run))
}

/// Whether a walk begins with this state.
fn is_first(machine: &Machine, state: StateId) -> bool {
    /// Keeps where the first microstep led.
    struct First(Option<StateId>);
    impl Host for First {
        fn microstep(&mut self, step: &Microstep<'_>) {
            self.0.get_or_insert(step.to);
        }
    }
    let mut first = First(None);
    // An error (an endless macrostep) comes after that step.
    let _ = machine.start(machine.initial_context(), &mut first, &mut Effects::new());
    first.0 == Some(state)
}

/// Whether, for some outcome of the guards, this event leads from there to there.
fn is_legal(machine: &Machine, from: StateId, event: &str, to: StateId, microstep: i64) -> bool {
    let by_event = machine.candidates(from, machine.event(event)).any(|candidate| candidate.target == to);
    by_event || (microstep > 0 || event == INIT) && machine.always_candidates(from).any(|candidate| candidate.target == to)
}
