//! Where to connect, as whom and how safely: what `psql` would make of the same text, environment and files.
//!
//! The text is a URL or `key=value` pairs. What it leaves open comes from the service file, then from the `PG*`
//! environment, then from defaults; passwords also from the passfile. The oracle is libpq ("Database Connection Control
//! Functions" in the PostgreSQL manual). Where we differ on purpose:
//!
//! - `client_encoding` is ignored with a warning: the stream is always UTF8.
//! - GSSAPI is never used: `gssencmode=prefer` means `disable`, `require` is refused.
//! - Keys that would make a connection safer and that we cannot honour (`sslcrl`, `require_auth`, …) are refused, never ignored.
//! - TCP keepalive, where nothing is said of it, begins after a minute and gives up after another, not after two hours.
//! - Without a host, the socket directories of the common builds are tried by their socket file, then `localhost`.
//! - A text that looks like an unescaped password is refused rather than read as a host, a port or a database.

mod error;
mod hosts;
mod key_value;
mod keys;
mod passfile;
mod service;
mod settings;
mod surroundings;
#[cfg(test)]
mod tests;
mod url;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use error::{ConnInfoError, Origin};
pub(super) use hosts::{Host, Place};
use settings::Settings;
pub use surroundings::Surroundings;
pub(super) use values::{ChannelBinding, SslNegotiation, TlsVersion};
pub use values::{SslMode, TargetSession};

/// A checked description of a connection. Neither `Debug` nor `Display` shows a password.
#[derive(Clone)]
pub struct ConnInfo {
    /// Never empty; tried in this order.
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) dbname: String,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) ssl: Ssl,
    pub(super) channel_binding: ChannelBinding,
    /// Per address, for the whole of connect, TLS and authentication. `None` waits for as long as the system does.
    pub(super) connect_timeout: Option<Duration>,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) target_session: TargetSession,
    pub(super) shuffle_hosts: bool,
    pub(super) require_peer: Option<String>,
    warnings: Vec<String>,
}

/// What the text says about TLS; files are read when the connector is made.
#[derive(Debug, Clone)]
pub(super) struct Ssl {
    pub(super) mode: SslMode,
    pub(super) negotiation: SslNegotiation,
    pub(super) root: RootCerts,
    /// `None` under `sslcertmode=disable` or where there is no home directory.
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    /// A revocation list at the default place. We do not check it, so a verifying mode refuses to go on.
    pub(super) default_crl: Option<PathBuf>,
    pub(super) send_server_name: bool,
    pub(super) min_version: TlsVersion,
    pub(super) max_version: TlsVersion,
}

/// Where trusted roots come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootCerts {
    /// Neither named nor a home directory to look in.
    Nowhere,
    /// `~/.postgresql/root.crt`; need not exist.
    Default(PathBuf),
    /// Named by `sslrootcert`.
    File(PathBuf),
    /// `sslrootcert=system`.
    System,
}

/// TCP keepalive; what is `None` stays as the system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Keepalive {
    pub(super) idle: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u32>,
}

impl ConnInfo {
    /// Reads `text` (a URL or `key=value` pairs, possibly empty) in this process's environment.
    ///
    /// # Errors
    /// Text, environment or files that libpq would refuse too, and keys that cannot be honoured. The error names the
    /// key and the place and never shows a password.
    pub fn parse(text: &str) -> Result<ConnInfo, ConnInfoError> {
        ConnInfo::parse_in(text, &Surroundings::process())
    }

    /// Like [`parse`](ConnInfo::parse), in surroundings of the caller's choice.
    ///
    /// # Errors
    /// As for `parse`.
    pub fn parse_in(text: &str, around: &Surroundings<'_>) -> Result<ConnInfo, ConnInfoError> {
        let mut settings = Settings::default();
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let pairs = if is_url { url::parse(text)? } else { key_value::parse(text)? };
        for pair in pairs {
            settings.overwrite(pair)?;
        }
        service::fill(&mut settings, around)?;
        settings.fill_from_environment(around)?;
        assemble(&settings, around)
    }

    /// Host, port, database and user, in the form of [`Display`](fmt::Display): what a journal keeps to recognise its source.
    #[must_use]
    pub fn identity(&self) -> String {
        self.to_string()
    }

    /// What was ignored and why, for the caller to show once.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The user to connect as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database to connect to.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// How much the connection insists on TLS.
    #[must_use]
    pub fn sslmode(&self) -> SslMode {
        self.ssl.mode
    }

    /// Which kind of server is acceptable.
    #[must_use]
    pub fn target_session(&self) -> TargetSession {
        self.target_session
    }
}

fn assemble(settings: &Settings, around: &Surroundings<'_>) -> Result<ConnInfo, ConnInfoError> {
    let mut warnings = settings.ignored();
    let user = match settings.get("user") {
        Some(user) if user.value.is_empty() => {
            return Err(user.error("`user` is empty; leave it out to use the name of the system user"));
        }
        Some(user) => user.value.clone(),
        None => around.os_user()?,
    };
    let dbname = settings.text("dbname").unwrap_or(&user).to_owned();
    let mut hosts = hosts::read(settings, around)?;
    passfile::fill(&mut hosts, settings, around, &passfile::Login { user: &user, dbname: &dbname }, &mut warnings);
    let application_name = settings.text("application_name").or_else(|| settings.text("fallback_application_name"));
    Ok(ConnInfo {
        hosts,
        application_name: application_name.unwrap_or(env!("CARGO_PKG_NAME")).to_owned(),
        options: settings.text("options").map(str::to_owned),
        ssl: values::ssl(settings, around)?,
        channel_binding: values::choose(settings, "channel_binding", ChannelBinding::CHOICES, ChannelBinding::Prefer)?,
        connect_timeout: values::connect_timeout(settings)?,
        keepalive: values::keepalive(settings)?,
        tcp_user_timeout: values::duration(settings, "tcp_user_timeout", Duration::from_millis)?,
        target_session: values::choose(settings, "target_session_attrs", TargetSession::CHOICES, TargetSession::Any)?,
        shuffle_hosts: values::choose(settings, "load_balance_hosts", &[("disable", false), ("random", true)], false)?,
        require_peer: settings.text("requirepeer").map(str::to_owned),
        user,
        dbname,
        warnings,
    })
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", url::encode(&self.user))?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", url::encode(&self.dbname))
    }
}

impl fmt::Debug for ConnInfo {
    /// Not derived: `options` is the server's business and may hold what the user keeps private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ConnInfo");
        out.field("identity", &self.to_string()).field("ssl", &self.ssl);
        out.field("channel_binding", &self.channel_binding).field("connect_timeout", &self.connect_timeout);
        out.field("target_session", &self.target_session).finish_non_exhaustive()
    }
}
