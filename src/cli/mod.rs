//! The command line: one file a subcommand.

mod args;
mod check;
mod dlq;
mod exit;
mod export;
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod inspect;
mod job;
mod out;
mod parts;
mod progress;
mod run;
mod schema;
mod signals;
mod simulate;
mod values;
mod verify;

use args::{Cli, Command};
use clap::Parser;
use exit::Exit;
use std::process::ExitCode;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| exit::refuse(&error));
    start_log(&cli);
    let result = match cli.command {
        Command::Export(args) => export::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Dlq(args) => dlq::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Schema(args) => Ok(schema::run(&args)),
        Command::List { kind } => Ok(parts::list(kind)),
        Command::Show { name } => parts::show(&name),
        Command::Completions { shell } => {
            args::completions(shell);
            Ok(Exit::Complete)
        }
    };
    match result {
        Ok(exit) => exit.code(),
        Err(error) => error.report(),
    }
}

/// Log lines go to standard error: data and reports may be on standard output.
fn start_log(cli: &Cli) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match cli.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(progress::above_the_line).with_target(cli.verbose > 1);
    match cli.log_format {
        args::LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).compact().without_time().init(),
        args::LogFormat::Json => log.json().init(),
    }
}
