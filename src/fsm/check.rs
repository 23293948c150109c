//! All findings about a definition at once.
//!
//! In order: the text (syntax, keys that come twice), the shape, the names (targets, ids, delays, calls, handlers), and,
//! when nothing of that left a hole in the graph, the graph itself.

mod limits;
mod sense;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::definition::{Definition, Delay};
use super::finding::{self, Class, Draft, Finding, Report};
use super::flow::Flow;
use super::graph::Graph;
use super::locate::{self, Locator};
use super::path::Path;
use super::vocabulary::Vocabulary;
use super::{lint, names, shape};
use sense::Sense;

/// Parses and checks a text and never stops at the first problem.
///
/// The definition is there when no finding is an error of shape, so it may still be one that
/// [`compile`](super::compile()) refuses. Findings carry their line and column.
/// Without a vocabulary, names of the program (guards, actions, handlers) may be anything.
pub fn check_text(text: &str, vocabulary: Option<&Vocabulary>) -> (Option<Definition>, Report) {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return (None, syntax(text, &error)),
    };
    let locator = Locator::new(text);
    let twice = |path| {
        let message = "the same key stands twice in this object; only the last would count";
        Draft::new(finding::DUPLICATE_KEY, path, message).at_key()
    };
    let mut all: Vec<Draft> = locator.duplicates().into_iter().map(twice).collect();
    let (definition, drafts) = shape::read_all(&value);
    let sound = drafts.is_empty();
    all.extend(drafts);
    let partial = definition.as_ref().is_none_or(|definition| semantics(definition, None, vocabulary, sound, &mut all));
    let report = finding::report(all, &locator, true, partial);
    (definition.filter(|_| sound), report)
}

/// Checks a definition that has no text, for example a built one. Findings carry no position.
pub fn check(definition: &Definition, vocabulary: Option<&Vocabulary>) -> Report {
    check_with(definition, None, vocabulary)
}

/// `delays` takes the place of the definition's own.
pub(super) fn check_with(definition: &Definition, delays: Option<&IndexMap<String, Delay>>, vocabulary: Option<&Vocabulary>) -> Report {
    // A built definition may hold what no text could; printing it lets the same reader judge it.
    let value = serde_json::to_value(definition).unwrap_or_default();
    let (_, mut all) = shape::read_all(&value);
    let sound = all.is_empty();
    let partial = semantics(definition, delays, vocabulary, sound, &mut all);
    finding::report(all, &Locator::new(&value.to_string()), false, partial)
}

fn syntax(text: &str, error: &serde_json::Error) -> Report {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let offset = line_start + error.column().saturating_sub(1);
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    let finding = Finding {
        code: finding::SYNTAX.name,
        class: Class::Error,
        path: String::new(),
        message: message.to_owned(),
        suggestion: None,
        position: Some(locate::position(text, offset)),
    };
    Report { findings: vec![finding], partial: true }
}

/// Adds what the names and the graph are at fault with; true when the graph could not be checked.
fn semantics(
    definition: &Definition,
    delays: Option<&IndexMap<String, Delay>>,
    vocabulary: Option<&Vocabulary>,
    sound: bool,
    all: &mut Vec<Draft>,
) -> bool {
    let graph = Graph::new(definition);
    let sense = Sense { graph: &graph, delays: delays.unwrap_or(&definition.delays), vocabulary };
    let mut drafts = sense.ids();
    drafts.extend(sense.initials());
    drafts.extend(sense.targets());
    drafts.extend(limits::too_large(&graph, sense.names()));
    let partial = !sound || !drafts.is_empty();
    drafts.extend(sense.delays());
    drafts.extend(sense.calls());
    drafts.extend(sense.handlers());
    if !partial {
        let flow = Flow::new(&graph);
        drafts.extend(lint::run(&graph, &flow, vocabulary));
        drafts.extend(sense.unset_context());
    }
    allow(definition, partial, vocabulary.is_some(), &mut drafts);
    all.extend(drafts);
    partial
}

/// Takes out what `meta.fsm.allow` excuses, and looks at its entries themselves.
fn allow(definition: &Definition, partial: bool, has_vocabulary: bool, drafts: &mut Vec<Draft>) {
    let list = Path::root().key("meta").key("fsm").key("allow");
    for (index, entry) in definition.allow.iter().enumerate() {
        let (name, place) = entry.split_once('@').map_or((entry.as_str(), None), |(name, place)| (name, Some(place)));
        let path = list.item(index, definition.allow.len());
        let Some(code) = finding::CODES.iter().find(|code| code.name == name) else {
            let excusable = finding::CODES.iter().filter(|code| code.class != Class::Error).map(|code| code.name);
            let draft = Draft::new(finding::BAD_ALLOW, path, format!("there is no finding `{name}`"));
            drafts.push(draft.suggest(names::nearest(name, excusable)));
            continue;
        };
        if code.class == Class::Error {
            drafts.push(Draft::new(finding::BAD_ALLOW, path, format!("`{name}` is an error and cannot be excused")));
            continue;
        }
        let before = drafts.len();
        let excused = |draft: &Draft| draft.code == *code && place.is_none_or(|place| place == draft.path.to_string());
        drafts.retain(|draft| !excused(draft));
        // Some findings only come with a vocabulary, so an entry for them may look idle without one.
        let needs_vocabulary = [finding::NO_TIMEOUT, finding::LATE_TIMEOUT].contains(code);
        if drafts.len() == before && !partial && (has_vocabulary || !needs_vocabulary) {
            drafts.push(Draft::new(finding::UNUSED_ALLOW, path, format!("`{entry}` excuses nothing")));
        }
    }
}

/// The delays that a program gives in place of `meta.fsm.delays`.
///
/// # Errors
/// The names and faults of those that are no delays.
pub(super) fn read_delays(given: &Map<String, Value>) -> Result<IndexMap<String, Delay>, Report> {
    let (delays, drafts) = shape::read_delays(given);
    if drafts.is_empty() { Ok(delays) } else { Err(finding::report(drafts, &Locator::new("{}"), false, true)) }
}
