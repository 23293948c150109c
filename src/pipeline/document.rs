//! The text of a pipeline file, in YAML, TOML or JSON: its values, and where each of them stands.

use super::Problem;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Deeper than this, no setting lies.
const MOST_DEPTH: usize = 32;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// YAML 1.2, without anchors.
    Yaml,
    /// TOML 1.
    Toml,
    /// JSON.
    Json,
}

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Values with their places.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The values.
    pub value: Value,
    /// Where each stands, by its path like `processors[0].names`: the key if it has one.
    places: HashMap<String, Position>,
}

impl Document {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Document, Problem> {
        match syntax {
            Syntax::Yaml => yaml(text),
            Syntax::Toml => toml(text),
            Syntax::Json => {
                let value = serde_json::from_str(text).map_err(|error| {
                    let message = error.to_string();
                    let what = message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what).to_owned();
                    Problem { position: Some(Position { line: error.line(), column: error.column() }), path: String::new(), message: what }
                })?;
                // JSON is YAML, except that tabs may not indent there.
                let places = yaml(text).map(|document| document.places).unwrap_or_default();
                Ok(Document { value, places })
            }
        }
    }

    /// Where what `path` names stands, or what is nearest around it.
    pub fn place(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Calls `each` with every text among the values, and its path.
    pub fn each_text(&mut self, each: &mut impl FnMut(&str, &mut String)) {
        texts("", &mut self.value, each);
    }
}

fn texts(path: &str, value: &mut Value, each: &mut impl FnMut(&str, &mut String)) {
    match value {
        Value::String(text) => each(path, text),
        Value::Array(items) => items.iter_mut().enumerate().for_each(|(index, item)| texts(&format!("{path}[{index}]"), item, each)),
        Value::Object(members) => members.iter_mut().for_each(|(key, member)| texts(&below(path, key), member, each)),
        _ => {}
    }
}

/// The path of a member.
pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value as YAML reads it where nothing stands around it: `true`, `12`, `a text`, `[a, b]`.
pub fn value_of(text: &str) -> Value {
    // A list of nothing, for YAML.
    if text.trim() == "-" {
        return "-".into();
    }
    yaml(text).map_or_else(|_| text.into(), |document| document.value)
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn yaml(text: &str) -> Result<Document, Problem> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => builder.take(event, position(span))?,
            Some(Err(error)) => {
                let place = Position { line: error.marker().line(), column: error.marker().col() + 1 };
                let hint = if error.info().contains("\"-\"") { "; standard input and output are written '-', with quotes" } else { "" };
                return Err(Problem { position: Some(place), path: String::new(), message: format!("{}{hint}", error.info()) });
            }
        }
    }
    Ok(Document { value: builder.root.unwrap_or_default(), places: builder.places })
}

/// Puts a document together from the parser's events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
    places: HashMap<String, Position>,
}

/// A list or mapping that has not ended yet, with its path.
struct Open {
    path: String,
    value: Value,
    /// The key whose value comes next.
    key: Option<String>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Position) -> Result<(), Problem> {
        let refuse = |message: &str| Err(Problem { position: Some(place), path: String::new(), message: message.to_owned() });
        match event {
            Event::Alias(_) => return refuse("anchors and aliases are not read here; write the value out"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if anchor > 0 => {
                return refuse("anchors and aliases are not read here; write the value out");
            }
            Event::DocumentStart(_) if self.root.is_some() => return refuse("a second document begins here; a file holds one pipeline"),
            Event::Scalar(text, style, _, tag) => {
                let expects_key = self.open.last().is_some_and(|open| open.value.is_object() && open.key.is_none());
                if expects_key {
                    return self.key(text.into_owned(), place);
                }
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain { plain_scalar(&text) } else { Value::String(text.into_owned()) };
                self.note(place);
                self.put(value);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if self.open.last().is_some_and(|open| open.value.is_object() && open.key.is_none()) {
                    return refuse("a key is a text");
                }
                if self.open.len() >= MOST_DEPTH {
                    return refuse("this is nested too deeply");
                }
                let value = if matches!(event, Event::SequenceStart(..)) { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
                self.note(place);
                self.open.push(Open { path: self.path(), value, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.put(open.value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn key(&mut self, key: String, place: Position) -> Result<(), Problem> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let path = below(&open.path, &key);
        if open.value.get(&key).is_some() {
            return Err(Problem { position: Some(place), message: format!("`{key}` is set twice"), path });
        }
        self.places.insert(path, place);
        open.key = Some(key);
        Ok(())
    }

    /// The path of the value that comes next.
    fn path(&self) -> String {
        let Some(open) = self.open.last() else { return String::new() };
        match (&open.value, &open.key) {
            (Value::Array(items), _) => format!("{}[{}]", open.path, items.len()),
            (_, Some(key)) => below(&open.path, key),
            _ => open.path.clone(),
        }
    }

    /// Where a value stands, unless its key says it.
    fn note(&mut self, place: Position) {
        let path = self.path();
        self.places.entry(path).or_insert(place);
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open { value: Value::Array(items), .. }) => items.push(value),
            Some(Open { value: Value::Object(members), key, .. }) => {
                members.insert(key.take().unwrap_or_default(), value);
            }
            Some(_) => {}
        }
    }
}

/// What a scalar without quotes is, by the core schema.
fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
                && text.bytes().any(|byte| byte.is_ascii_digit());
            let whole = || text.parse::<i64>().ok().map(Number::from);
            let fraction = || text.parse::<f64>().ok().and_then(Number::from_f64);
            if is_number { whole().or_else(fraction).map_or_else(|| text.into(), Value::Number) } else { text.into() }
        }
    }
}

fn toml(text: &str) -> Result<Document, Problem> {
    let at = |offset: usize| {
        let before = &text[..offset.min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    };
    let table = DeTable::parse(text).map_err(|error| Problem {
        position: error.span().map(|span| at(span.start)),
        path: String::new(),
        message: error.message().to_owned(),
    })?;
    let mut places = HashMap::new();
    let value = toml_table("", table.get_ref(), &at, &mut places);
    Ok(Document { value, places })
}

fn toml_table(path: &str, table: &DeTable<'_>, at: &impl Fn(usize) -> Position, places: &mut HashMap<String, Position>) -> Value {
    let member = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let path = below(path, key.get_ref());
        places.insert(path.clone(), at(key.span().start));
        (key.get_ref().to_string(), toml_value(&path, value, at, places))
    };
    Value::Object(table.iter().map(member).collect())
}

fn toml_value(path: &str, value: &Spanned<DeValue<'_>>, at: &impl Fn(usize) -> Position, places: &mut HashMap<String, Position>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string().into(), Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or_else(|_| number.to_string().into(), Value::from),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => {
            let item = |(index, item): (usize, &Spanned<DeValue<'_>>)| {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), at(item.span().start));
                toml_value(&path, item, at, places)
            };
            Value::Array(items.iter().enumerate().map(item).collect())
        }
        DeValue::Table(table) => toml_table(path, table, at, places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_three_syntaxes_say_the_same() {
        let yaml = "source:\n  path: \"in.csv\"\n  header: true\nprocessors:\n- { type: select, names: [a, '1'] }\nworkers: 2\n";
        let toml = "workers = 2\n[source]\npath = \"in.csv\"\nheader = true\n[[processors]]\ntype = \"select\"\nnames = [\"a\", \"1\"]\n";
        let json =
            r#"{"source": {"path": "in.csv", "header": true}, "processors": [{"type": "select", "names": ["a", "1"]}], "workers": 2}"#;
        let expected = json!({
            "source": { "path": "in.csv", "header": true }, "processors": [{ "type": "select", "names": ["a", "1"] }], "workers": 2
        });
        for (text, syntax, place) in [(yaml, Syntax::Yaml, (5, 19)), (toml, Syntax::Toml, (7, 1)), (json, Syntax::Json, (1, 82))] {
            let document = Document::parse(text, syntax).unwrap();
            assert_eq!(document.value, expected, "{syntax:?}");
            let Position { line, column } = document.place("processors[0].names").unwrap();
            assert_eq!((line, column), place, "{syntax:?}");
            assert!(document.place("processors[0].names[1].x").is_some());
        }
    }

    #[test]
    fn what_cannot_be_read_has_a_place() {
        let fault = |text: &str, syntax| Document::parse(text, syntax).unwrap_err().to_string();
        insta::assert_snapshot!(fault("a: 1\nb: 2\na: 3\n", Syntax::Yaml), @"3:1: a: `a` is set twice");
        insta::assert_snapshot!(fault("a: &x 1\nb: *x\n", Syntax::Yaml), @"1:4: anchors and aliases are not read here; write the value out");
        insta::assert_snapshot!(fault("{\"a\": 1,}", Syntax::Json), @"1:9: trailing comma");
        assert!(fault("a = \n", Syntax::Toml).starts_with("1:5: "));
        assert!(fault("a: [1\n", Syntax::Yaml).contains(':'));
        insta::assert_snapshot!(fault("a: { path: - }\n", Syntax::Yaml), @r#"1:12: "-" is only valid inside a block; standard input and output are written '-', with quotes"#);
    }
}
