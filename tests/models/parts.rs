//! Parts of the engine that only it sees: their models are in `src/engine/models.rs`.

use crate::check;
use sluicegate::engine::models;

#[test]
fn timers_fire_once_and_in_time() {
    check(4000, models::timers);
}

#[test]
fn chunks_leave_in_order_or_are_handed_back() {
    check(4000, models::order);
}
