//! What a message says. Pure; the only allocations are error texts.

use super::error::{ServerError, WireError};
use super::framing::COPY_DATA;

/// A row of a small result; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// A whole message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A piece of a COPY; in text and CSV format, a row with its line feed.
    CopyData(&'a [u8]),
    /// Data follow.
    CopyOut {
        /// Columns per row.
        columns: u16,
        /// Not text.
        binary: bool,
    },
    /// The server waits for data.
    CopyIn,
    /// No more data.
    CopyDone,
    /// A statement is done; see [`copied_rows`](Message::copied_rows).
    CommandComplete(&'a str),
    /// A row of a query.
    DataRow(DataRow<'a>),
    /// The server refuses. A `ReadyForQuery` follows, unless the severity is `FATAL` or higher.
    Error(Box<ServerError>),
    /// The server remarks; has no effect.
    Notice(Box<ServerError>),
    /// A setting has changed.
    ParameterStatus {
        /// Its name.
        name: &'a str,
        /// Its new value.
        value: &'a str,
    },
    /// The answer to a query is complete.
    Ready(Transaction),
    /// One that can be ignored between queries: row descriptions, notifications, and what later versions add.
    Other {
        /// The kind of message.
        tag: u8,
        /// All after the length word.
        body: &'a [u8],
    },
}

/// Where a connection stands between two queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// In none.
    Idle,
    /// In one.
    Open,
    /// In one that can only be rolled back.
    Failed,
}

impl<'a> Message<'a> {
    /// Reads the whole message `bytes`, as measured by [`frame`](super::frame).
    ///
    /// # Errors
    /// [`WireError::Protocol`] if its body is not what its kind says.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, WireError> {
        let Some((&[tag, ..], body)) = bytes.split_first_chunk::<5>() else {
            return Err(WireError::Protocol("a message without a head".to_owned()));
        };
        let read = match tag {
            COPY_DATA => Some(Message::CopyData(body)),
            b'H' => copy_out(body),
            b'G' => Some(Message::CopyIn),
            b'c' => Some(Message::CopyDone),
            b'C' => text(body).map(|(tag, _)| Message::CommandComplete(tag)),
            b'D' => Some(Message::DataRow(DataRow(body))),
            b'E' => Some(Message::Error(Box::new(server_error(body)))),
            b'N' => Some(Message::Notice(Box::new(server_error(body)))),
            // A value in another encoding is of no use here.
            b'S' => Some(parameter(body).unwrap_or(Message::Other { tag, body })),
            b'Z' => transaction(body).map(Message::Ready),
            tag => Some(Message::Other { tag, body }),
        };
        read.ok_or_else(|| WireError::Protocol(format!("a malformed message of kind {:?}", char::from(tag))))
    }

    /// The number in the tag `COPY n` of a [`CommandComplete`](Message::CommandComplete).
    #[must_use]
    pub fn copied_rows(&self) -> Option<u64> {
        match self {
            Message::CommandComplete(tag) => tag.strip_prefix("COPY ")?.parse().ok(),
            _ => None,
        }
    }
}

/// A text up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((text, &bytes[end + 1..]))
}

fn parameter(body: &[u8]) -> Option<Message<'_>> {
    let (name, rest) = text(body)?;
    Some(Message::ParameterStatus { name, value: text(rest)?.0 })
}

fn copy_out(body: &[u8]) -> Option<Message<'static>> {
    let &[format, high, low] = body.first_chunk()?;
    Some(Message::CopyOut { columns: u16::from_be_bytes([high, low]), binary: format != 0 })
}

fn transaction(body: &[u8]) -> Option<Transaction> {
    match body {
        b"I" => Some(Transaction::Idle),
        b"T" => Some(Transaction::Open),
        b"E" => Some(Transaction::Failed),
        _ => None,
    }
}

/// Never fails: half an error is better than none. Control characters would play with the terminal.
fn server_error(mut body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    while let Some((&kind, rest)) = body.split_first()
        && kind != 0
    {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let value = String::from_utf8_lossy(&rest[..end]).replace(char::is_control, " ");
        body = rest.get(end + 1..).unwrap_or(&[]);
        match kind {
            // The severity twice: first in the server's language, then, since 9.6, as it is.
            b'S' | b'V' => error.severity = value,
            b'C' => error.sqlstate = value,
            b'M' => error.message = value,
            b'D' => error.detail = Some(value),
            b'H' => error.hint = Some(value),
            b'W' => error.context = Some(value),
            _ => {}
        }
    }
    error
}

/// The columns of a row.
#[derive(Debug, Clone, Copy)]
pub struct DataRow<'a>(&'a [u8]);

impl DataRow<'_> {
    /// Its columns as text.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if the row is malformed or not UTF-8.
    pub fn to_texts(self) -> Result<Row, WireError> {
        let malformed = || WireError::Protocol("a malformed row".to_owned());
        let (count, mut rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        let mut row = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = rest.split_first_chunk().ok_or_else(malformed)?;
            let length = i32::from_be_bytes(*length);
            if length == -1 {
                row.push(None);
                rest = after;
                continue;
            }
            let length = usize::try_from(length).map_err(|_| malformed())?;
            let (value, after) = after.split_at_checked(length).ok_or_else(malformed)?;
            let value = std::str::from_utf8(value).map_err(|_| WireError::Protocol("a value that is not UTF-8".to_owned()))?;
            row.push(Some(value.to_owned()));
            rest = after;
        }
        Ok(row)
    }
}

/// A message to the server.
pub(in crate::source::postgres) fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(untagged(parts));
    out
}

/// One of the first messages, which have no tag.
pub(in crate::source::postgres) fn untagged(parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length + 1);
    // A query of 2 GiB is refused by the server as any other nonsense length.
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"])
}

pub(super) fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &[reason.as_bytes(), b"\0"])
}

pub(super) const TERMINATE: &[u8] = b"X\0\0\0\x04";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::wire::{copy_run, frame};

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let samples = [
            message(b'H', &[b"\0\0\x02\0\0\0\0"]),
            message(b'C', &[b"COPY 12\0"]),
            message(b'D', &[b"\0\x02\0\0\0\x01x\xff\xff\xff\xff"]),
            message(b'E', &[b"SFATAL\0C57P01\0Mgone\0\0"]),
            message(b'S', &[b"TimeZone\0UTC\0"]),
            message(b'Z', &[b"I"]),
        ];
        let visit = |bytes: &[u8]| {
            if let Ok(Message::DataRow(row)) = Message::parse(bytes) {
                drop(row.to_texts());
            }
            let _ = (frame(bytes), copy_run(bytes));
        };
        for sample in samples {
            assert!(Message::parse(&sample).is_ok(), "{sample:?}");
            for at in 0..sample.len() {
                visit(&sample[..at]);
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut broken = sample.clone();
                    broken[at] = value;
                    visit(&broken);
                }
            }
        }
    }

    #[test]
    fn the_count_of_a_copy_is_in_its_tag() {
        let copied = |tag: &str| Message::CommandComplete(tag).copied_rows();
        assert_eq!(copied("COPY 18446744073709551615"), Some(u64::MAX));
        assert_eq!(copied("COPY"), None);
        assert_eq!(copied("SELECT 1"), None);
        assert_eq!(copied("COPY x"), None);
    }

    #[test]
    fn an_error_keeps_what_the_server_said() {
        let body = b"SFATAL\0VFATAL\0C28P01\0Mno\nway\0Dbecause\0Htry\0Win here\0Ffile.c\0\0";
        let Ok(Message::Error(error)) = Message::parse(&message(b'E', &[body])).map_err(|error| panic!("{error}")) else {
            panic!("not an error");
        };
        assert_eq!(error.to_string(), "FATAL 28P01: no way (because); try");
        assert_eq!(error.context.as_deref(), Some("in here"));
    }
}
