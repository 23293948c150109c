//! A lane's thread: reads, and puts up with a source in trouble.

use super::intake::Intake;
use super::patience::{Patience, Waiting};
use super::shared::{Back, Shared};
use super::worker::panic_message;
use crate::budget::Hold;
use crate::chunk::Payload;
use crate::source::{Lane, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Reads until the lane has no more, the run stops, or the source's trouble lasts.
pub(super) fn run<P: Payload>(mut lane: Box<dyn Lane<P>>, patience: Patience, mut intake: Intake<P>) {
    let shared = intake.shared.clone();
    let read = catch_unwind(AssertUnwindSafe(|| read(lane.as_mut(), &shared, patience, &mut intake)));
    if let Err(panic) = read {
        let _ = shared.back.send(Back::Panicked(panic_message(panic.as_ref())));
    }
    let _ = shared.back.send(Back::LaneEnded);
}

fn read<P: Payload>(lane: &mut dyn Lane<P>, shared: &Shared<P>, patience: Patience, intake: &mut Intake<P>) {
    let mut waiting = Waiting::new(patience, &shared.clock);
    loop {
        match lane.read(&shared.budget, &shared.stop) {
            Ok(read) => {
                if waiting.has_waited() {
                    shared.trouble(Hold::Source, None);
                    waiting = Waiting::new(patience, &shared.clock);
                }
                match read {
                    Read::Chunk(incoming) => intake.admit(incoming),
                    Read::RangeDone(done) => intake.range_done(done),
                    Read::End | Read::Stopped => return,
                }
            }
            Err(trouble) if trouble.is_passing() => {
                shared.trouble(Hold::Source, Some(&trouble));
                if !waiting.wait(&shared.stop) {
                    if !shared.stop.is_draining() {
                        let _ = shared.back.send(Back::Failed(trouble));
                    }
                    shared.trouble(Hold::Source, None);
                    return;
                }
                // Its own next read must not wait for the hold that it set.
                shared.budget.hold(Hold::Source, false);
            }
            Err(trouble) => {
                let _ = shared.back.send(Back::Failed(trouble));
                return;
            }
        }
    }
}
