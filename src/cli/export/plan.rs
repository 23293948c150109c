//! `--plan`: what an export would do, and what is at its target already. Reads one range, writes nothing.

use super::super::args::Format;
use super::super::exit::{Exit, Failure};
use super::super::inspect::show_time;
use super::super::job::resume::{self as common, Begin};
use super::super::job::target::Target;
use super::super::values::{show_count, show_size};
use super::Job;
use super::report::{moment, show_key};
use super::resume;
use crate::cli::out::outln;
use crate::source::postgres::{CopySource, Export, ReadMode, Sample, Session, Transcoder};
use crate::trouble::TroubleKind;
use serde_json::{Value, json};
use std::sync::Arc;

/// Ranges that are shown one by one.
const SHOWN_RANGES: usize = 3;

/// What is known of one table or query.
struct Plan {
    export: Arc<Export>,
    at_target: AtTarget,
    sample: Sample,
}

/// What earlier runs have left.
struct AtTarget {
    /// One word for programs.
    status: &'static str,
    /// The same for people.
    shown: String,
    ranges_done: Option<u64>,
    rows_done: Option<u64>,
}

/// Plans all exports and shows what came out.
pub fn show(job: &Job<'_>, session: &mut Session, exports: Vec<Export>, targets: &[Target]) -> Result<Exit, Failure> {
    let mut plans = Vec::new();
    for (mut export, target) in exports.into_iter().zip(targets) {
        let at_target = at_target(job, session, &mut export, target);
        export.cut_by_key(session)?;
        let export = Arc::new(export);
        let source = CopySource::new(session, export.clone(), job.settings.limits, 1);
        let sample = source.sample(&Transcoder::new(&source, session.server(), job.compression(target), 1))?;
        let plan = Plan { export, at_target, sample };
        match job.args.report {
            Format::Json => plans.push(plan.to_json(job, session, target)),
            Format::Text => plan.print(job, session, target),
        }
    }
    if job.args.report == Format::Json {
        outln!("{:#}", json!(plans));
    }
    Ok(Exit::Complete)
}

/// What is at the target, as the journal says; the output itself is not read again.
fn at_target(job: &Job<'_>, session: &Session, export: &mut Export, target: &Target) -> AtTarget {
    let nothing_done = |status, shown: String| AtTarget { status, shown, ranges_done: None, rows_done: None };
    if let Err(failure) = job.outputs(export, target).claim() {
        let status = if failure.kind() == TroubleKind::Busy { "busy" } else { "unusable" };
        return nothing_done(status, failure.to_string());
    }
    match resume::look(job, session, export, target) {
        Err(failure) => nothing_done("unusable", failure.to_string()),
        Ok(Begin::Complete(earlier)) => {
            let rows = earlier.carried().rows.written;
            let at = earlier.run.ended_at.map_or(String::new(), |at| format!(", {}", show_time(at)));
            let shown = format!("complete ({} rows{at})", show_count(rows));
            AtTarget { status: "complete", shown, ranges_done: Some(export.ranges.len() as u64), rows_done: Some(rows) }
        }
        Ok(Begin::GoOn(earlier)) => AtTarget {
            status: "begun",
            shown: common::done(&earlier, export.ranges.len()),
            ranges_done: Some(earlier.finished.len() as u64),
            rows_done: Some(earlier.carried().rows.written),
        },
        Ok(Begin::Anew(reason)) => match (reason, job.outputs(export, target).refuse_existing()) {
            (_, Err(failure)) if !job.args.force => nothing_done("exists", failure.to_string()),
            (Some(reason), _) => nothing_done("begun", format!("begun, and to be started over, because {reason}")),
            _ => nothing_done("nothing", "nothing".into()),
        },
    }
}

/// `1 row`, `2 rows`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", show_count(count)) }
}

impl Plan {
    /// Rows to be expected: as the server's statistics have it, else by the sample.
    fn rows(&self) -> Option<u64> {
        self.export.estimated_rows.or_else(|| self.sample.all_rows())
    }

    fn output_bytes(&self) -> Option<u64> {
        self.sample.bytes_of(self.rows()?)
    }

    fn connections(&self, job: &Job<'_>) -> usize {
        job.settings.connections.min(self.export.ranges.len()).max(1)
    }

    /// Whether and how a run that is cut off can be gone on with.
    fn resumable(&self, job: &Job<'_>, session: &Session, target: &Target) -> &'static str {
        match &self.export.mode {
            _ if target.is_stream() => "no: what goes into a stream cannot be taken back",
            _ if job.args.no_journal => "no: there is no journal",
            ReadMode::OneLane { .. } => "no: what is read by one statement starts over",
            ReadMode::Pages if session.snapshot().frozen => "yes, for ever, on every clone that stands at the same place of the log",
            ReadMode::Pages => "yes, once the table is proved unchanged",
            ReadMode::Keyset { .. } => "yes, also on a table that is being written: half-written ranges are read again",
        }
    }

    fn to_json(&self, job: &Job<'_>, session: &Session, target: &Target) -> Value {
        let Plan { export, at_target, sample } = self;
        let shown: Vec<&str> = export.ranges.iter().take(SHOWN_RANGES).map(|range| &*range.origin).collect();
        json!({
            "plan": true, "table": export.shown(), "target": target.to_string(), "files": target.files(export), "read": export.mode,
            "connections": self.connections(job), "columns": export.columns, "ranges": export.ranges.len(), "first_ranges": shown,
            "expected_rows": self.rows(), "table_bytes": export.bytes, "expected_output_bytes": self.output_bytes(),
            "sample": { "chunks": sample.chunks, "rows": sample.rows, "output_bytes": sample.output_bytes },
            "snapshot": (!export.is_by_key()).then(|| session.snapshot()),
            "resumable": self.resumable(job, session, target),
            "at_target": {
                "status": at_target.status, "shown": at_target.shown, "ranges_done": at_target.ranges_done, "rows_done": at_target.rows_done,
            },
        })
    }

    fn print(&self, job: &Job<'_>, session: &Session, target: &Target) {
        let Plan { export, at_target, sample } = self;
        let about =
            |number: Option<u64>, shown: fn(u64) -> String| number.map_or("unknown".into(), |number| format!("about {}", shown(number)));
        let ranges = |what: &str| counted(export.ranges.len() as u64, what);
        let connections = match self.connections(job) {
            1 => "one connection".to_owned(),
            several => format!("{several} connections"),
        };
        let mode = match &export.mode {
            ReadMode::Pages => ranges("page range"),
            ReadMode::Keyset { key } => format!("{} of the key {}", ranges("range"), show_key(key)),
            ReadMode::OneLane { reason } => format!("one statement, because {reason}"),
        };
        let moment = match &export.mode {
            ReadMode::Keyset { .. } => "each range at a moment of its own".to_owned(),
            _ => format!("one, of {}", moment(export, session)),
        };
        let on = if matches!(export.mode, ReadMode::OneLane { .. }) { String::new() } else { format!(", on {connections}") };
        outln!("{} -> {target}", export.shown());
        outln!("  read by    {mode}{on}");
        if export.ranges.len() > 1 {
            export.ranges.iter().take(SHOWN_RANGES).for_each(|range| outln!("             {}", range.origin));
            let more = export.ranges.len().saturating_sub(SHOWN_RANGES) as u64;
            if more > 0 {
                outln!("             and {} more", show_count(more));
            }
        }
        outln!("  moment     {moment}");
        outln!("  columns    {}", export.columns.join(", "));
        outln!("  rows       {}", about(self.rows(), show_count));
        outln!("  table      {}", show_size(export.bytes));
        let measured = format!("an estimate: {} became {}", counted(sample.rows, "row"), show_size(sample.output_bytes));
        outln!("  output     {}, {measured}", about(self.output_bytes(), show_size));
        outln!("  resumable  {}", self.resumable(job, session, target));
        outln!("  at target  {}", at_target.shown);
        outln!("Nothing was written.");
    }
}
