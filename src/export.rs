//! A Postgres table or query to JSON lines, put together: what the command line does, for programs.
//!
//! Every line equals what the server's own `row_to_json` gives for the row, all rows come from one snapshot, and the lines stand in the
//! table's order however many connections read and however many workers encode.
//!
//! ```no_run
//! use sluicegate::export::{Settings, orchestrator};
//! use sluicegate::sink::{DeadLetterSink, FileOptions, FileSink};
//! use sluicegate::source::postgres::{Export, Request, Session};
//!
//! let mut session = Session::connect("postgres://me@db.example/shop")?;
//! let orders = Export::table(&mut session, "orders", &Request::default())?;
//! let report = orchestrator(&session, orders, &Settings::default())
//!     .sink("sink", FileSink::create(["orders.jsonl"], FileOptions::default())?)
//!     .dead_letter("deadLetter", DeadLetterSink::new("orders.dead.jsonl".as_ref(), FileOptions::default()))
//!     .run()?;
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The run is an [`Orchestrator`] like any other: journal it, start it and keep a [`Handle`](crate::Handle), add an action of your own.
//! Call this from a plain thread, not from one of an async runtime.

use crate::batch::Batch;
use crate::definitions;
use crate::engine::Orchestrator;
use crate::fsm::Definition;
use crate::sink::FileSink;
use crate::source::postgres::{ChunkLimits, Compression, CopySource, Export, Field, Foreign, ReplaySource, Session, Transcoder, Validator};
use std::sync::Arc;

/// Connections by default at most: more rarely help and always cost the server.
pub const MOST_CONNECTIONS: usize = 4;

/// What a chunk may need, as a multiple of its size: the rows as they came and, somewhat larger, as they go.
const ROOM_PER_CHUNK: usize = 4;

/// How an export is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lifecycle of a chunk. Must know the names in [`vocabulary`]; [`definitions::chunk`], unless this says otherwise.
    pub definition: Definition,
    /// How rows are cut into chunks.
    pub limits: ChunkLimits,
    /// Connections that read side by side, beside the session's own: as many as there are processors, at most [`MOST_CONNECTIONS`].
    pub connections: usize,
    /// Threads that encode and compress: as many as there are processors.
    pub workers: usize,
    /// How many bytes of data may be in memory: 32 MiB, or [`Settings::memory_floor`] where that is more.
    pub memory_limit: usize,
    /// What happens to the lines before they are written.
    pub compression: Compression,
}

impl Default for Settings {
    fn default() -> Settings {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut settings = Settings {
            definition: definitions::chunk(),
            limits: ChunkLimits::default(),
            connections: processors.min(MOST_CONNECTIONS),
            workers: processors,
            memory_limit: 32 << 20,
            compression: Compression::default(),
        };
        settings.memory_limit = settings.memory_limit.max(settings.memory_floor());
        settings
    }
}

impl Settings {
    /// The least [`Settings::memory_limit`] that these connections, workers and chunks can keep, in bytes.
    pub fn memory_floor(&self) -> usize {
        let Settings { limits: ChunkLimits { bytes: chunk, .. }, connections, workers, .. } = self;
        FileSink::BUFFER_BYTES + connections * chunk + (workers + connections) * chunk * ROOM_PER_CHUNK
    }
}

/// `validate` and `transform` are what [`orchestrator`] registers, `sink` and `deadLetter` what its caller does.
pub use crate::definitions::vocabulary;

/// A run that reads `export` under the session's snapshot and makes JSON lines of it. It lacks its [`sink`](Orchestrator::sink), called
/// `sink`, and its [`dead_letter`](Orchestrator::dead_letter), called `deadLetter`, which take [`Batch`]es; an export with several parts
/// (see [`Request::parts`](crate::source::postgres::Request::parts)) has chunks for as many outputs.
///
/// The session holds the snapshot: it must live until the run has ended. A run that has lost it fails and says so.
pub fn orchestrator(session: &Session, export: impl Into<Arc<Export>>, settings: &Settings) -> Orchestrator<Batch> {
    orchestrator_of(CopySource::new(session, export.into(), settings.limits, settings.connections), session, settings)
}

/// The same for a source that was made already: one that leaves out what earlier runs have done.
pub fn orchestrator_of(source: CopySource, session: &Session, settings: &Settings) -> Orchestrator<Batch> {
    let transcoder = Transcoder::new(&source, session.server(), settings.compression, settings.workers);
    Orchestrator::new(settings.definition.clone())
        .source(source)
        .optional_handler("validate", Validator::new(session.server()))
        .handler("transform", transcoder)
        .workers(settings.workers)
        .memory_limit(settings.memory_limit)
        .split_chunks()
}

/// A run of rows that an earlier one has set aside, through the same handlers; it lacks its sink and its dead letter, too. The rows have
/// these columns ([`Export::fields`]); those that are not UTF-8 are `foreign`, if somebody knows.
pub fn replay_of(source: ReplaySource, fields: &[Field], foreign: Option<Foreign>, settings: &Settings) -> Orchestrator<Batch> {
    let transcoder = Transcoder::of_any(fields, foreign.clone(), settings.compression, settings.limits.bytes, settings.workers);
    Orchestrator::new(settings.definition.clone())
        .source(source)
        .optional_handler("validate", Validator::of_any(foreign))
        .handler("transform", transcoder)
        .workers(settings.workers)
        .memory_limit(settings.memory_limit)
}
