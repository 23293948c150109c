//! Models of parts that nobody else sees. `tests/models` runs them, thousands of schedules each; they panic when something is wrong.

use super::order::{Length, Order};
use super::timers::Timers;
use crate::chunk::ChunkId;
use crate::clock::Moment;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, thread, unbounded};
use shuttle::rand::Rng;
use std::collections::BTreeSet;
use std::sync::Arc;

fn pick(below: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// The time, and whether the loop was woken: what a wait with a time limit goes by.
struct Bed {
    state: Mutex<(Moment, bool)>,
    changed: Condvar,
}

impl Bed {
    fn change(&self, change: impl FnOnce(&mut (Moment, bool))) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Sleeps until then, or until somebody wakes the sleeper.
    fn sleep(&self, until: Moment) {
        let mut state = self.state.lock();
        while state.0 < until && !state.1 {
            self.changed.wait(&mut state);
        }
        state.1 = false;
    }

    fn now(&self) -> Moment {
        self.state.lock().0
    }
}

/// Three threads arm and cancel timers, the main loop sleeps until it has to look, and time goes on. A timer that nobody looks at because
/// the wake was lost does not fire however late it gets, which is a deadlock; none fires before its time, twice, or once it is cancelled.
pub fn timers() {
    let timers = Arc::new(Timers::new());
    let bed = Arc::new(Bed { state: Mutex::new((Moment(0), false)), changed: Condvar::new() });
    let arm = |who: u32| {
        let (timers, bed) = (timers.clone(), bed.clone());
        move || {
            let mut alive = Vec::new();
            for number in 0..2 {
                // Those that are cancelled are due when nobody arms any more.
                let cancels = pick(3) == 0;
                let due = if cancels { Moment(500) } else { Moment(bed.now().0 + u64::from(pick(6))) };
                let (key, late) = timers.arm(due, (who, number));
                if late {
                    bed.change(|state| state.1 = true);
                }
                if cancels { timers.cancel(key) } else { alive.push((who, number)) }
            }
            alive
        }
    };
    let threads: Vec<_> = (0..3).map(|who| thread::spawn(arm(who))).collect();
    let passing = bed.clone();
    let time = thread::spawn(move || (0..20).for_each(|_| passing.change(|state| state.0.0 += 1)));
    let (fires, slept, fired) = (timers.clone(), bed.clone(), Arc::new((Mutex::new(Vec::new()), Condvar::new())));
    let (told, over) = (fired.clone(), Arc::new(AtomicBool::new(false)));
    let is_over = over.clone();
    let main = thread::spawn(move || {
        while !is_over.load(Ordering::SeqCst) {
            // Later than everything: only a timer or a wake makes it look.
            slept.sleep(fires.next_look(Moment(u64::MAX)));
            while let Some((key, item)) = fires.pop_due(slept.now()) {
                assert!(key.due() <= slept.now(), "before its time");
                told.0.lock().push(item);
                told.1.notify_all();
            }
        }
    });
    let alive: BTreeSet<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    time.join().expect("no panic");
    bed.change(|state| state.0 = Moment(1000));
    let mut list = fired.0.lock();
    while !alive.iter().all(|item| list.contains(item)) {
        fired.1.wait(&mut list);
    }
    drop(list);
    over.store(true, Ordering::SeqCst);
    bed.change(|state| state.1 = true);
    main.join().expect("no panic");
    let mut fired: Vec<_> = fired.0.lock().clone();
    fired.sort_unstable();
    assert!(fired.iter().eq(&alive), "fired {fired:?}, armed {alive:?}");
}

/// What the committer is told.
enum Told {
    Offered(ChunkId),
    Passed(ChunkId),
    Range(u32, Length),
    Left(ChunkId),
}

/// Lanes and workers tell the committer in any order of chunks that are ready, have ended elsewhere or are left behind, and of how long
/// ranges are; it gives them out as the committer does. Every chunk leaves once and in order, or is handed back as unreachable.
pub fn order() {
    let lengths: Vec<u32> = (0..3).map(|_| pick(3)).collect();
    let cut_off = (pick(3) == 0).then(|| pick(3));
    let (sender, told) = unbounded();
    let (work, queue) = unbounded();
    let mut threads = Vec::new();
    for _ in 0..2 {
        let (sender, queue) = (sender.clone(), queue.clone());
        threads.push(thread::spawn(move || {
            let mut offered = Vec::new();
            while let Ok(id) = queue.recv() {
                let message = match pick(6) {
                    0 => Told::Passed(id),
                    1 if id.range == 1 => Told::Left(id),
                    _ => {
                        offered.push(id);
                        Told::Offered(id)
                    }
                };
                sender.send(message).expect("the committer listens");
            }
            offered
        }));
    }
    drop(queue);
    for (range, length) in (0..).zip(lengths) {
        let (sender, work) = (sender.clone(), work.clone());
        threads.push(thread::spawn(move || {
            for index in 0..length {
                work.send(ChunkId::new(range, index)).expect("workers listen");
            }
            let length = if cut_off == Some(range) { Length::CutOff(length) } else { Length::Complete(length) };
            sender.send(Told::Range(range, length)).expect("the committer listens");
            Vec::new()
        }));
    }
    drop((sender, work));
    let (mut order, mut left, mut refused) = (Order::new(true), Vec::new(), BTreeSet::new());
    while let Ok(message) = told.recv() {
        match message {
            Told::Offered(id) => order.offer(0, id, id),
            Told::Passed(id) => order.pass(0, id),
            Told::Range(range, length) => order.range(0, range, length),
            Told::Left(id) => order.block(0, id),
        }
        while let Some(id) = order.take() {
            // A sink may refuse it once; then it keeps its turn and comes again.
            if pick(5) == 0 && refused.insert(id) {
                order.offer(0, id, id);
            } else {
                left.push(id);
                order.pass(0, id);
            }
        }
    }
    order.close();
    let unreachable = order.take_unreachable();
    assert!(left.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice: {left:?}");
    let mut all: Vec<ChunkId> = left.iter().chain(&unreachable).copied().collect();
    all.sort_unstable();
    let mut offered: Vec<ChunkId> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    offered.sort_unstable();
    assert_eq!(all, offered, "lost or doubled; {unreachable:?} cannot be reached");
    assert!(unreachable.first() > left.last() || left.is_empty() || unreachable.is_empty(), "{left:?} overtook {unreachable:?}");
}
