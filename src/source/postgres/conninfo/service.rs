//! Named sets of settings: `[name]` sections of `key=value` lines in `pg_service.conf`.

use std::path::{Path, PathBuf};

use super::error::{ConnInfoError, Origin};
use super::settings::Settings;
use super::surroundings::Surroundings;

/// Fills what is still open from the service that `service` or `PGSERVICE` names, if one does.
pub(super) fn fill(settings: &mut Settings, around: &Surroundings<'_>) -> Result<(), ConnInfoError> {
    let from_text = settings.get("service").map(|service| (service.value.clone(), service.origin.clone()));
    let from_env = || around.env("PGSERVICE").map(|name| (name, Origin::Environment("PGSERVICE")));
    let Some((name, asked_at)) = from_text.or_else(from_env) else {
        return Ok(());
    };
    let looked_in = files(around);
    for file in &looked_in {
        match std::fs::read_to_string(file) {
            Ok(text) if section(&text, &name, file, settings)? => return Ok(()),
            Ok(_) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && !is_named(file, around) => {}
            Err(cause) => {
                let problem = format!("cannot read the service file {}", file.display());
                return Err(ConnInfoError::new(asked_at, problem).caused_by(cause));
            }
        }
    }
    let shown: Vec<_> = looked_in.iter().map(|file| file.display().to_string()).collect();
    Err(ConnInfoError::new(asked_at, format!("no service `{name}`; looked for [{name}] in {}", shown.join(", "))))
}

/// PGSERVICEFILE (instead of the one in the home directory), then the system's.
fn files(around: &Surroundings<'_>) -> Vec<PathBuf> {
    let own = around.env("PGSERVICEFILE").map(PathBuf::from).or_else(|| around.in_home(".pg_service.conf"));
    let dirs = around.env("PGSYSCONFDIR").map_or_else(|| around.sysconf_dirs.clone(), |dir| vec![PathBuf::from(dir)]);
    own.into_iter().chain(dirs.into_iter().map(|dir| dir.join("pg_service.conf"))).collect()
}

/// A file somebody asked for has to exist; the usual places need not.
fn is_named(file: &Path, around: &Surroundings<'_>) -> bool {
    around.env("PGSERVICEFILE").is_some_and(|named| Path::new(&named) == file)
}

/// Fills `settings` from the first section `[name]` of `text`. Returns whether there is one.
fn section(text: &str, name: &str, file: &Path, settings: &mut Settings) -> Result<bool, ConnInfoError> {
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        let origin = || Origin::Service { file: file.to_owned(), line: i + 1 };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if inside {
                break;
            }
            inside = header.strip_prefix(name).is_some_and(|rest| rest.starts_with(']'));
            continue;
        }
        if !inside {
            continue;
        }
        match line.split_once('=') {
            // The line is not shown: it may be a password.
            None => {
                return Err(ConnInfoError::new(origin(), "no `=` in this line; write key=value"));
            }
            Some(("service", _)) => {
                return Err(ConnInfoError::new(origin(), "a service cannot name another service"));
            }
            Some((key, value)) => settings.fill(key, value, origin())?,
        }
    }
    Ok(inside)
}
