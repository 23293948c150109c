//! From a connected socket to a server that is ready for queries.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use super::authenticate::authenticate;
use super::cancel::BackendKey;
use super::{Attempt, ConnectError, verified_name};
use crate::source::postgres::conninfo::SslNegotiation;
use crate::source::postgres::tls::{self, Tls};
use crate::source::postgres::wire::{Message, Socket, Stream, Wire, WireError, untagged};

/// What a socket shall become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Plain,
    TlsIfOffered,
    Tls,
}

/// What the server said when it was ready.
pub(super) struct Greeting {
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) key: BackendKey,
}

/// The longest message before the server is ready: an error text, or a list of mechanisms.
pub(super) const STARTUP_MESSAGE_BYTES: usize = 64 << 10;

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const PROTOCOL_3_0: &[u8] = &[0, 3, 0, 0];

/// Puts TLS on `socket`, if that is wanted and the server has it.
pub(super) fn encrypt(
    mut socket: Socket,
    encryption: Encryption,
    tls: Option<&Tls>,
    attempt: &Attempt<'_>,
    deadline: Option<Instant>,
) -> Result<Stream, ConnectError> {
    let (Encryption::Tls | Encryption::TlsIfOffered, Some(tls)) = (encryption, tls) else {
        return match encryption {
            Encryption::Tls => Err(ConnectError::config("TLS is wanted and not set up")),
            Encryption::Plain | Encryption::TlsIfOffered => Ok(Stream::Plain(socket)),
        };
    };
    if attempt.info.ssl.negotiation == SslNegotiation::Postgres {
        match ask_for_tls(&mut socket).map_err(|cause| ConnectError::unreachable(attempt, cause))? {
            b'S' => {}
            b'N' if encryption == Encryption::TlsIfOffered => return Ok(Stream::Plain(socket)),
            b'N' => return Err(ConnectError::no_tls(attempt)),
            b'E' => return Err(ConnectError::no_answer_to_tls(attempt)),
            other => {
                let problem = WireError::Protocol(format!("answer {:?} to the request for TLS", char::from(other)));
                return Err(ConnectError::wire(attempt, problem));
            }
        }
    }
    let host = verified_name(attempt.host);
    let config = tls.config(host).map_err(ConnectError::tls_setup)?;
    let stream = Stream::handshake(socket, config, tls::server_name(host), deadline);
    stream.map_err(|cause| ConnectError::unreachable(attempt, cause))
}

/// Reads the one byte of the answer and not more: what follows must go through TLS.
fn ask_for_tls(socket: &mut Socket) -> io::Result<u8> {
    let mut answer = [0];
    (&*socket).write_all(SSL_REQUEST)?;
    socket.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Introduces us, proves who we are, and waits until the server is ready.
pub(super) fn start(wire: &mut Wire, attempt: &Attempt<'_>) -> Result<Greeting, ConnectError> {
    let failed = |error: WireError| ConnectError::wire(attempt, error);
    wire.send(&startup_message(attempt)).map_err(|cause| failed(cause.into()))?;
    authenticate(wire, attempt)?;
    let mut greeting = Greeting { parameters: BTreeMap::new(), key: BackendKey::default() };
    loop {
        match wire.next_message(STARTUP_MESSAGE_BYTES).map_err(failed)? {
            Message::ParameterStatus { name, value } => drop(greeting.parameters.insert(name.to_owned(), value.to_owned())),
            Message::Other { tag: b'K', body } => {
                greeting.key = BackendKey::parse(body).ok_or_else(|| failed(unexpected("a malformed key")))?
            }
            Message::Error(error) => return Err(ConnectError::refused(attempt, *error)),
            Message::Ready(_) => return Ok(greeting),
            Message::Notice(_) | Message::Other { .. } => {}
            _ => return Err(failed(unexpected("a message out of turn"))),
        }
    }
}

fn startup_message(attempt: &Attempt<'_>) -> Vec<u8> {
    let info = attempt.info;
    let mut text = format!("user\0{}\0database\0{}\0client_encoding\0UTF8\0", info.user, info.dbname);
    text.push_str(&format!("application_name\0{}\0", info.application_name));
    if let Some(options) = &info.options {
        text.push_str(&format!("options\0{options}\0"));
    }
    text.push('\0');
    untagged(&[PROTOCOL_3_0, text.as_bytes()])
}

pub(super) fn unexpected(what: &str) -> WireError {
    WireError::Protocol(format!("unexpected during startup: {what}"))
}
