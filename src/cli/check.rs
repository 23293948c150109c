//! `sluicegate check`: definitions are checked like programs.

use super::args::{CheckArgs, Format};
use super::exit::{Exit, Failure};
use crate::cli::out::outln;
use crate::fsm::{Class, Definition, Finding, Vocabulary, check_text};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::json;
use std::path::Path;

/// Checks every file and prints all findings of all of them.
pub fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let vocabulary = args.for_export.then(super::export::vocabulary);
    let mut exit = Exit::Complete;
    let mut all = Vec::new();
    for path in &args.files {
        let text = read(path)?;
        if super::run::is_pipeline(path, &text) {
            exit = exit.and(pipeline(path, args, &mut all)?);
            continue;
        }
        let (definition, report) = check_text(&text, vocabulary.as_ref());
        if args.canonical
            && let Some(definition) = &definition
        {
            outln!("{:#}", serde_json::to_value(definition).unwrap_or_default());
        }
        exit = if report.is_clean(Class::Lint) { exit } else { Exit::Findings };
        match args.format {
            Format::Text => {
                report.findings.iter().for_each(|finding| outln!("{}", located(path, finding)));
                if report.findings.is_empty() && !args.canonical {
                    outln!("{}: ok", path.display());
                }
            }
            Format::Json => all.push(json!({ "file": path, "findings": report.findings })),
        }
    }
    if args.format == Format::Json {
        outln!("{:#}", json!(all));
    }
    Ok(exit)
}

/// Checks a pipeline file, without looking at its ends.
fn pipeline(path: &Path, args: &CheckArgs, all: &mut Vec<serde_json::Value>) -> Result<Exit, Failure> {
    let problems = match super::run::read(path, &[])? {
        Ok(pipeline) => {
            super::run::check_definition(&pipeline)?;
            Vec::new()
        }
        Err(problems) => problems,
    };
    match args.format {
        Format::Text => {
            problems.iter().for_each(|problem| outln!("{}", super::run::located(path, problem)));
            if problems.is_empty() {
                outln!("{}: ok", path.display());
            }
        }
        Format::Json => all.push(json!({ "file": path, "findings": problems })),
    }
    Ok(if problems.is_empty() { Exit::Complete } else { Exit::Findings })
}

/// Reads a definition file.
pub fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("{} cannot be read", path.display());
        Trouble::lasting(TroubleKind::Configuration, message).because(error).into()
    })
}

/// Reads a definition that can be run by a program with this vocabulary; without one, that means something at all.
pub fn definition(path: &Path, vocabulary: Option<&Vocabulary>) -> Result<Definition, Failure> {
    let (definition, report) = check_text(&read(path)?, vocabulary);
    let refused = if vocabulary.is_some() { Class::Lint } else { Class::Error };
    if let (true, Some(definition)) = (report.is_clean(refused), definition) {
        return Ok(definition);
    }
    report.findings.iter().for_each(|finding| eprintln!("{}", located(path, finding)));
    let (use_, flag) = if vocabulary.is_some() { ("run", "--for-export ") } else { ("used", "") };
    Err(Failure::configuration(format!("{} cannot be {use_}; `sluicegate check {flag}{0}` shows the same", path.display())))
}

/// A finding on one line, in the form that editors jump to.
pub fn located(path: &Path, finding: &Finding) -> String {
    let place = finding.position.map_or(String::new(), |position| format!(":{position}"));
    format!("{}{place}: {}", path.display(), Finding { position: None, ..finding.clone() })
}
