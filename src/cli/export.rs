//! `sluicegate export`: a Postgres table or query to JSON lines.

mod report;
mod target;

use super::args::{ExportArgs, Format, RowSecurityArg};
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::signals::Signals;
use super::values::{show_count, show_size};
use crate::batch::Batch;
use crate::cli::out::outln;
use crate::clock::Clock;
use crate::definitions;
use crate::engine::{Patience, RunError, RunReport, Running};
use crate::export::{MOST_CONNECTIONS, Settings, orchestrator};
use crate::fsm::{Class, Definition, check_text};
use crate::journal::sqlite::{RunRecord, SqliteJournal};
use crate::sink::{DeadLetterSink, Delivery, FileOptions, FileSink, SinkError, StreamSink, each, partial_name};
use crate::source::postgres::{
    ChunkLimits, Compression, ConnInfo, Connector, CopySource, Export, NamePattern, ReadMode, Request, RowSecurity, Selection, Session,
    identifier_list,
};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use target::{Target, Targets};

pub use crate::export::vocabulary;

/// Reads `--compress`.
pub fn compression(text: &str) -> Result<Compression, String> {
    let (method, level) = text.split_once(':').map_or((text, None), |(method, level)| (method, Some(level)));
    let level = |default: i32, most: i32| match level.map(str::parse::<i32>) {
        None => Ok(default),
        Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
        Some(_) => Err(format!("the level of {method} goes from 1 to {most}")),
    };
    match method {
        "none" => Ok(Compression::None),
        "gzip" | "gz" => Ok(Compression::Gzip { level: level(6, 9)?.unsigned_abs() }),
        "zstd" | "zst" => Ok(Compression::Zstd { level: level(3, 22)? }),
        _ => Err(format!("`{method}` is no method; there are none, gzip and zstd, each with a level behind a colon if you like")),
    }
}

/// Everything that is decided before the first table.
struct Job<'a> {
    args: &'a ExportArgs,
    settings: Settings,
    connector: Connector,
    signals: Signals,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let targets = Targets::parse(&args.to)?;
    let job = Job::new(args, &targets)?;
    let row_security = match args.row_security {
        RowSecurityArg::Refuse => RowSecurity::Refuse,
        RowSecurityArg::Apply => RowSecurity::Apply,
    };
    let mut session = Session::open(&job.connector, row_security)?;
    let exports = Export::plan(&mut session, &selection(args)?, &job.request(&targets)?)?;
    let targets = targets.for_exports(&exports)?;
    let mut exit = Exit::Complete;
    let mut reports = Vec::new();
    for (export, target) in exports.into_iter().zip(targets) {
        let export = Arc::new(export);
        if args.dry_run {
            job.dry_run(&session, &export, &target)?;
            continue;
        }
        let report = job.export(&session, &export, &target)?;
        exit = exit.and(report.outcome.into());
        reports.push(report::describe(&report, &export, &target, &session));
        if args.report == Format::Text && !args.quiet {
            report::print(&report, &export, &target, &session);
        }
        if exit == Exit::Stopped {
            break;
        }
    }
    if args.report == Format::Json {
        report::print_json(&reports, args.to == "-");
    }
    Ok(exit)
}

/// Files that were made for a run. If it does not come to the run, they go again.
#[derive(Default)]
struct Created {
    paths: Vec<PathBuf>,
}

impl Drop for Created {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn selection(args: &ExportArgs) -> Result<Selection, Failure> {
    if let Some(query) = &args.query {
        return Ok(Selection::Query(query.clone()));
    }
    let patterns = args.table.iter().map(|table| NamePattern::parse(table));
    Ok(Selection::Tables(patterns.collect::<Result<_, _>>().map_err(|error| Failure::configuration(error.to_string()))?))
}

impl<'a> Job<'a> {
    fn new(args: &'a ExportArgs, targets: &Targets) -> Result<Job<'a>, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = args.workers.map_or(processors, usize::from);
        let connections = args.connections.map_or(processors.min(MOST_CONNECTIONS), usize::from);
        let limits = ChunkLimits { bytes: args.chunk_bytes, rows: args.chunk_rows.unwrap_or(u64::MAX) };
        let settings = Settings {
            definition: definitions::chunk(),
            limits,
            connections,
            workers,
            memory_limit: args.memory_limit,
            compression: Compression::None,
        };
        check_memory(&settings)?;
        targets.check_folders()?;
        let settings = Settings { definition: definition(args.definition.as_deref())?, ..settings };
        let info = ConnInfo::parse(&args.from).map_err(|error| Failure::configuration(error.to_string()))?;
        let connector = Connector::new(info).map_err(|error| Failure::configuration(error.to_string()))?;
        Ok(Job { args, settings, connector, signals: Signals::listen() })
    }

    fn request(&self, targets: &Targets) -> Result<Request, Failure> {
        let names = |text: &String| identifier_list(text).map_err(|error| Failure::configuration(format!("--columns: {error}")));
        Ok(Request {
            columns: self.args.columns.as_ref().map(names).transpose()?,
            filter: self.args.filter.clone(),
            limit: self.args.limit,
            order_by: self.args.order_by.clone(),
            parts: if targets.has_parts() { u32::try_from(self.settings.connections).unwrap_or(1) } else { 1 },
        })
    }

    fn compression(&self, target: &Target) -> Compression {
        self.args.compress.unwrap_or_else(|| target.compression())
    }

    fn file_options(&self) -> FileOptions {
        FileOptions { replace: self.args.force, mode: self.args.mode, direct: !self.args.buffered }
    }

    /// Exports one table.
    fn export(&self, session: &Session, export: &Arc<Export>, target: &Target) -> Result<RunReport, Failure> {
        let clock = Clock::real();
        let patience = Patience { total: self.args.give_up_after, ..Patience::default() };
        let settings = Settings { compression: self.compression(target), ..self.settings.clone() };
        let mut run = orchestrator(session, export.clone(), &settings).patience(patience).clock(clock.clone());
        if let Some(attempts) = self.args.max_attempts {
            run = run.context("maxAttempts", attempts);
        }
        if self.args.unordered {
            run = run.unordered();
        }
        let mut created = Created::default();
        run = match target {
            Target::Files(_) => {
                let files = target.files(export);
                let sink = FileSink::create(&files, self.file_options())?;
                created.paths.extend(files.iter().map(|file| partial_name(file)));
                run.sink("sink", sink)
            }
            Target::Stream(path) => run.sink("sink", StreamSink::new(path.display().to_string(), target::open_stream(path)?)),
        };
        if let Some(path) = self.journal(target) {
            target::prepare_journal(&path, self.args.fresh)?;
            let record = self.record(session, export, target);
            let journal = SqliteJournal::open(&path, record, clock)?;
            created.paths.extend(target::journal_files(&path));
            run = run.journal(journal);
        }
        run = match self.dead_letter(target) {
            Some(path) => run.dead_letter("deadLetter", DeadLetterSink::new(&path, self.file_options())),
            None => run.dead_letter("deadLetter", each(no_dead_letter)),
        };
        let running = run.start()?;
        created.paths.clear();
        self.watch(running, session, export)
    }

    /// Runs to the end, with signals, progress and the snapshot's age in view.
    fn watch(&self, running: Running, session: &Session, export: &Export) -> Result<RunReport, Failure> {
        let handle = running.handle();
        self.signals.watch(handle.clone());
        let progress = Progress::show(handle.clone(), export.name.clone(), export.estimated_rows, self.args.progress, self.args.quiet);
        if let Some(age) = self.args.max_snapshot_age {
            let left = age.saturating_sub(session.since().elapsed());
            std::thread::spawn(move || {
                std::thread::sleep(left);
                tracing::warn!("the snapshot has been held for {age:?}: stopping");
                handle.stop();
            });
        }
        let result = running.wait();
        self.signals.unwatch();
        drop(progress);
        result.map_err(|error| self.explain(error))
    }

    /// Adds what to do about it.
    fn explain(&self, error: RunError) -> Failure {
        let failure = Failure::from(error);
        match failure.kind() {
            TroubleKind::Io => {
                failure.advise("What was written so far is in the .partial file. Make room and run the same command with --fresh.")
            }
            TroubleKind::Unavailable => {
                failure.advise("What was written so far is in the .partial file. Run the same command with --fresh.")
            }
            _ => failure,
        }
    }

    fn journal(&self, target: &Target) -> Option<PathBuf> {
        if self.args.no_journal { None } else { self.args.journal.clone().or_else(|| target.beside("journal")) }
    }

    fn dead_letter(&self, target: &Target) -> Option<PathBuf> {
        self.args.dead_letter.clone().or_else(|| target.beside("dead.jsonl"))
    }

    fn record(&self, session: &Session, export: &Export, target: &Target) -> RunRecord {
        RunRecord {
            target: target.to_string(),
            source: json!({ "server": self.connector.info().identity(), "facts": session.server() }),
            snapshot: Some(json!(session.snapshot())),
            plan: json!({ "read": export.mode, "ranges": export.ranges.len(), "estimated_rows": export.estimated_rows, "bytes": export.bytes }),
            settings: json!({
                "identity": export.identity, "chunk": { "bytes": self.settings.limits.bytes, "rows": self.args.chunk_rows },
                "compression": self.compression(target), "ordered": !self.args.unordered, "format": "jsonl",
            }),
        }
    }

    /// Says what would be done, and proves that it can be begun: connects a lane and reads one chunk.
    fn dry_run(&self, session: &Session, export: &Arc<Export>, target: &Target) -> Result<(), Failure> {
        let source = CopySource::new(session, export.clone(), self.settings.limits, 1);
        let sample = source.sample(self.settings.limits)?;
        let mode = match &export.mode {
            ReadMode::Pages => {
                format!("{} page ranges on up to {} connections", show_count(export.ranges.len() as u64), self.settings.connections)
            }
            ReadMode::OneLane { reason } => format!("one statement on one connection, because {reason}"),
        };
        let rows = export.estimated_rows.map_or("unknown".to_owned(), |rows| format!("about {}", show_count(rows)));
        outln!("{} -> {target}", export.shown());
        outln!("  columns: {}", export.columns.join(", "));
        outln!("  rows: {rows}, {} of table", show_size(export.bytes));
        outln!("  read by: {mode}");
        outln!("  snapshot: {} at {}", session.snapshot().id, session.snapshot().lsn.as_deref().unwrap_or("an unknown position"));
        outln!("  first chunk: {sample} rows; nothing was written");
        Ok(())
    }
}

/// Beside a stream there is no place for a dead letter unless the user names one, and no row may vanish.
fn no_dead_letter(delivery: &Delivery<Batch>) -> Result<(), SinkError> {
    let reason = delivery.rejected.first().map(|rejected| rejected.reason.clone());
    let reason = reason.or_else(|| delivery.errors.last().map(ToString::to_string)).unwrap_or_default();
    let message = format!("{}: a row cannot be exported ({reason}); with --dead-letter PATH such rows are set aside", delivery.origin);
    Err(Trouble::lasting(TroubleKind::Configuration, message).into())
}

fn definition(path: Option<&Path>) -> Result<Definition, Failure> {
    let Some(path) = path else {
        return Ok(definitions::chunk());
    };
    let text = super::check::read(path)?;
    let (definition, report) = check_text(&text, Some(&vocabulary()));
    if !report.is_clean(Class::Lint) {
        report.findings.iter().for_each(|finding| eprintln!("{}", super::check::located(path, finding)));
    }
    definition
        .filter(|_| report.is_clean(Class::Lint))
        .ok_or_else(|| Failure::configuration(format!("{} cannot be run; `sluicegate check --for-export` shows the same", path.display())))
}

/// Less than this, and the limit would be a promise that cannot be kept.
fn check_memory(settings: &Settings) -> Result<(), Failure> {
    let Settings { limits, connections, workers, memory_limit, .. } = settings;
    let floor = settings.memory_floor();
    if *memory_limit >= floor {
        return Ok(());
    }
    let (limit, floor, chunk) = (show_size(*memory_limit as u64), show_size(floor as u64), show_size(limits.bytes as u64));
    Err(Failure::configuration(format!(
        "--memory-limit {limit} is less than the {floor} that {connections} connections, {workers} workers and chunks of {chunk} need; \
         allow more, or take fewer connections and workers or smaller chunks"
    )))
}
