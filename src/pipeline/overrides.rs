//! What is put into a pipeline file from outside: variables in its texts, and settings from the environment and the command line.

use super::Problem;
use super::document::{Document, value_of};
use serde_json::{Map, Value};

/// What environment variables that are settings begin with.
pub const PREFIX: &str = "SLUICEGATE_";

/// Replaces `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in the texts of a document. That happens after the file was parsed, so that no
/// value can become syntax. `$${` stands for `${`.
///
/// # Errors
/// All variables that are not set, and what was begun and not closed.
pub fn interpolate(document: &mut Document, variable: &impl Fn(&str) -> Option<String>) -> Result<(), Vec<Problem>> {
    let mut found = Vec::new();
    document.each_text(&mut |path, text| match replaced(text, variable) {
        Ok(Some(new)) => *text = new,
        Ok(None) => {}
        Err(message) => found.push((path.to_owned(), message)),
    });
    let problem = |(path, message): (String, String)| Problem { position: document.place(&path), path, message };
    let problems: Vec<Problem> = found.into_iter().map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The text with its variables; `None` if it has none.
fn replaced(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = behind;
            continue;
        }
        out.push_str(before);
        let (inside, behind) = behind.split_once('}').ok_or("`${` is never closed; `$${` stands for the characters themselves")?;
        out.push_str(&value(inside, variable)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn value(inside: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, otherwise) = inside.split_once(':').map_or((inside, None), |(name, otherwise)| (name, Some(otherwise)));
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.as_bytes()[0].is_ascii_digit();
    if !is_name {
        return Err(format!("`{name}` is no name of a variable"));
    }
    let set = variable(name).filter(|value| !value.is_empty() || otherwise.is_none());
    match (set, otherwise.map(|text| text.split_at(text.len().min(1)))) {
        (Some(value), _) => Ok(value),
        (None, Some(("-", default))) => Ok(default.to_owned()),
        (None, Some(("?", message))) => Err(format!("the variable {name} is not set: {message}")),
        (None, Some(_)) => Err(format!("`${{{inside}}}`: behind the colon stands `-default` or `?message`")),
        (None, None) => Err(format!("the variable {name} is not set; `${{{name}:-default}}` gives it a default")),
    }
}

/// Settings among environment variables: `SLUICEGATE_SINK__PATH` is `sink.path`, `SLUICEGATE_WORKERS` is `workers`. Others, without `__`
/// and of another name than a setting of the first level, are none.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>, top: &[&str]) -> Vec<(String, String)> {
    let setting = |(name, value): (String, String)| {
        let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        (path.contains("__") || top.contains(&&*path)).then(|| (path.replace("__", "."), value))
    };
    let mut found: Vec<_> = variables.filter_map(setting).collect();
    found.sort();
    found
}

/// Sets what `path`, like `sink.path` or `processors.0.names`, names to what `text` is as YAML.
///
/// # Errors
/// When the path leads through something that has no members.
pub fn set(root: &mut Value, path: &str, text: &str) -> Result<(), String> {
    let mut place = root;
    for step in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(members) => members.entry(step).or_insert(Value::Null),
            Value::Array(items) => {
                let length = items.len();
                let index = step.parse::<usize>().ok().filter(|index| *index < length);
                &mut items[index.ok_or_else(|| format!("`{path}`: `{step}` is no place in a list of {length}"))?]
            }
            _ => return Err(format!("`{path}`: nothing can be set below a value")),
        };
    }
    *place = value_of(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::document::Syntax;
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_become_values_and_never_syntax() {
        let text = "a: ${X}\nb: 'x${Y:-d:e}${EMPTY:-z}'\nc: $${X}\nd: [\"${INJECT}\"]\n";
        let mut document = Document::parse(text, Syntax::Yaml).unwrap();
        let variable = |name: &str| match name {
            "X" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "INJECT" => Some("\"]\ne: {".to_owned()),
            _ => None,
        };
        interpolate(&mut document, &variable).unwrap();
        assert_eq!(document.value, json!({ "a": "1", "b": "xd:ez", "c": "${X}", "d": ["\"]\ne: {"] }));
    }

    #[test]
    fn variables_that_are_not_set_are_told_all_at_once() {
        let mut document = Document::parse("a: ${X}\nb:\n  c: '${Y:?say where it is}'\nd: ${Z\n", Syntax::Yaml).unwrap();
        let problems = interpolate(&mut document, &|_| None).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        1:1: a: the variable X is not set; `${X:-default}` gives it a default
        3:3: b.c: the variable Y is not set: say where it is
        4:1: d: `${` is never closed; `$${` stands for the characters themselves
        ");
    }

    #[test]
    fn settings_come_from_the_environment_and_from_flags() {
        let variables = [("SLUICEGATE_SINK__PATH", "x"), ("SLUICEGATE_WORKERS", "3"), ("SLUICEGATE_CRASH_AT", "y"), ("PATH", "z")];
        let found = from_environment(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())), &["workers"]);
        assert_eq!(found, [("sink.path".to_owned(), "x".to_owned()), ("workers".to_owned(), "3".to_owned())]);
        let mut root = json!({ "processors": [{ "names": ["a"] }], "workers": 1 });
        set(&mut root, "processors.0.names", "[b, c]").unwrap();
        set(&mut root, "sink.path", "-").unwrap();
        assert_eq!(root["sink"]["path"], "-");
        set(&mut root, "sink.path", "out.jsonl").unwrap();
        assert_eq!(root, json!({ "processors": [{ "names": ["b", "c"] }], "workers": 1, "sink": { "path": "out.jsonl" } }));
        assert_eq!(set(&mut root, "processors.1.names", "x").unwrap_err(), "`processors.1.names`: `1` is no place in a list of 1");
        assert_eq!(set(&mut root, "workers.x", "1").unwrap_err(), "`workers.x`: nothing can be set below a value");
    }
}
