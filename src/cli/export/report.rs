//! What an export did, for people and for programs.

use super::super::exit::Failure;
use super::super::inspect::show_time;
use super::super::job::{self, target::Target};
use super::super::values::{show_count, show_duration};
use crate::engine::RunReport;
use crate::journal::sqlite::recover::Earlier;
use crate::source::postgres::{Export, ReadMode, Session};
use serde_json::{Value, json};

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

/// Prints the report for people, on standard error.
pub fn print(report: &RunReport, export: &Export, target: &Target, session: &Session) {
    job::report::print(report, &export.shown(), target, &source(export, session));
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
