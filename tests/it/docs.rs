//! What the documents say about definitions is true: every finding explained, every example sound, every output real.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluicegate::fsm::builder::{Invoke, State};
use sluicegate::fsm::{CODES, Class, Definition, check_text};

use crate::support::program::sluicegate;

const DEFINITIONS: &str = include_str!("../../docs/definitions.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let behind = DEFINITIONS.split(&fence).skip(1);
    behind.map(|rest| rest.split_once("```").expect("a block that ends").0).collect()
}

/// The blocks that are whole definitions, each with its id.
fn definitions() -> Vec<(String, &'static str)> {
    let value = |text| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let whole = |(text, value): (&'static str, Value)| {
        let is_whole = value.get("$schema").is_some() || value.as_object()?.keys().next()? == "id";
        is_whole.then(|| (value["id"].as_str().expect("an id").to_owned(), text))
    };
    let found: Vec<_> = blocks("json").into_iter().map(|text| (text, value(text))).filter_map(whole).collect();
    assert!(!found.is_empty());
    found
}

/// The cells of the table of findings, without its head.
fn table() -> Vec<Vec<&'static str>> {
    let section = DEFINITIONS.split("\n## Findings\n").nth(1).expect("a section of findings");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn every_finding_is_explained() {
    let told: Vec<(&str, &str)> = table().into_iter().map(|cells| (cells[0].trim_matches('`'), cells[1])).collect();
    let letters: Vec<String> = CODES.iter().map(|code| code.class.letter().to_string()).collect();
    let known: Vec<(&str, &str)> = CODES.iter().zip(&letters).map(|(code, letter)| (code.name, letter.as_str())).collect();
    assert_eq!(told, known, "docs/definitions.md: the table of findings");
    for cells in table() {
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "docs/definitions.md: {cells:?}");
    }
}

#[test]
fn every_definition_in_the_text_can_be_used() {
    for (id, text) in definitions() {
        let (definition, report) = check_text(text, None);
        assert!(definition.is_some() && report.is_clean(Class::Lint), "docs/definitions.md, `{id}`:\n{report}");
    }
}

#[test]
fn every_output_in_the_text_is_real() {
    let folder = tempfile::tempdir().unwrap();
    for (id, text) in definitions() {
        std::fs::write(folder.path().join(format!("{id}.json")), text).unwrap();
    }
    for block in blocks("console") {
        for example in format!("\n{block}").split("\n$ ").skip(1) {
            let (command, expected) = example.split_once('\n').unwrap_or((example, ""));
            assert_eq!(shell(folder.path(), command).trim_end(), expected.trim_end(), "docs/definitions.md: {command}");
        }
    }
}

/// What a command line prints, the program being on the path.
fn shell(folder: &Path, line: &str) -> String {
    let program = PathBuf::from(sluicegate().get_program());
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let output = Command::new("sh").args(["-c", line]).current_dir(folder).env("PATH", path).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn first() -> Definition {
    let rejecting = |invoke: Invoke| State::new().invoke(invoke.on_error("rejected"));
    Definition::new(
        "first",
        State::starting_in("received")
            .state("received", rejecting(Invoke::new("transform").on_done("transformed")).after("60000", "rejected"))
            .state("transformed", rejecting(Invoke::new("sink").on_done("sunk")))
            .state("rejected", State::new().invoke(Invoke::new("deadLetter").on_done("failed").on_error("failed")))
            .state("sunk", State::end().tag("ok"))
            .state("failed", State::end().tag("error")),
    )
    .schema("./definition.schema.json")
}

#[test]
fn the_definition_in_rust_equals_the_one_in_json() {
    let (_, text) = definitions().into_iter().find(|(id, _)| id == "first").unwrap();
    assert_eq!(first(), serde_json::from_str::<Definition>(text).unwrap());
    let shown: Vec<&str> = blocks("rust").into_iter().flat_map(str::lines).map(str::trim).collect();
    let here: BTreeSet<&str> = include_str!("docs.rs").lines().map(str::trim).collect();
    let elsewhere: Vec<&&str> = shown.iter().filter(|line| !line.starts_with("use ") && !here.contains(**line)).collect();
    assert!(!shown.is_empty() && elsewhere.is_empty(), "docs/definitions.md shows other Rust than is tested: {elsewhere:?}");
}

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");
const README: &str = include_str!("../../README.md");

/// Names in backquotes that look like tests.
fn named_tests() -> impl Iterator<Item = &'static str> {
    let rows = GUARANTEES.lines().filter(|line| line.starts_with("| **"));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|name| !name.contains('/'))
}

#[test]
fn every_guarantee_is_tried_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("tests/it"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let missing: Vec<&str> = named_tests().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert_eq!(missing, [""; 0], "docs/guarantees.md");
    assert!(named_tests().count() > 40);
}

#[test]
fn the_definition_in_the_readme_can_be_exported_with() {
    let text = README.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a definition");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.json"), text).unwrap();
    assert_eq!(shell(folder.path(), "sluicegate check --for-export mine.json").trim(), "mine.json: ok");
    let walk = shell(folder.path(), "sluicegate simulate mine.json --events 'fail:transform +1s done:transform done:sink'");
    assert!(walk.contains("done in sunk"), "{walk}");
}
