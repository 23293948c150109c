//! Keys with their values and where each was written, gathered in order of precedence.

use std::collections::BTreeMap;

use super::error::{ConnInfoError, Origin};
use super::keys::{self, Key, Support};
use super::surroundings::Surroundings;

/// One `key=value` of the connection string, not yet judged.
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
    /// The key may be the rest of an unquoted password, so it must not be shown.
    pub(super) may_be_secret: bool,
}

/// A value and where it was written.
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) origin: Origin,
}

impl Setting {
    pub(super) fn error(&self, problem: impl Into<String>) -> ConnInfoError {
        ConnInfoError::new(self.origin.clone(), problem)
    }
}

/// No `Debug`: it holds passwords.
#[derive(Default)]
pub(super) struct Settings {
    by_key: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Takes a pair of the connection string, where the last of several wins.
    pub(super) fn overwrite(&mut self, pair: Pair) -> Result<(), ConnInfoError> {
        let Some(key) = keys::find(&pair.key) else {
            let problem = if pair.may_be_secret {
                "unknown key after `password`; write a password that has spaces as password='…'".to_owned()
            } else {
                unknown(&pair.key)
            };
            return Err(ConnInfoError::new(pair.origin, problem));
        };
        let setting = judge(key, pair.value, pair.origin)?;
        self.by_key.insert(key.name, setting);
        Ok(())
    }

    /// Takes a line of a service file, unless the key has a value already.
    pub(super) fn fill(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConnInfoError> {
        let Some(key) = keys::find(key) else {
            return Err(ConnInfoError::new(origin, unknown(key)));
        };
        if !self.by_key.contains_key(key.name) {
            self.by_key.insert(key.name, judge(key, value.to_owned(), origin)?);
        }
        Ok(())
    }

    /// Takes the environment for every key that has no value yet.
    pub(super) fn fill_from_environment(&mut self, around: &Surroundings<'_>) -> Result<(), ConnInfoError> {
        for key in keys::KEYS {
            let Some(name) = key.env else { continue };
            if self.by_key.contains_key(key.name) {
                continue;
            }
            if let Some(value) = around.env(name) {
                self.by_key.insert(key.name, judge(key, value, Origin::Environment(name))?);
            }
        }
        Ok(())
    }

    /// The setting as written, possibly empty.
    pub(super) fn get(&self, key: &'static str) -> Option<&Setting> {
        debug_assert!(keys::find(key).is_some(), "{key} is not in the table of keys");
        self.by_key.get(key)
    }

    /// The setting, where empty means unset.
    pub(super) fn non_empty(&self, key: &'static str) -> Option<&Setting> {
        self.get(key).filter(|setting| !setting.value.is_empty())
    }

    /// Like [`non_empty`](Settings::non_empty), the value alone.
    pub(super) fn text(&self, key: &'static str) -> Option<&str> {
        self.non_empty(key).map(|setting| setting.value.as_str())
    }

    /// A warning for every key that was given and has no effect.
    pub(super) fn ignored(&self) -> Vec<String> {
        let warned = keys::KEYS.iter().filter_map(|key| match key.support {
            Support::Warned(why) => self.non_empty(key.name).map(|setting| (key, setting, why)),
            _ => None,
        });
        warned.map(|(key, setting, why)| format!("{}: `{}` is ignored: {why}", setting.origin, key.name)).collect()
    }
}

fn judge(key: &Key, value: String, origin: Origin) -> Result<Setting, ConnInfoError> {
    if value.contains('\0') {
        return Err(ConnInfoError::new(origin, format!("`{}` has a zero byte", key.name)));
    }
    if let Support::Only(accepted, why) = key.support
        && !value.is_empty()
        && !accepted.contains(&value.as_str())
    {
        let shown = if key.is_secret() { String::new() } else { format!("={value}") };
        return Err(ConnInfoError::new(origin, format!("`{}{shown}` cannot be honoured: {why}", key.name)));
    }
    Ok(Setting { value, origin })
}

fn unknown(key: &str) -> String {
    match keys::closest(key) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`"),
    }
}
