//! What an export did, for people and for programs.

use super::super::inspect::show_time;
use super::super::job::{self, target::Target};
use super::super::values::{show_count, show_duration};
use crate::engine::RunReport;
use crate::journal::sqlite::recover::Earlier;
use crate::source::postgres::{Export, ReadMode, Session};
use serde_json::{Value, json};

/// The report as JSON.
pub fn describe(report: &RunReport, export: &Export, target: &Target, session: &Session) -> Value {
    json!({
        "table": export.shown(),
        "target": target.to_string(),
        "files": target.files(export),
        "read": export.mode,
        "snapshot": {
            "id": session.snapshot().id, "lsn": session.snapshot().lsn, "taken_at": session.snapshot().taken_at,
            "age_seconds": session.since().elapsed().as_secs_f64(),
        },
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
    let mode = match &export.mode {
        ReadMode::Pages => format!("{} page ranges", show_count(export.ranges.len() as u64)),
        ReadMode::OneLane { reason } => format!("one statement ({reason})"),
    };
    let snapshot = session.snapshot();
    let lsn = snapshot.lsn.as_deref().unwrap_or("unknown");
    let held = show_duration(session.since().elapsed().as_secs_f64());
    let source = format!("{mode}, snapshot {} at {lsn}, held for {held}", snapshot.id);
    job::report::print(report, &export.shown(), target, &source);
}
