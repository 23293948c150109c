//! `sluicegate simulate`: a definition walks through a script under a clock that only the script moves.

use super::args::SimulateArgs;
use super::exit::{Exit, Failure};
use super::graph::machine;
use crate::cli::out::outln;
use crate::fsm::simulate;
use crate::trouble::{Trouble, TroubleKind};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write, stdin, stdout};

/// Runs the command.
pub fn run(args: &SimulateArgs) -> Result<Exit, Failure> {
    let Some(file) = &args.file else { return cases() };
    let walk = simulate::walk(&machine(file)?, &args.events.join(" "))
        .map_err(|error| Failure::configuration(format!("--events, {error}")).advise("`sluicegate simulate --help` explains the words."))?;
    outln!("{}", walk.trim_end());
    Ok(Exit::Complete)
}

/// Case lines in, trajectories out: what the conformance kit compares with XState.
fn cases() -> Result<Exit, Failure> {
    if stdin().is_terminal() {
        return Err(Failure::configuration("there is nothing to walk through").advise(
            "Name a definition and a script: sluicegate simulate my-lifecycle.json --events 'done:validate +5s'\nWithout a file, case lines of the conformance kit are read from standard input.",
        ));
    }
    let mut out = BufWriter::new(stdout().lock());
    let ended = simulate::run_lines(stdin().lock(), &mut out).and_then(|()| out.flush());
    ended.map(|()| Exit::Complete).map_err(|error| {
        let kind = if error.kind() == ErrorKind::BrokenPipe { TroubleKind::BrokenPipe } else { TroubleKind::Io };
        Trouble::lasting(kind, "the trajectories cannot be written").because(error).into()
    })
}
