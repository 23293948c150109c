//! What an export did, for people and for programs.

use super::super::exit::Failure;
use super::super::inspect::show_time;
use super::super::values::{show_count, show_duration, show_size};
use super::target::Target;
use crate::cli::out::outln;
use crate::engine::{Durations, Outcome, RunReport};
use crate::journal::sqlite::recover::Earlier;
use crate::source::postgres::{Export, ReadMode, Session};
use serde_json::{Value, json};

/// The most memory that this process ever had, as the system counts it (Linux): a peak can fall between two measurements.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes << 10)
}

/// Of which moment the rows are.
pub fn moment(export: &Export, session: &Session) -> String {
    if export.is_by_key() {
        return "each at a moment of its own".into();
    }
    let snapshot = session.snapshot();
    let of = if snapshot.frozen { "a standby that stands still".to_owned() } else { format!("snapshot {}", snapshot.id) };
    format!("{of} at {}", snapshot.lsn.as_deref().unwrap_or("an unknown position"))
}

/// The report as JSON.
pub fn describe(report: &RunReport, export: &Export, target: &Target, session: &Session) -> Value {
    json!({
        "table": export.shown(),
        "target": target.to_string(),
        "files": target.files(export),
        "read": export.mode,
        "snapshot": (!export.is_by_key()).then(|| json!({
            "id": session.snapshot().id, "lsn": session.snapshot().lsn, "taken_at": session.snapshot().taken_at,
            "frozen": session.snapshot().frozen, "age_seconds": session.since().elapsed().as_secs_f64(),
        })),
        "run": report,
    })
}

/// What there is to say where nothing was left to do, as JSON.
pub fn describe_complete(earlier: &Earlier, export: &Export, target: &Target) -> Value {
    json!({
        "table": export.shown(), "target": target.to_string(), "files": target.files(export),
        "already_complete": { "at_micros": earlier.run.ended_at, "rows": earlier.carried().rows },
    })
}

/// A table whose export failed, as JSON, with what was done of it.
pub fn describe_failure(failure: &Failure, export: &Export, target: &Target) -> Value {
    json!({
        "table": export.shown(), "target": target.to_string(), "files": target.files(export),
        "failure": failure.describe(), "run": failure.run(),
    })
}

/// The same for people.
pub fn print_complete(earlier: &Earlier, export: &Export, target: &Target) {
    let rows = show_count(earlier.carried().rows.written);
    let at = earlier.run.ended_at.map_or(String::new(), |at| format!(", {}", show_time(at)));
    let dead = earlier.carried().rows.dead_lettered;
    let dead = if dead > 0 { format!(", {} in the dead letter", show_count(dead)) } else { String::new() };
    eprintln!("{} -> {target}: already complete ({rows} rows{dead}{at}); --fresh --force exports it anew", export.shown());
}

/// Prints JSON reports; on standard error where standard output carries data.
pub fn print_json(reports: &[Value], data_on_stdout: bool) {
    let text = format!("{:#}", json!(reports));
    if data_on_stdout { eprintln!("{text}") } else { outln!("{text}") }
}

/// Prints the report for people, on standard error.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn print(report: &RunReport, export: &Export, target: &Target, session: &Session) {
    let metrics = &report.metrics;
    let rate = metrics.rows_admitted as f64 / report.seconds.max(1e-6);
    eprintln!("{} -> {target}: {}", export.shown(), outcome(report));
    if let Some(reason) = &report.stopped_because {
        eprintln!("  because  {reason}");
    }
    let (came, sign) = match report.outcome {
        // A range that was not read to its end has no count of the server's.
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
    eprintln!("  source   {}", source(export, session));
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

/// How it was read, and of which moment the rows are.
fn source(export: &Export, session: &Session) -> String {
    let ranges = show_count(export.ranges.len() as u64);
    let mode = match &export.mode {
        ReadMode::Keyset { key } => format!("{ranges} ranges of the key {}", show_key(key)),
        ReadMode::Pages => format!("{ranges} page ranges"),
        ReadMode::OneLane { reason } => format!("one statement ({reason})"),
    };
    let holds = !export.is_by_key() && !session.snapshot().frozen;
    let held = holds.then(|| format!(", held for {}", show_duration(session.since().elapsed().as_secs_f64())));
    format!("{mode}, {}{}", moment(export, session), held.unwrap_or_default())
}

/// A key's columns: `id`, `(region, id)`.
pub fn show_key(columns: &[String]) -> String {
    if let [column] = columns { column.clone() } else { format!("({})", columns.join(", ")) }
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
