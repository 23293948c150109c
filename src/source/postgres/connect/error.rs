//! Why there is no connection, in the order in which one asks.

use std::error::Error;
use std::fmt;
use std::io;

use super::Attempt;
use crate::source::postgres::tls::{self, TlsError};
use crate::source::postgres::wire::{ServerError, WireError};

/// What kind of help is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// The server answers and does not let this user in.
    Authentication,
    /// The database does not exist or takes no connections.
    Database,
    /// The server has no place left.
    TooManyConnections,
    /// The server starts, stops or recovers.
    StartingUp,
    /// No host is of the kind that `target_session_attrs` wants.
    NoSuitableHost,
    /// No secure channel: certificates, versions, or a server without TLS.
    Tls,
    /// The description of the connection cannot be carried out.
    Config,
    /// Something else; the SQLSTATE says what.
    Other,
}

/// A connection that did not come about. `Display` says what, where and what to do; the cause is in `source()`.
#[derive(Debug)]
pub struct ConnectError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ConnectErrorKind,
    problem: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Other attempts that failed too, in short.
    tried: Vec<String>,
    /// Of the connection that the server refused.
    encrypted: bool,
}

impl ConnectError {
    /// What kind of help is needed.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        self.0.kind
    }

    /// Whether the same attempt may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            ConnectErrorKind::Unreachable
            | ConnectErrorKind::TooManyConnections
            | ConnectErrorKind::StartingUp
            | ConnectErrorKind::NoSuitableHost => true,
            // Connection trouble, out of resources, an operator's intervention.
            _ => self.server_error().is_some_and(|error| ["08", "53", "57P"].iter().any(|class| error.sqlstate.starts_with(class))),
        }
    }

    /// What the server said, if it said anything.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        self.0.source.as_deref()?.downcast_ref()
    }

    pub(super) fn new(kind: ConnectErrorKind, problem: impl Into<String>) -> ConnectError {
        ConnectError(Box::new(Inner { kind, problem: problem.into(), source: None, tried: Vec::new(), encrypted: false }))
    }

    pub(super) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> ConnectError {
        self.0.source = Some(Box::new(cause));
        self
    }

    pub(super) fn config(problem: impl Into<String>) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Config, problem)
    }

    pub(super) fn tls_setup(cause: TlsError) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Tls, "TLS cannot be set up").caused_by(cause)
    }

    pub(super) fn no_tls(attempt: &Attempt<'_>) -> ConnectError {
        let problem =
            format!("Postgres at {attempt} has no TLS, and `sslmode` insists on it; turn `ssl` on there, or use `sslmode=prefer`");
        ConnectError::new(ConnectErrorKind::Tls, problem)
    }

    /// What the error says has not been authenticated by anything, so it is not shown.
    pub(super) fn no_answer_to_tls(attempt: &Attempt<'_>) -> ConnectError {
        let problem = format!("Postgres at {attempt} could not answer the request for TLS; its log says why");
        ConnectError::new(ConnectErrorKind::Unreachable, problem)
    }

    pub(super) fn authentication(problem: String) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Authentication, problem)
    }

    pub(super) fn unsuitable(problem: String) -> ConnectError {
        ConnectError::new(ConnectErrorKind::NoSuitableHost, problem)
    }

    pub(super) fn unresolved(name: &str, cause: io::Error) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Unreachable, format!("cannot find the host `{name}`: is the name right?")).caused_by(cause)
    }

    /// Trouble with the socket, or with TLS on it.
    pub(super) fn unreachable(attempt: &Attempt<'_>, cause: io::Error) -> ConnectError {
        if let Some(tls) = find::<rustls::Error>(&cause) {
            let explained = tls::explain(tls, &attempt.info.ssl.root);
            let why = explained.map_or_else(String::new, |why| format!(": {why}"));
            return ConnectError::new(ConnectErrorKind::Tls, format!("no TLS with Postgres at {attempt}{why}")).caused_by(cause);
        }
        let problem = match cause.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                let waited = attempt.info.connect_timeout.map_or_else(String::new, |time| format!(" within {} s", time.as_secs()));
                format!("no answer from Postgres at {attempt}{waited}: is the server busy, or a firewall in between?")
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                format!("the server at {attempt} hung up before the connection was ready: is that Postgres?")
            }
            io::ErrorKind::PermissionDenied => {
                format!("no access to Postgres at {attempt}: may this user use the socket?")
            }
            _ => format!("cannot reach Postgres at {attempt}: is the server running and accepting connections there?"),
        };
        ConnectError::new(ConnectErrorKind::Unreachable, problem).caused_by(cause)
    }

    pub(super) fn wire(attempt: &Attempt<'_>, error: WireError) -> ConnectError {
        match error {
            WireError::Server(error) => ConnectError::refused(attempt, *error),
            WireError::Io(cause) => ConnectError::unreachable(attempt, cause),
            WireError::Closed => ConnectError::unreachable(attempt, io::ErrorKind::UnexpectedEof.into()),
            error @ WireError::Protocol(_) => {
                ConnectError::new(ConnectErrorKind::Other, format!("no Postgres at {attempt}: is the port right?")).caused_by(error)
            }
        }
    }

    /// The server refused in its own words.
    pub(super) fn refused(attempt: &Attempt<'_>, error: ServerError) -> ConnectError {
        let (user, dbname) = (&attempt.info.user, &attempt.info.dbname);
        let (kind, problem) = match error.sqlstate.as_str() {
            "28P01" => (
                ConnectErrorKind::Authentication,
                format!(
                    "Postgres at {attempt} refused the password of user `{user}`; check it in the connection string, PGPASSWORD or the password file"
                ),
            ),
            "28000" => (
                ConnectErrorKind::Authentication,
                format!(
                    "Postgres at {attempt} does not let user `{user}` in; does the role exist, and does pg_hba.conf let it in from here?"
                ),
            ),
            "42501" => {
                (ConnectErrorKind::Authentication, format!("user `{user}` may not connect to database `{dbname}` of Postgres at {attempt}"))
            }
            "3D000" => (ConnectErrorKind::Database, format!("Postgres at {attempt} has no database `{dbname}`")),
            "55000" => (ConnectErrorKind::Database, format!("database `{dbname}` of Postgres at {attempt} takes no connections")),
            "53300" => (
                ConnectErrorKind::TooManyConnections,
                format!(
                    "Postgres at {attempt} has no connection left; use fewer here, or raise `max_connections` or the limit of the role or database"
                ),
            ),
            "57P03" => (
                ConnectErrorKind::StartingUp,
                format!("Postgres at {attempt} is up and takes no connections: it is starting, stopping or recovering"),
            ),
            _ => (ConnectErrorKind::Other, format!("Postgres at {attempt} refused the connection")),
        };
        ConnectError::new(kind, problem).caused_by(error)
    }

    pub(super) fn over(mut self, encrypted: bool) -> ConnectError {
        self.0.encrypted = encrypted;
        self
    }

    /// Whether the same server may do better without encryption, if this was `encrypted`, or else with it.
    pub(super) fn may_be_about_encryption(&self, encrypted: bool) -> bool {
        let refused = self.server_error().is_some_and(|error| error.sqlstate == "28000");
        self.kind() == ConnectErrorKind::Tls || refused && self.0.encrypted == encrypted
    }

    /// Mentions another attempt that came to nothing.
    pub(super) fn after(mut self, how: &str, other: &ConnectError) -> ConnectError {
        let cause = other.source().map_or_else(String::new, |cause| format!(" ({cause})"));
        self.0.tried.push(format!("{how}: {}{cause}", other.0.problem));
        self.0.tried.extend(other.0.tried.iter().cloned());
        self
    }
}

/// The first error of this type in the chain. `io::Error` hides what it wraps from `source()`.
pub(super) fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as _).or_else(|| error.source());
    }
    None
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.problem)?;
        self.0.tried.iter().try_for_each(|tried| write!(f, "; {tried}"))
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|cause| cause as _)
    }
}
