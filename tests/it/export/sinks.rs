//! Disks that are full or may not be written, each for itself, and files that somebody touches while they are being written.

use super::assert_same;
use super::faults::{large, until};
use crate::support::cluster::{Cluster, Database};
use crate::support::disk::SmallDisk;
use crate::support::program::{Folder, export, ran, row_to_json, run, shown};
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Instant;

/// The disk of the journal alone is full, and stays so: the run ends in time, and goes on when there is room.
#[test]
fn a_full_disk_of_the_journal_costs_no_row() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.path(), 300 << 10) else { return };
    let journal = disk.path().join("journal");
    let words =
        format!("--table t --quiet --chunk-rows 50 --give-up-after 1s --to {} --journal {}", folder.text("out.jsonl"), journal.display());
    let began = Instant::now();
    let full = ran(&mut export(&database, &words)).expect(74);
    assert!(full.stderr.contains("no space left for the journal"), "{}", full.stderr);
    assert!(began.elapsed().as_secs() < 20, "it took {:?} to give up", began.elapsed());
    assert!(folder.join("out.jsonl.partial").exists() && !folder.join("out.jsonl").exists());
    disk.grow(200 << 20);
    ran(&mut export(&database, &words)).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    run(["inspect", journal.to_str().unwrap(), "audit"]).expect(0);
}

/// A database whose rows are no text, half of them.
fn half_bad() -> Database<'static> {
    let database = Cluster::shared().fresh_database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    let note = "CASE WHEN i % 2 = 0 THEN E'bad \\xff' || i ELSE 'good ' || i END";
    database.psql(&format!("CREATE TABLE t AS SELECT i AS id, {note} AS note FROM generate_series(1, 20000) i"));
    super::faults::settled(&database);
    database
}

#[test]
fn a_full_disk_of_the_dead_letter_costs_no_row() {
    let database = half_bad();
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.path(), 256 << 10) else { return };
    let dead = disk.path().join("dead.jsonl");
    let words = |dead: &str, name: &str| {
        let words = format!("--table t --quiet --chunk-rows 100 --checkpoint-bytes 64KiB --give-up-after 1s --to {}", folder.text(name));
        format!("{words} --dead-letter {dead}")
    };
    let full = ran(&mut export(&database, &words(dead.to_str().unwrap(), "out.jsonl"))).expect(74);
    assert!(full.stderr.contains("no space left on the device"), "{}", full.stderr);
    assert!(!folder.join("out.jsonl").exists() && !dead.exists());
    disk.grow(200 << 20);
    ran(&mut export(&database, &words(dead.to_str().unwrap(), "out.jsonl"))).expect(3);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "(SELECT * FROM t WHERE id % 2 = 1)"));
    ran(&mut export(&database, &words(&folder.text("undisturbed"), "other.jsonl"))).expect(3);
    assert_same(&std::fs::read_to_string(dead).unwrap(), &folder.read("undisturbed"));
}

#[test]
fn a_disk_that_may_not_be_written() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT 1 AS id");
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.path(), 1 << 20) else { return };
    disk.protect();
    let to = disk.path().join("out.jsonl");
    let read_only = ran(&mut export(&database, &format!("--table t --to {}", to.display()))).expect(74);
    assert_snapshot!(shown(&read_only.stderr, &folder, &database), @"
    error: [dir]/disk/out.jsonl.partial cannot be created
      because: Read-only file system (os error 30)
    ");
}

/// Removed, cut or replaced behind our back: noticed before anything gets the final name, and never filled up with zeros.
#[test]
fn an_output_that_somebody_touches_while_it_is_written() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let mut says = String::new();
    for what in ["remove", "cut", "replace"] {
        let folder = Folder::new();
        let partial = folder.join("out.jsonl.partial");
        let words = format!(
            "--table t --quiet --buffered --chunk-bytes 16KiB --checkpoint-bytes 1MiB --workers 1 --connections 1 --to {}",
            folder.text("out.jsonl")
        );
        let child = export(&database, &words).stderr(Stdio::piped()).spawn().unwrap();
        until("some megabytes", || partial.metadata().is_ok_and(|file| file.len() > 4 << 20));
        let process = Pid::from_child(&child);
        kill_process(process, Signal::STOP).unwrap();
        match what {
            "remove" => std::fs::remove_file(&partial).unwrap(),
            "cut" => std::fs::OpenOptions::new().write(true).open(&partial).unwrap().set_len(1 << 20).unwrap(),
            _ => {
                std::fs::rename(&partial, folder.join("aside")).unwrap();
                std::fs::write(&partial, "mine").unwrap();
            }
        }
        kill_process(process, Signal::CONT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!folder.join("out.jsonl").exists(), "{what}");
        let stderr = shown(&String::from_utf8_lossy(&output.stderr), &folder, &database);
        says.push_str(stderr.lines().find(|line| line.starts_with("error")).unwrap());
        says.push('\n');
        // And the next run does not take it for what it was.
        let next = ran(&mut export(&database, &words)).expect(78);
        assert!(next.stderr.contains("--fresh"), "{what}: {}", next.stderr);
        ran(&mut export(&database, &format!("{words} --fresh"))).expect(0);
        assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    }
    assert_snapshot!(says, @"
    error: [dir]/out.jsonl.partial was removed while it was being written; leave it alone, and start over with --fresh
    error: [dir]/out.jsonl.partial was cut while it was being written; leave it alone, and start over with --fresh
    error: [dir]/out.jsonl.partial is not the file any more that is being written; leave it alone, and start over with --fresh
    ");
}

/// A run of several tables that fails at a later one still tells programs what became of those before, and why it failed.
#[test]
fn a_report_for_programs_is_there_when_a_table_fails() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE a AS SELECT i AS id FROM generate_series(1, 100) i");
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.path(), 8 << 20) else { return };
    database.psql("CREATE TABLE b AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 40000) i");
    let to = disk.path().join("{table}.jsonl");
    let words = format!("--table a --table b --report json --quiet --give-up-after 300ms --to {}", to.display());
    let failed = ran(&mut export(&database, &words)).expect(74);
    let report: serde_json::Value = serde_json::from_str(failed.text()).unwrap_or_else(|error| panic!("{error}: {}", failed.text()));
    assert_eq!(report.as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report[0]["table"], "a");
    assert_eq!(report[0]["run"]["rows"]["written"], 100);
    assert_eq!(report[1]["table"], "b");
    assert_eq!(report[1]["run"]["outcome"], "failed");
    let failure = &report[1]["failure"];
    assert_eq!((failure["exit_code"].as_u64(), failure["kind"].as_str()), (Some(74), Some("io")), "{failure:#}");
    assert!(failure["message"].as_str().unwrap().contains("no space left on the device"), "{failure:#}");
    assert!(failure["because"][0].as_str().unwrap().contains("No space left"), "{failure:#}");
    assert!(failure["advice"].as_str().unwrap().contains("goes on from there"), "{failure:#}");
}
