//! The memory limit holds: peak resident memory of the real program stays below it and 32 MiB, whatever flows.

use crate::support::cluster::{Cluster, Database};
use crate::support::group::ControlGroup;
use crate::support::program::{Folder, export, ran, row_to_json, sluicegate};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    // Enough to fill the limit, or chance decides how much of it was ever used.
    table(250_000);
    let few = peak_of(&database, 32 << 20, "");
    table(750_000);
    let many = peak_of(&database, 32 << 20, "");
    assert!(many <= few + (16 << 20), "{} MiB for few rows, {} MiB for many", few >> 20, many >> 20);
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

/// A table of about 24 MB in twelve ranges.
fn wide(database: &Database<'_>) {
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 60000) i");
}

/// For how long the run was held up by a full memory, by its report.
fn paused_for_memory(report: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
    let paused = report[0]["run"]["metrics"]["paused"].as_array().unwrap().clone();
    let memory = paused.iter().find(|paused| paused["reason"] == "memory").map(|paused| paused["seconds"].as_f64().unwrap());
    memory.unwrap_or_else(|| panic!("no pause is reported: {paused:?}"))
}

/// A megabyte a second for a while, then the rest at once.
#[test]
fn a_sink_of_a_megabyte_a_second() {
    let database = Cluster::shared().fresh_database();
    wide(&database);
    let limit = 8 << 20;
    let mut command = export(&database, &format!("--table t --to - --quiet --report json --memory-limit {limit}"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), vec![0; 32 << 10]);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            out.read_exact(&mut piece).unwrap();
            text.extend_from_slice(&piece);
            std::thread::sleep(Duration::from_millis(31));
        }
        out.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    let peak = peak(&mut child);
    let (text, output) = (reader.join().unwrap(), child.wait_with_output().unwrap());
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{report}");
    assert!(peak <= limit + OVERHEAD, "peak {} MiB", peak >> 20);
    assert!(paused_for_memory(&report) > 1.5, "{report}");
    assert!(text == row_to_json(&database, "t"), "the output is another");
}

/// A way to the server on which one connection, counted from 0, is slow.
fn slow_way(server: u16, slow: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut client_in, mut server_in) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client_in, &mut server_in);
                let _ = server_in.shutdown(Shutdown::Both);
            });
            let pause = if number == slow { Duration::from_millis(20) } else { Duration::ZERO };
            std::thread::spawn(move || {
                let (mut from, mut to, mut bytes) = (&server, &client, vec![0; 16 << 10]);
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                    std::thread::sleep(pause);
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// One of four lanes is slow, and everything behind its range has to wait for it.
#[test]
fn one_slow_lane_holds_the_others_up_and_no_more() {
    let database = Cluster::shared().fresh_database();
    wide(&database);
    // The first connection holds the snapshot; the next ones are lanes.
    let port = slow_way(Cluster::shared().port(), 1);
    let (folder, limit) = (Folder::new(), 10 << 20);
    let words = format!("--table t --to {} --quiet --report json --connections 4 --memory-limit {limit}", folder.text("out.jsonl"));
    let from = format!("host=127.0.0.1 port={port} user=postgres dbname={}", database.name());
    let mut command = sluicegate();
    command.args(["export", "--from", &from]).args(words.split_whitespace()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let peak = peak(&mut child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(peak <= limit + OVERHEAD, "peak {} MiB", peak >> 20);
    assert!(paused_for_memory(std::str::from_utf8(&output.stdout).unwrap()) > 0.2);
    assert!(folder.read("out.jsonl") == row_to_json(&database, "t"), "the output is another");
}

/// No flag says it: the control group does, also one above the process's own.
#[test]
fn the_limit_of_a_control_group_is_found_and_kept() {
    let database = Cluster::shared().fresh_database();
    wide(&database);
    let expected = row_to_json(&database, "t");
    for (mebibytes, depth) in [(96_u64, 0), (40, 0), (40, 2), (20, 0)] {
        let Some(group) = ControlGroup::with_limit(mebibytes << 20, depth) else { return };
        let folder = Folder::new();
        let words = format!("--table t --to {} --report json --buffered", folder.text("out.jsonl"));
        let ended = ran(&mut group.command(&export(&database, &words))).expect(0);
        let report: serde_json::Value = serde_json::from_str(ended.text()).unwrap();
        let limit = report[0]["run"]["metrics"]["memory"]["limit_bytes"].as_u64().unwrap();
        let is_told = ended.stderr.contains("the control group has");
        assert_eq!((limit < 32 << 20, is_told), (mebibytes < 60, mebibytes < 60), "{mebibytes} MiB: {limit}\n{}", ended.stderr);
        assert!(folder.read("out.jsonl") == expected, "{mebibytes} MiB: the output is another");
    }
    let Some(group) = ControlGroup::with_limit(10 << 20, 0) else { return };
    let folder = Folder::new();
    let refused = ran(&mut group.command(&export(&database, &format!("--table t --to {}", folder.text("out.jsonl"))))).expect(78);
    assert!(refused.stderr.contains("an export needs"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--memory-limit"), "{}", refused.stderr);
}

/// Where the system refuses memory instead of taking it back, too.
#[test]
fn a_limit_on_what_the_process_may_ask_for() {
    let database = Cluster::shared().fresh_database();
    wide(&database);
    let folder = Folder::new();
    let plain = export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")));
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--data={}", 160 << 20)).arg(plain.get_program()).args(plain.get_args());
    let Ok(output) = limited.output() else { return eprintln!("skipped: there is no prlimit") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.read("out.jsonl") == row_to_json(&database, "t"), "the output is another");
}
