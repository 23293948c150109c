//! House rules that the compiler does not know, read out of the source text: who may import whom, how long things get, what is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What each module may import, itself aside. A row only names modules above it, so there are no cycles.
///
/// `sink` is what `src/sink/mod.rs` says itself: the trait and its words. `sink::*` is any module below it, a concrete part, also when it
/// is imported by a name that `sink` re-exports; a module below with a row of its own is not meant.
const LAYERS: &[(&str, &[&str])] = &[
    // The pure core.
    ("fsm", &[]),
    ("diagram", &["fsm"]),
    // What flows, what bounds it, and what everybody needs.
    ("cgroup", &[]),
    ("chunk", &[]),
    ("failpoint", &[]),
    ("memory", &[]),
    ("quantity", &[]),
    ("sync", &[]),
    ("clock", &["sync"]),
    ("trouble", &["sync"]),
    ("claim", &["trouble"]),
    ("budget", &["clock", "sync"]),
    ("format", &["memory"]),
    ("batch", &["chunk", "format", "memory"]),
    // The traits that the engine works with.
    ("processor", &["chunk", "sync"]),
    ("sink", &["chunk", "processor", "trouble"]),
    ("source", &["budget", "chunk", "trouble"]),
    ("journal", &["chunk", "fsm", "sink", "source", "trouble"]),
    ("engine", &["budget", "cgroup", "chunk", "clock", "fsm", "journal", "processor", "sink", "source", "sync", "trouble"]),
    // Concrete parts: the engine knows none of them, and they know nothing of the engine.
    ("processor::*", &["batch", "chunk", "format", "memory", "processor"]),
    ("sink::*", &["batch", "chunk", "claim", "failpoint", "processor", "sink", "trouble"]),
    ("source::*", &["budget", "chunk", "source", "sync", "trouble"]),
    ("source::file", &["batch", "budget", "chunk", "clock", "format", "memory", "source", "sync", "trouble"]),
    ("source::postgres", &["batch", "budget", "chunk", "clock", "format", "memory", "processor", "sink", "sink::*", "source", "trouble"]),
    ("journal::sqlite", &["chunk", "claim", "clock", "failpoint", "fsm", "journal", "sink", "source", "trouble"]),
    // What ships ready to use: definitions, and an export put together.
    ("definitions", &["fsm"]),
    ("export", &["batch", "definitions", "engine", "fsm", "sink::*", "source::postgres"]),
    // Names become concrete parts here, and nowhere else.
    (
        "pipeline",
        &["batch", "definitions", "engine", "format", "fsm", "processor::*", "quantity", "sink::*", "source", "source::file", "trouble"],
    ),
    ("cli", EVERYTHING_ABOVE),
];

const EVERYTHING_ABOVE: &[&str] = &["…"];

/// What the engine's threads wait by comes from `sync`, which a model swaps (see `tests/models`): one lock that it does not know, and the
/// model would stand still. Here, and in everything below.
const MODELLED: &[&str] = &["budget", "clock", "engine", "processor", "source::feed", "source::items", "trouble"];

/// The same things by other names.
const NOT_MODELLED: &[&str] = &[
    "parking_lot",
    "crossbeam_channel",
    "std::sync::",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::thread::scope",
    "std::thread::Builder",
];

/// Of `std::sync`, what waits for nobody; or, with `LazyLock`, for a computation that meets no lock of a model.
const WAITS_FOR_NOBODY: &[&str] = &["std::sync::Arc", "std::sync::Weak", "std::sync::{Arc, Weak}", "std::sync::{Arc, LazyLock}"];

const MAX_FILE_LINES: usize = 600;

/// Files that are better long: path and reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// A screen.
const MAX_FUNCTION_LINES: usize = 70;

/// Left behind by mistake, wherever they are; and what writes to the terminal, which only the command may.
const NEVER: &[&str] = &["todo!(", "unimplemented!(", "dbg!("];
const ONLY_IN_CLI: &[&str] = &["println!(", "eprintln!(", "print!(", "eprint!("];

#[test]
fn rows_of_the_table_only_name_rows_above_them() {
    let mut above = BTreeSet::new();
    for (module, imports) in LAYERS {
        for import in imports.iter().filter(|import| **import != EVERYTHING_ABOVE[0]) {
            assert!(above.contains(import), "tests/it/tidy.rs: LAYERS: the row of `{module}` names `{import}`, which is not above it");
        }
        assert!(above.insert(module), "tests/it/tidy.rs: LAYERS: two rows for `{module}`");
    }
}

#[test]
fn imports_point_one_way() {
    let mut problems = Problems::default();
    let sources = sources("src");
    let exports = exports(&sources);
    for file in &sources {
        let importer = file.layer();
        if ["lib", "main"].contains(&&*importer) {
            continue;
        }
        let Some((place, row)) = row(&importer) else {
            problems.add(file, 1, &format!("module `{importer}` has no layer; give it a row in LAYERS of tests/it/tidy.rs"));
            continue;
        };
        for (line, path) in file.crate_paths() {
            let imported = layer_of_path(&path, &exports);
            let Some((imported_place, imported_row)) = self::row(&imported) else { continue };
            let is_own = imported_row.0 == row.0;
            let all = row.1 == EVERYTHING_ABOVE && imported_place < place;
            if !is_own && !all && !row.1.contains(&imported_row.0) {
                let message = format!(
                    "`{importer}` imports `{}`, of layer `{}`; move what it needs down a layer, hand it in from above, or, if the \
                     architecture is to change, change LAYERS in tests/it/tidy.rs",
                    path.join("::"),
                    imported_row.0
                );
                problems.add(file, line, &message);
            }
        }
    }
    problems.assert_none();
}

#[test]
fn what_is_modelled_waits_by_sync_alone() {
    let mut problems = Problems::default();
    for file in sources("src") {
        let module = file.module().join("::");
        if !MODELLED.iter().any(|modelled| module == *modelled || module.starts_with(&format!("{modelled}::"))) {
            continue;
        }
        // Unit tests run outside of any model.
        for (line, text) in file.code().take_while(|(_, text)| !text.starts_with("#[cfg(test)]")) {
            let text = WAITS_FOR_NOBODY.iter().fold(text.to_owned(), |text, harmless| text.replace(harmless, ""));
            for word in NOT_MODELLED.iter().filter(|word| text.contains(**word)) {
                problems.add(&file, line, &format!("`{word}`: take it from `crate::sync`, or the models of `tests/models` do not see it"));
            }
        }
    }
    problems.assert_none();
}

/// Or the check of imports would not see it.
#[test]
fn top_level_modules_are_named_by_crate() {
    let mut problems = Problems::default();
    for file in sources("src").iter().filter(|file| file.path != Path::new("src/lib.rs")) {
        let depth = file.module().len();
        let mut inner = 0;
        for (line, text) in file.code() {
            inner += usize::from(text.trim_start().starts_with("mod ") && text.ends_with('{'));
            let chain = text.split("super::").skip(1).fold((0, 0), |(longest, run), rest| {
                let run = run + 1;
                if rest.is_empty() { (longest.max(run), run) } else { (longest.max(run), 0) }
            });
            if chain.0 >= depth + inner {
                problems.add(file, line, "`super::` leads out to the crate's root; write `crate::` instead");
            }
            if text.contains("crate::{") || text.contains("crate::*") {
                problems.add(file, line, "one `use` for each top-level module, please: `use crate::module::…`");
            }
        }
    }
    problems.assert_none();
}

#[test]
fn main_only_calls_the_command() {
    let mut problems = Problems::default();
    for file in sources("src").iter().filter(|file| file.path == Path::new("src/main.rs")) {
        for (line, text) in file.code().filter(|(_, text)| text.replace("sluicegate::cli::", "").contains("sluicegate::")) {
            problems.add(file, line, &format!("`{}`: main only calls `sluicegate::cli`; what it does belongs there", text.trim()));
        }
    }
    problems.assert_none();
}

#[test]
fn files_and_functions_stay_readable() {
    let mut problems = Problems::default();
    for file in sources("src").iter().chain(&sources("tests")).chain(&sources("benches")) {
        let lines = file.text.lines().count();
        let is_excused = LONG_FILES.iter().any(|(path, _)| file.path == Path::new(path));
        if lines > MAX_FILE_LINES && !is_excused {
            let message = format!("{lines} lines, more than {MAX_FILE_LINES}; split it along a seam, or give a reason in LONG_FILES");
            problems.add(file, 1, &message);
        }
        if lines <= MAX_FILE_LINES && is_excused {
            problems.add(file, 1, "not long any more; take it out of LONG_FILES in tests/it/tidy.rs");
        }
        for (line, name, length) in file.functions().into_iter().filter(|(_, _, length)| *length > MAX_FUNCTION_LINES) {
            problems.add(file, line, &format!("`{name}` has {length} lines, more than {MAX_FUNCTION_LINES}; take a part out and name it"));
        }
    }
    problems.assert_none();
}

#[test]
fn every_file_says_what_it_is() {
    let mut problems = Problems::default();
    for file in sources("src").iter().chain(&sources("tests")).chain(&sources("benches")) {
        if !file.text.starts_with("//! ") {
            problems.add(file, 1, "begin the file with `//!` and a sentence that says what it is for");
        }
    }
    problems.assert_none();
}

#[test]
fn nothing_is_left_behind() {
    let mut problems = Problems::default();
    for file in &sources("src") {
        for (line, text) in file.code() {
            for word in NEVER.iter().filter(|word| calls(text, word)) {
                problems.add(file, line, &format!("`{word}…)` is for the time before a commit"));
            }
            for word in ONLY_IN_CLI.iter().filter(|word| !file.path.starts_with("src/cli") && calls(text, word)) {
                problems.add(file, line, &format!("`{word}…)`: a library does not write to the terminal; use `tracing`, or return it"));
            }
        }
    }
    problems.assert_none();
}

fn calls(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// A file of ours.
struct SourceFile {
    /// From the repository's root.
    path: PathBuf,
    text: String,
}

/// All Rust files below `folder`, in order.
fn sources(folder: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a directory of the repository").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).expect("UTF-8");
                found.push(SourceFile { path: entry.strip_prefix(root).expect("below the root").to_owned(), text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

impl SourceFile {
    /// Its lines from 1, without those that are comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, text)| (at + 1, text)).filter(|(_, text)| !text.trim_start().starts_with("//"))
    }

    /// Its module path, like `source`, `postgres`, `lane`.
    fn module(&self) -> Vec<String> {
        let path = self.path.strip_prefix("src").expect("a file of the library").with_extension("");
        path.iter().map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "mod").collect()
    }

    /// The module that LAYERS is to be asked for.
    fn layer(&self) -> String {
        self.module().into_iter().take(2).collect::<Vec<_>>().join("::")
    }

    /// Every path that begins at the crate's root, with its line, up to the second name.
    fn crate_paths(&self) -> Vec<(usize, Vec<String>)> {
        let lines: Vec<&str> = self.text.lines().map(|text| if text.trim_start().starts_with("//") { "" } else { text }).collect();
        let code = lines.join("\n");
        let mut paths = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            let line = code[..at].lines().count().max(1);
            let (module, rest) = name(&code[at + "crate::".len()..]);
            let rest = rest.strip_prefix("::").unwrap_or("");
            match rest.strip_prefix('{') {
                Some(group) => paths.extend(group_names(group).into_iter().map(|second| (line, vec![module.to_owned(), second]))),
                None => paths.push((line, [module, name(rest).0].into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect())),
            }
        }
        paths
    }

    /// Line, name and length in lines of every function that is longer than one line. As rustfmt leaves it, a function ends with the
    /// first brace that stands as far in as it does.
    fn functions(&self) -> Vec<(usize, String, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = Vec::new();
        for (at, text) in lines.iter().enumerate() {
            let Some(name) = function_name(text) else { continue };
            let indent = &text[..text.len() - text.trim_start().len()];
            let ends = |text: &str| {
                text.strip_prefix(indent).is_some_and(|text| text.starts_with('}') || text.starts_with(')') && text.ends_with(';'))
            };
            if text.ends_with(['}', ';']) {
                continue;
            }
            let end = lines[at + 1..].iter().position(|text| ends(text)).map_or(lines.len(), |more| at + 1 + more);
            found.push((at + 1, name, end - at + 1));
        }
        found
    }
}

/// The name of the function that begins in this line.
fn function_name(text: &str) -> Option<String> {
    let text = text.trim_start();
    if text.starts_with("//") {
        return None;
    }
    let (before, after) = text.split_once("fn ")?;
    let is_head = before.split_whitespace().all(|word| ["const", "async", "unsafe"].contains(&word) || word.starts_with("pub"));
    let name = name(after).0;
    (is_head && !name.is_empty()).then(|| name.to_owned())
}

/// The name that `text` begins with, and what follows.
fn name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// The first name of each item of a group, of which the opening brace has been read.
fn group_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut expected, mut rest) = (1, true, group);
    while let Some(next) = rest.chars().next() {
        let (word, behind) = name(rest);
        match next {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expected = true,
            _ if expected && !word.is_empty() => {
                names.push(word.to_owned());
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        rest = if word.is_empty() { &rest[next.len_utf8()..] } else { behind };
    }
    names
}

/// Names that a top-level module re-exports from below it: (module, name) to the module below.
type Exports = BTreeMap<(String, String), String>;

fn exports(sources: &[SourceFile]) -> Exports {
    let mut exports = Exports::new();
    for file in sources.iter().filter(|file| file.module().len() == 1 && file.path != Path::new("src/lib.rs")) {
        let module = file.module().remove(0);
        for (at, _) in file.text.match_indices("\npub use ") {
            let (below, rest) = name(&file.text[at + "\npub use ".len()..]);
            let rest = rest.strip_prefix("::").unwrap_or("");
            let names = rest.strip_prefix('{').map_or_else(|| vec![name(rest).0.to_owned()], group_names);
            exports.extend(names.into_iter().map(|name| ((module.clone(), name), below.to_owned())));
        }
    }
    exports
}

/// What a path from the crate's root leads into: `sink::file` for `sink::FileSink`, `sink` for `sink::Sink`.
fn layer_of_path(path: &[String], exports: &Exports) -> String {
    match path {
        [module, second] => {
            let below = exports.get(&(module.clone(), second.clone())).unwrap_or(second);
            if below.starts_with(|first: char| first.is_lowercase()) && below != "crate" {
                format!("{module}::{below}")
            } else {
                module.clone()
            }
        }
        _ => path.join("::"),
    }
}

type Row = (&'static str, &'static [&'static str]);

/// The row for a module: its own, that of all modules beside it, or that of the module above.
fn row(module: &str) -> Option<(usize, Row)> {
    let top = module.split("::").next().unwrap_or(module);
    let beside = format!("{top}::*");
    let place = [module, &beside, top].into_iter().find_map(|name| LAYERS.iter().position(|(row, _)| *row == name))?;
    // `sink::*` is for what lies below `sink`, not for `sink` itself.
    let place = if module == top { LAYERS.iter().position(|(row, _)| *row == top)? } else { place };
    Some((place, LAYERS[place]))
}

/// What is wrong, and where.
#[derive(Default)]
struct Problems(String);

impl Problems {
    fn add(&mut self, file: &SourceFile, line: usize, problem: &str) {
        let _ = writeln!(self.0, "{}:{line}: {problem}", file.path.display());
    }

    #[track_caller]
    fn assert_none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
