//! `sluicegate dlq drop`: records that nobody needs any more.

use super::args::DropArgs;
use super::{Missing, Origin, Selection, claimed, replay};
use crate::cli::exit::{Exit, Failure};
use crate::cli::out::outln;
use crate::cli::values::show_count;
use crate::sink::{Fate, FileOptions, IdSet, write_records};
use std::io::{IsTerminal, Write};

/// Runs the command.
pub fn run(args: &DropArgs) -> Result<Exit, Failure> {
    let origin = Origin::of(&args.file, args.journal.as_deref())?;
    let letters = claimed(&args.file, &origin)?;
    let letters = replay::settle_before_drop(letters)?;
    let selection = Selection::from(&args.select);
    let mut missing = Missing::of(&selection);
    let mut chosen = IdSet::default();
    let mut kept: u64 = 0;
    let mut records = letters.records()?;
    while let Some(record) = records.read()? {
        missing.saw(record.id);
        if selection.has(&record) { chosen.insert(record.id, record.id) } else { kept += 1 }
    }
    missing.refuse(&letters)?;
    if chosen.is_empty() {
        outln!("nothing to drop: no record is meant");
        return Ok(Exit::Complete);
    }
    let what = format!("{} of {} records: {chosen}", show_count(chosen.len()), show_count(chosen.len() + kept));
    if selection.ids.is_none() && !args.yes {
        confirm(&what)?;
    }
    if let Some(archive) = &args.to {
        let options = FileOptions { replace: false, mode: letters.mode(), direct: false };
        write_records(&letters, archive, options, |record| chosen.contains(record.id))?;
    }
    letters.rewrite(|record| if chosen.contains(record.id) { Fate::Drop } else { Fate::Keep })?;
    let archived = args.to.as_ref().map_or(String::new(), |archive| format!("; they are in {}", archive.display()));
    outln!("dropped {what}{archived}");
    Ok(Exit::Complete)
}

/// What was chosen by more than numbers may be more than was meant.
fn confirm(what: &str) -> Result<(), Failure> {
    let refused = |advice: &str| Err(Failure::configuration(format!("this would drop {what}")).advise(advice.to_owned()));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return refused("Nothing was changed. Say --yes if that is meant.");
    }
    eprint!("drop {what}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if ["y", "yes"].contains(&&*answer.trim().to_lowercase()) { Ok(()) } else { refused("Nothing was changed.") }
}
