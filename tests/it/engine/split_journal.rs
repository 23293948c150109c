//! Chunks that were split, in the journal, and for a run that goes on from there.

use super::*;
use rusqlite::Connection;
use sluicegate::budget::Budget;
use sluicegate::chunk::{ChunkId, Payload};
use sluicegate::clock::Clock;
use sluicegate::engine::RunReport;
use sluicegate::journal::sqlite::recover::Earlier;
use sluicegate::journal::sqlite::{Audit, Reader, RunRecord, SqliteJournal, give_up};
use sluicegate::source::{Incoming, Lane, RangeDone, Read, Source};
use sluicegate::{Stop, Trouble};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// One range of chunks that can be read again.
struct Again {
    chunks: Vec<Rows>,
    /// Chunks that are not given.
    done: HashSet<ChunkId>,
}

struct AgainLane(Again, u32);

impl Source<Rows> for Again {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<Rows>>>, Trouble> {
        budget.enter(0);
        let all = Again { chunks: self.chunks.clone(), done: self.done.clone() };
        Ok(vec![Box::new(AgainLane(all, 0))])
    }
}

impl Lane<Rows> for AgainLane {
    fn read(&mut self, budget: &Budget, _: &Stop) -> Result<Read<Rows>, Trouble> {
        let AgainLane(Again { chunks, done }, next) = self;
        while done.contains(&ChunkId::new(0, *next)) {
            *next += 1;
        }
        let count = chunks.len() as u32;
        let Some(payload) = chunks.get(*next as usize).cloned() else {
            if *next > count {
                return Ok(Read::End);
            }
            *next = count + 1;
            budget.leave(0);
            let rows = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            return Ok(Read::RangeDone(RangeDone { range: 0, part: 0, chunks: count, rows, origin: "all".into() }));
        };
        let Ok(permit) = budget.acquire(0, payload.resident_bytes()) else { return Ok(Read::Stopped) };
        let id = ChunkId::new(0, *next);
        *next += 1;
        Ok(Read::Chunk(Incoming { id, part: 0, origin: format!("chunk {}", id.index).into(), payload, permit }))
    }
}

/// Three chunks of ten rows; 13 and 24 are bad.
struct Case {
    folder: tempfile::TempDir,
    seen: Seen,
    dead: Seen,
    /// What the handler was given, as it came.
    given: Seen,
    /// Whether it waits when it sees row 17.
    waits: Arc<AtomicBool>,
}

impl Case {
    fn new() -> Case {
        let folder = tempfile::tempdir().unwrap();
        Case { folder, seen: Seen::default(), dead: Seen::default(), given: Seen::default(), waits: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn earlier(&self) -> Earlier {
        Earlier::read(&self.path(), &["xstate.done.actor.sink".to_owned()]).unwrap().unwrap()
    }

    fn run(&self, chunks: Vec<Rows>, done: HashSet<ChunkId>) -> Orchestrator<Rows> {
        let (given, waits) = (self.given.clone(), self.waits.clone());
        let validate = move |work: &Work<Rows>| {
            given.0.lock().push((work.id.to_string(), work.payload.to_vec()));
            if work.payload.iter().any(|row| [13, 24].contains(row)) {
                return Err(HandlerError::new("invalid", "a row is bad").of_some_row());
            }
            while work.payload.contains(&17) && waits.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(Done::same())
        };
        let clock = Clock::real();
        handlers_with(Orchestrator::new(lifecycle("chunk")), validate)
            .sink("sink", self.seen.sink())
            .dead_letter("deadLetter", self.dead.sink())
            .source(Again { chunks, done })
            .clock(clock.clone())
            .journal(SqliteJournal::open(&self.path(), 0o600, RunRecord::new("test"), clock).unwrap())
            .split_chunks()
    }

    /// Runs until the first half of chunk 0.1 has come to its end, the second half has not, and the process is cut off.
    fn cut_off(&self) {
        self.waits.store(true, Ordering::SeqCst);
        let running = self.run(chunks(3).collect(), HashSet::new()).start().unwrap();
        let handle = running.handle();
        until("the first half has ended", || handle.metrics().rows.written == 14 && handle.metrics().rows.dead_lettered == 1);
        handle.stop_now();
        let _ = running.wait().unwrap();
        self.waits.store(false, Ordering::SeqCst);
        self.given.0.lock().clear();
    }

    /// Goes on from there, with the source as it should be.
    fn go_on(&self) -> RunReport {
        let carried = self.earlier().carried();
        self.run(chunks(3).collect(), carried.need_not_be_read()).carry_over(carried).run().unwrap()
    }

    #[track_caller]
    fn is_right(&self, report: &RunReport) {
        let good: Rows = (0..30).filter(|row| ![13, 24].contains(row)).collect();
        assert_eq!((self.seen.rows(), self.dead.rows()), (good, vec![13, 24]));
        assert_eq!(report.rows.to_string(), "30 read = 28 written + 0 filtered + 2 dead-lettered + 0 cancelled");
        let audit = audit(&self.path());
        assert!(audit.is_sound() && audit.complete, "{:?}", audit.findings);
        assert_eq!(audit.rows, report.rows);
    }
}

fn handlers_with(
    run: Orchestrator<Rows>,
    validate: impl Fn(&Work<Rows>) -> Result<Done<Rows>, HandlerError> + Send + Sync + 'static,
) -> Orchestrator<Rows> {
    let group = GroupLimits { idle: Duration::from_millis(1), ..GroupLimits::default() };
    run.handler("validate", validate).handler("transform", nothing).workers(3).patience(quick()).group(group)
}

fn audit(path: &Path) -> Audit {
    Audit::of(&Reader::open(path).unwrap()).unwrap()
}

#[test]
fn the_journal_tells_what_became_of_a_chunk_that_was_split() {
    let case = Case::new();
    let report = case.run(chunks(3).collect(), HashSet::new()).run().unwrap();
    case.is_right(&report);
    let reader = Reader::open(&case.path()).unwrap();
    let shown: Vec<String> = reader
        .chunks(None)
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {} {:?}", row.chunk, row.state, row.rows, row.rows_by_end.map(|rows| (rows.written, rows.dead_lettered))))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    0.0 sunk 10 Some((10, 0))
    0.1 split 10 None
    0.1/0 split 5 None
    0.1/0/0 sunk 2 Some((2, 0))
    0.1/0/1 split 3 None
    0.1/0/1/0 sunk 1 Some((1, 0))
    0.1/0/1/1 split 2 None
    0.1/0/1/1/0 failed 1 Some((0, 1))
    0.1/0/1/1/1 sunk 1 Some((1, 0))
    0.1/1 sunk 5 Some((5, 0))
    0.2 split 10 None
    0.2/0 split 5 None
    0.2/0/0 sunk 2 Some((2, 0))
    0.2/0/1 split 3 None
    0.2/0/1/0 sunk 1 Some((1, 0))
    0.2/0/1/1 split 2 None
    0.2/0/1/1/0 sunk 1 Some((1, 0))
    0.2/0/1/1/1 failed 1 Some((0, 1))
    0.2/1 sunk 5 Some((5, 0))
    ");
    let walk = reader.walk(ChunkId::new(0, 1)).unwrap();
    let walk: Vec<String> = walk.iter().map(|step| format!("{} {} {:?}", step.event, step.to, step.error)).collect();
    assert_eq!(walk, ["xstate.init received None", r#"sluicegate.split split Some("invalid: a row is bad")"#]);
    let states: Vec<(String, i64, i64)> =
        reader.states().unwrap().into_iter().map(|state| (state.state, state.chunks, state.rows)).collect();
    assert!(states.contains(&("split".into(), 8, 0)), "rows are counted once: {states:?}");
    assert_eq!(states.iter().map(|(_, _, rows)| rows).sum::<i64>(), 30);
}

#[test]
fn a_run_that_goes_on_splits_alike_and_does_what_is_left() {
    let case = Case::new();
    case.cut_off();
    let earlier = case.earlier();
    let carried = earlier.carried();
    assert_eq!(carried.need_not_be_read(), HashSet::from([ChunkId::new(0, 0)]), "there is something left of chunk 0.1");
    assert!(!earlier.ended().contains_key(&ChunkId::new(0, 1)) && carried.split.contains_key(&ChunkId::new(0, 1)));
    let report = case.go_on();
    case.is_right(&report);
    let given = case.given.chunks();
    assert!(given.contains(&"0.1/1".to_owned()) && !given.iter().any(|id| id == "0.1" || id.starts_with("0.1/0")), "{given:?}");
    let reader = Reader::open(&case.path()).unwrap();
    let recovered = reader.walk("0.1/1".parse().unwrap()).unwrap().into_iter().filter(|step| step.event == "sluicegate.recovered").count();
    assert_eq!(recovered, 1);
    assert!(case.earlier().is_complete());
}

/// Also a run that is cut off again, and one that finds nothing left of a chunk.
#[test]
fn going_on_again_and_again_comes_to_an_end() {
    let case = Case::new();
    case.cut_off();
    case.waits.store(true, Ordering::SeqCst);
    let carried = case.earlier().carried();
    let running = case.run(chunks(3).collect(), carried.need_not_be_read()).carry_over(carried).start().unwrap();
    until("the second half is at work", || case.given.chunks().contains(&"0.1/1".to_owned()));
    running.handle().stop_now();
    let _ = running.wait().unwrap();
    case.waits.store(false, Ordering::SeqCst);
    let carried = case.earlier().carried();
    let stops_behind_it = case.run(chunks(3).collect(), carried.need_not_be_read()).carry_over(carried).max_chunks(1).start().unwrap();
    until("chunk 0.1 has ended", || stops_behind_it.handle().metrics().rows.written >= 19);
    stops_behind_it.handle().stop_now();
    let _ = stops_behind_it.wait().unwrap();
    let carried = case.earlier().carried();
    assert!(carried.need_not_be_read().contains(&ChunkId::new(0, 1)) || carried.ranges == [(0, 0)], "{carried:?}");
    let report = case.go_on();
    case.is_right(&report);
}

#[test]
fn a_run_that_goes_on_refuses_what_is_not_the_chunk_that_was_split() {
    let case = Case::new();
    case.cut_off();
    let carried = case.earlier().carried();
    let mut others: Vec<Rows> = chunks(3).collect();
    others[1].pop();
    let refused = case.run(others, carried.need_not_be_read()).carry_over(carried.clone()).run().unwrap_err();
    insta::assert_snapshot!(refused, @"chunk 0.1 was split by an earlier run, and has other rows now, so it cannot be continued");
    let clock = Clock::real();
    let refused = handlers_with(Orchestrator::new(lifecycle("chunk")), nothing)
        .sink("sink", case.seen.sink())
        .dead_letter("deadLetter", case.dead.sink())
        .source(Again { chunks: chunks(3).collect(), done: carried.need_not_be_read() })
        .clock(clock.clone())
        .journal(SqliteJournal::open(&case.path(), 0o600, RunRecord::new("test"), clock).unwrap())
        .carry_over(carried)
        .run()
        .unwrap_err();
    insta::assert_snapshot!(refused, @"chunk 0.1 was split by an earlier run, but this run does not split chunks");
    case.is_right(&case.go_on());
}

/// Whole ranges are read anew: what their parts did before is forgotten, and no walk is told twice.
#[test]
fn ranges_that_are_read_anew_forget_what_was_split() {
    let case = Case::new();
    case.cut_off();
    assert!(give_up::unfinished_ranges(&case.path(), &["out"], None).unwrap());
    let carried = case.earlier().carried();
    assert!(carried.need_not_be_read().is_empty() && carried.split.is_empty());
    [&case.seen, &case.dead].into_iter().for_each(|output| output.0.lock().clear());
    // Another table by now: chunk 0.1 has no bad row any more.
    let mut others: Vec<Rows> = chunks(3).collect();
    others[1][3] = 99;
    let report = case.run(others, HashSet::new()).carry_over(carried).run().unwrap();
    assert_eq!(report.rows.to_string(), "30 read = 29 written + 0 filtered + 1 dead-lettered + 0 cancelled");
    let audit = audit(&case.path());
    assert!(audit.is_sound(), "{:?}", audit.findings);
    assert_eq!(audit.rows, report.rows);
    let chunks = Reader::open(&case.path()).unwrap().chunks(None).unwrap();
    assert!(!chunks.iter().any(|row| row.chunk.starts_with("0.1/")));
}

/// What cannot have happened is found.
#[test]
fn an_audit_believes_no_split_that_cannot_have_been() {
    let found = |forgery: &str| {
        let case = Case::new();
        case.cut_off();
        let _ = case.go_on();
        let forger = Connection::open(case.path()).unwrap();
        forger.execute_batch(forgery).unwrap_or_else(|error| panic!("{error}: {forgery}"));
        drop(forger);
        let audit = audit(&case.path());
        audit.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let part = "range = 0 AND idx = 1 AND split = '/1'";
    let forgeries = [
        format!("DELETE FROM chunks WHERE {part}; DELETE FROM transitions WHERE {part}"),
        format!("UPDATE chunks SET rows = 4, rows_written = 4 WHERE {part}"),
        "UPDATE chunks SET split = '/0/1' WHERE idx = 0; UPDATE transitions SET split = '/0/1' WHERE idx = 0".to_owned(),
        "INSERT INTO transitions SELECT run, range, idx, split, seq + 1, at, 'xstate.done.actor.validate', 'split', 'validated', 0, 1, 1, 0, NULL
            FROM transitions WHERE to_state = 'split' AND idx = 1 AND split = ''"
            .to_owned(),
        "UPDATE transitions SET from_state = 'retried' WHERE to_state = 'split' AND idx = 1 AND split = ''".to_owned(),
        // A chunk is recovered once in a run.
        format!(
            "INSERT INTO transitions SELECT run, range, idx, split, 100, at, event, 'sunk', to_state, 0, 0, 0, 0, NULL
            FROM transitions WHERE {part} AND event = 'sluicegate.recovered';
            UPDATE chunks SET state = 'received' WHERE {part}"
        ),
    ];
    let found: Vec<String> = forgeries.iter().map(|forgery| found(forgery)).collect();
    insta::assert_snapshot!(found.join("\n\n"), @r"
    0.1: it was split, but the journal has 1 of its 2 halves, and 5 of its rows are in none
    run: the rows do not add up: 30 read ≠ 23 written + 0 filtered + 2 dead-lettered + 0 cancelled
    run: the run says 30 read = 28 written + 0 filtered + 2 dead-lettered + 0 cancelled; its chunks say 30 read ≠ 23 written + 0 filtered + 2 dead-lettered + 0 cancelled

    0.1: it was split, but the journal has 2 of its 2 halves, and 1 of its rows are in none
    run: the rows do not add up: 30 read ≠ 27 written + 0 filtered + 2 dead-lettered + 0 cancelled
    run: the run says 30 read = 28 written + 0 filtered + 2 dead-lettered + 0 cancelled; its chunks say 30 read ≠ 27 written + 0 filtered + 2 dead-lettered + 0 cancelled

    0.0/0/1: it is half of a chunk that was not split
    range 0: its origin says 3 chunks and 30 rows, the journal has 2 and 20

    0.1: transition 2 leaves `split`, which is final
    0.1: it is said to be in `split`, but its walk ends in `validated`

    0.1: transition 1 leaves `retried`, but the chunk was in `received`

    0.1/1: transition 100 of run 2 recovers a chunk that was not left so
    ");
}
