//! Crashed at every place at which something becomes durable, and gone on with. Only in a build with the feature `failpoints`.

use super::assert_same;
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json, run};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// About 200 chunks, flushed often, with rows for the dead letter among them.
fn command(database: &Database<'_>, folder: &Folder) -> Command {
    let to = folder.text("out.jsonl");
    let arguments = format!("--table t --to {to} --quiet --chunk-rows 100 --checkpoint-bytes 64KiB --connections 2 --workers 2");
    let mut command = export(database, &arguments);
    command.stderr(Stdio::null());
    command
}

/// Which places are reached in an undisturbed run, and how often.
fn places(database: &Database<'_>) -> BTreeMap<String, u64> {
    let folder = Folder::new();
    let log = folder.join("log");
    ran(command(database, &folder).env("SLUICEGATE_CRASH_LOG", &log)).expect(3);
    let mut places = BTreeMap::new();
    for name in std::fs::read_to_string(log).unwrap().lines() {
        *places.entry(name.to_owned()).or_insert(0) += 1;
    }
    places
}

/// The first time, the second, one in the middle, the last.
fn occurrences(times: u64) -> impl Iterator<Item = u64> {
    let mut wanted = vec![1, 2.min(times), times.div_ceil(2), times];
    wanted.dedup();
    wanted.into_iter()
}

/// A database without an encoding, so that it can hold rows that are no text.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    let note = "CASE WHEN i % 997 = 5 THEN E'bad \\xff' || i ELSE 'good ' || i END";
    database.psql(&format!("CREATE TABLE t AS SELECT i AS id, {note} AS note, repeat('x', 60) AS pad FROM generate_series(1, 20000) i"));
    database
}

#[test]
fn a_crash_at_every_place_costs_nothing() {
    let database = database();
    let expected = {
        let folder = Folder::new();
        ran(&mut command(&database, &folder)).expect(3);
        assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "(SELECT * FROM t WHERE id % 997 <> 5)"));
        (folder.read("out.jsonl"), folder.read("out.jsonl.dead.jsonl"))
    };
    assert_eq!(expected.1.lines().count(), 20_000 / 997 + 1);
    let places = places(&database);
    assert!(places.len() >= 18, "{places:?}");
    let mut crashes = 0;
    for (name, times) in &places {
        for occurrence in occurrences(*times) {
            let folder = Folder::new();
            let place = format!("{name}:{occurrence}");
            let crashed = command(&database, &folder).env("SLUICEGATE_CRASH_AT", &place).status().unwrap();
            // How often some places are reached depends on the moment: a run may come to its end before.
            if crashed.signal().is_none() {
                assert_eq!(crashed.code(), Some(3), "{place}");
                continue;
            }
            crashes += 1;
            crash_again(&database, &folder);
            let code = command(&database, &folder).status().unwrap().code();
            assert!(code == Some(3) || code == Some(0), "{place}: exit code {code:?} when it goes on");
            assert!(folder.read("out.jsonl") == expected.0, "{place}: the output is another");
            assert!(folder.read("out.jsonl.dead.jsonl") == expected.1, "{place}: the dead letter is another");
            let audit = run(["inspect", &folder.text("out.jsonl.journal"), "audit"]);
            assert_eq!(audit.code, Some(0), "{place}: {}", audit.text());
            run(["verify", &folder.text("out.jsonl.journal")]).expect(0);
        }
    }
    println!("{} crash points, {crashes} crashes: 0 rows lost, 0 rows doubled", places.len());
}

/// A run that goes on may crash too, where it cuts the output.
fn crash_again(database: &Database<'_>, folder: &Folder) {
    for place in ["output.truncate.before:1", "output.truncate.after:1", "journal.begin.after:1"] {
        command(database, folder).env("SLUICEGATE_CRASH_AT", place).status().unwrap();
    }
}
