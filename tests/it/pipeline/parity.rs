//! What a well-known Python library of this kind loses or gets wrong, row for row.

use super::{command, dead, folder, made, sound};
use crate::support::program::Folder;
use sluicegate::pipeline::{Pipeline, Syntax};
use sluicegate::processor::rows::{RowStep, map};
use sluicegate::sink::{DeadLetterSink, FileOptions, FileSink};
use sluicegate::{Outcome, RunReport};
use std::fmt::Write as _;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

fn rows(count: usize) -> String {
    let mut text = String::new();
    (0..count).for_each(|id| writeln!(text, "{{\"id\":{id}}}").unwrap());
    text
}

/// Runs a pipeline with a step of our own, in this process.
fn with_step(folder: &Folder, input: &str, settings: &str, step: RowStep) -> RunReport {
    std::fs::write(folder.join("in.jsonl"), input).unwrap();
    let (from, to) = (folder.text("in.jsonl"), folder.text("out.jsonl"));
    let text = format!("source: {{ type: file, path: '{from}' }}\nsink: {{ type: file, path: '{to}' }}\n{settings}");
    let plan = Pipeline::parse(&text, Syntax::Yaml).unwrap().plan().unwrap().step(step);
    plan.orchestrator(plan.source())
        .sink("sink", FileSink::create([&to], FileOptions::default()).unwrap())
        .dead_letter("deadLetter", DeadLetterSink::new(&folder.join("out.jsonl.dead.jsonl"), FileOptions::default()))
        .run()
        .unwrap()
}

#[test]
fn a_source_that_pauses_loses_no_row() {
    let folder = folder("-", "out.jsonl");
    let mut child = command(&folder, &["source.format=jsonl", "chunk.rows=5"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let text = rows(50);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (number, chunk) in lines.chunks(5).enumerate() {
        pipe.write_all(chunk.concat().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(if number < 9 { 300 } else { 0 }));
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
    assert_eq!(folder.read("out.jsonl"), text);
    sound(&folder, "out.jsonl.journal");
}

/// Whether it is the same input nobody knows: it is neither left out nor put in place of what is there.
#[test]
fn a_pipe_is_never_taken_for_done() {
    let folder = folder("-", "out.jsonl");
    let run = |more: &[&str]| {
        let mut command = command(&folder, &["source.format=jsonl"]);
        let mut child = command.args(more).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"{\"a\":1}\n");
        child.wait_with_output().unwrap()
    };
    assert!(run(&[]).status.success());
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(78));
    insta::assert_snapshot!(String::from_utf8(refused.stderr).unwrap(), @"error: out.jsonl exists; give another output, or --force to replace it");
    assert!(run(&["--force"]).status.success());
}

/// What paused input has brought is not kept waiting for more.
#[test]
fn rows_of_a_pipe_go_on_when_it_pauses() {
    let folder = folder("-", "-");
    let mut command = command(&folder, &["source.format=jsonl", "sink.format=jsonl", "chunk.max_age=20ms"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"{\"a\":1}\n{\"a\":2}\n{\"a\"").unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    }
    assert_eq!(line, "{\"a\":1}\n{\"a\":2}\n");
    pipe.write_all(b":3}").unwrap();
    drop(pipe);
    std::io::Read::read_to_string(&mut out, &mut line).unwrap();
    assert_eq!(line, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn four_workers_with_uneven_work_lose_no_row_and_keep_the_order() {
    let folder = Folder::new();
    let text = rows(50_500);
    let uneven = map(|row| {
        if row["id"].as_u64().is_some_and(|id| id % 7_000 == 500) {
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(Some(row))
    });
    let report = with_step(&folder, &text, "workers: 4\nchunk: { rows: 1000 }\n", uneven);
    assert_eq!((report.outcome, report.rows.written, report.rows.read), (Outcome::Complete, 50_500, 50_500));
    assert_eq!(folder.read("out.jsonl"), text);
}

#[test]
fn a_chunk_that_takes_its_time_is_waited_for() {
    let folder = Folder::new();
    let slow = map(|row| {
        std::thread::sleep(Duration::from_millis(if row["id"] == 25 { 350 } else { 0 }));
        Ok(Some(row))
    });
    let report = with_step(&folder, &rows(100), "chunk: { rows: 10 }\n", slow);
    assert_eq!((report.outcome, report.rows.written), (Outcome::Complete, 100));
    assert_eq!(folder.read("out.jsonl"), rows(100));
}

#[test]
fn one_poison_chunk_in_ten_is_set_aside_with_its_reason() {
    let folder = Folder::new();
    let poison = map(|row| if row["id"] == 45 { panic!("row 45 is poison") } else { Ok(Some(row)) });
    let report = with_step(&folder, &rows(100), "chunk: { rows: 10 }\nretry: { max_attempts: 1 }\n", poison);
    assert_eq!(report.outcome, Outcome::CompleteWithDeadLetters);
    assert_eq!((report.rows.written, report.rows.dead_lettered), (90, 10));
    let expected: String =
        rows(100).split_inclusive('\n').enumerate().filter(|(id, _)| !(40..50).contains(id)).map(|(_, row)| row).collect();
    assert_eq!(folder.read("out.jsonl"), expected);
    let dead = dead(&folder, "out.jsonl");
    assert_eq!(dead.len(), 10);
    assert_eq!(dead[5], ("panic: row 45 is poison".to_owned(), "{\"id\":45}".to_owned()));
}

#[test]
fn rows_that_a_step_refuses_or_does_not_want_are_told_apart() {
    let folder = Folder::new();
    let choose = map(|row| match row["id"].as_u64() {
        Some(3) => Err("three is not allowed".to_owned()),
        Some(id) if id % 2 == 1 => Ok(None),
        _ => Ok(Some(row)),
    });
    let report = with_step(&folder, &rows(6), "", choose);
    assert_eq!(report.rows.to_string(), "6 read = 3 written + 2 filtered + 1 dead-lettered + 0 cancelled");
    assert_eq!(dead(&folder, "out.jsonl")[0], ("three is not allowed (the row at byte 27)".to_owned(), "{\"id\":3}".to_owned()));
}

#[test]
fn a_malformed_line_is_set_aside_alone() {
    let input = "{\"a\": 1.50}\n{\"a\":\n  {\"\\u0061\":2}\r\n{\"a\":1,\"a\":2}";
    let (code, out, dead) = made(("in.jsonl", input.as_bytes()), "out.jsonl", &[]);
    assert_eq!((code, &*out), (Some(3), "{\"a\": 1.50}\n  {\"\\u0061\":2}\r\n{\"a\":1,\"a\":2}\n"));
    let reason = "not JSON: EOF while parsing a value at byte 5 of the line (the row at byte 12)";
    assert_eq!(dead, [(reason.to_owned(), "{\"a\":".to_owned())]);
}
