//! Sockets, with and without TLS. Blocking, with the timeouts of the socket.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::remaining;

/// rustls alone would ask the system for 4 KiB at a time.
const TLS_READ_BYTES: usize = 64 << 10;

/// A connected socket.
#[derive(Debug)]
pub(in crate::source::postgres) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn try_clone(&self) -> io::Result<Socket> {
        match self {
            Socket::Tcp(socket) => socket.try_clone().map(Socket::Tcp),
            Socket::Unix(socket) => socket.try_clone().map(Socket::Unix),
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_read_timeout(timeout),
            Socket::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// For both directions.
    pub(in crate::source::postgres) fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)?;
        match self {
            Socket::Tcp(socket) => socket.set_write_timeout(timeout),
            Socket::Unix(socket) => socket.set_write_timeout(timeout),
        }
    }

    pub(super) fn shutdown(&self) {
        // Fails only where the other side was faster.
        let _ = match self {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => (&*socket).read(buf),
            Socket::Unix(socket) => (&*socket).read(buf),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => (&*socket).write(buf),
            Socket::Unix(socket) => (&*socket).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket, possibly with TLS on it.
pub(in crate::source::postgres) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// TLS over a socket.
pub(in crate::source::postgres) struct TlsStream {
    session: ClientConnection,
    socket: BufReader<Socket>,
}

impl Stream {
    /// Does the handshake on `socket`. A failure of TLS itself is an `io::Error` around a [`rustls::Error`].
    pub(in crate::source::postgres) fn handshake(
        socket: Socket,
        config: ClientConfig,
        name: ServerName<'static>,
        deadline: Option<Instant>,
    ) -> io::Result<Stream> {
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = TlsStream { session, socket: BufReader::with_capacity(TLS_READ_BYTES, socket) };
        while stream.session.is_handshaking() {
            if let Some(deadline) = deadline {
                stream.socket.get_ref().set_timeouts(Some(remaining(deadline)?))?;
            }
            stream.send_pending()?;
            if stream.session.is_handshaking() && stream.receive()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        stream.send_pending()?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    pub(in crate::source::postgres) fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.socket.get_ref(),
        }
    }

    /// The server's own certificate, if there is TLS.
    pub(in crate::source::postgres) fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.session.peer_certificates()?.first().map(|certificate| certificate.as_ref()),
        }
    }

    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buf),
            Stream::Tls(stream) => stream.read(buf),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => (&*socket).write_all(bytes),
            Stream::Tls(stream) => {
                stream.session.writer().write_all(bytes)?;
                stream.send_pending()
            }
        }
    }
}

impl TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A server that dies does not say goodbye in TLS. The protocol has its own ends.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            self.receive()?;
            self.send_pending()?;
        }
    }

    /// One read from the socket, decrypted. Returns 0 at its end.
    fn receive(&mut self) -> io::Result<usize> {
        let received = self.session.read_tls(&mut self.socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert tells the server why; the error that matters is ours.
            let _ = self.send_pending();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(received)
    }

    fn send_pending(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let mut socket = self.socket.get_ref();
            self.session.write_tls(&mut socket)?;
        }
        Ok(())
    }
}
