//! Cancels what a connection is doing, over a second one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::startup::{self, Encryption};
use super::{ConnectError, Connector, Target, socket};
use crate::source::postgres::wire::{Wire, untagged};

/// How long to wait for a server that is asked to cancel, unless `connect_timeout` says.
const PATIENCE: Duration = Duration::from_secs(10);

const CANCEL_REQUEST: &[u8] = &[4, 210, 22, 46];

/// Proves to the server that a request to cancel comes from the connection's owner. No `Debug` of the secret.
#[derive(Clone, Copy, Default)]
pub(super) struct BackendKey {
    process: i32,
    secret: [u8; 4],
}

impl BackendKey {
    pub(super) fn parse(body: &[u8]) -> Option<BackendKey> {
        let (process, secret) = body.split_first_chunk()?;
        Some(BackendKey { process: i32::from_be_bytes(*process), secret: *secret.first_chunk()? })
    }
}

/// Cancels the query of one connection, from any thread.
#[derive(Clone)]
pub struct CancelToken {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    target: Target,
    key: BackendKey,
}

impl CancelToken {
    pub(super) fn new(connector: Connector, target: Target, key: BackendKey) -> CancelToken {
        CancelToken { inner: Arc::new(Inner { connector, target, key }) }
    }

    /// Asks the server to cancel what the connection is doing, encrypted as the connection is, and returns when the
    /// server has taken notice. The query, if it is still running, then fails with SQLSTATE 57014.
    ///
    /// # Errors
    /// If the server cannot be reached. Whether there was anything to cancel is not known.
    pub fn cancel(&self) -> Result<(), ConnectError> {
        let Inner { connector, target, key } = &*self.inner;
        let (info, attempt) = (&connector.shared.info, connector.attempt(target));
        let deadline = Some(Instant::now() + info.connect_timeout.unwrap_or(PATIENCE));
        let unreachable = |cause: io::Error| ConnectError::unreachable(&attempt, cause);
        let socket = socket::connect(&target.address, info, deadline).map_err(unreachable)?;
        let encryption = if target.encrypted { Encryption::Tls } else { Encryption::Plain };
        let stream = startup::encrypt(socket, encryption, connector.shared.tls.as_ref(), &attempt, deadline)?;
        let mut wire = Wire::new(stream, deadline);
        let process = key.process.to_be_bytes();
        wire.send(&untagged(&[CANCEL_REQUEST, &process, &key.secret])).map_err(unreachable)?;
        // The server hangs up when it has passed the signal on.
        wire.wait_for_end();
        Ok(())
    }

    pub(in crate::source::postgres) fn backend_pid(&self) -> i32 {
        self.inner.key.process
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("backend_pid", &self.backend_pid()).finish_non_exhaustive()
    }
}
