//! A Postgres table to JSON lines, from code: plan, export, and compare every line with what the server itself makes of the row.
//!
//! Run with `DATABASE_URL=postgres://me@localhost/test cargo run --example 04_export_postgres`. The role must be allowed to create a
//! schema; the example makes one of its own, and drops it at the end.

use sluicegate::Outcome;
use sluicegate::export::{Settings, orchestrator};
use sluicegate::sink::{DeadLetterSink, FileOptions, FileSink};
use sluicegate::source::postgres::{ChunkLimits, ConnInfo, Connector, Export, Request, Session};
use std::error::Error;
use std::process::ExitCode;

const SCHEMA: &str = "sluicegate_example";

/// Enough rows for several chunks, and values that are easy to get wrong.
const SETUP: &str = r#"
    DROP SCHEMA IF EXISTS sluicegate_example CASCADE;
    CREATE SCHEMA sluicegate_example;
    CREATE TABLE sluicegate_example.reading (
        id bigint, taken timestamptz, value numeric, "Wort" text, tags text[], detail jsonb, raw bytea);
    INSERT INTO sluicegate_example.reading
        SELECT n, timestamptz '2026-01-01 12:00+01' + n * interval '1 minute 1 microsecond', n / 7.0,
            CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN E'tab\t "quote" \\ ü 🦀' ELSE '' END,
            ARRAY['a', NULL, n::text], jsonb_build_object('n', n, 'deep', jsonb_build_array(true, null)), decode(md5(n::text), 'hex')
        FROM generate_series(1, 20000) n;
    INSERT INTO sluicegate_example.reading VALUES (0, '-infinity', 'NaN', 'no detail', '{}', NULL, '\x');
    ANALYZE sluicegate_example.reading;
"#;

fn main() -> ExitCode {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        eprintln!("This example needs a Postgres database. Say which:\n");
        eprintln!("  DATABASE_URL=postgres://me@localhost/test cargo run --example 04_export_postgres\n");
        eprintln!("It creates the schema {SCHEMA} there, exports a small table, and drops the schema again.");
        return ExitCode::from(2);
    };
    match run(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let mut client = Connector::new(ConnInfo::parse(url)?)?.client()?;
    client.batch_execute(SETUP)?;
    let exported = export(url, &mut client);
    client.batch_execute("DROP SCHEMA sluicegate_example CASCADE")?;
    exported
}

fn export(url: &str, client: &mut postgres::Client) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reading.jsonl");

    // A session holds one snapshot: whatever is written to the database meanwhile, all lines are of one moment.
    let mut session = Session::connect(url)?;
    let export = Export::table(&mut session, "sluicegate_example.reading", &Request::default())?;
    println!("{} with the columns {}", export.shown(), export.columns.join(", "));
    println!("about {} rows in {} page ranges, read as {:?}", export.estimated_rows.unwrap_or(0), export.ranges.len(), export.mode);

    // Small chunks, only to have more of them here; the output is the same for any settings.
    let settings = Settings { limits: ChunkLimits { bytes: 64 << 10, ..ChunkLimits::default() }, ..Settings::default() };
    let report = orchestrator(&session, export, &settings)
        .sink("sink", FileSink::create([&path], FileOptions::default())?)
        .dead_letter("deadLetter", DeadLetterSink::new(&folder.path().join("reading.dead.jsonl"), FileOptions::default()))
        .run()?;
    println!("\n{report}");
    println!("{} chunks, {} bytes", report.metrics.chunks_settled, report.metrics.bytes.written);
    assert_eq!((report.outcome, report.rows.written), (Outcome::Complete, 20_001));

    // The reference is the server itself: every line equals its `row_to_json`, byte for byte, in the table's order.
    let output = std::fs::read_to_string(&path)?;
    client.batch_execute("SET TimeZone TO 'UTC'")?;
    let rows = client.query("SELECT row_to_json(r)::text FROM sluicegate_example.reading r ORDER BY ctid", &[])?;
    assert_eq!(output.lines().count(), rows.len());
    for (line, row) in output.lines().zip(&rows) {
        assert_eq!(line, row.get::<_, &str>(0));
    }
    println!("All {} lines equal the server's own row_to_json. The first and the last:\n", rows.len());
    println!("{}", output.lines().next().unwrap_or_default());
    println!("{}", output.lines().last().unwrap_or_default());
    Ok(())
}
