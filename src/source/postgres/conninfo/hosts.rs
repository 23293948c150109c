//! The servers to try: the lists in `host`, `hostaddr` and `port`, matched up.

use std::fmt;
use std::net::IpAddr;

use super::error::ConnInfoError;
use super::passfile::Secret;
use super::settings::{Setting, Settings};
use super::surroundings::Surroundings;
use super::url;

pub(super) const DEFAULT_PORT: u16 = 5432;

/// One server, with the password that goes to it and to no other.
#[derive(Debug, Clone)]
pub(in crate::source::postgres) struct Host {
    pub(in crate::source::postgres) place: Place,
    /// `hostaddr`: where to connect without asking the resolver; `place` is then the name that TLS verifies.
    pub(in crate::source::postgres) address: Option<IpAddr>,
    pub(in crate::source::postgres) port: u16,
    pub(in crate::source::postgres) password: Option<Secret>,
}

/// What the text calls a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::postgres) enum Place {
    /// A name or an address for TCP. Empty where only `hostaddr` was given.
    Name(String),
    /// The directory of a Unix socket; with `@` in front, a name in Linux's abstract namespace.
    Socket(String),
}

impl Host {
    /// The socket file of a Unix socket.
    pub(in crate::source::postgres) fn socket_path(dir: &str, port: u16) -> String {
        format!("{dir}/.s.PGSQL.{port}")
    }
}

impl fmt::Display for Host {
    /// As in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.address) {
            (Place::Socket(dir), _) => write!(f, "{}:{}", url::encode(dir), self.port),
            (Place::Name(name), Some(IpAddr::V6(address))) if name.is_empty() => {
                write!(f, "[{address}]:{}", self.port)
            }
            (Place::Name(name), Some(address)) if name.is_empty() => {
                write!(f, "{address}:{}", self.port)
            }
            (Place::Name(name), _) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            (Place::Name(name), _) => write!(f, "{}:{}", url::encode(name), self.port),
        }
    }
}

/// Reads the lists, without passwords.
pub(super) fn read(settings: &Settings, around: &Surroundings<'_>) -> Result<Vec<Host>, ConnInfoError> {
    let names = list(settings.non_empty("host"));
    let addresses = list(settings.non_empty("hostaddr"));
    let ports = ports(settings)?;
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    if let (Some(names), Some(hostaddr)) = (&names, settings.non_empty("hostaddr"))
        && names.len() != count
    {
        return Err(
            hostaddr.error(format!("{count} addresses in `hostaddr` for {} names in `host`; the two lists go together", names.len()))
        );
    }
    if let Some(port) = settings.non_empty("port")
        && ports.len() != 1
        && ports.len() != count
    {
        return Err(port.error(format!("{} ports for {count} hosts; give one port for all or one for each", ports.len())));
    }
    let at = |i: usize| {
        let port = if ports.len() == 1 { ports[0] } else { ports[i] };
        let name = names.as_ref().map_or("", |names| names[i]);
        let address = addresses.as_ref().map_or("", |addresses| addresses[i]);
        Ok(Host { place: place(name, address, port, around), address: parse_address(address, settings)?, port, password: None })
    };
    (0..count).map(at).collect()
}

fn place(name: &str, address: &str, port: u16, around: &Surroundings<'_>) -> Place {
    // An address wins over a socket directory, which then is no name to verify either.
    let is_socket = name.starts_with(['/', '@']);
    match (name, address) {
        ("", "") => default_place(port, around),
        (name, "") if is_socket => Place::Socket(name.to_owned()),
        (_, address) if is_socket && !address.is_empty() => Place::Name(String::new()),
        (name, _) => Place::Name(name.to_owned()),
    }
}

fn default_place(port: u16, around: &Surroundings<'_>) -> Place {
    match around.socket_dir(port) {
        Some(dir) => Place::Socket(dir.display().to_string()),
        None => Place::Name("localhost".to_owned()),
    }
}

fn list(setting: Option<&Setting>) -> Option<Vec<&str>> {
    setting.map(|setting| setting.value.split(',').collect())
}

fn parse_address(text: &str, settings: &Settings) -> Result<Option<IpAddr>, ConnInfoError> {
    match (text, settings.get("hostaddr")) {
        ("", _) | (_, None) => Ok(None),
        (text, Some(setting)) => {
            text.parse().map(Some).map_err(|_| setting.error("`hostaddr` takes an IPv4 or IPv6 address; a name goes into `host`"))
        }
    }
}

/// The value is not shown: in a URL it may be a password.
fn ports(settings: &Settings) -> Result<Vec<u16>, ConnInfoError> {
    let Some(setting) = settings.non_empty("port") else {
        return Ok(vec![DEFAULT_PORT]);
    };
    let port = |text: &str| match text.trim() {
        "" => Some(DEFAULT_PORT),
        digits => digits.parse().ok().filter(|port| *port != 0),
    };
    let problem =
        "`port` is not a number from 1 to 65535; a `:`, `/` or `@` in a user name or password of a URL is written as %3A, %2F or %40";
    setting.value.split(',').map(|text| port(text).ok_or_else(|| setting.error(problem))).collect()
}
