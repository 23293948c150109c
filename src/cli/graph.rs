//! `sluicegate graph`: a definition as a picture, with the figures of a run on it if there is one.

use super::args::{GraphArgs, GraphFormat};
use super::check;
use super::exit::{Exit, Failure};
use crate::cli::out::outln;
use crate::diagram::{Format, Graph, Overlay, StateOverlay, render};
use crate::fsm::{CompileOptions, Machine, compile};
use crate::journal::sqlite::figures::StateFigures;
use crate::journal::sqlite::query::Reader;
use crate::trouble::{Trouble, TroubleKind};
use std::path::Path;

/// Runs the command.
pub fn run(args: &GraphArgs) -> Result<Exit, Failure> {
    let reader = args.journal.as_deref().map(Reader::open).transpose()?;
    let machine = match (&args.file, &reader) {
        (Some(file), _) => machine(file)?,
        (None, Some(reader)) => of_journal(reader)?,
        (None, None) => return Err(Failure::configuration("there is nothing to draw: name a definition, or a journal by --journal")),
    };
    let mut graph = Graph::of(&machine);
    if let Some(reader) = &reader {
        graph.overlay(&figures(reader, &machine)?);
    }
    let format = match args.format {
        GraphFormat::Mermaid => Format::Mermaid,
        GraphFormat::Dot => Format::Dot,
        GraphFormat::Svg => Format::Svg,
    };
    outln!("{}", render(&graph, format).trim_end());
    Ok(Exit::Complete)
}

/// The machine in a file.
pub fn machine(path: &Path) -> Result<Machine, Failure> {
    let definition = check::definition(path, None)?;
    compile(definition, &CompileOptions::default()).map_err(|report| Failure::configuration(format!("{}: {report}", path.display())))
}

/// The machine of the last run in a journal.
fn of_journal(reader: &Reader) -> Result<Machine, Failure> {
    let text = reader.runs()?.pop().map(|run| run.definition).unwrap_or_default();
    let broken = |why: String| Trouble::lasting(TroubleKind::Io, format!("the definition in the journal cannot be used: {why}"));
    let definition = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    Ok(compile(definition, &CompileOptions::default()).map_err(|report| broken(report.to_string()))?)
}

/// What the journal knows of all its runs.
fn figures(reader: &Reader, machine: &Machine) -> Result<Overlay, Failure> {
    let runs = reader.runs()?;
    let target = runs.last().map_or(String::new(), |run| run.target.clone());
    let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    let states = reader.state_figures()?.into_iter();
    let edges = reader.edge_counts()?.into_iter();
    Ok(Overlay {
        states: states.map(|state| (state.state.clone(), shown(&state, works(machine, &state.state)))).collect(),
        edges: edges.map(|edge| ((edge.from, edge.to, edge.event), edge.count.unsigned_abs())).collect(),
        title: Some(format!("{target}: {count}")),
    })
}

/// Whether a state has an invocation: only then is coming back a retry and leaving by a timer a timeout.
fn works(machine: &Machine, state: &str) -> bool {
    machine.state(state).is_some_and(|state| machine.is_leaf(state) && !machine.state_invocations(state).is_empty())
}

fn shown(state: &StateFigures, works: bool) -> StateOverlay {
    let if_works = |count: i64| if works { count.unsigned_abs() } else { 0 };
    StateOverlay {
        now: state.now.unsigned_abs(),
        entered: state.entered.unsigned_abs(),
        retries: if_works(state.again),
        errors: if_works(state.errors + state.timers),
        median_seconds: super::inspect::seconds(state.median_micros),
        p99_seconds: super::inspect::seconds(state.p99_micros),
    }
}
