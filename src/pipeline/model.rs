//! A pipeline file as it was written: what each section says, checked word by word, with nothing looked up yet.

use super::Problem;
use super::document::{Document, below};
use super::vocabulary::{self, Part, SECTIONS, Setting, nearest};
use crate::format::csv::{Empty, Kind};
use crate::quantity::{duration, size};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// A pipeline file.
#[derive(Clone, Debug)]
pub struct Model {
    /// Where rows come from.
    pub source: Source,
    /// What is done with them, in this order.
    pub processors: Vec<Processor>,
    /// Where they go.
    pub sink: Sink,
    /// How they are cut.
    pub chunk: Chunk,
    /// What is put up with.
    pub retry: Retry,
    /// When what was written is made durable.
    pub checkpoint: Checkpoint,
    /// Everything else.
    pub top: Top,
}

/// `type: file` as a source.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Source {
    /// One or several.
    #[serde(deserialize_with = "one_or_several")]
    pub path: Vec<String>,
    /// What rows are written in.
    pub format: Option<FormatName>,
    /// How it is compressed.
    pub compress: Option<PackingName>,
    /// What stands between fields.
    pub delimiter: Option<Text>,
    /// Whether the first row is a header.
    pub header: Option<Flag>,
    /// What the columns are called.
    pub columns: Option<Vec<String>>,
    /// What they hold.
    #[serde(default)]
    pub types: BTreeMap<String, Kind>,
    /// What an empty string is.
    #[serde(default, deserialize_with = "empty")]
    pub empty: Empty,
    /// What a line of text is called.
    pub member: Option<String>,
    /// The longest row, in bytes.
    pub longest_row: Option<Size>,
    /// Threads that read.
    pub readers: Option<Count>,
}

/// `type: file` as a sink.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Sink {
    /// Where.
    pub path: String,
    /// What rows are written in.
    pub format: Option<FormatName>,
    /// Method and level.
    pub compress: Option<String>,
    /// What stands between fields.
    pub delimiter: Option<Text>,
    /// Whether there is a header.
    pub header: Option<Flag>,
    /// Which members are columns.
    pub columns: Option<Vec<String>>,
    /// Which member is the line.
    pub member: Option<String>,
    /// Permissions.
    pub mode: Option<Text>,
    /// Through the page cache.
    pub buffered: Option<Flag>,
}

/// A processor.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Processor {
    /// Only these members.
    Select {
        /// Which.
        names: Vec<String>,
    },
    /// All but these.
    Drop {
        /// Which.
        names: Vec<String>,
    },
    /// Other names.
    Rename {
        /// From what to what.
        names: BTreeMap<String, String>,
    },
}

/// `chunk:`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Chunk {
    /// Rows at most.
    pub rows: Option<Count>,
    /// Bytes at most.
    pub bytes: Option<Size>,
    /// How long its first row waits at most.
    pub max_age: Option<Time>,
}

/// `retry:`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Retry {
    /// Of a chunk.
    pub max_attempts: Option<Count>,
    /// Of an input or output.
    pub give_up_after: Option<Time>,
}

/// `checkpoint:`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Checkpoint {
    /// After so many bytes.
    pub bytes: Option<Size>,
}

/// What stands on the first level.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Top {
    /// Threads.
    pub workers: Option<Count>,
    /// Bytes of data in memory.
    pub memory_limit: Option<Size>,
    /// As the input is.
    pub ordered: Option<Flag>,
    /// A path, or `none`.
    pub journal: Option<String>,
    /// A path.
    pub dead_letter: Option<String>,
    /// A path.
    pub definition: Option<String>,
}

/// Formats that a pipeline knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatName {
    /// JSON lines.
    Jsonl,
    /// Commas.
    Csv,
    /// Tabs.
    Tsv,
    /// Lines.
    Text,
}

/// How an input is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackingName {
    /// Not.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// A number from 1 on, also as the text that a variable gives.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub usize);

/// A duration.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

/// A truth.
#[derive(Clone, Copy, Debug)]
pub struct Flag(pub bool);

/// A text, also one of digits.
#[derive(Clone, Debug)]
pub struct Text(pub String);

/// A scalar as a text.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D, wanted: &str) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(D::Error::custom(format!("this must be {wanted}"))),
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D, wanted: &str) -> Result<T, D::Error> {
    let text = scalar(deserializer, wanted)?;
    text.trim().parse().map_err(|_| D::Error::custom(format!("`{text}` is not {wanted}")))
}

fn told<E: Error, T>(result: Result<T, impl Display>) -> Result<T, E> {
    result.map_err(E::custom)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        let count: std::num::NonZeroU64 = parsed(deserializer, "a number from 1 on")?;
        Ok(Count(count.get()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        told(size(&scalar(deserializer, "a size like 64MiB")?)).map(Size)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        told(duration(&scalar(deserializer, "a duration like 500ms")?)).map(Time)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        parsed(deserializer, "true or false").map(Flag)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        scalar(deserializer, "a text").map(Text)
    }
}

/// `null` without quotes is the word, too.
fn empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Empty, D::Error> {
    Ok(Option::<Empty>::deserialize(deserializer)?.unwrap_or(Empty::Null))
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(path) => Ok(vec![path]),
        Value::Array(items) if !items.is_empty() => {
            let text = |item: Value| item.as_str().map(str::to_owned).ok_or_else(|| D::Error::custom("a path is a text"));
            items.into_iter().map(text).collect()
        }
        _ => Err(D::Error::custom("this must be a path, or a list of paths")),
    }
}

impl Model {
    /// Reads a document.
    ///
    /// # Errors
    /// Everything that is wrong with it, by place.
    pub fn read(document: &Document) -> Result<Model, Vec<Problem>> {
        let mut reader = Reader { document, problems: Vec::new() };
        let model = reader.model();
        let mut problems = reader.problems;
        problems.sort_by_key(|problem| problem.position);
        match model {
            Some(model) if problems.is_empty() => Ok(model),
            _ => Err(problems),
        }
    }
}

struct Reader<'d> {
    document: &'d Document,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { position: self.document.place(path), path: path.to_owned(), message: message.into() });
    }

    fn model(&mut self) -> Option<Model> {
        let root = &self.document.value;
        let Some(members) = root.as_object() else {
            self.problem("", "a pipeline is a mapping with `source` and `sink`");
            return None;
        };
        let known = vocabulary::top_names();
        for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
            self.unknown(key, key, known.iter().copied());
        }
        let source = self.part("source", root.get("source"), vocabulary::SOURCES);
        let sink = self.part("sink", root.get("sink"), vocabulary::SINKS);
        let processors = self.processors(root.get("processors"));
        let [chunk, retry, checkpoint] = ["chunk", "retry", "checkpoint"].map(|name| self.section(name));
        let top = self.top();
        let (source, sink) = (self.value("source", source), self.value("sink", sink));
        let (chunk, retry, checkpoint) = (self.value("chunk", chunk), self.value("retry", retry), self.value("checkpoint", checkpoint));
        let top = self.value("", top);
        Some(Model {
            source: source?,
            processors: processors?,
            sink: sink?,
            chunk: chunk?,
            retry: retry?,
            checkpoint: checkpoint?,
            top: top?,
        })
    }

    /// The value as what it should be.
    fn value<T: DeserializeOwned>(&mut self, path: &str, value: Option<Value>) -> Option<T> {
        serde_path_to_error::deserialize(value?)
            .map_err(|error| {
                let inner = error.path().to_string();
                let place = if inner == "." { path.to_owned() } else { below(path, &inner) };
                self.problem(&place, error.inner().to_string());
            })
            .ok()
    }

    fn unknown<'k>(&mut self, path: &str, key: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let hint = match nearest(key, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known.filter(|name| *name != "$schema").collect::<Vec<_>>().join(", ")),
        };
        self.problem(path, format!("unknown setting `{key}`; {hint}"));
    }

    /// A part with its settings; nothing if it is not known or something in it is not.
    fn part(&mut self, path: &str, value: Option<&Value>, parts: &'static [Part]) -> Option<Value> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            self.problem(path, format!("there is no `{path}`; the smallest one is `{path}: {{ type: {}, path: … }}`", parts[0].name));
            return None;
        };
        let Some(name) = value.get("type").and_then(Value::as_str) else {
            self.problem(path, format!("`{path}` needs a `type`, one of {}", names(parts)));
            return None;
        };
        let Some(part) = parts.iter().find(|part| part.name == name) else {
            let hint = nearest(name, parts.iter().map(|part| part.name))
                .map_or_else(|| format!("there are {}", names(parts)), |near| format!("did you mean `{near}`?"));
            self.problem(&below(path, "type"), format!("unknown type `{name}`; {hint}"));
            return None;
        };
        self.settings(path, value, part.settings, &["type"]).then(|| value.clone())
    }

    /// Whether all keys are known, and all that have to be there are.
    fn settings(&mut self, path: &str, value: &Value, settings: &'static [Setting], beside: &[&'static str]) -> bool {
        let before = self.problems.len();
        let Some(members) = value.as_object() else {
            self.problem(path, "this must be a mapping");
            return false;
        };
        let known = || settings.iter().map(|setting| setting.name).chain(beside.iter().copied());
        for key in members.keys().filter(|key| !known().any(|name| name == key.as_str())) {
            self.unknown(&below(path, key), key, known());
        }
        for missing in settings.iter().filter(|setting| setting.is_required() && !members.contains_key(setting.name)) {
            self.problem(path, format!("`{}` is not set: {}", missing.name, missing.about));
        }
        self.problems.len() == before
    }

    fn section(&mut self, name: &str) -> Option<Value> {
        let settings = SECTIONS.iter().find(|section| section.name == name)?.settings;
        let value =
            self.document.value.get(name).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| Value::Object(Default::default()));
        self.settings(name, &value, settings, &[]).then_some(value)
    }

    fn top(&mut self) -> Option<Value> {
        let members = self.document.value.as_object()?;
        let is_ours = |key: &str| vocabulary::TOP.iter().any(|setting| setting.name == key);
        Some(Value::Object(members.iter().filter(|(key, _)| is_ours(key)).map(|(key, value)| (key.clone(), value.clone())).collect()))
    }

    fn processors(&mut self, value: Option<&Value>) -> Option<Vec<Processor>> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Some(Vec::new()) };
        let Some(items) = value.as_array() else {
            self.problem("processors", "this must be a list");
            return None;
        };
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("processors[{index}]");
            let part = self.part(&path, Some(item), vocabulary::PROCESSORS);
            read.push(self.value(&path, part));
        }
        read.into_iter().collect()
    }
}

fn names(parts: &[Part]) -> String {
    parts.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
}
