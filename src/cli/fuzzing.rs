//! What `fuzz/` tries of the command line. No part of the interface.

use super::args::Cli;
use super::job::target::Targets;
use super::values;
use clap::Parser;

/// Reads `text` as each kind of value.
pub fn values(text: &str) {
    if let Ok(bytes) = values::size(text) {
        assert!(bytes > 0);
    }
    let _ = values::duration(text);
    let _ = Targets::parse(text);
}

/// Reads these as the program's arguments.
pub fn arguments<'a>(words: impl Iterator<Item = &'a str>) {
    let _ = Cli::try_parse_from(std::iter::once("sluicegate").chain(words)).map_err(|error| error.to_string());
}
