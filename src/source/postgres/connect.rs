//! Connects to the server that a [`ConnInfo`] describes, and to the same one again for every further lane.
//!
//! Hosts are tried in order, as libpq does: the next address or host comes after one that cannot be reached, is
//! starting up or is of the wrong kind; a server that answers and refuses ends the search. Beyond libpq, a server that
//! hangs up during startup counts as unreachable. TLS is given up for a plain connection only in the modes that allow
//! it, and then only after a failed handshake or a refusal that may be about encryption (SQLSTATE 28000).

mod authenticate;
mod cancel;
mod client;
mod error;
mod search;
mod socket;
mod startup;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::conninfo::{ConnInfo, Host, Place, SslMode};
use super::tls::Tls;
use super::wire::{RawConnection, Stream, Wire};
pub use cancel::CancelToken;
pub use error::{ConnectError, ConnectErrorKind};
use startup::Encryption;

/// Makes connections to one server. Cheap to clone; clones agree on the server.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    info: ConnInfo,
    /// `None` where TLS is not wanted, or not possible and not needed.
    tls: Option<Tls>,
    /// The server that answered. Locked for the whole search, so that two lanes cannot find two servers.
    settled: Mutex<Option<Target>>,
}

/// A server that was found, down to the address: a name may stand for several.
#[derive(Debug, Clone)]
struct Target {
    host: Host,
    address: Address,
    encrypted: bool,
}

/// Where a socket connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    /// The directory of the socket file; `@` in front means the abstract namespace.
    Unix {
        dir: String,
        port: u16,
    },
}

impl Connector {
    /// Reads certificates and logs what `info` warns of. Does not connect yet.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Tls`] if a certificate or key cannot be used, in a mode that insists on TLS.
    pub fn new(info: ConnInfo) -> Result<Connector, ConnectError> {
        let mut warnings = info.warnings().to_vec();
        let over_tcp = info.hosts.iter().any(|host| host.address.is_some() || matches!(host.place, Place::Name(_)));
        let tls = match (info.ssl.mode, over_tcp) {
            // As in libpq, TLS is not for Unix sockets, whatever the mode.
            (SslMode::Disable, _) | (_, false) => None,
            (mode, true) => match Tls::new(&info.ssl, &mut warnings) {
                Ok(tls) => Some(tls),
                Err(cause) if mode >= SslMode::Require => {
                    return Err(ConnectError::tls_setup(cause));
                }
                Err(cause) => {
                    warnings.push(format!("TLS cannot be used: {cause}"));
                    None
                }
            },
        };
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(Connector { shared: Arc::new(Shared { info, tls, settled: Mutex::new(None) }) })
    }

    /// What this connects to, as the user described it.
    #[must_use]
    pub fn info(&self) -> &ConnInfo {
        &self.shared.info
    }

    /// A raw connection for COPY streams.
    ///
    /// # Errors
    /// See [`ConnectErrorKind`].
    pub fn raw(&self) -> Result<RawConnection, ConnectError> {
        let mut settled = self.shared.settled.lock();
        if let Some(target) = settled.clone() {
            drop(settled);
            return self.open_exactly(&target);
        }
        let (connection, target) = self.search()?;
        tracing::debug!(server = %target, encrypted = target.encrypted, "connected");
        *settled = Some(target);
        Ok(connection)
    }

    /// Forgets the server, so that the next connection searches again: after a failover, say.
    pub fn forget_server(&self) {
        *self.shared.settled.lock() = None;
    }

    /// Connects to a known server, with encryption as it was found.
    fn open_exactly(&self, target: &Target) -> Result<RawConnection, ConnectError> {
        let encryption = if target.encrypted { Encryption::Tls } else { Encryption::Plain };
        self.open(&target.host, &target.address, encryption)
    }

    /// One attempt at one address. Nothing is retried here.
    fn open(&self, host: &Host, address: &Address, encryption: Encryption) -> Result<RawConnection, ConnectError> {
        let info = &self.shared.info;
        let deadline = info.connect_timeout.map(|timeout| Instant::now() + timeout);
        let attempt = Attempt { info, host, address };
        let socket = socket::connect(address, info, deadline).map_err(|cause| ConnectError::unreachable(&attempt, cause))?;
        let stream = startup::encrypt(socket, encryption, self.shared.tls.as_ref(), &attempt, deadline)?;
        let encrypted = matches!(stream, Stream::Tls(_));
        let mut wire = Wire::new(stream, deadline);
        let greeting = startup::start(&mut wire, &attempt).map_err(|error| error.over(encrypted))?;
        wire.disarm().map_err(|cause| ConnectError::unreachable(&attempt, cause))?;
        let target = Target { host: host.clone(), address: address.clone(), encrypted };
        let cancel = CancelToken::new(self.clone(), target, greeting.key);
        Ok(RawConnection::new(wire, greeting.parameters, cancel))
    }

    fn attempt<'a>(&'a self, target: &'a Target) -> Attempt<'a> {
        Attempt { info: &self.shared.info, host: &target.host, address: &target.address }
    }
}

/// The name that TLS verifies and sends; empty where only an address was given.
fn verified_name(host: &Host) -> &str {
    match &host.place {
        Place::Name(name) => name,
        Place::Socket(_) => "",
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

/// What is being tried, for errors.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    info: &'a ConnInfo,
    host: &'a Host,
    address: &'a Address,
}

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.host, self.address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.host, &self.address)
    }
}

/// The name as given, and the address where it says more.
fn show(f: &mut fmt::Formatter<'_>, host: &Host, address: &Address) -> fmt::Result {
    match (&host.place, address) {
        (_, Address::Unix { dir, port }) => f.write_str(&Host::socket_path(dir, *port)),
        (Place::Name(name), Address::Tcp(address)) if name.is_empty() || *name == address.ip().to_string() => {
            write!(f, "{address}")
        }
        (Place::Name(name), Address::Tcp(address)) => {
            write!(f, "{name}:{} ({})", address.port(), address.ip())
        }
        (Place::Socket(_), Address::Tcp(address)) => write!(f, "{address}"),
    }
}
