//! Values with a type: choices, whole numbers, durations, and what belongs to TLS.

use std::path::PathBuf;
use std::time::Duration;

use super::error::ConnInfoError;
use super::settings::{Setting, Settings};
use super::surroundings::Surroundings;
use super::{Keepalive, RootCerts, Ssl};

/// How much a connection insists on TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server refuses a plain connection.
    Allow,
    /// TLS if the server has it, else plain.
    Prefer,
    /// TLS; the server's certificate is verified only if there is a root certificate.
    Require,
    /// TLS with a certificate signed by a trusted root.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    const CHOICES: &[(&str, SslMode)] = &[
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// Whether the password exchange must be bound to the TLS channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::postgres) enum ChannelBinding {
    /// Not used.
    Disable,
    /// Used where the server offers it.
    Prefer,
    /// A server that does not prove itself this way is refused.
    Require,
}

impl ChannelBinding {
    pub(super) const CHOICES: &[(&str, ChannelBinding)] =
        &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];
}

/// Which kind of server is acceptable (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSession {
    /// Any.
    Any,
    /// Accepts writes by default.
    ReadWrite,
    /// Does not accept writes by default.
    ReadOnly,
    /// Is not in recovery.
    Primary,
    /// Is in recovery.
    Standby,
    /// A standby if any of the hosts is one, else any.
    PreferStandby,
}

impl TargetSession {
    pub(super) const CHOICES: &[(&str, TargetSession)] = &[
        ("any", TargetSession::Any),
        ("read-write", TargetSession::ReadWrite),
        ("read-only", TargetSession::ReadOnly),
        ("primary", TargetSession::Primary),
        ("standby", TargetSession::Standby),
        ("prefer-standby", TargetSession::PreferStandby),
    ];
}

/// Who speaks TLS first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::postgres) enum SslNegotiation {
    /// Ask the server in its own protocol.
    Postgres,
    /// Begin with the handshake (servers from 17 on).
    Direct,
}

/// The two versions that are still safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::source::postgres) enum TlsVersion {
    Tls12,
    Tls13,
}

/// One of `choices`, or `default` where the key is not set.
pub(super) fn choose<T: Copy>(settings: &Settings, key: &'static str, choices: &[(&str, T)], default: T) -> Result<T, ConnInfoError> {
    let Some(setting) = settings.get(key) else {
        return Ok(default);
    };
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == setting.value) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = names.iter().find(|name| strsim::damerau_levenshtein(name, &setting.value.to_ascii_lowercase()) <= 2);
    let advice = near.map_or_else(|| format!("use one of {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
    Err(setting.error(format!("`{key}` cannot be `{}`; {advice}", setting.value)))
}

fn integer(setting: &Setting, key: &str) -> Result<i32, ConnInfoError> {
    setting.value.trim().parse().map_err(|_| setting.error(format!("`{key}` is not a whole number: `{}`", setting.value)))
}

/// A number of units; 0 and less mean unset.
pub(super) fn duration(settings: &Settings, key: &'static str, unit: fn(u64) -> Duration) -> Result<Option<Duration>, ConnInfoError> {
    Ok(count(settings, key)?.map(|count| unit(u64::from(count))))
}

fn count(settings: &Settings, key: &'static str) -> Result<Option<u32>, ConnInfoError> {
    let Some(setting) = settings.get(key) else {
        return Ok(None);
    };
    Ok(u32::try_from(integer(setting, key)?).ok().filter(|count| *count > 0))
}

/// In seconds; 1 counts as 2, as it may be much less than a second.
pub(super) fn connect_timeout(settings: &Settings) -> Result<Option<Duration>, ConnInfoError> {
    let given = duration(settings, "connect_timeout", Duration::from_secs)?;
    Ok(given.map(|timeout| timeout.max(Duration::from_secs(2))))
}

/// Systems wait for two hours before they ask whether the other side is still there, and nobody waits for an export that long. A
/// connection that has gone without a word is noticed within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 6;

pub(super) fn keepalive(settings: &Settings) -> Result<Option<Keepalive>, ConnInfoError> {
    if let Some(setting) = settings.get("keepalives")
        && integer(setting, "keepalives")? == 0
    {
        return Ok(None);
    }
    Ok(Some(Keepalive {
        idle: duration(settings, "keepalives_idle", Duration::from_secs)?.or(unset(settings, "keepalives_idle", KEEPALIVE_IDLE)),
        interval: duration(settings, "keepalives_interval", Duration::from_secs)?.or(unset(
            settings,
            "keepalives_interval",
            KEEPALIVE_INTERVAL,
        )),
        count: count(settings, "keepalives_count")?.or(unset(settings, "keepalives_count", KEEPALIVE_COUNT)),
    }))
}

/// `default`, unless something was given, be it that the system's own is wanted (0).
fn unset<T>(settings: &Settings, key: &'static str, default: T) -> Option<T> {
    settings.non_empty(key).is_none().then_some(default)
}

pub(super) fn ssl(settings: &Settings, around: &Surroundings<'_>) -> Result<Ssl, ConnInfoError> {
    let root = match settings.text("sslrootcert") {
        Some("system") => RootCerts::System,
        Some(file) => RootCerts::File(file.into()),
        None => around.in_home(".postgresql/root.crt").map_or(RootCerts::Nowhere, RootCerts::Default),
    };
    let default = if root == RootCerts::System { SslMode::VerifyFull } else { SslMode::Prefer };
    let mode = choose(settings, "sslmode", SslMode::CHOICES, default)?;
    let negotiation = choose(
        settings,
        "sslnegotiation",
        &[("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)],
        SslNegotiation::Postgres,
    )?;
    refuse_weak(settings, mode, &root, negotiation)?;
    let or_home = |key, name| settings.text(key).map(PathBuf::from).or_else(|| around.in_home(name));
    let certificates = settings.text("sslcertmode") != Some("disable");
    let (min_version, max_version) = versions(settings)?;
    Ok(Ssl {
        mode,
        negotiation,
        root,
        client_cert: or_home("sslcert", ".postgresql/postgresql.crt").filter(|_| certificates),
        client_key: or_home("sslkey", ".postgresql/postgresql.key").filter(|_| certificates),
        default_crl: around.in_home(".postgresql/root.crl"),
        send_server_name: choose(settings, "sslsni", &[("0", false), ("1", true)], true)?,
        min_version,
        max_version,
    })
}

/// Combinations that would promise more than they keep.
fn refuse_weak(settings: &Settings, mode: SslMode, root: &RootCerts, negotiation: SslNegotiation) -> Result<(), ConnInfoError> {
    if let Some(setting) = settings.get("sslrootcert")
        && *root == RootCerts::System
        && mode < SslMode::VerifyFull
    {
        return Err(setting.error("`sslrootcert=system` needs `sslmode=verify-full`: any public authority can sign for any name"));
    }
    if let Some(setting) = settings.get("sslnegotiation")
        && negotiation == SslNegotiation::Direct
        && mode < SslMode::Require
    {
        return Err(setting.error("`sslnegotiation=direct` needs `sslmode=require` or stricter"));
    }
    Ok(())
}

/// The lowest and the highest version to offer.
fn versions(settings: &Settings) -> Result<(TlsVersion, TlsVersion), ConnInfoError> {
    let old = ["TLSv1", "TLSv1.1"];
    let read = |key: &'static str, default| match settings.non_empty(key) {
        None => Ok(default),
        Some(setting) => match setting.value.to_ascii_lowercase().as_str() {
            "tlsv1.2" => Ok(TlsVersion::Tls12),
            "tlsv1.3" => Ok(TlsVersion::Tls13),
            low if key == "ssl_min_protocol_version" && old.iter().any(|name| name.eq_ignore_ascii_case(low)) => Ok(TlsVersion::Tls12),
            _ => Err(setting.error(format!("`{key}` cannot be `{}`; use TLSv1.2 or TLSv1.3", setting.value))),
        },
    };
    let (min, max) = (read("ssl_min_protocol_version", TlsVersion::Tls12)?, read("ssl_max_protocol_version", TlsVersion::Tls13)?);
    match settings.get("ssl_min_protocol_version") {
        Some(setting) if min > max => Err(setting.error("`ssl_min_protocol_version` is above `ssl_max_protocol_version`")),
        _ => Ok((min, max)),
    }
}
