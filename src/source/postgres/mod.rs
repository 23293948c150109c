//! Postgres tables and queries as a source: `COPY … TO STDOUT` over several connections that share one exported snapshot.
//!
//! [`ConnInfo`] says where the server is, [`Session`] holds the snapshot and asks the catalog, [`Export`] is what is to be read and how
//! it is cut into ranges, and [`CopySource`] reads it. [`Transcoder`] turns what was read into JSON lines, on the workers.

mod catalog;
mod connect;
mod conninfo;
mod copy_source;
mod export;
mod frozen;
mod keyset;
mod lane;
mod pages;
mod pattern;
mod proof;
mod replay;
mod session;
mod sql;
mod tls;
mod transcode;
mod types;
mod view;
mod wire;

pub use crate::batch::{COPY_ROW, JSON_LINE};
pub use crate::format::copy_text::{Field, values as copy_fields};
pub use crate::format::{Charset, Compression, UnknownCharset};
pub use crate::source::{ChunkLimits, Seen};
pub use catalog::{Column, Relation, RelationKind};
pub use connect::{CancelToken, ConnectError, ConnectErrorKind, Connector};
pub use conninfo::{ConnInfo, ConnInfoError, Origin, SslMode, Surroundings, TargetSession};
pub use copy_source::{CopySource, Sample};
pub use export::{Cut, Export, Range, ReadMode, Request, Selection};
pub use keyset::{Key, KeyChoice, KeyCut};
pub use pages::{HeapCut, PageCut};
pub use pattern::{NamePattern, PatternError};
pub use replay::{ReplaySource, replayed_records, why_not_replayable};
pub use session::{RowSecurity, ServerFacts, Session, SnapshotFacts};
pub use sql::{identifier, identifier_list, literal};
pub use transcode::{Foreign, Transcoder, Validator};
pub use wire::{
    CopyRun, DataRow, Frame, FramingError, Message, RawConnection, Row, ServerError, ShutdownHandle, Transaction, WireError, copy_run,
    frame,
};
