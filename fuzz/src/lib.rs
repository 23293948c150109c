//! What must hold whatever bytes come in: nothing panics, nothing takes for ever, and what is understood is understood right.
//!
//! One function a target, for the fuzzers in `fuzz_targets` and for the bounded test `tests/it/fuzz.rs`, which includes this file.

mod copy_text;
mod journal;

pub use copy_text::copy_text;
pub use journal::journal;

use sluicegate::ChunkId;
use sluicegate::fsm::{
    Class, CompileOptions, Definition, Effects, Event, EventData, Instance, Machine, Status, check, check_text, compile, simulate,
};
use sluicegate::pipeline::document::Document;
use sluicegate::pipeline::{Pipeline, Syntax, overrides};
use sluicegate::source::postgres::{ConnInfo, Message, NamePattern, Surroundings, copy_run, frame, identifier, identifier_list};
use std::path::PathBuf;

/// Microsteps of one event that a target waits for. A definition may ask for four thousand million, and then gets them.
const PATIENCE: u32 = 1_000;

/// A definition, and behind a zero byte a script of events for it: check, print, compile, step, walk.
pub fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, script) = text.split_once('\0').unwrap_or((text, ""));
    let (definition, report) = check_text(text, None);
    assert!(definition.is_some() || !report.is_clean(Class::Error), "refused without a reason");
    let _ = (report.to_string(), serde_json::to_string(&report));
    let Some(definition) = definition else { return };
    if definition.max_iterations.is_some_and(|limit| limit > PATIENCE) {
        return;
    }
    // The text may have faults that the definition does not show, like a key that stands twice.
    let report = check(&definition, None);
    let printed = serde_json::to_string(&definition).expect("a definition can be printed");
    let again: Definition = serde_json::from_str(&printed).expect("what was printed can be read");
    assert!(again == definition, "printed and read again, it is another: {printed}");
    let options = CompileOptions { default_max_iterations: PATIENCE, ..CompileOptions::default() };
    match compile(definition, &options) {
        Ok(machine) => {
            assert!(report.is_clean(Class::Error), "compiled in spite of {report}");
            step(&machine, data);
            let _ = simulate::walk(&machine, script).map_err(|error| error.to_string());
        }
        Err(refused) => assert!(!refused.findings.is_empty(), "not compiled, without a reason"),
    }
}

/// Sends it every event that it knows, in an order that the data say, until it ends.
fn step(machine: &Machine, data: &[u8]) {
    let mut effects = Effects::new();
    let Ok(mut instance) = machine.start(machine.initial_context(), &mut (), &mut effects) else { return };
    let events: Vec<_> = machine.events().collect();
    for byte in data.iter().rev().take(32) {
        if instance.status() != Status::Active {
            break;
        }
        let id = events[usize::from(*byte) % events.len()];
        let sent = machine.send(&mut instance, &Event { id, name: None, data: EventData::None }, &mut (), &mut effects);
        sane(machine, &instance);
        if sent.is_err() {
            break;
        }
    }
}

fn sane(machine: &Machine, instance: &Instance) {
    assert!(machine.state(machine.state_name(instance.state())).is_some(), "in a state that it does not have");
    let top = machine.parent(instance.state()).is_none_or(|parent| machine.parent(parent).is_none());
    assert_eq!(instance.status() == Status::Done, machine.is_final(instance.state()) && top, "{}", machine.state_name(instance.state()));
}

/// Words that people write: connection strings, with files behind them; patterns, names, ids, sizes, durations, whole command lines.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, file) = text.split_once('\0').unwrap_or((text, ""));
    connection(text, file);
    let _ = NamePattern::parse(text).map_err(|error| error.to_string());
    if let Ok(names) = identifier_list(text) {
        let quoted: Vec<String> = names.iter().map(|name| identifier(name)).collect();
        assert_eq!(identifier_list(&quoted.join(", ")).as_ref(), Ok(&names), "quoted, they are other names");
    }
    if let Ok(id) = text.parse::<ChunkId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    sluicegate::cli::fuzzing::values(text);
    sluicegate::cli::fuzzing::arguments(text.split('\n'));
}

/// `file` is the service file and the passfile.
fn connection(text: &str, file: &str) {
    let path = scratch("words");
    std::fs::write(&path, file).expect("the temporary directory can be written");
    let shown = path.display().to_string();
    let env = |name: &str| ["PGSERVICEFILE", "PGPASSFILE"].contains(&name).then(|| shown.clone());
    let around = Surroundings { env: &env, home: None, os_user: Some("me".into()), socket_dirs: Vec::new(), sysconf_dirs: Vec::new() };
    for text in [text.to_owned(), format!("service={text}"), format!("host={text}")] {
        match ConnInfo::parse_in(&text, &around) {
            Ok(info) => drop(format!("{info} {info:?}")),
            Err(error) => drop(format!("{error} {error:?}")),
        }
    }
}

/// A pipeline file in each syntax, and behind a zero byte settings from outside, `PATH=VALUE` a line.
pub fn pipeline(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, settings) = text.split_once('\0').unwrap_or((text, ""));
    for syntax in [Syntax::Yaml, Syntax::Toml, Syntax::Json] {
        let mut document = match Document::parse(text, syntax) {
            Ok(document) => document,
            Err(problem) => {
                assert!(!problem.to_string().is_empty());
                continue;
            }
        };
        let variable = |name: &str| name.len().is_multiple_of(2).then(|| "}: ${X:-y}\n- [".to_owned());
        if let Err(problems) = overrides::interpolate(&mut document, &variable) {
            assert!(!problems.is_empty(), "refused without a reason");
        }
        for (path, value) in settings.lines().filter_map(|line| line.split_once('=')) {
            let _ = overrides::set(&mut document.value, path, value);
        }
        if let Err(problems) = Pipeline::of(document) {
            assert!(!problems.to_string().is_empty(), "refused without a reason");
        }
    }
}

/// A file of this process's and thread's own.
fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir();
    let thread = std::thread::current().id();
    folder.join(format!("sluicegate-fuzz-{}-{thread:?}-{name}", std::process::id()))
}

/// What a server sends.
pub fn wire(data: &[u8]) {
    if let Ok(run) = copy_run(data) {
        assert!(run.len <= data.len() && run.len >= run.rows * 5, "{run:?}");
    }
    let mut rest = data;
    let (mut rows, mut length, mut copying) = (0, 0, true);
    while let Ok(Some(next)) = frame(rest) {
        assert!(next.len >= 5);
        let Some((message, behind)) = rest.split_at_checked(next.len) else { break };
        rest = behind;
        copying &= next.tag == b'd';
        rows += usize::from(copying);
        length += if copying { next.len } else { 0 };
        match Message::parse(message) {
            Ok(Message::DataRow(row)) => drop(row.to_texts().map_err(|error| error.to_string())),
            Ok(message) => drop((message.copied_rows(), format!("{message:?}"))),
            Err(error) => drop(error.to_string()),
        }
    }
    if let Ok(run) = copy_run(data) {
        assert_eq!((run.rows, run.len), (rows, length), "rows that only one of two ways of counting sees");
    }
    for size in 0..data.len().min(6) {
        let _ = Message::parse(&data[..size]);
    }
}
