//! `sluicegate inspect`: what a journal tells.

mod audit;
mod summary;
pub(in crate::cli) mod table;

use super::args::{InspectArgs, InspectCommand, ListFormat, TransitionArgs};
use super::exit::{Exit, Failure};
use super::values::{show_count, show_duration};
use crate::chunk::ChunkId;
use crate::cli::out::outln;
use crate::fsm::{CompileOptions, Definition, compile};
use crate::journal::sqlite::query::{ChunkRow, Reader, TransitionFilter, TransitionRow};
use crate::journal::{ChunkRows, SPLIT_STATE};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use table::{Cell, Table};

/// How often `--follow` looks for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let reader = Reader::open(&args.journal)?;
    match &args.command {
        None => {
            summary::show(&reader, args.format)?;
            if args.follow { follow(args, &reader, TransitionFilter::default()) } else { Ok(Exit::Complete) }
        }
        Some(InspectCommand::Chunks { state }) => {
            let rows = reader.chunks(state.as_deref())?;
            if let Some(state) = state.as_deref().filter(|_| rows.is_empty()) {
                known_state(&reader, state)?;
            }
            chunk_table().show(args.format, &rows, chunk_cells)
        }
        Some(InspectCommand::Chunk { id }) => chunk(args, &reader, *id),
        Some(InspectCommand::Transitions(filter)) => transitions(args, &reader, filter),
        Some(InspectCommand::Audit) => audit::show(&reader, args.format),
    }
}

/// That no chunk is in a state says nothing if there is no such state.
fn known_state(reader: &Reader, state: &str) -> Result<(), Failure> {
    let runs = reader.runs()?;
    let definition = runs.last().and_then(|run| serde_json::from_str::<Definition>(&run.definition).ok());
    let Some(machine) = definition.and_then(|definition| compile(definition, &CompileOptions::default()).ok()) else { return Ok(()) };
    let names: Vec<&str> = machine.states().map(|id| machine.state_name(id)).chain([SPLIT_STATE]).collect();
    if names.contains(&state) {
        return Ok(());
    }
    Err(Failure::configuration(format!("the definition in the journal has no state `{state}`; it has {}", names.join(", "))))
}

fn chunk_table() -> Table {
    Table::new(&["chunk", "state", "attempt", "rows", "bytes", "written", "dead", "output at", "digest", "origin"])
}

fn chunk_cells(row: &ChunkRow) -> Vec<Cell> {
    let ended = row.rows_by_end;
    vec![
        Cell::text(&row.chunk),
        Cell::text(&row.state),
        Cell::number(Some(row.attempt)),
        Cell::number(Some(row.rows)),
        Cell::number(Some(row.bytes)),
        Cell::number(ended.map(|rows| rows.written.cast_signed())),
        Cell::number(ended.map(|rows| rows.dead_lettered.cast_signed())),
        Cell::number(row.output_at),
        Cell::text(row.digest.as_deref().unwrap_or("")),
        Cell::text(&row.origin),
    ]
}

fn transition_table() -> Table {
    Table::new(&["time", "chunk", "seq", "event", "from", "to", "in state", "attempt", "worker", "error"])
}

fn transition_cells(row: &TransitionRow) -> Vec<Cell> {
    vec![
        Cell::text(&show_time(row.at)),
        Cell::text(&row.chunk),
        Cell::number(Some(row.seq)),
        Cell::text(&readable_event(&row.event)),
        Cell::text(row.from.as_deref().unwrap_or("")),
        Cell::text(&row.to),
        Cell::right(show_duration(seconds(row.in_state))),
        Cell::number(Some(row.attempt)),
        Cell::text(&if row.worker == 0 { String::new() } else { row.worker.to_string() }),
        Cell::text(row.error.as_deref().unwrap_or("")),
    ]
}

/// One chunk's whole walk.
fn chunk(args: &InspectArgs, reader: &Reader, id: ChunkId) -> Result<Exit, Failure> {
    let Some(row) = reader.chunk(id)? else {
        return Err(Failure::configuration(format!("the journal has no chunk {id}; `inspect … chunks` lists them")));
    };
    let walk = reader.walk(id)?;
    if args.format != ListFormat::Table {
        let value = serde_json::json!({ "chunk": row, "walk": walk });
        outln!("{}", if args.format == ListFormat::Json { format!("{value:#}") } else { value.to_string() });
        return Ok(Exit::Complete);
    }
    outln!("chunk {} from {}, {} rows, now in `{}`", row.chunk, row.origin, show_count(row.rows.unsigned_abs()), row.state);
    if let Some(ChunkRows { written, filtered, dead_lettered, cancelled }) = row.rows_by_end {
        outln!("  rows: {written} written, {filtered} filtered, {dead_lettered} dead-lettered, {cancelled} cancelled");
    }
    if let Some([first, second]) = id.halves().filter(|_| row.is_split()) {
        outln!("  goes on as {first} and {second}");
    }
    if let (Some(at), Some(bytes), Some(digest)) = (row.output_at, row.output_bytes, &row.digest) {
        outln!("  output: bytes {at} to {}, digest {digest}", at + bytes);
    }
    transition_table().show(args.format, &walk, transition_cells)
}

fn transitions(args: &InspectArgs, reader: &Reader, wanted: &TransitionArgs) -> Result<Exit, Failure> {
    let filter = TransitionFilter {
        state: wanted.state.clone(),
        event: wanted.event.clone(),
        since: wanted.since.as_deref().map(moment).transpose()?,
        chunk: wanted.chunk,
        after: None,
    };
    if args.follow {
        return follow(args, reader, filter);
    }
    if let Some(state) = &filter.state {
        known_state(reader, state)?;
    }
    transition_table().show(args.format, &reader.transitions(&filter)?, transition_cells)
}

/// Prints transitions as they come, until the run has ended.
fn follow(args: &InspectArgs, reader: &Reader, mut filter: TransitionFilter) -> Result<Exit, Failure> {
    let mut table = transition_table();
    loop {
        // Asked before looking, so that nothing that came in between is missed.
        let ended = reader.runs()?.last().is_none_or(|run| run.ended_at.is_some() || !is_alive(run.pid));
        let rows = reader.transitions(&filter)?;
        filter.after = rows.last().map(|row| row.id).or(filter.after);
        table.append(args.format, &rows, transition_cells);
        if ended {
            return Ok(Exit::Complete);
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

/// Whether a process is there. One that cannot be asked about may be.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A moment as people write it: a time of day by RFC 3339, or how long ago.
fn moment(text: &str) -> Result<i64, Failure> {
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    let time = ago.or_else(|| humantime::parse_rfc3339_weak(text).ok());
    let since_epoch = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_epoch
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .ok_or_else(|| Failure::configuration(format!("--since {text}: write a time like 2026-01-31T12:00:00Z, or how long ago, like 5m")))
}

/// Microseconds since the epoch as people read them.
pub(in crate::cli) fn show_time(micros: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs());
    humantime::format_rfc3339_micros(time).to_string()
}

/// An event without the names that machines give to what happens inside.
pub(super) fn readable_event(event: &str) -> String {
    let inside = |prefix: &str, word: &str| event.strip_prefix(prefix).map(|name| format!("{word} {name}"));
    let timer = || {
        let (key, _) = event.strip_prefix("xstate.after.")?.split_once('.')?;
        Some(format!("after {key}"))
    };
    inside("xstate.done.actor.", "done:")
        .or_else(|| inside("xstate.error.actor.", "error:"))
        .or_else(|| inside("xstate.done.state.", "done:"))
        .or_else(timer)
        .unwrap_or_else(|| event.strip_prefix("xstate.").unwrap_or(event).to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^53")]
pub(in crate::cli) fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
