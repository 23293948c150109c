//! The search for a server: hosts, their addresses, and with or without encryption.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, ToSocketAddrs as _};

use super::startup::Encryption;
use super::{Address, ConnectError, ConnectErrorKind, Connector, Target};
use crate::source::postgres::conninfo::{ConnInfo, Host, Place, SslMode, TargetSession};
use crate::source::postgres::wire::{RawConnection, WireError};

impl Connector {
    /// Tries one host after another. `prefer-standby` takes a second turn in which any will do.
    pub(super) fn search(&self) -> Result<(RawConnection, Target), ConnectError> {
        let info = &self.shared.info;
        let wanted = info.target_session;
        let mut last: Option<ConnectError> = None;
        let turns = match wanted {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any][..],
            _ => std::slice::from_ref(&wanted),
        };
        for turn in turns {
            for host in in_order(&info.hosts, info) {
                match self.try_host(host, *turn) {
                    Ok(found) => return Ok(found),
                    Err(error) if goes_on(&error) => last = Some(with_earlier(error, last)),
                    Err(error) => return Err(with_earlier(error, last)),
                }
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::config("no host to connect to")))
    }

    /// Tries one address after another.
    fn try_host(&self, host: &Host, wanted: TargetSession) -> Result<(RawConnection, Target), ConnectError> {
        let mut last = None;
        for address in addresses(host, &self.shared.info)? {
            match self.try_address(host, &address) {
                Ok(mut connection) => {
                    let target = Target { host: host.clone(), encrypted: connection.is_encrypted(), address };
                    return match suits(&mut connection, wanted) {
                        Ok(None) => Ok((connection, target)),
                        Ok(Some(mismatch)) => {
                            connection.close();
                            Err(ConnectError::unsuitable(format!("Postgres at {target} {mismatch}")))
                        }
                        Err(error) => Err(ConnectError::wire(&self.attempt(&target), error)),
                    };
                }
                Err(error) if error.kind() == ConnectErrorKind::Unreachable => last = Some(with_earlier(error, last)),
                Err(error) => return Err(with_earlier(error, last)),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::config("a host without an address")))
    }

    /// With and without encryption, as far as `sslmode` lets us choose.
    fn try_address(&self, host: &Host, address: &Address) -> Result<RawConnection, ConnectError> {
        let open = |encryption| self.open(host, address, encryption);
        if matches!(address, Address::Unix { .. }) {
            return open(Encryption::Plain);
        }
        match (self.shared.info.ssl.mode, self.shared.tls.is_some()) {
            (SslMode::Disable, _) | (SslMode::Allow | SslMode::Prefer, false) => open(Encryption::Plain),
            (SslMode::Allow, true) => open(Encryption::Plain).or_else(|first| match first.may_be_about_encryption(false) {
                true => open(Encryption::Tls).map_err(|error| error.after("without TLS", &first)),
                false => Err(first),
            }),
            (SslMode::Prefer, true) => open(Encryption::TlsIfOffered).or_else(|first| match first.may_be_about_encryption(true) {
                true => open(Encryption::Plain).map_err(|error| error.after("with TLS", &first)),
                false => Err(first),
            }),
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, _) => open(Encryption::Tls),
        }
    }
}

/// Whether another host may be tried.
fn goes_on(error: &ConnectError) -> bool {
    matches!(error.kind(), ConnectErrorKind::Unreachable | ConnectErrorKind::StartingUp | ConnectErrorKind::NoSuitableHost)
}

fn with_earlier(error: ConnectError, earlier: Option<ConnectError>) -> ConnectError {
    match earlier {
        Some(earlier) => error.after("before that", &earlier),
        None => error,
    }
}

fn addresses(host: &Host, info: &ConnInfo) -> Result<Vec<Address>, ConnectError> {
    let port = host.port;
    match (&host.place, host.address) {
        (_, Some(address)) => Ok(vec![Address::Tcp(SocketAddr::new(address, port))]),
        (Place::Socket(dir), None) => Ok(vec![Address::Unix { dir: dir.clone(), port }]),
        (Place::Name(name), None) => {
            let found = (name.as_str(), port).to_socket_addrs().map_err(|cause| ConnectError::unresolved(name, cause))?;
            let found: Vec<_> = found.map(Address::Tcp).collect();
            Ok(in_order(&found, info).into_iter().cloned().collect())
        }
    }
}

/// As given, or shuffled under `load_balance_hosts=random`.
fn in_order<'t, T>(all: &'t [T], info: &ConnInfo) -> Vec<&'t T> {
    let mut order: Vec<&T> = all.iter().collect();
    if info.shuffle_hosts {
        // Spreads clients over servers; nothing depends on its quality.
        let random = RandomState::new();
        order.sort_by_cached_key(|item| random.hash_one(std::ptr::from_ref(*item).addr()));
    }
    order
}

/// What is wrong with this server for `wanted`, if anything.
fn suits(connection: &mut RawConnection, wanted: TargetSession) -> Result<Option<&'static str>, WireError> {
    let mismatch = match wanted {
        TargetSession::Any | TargetSession::PreferStandby => None,
        TargetSession::ReadWrite if is_read_only(connection)? => Some("does not accept writes"),
        TargetSession::ReadOnly if !is_read_only(connection)? => Some("accepts writes"),
        TargetSession::Primary if is_standby(connection)? => Some("is a standby"),
        TargetSession::Standby if !is_standby(connection)? => Some("is not a standby"),
        _ => None,
    };
    Ok(mismatch)
}

/// Servers from 14 on report it at startup; poolers and older ones are asked.
fn is_standby(connection: &mut RawConnection) -> Result<bool, WireError> {
    match connection.parameter("in_hot_standby") {
        Some(value) => Ok(value == "on"),
        None => answer(connection, "SELECT pg_catalog.pg_is_in_recovery()").map(|value| value == "t"),
    }
}

fn is_read_only(connection: &mut RawConnection) -> Result<bool, WireError> {
    match (connection.parameter("default_transaction_read_only"), connection.parameter("in_hot_standby")) {
        (Some(default), Some(standby)) => Ok(default == "on" || standby == "on"),
        _ => answer(connection, "SHOW transaction_read_only").map(|value| value == "on"),
    }
}

fn answer(connection: &mut RawConnection, sql: &str) -> Result<String, WireError> {
    let rows = connection.simple(sql)?;
    let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    value.ok_or_else(|| WireError::Protocol(format!("no answer to {sql}")))
}
