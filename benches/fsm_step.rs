//! What one event costs: a flat macrostep of the default lifecycle, against a hand-written `match` as the anchor.
//!
//! Every run of a chunk is the same work in all variants: three outcomes, and for 1 in 20 chunks a failed sink, a
//! backoff and a second try. Figures are per macrostep. Targets: below 10 ns, and below 40 ns with a record per
//! microstep appended to memory.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use sluicegate::fsm::{CompileOptions, Effects, Event, EventData, Host, Instance, Machine, Microstep, check_text, compile};

const CHUNK: &str = include_str!("../fsm-definitions/chunk.json");
/// Chunks in one batch; 1 in [`RETRIED`] of them fails once at the sink.
const CHUNKS: usize = 40;
const RETRIED: usize = 20;
const MACROSTEPS: u64 = (CHUNKS * 3 + CHUNKS / RETRIED * 2) as u64;

fn machine() -> Machine {
    let (definition, report) = check_text(CHUNK, None);
    let definition = definition.unwrap_or_else(|| panic!("{report}"));
    compile(definition, &CompileOptions::default()).unwrap_or_else(|report| panic!("{report}"))
}

/// The outcomes that a chunk meets, in order.
struct Script<'a> {
    smooth: Vec<Event<'a>>,
    retried: Vec<Event<'a>>,
}

impl<'a> Script<'a> {
    fn new(machine: &Machine, output: &'a Value, error: &'a Value) -> Script<'a> {
        let bare = |name: &str, data| Event { id: machine.event(name), name: None, data };
        let done = |id: &str| bare(&format!("xstate.done.actor.{id}"), EventData::Output(output));
        let failed = bare("xstate.error.actor.sink", EventData::Error(error));
        let due = bare("xstate.after.retryBackoff.chunk.retried", EventData::None);
        let smooth = vec![done("validate"), done("transform"), done("sink")];
        let retried = vec![done("validate"), done("transform"), failed, due, done("sink")];
        Script { smooth, retried }
    }

    fn of(&self, chunk: usize) -> &[Event<'a>] {
        if chunk.is_multiple_of(RETRIED) { &self.retried } else { &self.smooth }
    }
}

fn run_all<H: Host>(machine: &Machine, script: &Script<'_>, chunks: &mut [Instance], host: &mut H, effects: &mut Effects) {
    for (number, chunk) in chunks.iter_mut().enumerate() {
        for event in script.of(number) {
            let handled = machine.send(chunk, black_box(event), host, effects);
            black_box((&handled, &effects));
        }
    }
}

/// A journal in memory: 32 bytes per microstep.
#[derive(Default)]
struct Log(Vec<[u64; 4]>);

impl Host for Log {
    fn microstep(&mut self, step: &Microstep<'_>) {
        let path = (step.from.index() as u64) << 32 | step.to.index() as u64;
        let transition = step.transition.map_or(u64::MAX, |transition| transition.index() as u64);
        self.0.push([self.0.len() as u64, step.event.id.index() as u64, path, transition]);
    }
}

#[derive(Copy, Clone, PartialEq)]
enum Stage {
    Received,
    Validated,
    Transformed,
    Retried,
    Sunk,
    Failed,
}

#[derive(Copy, Clone)]
enum Outcome {
    Validated,
    Transformed,
    Sunk,
    SinkFailed,
    BackoffOver,
}

fn by_hand(stage: Stage, outcome: Outcome, attempt: &mut u32) -> Stage {
    match (stage, outcome) {
        (Stage::Received, Outcome::Validated) => Stage::Validated,
        (Stage::Validated, Outcome::Transformed) => Stage::Transformed,
        (Stage::Transformed, Outcome::Sunk) => Stage::Sunk,
        (Stage::Transformed, Outcome::SinkFailed) => {
            *attempt += 1;
            if *attempt > 3 { Stage::Failed } else { Stage::Retried }
        }
        (Stage::Retried, Outcome::BackoffOver) => Stage::Transformed,
        (stage, _) => stage,
    }
}

fn bench(criterion: &mut Criterion) {
    let machine = machine();
    let (output, error) = (json!({ "rows": 1000 }), json!({ "kind": "io" }));
    let script = Script::new(&machine, &output, &error);
    let mut effects = Effects::new();
    let fresh = machine.start(machine.initial_context(), &mut (), &mut effects).unwrap_or_else(|error| panic!("{error}"));

    let mut group = criterion.benchmark_group("macrostep");
    group.throughput(Throughput::Elements(MACROSTEPS));
    group.bench_function("match by hand", |bencher| {
        let smooth = [Outcome::Validated, Outcome::Transformed, Outcome::Sunk];
        let retried = [Outcome::Validated, Outcome::Transformed, Outcome::SinkFailed, Outcome::BackoffOver, Outcome::Sunk];
        bencher.iter(|| {
            for chunk in 0..CHUNKS {
                let (mut stage, mut attempt) = (Stage::Received, 0);
                for outcome in if chunk.is_multiple_of(RETRIED) { &retried[..] } else { &smooth[..] } {
                    stage = black_box(by_hand(stage, black_box(*outcome), &mut attempt));
                }
            }
        });
    });
    let chunks = || vec![fresh.clone(); CHUNKS];
    group.bench_function("machine", |bencher| {
        let run = |chunks: &mut Vec<Instance>| run_all(&machine, &script, chunks, &mut (), &mut effects);
        bencher.iter_batched_ref(chunks, run, BatchSize::PerIteration);
    });
    group.bench_function("machine with log", |bencher| {
        let mut log = Log(Vec::with_capacity(1 << 20));
        let run = |chunks: &mut Vec<Instance>| {
            log.0.clear();
            run_all(&machine, &script, chunks, &mut log, &mut effects);
        };
        bencher.iter_batched_ref(chunks, run, BatchSize::PerIteration);
    });
    group.finish();

    let mut group = criterion.benchmark_group("other");
    group.bench_function("start", |bencher| {
        bencher.iter(|| machine.start(machine.initial_context(), &mut (), &mut effects));
    });
    group.bench_function("check and compile", |bencher| bencher.iter(self::machine));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
