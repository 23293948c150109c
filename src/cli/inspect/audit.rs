//! `sluicegate inspect … audit`.

use super::super::args::ListFormat;
use super::super::exit::{Exit, Failure};
use super::super::values::show_count;
use crate::cli::out::outln;
use crate::journal::sqlite::audit::Audit;
use crate::journal::sqlite::query::Reader;

/// So many findings are printed.
const SHOWN: usize = 50;

/// Audits and prints what was found.
pub fn show(reader: &Reader, format: ListFormat) -> Result<Exit, Failure> {
    let audit = Audit::of(reader)?;
    let exit = if audit.is_sound() { Exit::Complete } else { Exit::Unsound };
    if format != ListFormat::Table {
        let text = if format == ListFormat::Json { serde_json::to_string_pretty(&audit) } else { serde_json::to_string(&audit) };
        outln!("{}", text.unwrap_or_default());
        return Ok(exit);
    }
    for finding in audit.findings.iter().take(SHOWN) {
        outln!("{finding}");
    }
    if audit.total_findings > SHOWN as u64 {
        outln!("and {} more", show_count(audit.total_findings - SHOWN as u64));
    }
    let so_far = if audit.complete { "" } else { " (so far: the run is not complete)" };
    outln!("{} chunks, {} transitions replayed", show_count(audit.chunks), show_count(audit.transitions));
    outln!("rows: {}{so_far}", audit.rows);
    outln!("{}", if audit.is_sound() { "sound" } else { "NOT SOUND" });
    Ok(exit)
}
