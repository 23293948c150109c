//! Proves who we are: nothing, a password as it is, hashed, or by SCRAM, which proves the server to us as well.

use std::io;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};

use super::startup::{STARTUP_MESSAGE_BYTES, unexpected};
use super::{Attempt, ConnectError};
use crate::source::postgres::conninfo::ChannelBinding;
use crate::source::postgres::tls;
use crate::source::postgres::wire::{Message, Wire, WireError, message};

/// The steps of authentication, each with the server's part of it.
enum Step {
    Done,
    Cleartext,
    Md5([u8; 4]),
    Sasl(Vec<u8>),
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    Unsupported(u32),
}

fn next_step(wire: &mut Wire, attempt: &Attempt<'_>) -> Result<Step, ConnectError> {
    let failed = |error: WireError| ConnectError::wire(attempt, error);
    loop {
        match wire.next_message(STARTUP_MESSAGE_BYTES).map_err(failed)? {
            Message::Other { tag: b'R', body } => {
                return Step::parse(body).ok_or_else(|| failed(unexpected("a malformed authentication")));
            }
            Message::Error(error) => return Err(ConnectError::refused(attempt, *error)),
            // A notice, or the list of protocol options it does not know.
            Message::Notice(_) | Message::Other { tag: b'v', .. } => {}
            _ => return Err(failed(unexpected("a message out of turn"))),
        }
    }
}

impl Step {
    fn parse(body: &[u8]) -> Option<Step> {
        let (code, rest) = body.split_first_chunk()?;
        Some(match u32::from_be_bytes(*code) {
            0 => Step::Done,
            3 => Step::Cleartext,
            5 => Step::Md5(*rest.first_chunk()?),
            10 => Step::Sasl(rest.to_vec()),
            11 => Step::SaslContinue(rest.to_vec()),
            12 => Step::SaslFinal(rest.to_vec()),
            other => Step::Unsupported(other),
        })
    }
}

/// Answers what the server asks for, until it is satisfied.
pub(super) fn authenticate(wire: &mut Wire, attempt: &Attempt<'_>) -> Result<(), ConnectError> {
    let info = attempt.info;
    let user = info.user.as_bytes();
    match next_step(wire, attempt)? {
        Step::Sasl(mechanisms) => scram(wire, attempt, &mechanisms)?,
        // Only SCRAM proves the server to us.
        _ if info.channel_binding == ChannelBinding::Require => {
            return Err(no_channel_binding(attempt));
        }
        Step::Done => return Ok(()),
        Step::Cleartext => send_password(wire, attempt, password(attempt)?)?,
        Step::Md5(salt) => {
            let hashed = md5_hash(user, password(attempt)?.as_bytes(), salt);
            send_password(wire, attempt, &hashed)?;
        }
        Step::Unsupported(code) => {
            let method = match code {
                7 | 8 => "GSSAPI",
                9 => "SSPI",
                2 => "Kerberos 5",
                _ => "an unknown method",
            };
            let problem = format!(
                "Postgres at {attempt} wants {method} for user `{}`, which is not supported; have pg_hba.conf ask for scram-sha-256 or cert",
                info.user
            );
            return Err(ConnectError::authentication(problem));
        }
        Step::SaslContinue(_) | Step::SaslFinal(_) => return Err(out_of_order(attempt)),
    }
    match next_step(wire, attempt)? {
        Step::Done => Ok(()),
        _ => Err(out_of_order(attempt)),
    }
}

fn send_password(wire: &mut Wire, attempt: &Attempt<'_>, password: &str) -> Result<(), ConnectError> {
    let sent = wire.send(&message(b'p', &[password.as_bytes(), b"\0"]));
    sent.map_err(|cause| ConnectError::unreachable(attempt, cause))
}

/// The server is proved too: it has to know the password, and with channel binding to own the certificate.
fn scram(wire: &mut Wire, attempt: &Attempt<'_>, mechanisms: &[u8]) -> Result<(), ConnectError> {
    let password = password(attempt)?.as_bytes();
    let (mechanism, binding) = choose_mechanism(wire, attempt, mechanisms)?;
    let failed = |cause: io::Error| {
        let problem = format!("Postgres at {attempt} did not prove that it knows the password of user `{}`", attempt.info.user);
        ConnectError::authentication(problem).caused_by(cause)
    };
    let send = |wire: &mut Wire, parts: &[&[u8]]| {
        let sent = wire.send(&message(b'p', parts));
        sent.map_err(|cause| ConnectError::unreachable(attempt, cause))
    };
    let mut scram = ScramSha256::new(password, binding);
    let first = scram.message();
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    send(wire, &[mechanism.as_bytes(), b"\0", &length, first])?;
    let Step::SaslContinue(challenge) = next_step(wire, attempt)? else {
        return Err(out_of_order(attempt));
    };
    scram.update(&challenge).map_err(failed)?;
    send(wire, &[scram.message()])?;
    let Step::SaslFinal(proof) = next_step(wire, attempt)? else {
        return Err(out_of_order(attempt));
    };
    scram.finish(&proof).map_err(failed)
}

fn choose_mechanism(wire: &Wire, attempt: &Attempt<'_>, offered: &[u8]) -> Result<(&'static str, sasl::ChannelBinding), ConnectError> {
    let wanted = attempt.info.channel_binding;
    let offers = |name: &str| offered.split(|byte| *byte == 0).any(|mechanism| mechanism == name.as_bytes());
    let certificate = wire.stream().peer_certificate().filter(|_| wanted != ChannelBinding::Disable);
    let end_point = certificate.and_then(tls::server_end_point);
    match end_point {
        Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => Ok((sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))),
        _ if wanted == ChannelBinding::Require => Err(no_channel_binding(attempt)),
        _ if !offers(sasl::SCRAM_SHA_256) => {
            let problem = format!("Postgres at {attempt} offers no SASL mechanism that is supported here; SCRAM-SHA-256 is");
            Err(ConnectError::authentication(problem))
        }
        // Tells a server that did offer it that somebody in between has struck it out.
        Some(_) => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested())),
        None => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
    }
}

fn password<'a>(attempt: &Attempt<'a>) -> Result<&'a str, ConnectError> {
    let missing = || {
        let user = &attempt.info.user;
        let problem = format!(
            "Postgres at {attempt} asks for the password of user `{user}`, and none is given; set PGPASSWORD or write it into ~/.pgpass"
        );
        ConnectError::authentication(problem)
    };
    attempt.host.password.as_ref().map(|password| password.reveal()).ok_or_else(missing)
}

fn no_channel_binding(attempt: &Attempt<'_>) -> ConnectError {
    let problem = format!(
        "Postgres at {attempt} cannot do channel binding, and `channel_binding=require` insists on it: it takes TLS and scram-sha-256"
    );
    ConnectError::authentication(problem)
}

fn out_of_order(attempt: &Attempt<'_>) -> ConnectError {
    ConnectError::wire(attempt, unexpected("authentication out of order"))
}
