//! A lane's thread: reads, and puts up with a source in trouble.

use super::patience::{Patience, Waiting};
use super::shared::{Back, Shared};
use super::worker::panic_message;
use crate::budget::Hold;
use crate::chunk::Payload;
use crate::source::{Lane, Read};
use crossbeam_channel::Sender;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Reads until the lane has no more, the run stops, or the source's trouble lasts. Every lane's last word is [`Read::End`] or
/// [`Read::Stopped`].
pub(super) fn run<P: Payload>(mut lane: Box<dyn Lane<P>>, shared: &Arc<Shared<P>>, patience: Patience, intake: &Sender<Read<P>>) {
    let read = catch_unwind(AssertUnwindSafe(|| read(lane.as_mut(), shared, patience, intake)));
    if let Err(panic) = read {
        let _ = shared.back.send(Back::Panicked(panic_message(panic.as_ref())));
        let _ = intake.send(Read::Stopped);
    }
}

fn read<P: Payload>(lane: &mut dyn Lane<P>, shared: &Arc<Shared<P>>, patience: Patience, intake: &Sender<Read<P>>) {
    let mut waiting = Waiting::new(patience, &shared.clock);
    loop {
        match lane.read(&shared.budget, &shared.stop) {
            Ok(read) => {
                if waiting.has_waited() {
                    shared.trouble(Hold::Source, None);
                    waiting = Waiting::new(patience, &shared.clock);
                }
                let last = matches!(read, Read::End | Read::Stopped);
                if intake.send(read).is_err() || last {
                    return;
                }
            }
            Err(trouble) if trouble.is_passing() => {
                shared.trouble(Hold::Source, Some(&trouble));
                if !waiting.wait(&shared.stop) {
                    if !shared.stop.is_draining() {
                        let _ = shared.back.send(Back::Failed(trouble));
                    }
                    shared.trouble(Hold::Source, None);
                    let _ = intake.send(Read::Stopped);
                    return;
                }
                // Its own next read must not wait for the hold that it set.
                shared.budget.hold(Hold::Source, false);
            }
            Err(trouble) => {
                let _ = shared.back.send(Back::Failed(trouble));
                let _ = intake.send(Read::Stopped);
                return;
            }
        }
    }
}
