//! The engine's concurrency, tried in thousands of interleavings.
//!
//! The shipped code is compiled with a `sync` whose locks, channels, atomics and threads belong to [shuttle](https://docs.rs/shuttle):
//! all threads of a model run one at a time, and before each step a scheduler chooses whose turn it is. What a model does at random it
//! asks the scheduler for, so that a seed decides everything. Half of the schedules are drawn evenly, half by PCT, which finds what few
//! but ill-placed switches do.
//!
//! ```sh
//! cd tests/models && cargo test                    # every model, a fresh seed for each, which is printed when one fails
//! SEED=… cargo test NAME                           # the same schedules again; the first is the one with this seed
//! SCHEDULES=100000 cargo test NAME                 # more of them
//! ```
#![cfg(test)]

#[cfg(not(sluicegate_model))]
compile_error!("models need `--cfg sluicegate_model`: run cargo in `tests/models`, without RUSTFLAGS in the environment");

mod budget;
mod feed;
mod parts;
mod run;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::hash::{BuildHasher, RandomState};

/// A schedule with more steps than this comes to no end.
const ENDLESS: usize = 100_000;

/// How many switches PCT places.
const SWITCHES: usize = 4;

fn env<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name}={text} is not understood")))
}

/// Runs `model` in this many schedules, unless the environment says otherwise. A panic, a deadlock and an endless schedule fail it.
fn check(schedules: usize, model: fn()) {
    let seed = env("SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SEED={seed}");
    let half = env("SCHEDULES").unwrap_or(schedules).div_ceil(2);
    run(RandomScheduler::new_from_seed(seed, half), model);
    run(PctScheduler::new_from_seed(seed, SWITCHES, half), model);
}

fn run(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.max_steps = MaxSteps::FailAfter(ENDLESS);
    config.silence_warnings = true;
    // The seed is enough, and shorter.
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(model);
}

/// A number below `below`, as the schedule wants it.
fn pick(below: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// Whether something happens that does once in `times` cases.
fn happens(times: u32) -> bool {
    pick(times) == 0
}

/// Others may go on, for a while.
fn dawdle(most: u32) {
    (0..pick(most + 1)).for_each(|_| shuttle::thread::yield_now());
}
