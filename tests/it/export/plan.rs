//! `--plan`: what would be done, and what is there already.

use super::keyset::{command, database, kill_at};
use crate::support::cluster::Database;
use crate::support::program::{Folder, export, ran, shown};
use insta::assert_snapshot;
use std::process::Stdio;

/// Without what differs from run to run.
fn settled_text(text: &str, folder: &Folder, database: &Database<'_>) -> String {
    let text = shown(text, folder, database);
    let lines = text.lines().map(|line| match line.split_once("of snapshot ") {
        Some((before, _)) => format!("{before}of snapshot […]"),
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

/// A plan, which must leave nothing behind.
fn planned(database: &Database<'_>, folder: &Folder, words: &str) -> String {
    let names = folder.names();
    let ran = ran(&mut export(database, &format!("{words} --connections 2 --plan"))).expect(0);
    assert_eq!((folder.names(), ran.stderr.as_str()), (names, ""));
    settled_text(ran.text(), folder, database)
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let database = database();
    database.psql("CREATE VIEW v AS TABLE t; CREATE TABLE never (id int PRIMARY KEY); INSERT INTO never VALUES (1)");
    let folder = Folder::new();
    let plan = |words: &str| planned(&database, &folder, words);
    let to = format!("--to {}", folder.text("out.jsonl"));
    assert_snapshot!(plan(&format!("--table t --consistency keyset {to}")), @"
    t -> [dir]/out.jsonl
      read by    8 ranges of the key id, on 2 connections
                 t where id < -18750
                 t where -18750 <= id < -12500
                 t where -12500 <= id < -6250
                 and 5 more
      moment     each range at a moment of its own
      columns    id, pad
      rows       about 50,000
      table      17.8 MiB
      output     about 16.3 MiB, an estimate: 6,250 rows became 2.0 MiB
      resumable  yes, also on a table that is being written: half-written ranges are read again
      at target  nothing
    Nothing was written.
    ");
    assert_snapshot!(plan(&format!("--table t {to}")), @"
    t -> [dir]/out.jsonl
      read by    9 page ranges, on 2 connections
                 t pages 0-254
                 t pages 255-509
                 t pages 510-764
                 and 6 more
      moment     one, of snapshot […]
      columns    id, pad
      rows       about 50,000
      table      17.8 MiB
      output     about 16.3 MiB, an estimate: 5,610 rows became 1.8 MiB
      resumable  yes, once the table is proved unchanged
      at target  nothing
    Nothing was written.
    ");
    assert_snapshot!(plan(&format!("--table v {to}")), @"
    v -> [dir]/out.jsonl
      read by    one statement, because it is a view
      moment     one, of snapshot […]
      columns    id, pad
      rows       unknown
      table      0 B
      output     unknown, an estimate: 13,413 rows became 4.4 MiB
      resumable  no: what is read by one statement starts over
      at target  nothing
    Nothing was written.
    ");
    assert_snapshot!(plan(&format!("--table never --to {}", folder.text("never.jsonl.zst"))), @"
    never -> [dir]/never.jsonl.zst
      read by    1 page range, on one connection
      moment     one, of snapshot […]
      columns    id
      rows       about 1
      table      8.0 KiB
      output     about 22 B, an estimate: 1 row became 22 B
      resumable  yes, once the table is proved unchanged
      at target  nothing
    Nothing was written.
    ");
}

#[test]
fn a_plan_says_what_is_at_the_target() {
    let database = database();
    let folder = Folder::new();
    let plan = |words: &str| planned(&database, &folder, words);
    let to = format!("--to {}", folder.text("out.jsonl"));
    let child = command(&database, &folder, "--buffered --connections 1").stderr(Stdio::null()).spawn().unwrap();
    kill_at(child, &folder, "out.jsonl.partial", 6 << 20);
    let words = format!("--table t --consistency keyset {to}");
    let at_target = |text: &str| text.lines().find(|line| line.contains("at target")).unwrap().to_owned();
    let begun = at_target(&plan(&words));
    assert!(begun.contains(" of 8 ranges and ") && begun.ends_with(" rows done"), "{begun}");
    ran(&mut command(&database, &folder, "")).expect(0);
    let complete = at_target(&plan(&words));
    assert!(complete.contains("complete (50,000 rows, 20"), "{complete}");
    std::fs::remove_file(folder.join("out.jsonl.journal")).unwrap();
    assert_snapshot!(at_target(&plan(&words)), @"  at target  [dir]/out.jsonl exists; give another output, or --force to replace it");
    let json = ran(&mut export(&database, &format!("{words} --report json --dry-run"))).expect(0);
    let json: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(
        (&json[0]["at_target"]["status"], &json[0]["ranges"], &json[0]["expected_rows"]),
        (&"exists".into(), &8.into(), &50_000.into())
    );
    assert_eq!(json[0]["first_ranges"].as_array().unwrap().len(), 3);
    // As good as what it turns out to be.
    let (expected, real) = (json[0]["expected_output_bytes"].as_u64().unwrap(), folder.join("out.jsonl").metadata().unwrap().len());
    assert!(expected.abs_diff(real) < real / 20, "{expected} {real}");
}
