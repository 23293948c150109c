//! The keys a connection string may have, which environment variable each reads, and what becomes of it here.

/// One key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) env: Option<&'static str>,
    pub(super) support: Support,
}

/// What becomes of a key's value.
pub(super) enum Support {
    /// It does what libpq does with it.
    Honoured,
    /// It has no effect, which is harmless.
    Ignored,
    /// It has no effect, which the user should hear: the reason.
    Warned(&'static str),
    /// Any value but these and the empty one is an error, for this reason.
    Only(&'static [&'static str], &'static str),
}

impl Key {
    /// Its value must not be shown, not even in part.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.name, "password" | "sslpassword" | "scram_client_key" | "scram_server_key" | "oauth_client_secret")
    }
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key somebody may have meant by `name`.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("pg").unwrap_or(&name);
    if let Some((_, key)) = OTHER_WORDS.iter().find(|(word, _)| *word == name) {
        return Some(key);
    }
    let scored = KEYS.iter().map(|key| (strsim::damerau_levenshtein(name, key.name), key.name));
    scored.filter(|(distance, key)| *distance <= key.len().div_ceil(4)).min().map(|(_, key)| key)
}

/// What people write who come from other drivers.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("db", "dbname"),
    ("database", "dbname"),
    ("username", "user"),
    ("pass", "password"),
    ("pwd", "password"),
    ("hostname", "host"),
    ("server", "host"),
    ("address", "hostaddr"),
    ("ssl", "sslmode"),
    ("timeout", "connect_timeout"),
    ("connecttimeout", "connect_timeout"),
    ("applicationname", "application_name"),
    ("appname", "application_name"),
    ("sslca", "sslrootcert"),
];

const NO_CRL: &str = "revocation lists are not checked here; take the key out to go on without";
const NO_GSS: &str = "GSSAPI is not supported; use TLS (`sslmode`) instead";
const NO_KEY_PASSWORD: &str = "encrypted client keys cannot be read; decrypt the key into a file only you can read (mode 0600)";
const NO_REQUIRE_AUTH: &str =
    "the authentication methods a server may ask for cannot be restricted here; `channel_binding=require` proves the server";
const NO_PROTOCOL: &str = "only protocol 3.0 is spoken here";
const NO_REPLICATION: &str = "this is no replication client";
const NO_KEYLOG: &str = "TLS secrets are never written to a file";
const NO_SCRAM_KEYS: &str = "SCRAM keys cannot stand in for the password here; give the password";
const NO_OAUTH: &str = "OAuth is not supported";
const NO_CERT_REQUIRE: &str = "whether the server asked for the certificate is not checked here";

const fn key(name: &'static str, env: &'static str, support: Support) -> Key {
    Key { name, env: Some(env), support }
}

const fn without_env(name: &'static str, support: Support) -> Key {
    Key { name, env: None, support }
}

use Support::{Honoured, Ignored, Only, Warned};

/// In the order of the manual.
pub(super) const KEYS: &[Key] = &[
    key("host", "PGHOST", Honoured),
    key("hostaddr", "PGHOSTADDR", Honoured),
    key("port", "PGPORT", Honoured),
    key("dbname", "PGDATABASE", Honoured),
    key("user", "PGUSER", Honoured),
    key("password", "PGPASSWORD", Honoured),
    key("passfile", "PGPASSFILE", Honoured),
    key("require_auth", "PGREQUIREAUTH", Only(&[], NO_REQUIRE_AUTH)),
    key("channel_binding", "PGCHANNELBINDING", Honoured),
    key("connect_timeout", "PGCONNECT_TIMEOUT", Honoured),
    key("client_encoding", "PGCLIENTENCODING", Warned("the stream is always UTF8")),
    key("options", "PGOPTIONS", Honoured),
    key("application_name", "PGAPPNAME", Honoured),
    without_env("fallback_application_name", Honoured),
    without_env("keepalives", Honoured),
    without_env("keepalives_idle", Honoured),
    without_env("keepalives_interval", Honoured),
    without_env("keepalives_count", Honoured),
    without_env("tcp_user_timeout", Honoured),
    without_env("replication", Only(&["false", "off", "no", "0"], NO_REPLICATION)),
    key("gssencmode", "PGGSSENCMODE", Only(&["disable", "prefer"], NO_GSS)),
    key("sslmode", "PGSSLMODE", Honoured),
    key("sslnegotiation", "PGSSLNEGOTIATION", Honoured),
    key("sslcompression", "PGSSLCOMPRESSION", Ignored),
    key("sslcert", "PGSSLCERT", Honoured),
    key("sslkey", "PGSSLKEY", Honoured),
    without_env("sslkeylogfile", Only(&[], NO_KEYLOG)),
    without_env("sslpassword", Only(&[], NO_KEY_PASSWORD)),
    key("sslcertmode", "PGSSLCERTMODE", Only(&["disable", "allow"], NO_CERT_REQUIRE)),
    key("sslrootcert", "PGSSLROOTCERT", Honoured),
    key("sslcrl", "PGSSLCRL", Only(&[], NO_CRL)),
    key("sslcrldir", "PGSSLCRLDIR", Only(&[], NO_CRL)),
    key("sslsni", "PGSSLSNI", Honoured),
    key("requirepeer", "PGREQUIREPEER", Honoured),
    key("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Honoured),
    key("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Honoured),
    key("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0"], NO_PROTOCOL)),
    key("max_protocol_version", "PGMAXPROTOCOLVERSION", Only(&["3.0", "3.2", "latest"], NO_PROTOCOL)),
    key("krbsrvname", "PGKRBSRVNAME", Ignored),
    key("gsslib", "PGGSSLIB", Ignored),
    key("gssdelegation", "PGGSSDELEGATION", Ignored),
    without_env("scram_client_key", Only(&[], NO_SCRAM_KEYS)),
    without_env("scram_server_key", Only(&[], NO_SCRAM_KEYS)),
    key("service", "PGSERVICE", Honoured),
    key("target_session_attrs", "PGTARGETSESSIONATTRS", Honoured),
    key("load_balance_hosts", "PGLOADBALANCEHOSTS", Honoured),
    without_env("oauth_issuer", Only(&[], NO_OAUTH)),
    without_env("oauth_client_id", Only(&[], NO_OAUTH)),
    without_env("oauth_client_secret", Only(&[], NO_OAUTH)),
    without_env("oauth_scope", Only(&[], NO_OAUTH)),
];
