//! `sluicegate dlq show`: everything about single records.

use super::args::ShowArgs;
use super::{Missing, Origin, Selection, readable};
use crate::cli::args::ListFormat;
use crate::cli::exit::{Exit, Failure};
use crate::cli::out::{self, outln};
use crate::sink::{DeadLetters, DeadRecord};
use crate::source::postgres::{COPY_ROW, Field, Foreign, copy_fields};
use serde_json::{Map, Value};

/// Runs the command.
pub fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    let letters = DeadLetters::open(&args.file)?;
    let selection = Selection::new(&args.ids, None, None, None);
    let mut missing = Missing::of(&selection);
    let mut origin = Origin::of(&args.file, args.journal.as_deref())?;
    let fields = origin.fields()?;
    let foreign = args.encoding.as_ref().map(|charset| Foreign::new(charset.clone(), fields.as_deref().unwrap_or_default()));
    let mut records = letters.records()?;
    let mut separator = if args.format == ListFormat::Json { "[" } else { "" };
    while let Some(record) = records.read()? {
        missing.saw(record.id);
        if !selection.has(&record) {
            continue;
        }
        if args.raw {
            out::bytes(&record.raw);
            out::bytes(b"\n");
            continue;
        }
        let shown = Shown::of(&record, &mut origin, fields.as_deref(), foreign.as_ref())?;
        match args.format {
            ListFormat::Table => shown.print(separator),
            ListFormat::Json => outln!("{separator}{:#}", shown.to_json()),
            ListFormat::Jsonl => outln!("{}", shown.to_json()),
        }
        separator = if args.format == ListFormat::Json { "," } else { "\n" };
    }
    if args.format == ListFormat::Json {
        outln!("{}", if separator == "[" { "[]" } else { "]" });
    }
    missing.refuse(&letters)?;
    Ok(Exit::Complete)
}

/// A record with what others know of it.
struct Shown<'a> {
    record: &'a DeadRecord,
    time: Option<String>,
    /// Names and values, where both are known; NULL is none.
    columns: Option<Vec<(String, Option<Vec<u8>>)>>,
    /// Why the encoding that was asked for is not the row's.
    wrong_encoding: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(record: &'a DeadRecord, origin: &mut Origin, fields: Option<&[Field]>, foreign: Option<&Foreign>) -> Result<Shown<'a>, Failure> {
        let is_foreign = record.form == COPY_ROW && std::str::from_utf8(&record.raw).is_err();
        let decoded = foreign.filter(|_| is_foreign).map(|foreign| foreign.decode(&record.raw)).transpose();
        let (text, wrong_encoding) = match decoded {
            Ok(decoded) => (decoded, None),
            Err(why) => (None, Some(why)),
        };
        let values = copy_fields(text.as_deref().unwrap_or(&record.raw));
        let columns = fields
            .filter(|fields| record.form == COPY_ROW && fields.len() == values.len())
            .map(|fields| fields.iter().map(|field| field.name.clone()).zip(values).collect());
        Ok(Shown { record, time: origin.time(record)?, columns, wrong_encoding })
    }

    fn print(&self, separator: &str) {
        let record = self.record;
        let time = self.time.as_ref().map_or(String::new(), |time| format!(", {time}"));
        outln!("{separator}record {}{time}", record.id);
        outln!("  reason   {}", record.reason);
        record.errors.iter().for_each(|error| outln!("  error    {error}"));
        let row = record.row.map_or(String::new(), |row| format!(", row {row}"));
        outln!("  from     {}, chunk {}{row}", record.origin, record.chunk);
        match &record.replayed {
            Some(replayed) => outln!("  status   replayed {} into {}", replayed.at, replayed.to),
            None => outln!("  status   pending"),
        }
        if let Some(why) = &self.wrong_encoding {
            outln!("  encoding {why}");
        }
        let Some(columns) = &self.columns else {
            outln!("  {:<8} {}", record.form, readable(&record.raw));
            return;
        };
        let width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in columns {
            outln!("    {name:<width$}  {}", value.as_deref().map_or("NULL".into(), readable));
        }
    }

    fn to_json(&self) -> Value {
        let mut value = self.record.to_json();
        value["status"] = if self.record.is_pending() { "pending" } else { "replayed" }.into();
        if let Some(time) = &self.time {
            value["time"] = time.as_str().into();
        }
        if let Some(columns) = &self.columns {
            // What is no text is shown as it is to people.
            let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap_or_else(|_| readable(value));
            let columns = columns.iter().map(|(name, value)| (name.clone(), value.as_ref().map(text).into()));
            value["columns"] = columns.collect::<Map<_, _>>().into();
        }
        value
    }
}
