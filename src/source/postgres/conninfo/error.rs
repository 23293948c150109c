//! What can be wrong with a description of a connection, and where it was written.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// In the connection string, at this character, counted from 1.
    Text {
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In this environment variable.
    Environment(&'static str),
    /// In a service file.
    Service {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Nowhere: it comes from the system (the user's name, a home directory).
    System,
}

impl Origin {
    pub(super) fn in_text(text: &str, byte: usize) -> Origin {
        let before = text.get(..byte).unwrap_or(text);
        Origin::Text { column: before.chars().count() + 1 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Text { column } => write!(f, "connection string, column {column}"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Service { file, line } => {
                write!(f, "service file {}, line {line}", file.display())
            }
            Origin::System => f.write_str("system"),
        }
    }
}

/// A connection string, environment or file that cannot be used. Shows keys and places, never a password.
#[derive(Debug)]
pub struct ConnInfoError {
    origin: Origin,
    problem: String,
    source: Option<std::io::Error>,
}

impl ConnInfoError {
    pub(super) fn new(origin: Origin, problem: impl Into<String>) -> ConnInfoError {
        ConnInfoError { origin, problem: problem.into(), source: None }
    }

    pub(super) fn caused_by(mut self, cause: std::io::Error) -> ConnInfoError {
        self.source = Some(cause);
        self
    }

    /// Where the setting at fault was written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Display for ConnInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.problem)
    }
}

impl std::error::Error for ConnInfoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|cause| cause as _)
    }
}
