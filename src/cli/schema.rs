//! `sluicegate schema`: what editors complete and check definitions by.

use super::exit::Exit;
use crate::cli::out::outln;

/// The JSON Schema, as it lies beside the definitions.
const DEFINITION_SCHEMA: &str = include_str!("../../fsm-definitions/definition.schema.json");

/// Runs the command.
pub fn run() -> Exit {
    outln!("{}", DEFINITION_SCHEMA.trim_end());
    Exit::Complete
}
