//! Faults, each caused for real.

use super::assert_same;
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A table that takes a while: about 60 MB.
pub(super) fn large(database: &Database<'_>) {
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 150000) i");
    settled(database);
}

/// Waits until every transaction that ran beside the making of a table has ended. What was written while others ran cannot be told from
/// what they may yet write, so a resume would be refused that is fine.
pub(super) fn settled(database: &Database<'_>) {
    let now = database.psql("SELECT pg_current_xact_id()");
    let question = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) > '{now}'::xid8");
    until("older transactions to end", || database.psql(&question) == "t");
}

/// Waits until something is so.
#[track_caller]
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An export whose reader holds it up: to a pipe that is read only when `Child::stdout` is.
fn to_pipe(database: &Database<'_>, more: &str) -> Child {
    export(database, &format!("--table t --to - {more}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

#[test]
fn a_connection_that_is_killed_is_replaced_and_its_range_read_again() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    for connections in [1, 3] {
        let mut child = to_pipe(&database, &format!("--connections {connections} --quiet"));
        let mut stdout = child.stdout.take().unwrap();
        let mut text = vec![0; 1_000_000];
        stdout.read_exact(&mut text).unwrap();
        // The lanes read by now, and wait for us.
        let killed = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY (SELECT%'";
        assert_ne!(database.psql(killed), "0");
        stdout.read_to_end(&mut text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("paused, will try again: "),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_same(std::str::from_utf8(&text).unwrap(), &row_to_json(&database, "t"));
    }
}

#[test]
fn a_query_that_does_not_repeat_itself_is_not_continued() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let mut command = export(&database, "--to - --quiet");
    command.args(["--query", "SELECT id, random() AS r, pad FROM t"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 1_000_000]).unwrap();
    database
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY (SELECT%'");
    stdout.read_to_end(&mut Vec::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("reading query again gave other rows than before"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_ends_the_export_without_a_word() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let mut child = to_pipe(&database, "");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(13), "SIGPIPE, like any other Unix tool");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// The first signal finishes what is in flight, and the exit code says that something is left to do.
#[test]
fn a_first_signal_stops_cleanly() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    // A small limit and one worker, so that there is time to interrupt it.
    let mut command = export(&database, "--table t --workers 1 --connections 1 --chunk-bytes 16KiB --memory-limit 2MiB");
    let child = command.args(["--to", &to]).stderr(Stdio::piped()).spawn().unwrap();
    until("something is written", || std::fs::metadata(folder.join("out.jsonl.partial")).is_ok_and(|file| file.len() > 0));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("stopped"), "{stderr}");
    assert!(folder.join("out.jsonl.partial").exists() && !folder.join("out.jsonl").exists());
    let audit = crate::support::program::run(["inspect", &folder.text("out.jsonl.journal"), "audit"]).expect(0);
    assert!(audit.text().contains("sound"), "{}", audit.text());
}

/// A full disk pauses the run, and ends it when patience does. No row is given up for it.
#[test]
fn a_full_disk_costs_no_row() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let folder = Folder::new();
    let Some(disk) = crate::support::disk::SmallDisk::mount(folder.path(), 8 << 20) else { return };
    let to = disk.path().join("out.jsonl");
    let journal = folder.text("journal");
    let arguments =
        format!("--table t --give-up-after 1s --to {} --journal {journal} --dead-letter {}", to.display(), folder.text("dead.jsonl"));
    let ran = ran(&mut export(&database, &arguments)).expect(74);
    assert!(ran.stderr.contains("no space left on the device"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the same command goes on from there"), "{}", ran.stderr);
    assert!(disk.path().join("out.jsonl.partial").exists() && !to.exists());
    assert!(!folder.join("dead.jsonl").exists() && !folder.join("dead.jsonl.partial").exists());
    let summary = crate::support::program::run(["inspect", &journal, "--format", "json"]).expect(0);
    let summary: serde_json::Value = serde_json::from_str(summary.text()).unwrap();
    assert_eq!(summary["runs"][0]["status"], "failed");
    let paused = crate::support::program::run(["inspect", &journal]).expect(0);
    assert!(paused.text().contains("-> paused (sink"), "{}", paused.text());
    disk.grow(200 << 20);
    crate::support::program::ran(&mut export(&database, &arguments)).expect(0);
    assert_same(&std::fs::read_to_string(&to).unwrap(), &row_to_json(&database, "t"));
}

/// And when room is made in time, the run goes on as if nothing had been.
#[test]
fn a_disk_that_has_room_again_lets_the_run_go_on() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let folder = Folder::new();
    let Some(disk) = crate::support::disk::SmallDisk::mount(folder.path(), 100 << 20) else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 80 << 20]).unwrap();
    let to = disk.path().join("out.jsonl");
    let journal = folder.text("journal");
    let arguments = format!("--table t --quiet --to {} --journal {journal}", to.display());
    let child = export(&database, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    until("the run is paused", || {
        let state = crate::support::program::run(["inspect", &journal, "--format", "json"]);
        state.code == Some(0) && state.text().contains("\"status\": \"paused\"")
    });
    std::fs::remove_file(ballast).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&std::fs::read_to_string(to).unwrap(), &row_to_json(&database, "t"));
}

/// Databases without an encoding may hold anything. What is not UTF-8 is set aside in hexadecimal, the rest is exported.
#[test]
fn rows_that_are_not_utf8_go_to_the_dead_letter() {
    let cluster = Cluster::shared();
    cluster.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let url = format!("{}/ascii", cluster.url().rsplit_once('/').unwrap().0);
    let folder = Folder::new();
    std::fs::write(
        folder.join("setup.sql"),
        "CREATE TABLE t (id int, name text);
         INSERT INTO t SELECT i, CASE WHEN i % 100 = 7 THEN convert_from('\\xff41'::bytea, 'SQL_ASCII') WHEN i % 3 = 0 THEN 'zażółć' ELSE 'plain' END
         FROM generate_series(1, 1000) i",
    )
    .unwrap();
    let psql = std::process::Command::new(crate::support::cluster::program("psql"))
        .args(["-qX", "-f"])
        .arg(folder.join("setup.sql"))
        .arg(&url)
        .output()
        .unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let to = folder.text("out.jsonl");
    let mut records = Vec::new();
    for definition in ["chunk", "direct-transform"] {
        let machine = folder.text("machine.json");
        std::fs::write(
            &machine,
            if definition == "chunk" { include_str!("../../../fsm-definitions/chunk.json") } else { WITHOUT_VALIDATION },
        )
        .unwrap();
        let ran = crate::support::program::run([
            "export",
            "--from",
            &url,
            "--table",
            "t",
            "--to",
            &to,
            "--force",
            "--fresh",
            "--definition",
            &machine,
        ]);
        let ran = ran.expect(3);
        assert!(ran.stderr.contains("complete, with rows in the dead letter"), "{}", ran.stderr);
        assert_eq!(folder.read("out.jsonl").lines().count(), 990);
        let dead = folder.read("out.jsonl.dead.jsonl");
        assert_eq!(dead.lines().count(), 10);
        let mode = std::fs::metadata(folder.join("out.jsonl.dead.jsonl")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "for its owner only");
        records.push(dead.lines().next().unwrap().to_owned());
    }
    assert_eq!(records[0], records[1], "with and without a state that validates");
    insta::assert_snapshot!(records[0], @r#"{"id":1,"reason":"not UTF-8: byte 3 of the row is part of no character","errors":[],"chunk":"0.0","origin":"t pages 0-end","row":6,"form":"copy","raw_hex":"3709ff41"}"#);
}

const WITHOUT_VALIDATION: &str = r#"{ "id": "m", "initial": "received", "states": {
    "received": { "invoke": { "src": "transform", "onDone": "transformed", "onError": "failed" }, "after": { "30000": "failed" } },
    "transformed": { "invoke": { "src": "sink", "onDone": "sunk", "onError": "failed" } },
    "sunk": { "type": "final" }, "failed": { "type": "final" } } }"#;
