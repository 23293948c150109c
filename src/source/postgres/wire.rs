//! A connection that speaks the wire protocol itself, for COPY streams: the caller reads straight into its own buffer
//! and finds the messages there with [`frame`] and [`copy_run`].
//!
//! Blocking, one thread; [`ShutdownHandle`] and [`CancelToken`] are for others. Every answer to a query ends with
//! `ReadyForQuery`; several queries may be sent before the first answer is read.

mod error;
mod framing;
mod inbox;
mod message;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::CancelToken;
pub use error::{ServerError, WireError};
pub use framing::{CopyRun, Frame, FramingError, copy_run, frame};
use inbox::Inbox;
pub use message::{DataRow, Message, Row, Transaction};
use message::{TERMINATE, copy_fail, query};
pub(super) use message::{message, untagged};
pub(super) use stream::{Socket, Stream};

/// The longest message that is read here rather than by the caller: error texts, rows of small queries.
const SMALL_RESULT_BYTES: usize = 16 << 20;

/// A raw connection, ready for queries.
///
/// Dropping it closes the socket at once, which also ends a COPY in progress. [`close`](RawConnection::close) says goodbye.
pub struct RawConnection {
    wire: Wire,
    parameters: BTreeMap<String, String>,
    cancel: CancelToken,
    read_timeout: Option<Duration>,
}

impl RawConnection {
    pub(super) fn new(wire: Wire, parameters: BTreeMap<String, String>, cancel: CancelToken) -> RawConnection {
        RawConnection { wire, parameters, cancel, read_timeout: None }
    }

    /// Sends a query by the simple protocol and does not wait. Send the next before the answer of this one if it is
    /// short: a server that is busy writing does not read, and about 100 KiB fit in between.
    ///
    /// # Errors
    /// When the connection is broken, or `InvalidInput` for a query with a zero byte.
    pub fn send_query(&mut self, sql: &str) -> io::Result<()> {
        if sql.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a query cannot contain a zero byte"));
        }
        self.wire.send(&query(sql))
    }

    /// Runs `sql` and returns the rows of all its statements, as text. For small results; nothing else may be under way.
    /// The read timeout does not apply: only [`ShutdownHandle`] interrupts it.
    ///
    /// # Errors
    /// [`WireError::Server`] if a statement fails, which need not end the connection; any other error does.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<Row>, WireError> {
        self.send_query(sql)?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let message = match (self.wire.next_message(SMALL_RESULT_BYTES), failure) {
                // What it said last says more than that it hung up.
                (Err(_), Some(error)) => return Err(WireError::Server(error)),
                (message, before) => {
                    failure = before;
                    message?
                }
            };
            match message {
                Message::DataRow(row) => rows.push(row.to_texts()?),
                Message::Error(error) => failure = failure.or(Some(error)),
                Message::ParameterStatus { name, value } => drop(self.parameters.insert(name.to_owned(), value.to_owned())),
                Message::Notice(notice) => notice.log(),
                Message::CopyIn => self.wire.send(&copy_fail("no data is sent here"))?,
                Message::Ready(_) => break,
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(WireError::Server(error)),
            None => Ok(rows),
        }
    }

    /// Reads what has come into `buf` and returns how many bytes that is; 0 means that the server closed the connection.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` after the read timeout: nothing is lost, call again. Other errors end the connection.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.wire.inbox.take(buf) {
            0 => self.wire.stream.read(buf),
            taken => Ok(taken),
        }
    }

    /// Gives bytes back that were read after the `ReadyForQuery` the caller stopped at, so that the next call sees them.
    /// A server may send a notice or a changed parameter at any time.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.wire.inbox.put_back(bytes);
    }

    /// How long [`read`](RawConnection::read) waits; `None` waits forever.
    ///
    /// # Errors
    /// If the system refuses, as it does for a duration of zero.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout = timeout;
        self.wire.stream.socket().set_read_timeout(timeout)
    }

    /// The timeout in effect.
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    /// Something that ends a blocked [`read`](RawConnection::read) from another thread.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn shutdown_handle(&self) -> io::Result<ShutdownHandle> {
        Ok(ShutdownHandle { socket: Arc::new(self.wire.stream.socket().try_clone()?) })
    }

    /// Something that cancels the query this connection is running.
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// What the server reported about itself at startup: `server_version`, `in_hot_standby`, `is_superuser`, …
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The process that serves this connection, as in `pg_stat_activity`. Behind a pooler it means nothing.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.cancel.backend_pid()
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.wire.stream, Stream::Tls(_))
    }

    /// Says goodbye and waits, up to a second, until the server has let go, so that its place is free for the next.
    pub fn close(mut self) {
        let _ = self.wire.send(TERMINATE);
        self.wire.deadline = Some(Instant::now() + Duration::from_secs(1));
        self.wire.wait_for_end();
    }
}

impl fmt::Debug for RawConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawConnection")
            .field("backend_pid", &self.backend_pid())
            .field("encrypted", &self.is_encrypted())
            .finish_non_exhaustive()
    }
}

/// Ends a connection from another thread.
#[derive(Debug, Clone)]
pub struct ShutdownHandle {
    socket: Arc<Socket>,
}

impl ShutdownHandle {
    /// Closes both directions: a blocked read returns 0 or an error, now and from then on. Closing twice is no error.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }
}

/// A stream with what has been read from it too early.
pub(super) struct Wire {
    stream: Stream,
    inbox: Inbox,
    /// While connecting: no read or write goes on after it.
    deadline: Option<Instant>,
}

impl Wire {
    pub(super) fn new(stream: Stream, deadline: Option<Instant>) -> Wire {
        Wire { stream, inbox: Inbox::default(), deadline }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// From now on nothing is timed.
    pub(super) fn disarm(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.stream.socket().set_timeouts(None)
    }

    fn arm(&self) -> io::Result<()> {
        match self.deadline {
            Some(deadline) => self.stream.socket().set_timeouts(Some(remaining(deadline)?)),
            None => Ok(()),
        }
    }

    /// Reads until the server hangs up or the time is over.
    pub(super) fn wait_for_end(&mut self) {
        let mut rest = [0; 4096];
        while self.arm().is_ok() && self.stream.read(&mut rest).is_ok_and(|n| n > 0) {}
    }

    /// Waits for the next whole message. One longer than `limit` bytes is an error.
    pub(super) fn next_message(&mut self, limit: usize) -> Result<Message<'_>, WireError> {
        let len = loop {
            match frame(self.inbox.bytes())? {
                Some(frame) if frame.len > limit => {
                    return Err(WireError::Protocol(format!("a message of {} bytes where at most {limit} were expected", frame.len)));
                }
                Some(frame) if frame.len <= self.inbox.bytes().len() => break frame.len,
                _ => self.fill()?,
            }
        };
        Message::parse(self.inbox.consume(len))
    }

    fn fill(&mut self) -> Result<(), WireError> {
        self.arm()?;
        loop {
            match self.stream.read(self.inbox.space()) {
                Ok(0) => return Err(WireError::Closed),
                Ok(n) => {
                    self.inbox.fill(n);
                    return Ok(());
                }
                Err(error) if is_pause(&error) && self.deadline.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A read that only ran into its timeout.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The time until `deadline`, never zero.
pub(super) fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
