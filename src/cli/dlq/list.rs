//! `sluicegate dlq list`: a line for each record, or how many there are of each kind.

use super::args::ListArgs;
use super::{Origin, Selection, readable};
use crate::cli::args::ListFormat;
use crate::cli::exit::{Exit, Failure};
use crate::cli::inspect::table::{Cell, Table};
use crate::cli::out::outln;
use crate::cli::values::show_count;
use crate::sink::{DeadLetters, DeadRecord, Records};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::json;

/// So many characters of a row are shown.
const PREVIEW: usize = 60;

/// So many lines of a table are laid out together.
const PAGE: usize = 1000;

/// So many reasons are told apart: what is different in every row is none.
const MOST_REASONS: usize = 1000;

/// What stands for the reasons behind these.
const OTHERS: &str = "(other reasons)";

/// A record in a list.
#[derive(Serialize)]
struct Item {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    chunk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    origin: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<crate::sink::Replayed>,
    reason: String,
    /// The beginning of the row.
    preview: String,
}

/// Runs the command.
pub fn run(args: &ListArgs) -> Result<Exit, Failure> {
    let letters = DeadLetters::open(&args.file)?;
    let mut records = Matching { records: letters.records()?, selection: args.into() };
    if args.summary {
        return summary(&mut records, args.format);
    }
    let mut origin = Origin::of(&args.file, args.journal.as_deref())?;
    let mut pages = Pages { records, origin: &mut origin };
    match args.format {
        ListFormat::Json => json_array(&mut pages)?,
        ListFormat::Table | ListFormat::Jsonl => {
            let mut table = Table::new(&["id", "time", "chunk", "row", "status", "reason", "content"]);
            let mut is_empty = true;
            loop {
                let page = pages.next()?;
                is_empty &= page.is_empty();
                if page.is_empty() {
                    break;
                }
                table.append(args.format, &page, cells);
            }
            if is_empty && args.format == ListFormat::Table {
                outln!("none");
            }
        }
    }
    Ok(Exit::Complete)
}

/// The records that are meant.
struct Matching<'a> {
    records: Records,
    selection: Selection<'a>,
}

impl Matching<'_> {
    fn next(&mut self) -> Result<Option<DeadRecord>, Failure> {
        while let Some(record) = self.records.read()? {
            if self.selection.has(&record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

struct Pages<'a> {
    records: Matching<'a>,
    origin: &'a mut Origin,
}

impl Pages<'_> {
    /// Some more items; none at the end.
    fn next(&mut self) -> Result<Vec<Item>, Failure> {
        let mut page = Vec::new();
        while page.len() < PAGE
            && let Some(record) = self.records.next()?
        {
            let time = self.origin.time(&record)?;
            page.push(item(record, time));
        }
        Ok(page)
    }
}

fn item(record: DeadRecord, time: Option<String>) -> Item {
    let status = if record.is_pending() { "pending" } else { "replayed" };
    let shown: Vec<char> = readable(&record.raw[..record.raw.len().min(PREVIEW * 4)]).chars().take(PREVIEW + 1).collect();
    let mut preview: String = shown.iter().take(PREVIEW).collect();
    if shown.len() > PREVIEW {
        preview.push('…');
    }
    let DeadRecord { id, chunk, row, origin, replayed, reason, .. } = record;
    Item { id, time, chunk, row, origin, status, replayed, reason, preview }
}

fn cells(item: &Item) -> Vec<Cell> {
    vec![
        Cell::number(Some(item.id.cast_signed())),
        Cell::text(item.time.as_deref().unwrap_or("")),
        Cell::text(&item.chunk),
        Cell::number(item.row.map(u64::cast_signed)),
        Cell::text(item.status),
        Cell::text(&item.reason),
        Cell::text(&item.preview),
    ]
}

/// One document, however many items there are.
fn json_array(pages: &mut Pages<'_>) -> Result<(), Failure> {
    let mut before = "[";
    loop {
        let page = pages.next()?;
        if page.is_empty() {
            break;
        }
        for item in &page {
            outln!("{before}{}", serde_json::to_string(item).unwrap_or_default());
            before = ",";
        }
    }
    outln!("{}", if before == "[" { "[]" } else { "]" });
    Ok(())
}

/// Records with one reason.
#[derive(Serialize)]
struct Group {
    reason: String,
    records: u64,
    pending: u64,
    /// The first of them, for an example.
    first: u64,
}

/// A reason without its numbers, which differ from row to row.
fn kind_of(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    let mut letters = reason.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        // Not the 8 of `UTF-8`: a number stands by itself.
        if letter.is_ascii_digit() && before == ' ' {
            let mut number = String::from(letter);
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            let stands_alone = letters.peek().is_none_or(|next| !next.is_alphanumeric());
            if stands_alone {
                kind.push('N')
            } else {
                kind.push_str(&number)
            }
            before = '0';
        } else {
            kind.push(letter);
            before = letter;
        }
    }
    kind
}

fn summary(records: &mut Matching<'_>, format: ListFormat) -> Result<Exit, Failure> {
    let mut groups: IndexMap<String, Group> = IndexMap::new();
    while let Some(record) = records.next()? {
        let mut reason = kind_of(&record.reason);
        if groups.len() >= MOST_REASONS && !groups.contains_key(&reason) {
            OTHERS.clone_into(&mut reason);
        }
        let new = Group { reason: reason.clone(), records: 0, pending: 0, first: record.id };
        let group = groups.entry(reason).or_insert(new);
        group.records += 1;
        group.pending += u64::from(record.is_pending());
    }
    groups.sort_by(|_, one, _, other| other.records.cmp(&one.records));
    let groups: Vec<Group> = groups.into_values().collect();
    let (all, pending) = groups.iter().fold((0, 0), |(all, pending), group| (all + group.records, pending + group.pending));
    match format {
        ListFormat::Table => {
            let mut table = Table::new(&["records", "pending", "first", "reason"]);
            if !groups.is_empty() {
                table.append(format, &groups, |group| {
                    let number = |number: u64| Cell::right(show_count(number));
                    vec![number(group.records), number(group.pending), number(group.first), Cell::text(&group.reason)]
                });
            }
            outln!("{} records, {} pending, {} replayed", show_count(all), show_count(pending), show_count(all - pending));
        }
        ListFormat::Json => outln!("{:#}", json!({ "records": all, "pending": pending, "replayed": all - pending, "reasons": groups })),
        ListFormat::Jsonl => groups.iter().for_each(|group| outln!("{}", json!(group))),
    }
    Ok(Exit::Complete)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reasons_are_one_whatever_their_numbers_are() {
        assert_eq!(super::kind_of("not UTF-8: byte 12 of the row"), "not UTF-8: byte N of the row");
        assert_eq!(super::kind_of("field 3, 4x 5"), "field N, 4x N");
    }
}
