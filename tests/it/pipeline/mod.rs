//! `sluicegate run`: pipelines from files to files, by the real program.

mod bad_input;
mod file;
mod formats;
mod parity;
mod resume;

use crate::support::program::{Folder, Ran, ran, sluicegate};
use std::process::Command;

/// A folder with a pipeline file from `in` to `out`, names with extensions.
fn folder(from: &str, to: &str) -> Folder {
    let folder = Folder::new();
    let [from, to] = [from, to].map(|path| if path == "-" { "'-'" } else { path });
    let text = format!("source: {{ type: file, path: {from} }}\nsink: {{ type: file, path: {to} }}\n");
    std::fs::write(folder.join("pipeline.yaml"), text).unwrap();
    folder
}

/// `sluicegate run pipeline.yaml` in the folder, with settings, one a word.
fn command(folder: &Folder, settings: &[&str]) -> Command {
    let mut command = sluicegate();
    command.current_dir(folder.path()).args(["run", "pipeline.yaml", "--quiet"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

fn run(folder: &Folder, settings: &[&str]) -> Ran {
    ran(&mut command(folder, settings))
}

/// What a pipeline makes of an input, with what goes to the dead letter: reason and row.
fn made(from: (&str, &[u8]), to: &str, settings: &[&str]) -> (Option<i32>, String, Vec<(String, String)>) {
    let folder = folder(from.0, to);
    std::fs::write(folder.join(from.0), from.1).unwrap();
    let ran = run(&folder, settings);
    if ran.code != Some(0) && ran.code != Some(3) {
        return (ran.code, ran.stderr, Vec::new());
    }
    let journal = format!("{to}.journal");
    sound(&folder, &journal);
    (ran.code, folder.read(to), dead(&folder, to))
}

/// Reasons and rows in the dead letter beside an output.
fn dead(folder: &Folder, to: &str) -> Vec<(String, String)> {
    let path = folder.join(&format!("{to}.dead.jsonl"));
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let record = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let raw = record.get("raw").or_else(|| record.get("raw_hex")).and_then(|raw| raw.as_str()).unwrap();
        (record["reason"].as_str().unwrap().to_owned(), raw.to_owned())
    };
    text.lines().map(record).collect()
}

/// The journal's sums come out, and the output is what it says.
#[track_caller]
fn sound(folder: &Folder, journal: &str) {
    for arguments in [["inspect", journal, "audit"].as_slice(), &["verify", journal]] {
        ran(sluicegate().current_dir(folder.path()).args(arguments)).expect(0);
    }
}
