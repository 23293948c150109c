//! What the engine itself costs: processor time for a chunk that nobody does anything with, from source to sink, through the default
//! lifecycle (four states), with metrics, and with and without a journal.
//!
//! Run with `cargo bench --bench engine`. The figures are processor time of all threads together, not wall time.

use criterion::{Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use sluicegate::clock::Clock;
use sluicegate::engine::Orchestrator;
use sluicegate::fsm::Definition;
use sluicegate::journal::Journal;
use sluicegate::journal::sqlite::{RunRecord, SqliteJournal};
use sluicegate::processor::{Done, HandlerError, Work};
use sluicegate::sink::{Delivery, each};
use sluicegate::source::items;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Chunks in a run: enough that starting and ending it does not show.
const CHUNKS: u32 = 20_000;

type Rows = Vec<u8>;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

fn run(definition: &Definition, journal: Option<Arc<dyn Journal>>) {
    let nothing = |_: &Work<Rows>| -> Result<Done<Rows>, HandlerError> { Ok(Done::same()) };
    let mut run = Orchestrator::new(definition.clone())
        .source(items((0..CHUNKS).map(|_| vec![0])))
        .handler("validate", nothing)
        .handler("transform", nothing)
        .sink(
            "sink",
            each(|delivery: &Delivery<Rows>| {
                black_box(&delivery.payload);
                Ok(())
            }),
        )
        .dead_letter("deadLetter", each(|_: &Delivery<Rows>| Ok(())));
    if let Some(journal) = journal {
        run = run.journal(journal);
    }
    let report = run.run().expect("a good end");
    assert_eq!(report.rows.written, u64::from(CHUNKS));
}

fn journal(folder: &tempfile::TempDir, number: u64) -> Arc<dyn Journal> {
    let path = folder.path().join(format!("{number}.journal"));
    Arc::new(SqliteJournal::open(&path, 0o600, RunRecord::default(), Clock::real()).expect("a new journal"))
}

fn overhead(criterion: &mut Criterion) {
    let definition: Definition = serde_json::from_str(include_str!("../fsm-definitions/chunk.json")).expect("checked by a test");
    let mut group = criterion.benchmark_group("processor time for a no-op chunk");
    group.sample_size(10);
    group.bench_function("engine and metrics", |bencher| {
        bencher.iter_custom(|times| {
            let began = processor_time();
            (0..times).for_each(|_| run(&definition, None));
            (processor_time() - began) / CHUNKS
        });
    });
    group.bench_function("engine, metrics and journal", |bencher| {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut number = 0;
        bencher.iter_custom(|times| {
            let journals: Vec<_> = (0..times)
                .map(|_| {
                    number += 1;
                    journal(&folder, number)
                })
                .collect();
            let began = processor_time();
            journals.into_iter().for_each(|journal| run(&definition, Some(journal)));
            (processor_time() - began) / CHUNKS
        });
    });
}

criterion_group!(benches, overhead);
criterion_main!(benches);
