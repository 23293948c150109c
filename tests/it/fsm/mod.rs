//! The pure core.

mod broken;
mod builder;
mod check;
mod conformance;
mod definitions;
mod exhaustive;
mod random;
mod simulate;
mod step;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluicegate::fsm::{CompileOptions, Definition, Machine, compile};

fn root() -> &'static Path {
    // The tests are read through the folder that this file is in, so that they also run from a scratch crate.
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fsm"))
}

/// A file of the repository, by its path from the top.
fn repository(path: &str) -> PathBuf {
    let top = fs::canonicalize(root()).unwrap();
    top.ancestors().nth(3).unwrap().join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `*.json` files of a folder in order, without the schema.
fn json_files(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json") && !path.ends_with("definition.schema.json"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The examples of the conformance kit.
fn examples() -> Vec<(String, String)> {
    json_files(&repository("tests/conformance/examples"))
}

/// The definitions that ship.
fn shipped() -> Vec<(String, String)> {
    json_files(&repository("fsm-definitions"))
}

fn machine_of(definition: Definition) -> Machine {
    compile(definition, &CompileOptions::default()).unwrap_or_else(|report| panic!("{report}"))
}

fn machine(text: &str) -> Machine {
    machine_of(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

fn machine_of_value(value: Value) -> Machine {
    machine_of(serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}")))
}
