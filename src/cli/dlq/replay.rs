//! `sluicegate dlq replay`: rows through their machine again, and marks on those that get through.
//!
//! The order of steps is what makes a crash harmless: the intent is written down, the rows are run into an output of their own, that gets
//! its final name, the records get their marks, the intent is forgotten. Whoever finds an intent with a complete output gives the marks.

use super::args::ReplayArgs;
use super::{Missing, Origin, Selection, claimed};
use crate::batch::Batch;
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::export::vocabulary;
use crate::cli::job::target::{Target, remove_journal};
use crate::cli::out::outln;
use crate::cli::signals::Signals;
use crate::cli::values::show_count;
use crate::clock::Clock;
use crate::engine::{Orchestrator, RunReport};
use crate::export::{Settings, replay_of};
use crate::fsm::Definition;
use crate::journal::RowSum;
use crate::journal::sqlite::query::Reader;
use crate::journal::sqlite::recover::Earlier;
use crate::journal::sqlite::{RunRecord, SqliteJournal};
use crate::sink::{DeadLetterSink, DeadLetters, DeadRecord, Fate, FileOptions, FileSink, IdSet, Intent, Replayed, partial_name};
use crate::source::postgres::{COPY_ROW, Charset, Field, Foreign, ReplaySource, replayed_records, why_not_replayable};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xxhash_rust::xxh3::Xxh3;

/// The files of a replay's output.
struct Outputs {
    to: PathBuf,
    journal: PathBuf,
    dead_letter: PathBuf,
}

/// How the replay begins.
enum Begin {
    Anew,
    /// An earlier one into the same output was cut off: what is left of it goes.
    Over,
    /// An earlier one has read everything, and was cut off while it gave the output its final name.
    Finish(Box<Earlier>),
}

/// What a look through the file has found.
struct Scan {
    wanted: IdSet,
    /// Those that were meant, and have been replayed already.
    done: u64,
    /// Whether there are rows that need to be told their encoding.
    has_foreign: bool,
    digest: String,
}

/// What the journal of the export tells of rows.
struct Known {
    fields: Vec<Field>,
    definition: Definition,
    identity: Value,
}

/// Runs the command.
pub fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let mut origin = Origin::of(&args.file, args.journal.as_deref())?;
    let letters = claimed(&args.file, &origin)?;
    let outputs = Outputs::of(&args.to)?;
    let (letters, begin) = match Intent::read(letters.path())? {
        None => (letters, Begin::Anew),
        Some(intent) => match settle(letters, &intent, Some(&outputs))? {
            Settled::Marked(_, rows, marked) if intent.to == outputs.to => return Ok(report(args, rows, marked, None)),
            Settled::Marked(letters, ..) => (letters, Begin::Anew),
            Settled::Open(letters, begin) => (letters, begin),
        },
    };
    let known = known(args, &origin)?;
    let scan = scan(&letters, args, &mut origin)?;
    if scan.wanted.is_empty() && !matches!(begin, Begin::Finish(_)) {
        if !args.quiet {
            eprintln!("{}: 0 pending, {} replayed already: nothing to do", args.file.display(), show_count(scan.done));
        }
        return Ok(Exit::Complete);
    }
    outputs.make_way(&begin)?;
    let intent = outputs.intent(&scan.digest);
    let lacks_encoding = scan.has_foreign && args.encoding.is_none();
    let replay = Replay { args, known, scan, outputs, begin };
    let (letters, ran) = replay.run(letters, &intent)?;
    match ran {
        Ended::Stopped => Ok(Exit::Stopped),
        Ended::Complete(run) => {
            let (_, rows, marked) = mark(letters, &intent)?;
            if lacks_encoding && !args.quiet {
                eprintln!("Rows that are not UTF-8 can only get through with --encoding NAME, which says what they are in.");
            }
            Ok(report(args, rows, marked, Some(&run)))
        }
    }
}

/// Prints what became of the rows.
fn report(args: &ReplayArgs, rows: RowSum, marked: u64, run: Option<&RunReport>) -> Exit {
    let again = rows.dead_lettered + rows.cancelled;
    if args.report == Format::Json {
        outln!("{:#}", json!({ "file": args.file, "to": args.to, "rows": rows, "marked": marked, "pending": again, "run": run }));
    } else if !args.quiet {
        eprintln!("{} -> {}: {rows}", args.file.display(), args.to.display());
        eprintln!("  {} records marked as replayed, {} failed again", show_count(marked), show_count(again));
        if rows.dead_lettered > 0 {
            eprintln!("  those that failed again stay pending; why: {}.dead.jsonl", args.to.display());
        }
    }
    if again > 0 { Exit::DeadLetters } else { Exit::Complete }
}

impl Outputs {
    fn of(to: &Path) -> Result<Outputs, Failure> {
        let io = |message: String| Failure::from(Trouble::lasting(TroubleKind::Io, message));
        if to == Path::new("-") || to.metadata().is_ok_and(|found| !found.is_file()) {
            let message = format!("--to {} is no file: which rows got through has to be known when they are marked", to.display());
            return Err(Failure::configuration(message));
        }
        let to = std::path::absolute(to).map_err(|error| io(format!("--to {}: {error}", to.display())))?;
        let folder = to.parent().unwrap_or(&to);
        if !folder.is_dir() {
            return Err(io(format!("the directory {} does not exist", folder.display())));
        }
        let beside = |extension: &str| {
            let mut name = to.as_os_str().to_owned();
            name.push(extension);
            PathBuf::from(name)
        };
        Ok(Outputs { journal: beside(".journal"), dead_letter: beside(".dead.jsonl"), to })
    }

    /// Makes sure that nothing is overwritten, and that nothing is left of what was cut off.
    fn make_way(&self, begin: &Begin) -> Result<(), Failure> {
        match begin {
            Begin::Finish(_) => return Ok(()),
            Begin::Anew => {
                let partials = [partial_name(&self.to), partial_name(&self.dead_letter)];
                let there =
                    [&self.to, &self.dead_letter, &self.journal].into_iter().chain(&partials).find(|path| path.symlink_metadata().is_ok());
                if let Some(there) = there {
                    return Err(Failure::configuration(format!("{} exists; give another --to", there.display())));
                }
            }
            Begin::Over => {
                if self.to.symlink_metadata().is_ok() {
                    return Err(Failure::configuration(format!(
                        "{} exists, and no journal says what it is; give another --to",
                        self.to.display()
                    )));
                }
                for partial in [partial_name(&self.to), partial_name(&self.dead_letter)] {
                    remove(&partial)?;
                }
                remove_journal(&self.journal)?;
            }
        }
        Ok(())
    }

    fn intent(&self, digest: &str) -> Intent {
        let Outputs { to, journal, dead_letter } = self;
        Intent {
            to: to.clone(),
            journal: journal.clone(),
            dead_letter: dead_letter.clone(),
            digest: digest.to_owned(),
            at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Trouble::lasting(TroubleKind::Io, format!("{} cannot be removed", path.display())).because(error).into())
        }
        _ => Ok(()),
    }
}

/// What has become of an earlier replay.
enum Settled {
    /// It was complete: its records have their marks, so many of them only now.
    Marked(DeadLetters, RowSum, u64),
    /// It was cut off before.
    Open(DeadLetters, Begin),
}

/// Drops need to know which records are pending, and change what an intent was written down for.
pub(super) fn settle_before_drop(letters: DeadLetters) -> Result<DeadLetters, Failure> {
    let Some(intent) = Intent::read(letters.path())? else { return Ok(letters) };
    match settle(letters, &intent, None)? {
        Settled::Marked(letters, ..) => Ok(letters),
        Settled::Open(letters, _) => {
            Intent::remove(letters.path())?;
            Ok(letters)
        }
    }
}

/// Brings an earlier replay to its end, where all that it lacks are the marks.
fn settle(letters: DeadLetters, intent: &Intent, outputs: Option<&Outputs>) -> Result<Settled, Failure> {
    let is_same = outputs.is_some_and(|outputs| outputs.to == intent.to);
    let shown = intent.to.display();
    let earlier = if intent.journal.exists() { Earlier::read(&intent.journal, &[])? } else { None };
    let forget = format!(
        "Run `sluicegate dlq replay` with --to {shown} again, or remove {} if that output is not to count.",
        Intent::name(letters.path()).display()
    );
    match earlier {
        Some(earlier) if earlier.run.settings["identity"]["digest"] != intent.digest => {
            let message = format!("a replay into {shown} was begun, but {} is the journal of something else", intent.journal.display());
            Err(Failure::configuration(message).advise(forget))
        }
        Some(earlier) if earlier.is_complete() => {
            let (letters, rows, marked) = mark(letters, intent)?;
            tracing::info!("an earlier replay into {shown} was complete; {marked} records got the marks that they lacked");
            Ok(Settled::Marked(letters, rows, marked))
        }
        Some(earlier) if earlier.was_finishing() && is_same => Ok(Settled::Open(letters, Begin::Finish(Box::new(earlier)))),
        Some(earlier) if earlier.was_finishing() => {
            let message = format!("a replay into {shown} was cut off just before its end");
            Err(Failure::configuration(message).advise(forget))
        }
        None if !is_same && intent.to.symlink_metadata().is_ok() => {
            let message = format!("a replay into {shown} was begun, and there is no journal to say how far it came");
            Err(Failure::configuration(message).advise(forget))
        }
        // Cut off in the middle: under its final name there is nothing, so nothing can count twice.
        _ => Ok(Settled::Open(letters, if is_same { Begin::Over } else { Begin::Anew })),
    }
}

/// Gives their marks to the records that got through, and forgets the intent. Whatever of that was done before is not done again.
fn mark(letters: DeadLetters, intent: &Intent) -> Result<(DeadLetters, RowSum, u64), Failure> {
    let reader = Reader::open(&intent.journal)?;
    let rows = reader.runs()?.pop().and_then(|run| run.rows).unwrap_or_default();
    let through = through(&reader, &intent.dead_letter)?;
    let replayed = Replayed { at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(), to: intent.to.display().to_string() };
    let (digest, left) = unmarked(&letters, &through)?;
    if left > 0 && digest != intent.digest {
        let message = format!("{} is not what it was when it was replayed into {}", letters.path().display(), intent.to.display());
        let advice = format!("Nothing was changed. Remove {} if that output is not to count.", Intent::name(letters.path()).display());
        return Err(Failure::configuration(message).advise(advice));
    }
    let path = letters.path().to_owned();
    let fate = |record: &DeadRecord| if record.is_pending() && through.contains(record.id) { Fate::Mark(&replayed) } else { Fate::Keep };
    let letters = if left > 0 { letters.rewrite(fate)? } else { letters };
    Intent::remove(&path)?;
    Ok((letters, rows, left))
}

/// The records that got through: of all chunks that came to their end and were not given up, without those in the new dead letter.
fn through(reader: &Reader, dead_letter: &Path) -> Result<IdSet, Failure> {
    let mut through = IdSet::default();
    for chunk in reader.chunks(None)? {
        let ids = replayed_records(&chunk.origin).ok_or_else(|| damaged(&chunk.origin))?;
        if chunk.rows_by_end.is_some_and(|rows| rows.cancelled == 0) {
            ids.runs().for_each(|(first, last)| through.insert(first, last));
        }
    }
    if dead_letter.symlink_metadata().is_err() {
        return Ok(through);
    }
    let (mut origin, mut ids) = (String::new(), IdSet::default());
    let letters = DeadLetters::open(dead_letter)?;
    let mut records = letters.records()?;
    while let Some(record) = records.read()? {
        if record.origin != origin {
            ids = replayed_records(&record.origin).ok_or_else(|| damaged(&record.origin))?;
            origin = record.origin;
        }
        match record.row {
            Some(row) => ids.nth(row).into_iter().for_each(|id| through.remove(id)),
            None => ids.runs().flat_map(|(first, last)| first..=last).for_each(|id| through.remove(id)),
        }
    }
    Ok(through)
}

fn damaged(origin: &str) -> Failure {
    Failure::configuration(format!("a chunk of a replay says that it comes from `{origin}`, which names no records"))
}

/// The digest of the file, and how many of these records have no mark.
fn unmarked(letters: &DeadLetters, through: &IdSet) -> Result<(String, u64), Failure> {
    let (mut digest, mut left) = (Xxh3::new(), 0);
    let mut records = letters.records()?;
    while let Some(record) = records.read()? {
        digest.update(records.line());
        left += u64::from(record.is_pending() && through.contains(record.id));
    }
    Ok((format!("{:016x}", digest.digest()), left))
}

/// Looks through the whole file before anything is begun.
fn scan(letters: &DeadLetters, args: &ReplayArgs, origin: &mut Origin) -> Result<Scan, Failure> {
    let selection = Selection::from(&args.select);
    let mut missing = Missing::of(&selection);
    let (mut wanted, mut done, mut has_foreign, mut digest) = (IdSet::default(), 0, false, Xxh3::new());
    let mut chunk = String::new();
    let mut records = letters.records()?;
    while let Some(record) = records.read()? {
        digest.update(records.line());
        missing.saw(record.id);
        if !selection.has(&record) {
            continue;
        }
        if !record.is_pending() {
            done += 1;
            continue;
        }
        let shown = args.file.display();
        if let Some(why) = why_not_replayable(&record) {
            return Err(Failure::configuration(format!("{shown}: record {} cannot be replayed: {why}", record.id)));
        }
        if record.chunk != chunk && !origin.knows(&record)? {
            let message = format!(
                "{shown}: record {} is of chunk {} from {}, which {} does not know",
                record.id,
                record.chunk,
                record.origin,
                origin.path.display()
            );
            return Err(Failure::configuration(message).advise("Give the journal of the run that set these rows aside: --journal PATH."));
        }
        chunk = record.chunk;
        has_foreign |= std::str::from_utf8(&record.raw).is_err();
        wanted.insert(record.id, record.id);
    }
    missing.refuse(letters)?;
    Ok(Scan { wanted, done, has_foreign, digest: format!("{:016x}", digest.digest()) })
}

/// What the journal says of the columns and the machine.
fn known(args: &ReplayArgs, origin: &Origin) -> Result<Known, Failure> {
    let Some(run) = origin.run()? else {
        let message = format!(
            "{} is not there: a replay needs the journal of the run that set the rows aside, which says what their columns are and by \
             which definition they lived",
            origin.path.display()
        );
        return Err(Failure::configuration(message).advise("Say where it is: --journal PATH."));
    };
    if run.settings["rows"]["form"].as_str().is_some_and(|form| form != COPY_ROW) {
        let message = format!("{} is the journal of a pipeline, and only rows of an export can be replayed", origin.path.display());
        return Err(Failure::configuration(message).advise("Put what is to be mended into a file, and run the pipeline on that."));
    }
    let Some(fields) = origin.fields()? else {
        let message = format!("{} does not say what the rows' columns are: it was written by {}", origin.path.display(), run.program);
        return Err(Failure::configuration(message).advise("Export the rows again."));
    };
    let definition = match &args.definition {
        Some(path) => crate::cli::check::definition(path, Some(&vocabulary()))?,
        None => run
            .definition
            .parse()
            .map_err(|error| Failure::configuration(format!("the definition in {} cannot be read: {error}", origin.path.display())))?,
    };
    Ok(Known { fields, definition, identity: run.settings["identity"].clone() })
}

/// How the run ended.
enum Ended {
    Complete(Box<RunReport>),
    Stopped,
}

/// Everything that is decided before the first row.
struct Replay<'a> {
    args: &'a ReplayArgs,
    known: Known,
    scan: Scan,
    outputs: Outputs,
    begin: Begin,
}

impl Replay<'_> {
    fn run(&self, letters: DeadLetters, intent: &Intent) -> Result<(DeadLetters, Ended), Failure> {
        let signals = Signals::listen();
        let compression = self.args.compress.unwrap_or_else(|| Target::Files(self.outputs.to.to_string_lossy().into_owned()).compression());
        let settings = Settings { definition: self.known.definition.clone(), connections: 1, compression, ..Settings::default() };
        let source = match &self.begin {
            Begin::Finish(_) => ReplaySource::nothing(),
            _ => ReplaySource::new(&letters, self.scan.wanted.clone(), settings.limits, compression)?,
        };
        let foreign = self.args.encoding.as_ref().map(|charset| Foreign::new(charset.clone(), &self.known.fields));
        let clock = Clock::real();
        let run = replay_of(source, &self.known.fields, foreign, &settings).clock(clock.clone());
        if !matches!(self.begin, Begin::Finish(_)) {
            intent.write(letters.path())?;
        }
        let running = self.outlets(run).and_then(|run| {
            let journal = SqliteJournal::open(&self.outputs.journal, self.args.mode, self.record(intent, &settings), clock)?;
            let run = run.journal(journal);
            let run = if let Begin::Finish(earlier) = &self.begin { run.carry_over(earlier.carried()) } else { run };
            Ok(run.start()?)
        });
        let running = running.inspect_err(|_| self.forget(letters.path()))?;
        let handle = running.handle();
        signals.watch(handle);
        let result = running.wait();
        signals.unwatch();
        let report =
            result.map_err(|error| Failure::from(error).advise("No record was marked. The same command begins the replay anew."))?;
        let exit = Exit::from(report.outcome);
        if exit == Exit::Stopped {
            if !self.args.quiet {
                eprintln!("stopped; no record was marked. The same command begins the replay anew.");
            }
            return Ok((letters, Ended::Stopped));
        }
        Ok((letters, Ended::Complete(Box::new(report))))
    }

    /// Nothing was begun: what was made for it goes again.
    fn forget(&self, file: &Path) {
        if matches!(self.begin, Begin::Finish(_)) {
            return;
        }
        let _ = remove(&partial_name(&self.outputs.to));
        let _ = remove_journal(&self.outputs.journal);
        let _ = Intent::remove(file);
    }

    fn outlets(&self, run: Orchestrator<Batch>) -> Result<Orchestrator<Batch>, Failure> {
        let options = FileOptions { replace: false, mode: self.args.mode, direct: true };
        let Outputs { to, dead_letter, .. } = &self.outputs;
        let (sink, dead) = match &self.begin {
            Begin::Finish(earlier) => {
                (FileSink::resume([to], options, &earlier.positions)?, DeadLetterSink::resume(dead_letter, options, &earlier.positions)?)
            }
            _ => (FileSink::create([to], options)?, DeadLetterSink::new(dead_letter, options)),
        };
        Ok(run.sink("sink", sink).dead_letter("deadLetter", dead))
    }

    fn record(&self, intent: &Intent, settings: &Settings) -> RunRecord {
        let file = std::path::absolute(&self.args.file).unwrap_or_else(|_| self.args.file.clone());
        RunRecord {
            target: self.args.to.display().to_string(),
            source: json!({ "dead_letter": file }),
            snapshot: None,
            plan: json!({
                "read": { "mode": "dead_letter" }, "ranges": 1, "estimated_rows": self.scan.wanted.len(),
                "records": self.scan.wanted.to_string(),
            }),
            settings: json!({
                "identity": { "dead_letter": file, "digest": intent.digest, "of": self.known.identity },
                "rows": { "form": COPY_ROW, "columns": self.known.fields },
                "encoding": self.args.encoding.as_ref().map(Charset::name),
                "chunk": { "bytes": settings.limits.bytes, "rows": null },
                "compression": settings.compression, "ordered": true, "format": "jsonl",
            }),
        }
    }
}
