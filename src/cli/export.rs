//! `sluicegate export`: a Postgres table or query to JSON lines.

mod fit;
mod plan;
mod report;
mod resume;

use super::args::{Consistency, ExportArgs, Format, RowSecurityArg};
use super::exit::{Exit, Failure};
use super::job::target::{Target, Targets};
use super::job::{self, Created, Outputs, resume::Begin};
use super::progress::Progress;
use super::signals::Signals;
use crate::claim::FileClaim;
use crate::clock::Clock;
use crate::definitions;
use crate::engine::{GroupLimits, Patience, RunReport, Running};
use crate::export::{Settings, orchestrator_of};
use crate::fsm::Definition;
use crate::journal::sqlite::RunRecord;
use crate::sink::FileOptions;
use crate::source::postgres::{
    COPY_ROW, ChunkLimits, Compression, ConnInfo, Connector, CopySource, Export, KeyChoice, NamePattern, Request, RowSecurity, Selection,
    Session, identifier_list,
};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::export::vocabulary;
pub use resume::{compare_servers, heap_files};

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
    let mut session = job.open()?;
    let mut stalled = None;
    loop {
        let mut done = Done::default();
        match job.run(&mut session, &targets, &mut done) {
            // The server was restarted, or a new connection found the snapshot gone: under a new one it can go on, if the table is
            // proved to be the same. Only while that leads anywhere, and never where the first run came to nothing.
            Err(failure) if failure.kind() == TroubleKind::Unavailable && job.keeps_journals(&targets) => {
                let tries = if done.chunks > 0 { 0 } else { stalled.map_or(MOST_STALLED, |tries: u32| tries + 1) };
                if tries >= MOST_STALLED {
                    return job.end(Err(failure), &done);
                }
                let how = match job.args.consistency {
                    Consistency::Keyset => "going on, and reading ranges that are half written again",
                    Consistency::Frozen => "going on once the standby stands where it did",
                    Consistency::Snapshot | Consistency::Mixed => "going on under a new snapshot, if nothing has changed",
                };
                tracing::warn!("{failure}; {how}");
                drop(session);
                std::thread::sleep(AFTER_STALLED * tries);
                session = match job.reopen() {
                    Ok(session) => session,
                    Err(failure) => return job.end(Err(failure), &done),
                };
                stalled = Some(tries);
                job.starts_over = false;
            }
            result => return job.end(result, &done),
        }
    }
}

/// What came of the tables so far, for a report.
#[derive(Default)]
struct Done {
    /// Chunks that have come to their end.
    chunks: u64,
    reports: Vec<Value>,
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
        let settings = fit::settings(args)?;
        check_consistency(args)?;
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

    /// Whether ranges are read by key, each at a moment of its own.
    fn by_key(&self) -> bool {
        self.args.consistency == Consistency::Keyset
    }

    fn open(&self) -> Result<Session, Trouble> {
        let open = if self.args.consistency == Consistency::Frozen { Session::open_frozen } else { Session::open };
        open(&self.connector, self.row_security())
    }

    /// A new session, as soon as the server has one, for as long as it is worth trying.
    fn reopen(&self) -> Result<Session, Failure> {
        let began = Instant::now();
        loop {
            match self.open() {
                Err(trouble) if trouble.is_passing() && began.elapsed() < self.args.give_up_after => std::thread::sleep(REOPEN_EVERY),
                result => return Ok(result?),
            }
        }
    }

    /// Prints the reports, if they are wanted for programs: also of a run that failed.
    fn end(&self, result: Result<Exit, Failure>, done: &Done) -> Result<Exit, Failure> {
        if self.args.report == Format::Json && !(result.is_err() && done.reports.is_empty()) && !self.args.plan {
            job::report::print_json(&done.reports, self.args.to == "-");
        }
        result
    }

    /// Exports all tables, at one moment or by key. `done` counts chunks that have come to their end.
    fn run(&self, session: &mut Session, targets: &Targets, done: &mut Done) -> Result<Exit, Failure> {
        let exports = self.outline(session, targets)?;
        if matches!(self.args.consistency, Consistency::Keyset | Consistency::Frozen) {
            session.release()?;
        }
        let targets = targets.for_exports(&exports)?;
        self.check_paths(&targets, &exports)?;
        if self.args.plan {
            return plan::show(self, session, exports, &targets);
        }
        let mut tables = Vec::new();
        for (mut export, target) in exports.into_iter().zip(targets) {
            let outputs = self.outputs(&export, &target);
            let claims = outputs.claim()?;
            let mut begin = resume::look(self, session, &mut export, &target)?;
            if let Begin::GoOn(earlier) = &mut begin {
                resume::check(self, &export, &target, earlier)?;
            }
            if matches!(begin, Begin::Anew(_)) && !self.args.force {
                // Of all tables before the first is read, which may take hours.
                outputs.refuse_existing()?;
            }
            export.cut_by_key(session)?;
            tables.push(Table { export: Arc::new(export), target, begin, claims });
        }
        let mixed = resume::prove(self, session, &mut tables)?;
        let mut exit = if mixed { Exit::DeadLetters } else { Exit::Complete };
        for mut table in tables {
            // From here on the sink's own claim holds.
            table.claims.clear();
            if let Begin::Complete(earlier) = &table.begin {
                done.reports.push(report::describe_complete(earlier, &table.export, &table.target));
                if !self.args.quiet {
                    report::print_complete(earlier, &table.export, &table.target);
                }
                let rows = earlier.carried().rows;
                if rows.dead_lettered + rows.cancelled > 0 {
                    exit = exit.and(Exit::DeadLetters);
                }
                continue;
            }
            let report = self.export(session, &table, mixed, &mut done.chunks);
            let report =
                report.inspect_err(|failure| done.reports.push(report::describe_failure(failure, &table.export, &table.target)))?;
            exit = exit.and(report.outcome.into());
            if report.rows.cancelled > 0 {
                // Nobody here cancels chunks: the definition lets them end so.
                exit = exit.and(Exit::DeadLetters);
            }
            done.reports.push(report::describe(&report, &table.export, &table.target, session));
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
        Ok(exit)
    }

    /// Looks up what is to be read. Under another snapshot, if a table was rewritten just now.
    fn outline(&self, session: &mut Session, targets: &Targets) -> Result<Vec<Export>, Failure> {
        let (selection, request) = (selection(self.args)?, self.request(targets)?);
        let mut tries = 0;
        loop {
            match Export::outline(session, &selection, &request) {
                Err(trouble) if trouble.is_passing() && tries < MOST_STALLED => {
                    tracing::info!("{trouble}: taking another");
                    tries += 1;
                    *session = self.open()?;
                }
                result => return Ok(result?),
            }
        }
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
        self.journal(&table.target).is_some() && table.export.can_go_on()
    }

    fn request(&self, targets: &Targets) -> Result<Request, Failure> {
        let names = |flag: &str, text: &Option<String>| {
            let wrong = |error| Failure::configuration(format!("{flag}: {error}"));
            text.as_ref().map(|text| identifier_list(text).map_err(wrong)).transpose()
        };
        let key = KeyChoice { columns: names("--key", &self.args.key)? };
        Ok(Request {
            key: self.by_key().then_some(key),
            columns: names("--columns", &self.args.columns)?,
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
            Begin::GoOn(earlier) => job::resume::limits(&earlier.run),
            _ => self.settings.limits,
        };
        let settings = Settings { limits, compression: self.compression(target), ..self.settings.clone() };
        fit::check_memory(&settings)?;
        let mut source = CopySource::new(session, export.clone(), limits, settings.connections);
        if let Begin::GoOn(earlier) = begin {
            source = source.without(earlier.finished.keys().copied(), earlier.ended());
        }
        let clock = Clock::real();
        let mut run = orchestrator_of(source, session, &settings)
            .patience(Patience { total: self.args.give_up_after, ..Patience::default() })
            .group(GroupLimits { bytes: self.args.checkpoint_bytes as u64, ..GroupLimits::default() })
            .clock(clock.clone())
            .leave_parked_chunks();
        if let Some(attempts) = self.args.max_attempts {
            run = run.context("maxAttempts", attempts);
        }
        if self.args.unordered {
            run = run.unordered();
        }
        tracing::info!("{} -> {target}: {} ranges, {}", export.shown(), export.ranges.len(), report::moment(export, session));
        let mut created = Created::default();
        let record = self.record(session, export, target, limits, mixed);
        run = self.outputs(export, target).attach(run, begin, record, clock, &mut created)?;
        if let Begin::GoOn(earlier) = begin {
            if !self.args.quiet {
                eprintln!("{}: resuming: {}", export.shown(), job::resume::done(earlier, export.ranges.len()));
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
        let progress = Progress::show(handle.clone(), export.shown(), export.estimated_rows, self.args.progress, self.args.quiet);
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
        settings["rows"] = json!({ "form": COPY_ROW, "columns": export.fields() });
        let mut snapshot = (!export.is_by_key()).then(|| json!(session.snapshot()));
        if let Some(snapshot) = snapshot.as_mut().filter(|_| mixed) {
            snapshot["mixed"] = true.into();
        }
        RunRecord {
            target: target.to_string(),
            source: json!({ "server": self.connector.info().identity(), "facts": session.server() }),
            snapshot,
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
}

fn definition(path: Option<&Path>) -> Result<Definition, Failure> {
    let Some(path) = path else { return Ok(definitions::chunk()) };
    super::check::definition(path, Some(&vocabulary()))
}

/// What does not go together with the way in which rows are to be read.
fn check_consistency(args: &ExportArgs) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::configuration(why));
    match args.consistency {
        Consistency::Keyset if args.query.is_some() => refused("--consistency keyset needs the key of a table, and a query has none"),
        Consistency::Keyset if args.unordered => refused(
            "--unordered does not go with --consistency keyset: a range that was cut off could not be told apart in the output; leave it out",
        ),
        Consistency::Keyset if args.max_snapshot_age.is_some() => {
            refused("--max-snapshot-age: --consistency keyset holds no snapshot; leave it out")
        }
        Consistency::Frozen if args.max_snapshot_age.is_some() => {
            refused("--max-snapshot-age: --consistency frozen holds no snapshot; leave it out")
        }
        Consistency::Keyset => Ok(()),
        _ if args.key.is_some() => refused("--key makes ranges for --consistency keyset; give that as well"),
        _ => Ok(()),
    }
}
