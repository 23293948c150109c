//! What runs have in common, whatever they read: where they write, how they begin, how they are watched, and what they say at the end.

pub mod report;
pub mod resume;
pub mod target;

use super::exit::Failure;
use super::signals::Signals;
use crate::batch::Batch;
use crate::claim::FileClaim;
use crate::clock::Clock;
use crate::engine::{Orchestrator, RunError, RunReport, Running};
use crate::journal::sqlite::{RunRecord, SqliteJournal};
use crate::sink::{DeadLetterSink, Delivery, FileOptions, FileSink, SinkError, StreamSink, claim_partial, each, partial_name};
use crate::trouble::{Trouble, TroubleKind};
use resume::Begin;
use std::path::{Path, PathBuf};
use target::Target;

/// Where a run writes.
pub struct Outputs {
    /// What its rows go to.
    pub target: Target,
    /// The files of that.
    pub files: Vec<PathBuf>,
    /// How files are created.
    pub options: FileOptions,
    /// The dead letter, if there is one.
    pub dead_letter: Option<PathBuf>,
    /// The journal, if there is one.
    pub journal: Option<PathBuf>,
    /// What a user has to name to get a dead letter.
    pub dead_letter_setting: &'static str,
    /// What the output begins with, before its first row: nothing, or a header.
    pub head: Vec<u8>,
}

/// Files that were made for a run. If it does not come to the run, they go again.
#[derive(Default)]
pub struct Created {
    paths: Vec<PathBuf>,
}

impl Created {
    /// The run has begun: the files are its own now.
    pub fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Outputs {
    /// Claims what earlier runs have begun.
    pub fn claim(&self) -> Result<Vec<FileClaim>, Failure> {
        let files = if self.target.is_stream() { &[][..] } else { &self.files };
        Ok(files.iter().filter_map(|file| claim_partial(file).transpose()).collect::<Result<_, Trouble>>()?)
    }

    /// Refuses to write where something is.
    pub fn refuse_existing(&self) -> Result<(), Failure> {
        let there = self.files.iter().filter(|_| !self.target.is_stream()).find(|file| file.symlink_metadata().is_ok());
        let Some(file) = there else { return Ok(()) };
        Err(Failure::configuration(format!("{} exists; give another output, or --force to replace it", file.display())))
    }

    /// Gives a run its outputs and its journal, new or as earlier runs left them.
    pub fn attach(
        &self,
        run: Orchestrator<Batch>,
        begin: &Begin,
        record: RunRecord,
        clock: Clock,
        created: &mut Created,
    ) -> Result<Orchestrator<Batch>, Failure> {
        if let (Some(path), Begin::Anew(reason)) = (&self.journal, begin) {
            if let Some(reason) = reason {
                tracing::warn!("{}: starting over, because {reason}", self.target);
            }
            // Before the output is emptied: the journal would say of it what is not so any more.
            target::remove_journal(path)?;
        }
        let run = self.outlets(run, begin, created)?;
        let Some(path) = &self.journal else { return Ok(run) };
        let run = run.journal(SqliteJournal::open(path, self.options.mode, record, clock)?);
        if let Begin::Anew(_) = begin {
            created.paths.extend(target::journal_files(path));
        }
        Ok(run)
    }

    /// Sink and dead letter, new or as earlier runs left them.
    fn outlets(&self, run: Orchestrator<Batch>, begin: &Begin, created: &mut Created) -> Result<Orchestrator<Batch>, Failure> {
        let Outputs { target, files, options, head, .. } = self;
        let run = match (target, begin) {
            (Target::Files(_), Begin::GoOn(earlier)) => run.sink("sink", FileSink::resume(files, *options, &earlier.positions)?),
            (Target::Files(_), _) => {
                let sink = FileSink::create(files, *options)?.beginning_with(head)?;
                created.paths.extend(files.iter().map(|file| partial_name(file)));
                run.sink("sink", sink)
            }
            (Target::Stream(path), _) => {
                let mut stream = target::open_stream(path)?;
                std::io::Write::write_all(&mut stream, head)
                    .map_err(|error| Trouble::lasting(TroubleKind::Io, format!("{target} cannot be written")).because(error))?;
                run.sink("sink", StreamSink::new(path.display().to_string(), stream))
            }
        };
        Ok(match (&self.dead_letter, begin) {
            (Some(path), Begin::GoOn(earlier)) => {
                run.dead_letter("deadLetter", DeadLetterSink::resume(path, *options, &earlier.positions)?)
            }
            (Some(path), _) => run.dead_letter("deadLetter", DeadLetterSink::new(path, *options)),
            (None, _) => {
                let setting = self.dead_letter_setting;
                run.dead_letter("deadLetter", each(move |delivery: &Delivery<Batch>| no_dead_letter(delivery, setting)))
            }
        })
    }
}

/// Where there is no place for a dead letter unless the user names one, no row may vanish.
fn no_dead_letter(delivery: &Delivery<Batch>, setting: &str) -> Result<(), SinkError> {
    let reason = delivery.rejected.first().map(|rejected| rejected.reason.clone());
    let reason = reason.or_else(|| delivery.errors.last().map(ToString::to_string)).unwrap_or_default();
    let message = format!("{}: a row cannot be written ({reason}); with {setting} such rows are set aside", delivery.origin);
    Err(Trouble::lasting(TroubleKind::Configuration, message).into())
}

/// Waits for the end of a run, with signals in view. Gives its report with the true memory peak.
pub fn wait(running: Running, signals: &Signals) -> Result<RunReport, RunError> {
    signals.watch(running.handle());
    let result = running.wait();
    signals.unwatch();
    result.map(|mut report| {
        let peak = &mut report.metrics.memory.peak_resident_bytes;
        *peak = report::peak_resident_bytes().unwrap_or(0).max(*peak);
        report
    })
}

/// Adds what to do about an error.
pub fn explain(error: RunError, resumable: bool) -> Failure {
    let failure = Failure::from(error);
    match failure.kind() {
        TroubleKind::Io | TroubleKind::Unavailable if !resumable => {
            failure.advise("This run cannot be gone on with: the same command starts over.")
        }
        TroubleKind::Io => failure.advise("What was written so far is kept. Once that is mended, the same command goes on from there."),
        TroubleKind::Unavailable => failure.advise("What was written so far is kept. The same command goes on from there."),
        _ => failure,
    }
}

/// A directory has to be there before anybody is asked for data. `what` names the setting that wants it.
pub fn check_folder(path: &Path, what: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
    let Some(folder) = folder else { return Ok(()) };
    let message = format!("the directory {}{what} does not exist", folder.display());
    Err(Trouble::lasting(TroubleKind::Io, message).into())
}
