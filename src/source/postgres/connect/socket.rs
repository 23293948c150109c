//! Opens sockets as `keepalives…`, `tcp_user_timeout`, `connect_timeout` and `requirepeer` want them.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::net::sockopt;

use super::Address;
use crate::source::postgres::conninfo::{ConnInfo, Host};
use crate::source::postgres::wire::{Socket, remaining};

/// Connects, with the time that is left as the timeout of the socket.
pub(super) fn connect(address: &Address, info: &ConnInfo, deadline: Option<Instant>) -> io::Result<Socket> {
    let socket = match address {
        Address::Tcp(address) => {
            let stream = match deadline {
                Some(deadline) => TcpStream::connect_timeout(address, remaining(deadline)?)?,
                None => TcpStream::connect(address)?,
            };
            configure(&stream, info)?;
            Socket::Tcp(stream)
        }
        Address::Unix { dir, port } => {
            let stream = connect_unix(&Host::socket_path(dir, *port))?;
            if let Some(wanted) = &info.require_peer {
                check_peer(&stream, wanted)?;
            }
            Socket::Unix(stream)
        }
    };
    if let Some(deadline) = deadline {
        socket.set_timeouts(Some(remaining(deadline)?))?;
    }
    Ok(socket)
}

fn configure(stream: &TcpStream, info: &ConnInfo) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, info.keepalive.is_some())?;
    if let Some(keepalive) = &info.keepalive {
        if let Some(idle) = keepalive.idle {
            sockopt::set_tcp_keepidle(stream, idle)?;
        }
        if let Some(interval) = keepalive.interval {
            sockopt::set_tcp_keepintvl(stream, interval)?;
        }
        if let Some(count) = keepalive.count {
            sockopt::set_tcp_keepcnt(stream, count)?;
        }
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(timeout) = info.tcp_user_timeout {
        sockopt::set_tcp_user_timeout(stream, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn connect_unix(path: &str) -> io::Result<UnixStream> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    match path.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn connect_unix(path: &str) -> io::Result<UnixStream> {
    UnixStream::connect(path)
}

/// `requirepeer`: the server must run as this system user.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn check_peer(stream: &UnixStream, wanted: &str) -> io::Result<()> {
    let actual = sockopt::socket_peercred(stream)?.uid.as_raw();
    let expected = uid_of(wanted)?;
    if actual == expected {
        return Ok(());
    }
    let problem = format!("`requirepeer={wanted}`: the server runs as another user (uid {actual}, not {expected})");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn check_peer(_: &UnixStream, _: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`requirepeer` is not supported on this system"))
}

/// From the local user database; users of a directory service go by number.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn uid_of(name: &str) -> io::Result<u32> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut matching = fields.filter(|fields| fields.first() == Some(&name));
    let uid = matching.next().and_then(|fields| fields.get(2)?.parse().ok());
    uid.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`requirepeer={name}`: no such local user; give its number")))
}
