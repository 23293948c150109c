//! Going on where earlier runs of the same export ended, or saying why that cannot be.

use super::super::args::Consistency;
use super::super::exit::Failure;
use super::super::values::show_count;
use super::target::Target;
use super::{Job, Table};
use crate::fsm::{CompileOptions, Definition, compile};
use crate::journal::sqlite::query::{Reader, RunRow};
use crate::journal::sqlite::recover::Earlier;
use crate::journal::sqlite::{give_up, verify};
use crate::sink::{output_names, present_name};
use crate::source::postgres::{ChunkLimits, Cut, Export, ServerFacts, Session, SnapshotFacts};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a person sees of a difference at most.
const SHOWN_DIFFERENCES: usize = 8;

/// Invocations by which a chunk's rows get into a file.
const WRITERS: [&str; 2] = ["sink", "deadLetter"];

/// How an export begins.
pub enum Begin {
    /// With nothing, for a reason if there was something.
    Anew(Option<String>),
    /// It does not: everything is there.
    Complete(Box<Earlier>),
    /// Where earlier runs ended.
    GoOn(Box<Earlier>),
}

/// Looks what the journal of an export knows. What is resumed is cut into the same ranges as before.
pub fn look(job: &Job<'_>, session: &Session, export: &mut Export, target: &Target) -> Result<Begin, Failure> {
    let Some(path) = job.journal(target).filter(|_| !job.starts_over) else { return Ok(Begin::Anew(None)) };
    let unusable = |trouble| Failure::from(trouble).advise("Nothing was changed. Give another --journal, or start over with --fresh.");
    let Some(earlier) = Earlier::read(&path, &written_events(&job.settings.definition)).map_err(unusable)? else {
        return Ok(Begin::Anew(None));
    };
    if let Target::Stream(_) = target {
        return Ok(Begin::Anew(Some("what went into a stream cannot be taken back".into())));
    }
    let differences = differences(job, session, export, target, &earlier);
    if !differences.is_empty() {
        let shown: String = differences.iter().take(SHOWN_DIFFERENCES).map(|line| format!("\n  {line}")).collect();
        let more = differences.len().saturating_sub(SHOWN_DIFFERENCES);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let message = format!("{} is the journal of another export, or of a table that is another by now:{shown}{more}", path.display());
        return Err(Failure::configuration(message).advise("Ask for the same again to go on with it, or start over with --fresh."));
    }
    if let Some(cut) = earlier_cut(&earlier) {
        export.cut_as(cut);
    }
    if earlier.is_complete() {
        still_there(target, export, &earlier)?;
        return Ok(Begin::Complete(Box::new(earlier)));
    }
    if export.cut.is_none() && !earlier.was_finishing() {
        return Ok(Begin::Anew(Some("what is read by one statement cannot be continued".into())));
    }
    if let Some(chunk) = earlier.written_twice {
        let message = format!("chunk {chunk} is in the output and had more to do by its definition: it cannot be read again");
        return Err(Failure::configuration(message).advise("Start over with --fresh."));
    }
    Ok(Begin::GoOn(Box::new(earlier)))
}

/// Makes sure that the outputs are as earlier runs left them. By key, every range that is not finished is given up, to be read again as a
/// whole: at another moment it has other rows.
pub fn check(job: &Job<'_>, export: &Export, target: &Target, earlier: &mut Earlier) -> Result<(), Failure> {
    let Some(journal) = job.journal(target) else { return Ok(()) };
    verify_output(&journal, target, export, earlier)?;
    if export.is_by_key() {
        keep_whole_ranges(job, export, target, earlier)?;
    }
    Ok(())
}

/// Gives up what was done of ranges that are not finished.
fn keep_whole_ranges(job: &Job<'_>, export: &Export, target: &Target, earlier: &mut Earlier) -> Result<(), Failure> {
    let Some(journal) = job.journal(target) else { return Ok(()) };
    let dead = job.dead_letter(target).map(|file| (output_names(&[&file]).swap_remove(0), present_name(&file)));
    let dead = dead.as_ref().map(|(name, file)| (&**name, file.as_path()));
    if give_up::unfinished_ranges(&journal, &output_names(&target.files(export)), dead)?
        && let Some(rest) = Earlier::read(&journal, &written_events(&job.settings.definition))?
    {
        *earlier = rest;
    }
    Ok(())
}

/// The events that say that an output has a chunk.
fn written_events(definition: &Definition) -> Vec<String> {
    let Ok(machine) = compile(definition.clone(), &CompileOptions::default()) else { return Vec::new() };
    let invocations = machine.invocations().map(|id| machine.invocation(id));
    let writers = invocations.filter(|invocation| WRITERS.contains(&invocation.src.as_str()));
    writers.map(|invocation| machine.event_name(invocation.done).to_owned()).collect()
}

/// How chunks were cut then, which is how they have to be cut now.
pub fn limits(earlier: &Earlier) -> ChunkLimits {
    chunk_limits(&earlier.run)
}

/// How a run has cut chunks.
pub fn chunk_limits(run: &RunRow) -> ChunkLimits {
    let chunk = &run.settings["chunk"];
    let bytes = chunk["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    ChunkLimits { bytes, rows: chunk["rows"].as_u64().unwrap_or(u64::MAX) }
}

/// The snapshot of the last run, which by then was proved to show the same as those before it.
pub fn snapshot(earlier: &Earlier) -> Option<SnapshotFacts> {
    serde_json::from_value(earlier.run.snapshot.clone()).ok()
}

fn earlier_cut(earlier: &Earlier) -> Option<Cut> {
    serde_json::from_value(earlier.run.plan["cut"].clone()).ok()
}

/// Makes sure that everything exported so far is what the session's snapshot shows too. Answers whether it is not, and the user wants to
/// go on all the same.
pub fn prove(job: &Job<'_>, session: &mut Session, tables: &mut [Table]) -> Result<bool, Failure> {
    let is_all_read = |table: &Table| match &table.begin {
        Begin::Complete(_) => true,
        Begin::GoOn(earlier) => earlier.was_finishing(),
        Begin::Anew(_) => false,
    };
    let nothing_is_left = tables.iter().all(is_all_read);
    if tables.iter().all(|table| matches!(table.begin, Begin::Complete(_))) {
        return Ok(false);
    }
    if job.by_key() {
        return Ok(false);
    }
    let mut mixed = false;
    for table in tables {
        let (Begin::Complete(earlier) | Begin::GoOn(earlier)) = &mut table.begin else { continue };
        let change = match snapshot(earlier) {
            _ if nothing_is_left => None,
            Some(before) if before.frozen && session.snapshot().frozen => {
                same_standstill(&before, session, &table.export.shown())?;
                None
            }
            Some(before) => table.export.changes_since(session, &before, &earlier.finished)?,
            None => Some("the journal does not say under which snapshot it was exported".to_owned()),
        };
        mixed |= earlier.run.snapshot["mixed"] == true;
        let Some(change) = change else { continue };
        accept(job, table, &change)?;
        mixed = true;
    }
    Ok(mixed)
}

/// What stands still at the same place of the log shows the same rows on the same pages, whichever clone of the cluster it is: that it
/// is one, and on the same timeline, was compared before.
fn same_standstill(before: &SnapshotFacts, session: &Session, shown: &str) -> Result<(), Failure> {
    let place = |facts: &SnapshotFacts| facts.lsn.clone().unwrap_or_else(|| "an unknown place".into());
    let (then, now) = (place(before), place(session.snapshot()));
    if then == now {
        return Ok(());
    }
    let message = format!("{shown} was begun on a standby that stood at {then}, and this one stands at {now}");
    let advice = format!(
        "Have a clone stop at {then} (docs/frozen.md says how); or leave --consistency frozen out, and it goes on if the table is proved \
         unchanged; or start over with --fresh."
    );
    Err(Failure::configuration(message).advise(advice))
}

/// The table has changed since: that is the end, unless the user said otherwise.
fn accept(job: &Job<'_>, table: &mut Table, change: &str) -> Result<(), Failure> {
    let shown = table.export.shown();
    let refuse = |why: String| {
        let advice =
            "--fresh exports it anew under one snapshot; --consistency mixed goes on all the same, and rows may be lost or doubled.";
        Err(Failure::configuration(why).advise(advice))
    };
    if job.args.consistency != Consistency::Mixed {
        return refuse(format!("{shown} has changed since it was begun, so the rest would not fit to what is there: {change}"));
    }
    if job.args.unordered {
        return refuse(format!(
            "{shown} has changed since it was begun, and was written without order, so that ranges cannot be told apart: {change}"
        ));
    }
    tracing::warn!("{shown} has changed since it was begun ({change}): going on under another snapshot, rows may be lost or doubled");
    match &mut table.begin {
        Begin::GoOn(earlier) => keep_whole_ranges(job, &table.export, &table.target, earlier),
        _ => Ok(()),
    }
}

/// What of a server is not as it was `then`, and has to be.
pub fn compare_servers(then: &Value, now: &ServerFacts, by_key: bool, found: &mut Vec<String>) {
    let mut now = json!({
        "system_identifier": now.system_identifier, "timeline": now.timeline, "database": now.database, "encoding": now.encoding,
        "block_bytes": now.block_bytes, "search_path": now.search_path, "lc_monetary": now.lc_monetary,
    });
    if by_key {
        // Another moment, as every range is.
        now["timeline"] = then["timeline"].clone();
    }
    for (key, now) in now.as_object().into_iter().flatten() {
        compare(&format!("server.{key}"), &then[key], now, found);
    }
}

/// The files behind a table's heaps: others after a rewrite.
pub fn heap_files(cut: &Value) -> Value {
    let files = cut["heaps"].as_array().into_iter().flatten();
    files.map(|heap| json!({ "oid": heap["oid"], "file_node": heap["file_node"] })).collect()
}

/// Everything that decides what the output looks like, and is not as it was.
fn differences(job: &Job<'_>, session: &Session, export: &Export, target: &Target, earlier: &Earlier) -> Vec<String> {
    let mut found = Vec::new();
    compare_servers(&earlier.run.source["facts"], session.server(), export.is_by_key(), &mut found);
    // The directory may have another name by now, but another file is another export's.
    let name = |target: &str| json!(Path::new(target).file_name().map(|name| name.to_string_lossy().into_owned()));
    compare("target", &name(&earlier.run.target), &name(&target.to_string()), &mut found);
    let settings = job.output_settings(export, target);
    for key in ["identity", "compression", "ordered", "format"] {
        compare(key, &earlier.run.settings[key], &settings[key], &mut found);
    }
    compare("heaps", &heap_files(&earlier.run.plan["cut"]), &heap_files(&json!(export.cut)), &mut found);
    let definition: Value = serde_json::from_str(&earlier.run.definition).unwrap_or_default();
    compare("definition", &definition, &json!(job.settings.definition), &mut found);
    found
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
fn still_there(target: &Target, export: &Export, earlier: &Earlier) -> Result<(), Failure> {
    let files = target.files(export);
    for (file, name) in files.iter().zip(output_names(&files)) {
        let bytes = durable(earlier, &name);
        let problem = match file.metadata() {
            Err(_) => "is gone".to_owned(),
            Ok(found) if found.len() != bytes => format!("has {} bytes instead of {bytes}", found.len()),
            Ok(_) => continue,
        };
        let message = format!("the journal says that the export is complete, but {} {problem}", file.display());
        return Err(Failure::configuration(message).advise("--fresh --force exports it anew."));
    }
    Ok(())
}

/// How many bytes of the output of this name are durable.
fn durable(earlier: &Earlier, name: &str) -> u64 {
    earlier.positions.iter().find(|position| &*position.output == name).map_or(0, |position| position.bytes)
}

/// Compares what earlier runs wrote with what the journal says of it.
fn verify_output(journal: &Path, target: &Target, export: &Export, earlier: &Earlier) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::configuration(why).advise("Nothing was changed. --fresh starts over."));
    let files = target.files(export);
    for ((part, file), name) in (0..).zip(&files).zip(output_names(&files)) {
        let (durable, end) = (durable(earlier, &name), earlier.lengths.get(&part).copied().unwrap_or(0));
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
pub fn done(earlier: &Earlier, export: &Export) -> String {
    let (done, all) = (earlier.finished.len() as u64, export.ranges.len() as u64);
    let rows = earlier.carried().rows;
    let ended = rows.written + rows.filtered + rows.dead_lettered + rows.cancelled;
    format!("{} of {} ranges and {} rows done", show_count(done), show_count(all), show_count(ended))
}
