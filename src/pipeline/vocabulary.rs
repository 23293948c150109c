//! The words of a pipeline file: every section and part with its settings, for checks, `list`, `show` and the JSON Schema alike.

use serde_json::{Map, Value, json};

/// Something that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it is when nothing is said, in words.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A text.
    Text,
    /// A text or a list of texts.
    Texts,
    /// A list of texts.
    List,
    /// A number from 1 on.
    Count,
    /// Bytes, like `64MiB`.
    Size,
    /// A duration, like `500ms`.
    Time,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Texts to texts.
    Texted,
    /// Texts to one of these words.
    Worded(&'static [&'static str]),
}

/// A source, sink, processor or format.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What `type` or `format` says.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What can be set, beside its `type`.
    pub settings: &'static [Setting],
}

/// A section of the file that is no part.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its key.
    pub name: &'static str,
    /// What can be set in it.
    pub settings: &'static [Setting],
}

const fn setting(name: &'static str, takes: Takes, default: &'static str, about: &'static str) -> Setting {
    Setting { name, takes, default, about }
}

/// Formats by name.
pub const FORMATS: &[Part] = &[
    Part { name: "jsonl", about: "JSON lines: one JSON value a line. Passed byte for byte unless a processor changes it.", settings: &[] },
    Part { name: "csv", about: "Fields between commas, quoted as RFC 4180 has it.", settings: CSV },
    Part { name: "tsv", about: "The same with tabs.", settings: CSV },
    Part { name: "text", about: "Lines of text, each as an object with one member.", settings: TEXT },
];

const DELIMITER: Setting =
    setting("delimiter", Takes::Text, "`,` for csv, a tab for tsv", "What stands between fields: one of , ; | : tab 0x1f.");
const MEMBER: Setting = setting("member", Takes::Text, "line", "text: the member that a line is.");

const CSV: &[Setting] = &[DELIMITER, HEADER_IN, COLUMNS_IN, TYPES, EMPTY];
const TEXT: &[Setting] = &[MEMBER];

const HEADER_IN: Setting = setting("header", Takes::Flag, "true", "csv, tsv: whether the first row says what the columns are called.");
const COLUMNS_IN: Setting = setting("columns", Takes::List, "the header's", "csv, tsv: what the columns are called.");
const TYPES: Setting = setting("types", Takes::Worded(KINDS), "all strings", "csv, tsv: what columns hold that are no strings.");
const EMPTY: Setting = setting("empty", Takes::OneOf(&["string", "null"]), "string", "csv, tsv: what a string without characters becomes.");

const KINDS: &[&str] = &["string", "number", "boolean", "json"];
const FORMAT_NAMES: &[&str] = &["jsonl", "csv", "tsv", "text"];
const FORMAT: Setting = setting("format", Takes::OneOf(FORMAT_NAMES), "by the extension", "What the rows are written in.");

/// Sources by name.
pub const SOURCES: &[Part] = &[Part {
    name: "file",
    about: "Rows of files, or of standard input. Plain files of lines are read in byte ranges side by side.",
    settings: &[
        setting("path", Takes::Texts, "", "A file, several in this order, or `-` for standard input."),
        FORMAT,
        setting("compress", Takes::OneOf(&["none", "gzip", "zstd"]), "by extension or first bytes", "How the input is compressed."),
        DELIMITER,
        HEADER_IN,
        COLUMNS_IN,
        TYPES,
        EMPTY,
        MEMBER,
        setting(
            "longest_row",
            Takes::Size,
            "16MiB",
            "A longer line goes to the dead letter, with its beginning; a longer CSV row ends the run.",
        ),
        setting("readers", Takes::Count, "as many as processors, at most 4", "Threads that read ranges side by side."),
    ],
}];

/// Sinks by name.
pub const SINKS: &[Part] = &[Part {
    name: "file",
    about: "One file, under its final name once it is complete; or a stream.",
    settings: &[
        setting("path", Takes::Text, "", "The file, or `-` for standard output."),
        FORMAT,
        setting("compress", Takes::Text, "by the extension", "none, gzip or zstd, with a level behind a colon if you like, like zstd:9."),
        DELIMITER,
        setting("header", Takes::Flag, "true", "csv, tsv: whether the first line says what the columns are called."),
        setting("columns", Takes::List, "those of the input's first row", "csv, tsv: which members are columns, in this order."),
        MEMBER,
        setting("mode", Takes::Text, "600", "Permissions of new files, in octal."),
        setting("buffered", Takes::Flag, "false", "Write through the page cache instead of around it."),
    ],
}];

/// Processors by name.
pub const PROCESSORS: &[Part] = &[
    Part {
        name: "select",
        about: "Only these members, in this order. Values stay as they are written.",
        settings: &[setting("names", Takes::List, "", "Which. One that a row does not have is left out.")],
    },
    Part {
        name: "drop",
        about: "All members but these. Values stay as they are written.",
        settings: &[setting("names", Takes::List, "", "Which.")],
    },
    Part {
        name: "rename",
        about: "Other names for members. Values and order stay.",
        settings: &[setting("names", Takes::Texted, "", "From what to what.")],
    },
];

/// Sections with settings of their own.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "chunk",
        settings: &[
            setting("rows", Takes::Count, "any number", "A chunk has at most so many rows."),
            setting("bytes", Takes::Size, "256KiB", "A chunk ends before it gets larger than this."),
            setting("max_age", Takes::Time, "100ms", "Where the input pauses, a chunk goes on so long after its first row came."),
        ],
    },
    Section {
        name: "retry",
        settings: &[
            setting(
                "max_attempts",
                Takes::Count,
                "the definition's",
                "How often a failing chunk is tried again before its rows are set aside.",
            ),
            setting("give_up_after", Takes::Time, "60s", "For how long an input or output in trouble is tried again."),
        ],
    },
    Section {
        name: "checkpoint",
        settings: &[setting("bytes", Takes::Size, "64MiB", "The output is made durable after so much of it, and at least every second.")],
    },
];

/// Settings of the first level.
pub const TOP: &[Setting] = &[
    setting("workers", Takes::Count, "as many as processors", "Threads that work on chunks."),
    setting(
        "memory_limit",
        Takes::Size,
        "32MiB, or what many workers need",
        "How much data may be in memory; reading pauses at this mark.",
    ),
    setting("ordered", Takes::Flag, "true", "Whether rows leave in the order of the input."),
    setting("journal", Takes::Text, "the output's path with .journal", "Where the journal is, or `none`."),
    setting("dead_letter", Takes::Text, "the output's path with .dead.jsonl", "Where rows go that cannot be written."),
    setting("definition", Takes::Text, "the built-in lifecycle", "A definition of the chunks' lifecycle."),
];

/// All keys of the first level.
pub fn top_names() -> Vec<&'static str> {
    let parts = ["source", "processors", "sink", "$schema"].into_iter();
    parts.chain(SECTIONS.iter().map(|section| section.name)).chain(TOP.iter().map(|setting| setting.name)).collect()
}

/// A kind of parts by its name in the plural.
pub fn parts(kind: &str) -> Option<&'static [Part]> {
    Some(match kind {
        "sources" => SOURCES,
        "sinks" => SINKS,
        "processors" => PROCESSORS,
        "formats" => FORMATS,
        _ => return None,
    })
}

/// The name among `known` that is most like a wrong one, if any is like it.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| if strsim::osa_distance(wrong, name) == 1 { 0.9 } else { strsim::jaro_winkler(wrong, name) };
    let near = known.into_iter().map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    near.filter(|(likeness, _)| *likeness > 0.75).map(|(_, name)| name)
}

/// The JSON Schema of pipeline files.
pub fn schema() -> Value {
    let part = |parts: &[Part]| -> Value { parts.iter().map(|part| object(part.settings, Some(part))).collect::<Vec<_>>().into() };
    let mut properties = Map::new();
    properties.insert("$schema".into(), json!({ "type": "string" }));
    properties.insert("source".into(), json!({ "oneOf": part(SOURCES) }));
    properties.insert("processors".into(), json!({ "type": "array", "items": { "oneOf": part(PROCESSORS) } }));
    properties.insert("sink".into(), json!({ "oneOf": part(SINKS) }));
    properties.extend(SECTIONS.iter().map(|section| (section.name.into(), object(section.settings, None))));
    properties.extend(TOP.iter().map(|setting| (setting.name.into(), setting.schema())));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sluicegate pipeline", "type": "object",
        "properties": properties, "required": ["source", "sink"], "additionalProperties": false,
    })
}

fn object(settings: &[Setting], part: Option<&Part>) -> Value {
    let mut properties = Map::new();
    properties.extend(part.map(|part| ("type".into(), json!({ "const": part.name, "description": part.about }))));
    properties.extend(settings.iter().map(|setting| (setting.name.into(), setting.schema())));
    let required: Vec<&str> = part
        .map(|_| "type")
        .into_iter()
        .chain(settings.iter().filter(|setting| setting.is_required()).map(|setting| setting.name))
        .collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

impl Setting {
    /// Whether it has no default.
    pub fn is_required(&self) -> bool {
        self.default.is_empty()
    }

    fn schema(&self) -> Value {
        // A value that comes out of a variable is a text.
        let mut schema = match self.takes {
            Takes::Text => json!({ "type": ["string", "integer"] }),
            Takes::Texts => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] }),
            Takes::List => json!({ "type": "array", "items": { "type": "string" } }),
            Takes::Count => json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string" }] }),
            Takes::Size => json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "examples": ["64MiB"] }] }),
            Takes::Time => json!({ "type": "string", "examples": ["500ms", "1m"] }),
            Takes::Flag => json!({ "anyOf": [{ "type": "boolean" }, { "enum": ["true", "false"] }] }),
            Takes::OneOf(words) => {
                let mut words: Vec<Value> = words.iter().map(|word| (*word).into()).collect();
                // Without quotes the word is nothing, in YAML.
                words.extend(words.contains(&"null".into()).then_some(Value::Null));
                json!({ "enum": words })
            }
            Takes::Texted => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Takes::Worded(words) => json!({ "type": "object", "additionalProperties": { "enum": words } }),
        };
        let default = if self.is_required() { String::new() } else { format!(" Default: {}.", self.default) };
        schema["description"] = format!("{}{default}", self.about).into();
        schema
    }
}

impl Takes {
    /// The same for people.
    pub fn words(self) -> String {
        match self {
            Takes::Text => "text".into(),
            Takes::Texts => "text or list of texts".into(),
            Takes::List => "list of texts".into(),
            Takes::Count => "number from 1".into(),
            Takes::Size => "size, like 64MiB".into(),
            Takes::Time => "duration, like 500ms".into(),
            Takes::Flag => "true or false".into(),
            Takes::OneOf(words) => words.join(" | "),
            Takes::Texted => "texts to texts".into(),
            Takes::Worded(words) => format!("names to {}", words.join(" | ")),
        }
    }
}
