//! `sluicegate verify`: is the output what the journal says of it, and the table still what was read?

mod source;

use super::args::{Format, VerifyArgs};
use super::exit::{Exit, Failure};
use super::values::{show_count, show_size};
use crate::cli::out::outln;
use crate::journal::sqlite::query::{Reader, RunRow};
use crate::journal::sqlite::verify::{self, Verified};
use crate::sink::present_name;
use serde_json::json;
use source::Compared;
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let reader = Reader::open(&args.journal)?;
    let runs = reader.runs()?;
    let Some(run) = runs.last() else { return Err(Failure::configuration("the journal holds no run")) };
    let files = files(args, &reader, run)?;
    let mut verified = verify::outputs(&reader, &files)?;
    let complete = run.phase == "complete";
    if complete {
        verified.problems.extend(lengths(&verified, &files));
    }
    let compared = if args.against_source { Some(source::compare_with(args, &reader, run)?) } else { None };
    show(&verified, compared.as_ref(), &files, complete, args.format);
    let is_sound = verified.problems.is_empty() && compared.is_none_or(|compared| compared.is_same());
    Ok(if is_sound { Exit::Complete } else { Exit::Unsound })
}

/// The outputs: beside the journal, where they are by default, or where the run was told to put them.
fn files(args: &VerifyArgs, reader: &Reader, run: &RunRow) -> Result<Vec<PathBuf>, Failure> {
    let target = args.output.clone().unwrap_or_else(|| run.target.clone());
    let parts = reader.chunks(None)?.iter().map(|chunk| chunk.part + 1).max().unwrap_or(1);
    let beside = args.journal.parent().filter(|_| args.output.is_none());
    let find = |part: i64| {
        let named = PathBuf::from(target.replace("{n}", &part.to_string()));
        let candidate = beside.zip(named.file_name()).map(|(folder, name)| present_name(&folder.join(name)));
        candidate.filter(|file| file.exists()).unwrap_or_else(|| present_name(&named))
    };
    let files: Vec<PathBuf> = (0..parts).map(find).collect();
    match files.iter().find(|file| !file.exists()) {
        Some(missing) => Err(Failure::configuration(format!("{} is not there", missing.display()))
            .advise("If the output was moved, say where it is: --output PATH.")),
        None => Ok(files),
    }
}

/// A complete output has nothing behind its last chunk.
fn lengths(verified: &Verified, files: &[PathBuf]) -> Option<String> {
    let length = |file: &Path| file.metadata().map_or(0, |found| found.len());
    let found: u64 = files.iter().map(|file| length(file)).sum();
    (found != verified.bytes).then(|| format!("the output has {found} bytes, and its chunks {}", verified.bytes))
}

fn show(verified: &Verified, compared: Option<&Compared>, files: &[PathBuf], complete: bool, format: Format) {
    if format == Format::Json {
        let mut found = json!({ "files": files, "complete": complete, "verified": verified });
        if let Some(compared) = compared {
            found["source"] = json!(compared);
        }
        outln!("{found:#}");
        return;
    }
    verified.problems.iter().for_each(|problem| outln!("{problem}"));
    let (chunks, rows, bytes) = (show_count(verified.chunks), show_count(verified.rows), show_size(verified.bytes));
    let so_far = if complete { "" } else { " (so far: the run is not complete)" };
    outln!("{chunks} chunks, {rows} rows, {bytes} read and compared{so_far}");
    outln!("{}", if verified.problems.is_empty() { "as written" } else { "NOT AS WRITTEN" });
    if let Some(compared) = compared {
        compared.print();
    }
}
