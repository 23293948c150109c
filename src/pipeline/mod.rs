//! Pipelines: what a file says becomes a run. The only place that turns names into concrete parts.
//!
//! ```no_run
//! use sluicegate::pipeline::{Pipeline, Syntax};
//! use sluicegate::sink::{DeadLetterSink, FileOptions, FileSink};
//!
//! let pipeline = Pipeline::parse("
//!     source: { type: file, path: in.csv }
//!     sink: { type: file, path: out.jsonl }
//! ", Syntax::Yaml)?;
//! let plan = pipeline.plan()?;
//! let report = plan
//!     .orchestrator(plan.source())
//!     .sink("sink", FileSink::create([pipeline.sink_path()], FileOptions::default())?)
//!     .dead_letter("deadLetter", DeadLetterSink::new("out.dead.jsonl".as_ref(), FileOptions::default()))
//!     .run()?;
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
pub mod document;
pub mod model;
pub mod overrides;
pub mod vocabulary;

pub use crate::definitions::vocabulary as handler_vocabulary;
pub use build::{Pipeline, Plan};
pub use document::{Position, Syntax};

use std::fmt;

/// Something that is wrong with a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, if it is in the text.
    pub position: Option<Position>,
    /// Which setting, like `sink.path`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Everything that is wrong with a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&shown.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Problems {
        Problems(problems)
    }
}
