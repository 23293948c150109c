//! Invocations and timers: what a step starts, stops, arms and cancels.

use super::{Cell, Life, Progress, Running};
use crate::chunk::Payload;
use crate::engine::registry::Role;
use crate::engine::shared::{Back, Shared};
use crate::fsm::{InvocationId, Jitter, TimerId};
use crate::processor::CancelToken;
use crate::sync::thread;
use std::sync::Arc;
use std::time::Duration;

impl<P: Payload> Life<P> {
    pub(super) fn start_invocation(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, invocation: InvocationId) {
        let cancel = CancelToken::default();
        if let Role::Watcher(watcher) = shared.registry.role(invocation) {
            self.watching.push((invocation, cancel.clone()));
            let (watcher, cell, back) = (watcher.clone(), cell.clone(), shared.back.clone());
            thread::spawn(move || {
                let result = crate::engine::worker::contained(|| watcher.watch(&cancel));
                let _ = back.send(Back::Watched { cell, invocation, cancel, result });
            });
        } else {
            self.epoch += 1;
            self.running = Some(Running { invocation, cancel, timers: Vec::new(), progress: Progress::New });
        }
    }

    /// Gives the worker that is left behind, if one is.
    pub(super) fn stop_invocation(&mut self, invocation: InvocationId) -> Option<u32> {
        self.watching.extract_if(.., |(watched, _)| *watched == invocation).for_each(|(_, cancel)| cancel.cancel());
        let stopped = self.running.take_if(|running| running.invocation == invocation)?;
        stopped.cancel.cancel();
        let Progress::Begun { worker } = stopped.progress else { return None };
        self.abandoned += 1;
        Some(worker)
    }

    pub(super) fn arm(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, timer: TimerId, delay: Duration) {
        let state = shared.machine.timer(timer).state;
        match &mut self.running {
            Some(running) if shared.machine.invocation(running.invocation).state == state => {
                // A sink's write is never left behind: whether it happened would be unknown. Its I/O has its own patience.
                if matches!(shared.registry.role(running.invocation), Role::Parallel(_)) {
                    running.timers.push((timer, delay));
                }
            }
            _ => self.armed.push((timer, shared.arm(cell, timer, delay))),
        }
    }

    pub(super) fn disarm(&mut self, shared: &Shared<P>, timer: TimerId) {
        if let Some(armed) = self.armed.iter().position(|(armed, _)| *armed == timer) {
            shared.timers.cancel(self.armed.swap_remove(armed).1);
        }
        if let Some(running) = &mut self.running {
            running.timers.retain(|(pending, _)| *pending != timer);
        }
    }

    /// A delay as it is to be waited. Full jitter is drawn from what names the wait, so that a replay waits as long.
    pub(super) fn delay(&self, cell: &Cell<P>, shared: &Shared<P>, timer: TimerId, delay_ms: f64, jitter: Jitter) -> Duration {
        let share = match jitter {
            Jitter::None => 1.0,
            Jitter::Full => {
                let name = format!("{}\n{}\n{}", cell.id, shared.machine.timer(timer).key, self.seq);
                #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
                let drawn = (xxhash_rust::xxh3::xxh3_64(name.as_bytes()) >> 11) as f64;
                drawn / 9_007_199_254_740_992.0
            }
        };
        Duration::try_from_secs_f64(delay_ms * share / 1000.0).unwrap_or(Duration::MAX)
    }
}
