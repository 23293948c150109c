//! Going on where earlier runs of the same export ended, or saying why that cannot be.

use super::super::args::Consistency;
use super::super::exit::Failure;
use super::super::job::resume::{self as common, Begin, Question, Verdict, compare};
use super::super::job::target::Target;
use super::{Job, Table};
use crate::journal::sqlite::give_up;
use crate::journal::sqlite::recover::Earlier;
use crate::sink::{output_names, present_name};
use crate::source::postgres::{Cut, Export, ServerFacts, Session, SnapshotFacts};
use serde_json::{Value, json};
use std::path::Path;

/// Looks what the journal of an export knows. What is resumed is cut into the same ranges as before.
pub fn look(job: &Job<'_>, session: &Session, export: &mut Export, target: &Target) -> Result<Begin, Failure> {
    let question = Question {
        journal: job.journal(target).filter(|_| !job.starts_over),
        definition: &job.settings.definition,
        target,
        stranger: "another export, or of a table that is another by now",
    };
    let differences = differences(job, session, export, target);
    common::look(&question, differences, |earlier| {
        if let Some(cut) = earlier_cut(earlier) {
            export.cut_as(cut);
        }
        let obstacle = export.cut.is_none().then(|| "what is read by one statement cannot be continued".to_owned());
        Verdict { files: target.files(export), obstacle }
    })
}

/// Makes sure that the outputs are as earlier runs left them. By key, every range that is not finished is given up, to be read again as a
/// whole: at another moment it has other rows.
pub fn check(job: &Job<'_>, export: &Export, target: &Target, earlier: &mut Earlier) -> Result<(), Failure> {
    let Some(journal) = job.journal(target) else { return Ok(()) };
    common::verify_output(&journal, &target.files(export), earlier)?;
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
        && let Some(rest) = common::read(&journal, &job.settings.definition)?
    {
        *earlier = rest;
    }
    Ok(())
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
fn differences(job: &Job<'_>, session: &Session, export: &Export, target: &Target) -> impl FnOnce(&Earlier) -> Vec<String> + use<> {
    let server = session.server().clone();
    let settings = job.output_settings(export, target);
    let is_by_key = export.is_by_key();
    let (target, heaps) = (target.to_string(), heap_files(&json!(export.cut)));
    move |earlier| {
        let mut found = Vec::new();
        compare_servers(&earlier.run.source["facts"], &server, is_by_key, &mut found);
        // The directory may have another name by now, but another file is another export's.
        let name = |target: &str| json!(Path::new(target).file_name().map(|name| name.to_string_lossy().into_owned()));
        compare("target", &name(&earlier.run.target), &name(&target), &mut found);
        for key in ["identity", "compression", "ordered", "format"] {
            compare(key, &earlier.run.settings[key], &settings[key], &mut found);
        }
        compare("heaps", &heap_files(&earlier.run.plan["cut"]), &heaps, &mut found);
        found
    }
}
