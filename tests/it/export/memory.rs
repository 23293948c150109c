//! The memory limit holds: peak resident memory of the real program stays below it and 32 MiB, whatever flows.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, row_to_json};
use std::process::{Child, Stdio};
use std::time::Duration;

/// What a process may need beyond the limit: its code, stacks, the library's own tables.
const OVERHEAD: u64 = 32 << 20;

/// The most memory that a child had at any time (proc(5): `VmHWM`), asked for until it ends.
fn peak(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = peak.max(kibibytes.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}

/// Exports `t` and gives the peak; the run must come to its end and be exact.
#[track_caller]
fn peak_of(database: &Database<'_>, limit: u64, more: &str) -> u64 {
    let folder = Folder::new();
    let arguments = format!("--table t --to {} --quiet --memory-limit {limit} {more}", folder.text("out.jsonl"));
    let mut child = export(database, &arguments).stderr(Stdio::inherit()).spawn().unwrap();
    let peak = peak(&mut child);
    assert!(child.wait().unwrap().success());
    if !more.contains("--compress") && !more.contains("--unordered") {
        assert_eq!(folder.read("out.jsonl").len(), row_to_json(database, "t").len());
    }
    assert!(peak > 1 << 20, "the peak was not seen");
    assert!(peak <= limit + OVERHEAD, "{more}: peak {} MiB, limit {} MiB + 32 MiB", peak >> 20, limit >> 20);
    peak
}

#[test]
fn giant_rows_among_small_ones() {
    let database = Cluster::shared().fresh_database();
    let row = "repeat(CASE WHEN i % 250 = 125 THEN md5(i::text) || '\"' || chr(10) ELSE '' END, 240000) || 'small'";
    database.psql(&format!("CREATE TABLE t AS SELECT i AS id, {row} AS body FROM generate_series(1, 4000) i"));
    peak_of(&database, 64 << 20, "");
    peak_of(&database, 64 << 20, "--connections 4 --workers 4 --compress zstd:1");
    peak_of(&database, 64 << 20, "--connections 4 --unordered");
}

#[test]
fn many_rows_need_no_more_than_few() {
    let database = Cluster::shared().fresh_database();
    let table = |rows: u32| {
        let columns =
            "i AS id, i % 7 AS kind, round(i / 7.0, 4) AS amount, md5(i::text) AS note, now() AS at, 'a text of some length ' || i AS text";
        database.psql(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT {columns} FROM generate_series(1, {rows}) i"));
    };
    table(100_000);
    let few = peak_of(&database, 32 << 20, "");
    table(600_000);
    let many = peak_of(&database, 32 << 20, "");
    assert!(many <= few + (12 << 20), "{} MiB for few rows, {} MiB for many", few >> 20, many >> 20);
    peak_of(&database, 32 << 20, "--compress gzip:1");
    peak_of(&database, 32 << 20, "--connections 4 --workers 4");
    peak_of(&database, 16 << 20, "--connections 2 --workers 2 --chunk-bytes 64KiB");
}

#[test]
fn a_thousand_columns_and_a_hundred_thousand_chunks() {
    let database = Cluster::shared().fresh_database();
    let columns: Vec<String> = (0..1000).map(|column| format!("i + {column} AS column_{column}")).collect();
    database.psql(&format!("CREATE TABLE t AS SELECT {} FROM generate_series(1, 3000) i", columns.join(", ")));
    peak_of(&database, 32 << 20, "");
    database.psql("DROP TABLE t; CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 100000) i");
    peak_of(&database, 32 << 20, "--chunk-rows 1");
}
