//! From what a file says to a run.

use super::document::Document;
use super::model::{FormatName, Model, PackingName, Processor};
use super::{Problem, Problems, Syntax, vocabulary::nearest};
use crate::batch::Batch;
use crate::definitions;
use crate::engine::{Orchestrator, Patience};
use crate::format::csv::{self, Kind, RowEncoder, RowWriter};
use crate::format::json_lines::RawRow;
use crate::format::text_lines::LineEncoder;
use crate::format::{Compression, Records};
use crate::fsm::Definition;
use crate::processor::rows::{RowReader, RowStep, RowTranscoder, RowValidator, RowsOut};
use crate::sink::FileSink;
use crate::source::ChunkLimits;
use crate::source::file::{Cutting, FilePlan, FileSource, Header, Packing, Reading};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Readers by default at most.
const MOST_READERS: usize = 4;

/// What a chunk may need, as a multiple of its size: the rows as they came, lines between steps, and the rows as they go.
const ROOM_PER_CHUNK: usize = 6;

/// How much data may be in memory unless somebody says otherwise.
const MEMORY_LIMIT: usize = 32 << 20;

/// What a line of text is called unless somebody says otherwise.
const MEMBER: &str = "line";

/// A pipeline as it was written, and found sound as far as can be told without looking at its ends.
#[derive(Clone)]
pub struct Pipeline {
    model: Model,
    document: Document,
    definition: Definition,
    from: Format,
    to: Format,
}

/// What rows are written in, with its delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    JsonLines,
    Csv(u8),
    Text,
}

impl Pipeline {
    /// Reads a pipeline, with nothing from outside.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Pipeline, Problems> {
        Pipeline::of(Document::parse(text, syntax).map_err(|problem| vec![problem])?)
    }

    /// Makes a pipeline of a document.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of(document: Document) -> Result<Pipeline, Problems> {
        let model = Model::read(&document)?;
        let mut problems = Vec::new();
        let mut problem =
            |path: &str, message: String| problems.push(Problem { position: document.place(path), path: path.to_owned(), message });
        let first = model.source.path.first().map_or("", String::as_str);
        let from = format(model.source.format, first, model.source.delimiter.as_ref().map(|text| &*text.0));
        let to = format(model.sink.format, &model.sink.path, model.sink.delimiter.as_ref().map(|text| &*text.0));
        for (side, format) in [("source", &from), ("sink", &to)] {
            format.as_ref().err().iter().for_each(|(setting, message)| problem(&format!("{side}.{setting}"), message.clone()));
        }
        check_settings(&model, from.as_ref().ok().copied(), to.as_ref().ok().copied(), &mut problem);
        if let Err(message) = compression(&model) {
            problem("sink.compress", message);
        }
        if let Err(message) = mode(&model) {
            problem("sink.mode", message);
        }
        if same_place(&model) {
            problem("sink.path", format!("{} is an input, and would be replaced by the output", model.sink.path));
        }
        match (from, to) {
            (Ok(from), Ok(to)) if problems.is_empty() => Ok(Pipeline { model, document, definition: definitions::chunk(), from, to }),
            _ => {
                problems.sort_by_key(|problem| problem.position);
                Err(problems.into())
            }
        }
    }

    /// With another lifecycle than the built-in one. Must know the names in [`definitions::vocabulary`].
    #[must_use]
    pub fn with_definition(self, definition: Definition) -> Pipeline {
        Pipeline { definition, ..self }
    }

    /// What it says.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The lifecycle of its chunks.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Where the output goes, as it is written.
    pub fn sink_path(&self) -> &str {
        &self.model.sink.path
    }

    /// How the output is compressed.
    pub fn compression(&self) -> Compression {
        compression(&self.model).unwrap_or_default()
    }

    /// Permissions of new files.
    pub fn mode(&self) -> u32 {
        mode(&self.model).unwrap_or(0o600)
    }

    /// Looks at the inputs, and decides how they are read.
    ///
    /// # Errors
    /// When one cannot be read, is not what it should be, or its columns cannot be told.
    pub fn plan(&self) -> Result<Plan, Trouble> {
        let source = &self.model.source;
        let has_header = source.header.is_none_or(|flag| flag.0);
        let (records, header) = match self.from {
            Format::Csv(delimiter) => {
                let header = if has_header { Header::Names } else { Header::Sample };
                (Records::Quoted { delimiter, quote: csv::QUOTE }, header)
            }
            _ if self.wants_sample() => (Records::Lines, Header::Sample),
            _ => (Records::Lines, Header::None),
        };
        let packing = source.compress.map(|name| match name {
            PackingName::None => Packing::None,
            PackingName::Gzip => Packing::Gzip,
            PackingName::Zstd => Packing::Zstd,
        });
        let paths: Vec<PathBuf> = source.path.iter().map(PathBuf::from).collect();
        let files = FilePlan::new(&paths, Reading { records, packing, header })?;
        let columns = self.columns(&files)?;
        let output_columns = self.output_columns(&files, &columns)?;
        Ok(Plan { files: Arc::new(files), columns, output_columns, more_steps: Vec::new(), pipeline: self.clone() })
    }

    /// Whether only the first row tells what the output's columns are.
    fn wants_sample(&self) -> bool {
        matches!(self.to, Format::Csv(_)) && self.model.sink.columns.is_none() && self.from == Format::JsonLines
    }

    /// The columns of delimited input.
    fn columns(&self, files: &FilePlan) -> Result<Vec<String>, Trouble> {
        let (Format::Csv(delimiter), source) = (self.from, &self.model.source) else { return Ok(Vec::new()) };
        let Some(row) = files.first_row() else {
            let none =
                || refused(format!("{} is empty, not even a header is there; `source.columns` says what it should have", source.path[0]));
            return source.columns.clone().ok_or_else(none);
        };
        // At the input's end a row may lack its line end.
        let first = [row, b"\n"].concat();
        let first = csv::fields(if row.ends_with(b"\n") { row } else { &first }, delimiter)
            .map_err(|fault| refused(format!("the first row of {}: {fault}", source.path[0])))?;
        let named = |field: &std::borrow::Cow<'_, [u8]>| {
            let name = std::str::from_utf8(field).map_err(|_| refused(format!("the header of {} is not UTF-8", source.path[0])))?;
            Ok(name.to_owned())
        };
        let columns = match &source.columns {
            Some(columns) => columns.clone(),
            None if source.header.is_none_or(|flag| flag.0) => first.iter().map(named).collect::<Result<_, Trouble>>()?,
            None => (1..=first.len()).map(|number| format!("c{number}")).collect(),
        };
        let twice = (1..columns.len()).find(|place| columns[..*place].contains(&columns[*place]));
        if let Some(place) = twice {
            let message = format!("two columns of {} are called `{}`; `source.columns` gives them names", source.path[0], columns[place]);
            return Err(refused(message));
        }
        if let Some(unknown) = source.types.keys().find(|name| !columns.contains(name)) {
            let hint =
                nearest(unknown, columns.iter().map(String::as_str)).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(refused(format!("source.types: {} has no column `{unknown}`{hint}", source.path[0])));
        }
        Ok(columns)
    }

    /// The columns of delimited output: as they are set, or those of the first row, as the processors leave them.
    fn output_columns(&self, files: &FilePlan, columns: &[String]) -> Result<Vec<String>, Trouble> {
        let (Format::Csv(_), sink) = (self.to, &self.model.sink) else { return Ok(Vec::new()) };
        if let Some(columns) = &sink.columns {
            return Ok(columns.clone());
        }
        let mut names = match self.from {
            Format::Csv(_) => columns.to_vec(),
            Format::Text => vec![self.model.source.member.clone().unwrap_or_else(|| MEMBER.to_owned())],
            Format::JsonLines => {
                let row = files.first_row().unwrap_or(b"{}");
                let unknown =
                    |why: String| refused(format!("the output's columns cannot be told from the first row ({why}); set `sink.columns`"));
                let text = std::str::from_utf8(row).map_err(|_| unknown("not UTF-8".into()))?;
                RawRow::parse(text).map_err(unknown)?.members.iter().map(|(name, _)| name.to_string()).collect()
            }
        };
        for processor in &self.model.processors {
            match processor {
                Processor::Select { names: wanted } => names = wanted.iter().filter(|name| names.contains(name)).cloned().collect(),
                Processor::Drop { names: gone } => names.retain(|name| !gone.contains(name)),
                Processor::Rename { names: other } => {
                    names.iter_mut().for_each(|name| *name = other.get(name).unwrap_or(name).clone());
                }
            }
        }
        if names.is_empty() {
            return Err(refused("the output would have no columns; `sink.columns` says which"));
        }
        Ok(names)
    }
}

fn refused(message: impl Into<String>) -> Trouble {
    Trouble::lasting(TroubleKind::Configuration, message)
}

/// What rows at `path` are written in. The error names the setting that is at fault.
fn format(name: Option<FormatName>, path: &str, delimiter: Option<&str>) -> Result<Format, (&'static str, String)> {
    let name = match name {
        Some(name) => name,
        None => by_extension(path)
            .ok_or_else(|| ("path", format!("the name `{path}` does not tell the format; set `format`: jsonl, csv, tsv or text")))?,
    };
    let default = match name {
        FormatName::Jsonl => return Ok(Format::JsonLines),
        FormatName::Text => return Ok(Format::Text),
        FormatName::Csv => b',',
        FormatName::Tsv => b'\t',
    };
    match delimiter.map(str::as_bytes) {
        None => Ok(Format::Csv(default)),
        Some(b"tab" | b"\\t") => Ok(Format::Csv(b'\t')),
        Some([byte]) if csv::DELIMITERS.contains(byte) => Ok(Format::Csv(*byte)),
        Some(_) => Err(("delimiter", "a delimiter is one of , ; | : tab 0x1f".to_owned())),
    }
}

/// Below what says how a file is compressed.
fn by_extension(path: &str) -> Option<FormatName> {
    let path = Path::new(path);
    let packed = Packing::of_name(path).is_some();
    let stem = if packed { Path::new(path.file_stem()?) } else { path };
    match stem.extension()?.to_str()? {
        "jsonl" | "ndjson" | "jsonlines" => Some(FormatName::Jsonl),
        "csv" => Some(FormatName::Csv),
        "tsv" => Some(FormatName::Tsv),
        "txt" | "log" => Some(FormatName::Text),
        _ => None,
    }
}

/// Settings that mean nothing for the formats.
fn check_settings(model: &Model, from: Option<Format>, to: Option<Format>, problem: &mut impl FnMut(&str, String)) {
    let (source, sink) = (&model.source, &model.sink);
    let no_csv = |format: Option<Format>| format.is_some_and(|format| !matches!(format, Format::Csv(_)));
    let no_text = |format: Option<Format>| format.is_some_and(|format| format != Format::Text);
    let stray = [
        ("source.delimiter", source.delimiter.is_some() && no_csv(from)),
        ("source.header", source.header.is_some() && no_csv(from)),
        ("source.columns", source.columns.is_some() && no_csv(from)),
        ("source.types", !source.types.is_empty() && no_csv(from)),
        ("source.member", source.member.is_some() && no_text(from)),
        ("sink.delimiter", sink.delimiter.is_some() && no_csv(to)),
        ("sink.header", sink.header.is_some() && no_csv(to)),
        ("sink.columns", sink.columns.is_some() && no_csv(to)),
        ("sink.member", sink.member.is_some() && no_text(to)),
    ];
    for (path, _) in stray.iter().filter(|(_, is_stray)| *is_stray) {
        problem(path, "this format has no such setting".to_owned());
    }
    for (path, columns) in [("source.columns", &source.columns), ("sink.columns", &sink.columns)] {
        let Some(columns) = columns else { continue };
        let twice = (1..columns.len()).find(|place| columns[..*place].contains(&columns[*place]));
        if columns.is_empty() || twice.is_some() {
            problem(path, "columns have names, and each another".to_owned());
        }
    }
}

fn compression(model: &Model) -> Result<Compression, String> {
    match &model.sink.compress {
        Some(text) => Compression::parse(text),
        None => Ok(match Packing::of_name(Path::new(&model.sink.path)) {
            Some(Packing::Gzip) => Compression::Gzip { level: 6 },
            Some(Packing::Zstd) => Compression::Zstd { level: 3 },
            _ => Compression::None,
        }),
    }
}

fn mode(model: &Model) -> Result<u32, String> {
    let Some(text) = model.sink.mode.as_ref().map(|text| &*text.0) else { return Ok(0o600) };
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| format!("`{text}` is no mode; write 600 or 644"))
}

/// Whether the output would replace an input, by whatever names.
fn same_place(model: &Model) -> bool {
    let real = |path: &str| Path::new(path).canonicalize().ok();
    let sink = &model.sink.path;
    sink != "-" && model.source.path.iter().any(|path| path == sink || (real(path).is_some() && real(path) == real(sink)))
}

/// A pipeline whose inputs were looked at.
pub struct Plan {
    pipeline: Pipeline,
    files: Arc<FilePlan>,
    columns: Vec<String>,
    output_columns: Vec<String>,
    /// Behind the file's processors.
    more_steps: Vec<RowStep>,
}

impl Plan {
    /// With one more step behind the processors of the file: code of your own, like [`map`](crate::processor::rows::map).
    #[must_use]
    pub fn step(mut self, step: RowStep) -> Plan {
        self.more_steps.push(step);
        self
    }

    /// What is read.
    pub fn files(&self) -> &Arc<FilePlan> {
        &self.files
    }

    /// How chunks are cut.
    pub fn limits(&self) -> ChunkLimits {
        let chunk = &self.pipeline.model.chunk;
        let default = ChunkLimits::default();
        ChunkLimits { bytes: chunk.bytes.map_or(default.bytes, |size| size.0), rows: chunk.rows.map_or(default.rows, |count| count.0) }
    }

    /// Threads that work on chunks.
    pub fn workers(&self) -> usize {
        self.pipeline.model.top.workers.map_or_else(processors, |count| usize::try_from(count.0).unwrap_or(usize::MAX))
    }

    fn readers(&self) -> usize {
        self.pipeline
            .model
            .source
            .readers
            .map_or_else(|| processors().min(MOST_READERS), |count| usize::try_from(count.0).unwrap_or(usize::MAX))
    }

    /// How much data may be in memory, in bytes: as it is set, or 32 MiB, or what many processors need.
    pub fn memory_limit(&self) -> usize {
        self.pipeline.model.top.memory_limit.map_or_else(|| MEMORY_LIMIT.max(self.memory_floor()), |size| size.0)
    }

    /// The least that these readers, workers and chunks can keep, in bytes.
    pub fn memory_floor(&self) -> usize {
        let (chunk, readers) = (self.limits().bytes, self.readers().min(self.files.ranges().len()));
        FileSink::BUFFER_BYTES + readers * chunk + (self.workers() + readers) * chunk * ROOM_PER_CHUNK
    }

    /// The source, as it is set.
    pub fn source(&self) -> FileSource {
        self.source_with(self.limits())
    }

    /// The source with other limits: those of an earlier run.
    pub fn source_with(&self, limits: ChunkLimits) -> FileSource {
        let model = &self.pipeline.model;
        let default = Cutting::default();
        let longest_row = model.source.longest_row.map_or(default.longest_row, |size| size.0).max(limits.bytes);
        let max_age = model.chunk.max_age.map_or(default.max_age, |time| Some(time.0));
        FileSource::new(self.files.clone(), Cutting { limits, max_age, longest_row }, self.readers())
    }

    /// What the output begins with, before the first row.
    pub fn head(&self) -> Vec<u8> {
        match self.pipeline.to {
            Format::Csv(delimiter) if self.pipeline.model.sink.header.is_none_or(|flag| flag.0) => {
                RowWriter::new(self.output_columns.iter().map(String::as_str), delimiter).header()
            }
            _ => Vec::new(),
        }
    }

    /// A run that reads `source`. It lacks its [`sink`](Orchestrator::sink), called `sink`, and its
    /// [`dead_letter`](Orchestrator::dead_letter), called `deadLetter`, which take [`Batch`]es.
    pub fn orchestrator(&self, source: FileSource) -> Orchestrator<Batch> {
        let Pipeline { model, definition, .. } = &self.pipeline;
        let parts = (self.reader(), self.steps(), self.writer());
        let (expansion, bytes) = (source.expansion(), source.cutting().limits.bytes);
        let transcoder = RowTranscoder::new(parts, self.pipeline.compression(), expansion, bytes, self.workers());
        let mut run = Orchestrator::new(definition.clone())
            .source(source)
            .optional_handler("validate", RowValidator)
            .handler("transform", transcoder)
            .workers(self.workers())
            .memory_limit(self.memory_limit())
            .split_chunks();
        if let Some(give_up) = model.retry.give_up_after {
            run = run.patience(Patience { total: give_up.0, ..Patience::default() });
        }
        if let Some(attempts) = model.retry.max_attempts {
            run = run.context("maxAttempts", attempts.0);
        }
        if model.top.ordered.is_some_and(|flag| !flag.0) {
            run = run.unordered();
        }
        run
    }

    fn reader(&self) -> RowReader {
        let source = &self.pipeline.model.source;
        match self.pipeline.from {
            Format::JsonLines => RowReader::JsonLines,
            Format::Text => RowReader::Lines(LineEncoder::new(source.member.as_deref().unwrap_or(MEMBER))),
            Format::Csv(delimiter) => {
                let kind = |name: &String| source.types.get(name).copied().unwrap_or(Kind::String);
                RowReader::Csv(RowEncoder::new(self.columns.iter().map(|name| (name.as_str(), kind(name))), delimiter, source.empty))
            }
        }
    }

    fn writer(&self) -> RowsOut {
        match self.pipeline.to {
            Format::JsonLines => RowsOut::JsonLines,
            Format::Csv(delimiter) => {
                let writer = RowWriter::new(self.output_columns.iter().map(String::as_str), delimiter);
                RowsOut::Csv(if self.pipeline.model.sink.columns.is_some() { writer.picking() } else { writer })
            }
            Format::Text => RowsOut::Lines(self.pipeline.model.sink.member.as_deref().unwrap_or(MEMBER).into()),
        }
    }

    fn steps(&self) -> Vec<RowStep> {
        let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        let step = |processor: &Processor| match processor {
            Processor::Select { names } => RowStep::Select(boxed(names)),
            Processor::Drop { names } => RowStep::Drop(boxed(names)),
            Processor::Rename { names } => {
                RowStep::Rename(names.iter().map(|(from, to)| (from.as_str().into(), to.as_str().into())).collect())
            }
        };
        self.pipeline.model.processors.iter().map(step).chain(self.more_steps.iter().cloned()).collect()
    }

    /// What the input's rows are in a dead letter.
    pub fn form(&self) -> &'static str {
        self.files.reading().records.form()
    }

    /// Whether each row of the output is a line.
    pub fn writes_lines(&self) -> bool {
        !matches!(self.pipeline.to, Format::Csv(_))
    }

    /// Everything that decides which rows come and what they look like, for comparing runs.
    pub fn identity(&self) -> Value {
        let value = &self.pipeline.document.value;
        let inputs: Vec<&str> = self.files.inputs().iter().map(|input| &*input.shown).collect();
        let mut source = value["source"].clone();
        if let Some(source) = source.as_object_mut() {
            source.retain(|key, _| key != "readers");
        }
        json!({
            "files": inputs.join(", "), "source": source, "processors": value["processors"],
            "format": format!("{:?}", self.pipeline.to), "columns": self.output_columns, "head": String::from_utf8_lossy(&self.head()),
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
