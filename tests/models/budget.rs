//! Permits: lanes that wait for them, a reader of the order that gives them back, and somebody who holds reading up or ends it.

use crate::{check, dawdle, happens, pick};
use shuttle::sync::atomic::{AtomicU32, Ordering};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread;
use sluicegate::budget::{Budget, BudgetStatus, Closed, Hold, MemoryBand, Permit};
use sluicegate::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;

const LANES: u32 = 3;
const CHUNKS: u32 = 3;
const HIGH: usize = 10;
const LARGEST: usize = 12;
const MAX_CHUNKS: usize = 3;

/// What a lane says: a chunk with its permit, or that the range has no more.
type Said = (u32, Option<Permit>);

/// Reads ranges until there are none or the budget is closed.
fn lane(budget: &Budget, next: &AtomicU32, ranges: u32, said: &Sender<Said>) -> Result<(), Closed> {
    loop {
        let range = next.fetch_add(1, Ordering::SeqCst);
        if range >= ranges {
            return Ok(());
        }
        budget.enter(range);
        for _ in 0..CHUNKS {
            let bytes = pick(LARGEST as u32) as usize;
            let mut permit = match happens(3).then(|| budget.try_acquire(range, bytes)).flatten() {
                Some(permit) => permit,
                None => budget.acquire(range, bytes)?,
            };
            if happens(2) {
                permit.resize(pick(LARGEST as u32) as usize);
            }
            let status = budget.status();
            // Beyond the mark: one chunk of each lane that was the lowest, and what grew, which is no more than one chunk each.
            assert!(status.bytes <= HIGH + (LANES as usize + MAX_CHUNKS) * LARGEST, "{status:?}");
            assert!(status.chunks <= MAX_CHUNKS + LANES as usize, "{status:?}");
            said.send((range, Some(permit))).expect("somebody listens");
        }
        budget.leave(range);
        said.send((range, None)).expect("somebody listens");
    }
}

/// Gives permits back in the order of ranges, as the order of chunks makes the committer do.
fn committer(said: &Receiver<Said>) {
    let mut waiting: BTreeMap<u32, Vec<Option<Permit>>> = BTreeMap::new();
    let mut turn = 0;
    while let Ok((range, permit)) = said.recv() {
        waiting.entry(range).or_default().push(permit);
        while let Some(chunks) = waiting.get_mut(&turn) {
            let mut ended = false;
            for permit in chunks.drain(..) {
                match permit {
                    // Some lose their bytes first and their place later.
                    Some(mut permit) if happens(2) => {
                        permit.empty();
                        dawdle(2);
                    }
                    Some(permit) => drop(permit),
                    None => ended = true,
                }
            }
            if !ended {
                break;
            }
            waiting.remove(&turn);
            turn += 1;
        }
    }
}

fn scenario(closes: bool) {
    let budget = Budget::new(MemoryBand { high_water_bytes: HIGH, low_water_bytes: HIGH / 2 }, MAX_CHUNKS, Clock::manual());
    let (said, heard) = channel();
    let (next, ranges) = (Arc::new(AtomicU32::new(0)), 2 + pick(3));
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let (budget, next, said) = (budget.clone(), next.clone(), said.clone());
            thread::spawn(move || lane(&budget, &next, ranges, &said))
        })
        .collect();
    drop(said);
    let ends = thread::spawn(move || committer(&heard));
    let outside = budget.clone();
    let holds = thread::spawn(move || {
        for _ in 0..pick(3) {
            let hold = Hold::ALL[pick(5) as usize];
            outside.hold(hold, true);
            dawdle(5);
            outside.hold(hold, false);
            dawdle(5);
        }
        if closes {
            outside.close();
        }
    });
    let outcomes: Vec<_> = lanes.into_iter().map(|lane| lane.join().unwrap()).collect();
    assert!(closes || outcomes.iter().all(Result::is_ok));
    holds.join().unwrap();
    ends.join().unwrap();
    let status = budget.status();
    assert_eq!((status.bytes, status.chunks), (0, 0), "given back");
    let reserved = BudgetStatus { peak_bytes: status.peak_bytes, holds: status.holds.clone(), ..BudgetStatus::default() };
    assert_eq!(status, reserved);
}

#[test]
fn permits_never_run_out_for_good() {
    check(4000, || scenario(false));
}

#[test]
fn who_waits_for_a_permit_is_told_of_the_end() {
    check(4000, || scenario(true));
}
