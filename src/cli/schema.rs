//! `sluicegate schema`: what editors complete and check definitions and pipelines by.

use super::args::SchemaArgs;
use super::exit::Exit;
use crate::cli::out::outln;

/// The JSON Schema, as it lies beside the definitions.
const DEFINITION_SCHEMA: &str = include_str!("../../fsm-definitions/definition.schema.json");

/// Runs the command.
pub fn run(args: &SchemaArgs) -> Exit {
    if args.pipeline {
        outln!("{:#}", crate::pipeline::vocabulary::schema());
    } else {
        outln!("{}", DEFINITION_SCHEMA.trim_end());
    }
    Exit::Complete
}
