//! `sluicegate dlq`: rows that were set aside.

pub mod args;
mod drop;
mod list;
mod replay;
mod show;

use super::exit::{Exit, Failure};
use super::inspect::show_time;
use crate::chunk::ChunkId;
use crate::journal::sqlite::query::{Reader, RunRow};
use crate::sink::{DeadLetters, DeadRecord, IdSet};
use crate::source::postgres::Field;
use args::{DlqArgs, DlqCommand, ListArgs, SelectArgs};
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(args: &DlqArgs) -> Result<Exit, Failure> {
    match &args.command {
        DlqCommand::List(args) => list::run(args),
        DlqCommand::Show(args) => show::run(args),
        DlqCommand::Replay(args) => replay::run(args),
        DlqCommand::Drop(args) => drop::run(args),
    }
}

/// Which records are meant.
#[derive(Default)]
struct Selection<'a> {
    /// `None` means any.
    ids: Option<IdSet>,
    reason: Option<&'a str>,
    chunk: Option<String>,
    pending: Option<bool>,
}

impl<'a> Selection<'a> {
    fn new(ids: &[IdSet], reason: Option<&'a str>, chunk: Option<ChunkId>, pending: Option<bool>) -> Selection<'a> {
        let ids = (!ids.is_empty()).then(|| {
            let mut all = IdSet::default();
            ids.iter().flat_map(IdSet::runs).for_each(|(first, last)| all.insert(first, last));
            all
        });
        Selection { ids, reason, chunk: chunk.map(|chunk| chunk.to_string()), pending }
    }

    fn has(&self, record: &DeadRecord) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(record.id))
            && self.reason.is_none_or(|part| record.reason.contains(part))
            && self.chunk.as_ref().is_none_or(|chunk| *chunk == record.chunk)
            && self.pending.is_none_or(|pending| record.is_pending() == pending)
    }
}

/// `--pending`, `--replayed` or neither.
fn status(pending: bool, replayed: bool) -> Option<bool> {
    (pending || replayed).then_some(pending)
}

impl<'a> From<&'a SelectArgs> for Selection<'a> {
    fn from(args: &'a SelectArgs) -> Selection<'a> {
        Selection::new(&args.ids, args.reason.as_deref(), args.chunk, status(args.pending, args.replayed))
    }
}

impl<'a> From<&'a ListArgs> for Selection<'a> {
    fn from(args: &'a ListArgs) -> Selection<'a> {
        Selection::new(&[], args.reason.as_deref(), args.chunk, status(args.pending, args.replayed))
    }
}

/// Records that were named and are not there. Finds out while others look at the file.
struct Missing {
    ids: Option<IdSet>,
    seen: IdSet,
}

impl Missing {
    fn of(selection: &Selection<'_>) -> Missing {
        Missing { ids: selection.ids.clone(), seen: IdSet::default() }
    }

    fn saw(&mut self, id: u64) {
        self.seen.insert(id, id);
        if let Some(ids) = &mut self.ids {
            ids.remove(id);
        }
    }

    fn refuse(&self, letters: &DeadLetters) -> Result<(), Failure> {
        let Some(ids) = self.ids.as_ref().filter(|ids| !ids.is_empty()) else { return Ok(()) };
        let there = if self.seen.is_empty() { "it has none".to_owned() } else { format!("it has {}", self.seen) };
        Err(Failure::configuration(format!("{} has no record {ids}; {there}", letters.path().display())))
    }
}

/// What a journal knows about records: by its path, and open, if it is there.
struct Origin {
    path: PathBuf,
    reader: Option<Reader>,
    /// The time of the chunk that was asked for last.
    last: Option<(String, Option<i64>)>,
}

impl Origin {
    /// The journal at `given`, or the one beside the dead-letter file, if that is there.
    fn of(file: &Path, given: Option<&Path>) -> Result<Origin, Failure> {
        let path = given.map_or_else(|| journal_beside(file), Path::to_owned);
        let reader = if given.is_some() || path.exists() { Some(Reader::open(&path)?) } else { None };
        Ok(Origin { path, reader, last: None })
    }

    fn run(&self) -> Result<Option<RunRow>, Failure> {
        Ok(self.reader.as_ref().map(Reader::runs).transpose()?.and_then(|mut runs| runs.pop()))
    }

    /// The columns of rows as they came, where the journal says them.
    fn fields(&self) -> Result<Option<Vec<Field>>, Failure> {
        let run = self.run()?;
        Ok(run.and_then(|run| serde_json::from_value(run.settings["rows"]["columns"].clone()).ok()))
    }

    /// When the chunk of a record came to its end.
    fn time(&mut self, record: &DeadRecord) -> Result<Option<String>, Failure> {
        if self.last.as_ref().is_none_or(|(chunk, _)| *chunk != record.chunk) {
            let id = record.chunk.parse::<ChunkId>().ok();
            let walk = match (&self.reader, id) {
                (Some(reader), Some(id)) => reader.walk(id)?,
                _ => Vec::new(),
            };
            self.last = Some((record.chunk.clone(), walk.last().map(|step| step.at)));
        }
        Ok(self.last.as_ref().and_then(|(_, at)| at.map(show_time)))
    }

    /// Whether the chunk of a record is one that this run has read from where the record says.
    fn knows(&self, record: &DeadRecord) -> Result<bool, Failure> {
        let (Some(reader), Ok(id)) = (&self.reader, record.chunk.parse::<ChunkId>()) else { return Ok(false) };
        Ok(reader.chunk(id)?.is_some_and(|chunk| chunk.origin == record.origin))
    }

    /// A run that is not complete may still cut and continue the file.
    fn refuse_unfinished(&self, file: &Path) -> Result<(), Failure> {
        let Some(run) = self.run()?.filter(|run| run.phase != "complete") else { return Ok(()) };
        let message = format!("{} is of a run that is not complete ({}, by {})", file.display(), run.phase, self.path.display());
        Err(Failure::configuration(message).advise(FINISH_FIRST))
    }
}

const FINISH_FIRST: &str = "Run the same export again first: it goes on, and cuts the dead letter to what is certain.";

/// `NAME.journal` for `NAME.dead.jsonl`.
fn journal_beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".partial").unwrap_or(&name);
    let stem = name.strip_suffix(".dead.jsonl").unwrap_or(name);
    file.with_file_name(format!("{stem}.journal"))
}

/// The file, claimed to be changed.
fn claimed(file: &Path, origin: &Origin) -> Result<DeadLetters, Failure> {
    let letters = DeadLetters::claim(file).map_err(|trouble| {
        let unfinished = trouble.to_string().ends_with("not complete");
        let failure = Failure::from(trouble);
        if unfinished { failure.advise(FINISH_FIRST) } else { failure }
    })?;
    origin.refuse_unfinished(file)?;
    Ok(letters)
}

/// Bytes as people can read them: text as it is, everything else in escapes.
fn readable(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for part in bytes.utf8_chunks() {
        for letter in part.valid().chars() {
            if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
        }
        part.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
    }
    shown
}
