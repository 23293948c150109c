//! Bytes in flight.

use super::*;
use sluicegate::source::items;
use std::sync::atomic::{AtomicBool, Ordering};

/// Chunks of exactly so many bytes.
fn sized(bytes: usize) -> impl Iterator<Item = Rows> + Send {
    (0..).map(move |chunk| {
        let mut rows = Vec::with_capacity(bytes / 4);
        rows.push(chunk);
        rows
    })
}

/// Behind a stalled sink, what was read is what fits: an equality, not an inequality.
#[test]
fn behind_a_stalled_sink_exactly_the_limit_is_read() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let go = Arc::new(AtomicBool::new(false));
    let may_go = go.clone();
    let stalled = move |_: &Delivery<Rows>| {
        while !may_go.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    };
    let limit = 40_000;
    let run = handlers(Orchestrator::new(lifecycle("chunk"))).sink("sink", seen.unless(stalled)).dead_letter("deadLetter", dead.sink());
    let running = run.source(items(sized(1000).take(200))).memory_limit(limit).start().unwrap();
    let handle = running.handle();
    let began = Instant::now();
    let mut read = 0;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(200) {
        let now = handle.metrics().rows_admitted;
        if now != read {
            (read, since) = (now, Instant::now());
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(read, 40, "forty chunks of a thousand bytes");
    let metrics = handle.metrics();
    assert_eq!((metrics.memory.permits_bytes, handle.status().state.as_str()), (40_000, "paused"));
    assert_eq!(handle.status().reason.as_deref(), Some("memory"));
    go.store(true, Ordering::SeqCst);
    let report = running.wait().unwrap();
    assert_eq!((report.rows.written, report.metrics.memory.peak_permits_bytes), (200, 40_000));
}

#[test]
fn chunks_larger_than_the_limit_go_one_at_a_time() {
    let (seen, dead) = (Seen::default(), Seen::default());
    let report = standard(&seen, &dead).source(items(sized(100_000).take(20))).memory_limit(1000).run().unwrap();
    assert_eq!(report.rows.written, 20);
    assert_eq!(report.metrics.memory.peak_permits_bytes, 100_000);
}
