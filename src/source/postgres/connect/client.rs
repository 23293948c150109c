//! The control connection: the sync client of the `postgres` crate, to the server that was found by a raw connection.

use std::io;

use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::find;
use super::{Address, Attempt, ConnectError, ConnectErrorKind, Connector, Target, verified_name};
use crate::source::postgres::conninfo::{ChannelBinding, ConnInfo, SslNegotiation};
use crate::source::postgres::tls;
use crate::source::postgres::wire::ServerError;

impl Connector {
    /// A control connection. For plain threads: the sync client must not run on a thread of tokio's.
    ///
    /// The first call finds the server by a raw connection, which is closed again before this one opens.
    ///
    /// # Errors
    /// See [`ConnectErrorKind`].
    pub fn client(&self) -> Result<postgres::Client, ConnectError> {
        let known = self.shared.settled.lock().clone();
        let target = match known {
            Some(target) => target,
            None => {
                self.raw()?.close();
                let found = self.shared.settled.lock().clone();
                found.ok_or_else(|| ConnectError::config("the server was forgotten while a connection to it was being made"))?
            }
        };
        let config = self.client_config(&target);
        if !target.encrypted {
            return config.connect(postgres::NoTls).map_err(|error| ConnectError::from_client(error, &self.attempt(&target)));
        }
        let tls = self.shared.tls.as_ref().ok_or_else(|| ConnectError::config("TLS is not set up"))?;
        let tls = tls.config(verified_name(&target.host)).map_err(ConnectError::tls_setup)?;
        config.connect(MakeRustlsConnect::new(tls)).map_err(|error| ConnectError::from_client(error, &self.attempt(&target)))
    }

    fn client_config(&self, target: &Target) -> postgres::Config {
        let info = &self.shared.info;
        let mut config = postgres::Config::new();
        config.user(&info.user).dbname(&info.dbname).application_name(&info.application_name);
        if let Some(options) = &info.options {
            config.options(options);
        }
        if let Some(password) = &target.host.password {
            config.password(password.reveal());
        }
        match &target.address {
            Address::Unix { dir, port } => config.host_path(dir.replacen('@', "\0", usize::from(dir.starts_with('@')))).port(*port),
            Address::Tcp(address) => {
                // The name is for the handshake alone; the verifier knows what to verify.
                let name = tls::server_name(verified_name(&target.host)).to_str().into_owned();
                config.host(&name).hostaddr(address.ip()).port(address.port())
            }
        };
        config.ssl_mode(if target.encrypted { postgres::config::SslMode::Require } else { postgres::config::SslMode::Disable });
        if info.ssl.negotiation == SslNegotiation::Direct {
            config.ssl_negotiation(postgres::config::SslNegotiation::Direct);
        }
        config.channel_binding(match info.channel_binding {
            ChannelBinding::Disable => postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => postgres::config::ChannelBinding::Require,
        });
        set_timeouts(&mut config, info);
        config
    }
}

fn set_timeouts(config: &mut postgres::Config, info: &ConnInfo) {
    if let Some(timeout) = info.connect_timeout {
        config.connect_timeout(timeout);
    }
    if let Some(timeout) = info.tcp_user_timeout {
        config.tcp_user_timeout(timeout);
    }
    config.keepalives(info.keepalive.is_some());
    if let Some(keepalive) = &info.keepalive {
        if let Some(idle) = keepalive.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = keepalive.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = keepalive.count {
            config.keepalives_retries(count);
        }
    }
}

impl ConnectError {
    /// From the sync client, whose errors keep their kind to themselves.
    fn from_client(error: postgres::Error, attempt: &Attempt<'_>) -> ConnectError {
        if let Some(said) = error.as_db_error() {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let error = ServerError {
                severity: said.severity().to_owned(),
                sqlstate: said.code().code().to_owned(),
                message: said.message().to_owned(),
                detail: owned(said.detail()),
                hint: owned(said.hint()),
                context: owned(said.where_()),
            };
            return ConnectError::refused(attempt, error);
        }
        let system = find::<io::Error>(&error).map(io::Error::kind);
        match (find::<rustls::Error>(&error).is_some(), system) {
            (true, _) => ConnectError::new(ConnectErrorKind::Tls, format!("no TLS with Postgres at {attempt}")).caused_by(error),
            (false, Some(_)) => {
                let problem = format!("cannot reach Postgres at {attempt}: is the server running and accepting connections there?");
                ConnectError::new(ConnectErrorKind::Unreachable, problem).caused_by(error)
            }
            (false, None) => ConnectError::new(ConnectErrorKind::Other, format!("no connection to Postgres at {attempt}")).caused_by(error),
        }
    }
}
