//! Going on where earlier runs of the same target ended, or saying why that cannot be. What has to be the same is each command's to say.

use super::target::Target;
use crate::cli::exit::Failure;
use crate::cli::values::show_count;
use crate::fsm::{CompileOptions, Definition, compile};
use crate::journal::sqlite::query::{Reader, RunRow};
use crate::journal::sqlite::recover::Earlier;
use crate::journal::sqlite::verify;
use crate::sink::{output_names, present_name};
use crate::source::ChunkLimits;
use crate::trouble::Trouble;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a person sees of a difference at most.
const SHOWN_DIFFERENCES: usize = 8;

/// How a run begins.
pub enum Begin {
    /// With nothing, for a reason if there was something.
    Anew(Option<String>),
    /// It does not: everything is there.
    Complete(Box<Earlier>),
    /// Where earlier runs ended.
    GoOn(Box<Earlier>),
}

/// What a command knows of a run that it is about to begin.
pub struct Question<'a> {
    /// The journal, unless the user wants to start over.
    pub journal: Option<PathBuf>,
    /// The lifecycle of its chunks.
    pub definition: &'a Definition,
    /// Where its rows go.
    pub target: &'a Target,
    /// Whose journal it is if something differs, for people.
    pub stranger: &'a str,
}

/// What a journal means to a command, once the same is asked for as then.
pub struct Verdict {
    /// The outputs.
    pub files: Vec<PathBuf>,
    /// Why it cannot be gone on with, if so.
    pub obstacle: Option<String>,
}

/// What a journal says of earlier runs by this definition; nothing if it is not there.
pub fn read(journal: &Path, definition: &Definition) -> Result<Option<Earlier>, Trouble> {
    Earlier::read(journal, &written_events(definition))
}

/// Looks what the journal of a target knows. The output itself [is looked at](verify_output) before a run goes on with it. `differences` says what was asked for otherwise; `judge` what the journal means if nothing
/// was.
pub fn look(
    question: &Question<'_>,
    differences: impl FnOnce(&Earlier) -> Vec<String>,
    judge: impl FnOnce(&Earlier) -> Verdict,
) -> Result<Begin, Failure> {
    let Some(path) = &question.journal else { return Ok(Begin::Anew(None)) };
    let unusable = |trouble| Failure::from(trouble).advise("Nothing was changed. Give another --journal, or start over with --fresh.");
    let Some(earlier) = read(path, question.definition).map_err(unusable)? else {
        return Ok(Begin::Anew(None));
    };
    if let Target::Stream(_) = question.target {
        return Ok(Begin::Anew(Some("what went into a stream cannot be taken back".into())));
    }
    let mut found = differences(&earlier);
    let definition: Value = serde_json::from_str(&earlier.run.definition).unwrap_or_default();
    compare("definition", &definition, &serde_json::json!(question.definition), &mut found);
    if !found.is_empty() {
        let shown: String = found.iter().take(SHOWN_DIFFERENCES).map(|line| format!("\n  {line}")).collect();
        let more = found.len().saturating_sub(SHOWN_DIFFERENCES);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let message = format!("{} is the journal of {}:{shown}{more}", path.display(), question.stranger);
        return Err(Failure::configuration(message).advise("Ask for the same again to go on with it, or start over with --fresh."));
    }
    let Verdict { files, obstacle } = judge(&earlier);
    if earlier.is_complete() {
        still_there(&files, &earlier)?;
        return Ok(Begin::Complete(Box::new(earlier)));
    }
    if let Some(obstacle) = obstacle.filter(|_| !earlier.was_finishing()) {
        return Ok(Begin::Anew(Some(obstacle)));
    }
    if let Some(chunk) = earlier.written_twice {
        let message = format!("chunk {chunk} is in the output and had more to do by its definition: it cannot be read again");
        return Err(Failure::configuration(message).advise("Start over with --fresh."));
    }
    Ok(Begin::GoOn(Box::new(earlier)))
}

/// Invocations by which a chunk's rows get into a file.
const WRITERS: [&str; 2] = ["sink", "deadLetter"];

/// How a run has cut chunks, which is how who goes on with it has to cut them.
pub fn limits(run: &RunRow) -> ChunkLimits {
    let chunk = &run.settings["chunk"];
    let bytes = chunk["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    ChunkLimits { bytes, rows: chunk["rows"].as_u64().unwrap_or(u64::MAX) }
}

/// The events that say that an output has a chunk.
fn written_events(definition: &Definition) -> Vec<String> {
    let Ok(machine) = compile(definition.clone(), &CompileOptions::default()) else { return Vec::new() };
    let invocations = machine.invocations().map(|id| machine.invocation(id));
    let writers = invocations.filter(|invocation| WRITERS.contains(&invocation.src.as_str()));
    writers.map(|invocation| machine.event_name(invocation.done).to_owned()).collect()
}

/// Walks through two values at once and notes where they differ.
pub fn compare(path: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            a.keys().chain(added).for_each(|key| compare(&format!("{path}.{key}"), &then[key], &now[key], found));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            (0..).zip(a.iter().zip(b)).for_each(|(index, (then, now)): (usize, _)| compare(&format!("{path}[{index}]"), then, now, found));
        }
        _ if then == now => {}
        _ => found.push(format!("{path}: was {then}, is {now}")),
    }
}

/// A complete output that somebody has moved or changed since is not complete.
fn still_there(files: &[PathBuf], earlier: &Earlier) -> Result<(), Failure> {
    for (file, name) in files.iter().zip(output_names(files)) {
        let bytes = durable(earlier, &name);
        let problem = match file.metadata() {
            Err(_) => "is gone".to_owned(),
            Ok(found) if found.len() != bytes => format!("has {} bytes instead of {bytes}", found.len()),
            Ok(_) => continue,
        };
        let message = format!("the journal says that it is complete, but {} {problem}", file.display());
        return Err(Failure::configuration(message).advise("--fresh --force begins anew."));
    }
    Ok(())
}

/// How many bytes of the output of this name are durable.
fn durable(earlier: &Earlier, name: &str) -> u64 {
    earlier.positions.iter().find(|position| &*position.output == name).map_or(0, |position| position.bytes)
}

/// Compares what earlier runs wrote with what the journal says of it.
pub fn verify_output(journal: &Path, files: &[PathBuf], earlier: &Earlier) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::configuration(why).advise("Nothing was changed. --fresh starts over."));
    for ((part, file), name) in (0..).zip(files).zip(output_names(files)) {
        // Without a chunk there may be a head, or not yet.
        let head = earlier.run.settings["head_bytes"].as_u64().unwrap_or(0);
        let durable = durable(earlier, &name);
        let end = earlier.lengths.get(&part).copied().unwrap_or(head.min(durable));
        if durable != end {
            return refused(format!(
                "the journal says that {} is durable up to byte {durable}, but its chunks end at {end}",
                file.display()
            ));
        }
    }
    let files: Vec<PathBuf> = files.iter().map(|file| present_name(file)).collect();
    let verified = verify::outputs(&Reader::open(journal)?, &files)?;
    let Some(problem) = verified.problems.first() else { return Ok(()) };
    refused(format!("the output is not as earlier runs left it: {problem}"))
}

/// For people: "412 of 980 ranges and 5,000 rows done".
pub fn done(earlier: &Earlier, ranges: usize) -> String {
    let (done, all) = (earlier.finished.len() as u64, ranges as u64);
    let rows = earlier.carried().rows;
    let ended = rows.written + rows.filtered + rows.dead_lettered + rows.cancelled;
    format!("{} of {} ranges and {} rows done", show_count(done), show_count(all), show_count(ended))
}
