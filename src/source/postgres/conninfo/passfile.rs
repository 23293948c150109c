//! Passwords by `host:port:database:user`, from `~/.pgpass` or the file that `passfile` or `PGPASSFILE` names.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::hosts::{Host, Place};
use super::settings::Settings;
use super::surroundings::Surroundings;

/// A password. It is read by the authentication alone; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::source::postgres) struct Secret(String);

impl Secret {
    pub(in crate::source::postgres) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Two names of one type.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) dbname: &'a str,
}

/// Gives each host its password: the one that was given for all, else the passfile's. What keeps the passfile from
/// being used is a warning, since the server may not ask for a password at all.
pub(super) fn fill(hosts: &mut [Host], settings: &Settings, around: &Surroundings<'_>, login: &Login<'_>, warnings: &mut Vec<String>) {
    if let Some(password) = settings.text("password") {
        hosts.iter_mut().for_each(|host| host.password = Some(Secret::from(password)));
        return;
    }
    let named = settings.text("passfile").map(PathBuf::from);
    let Some(file) = named.clone().or_else(|| around.in_home(".pgpass")) else {
        return;
    };
    match read(&file) {
        Ok(Some(text)) => hosts.iter_mut().for_each(|host| host.password = find(&text, &host_field(host, around), host.port, login)),
        Ok(None) if named.is_some() => warnings.push(format!("the password file {} does not exist", file.display())),
        Ok(None) => {}
        Err(problem) => warnings.push(problem),
    }
}

/// `None` where there is no such file.
fn read(file: &Path) -> Result<Option<String>, String> {
    let Ok(metadata) = std::fs::metadata(file) else {
        return Ok(None);
    };
    let shown = file.display();
    if !metadata.is_file() {
        return Err(format!("the password file {shown} is ignored: it is not a plain file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("the password file {shown} is ignored: others than its owner have access to it; run chmod 0600 {shown}"));
    }
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(cause) => Err(format!("the password file {shown} is ignored: {cause}")),
    }
}

/// What stands for this host in the file: the name if there is one, else the address; `localhost` for the default
/// socket directory.
fn host_field(host: &Host, around: &Surroundings<'_>) -> String {
    match (&host.place, host.address) {
        (Place::Socket(dir), _) if around.socket_dirs.iter().any(|default| default.as_os_str() == dir.as_str()) => "localhost".to_owned(),
        (Place::Socket(dir), _) => dir.clone(),
        (Place::Name(name), Some(address)) if name.is_empty() => address.to_string(),
        (Place::Name(name), _) => name.clone(),
    }
}

fn find(text: &str, host: &str, port: u16, login: &Login<'_>) -> Option<Secret> {
    let port = port.to_string();
    let wanted = [host, &port, login.dbname, login.user];
    let lines = text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.starts_with('#'));
    let mut matching = lines.filter_map(|line| wanted.iter().try_fold(line, |rest, field| match_field(rest, field)));
    matching.next().map(|password| Secret(unescape(password)))
}

/// The rest of the line after a first field that is `*` or means `wanted`.
fn match_field<'l>(line: &'l str, wanted: &str) -> Option<&'l str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut chars = line.chars();
    let mut wanted = wanted.chars();
    loop {
        match chars.next()? {
            // An unescaped colon still matches one in the name, as in an IPv6 address.
            ':' if wanted.as_str().is_empty() => return Some(chars.as_str()),
            '\\' if chars.next()? != wanted.next()? => return None,
            '\\' => {}
            c if c != wanted.next()? => return None,
            _ => {}
        }
    }
}

/// Up to the next colon, which a later version might give a meaning.
fn unescape(field: &str) -> String {
    let (mut out, mut chars) = (String::new(), field.chars());
    while let Some(c) = chars.next() {
        match c {
            ':' => break,
            '\\' => out.push(chars.next().unwrap_or('\\')),
            c => out.push(c),
        }
    }
    out
}
