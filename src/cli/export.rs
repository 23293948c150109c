//! `sluicegate export`: a Postgres table or query to JSON lines.

mod report;
mod resume;

use super::args::{ExportArgs, Format, RowSecurityArg};
use super::exit::{Exit, Failure};
use super::job::target::{Target, Targets};
use super::job::{self, Created, Outputs, resume::Begin};
use super::progress::Progress;
use super::signals::Signals;
use super::values::{show_count, show_size};
use crate::claim::FileClaim;
use crate::cli::out::outln;
use crate::clock::Clock;
use crate::definitions;
use crate::engine::{GroupLimits, Patience, RunReport, Running};
use crate::export::{Settings, orchestrator_of};
use crate::fsm::Definition;
use crate::journal::sqlite::RunRecord;
use crate::sink::FileOptions;
use crate::source::postgres::{
    ChunkLimits, Compression, ConnInfo, Connector, CopySource, Export, NamePattern, ReadMode, Request, RowSecurity, Selection, Session,
    identifier_list,
};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::export::vocabulary;

/// How often a server that is away is asked for a new session.
const REOPEN_EVERY: Duration = Duration::from_millis(500);

/// How often a run is gone on with in vain, one time after the other.
const MOST_STALLED: u32 = 4;

/// How long a server that is just starting is left alone, the first time.
const AFTER_STALLED: Duration = Duration::from_secs(1);

/// Everything that is decided before the first table.
struct Job<'a> {
    args: &'a ExportArgs,
    settings: Settings,
    connector: Connector,
    signals: Signals,
    /// Whether to forget what earlier runs have done.
    starts_over: bool,
}

/// One table, or a query, with where it goes and where it begins.
struct Table {
    export: Arc<Export>,
    target: Target,
    begin: Begin,
    /// What was begun of the output, so that nobody writes it between our look into the journal and our start.
    claims: Vec<FileClaim>,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let targets = Targets::parse(&args.to)?;
    let mut job = Job::new(args, &targets)?;
    let mut session = Session::open(&job.connector, job.row_security())?;
    let mut stalled = None;
    loop {
        let mut done = 0;
        match job.run(&mut session, &targets, &mut done) {
            // The server was restarted, or a new connection found the snapshot gone: under a new one it can go on, if the table is
            // proved to be the same. Only while that leads anywhere, and never where the first run came to nothing.
            Err(failure) if failure.kind() == TroubleKind::Unavailable && job.keeps_journals(&targets) => {
                let tries = if done > 0 { 0 } else { stalled.map_or(MOST_STALLED, |tries: u32| tries + 1) };
                if tries >= MOST_STALLED {
                    return Err(failure);
                }
                tracing::warn!("{failure}; going on under a new snapshot, if nothing has changed");
                drop(session);
                std::thread::sleep(AFTER_STALLED * tries);
                session = job.reopen()?;
                stalled = Some(tries);
                job.starts_over = false;
            }
            result => return result,
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
        let defaults = Settings::default();
        let settings = Settings {
            definition: definitions::chunk(),
            limits: ChunkLimits { bytes: args.chunk_bytes, rows: args.chunk_rows.unwrap_or(u64::MAX) },
            connections: args.connections.map_or(defaults.connections, usize::from),
            workers: args.workers.map_or(defaults.workers, usize::from),
            memory_limit: args.memory_limit,
            compression: Compression::None,
        };
        check_memory(&settings)?;
        targets.check_folders()?;
        let settings = Settings { definition: definition(args.definition.as_deref())?, ..settings };
        let info = ConnInfo::parse(&args.from).map_err(|error| Failure::configuration(error.to_string()))?;
        let connector = Connector::new(info).map_err(|error| Failure::configuration(error.to_string()))?;
        Ok(Job { args, settings, connector, signals: Signals::listen(), starts_over: args.fresh })
    }

    fn row_security(&self) -> RowSecurity {
        match self.args.row_security {
            RowSecurityArg::Refuse => RowSecurity::Refuse,
            RowSecurityArg::Apply => RowSecurity::Apply,
        }
    }

    /// A new session, as soon as the server has one, for as long as it is worth trying.
    fn reopen(&self) -> Result<Session, Failure> {
        let began = Instant::now();
        loop {
            match Session::open(&self.connector, self.row_security()) {
                Err(trouble) if trouble.is_passing() && began.elapsed() < self.args.give_up_after => std::thread::sleep(REOPEN_EVERY),
                result => return Ok(result?),
            }
        }
    }

    /// Exports all tables under one snapshot. `done` counts chunks that have come to their end.
    fn run(&self, session: &mut Session, targets: &Targets, done: &mut u64) -> Result<Exit, Failure> {
        let exports = Export::plan(session, &selection(self.args)?, &self.request(targets)?)?;
        let targets = targets.for_exports(&exports)?;
        self.check_paths(&targets, &exports)?;
        if self.args.dry_run {
            let plans = exports.into_iter().zip(&targets).map(|(export, target)| self.dry_run(session, &Arc::new(export), target));
            let plans = plans.collect::<Result<Vec<_>, _>>()?;
            if self.args.report == Format::Json {
                outln!("{:#}", json!(plans));
            }
            return Ok(Exit::Complete);
        }
        let mut tables = Vec::new();
        for (mut export, target) in exports.into_iter().zip(targets) {
            let outputs = self.outputs(&export, &target);
            let claims = outputs.claim()?;
            let begin = resume::look(self, session, &mut export, &target)?;
            if matches!(begin, Begin::Anew(_)) && !self.args.force {
                // Of all tables before the first is read, which may take hours.
                outputs.refuse_existing()?;
            }
            tables.push(Table { export: Arc::new(export), target, begin, claims });
        }
        let mixed = resume::prove(self, session, &mut tables)?;
        let mut exit = if mixed { Exit::DeadLetters } else { Exit::Complete };
        let mut reports = Vec::new();
        for mut table in tables {
            // From here on the sink's own claim holds.
            table.claims.clear();
            if let Begin::Complete(earlier) = &table.begin {
                reports.push(report::describe_complete(earlier, &table.export, &table.target));
                if !self.args.quiet {
                    report::print_complete(earlier, &table.export, &table.target);
                }
                let rows = earlier.carried().rows;
                if rows.dead_lettered + rows.cancelled > 0 {
                    exit = exit.and(Exit::DeadLetters);
                }
                continue;
            }
            let report = self.export(session, &table, mixed, done)?;
            exit = exit.and(report.outcome.into());
            if report.rows.cancelled > 0 {
                // Nobody here cancels chunks: the definition lets them end so.
                exit = exit.and(Exit::DeadLetters);
            }
            reports.push(report::describe(&report, &table.export, &table.target, session));
            if self.args.report == Format::Text && !self.args.quiet {
                report::print(&report, &table.export, &table.target, session);
            }
            if exit == Exit::Stopped {
                if !self.args.quiet {
                    eprintln!(
                        "{}",
                        if self.is_resumable(&table) { "The same command goes on from there." } else { "The same command starts over." }
                    );
                }
                break;
            }
        }
        if self.args.report == Format::Json {
            job::report::print_json(&reports, self.args.to == "-");
        }
        Ok(exit)
    }

    /// Where a table's rows go.
    fn outputs(&self, export: &Export, target: &Target) -> Outputs {
        Outputs {
            target: target.clone(),
            files: target.files(export),
            options: self.file_options(),
            dead_letter: self.dead_letter(target),
            journal: self.journal(target),
            dead_letter_setting: "--dead-letter PATH",
            head: Vec::new(),
        }
    }

    /// Every file is somebody's alone.
    fn check_paths(&self, targets: &[Target], exports: &[Export]) -> Result<(), Failure> {
        for (target, export) in targets.iter().zip(exports) {
            let files = target.files(export);
            if let Some(folder) = files.iter().find(|file| file.is_dir()) {
                let inside = folder.join("{table}.jsonl");
                let message = format!("--to {} is a directory; name a file in it, like {}", folder.display(), inside.display());
                return Err(Failure::configuration(message));
            }
        }
        for (flag, path) in [("--journal", &self.args.journal), ("--dead-letter", &self.args.dead_letter)] {
            let Some(path) = path else { continue };
            if targets.len() > 1 {
                let message = format!(
                    "{} tables cannot share {flag} {}; leave it out, and each gets its own beside its output",
                    targets.len(),
                    path.display()
                );
                return Err(Failure::configuration(message));
            }
            let name = path.file_name();
            let files = targets.iter().filter_map(|target| match target {
                Target::Files(name) => Path::new(name).file_name(),
                Target::Stream(_) => None,
            });
            if flag == "--dead-letter" && files.into_iter().any(|file| Some(file) == name) {
                let message = format!("{flag} {} has the name of the output, and the journal knows both by their names", path.display());
                return Err(Failure::configuration(message).advise("Give it another name."));
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let message = format!("the directory {} of {flag} does not exist", folder.display());
                return Err(Trouble::lasting(TroubleKind::Io, message).into());
            }
            let same = targets.iter().any(|target| matches!(target, Target::Files(name) if Path::new(name) == path));
            if same || (flag == "--journal" && self.args.dead_letter.as_ref() == Some(path)) {
                return Err(Failure::configuration(format!("{flag} {} is written otherwise already; give another", path.display())));
            }
        }
        Ok(())
    }

    /// Whether what was done can be known again.
    fn keeps_journals(&self, targets: &Targets) -> bool {
        !self.args.no_journal && !targets.is_stream()
    }

    /// Whether a run that ends early can be gone on with.
    fn is_resumable(&self, table: &Table) -> bool {
        self.journal(&table.target).is_some() && table.export.repeats_exactly()
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
    fn export(&self, session: &Session, table: &Table, mixed: bool, done: &mut u64) -> Result<RunReport, Failure> {
        let Table { export, target, begin, .. } = table;
        let limits = match begin {
            Begin::GoOn(earlier) => job::resume::limits(earlier),
            _ => self.settings.limits,
        };
        let settings = Settings { limits, compression: self.compression(target), ..self.settings.clone() };
        check_memory(&settings)?;
        let mut source = CopySource::new(session, export.clone(), limits, settings.connections);
        if let Begin::GoOn(earlier) = begin {
            source = source.without(earlier.finished.keys().copied(), earlier.ended());
        }
        let clock = Clock::real();
        let mut run = orchestrator_of(source, session, &settings)
            .patience(Patience { total: self.args.give_up_after, ..Patience::default() })
            .group(GroupLimits { bytes: self.args.checkpoint_bytes as u64, ..GroupLimits::default() })
            .clock(clock.clone());
        if let Some(attempts) = self.args.max_attempts {
            run = run.context("maxAttempts", attempts);
        }
        if self.args.unordered {
            run = run.unordered();
        }
        tracing::info!(snapshot = session.snapshot().id, "{} -> {target}: {} ranges", export.shown(), export.ranges.len());
        let mut created = Created::default();
        let outputs = self.outputs(export, target);
        run = outputs.outlets(run, begin, &mut created)?;
        let record = self.record(session, export, target, limits, mixed);
        run = outputs.journaled(run, begin, record, clock, &mut created)?;
        if let Begin::GoOn(earlier) = begin {
            if !self.args.quiet {
                eprintln!("{}: {}", export.shown(), job::resume::describe(earlier, export.ranges.len()));
            }
            run = run.carry_over(earlier.carried());
        }
        let running = run.start()?;
        created.keep();
        let handle = running.handle();
        let result = self.watch(running, session, table);
        *done += handle.metrics().chunks_settled;
        result
    }

    /// Runs to the end, with signals, progress and the snapshot's age in view.
    fn watch(&self, running: Running, session: &Session, table: &Table) -> Result<RunReport, Failure> {
        let export = &table.export;
        let handle = running.handle();
        let progress = Progress::show(handle.clone(), export.name.clone(), export.estimated_rows, self.args.progress, self.args.quiet);
        if let Some(age) = self.args.max_snapshot_age {
            let left = age.saturating_sub(session.since().elapsed());
            std::thread::spawn(move || {
                std::thread::sleep(left);
                tracing::warn!("the snapshot has been held for {age:?}: stopping");
                handle.stop();
            });
        }
        let result = job::wait(running, &self.signals);
        drop(progress);
        let resumable = self.is_resumable(table);
        result.map_err(|error| job::explain(error, resumable))
    }

    fn journal(&self, target: &Target) -> Option<PathBuf> {
        if self.args.no_journal { None } else { self.args.journal.clone().or_else(|| target.beside("journal")) }
    }

    fn dead_letter(&self, target: &Target) -> Option<PathBuf> {
        self.args.dead_letter.clone().or_else(|| target.beside("dead.jsonl"))
    }

    fn record(&self, session: &Session, export: &Export, target: &Target, limits: ChunkLimits, mixed: bool) -> RunRecord {
        let mut settings = self.output_settings(export, target);
        settings["chunk"] = json!({ "bytes": limits.bytes, "rows": (limits.rows < u64::MAX).then_some(limits.rows) });
        let mut snapshot = json!(session.snapshot());
        if mixed {
            snapshot["mixed"] = true.into();
        }
        RunRecord {
            target: target.to_string(),
            source: json!({ "server": self.connector.info().identity(), "facts": session.server() }),
            snapshot: Some(snapshot),
            plan: json!({
                "read": export.mode, "ranges": export.ranges.len(), "estimated_rows": export.estimated_rows, "bytes": export.bytes,
                "cut": export.cut,
            }),
            settings,
        }
    }

    /// What decides how the output looks. It has to be the same to go on.
    fn output_settings(&self, export: &Export, target: &Target) -> Value {
        json!({
            "identity": export.identity, "compression": self.compression(target), "ordered": !self.args.unordered, "format": "jsonl",
        })
    }

    /// Says what would be done, and proves that it can be begun: connects a lane and reads one chunk.
    fn dry_run(&self, session: &Session, export: &Arc<Export>, target: &Target) -> Result<Value, Failure> {
        let source = CopySource::new(session, export.clone(), self.settings.limits, 1);
        let sample = source.sample(self.settings.limits)?;
        if self.args.report == Format::Json {
            return Ok(json!({
                "table": export.shown(), "target": target.to_string(), "files": target.files(export), "read": export.mode,
                "columns": export.columns, "ranges": export.ranges.len(), "estimated_rows": export.estimated_rows,
                "table_bytes": export.bytes, "snapshot": session.snapshot(), "first_chunk_rows": sample, "dry_run": true,
            }));
        }
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
        Ok(Value::Null)
    }
}

fn definition(path: Option<&Path>) -> Result<Definition, Failure> {
    let Some(path) = path else { return Ok(definitions::chunk()) };
    super::check::definition(path, Some(&vocabulary()))
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
