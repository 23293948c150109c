//! What goes wrong on the wire.

use std::fmt;
use std::io;

use super::framing::FramingError;

/// What the server says is wrong. Its texts may be in the server's language; `sqlstate` is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`; for notices `WARNING`, `NOTICE`, …
    pub severity: String,
    /// Five characters; see "PostgreSQL Error Codes" in the manual.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// What the server was doing (the field `where`).
    pub context: Option<String>,
}

impl ServerError {
    /// Whether the server hangs up after this.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    pub(super) fn log(&self) {
        tracing::debug!(severity = %self.severity, sqlstate = %self.sqlstate, message = %self.message, "notice");
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// Why an answer did not come.
#[derive(Debug)]
#[non_exhaustive]
pub enum WireError {
    /// The server refused the query. The connection can be used further, unless the error
    /// [ends](ServerError::ends_connection) it.
    Server(Box<ServerError>),
    /// The server closed the connection, or somebody else did.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// What came is not the protocol.
    Protocol(String),
}

impl WireError {
    /// The server's own words, if it said any.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            WireError::Server(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Server(_) => f.write_str("the server refused the query"),
            WireError::Closed => f.write_str("the server closed the connection"),
            WireError::Io(_) => f.write_str("the connection to the server broke"),
            WireError::Protocol(problem) => write!(f, "the server does not speak the Postgres protocol: {problem}"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WireError::Server(error) => Some(error),
            WireError::Io(cause) => Some(cause),
            WireError::Closed | WireError::Protocol(_) => None,
        }
    }
}

impl From<io::Error> for WireError {
    fn from(cause: io::Error) -> WireError {
        WireError::Io(cause)
    }
}

impl From<FramingError> for WireError {
    fn from(error: FramingError) -> WireError {
        WireError::Protocol(error.to_string())
    }
}
