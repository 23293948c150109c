//! What a run did, for people and for programs.

use super::target::Target;
use crate::cli::out::outln;
use crate::cli::values::{show_count, show_duration, show_size};
use crate::engine::{Durations, Outcome, RunReport};
use serde_json::{Value, json};

/// The most memory that this process ever had, as the system counts it (Linux): a peak can fall between two measurements.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes << 10)
}

/// Prints JSON reports; on standard error where standard output carries data.
pub fn print_json(reports: &[Value], data_on_stdout: bool) {
    let text = format!("{:#}", json!(reports));
    if data_on_stdout { eprintln!("{text}") } else { outln!("{text}") }
}

/// Prints the report of a run from `source` for people, on standard error. `how` says how it was read.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn print(report: &RunReport, source: &str, target: &Target, how: &str) {
    let metrics = &report.metrics;
    let rate = metrics.rows_admitted as f64 / report.seconds.max(1e-6);
    eprintln!("{source} -> {target}: {}", outcome(report));
    if let Some(reason) = &report.stopped_because {
        eprintln!("  because  {reason}");
    }
    let (came, sign) = match report.outcome {
        // A range that was not read to its end has no count of the origin's.
        Outcome::Stopped | Outcome::Cancelled => (metrics.rows_admitted + metrics.rows_carried_over, "came in,"),
        _ => (report.rows.read, "read ="),
    };
    eprintln!(
        "  rows     {} {sign} {} written + {} filtered + {} dead-lettered + {} cancelled",
        show_count(came),
        show_count(report.rows.written),
        show_count(report.rows.filtered),
        show_count(report.rows.dead_lettered),
        show_count(report.rows.cancelled),
    );
    eprintln!(
        "  speed    {} in {} ({} rows/s), last flush included",
        show_size(metrics.bytes.written),
        show_duration(report.seconds),
        show_count(rate as u64)
    );
    eprintln!("  source   {how}");
    eprintln!(
        "  memory   {} resident at most, limit {} + 32 MiB",
        show_size(metrics.memory.peak_resident_bytes),
        show_size(metrics.memory.limit_bytes)
    );
    for state in &metrics.states {
        let Durations { count, p50, p99, .. } = state.time_in_state;
        // Nobody leaves a final state.
        let stay = if count == 0 { String::new() } else { format!(", median {} p99 {}", show_duration(p50), show_duration(p99)) };
        let (chunks, retries, errors) = (show_count(state.entered), state.retries, state.errors);
        eprintln!("  state    {:<12} {chunks:>8} chunks, {retries} retries, {errors} errors{stay}", state.state);
    }
    if report.outcome == Outcome::Stopped {
        let next = if target.is_stream() { "begins anew" } else { "goes on from here" };
        eprintln!("  next     the same command {next}");
    }
    for paused in &metrics.paused {
        eprintln!("  paused   {} for {}", paused.reason, show_duration(paused.seconds));
    }
}

fn outcome(report: &RunReport) -> &'static str {
    match report.outcome {
        Outcome::Complete => "complete",
        Outcome::CompleteWithDeadLetters => "complete, with rows in the dead letter",
        Outcome::Stopped => "stopped",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
    }
}
