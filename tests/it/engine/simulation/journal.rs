//! A journal in memory that fails now and then, and what a run that goes on makes of it: a model of what the file does.

use super::*;
use sluicegate::fsm::Machine;
use sluicegate::journal::{AsRead, CarriedOver, ChunkRows, Ending, Entry, Journal, LeftOff, RowSum};
use sluicegate::sink::Position;
use std::collections::{BTreeMap, HashMap};

/// The journal of one run.
pub struct Memory {
    stage: Arc<Stage>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    machine: Option<Arc<Machine>>,
    /// Entries up to the last checkpoint.
    durable: Vec<Entry>,
    /// Those behind it, of which a crash leaves as many as it likes; but what was handed over together stays together.
    recorded: Vec<Vec<Entry>>,
    positions: HashMap<Arc<str>, u64>,
    calls: u64,
    dead: bool,
}

impl Memory {
    pub fn new(stage: Arc<Stage>) -> Memory {
        Memory { stage, state: Mutex::default() }
    }

    /// The process is gone: nothing gets in from now on, and some of what was not made durable is lost.
    pub fn die(&self) {
        let mut state = self.state.lock();
        state.dead = true;
        let kept = mix(&[self.stage.world.0, 30, state.calls]) as usize % (state.recorded.len() + 1);
        state.recorded.truncate(kept);
    }

    fn call(&self, what: u64, times: u64) -> Result<parking_lot::MutexGuard<'_, State>, Trouble> {
        let _busy = self.stage.busy();
        let mut state = self.state.lock();
        if state.dead {
            return Err(Trouble::lasting(TroubleKind::Io, "the process is gone"));
        }
        state.calls += 1;
        self.stage.trouble(what, state.calls, times)?;
        Ok(state)
    }
}

impl Journal for Memory {
    fn begin(&self, machine: &Arc<Machine>) -> Result<(), Trouble> {
        self.state.lock().machine = Some(machine.clone());
        Ok(())
    }

    fn record(&self, entries: &mut Vec<Entry>) {
        let mut state = self.state.lock();
        let entries = std::mem::take(entries);
        if !state.dead {
            state.recorded.push(entries);
        }
    }

    fn checkpoint(&self, entries: &mut Vec<Entry>, positions: &[Position]) -> Result<(), Trouble> {
        let state = &mut *self.call(31, 6)?;
        state.make_durable();
        state.durable.append(entries);
        state.positions.extend(positions.iter().map(|position| (position.output.clone(), position.bytes)));
        Ok(())
    }

    fn intend_finish(&self) -> Result<(), Trouble> {
        self.call(32, 3).map(drop)
    }

    fn end(&self, _: &Ending) -> Result<(), Trouble> {
        let state = &mut *self.state.lock();
        if !state.dead {
            state.make_durable();
        }
        Ok(())
    }
}

impl State {
    fn make_durable(&mut self) {
        self.durable.extend(self.recorded.drain(..).flatten());
    }
}

/// What all runs of a world have left behind.
#[derive(Default)]
pub struct History {
    chunks: BTreeMap<ChunkId, Known>,
    /// Ranges that were read to their end: how many chunks and rows they have.
    ranges: BTreeMap<u32, (u32, u64)>,
    positions: HashMap<Arc<str>, u64>,
}

/// A chunk as the journal has it.
struct Known {
    read: AsRead,
    left: LeftOff,
    is_split: bool,
    ended: Option<ChunkRows>,
}

impl Known {
    fn is_final(&self) -> bool {
        self.is_split || self.ended.is_some()
    }
}

impl History {
    /// Takes in what a run has left.
    pub fn add(&mut self, memory: &Memory) {
        let state = &mut *memory.state.lock();
        self.positions.extend(state.positions.drain());
        state.make_durable();
        let Some(machine) = state.machine.clone() else { return };
        for entry in state.durable.drain(..) {
            match entry {
                Entry::Admitted(admitted) => {
                    let read = AsRead { part: 0, rows: admitted.rows, bytes: admitted.bytes, digest: None };
                    let known = Known { read, left: LeftOff::default(), is_split: false, ended: None };
                    if let Some(before) = self.chunks.insert(admitted.chunk, known) {
                        assert!(!before.is_final(), "chunk {} had come to its end", admitted.chunk);
                        assert_eq!(before.read, read, "chunk {} was another", admitted.chunk);
                    }
                }
                Entry::Transition(step) => {
                    let left = LeftOff { state: machine.state_name(step.to).to_owned(), ..LeftOff::default() };
                    self.known(step.chunk).left = left;
                }
                Entry::Waiting(waiting) => {
                    let left = &mut self.known(waiting.chunk).left;
                    left.not_before_micros = Some(waiting.until_micros);
                    left.context = serde_json::from_str(&waiting.context).unwrap();
                }
                Entry::Split(split) => self.known(split.chunk).is_split = true,
                Entry::Settled(settled) => {
                    let known = self.known(settled.chunk);
                    let ChunkRows { written, filtered, dead_lettered, cancelled } = settled.rows;
                    assert_eq!(written + filtered + dead_lettered + cancelled, known.read.rows, "rows of chunk {}", settled.chunk);
                    assert!(known.ended.replace(settled.rows).is_none(), "chunk {} ended twice", settled.chunk);
                }
                Entry::RangeDone(done) => drop(self.ranges.insert(done.range, (done.chunks, done.rows))),
                Entry::Run(_) => {}
            }
        }
    }

    #[track_caller]
    fn known(&mut self, chunk: ChunkId) -> &mut Known {
        self.chunks.get_mut(&chunk).unwrap_or_else(|| panic!("something of chunk {chunk}, and not that it came in"))
    }

    pub fn durable(&self, name: &str) -> u64 {
        self.positions.get(name).copied().unwrap_or(0)
    }

    pub fn carried_over(&self) -> CarriedOver {
        let mut carried = CarriedOver::default();
        let is_finished = |range: &u32, chunks: u32| {
            let of_range = || self.chunks.iter().filter(|(id, _)| id.range == *range);
            of_range().filter(|(id, _)| !id.is_part()).count() == chunks as usize && of_range().all(|(_, known)| known.is_final())
        };
        for (range, (chunks, rows)) in &self.ranges {
            if is_finished(range, *chunks) {
                carried.ranges.push((0, *range));
                carried.rows.read += rows;
            }
        }
        let finished: Vec<u32> = carried.ranges.iter().map(|(_, range)| *range).collect();
        for (id, known) in &self.chunks {
            if let Some(ChunkRows { written, filtered, dead_lettered, cancelled }) = known.ended {
                let RowSum { read, .. } = carried.rows;
                carried.rows = RowSum {
                    read,
                    written: carried.rows.written + written,
                    filtered: carried.rows.filtered + filtered,
                    dead_lettered: carried.rows.dead_lettered + dead_lettered,
                    cancelled: carried.rows.cancelled + cancelled,
                };
            }
            match known {
                _ if finished.contains(&id.range) => {}
                Known { is_split: true, read, .. } => drop(carried.split.insert(*id, *read)),
                Known { ended: Some(_), .. } => carried.ended.push((0, *id)),
                Known { left, .. } if !left.state.is_empty() => drop(carried.begun.insert(*id, left.clone())),
                Known { .. } => {}
            }
        }
        carried
    }
}
