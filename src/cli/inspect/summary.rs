//! A journal at a glance.

use super::super::args::ListFormat;
use super::super::exit::Failure;
use super::super::values::{show_count, show_duration, show_size};
use super::{seconds, show_time};
use crate::cli::out::outln;
use crate::journal::sqlite::query::{ErrorCount, Reader, RunRow, SlowChunk};
use serde_json::json;

/// So many slow chunks and errors are shown.
const SHOWN: u32 = 5;

/// Prints runs, states, sums, slowest chunks, errors.
pub fn show(reader: &Reader, format: ListFormat) -> Result<(), Failure> {
    let runs = reader.runs()?;
    let states = reader.states()?;
    let ranges = reader.ranges()?;
    let slowest = reader.slowest(SHOWN)?;
    let errors = reader.errors(SHOWN)?;
    if format != ListFormat::Table {
        let value = json!({
            "runs": runs, "states": states, "ranges": ranges, "slowest": slowest, "errors": errors,
        });
        outln!("{}", if format == ListFormat::Json { format!("{value:#}") } else { value.to_string() });
        return Ok(());
    }
    for run in &runs {
        show_run(run, reader)?;
    }
    let planned = runs.last().and_then(|run| run.plan["ranges"].as_i64()).map_or(String::new(), |planned| format!(" of {planned}"));
    outln!("ranges   {}{planned} done, {} rows by the origin's count", ranges.done, show_count(ranges.rows.unsigned_abs()));
    for state in &states {
        outln!(
            "state    {:<14} {:>8} chunks, {:>12} rows, {} read",
            state.state,
            show_count(state.chunks.unsigned_abs()),
            show_count(state.rows.unsigned_abs()),
            show_size(state.bytes.unsigned_abs())
        );
    }
    for SlowChunk { chunk, state, micros } in &slowest {
        outln!("slow     chunk {chunk} took {} to `{state}`", show_duration(seconds(*micros)));
    }
    for ErrorCount { error, count } in &errors {
        outln!("error    {count} × {error}");
    }
    Ok(())
}

fn show_run(run: &RunRow, reader: &Reader) -> Result<(), Failure> {
    outln!("run {}    {} -> {}: {} ({})", run.run, source(run), run.target, run.status, run.phase);
    let duration = run.ended_at.map(|end| show_duration(seconds(end - run.started_at)));
    outln!("  from   {}{}", show_time(run.started_at), duration.map_or(", not ended".into(), |duration| format!(", for {duration}")));
    if let (Some(id), lsn) = (run.snapshot["id"].as_str(), run.snapshot["lsn"].as_str()) {
        outln!("  under  snapshot {id} at {}", lsn.unwrap_or("an unknown position"));
    }
    if let Some(rows) = run.rows {
        outln!("  rows   {rows}");
    }
    for step in reader.run_transitions(run.run)?.iter().rev().take(SHOWN as usize).rev() {
        let reason = step.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        outln!("  {}  {} -> {}{reason}", show_time(step.at), step.from, step.to);
    }
    if let Some(error) = &run.error {
        outln!("  error  {error}");
    }
    Ok(())
}

fn source(run: &RunRow) -> String {
    let identity = &run.settings["identity"];
    let what = ["table", "query", "files", "dead_letter"].iter().find_map(|key| identity[*key].as_str()).unwrap_or("?");
    let server = run.source["server"].as_str().unwrap_or("");
    if server.is_empty() { what.to_owned() } else { format!("{what} of {server}") }
}
