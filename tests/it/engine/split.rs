//! Bad rows among good ones, of which nobody knows which: chunks are halved until the bad ones are alone.

use super::*;
use proptest::prelude::*;
use sluicegate::chunk::ChunkId;
use sluicegate::engine::{Outcome, RunReport};
use sluicegate::processor::{Handler, Rejected};
use sluicegate::source::{feed, items};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Some row is bad, says who cannot tell which.
fn some_row(kind: &str) -> HandlerError {
    HandlerError::new(kind, "a row is bad").of_some_row()
}

/// Refuses chunks with a row of these.
fn refuses(bad: &[u32]) -> impl Fn(&Work<Rows>) -> Result<Done<Rows>, HandlerError> + Send + Sync + use<> {
    let bad = bad.to_vec();
    move |work| if work.payload.iter().any(|row| bad.contains(row)) { Err(some_row("invalid")) } else { Ok(Done::same()) }
}

/// The same for a sink.
fn refused(bad: &[u32]) -> impl FnMut(&Delivery<Rows>) -> Option<SinkError> + Send + use<> {
    let bad = bad.to_vec();
    move |delivery| delivery.payload.iter().any(|row| bad.contains(row)).then(|| some_row("conflict").into())
}

/// What is the same whatever is split and where: each bad row alone in the dead letter, all others written, and no byte held at the end.
#[track_caller]
fn judge(bad: &[u32], all: u32, (seen, dead, report): &(Seen, Seen, RunReport)) {
    let good: Rows = (0..all).filter(|row| !bad.contains(row)).collect();
    assert_eq!((seen.rows(), dead.rows()), (good, bad.to_vec()));
    assert!(report.rows.is_equal(), "{}", report.rows);
    assert_eq!((report.rows.read, report.rows.dead_lettered), (u64::from(all), bad.len() as u64));
    assert_eq!(dead.chunks().len(), bad.len(), "each alone: {:?}", dead.chunks());
    let memory = &report.metrics.memory;
    assert_eq!(memory.permits_bytes, 0);
    assert_eq!(report.metrics.rows_admitted, u64::from(all), "what is split is not read twice");
    assert_eq!(report.metrics.states.iter().map(|state| state.bytes).sum::<u64>(), 0);
}

/// Three chunks of ten rows.
fn run_with(
    validate: impl Handler<Rows> + 'static,
    sink: impl FnMut(&Delivery<Rows>) -> Option<SinkError> + Send + 'static,
) -> (Seen, Seen, RunReport) {
    let (seen, dead) = (Seen::default(), Seen::default());
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", validate).handler("transform", nothing).workers(2);
    let run = run.sink("sink", seen.unless(sink)).dead_letter("deadLetter", dead.sink()).source(items(chunks(3))).split_chunks();
    let report = run.group(quick_groups()).run().unwrap();
    (seen, dead, report)
}

fn quick_groups() -> GroupLimits {
    GroupLimits { idle: Duration::from_millis(1), ..GroupLimits::default() }
}

#[test]
fn a_poison_row_is_set_aside_alone_wherever_it_stands() {
    for bad in 0..30 {
        let in_handler = run_with(refuses(&[bad]), |_| None);
        judge(&[bad], 30, &in_handler);
        assert!(in_handler.2.metrics.chunks_split <= 4, "10, 5, 3, 2 rows");
        judge(&[bad], 30, &run_with(nothing, refused(&[bad])));
    }
}

#[test]
fn several_poison_rows_are_each_set_aside_alone() {
    for bad in [vec![0, 9], vec![4, 5, 6], vec![0, 10, 20], vec![29], (10..20).collect(), (0..30).collect()] {
        judge(&bad, 30, &run_with(refuses(&bad), |_| None));
        judge(&bad, 30, &run_with(nothing, refused(&bad)));
    }
}

/// Also the parts of a chunk are tried again where that may help, and the machine hears of them only when they are alone.
#[test]
fn what_is_alone_and_bad_is_the_machines_business() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let called = calls.clone();
    let (seen, dead, report) = run_with(
        move |work: &Work<Rows>| {
            if work.payload.contains(&11) {
                called.lock().push((work.id.to_string(), work.attempt));
                return Err(some_row("io"));
            }
            Ok(Done::same())
        },
        |_| None,
    );
    judge(&[11], 30, &(seen, dead.clone(), report.clone()));
    let tried: Vec<(String, u32)> = calls.lock().clone();
    let whole = [("0.1", 1), ("0.1/0", 1), ("0.1/0/0", 1)].map(|(id, attempt)| (id.to_owned(), attempt));
    assert_eq!(tried[..3], whole);
    let alone = (1..=4).map(|attempt| ("0.1/0/0/1".to_owned(), attempt)).collect::<Vec<_>>();
    assert_eq!(tried[3..], alone, "one attempt and three retries");
    assert_eq!(dead.chunks(), ["0.1/0/0/1"]);
    let metrics = report.metrics;
    assert_eq!((metrics.chunks_split, metrics.errors, metrics.retries), (3, 7, 3));
    let moved = metrics.transitions.iter().find(|step| step.to == "split").unwrap();
    assert_eq!((moved.from.as_deref(), moved.event.as_str(), moved.count), (Some("received"), "sluicegate.split", 3));
}

#[test]
fn other_errors_and_panics_split_nothing() {
    for panics in [false, true] {
        let fails = move |work: &Work<Rows>| match work.payload[0] {
            10 if panics => std::panic::resume_unwind(Box::new("no")),
            10 => Err(HandlerError::new("invalid", "as a whole")),
            _ => Ok(Done::same()),
        };
        let (_, dead, report) = run_with(fails, |_| None);
        assert_eq!((dead.chunks(), dead.rows(), report.metrics.chunks_split), (vec!["0.1".to_owned()], (10..20).collect(), 0));
    }
}

#[test]
fn a_run_that_does_not_split_gives_the_error_to_the_machine() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", refuses(&[13])).handler("transform", nothing);
    let report = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(3))).run().unwrap();
    assert_eq!((dead.chunks(), report.metrics.chunks_split), (vec!["0.1".to_owned()], 0));
}

/// A definition can tell the one from the other.
#[test]
fn guards_see_that_the_error_is_of_some_row() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let machine = json!({
        "id": "m", "initial": "a", "states": {
            "a": { "invoke": { "src": "check", "onDone": "b", "onError": [
                { "guard": { "type": "fsm.eventIn", "params": { "path": "error.someRow", "values": [true] } }, "target": "row" }, { "target": "chunk" } ] } },
            "b": { "invoke": { "src": "sink", "onDone": "sunk", "onError": "chunk" } },
            "row": { "invoke": { "src": "deadLetter", "onDone": "badRow", "onError": "badRow" } },
            "chunk": { "invoke": { "src": "deadLetter", "onDone": "badChunk", "onError": "badChunk" } },
            "sunk": { "type": "final" }, "badRow": { "type": "final" }, "badChunk": { "type": "final" } }
    });
    let check = |work: &Work<Rows>| match work.id.index {
        _ if work.payload.contains(&3) => Err(some_row("bad")),
        1 => Err(HandlerError::new("bad", "all of it")),
        _ => Ok(Done::same()),
    };
    let run =
        Orchestrator::new(definition(machine)).handler("check", check).sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink());
    let report = run.source(items(chunks(3))).split_chunks().run().unwrap();
    let entered = |name: &str| report.metrics.states.iter().find(|state| state.state == name).map_or(0, |state| state.rows);
    assert_eq!((entered("badRow"), entered("badChunk"), entered("sunk")), (1, 10, 19));
}

/// What a handler made of a chunk cannot start anew; what was read can, where it is kept.
#[test]
fn a_sink_may_find_the_bad_row_where_what_was_read_is_kept() {
    let double = |work: &Work<Rows>| {
        let kept: Rows = work.payload.iter().filter(|row| **row % 10 != 7).map(|row| row * 2).collect();
        let rejected = work.payload.iter().filter(|row| **row % 10 == 8).map(|row| Rejected::new(u64::from(*row), "eight", "")).collect();
        let kept: Rows = kept.into_iter().filter(|row| row / 2 % 10 != 8).collect();
        Ok(Done::with(kept).rejecting(rejected).filtering(work.payload.iter().filter(|row| **row % 10 == 7).count() as u64))
    };
    let run = |any_stage: bool| {
        let (seen, dead) = (Seen::default(), Seen::default());
        let run = Orchestrator::new(lifecycle("chunk")).handler("validate", nothing).handler("transform", double).group(quick_groups());
        let run = run.sink("sink", seen.unless(refused(&[26]))).dead_letter("deadLetter", dead.sink()).source(items(chunks(3)));
        let run = if any_stage { run.split_chunks_at_any_stage() } else { run.split_chunks() };
        let report = run.run().unwrap();
        (seen, dead, report)
    };
    let (seen, dead, report) = run(true);
    let good: Rows = (0..30).filter(|row| ![7, 8].contains(&(row % 10)) && *row != 13).map(|row| row * 2).collect();
    assert_eq!((seen.rows(), report.rows.filtered, report.rows.dead_lettered), (good, 3, 4));
    let mut set_aside = dead.rows();
    set_aside.sort_unstable();
    assert_eq!(set_aside, [8, 18, 26, 28], "three were rejected, and one refused");
    assert!(report.rows.is_equal() && report.metrics.memory.permits_bytes == 0, "{}", report.rows);

    let (_, dead, report) = run(false);
    assert_eq!((report.metrics.chunks_split, report.rows.dead_lettered), (0, 2 + 9), "the whole chunk");
    assert!(dead.chunks().contains(&"0.1".to_owned()));
}

/// However little room there is: the parts of the chunk that the order waits for can always move.
#[test]
fn splitting_cannot_deadlock() {
    for (max_chunks, ordered, bytes) in [(1, true, 1), (1, false, 1), (2, true, 100), (3, false, 1000), (2048, true, 1)] {
        let (seen, dead) = (Seen::default(), Seen::default());
        let wide = (0..4).map(|chunk| (chunk * 64..chunk * 64 + 64).collect::<Rows>());
        let run =
            Orchestrator::new(lifecycle("chunk")).handler("validate", refuses(&(0..256).collect::<Rows>())).handler("transform", nothing);
        let run = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(wide)).split_chunks().workers(3);
        let run = run.max_chunks(max_chunks).memory_limit(bytes).group(quick_groups());
        let report = if ordered { run.run() } else { run.unordered().run() }.unwrap();
        let mut rows = dead.rows();
        assert!(!ordered || rows.is_sorted());
        rows.sort_unstable();
        assert_eq!(rows, (0..256).collect::<Rows>(), "{max_chunks} chunks at a time");
        assert_eq!((report.rows.dead_lettered, report.metrics.memory.permits_bytes), (256, 0));
        // With nothing else under way, one chunk is read above the limit.
        assert!(report.metrics.memory.peak_permits_bytes <= 256 * 4 + bytes as u64, "{}", report.metrics.memory.peak_permits_bytes);
    }
}

/// What a world of rows may be like: `rows[i]` says what becomes of row `i`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    BadForHandler,
    BadForSink,
    Filtered,
    Rejected,
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    use Kind::*;
    proptest::collection::vec(
        prop_oneof![6 => Just(Good), 1 => Just(BadForHandler), 1 => Just(BadForSink), 1 => Just(Filtered), 1 => Just(Rejected)],
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_rows_are_like_each_ends_where_it_belongs(
        rows in kinds(), size in 1..20_usize, workers in 1..4_usize, max_chunks in 1..9_usize, limit in 1..400_usize, ordered: bool,
    ) {
        let is = |kind: Kind| (0..).zip(&rows).filter(|(_, other)| **other == kind).map(|(row, _)| row).collect::<Rows>();
        let all: Rows = (0..rows.len() as u32).collect();
        let (bad, bad_for_sink, filtered, rejected) = (is(Kind::BadForHandler), is(Kind::BadForSink), is(Kind::Filtered), is(Kind::Rejected));
        let (drops, rejects) = (filtered.clone(), rejected.clone());
        let transform = move |work: &Work<Rows>| {
            let kept: Rows = work.payload.iter().filter(|row| !drops.contains(row) && !rejects.contains(row)).copied().collect();
            let rejected = work.payload.iter().filter(|row| rejects.contains(row)).map(|row| Rejected::new(u64::from(*row), "no", "")).collect();
            Ok(Done::with(kept).rejecting(rejected).filtering(work.payload.iter().filter(|row| drops.contains(row)).count() as u64))
        };
        let (seen, dead) = (Seen::default(), Seen::default());
        let chunks: Vec<Rows> = all.chunks(size).map(<[u32]>::to_vec).collect();
        let run = Orchestrator::new(lifecycle("chunk")).handler("validate", refuses(&bad)).handler("transform", transform);
        let run = run.sink("sink", seen.unless(refused(&bad_for_sink))).dead_letter("deadLetter", dead.sink()).source(items(chunks));
        let run = run.split_chunks_at_any_stage().workers(workers).max_chunks(max_chunks).memory_limit(limit).group(quick_groups());
        let report = if ordered { run.run() } else { run.unordered().run() }.unwrap();
        let (mut written, mut set_aside) = (seen.rows(), dead.rows());
        prop_assert!(!ordered || written.is_sorted());
        written.sort_unstable();
        set_aside.sort_unstable();
        let mut expected = [bad, bad_for_sink, rejected].concat();
        expected.sort_unstable();
        prop_assert_eq!((written, set_aside), (is(Kind::Good), expected));
        prop_assert!(report.rows.is_equal());
        prop_assert_eq!((report.rows.filtered, report.metrics.memory.permits_bytes), (filtered.len() as u64, 0));
    }
}

/// A chunk that is split has a name that others know: what is meant for it is meant for all of it.
#[test]
fn events_for_a_split_chunk_go_to_all_of_its_parts() {
    for max_chunks in [1, 100] {
        let (seen, dead) = (Seen::default(), Seen::default());
        let waits = |work: &Work<Rows>| match work.payload.len() {
            10 | 5 if work.id.index == 1 => Err(some_row("invalid")),
            _ => {
                while work.id.index == 1 && !work.cancel.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(Done::same())
            }
        };
        let run = Orchestrator::new(lifecycle("chunk")).handler("validate", waits).handler("transform", nothing).workers(5).split_chunks();
        let run = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(items(chunks(3))).group(quick_groups());
        let running = run.max_chunks(max_chunks).start().unwrap();
        let handle = running.handle();
        until("split", || handle.metrics().chunks_split >= 2 && seen.chunks().len() == 1);
        handle.cancel_chunk(ChunkId::new(0, 1));
        let report = running.wait().unwrap();
        assert_eq!(seen.rows(), (0..10).chain(20..30).collect::<Rows>());
        assert_eq!((report.rows.cancelled, dead.chunks().len(), report.outcome), (10, 0, Outcome::Complete));
    }
}

#[test]
fn who_feeds_by_hand_is_told_of_each_chunk_once() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let (feeder, source) = feed::<Rows>();
    let run = Orchestrator::new(lifecycle("chunk")).handler("validate", refuses(&[2, 3])).handler("transform", nothing).split_chunks();
    let running = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(source).start().unwrap();
    let events = running.handle().subscribe(100);
    let first = feeder.push(vec![0, 1, 2, 3, 4]).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.chunk, settled.state.as_str()), (first, "split"));
    assert_eq!((settled.rows.written, settled.rows.dead_lettered), (3, 2));
    assert_eq!(settled.errors, ["invalid: a row is bad", "invalid: a row is bad"]);
    let second = feeder.push(vec![5]).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.chunk, settled.state.as_str()), (second, "sunk"), "nothing of the parts");
    feeder.close();
    let _ = running.wait().unwrap();
    let split = events.iter().find(|event| event.to == "split").unwrap();
    assert_eq!((split.chunk, split.from.as_deref(), split.event.as_str()), (first, Some("received"), "sluicegate.split"));
    assert_eq!(split.error.as_deref(), Some("invalid: a row is bad"));
}

/// Who was left behind still sees the chunk: its bytes count until that ends.
#[test]
fn bytes_that_somebody_left_behind_sees_count_on() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let go = Arc::new(AtomicBool::new(false));
    let may_go = go.clone();
    let slow_then_bad = move |work: &Work<Rows>| {
        if work.id == ChunkId::new(0, 0) && work.attempt == 1 {
            while !may_go.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if work.payload.contains(&3) { Err(some_row("invalid")) } else { Ok(Done::same()) }
    };
    let run = Orchestrator::new(lifecycle_with("chunk", 30)).handler("validate", slow_then_bad).handler("transform", nothing);
    let (feeder, source) = feed::<Rows>();
    let run = run.sink("sink", seen.sink()).dead_letter("deadLetter", dead.sink()).source(source).split_chunks();
    let running = run.start().unwrap();
    let mut rows = Vec::with_capacity(1000);
    rows.extend(0..10);
    feeder.push(rows).unwrap();
    let settled = running.next_settled(Duration::from_secs(20)).unwrap();
    assert_eq!((settled.rows.written, settled.rows.dead_lettered), (9, 1));
    assert_eq!(running.handle().metrics().memory.permits_bytes, 4000, "the handler that never returned");
    go.store(true, Ordering::SeqCst);
    until("it returns", || running.handle().metrics().memory.permits_bytes == 0);
    feeder.close();
    let _ = running.wait().unwrap();
}

/// Halves that are none: the chunk stays as it is.
#[test]
fn halves_that_do_not_add_up_are_none() {
    struct Odd(u64);
    impl sluicegate::Payload for Odd {
        fn bytes(&self) -> usize {
            8
        }
        fn rows(&self) -> u64 {
            self.0
        }
    }
    impl sluicegate::Halves for Odd {
        fn halves(&self) -> Option<[Odd; 2]> {
            match self.0 {
                4 => Some([Odd(2), Odd(1)]),
                5 => Some([Odd(5), Odd(0)]),
                6 => std::panic::resume_unwind(Box::new("no")),
                _ => None,
            }
        }
    }
    let dead = Arc::new(AtomicU32::new(0));
    let counted = dead.clone();
    let report = Orchestrator::new(lifecycle("chunk"))
        .handler("validate", |_: &Work<Odd>| Err(some_row("invalid")))
        .handler("transform", |_: &Work<Odd>| Ok(Done::same()))
        .sink("sink", each(|_: &Delivery<Odd>| Ok(())))
        .dead_letter(
            "deadLetter",
            each(move |_: &Delivery<Odd>| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }),
        )
        .source(items([3, 4, 5, 6].map(Odd)))
        .split_chunks()
        .run()
        .unwrap();
    assert_eq!((report.rows.dead_lettered, report.metrics.chunks_split, dead.load(Ordering::SeqCst)), (18, 0, 4));
}
