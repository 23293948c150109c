//! The reader's hands: members, types, names, and where we are.

use serde_json::{Map, Value};

use crate::fsm::finding::{self, Code, Draft};
use crate::fsm::names;
use crate::fsm::path::Path;

/// Walks a JSON value, knows where it is, and collects what is wrong.
#[derive(Default)]
pub(super) struct Reader {
    path: Path,
    pub depth: usize,
    pub drafts: Vec<Draft>,
}

/// Features of XState that the format leaves out, as keys.
const LEFT_OUT: &[&str] = &["history", "parallel", "onSnapshot", "systemId", "syncSnapshot", "route", "spawn", "sendTo", "emit"];
/// What XState v4 called things.
const RENAMED: &[(&str, &str)] = &[("cond", "guard"), ("onEntry", "entry"), ("onExit", "exit"), ("activities", "invoke")];

impl Reader {
    pub fn under<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let length = self.path.steps().len();
        self.path.push_key(key);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// One or many: an element by itself is a list of one.
    pub fn each<T>(&mut self, value: &Value, mut read: impl FnMut(&mut Reader, &Value) -> Option<T>) -> Vec<T> {
        let Some(list) = value.as_array() else { return read(self, value).into_iter().collect() };
        let length = self.path.steps().len();
        let mut read_item = |(index, item)| {
            self.path.push_item(index, list.len());
            let result = read(self, item);
            self.path.truncate(length);
            result
        };
        list.iter().enumerate().filter_map(&mut read_item).collect()
    }

    pub fn fail(&mut self, code: Code, message: impl Into<String>) {
        self.drafts.push(Draft::new(code, self.path.clone(), message));
    }

    pub fn last_at_key(&mut self) {
        if let Some(last) = self.drafts.last_mut() {
            last.at_key = true;
        }
    }

    pub fn wrong_type(&mut self, value: &Value, wanted: &str) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.fail(finding::WRONG_TYPE, format!("{wanted} is needed here, not {found}"));
    }

    /// An object with no other keys than `known`.
    pub fn object<'v>(&mut self, value: &'v Value, what: &str, known: &[&[&str]]) -> Option<&'v Map<String, Value>> {
        let map = self.any_object(value)?;
        let known: Vec<&str> = known.concat();
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            self.under(key, |reader| {
                if LEFT_OUT.contains(&key.as_str()) {
                    reader.fail(finding::LEFT_OUT, format!("`{key}` is left out of the format"));
                } else {
                    let renamed = RENAMED.iter().find(|(old, new)| old == key && known.contains(new));
                    let meant = renamed.map(|(_, new)| (*new).to_owned());
                    let meant = meant.or_else(|| names::nearest(key, known.iter().copied()));
                    let mut draft = Draft::new(finding::UNKNOWN_KEY, reader.path.clone(), format!("unknown key `{key}` in {what}"));
                    draft.suggestion = meant;
                    reader.drafts.push(draft);
                }
                reader.last_at_key();
            });
        }
        Some(map)
    }

    pub fn any_object<'v>(&mut self, value: &'v Value) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.wrong_type(value, "an object");
        }
        value.as_object()
    }

    pub fn member<T>(&mut self, map: &Map<String, Value>, key: &str, read: impl FnOnce(&mut Reader, &Value) -> Option<T>) -> Option<T> {
        let value = map.get(key)?;
        self.under(key, |reader| read(reader, value))
    }

    pub fn required<T>(&mut self, map: &Map<String, Value>, key: &str, read: impl FnOnce(&mut Reader, &Value) -> Option<T>) -> Option<T> {
        if !map.contains_key(key) {
            self.fail(finding::MISSING_KEY, format!("`{key}` is missing"));
        }
        self.member(map, key, read)
    }

    pub fn string(&mut self, value: &Value) -> Option<String> {
        if !value.is_string() {
            self.wrong_type(value, "a string");
        }
        value.as_str().map(str::to_owned)
    }

    pub fn strings(&mut self, value: &Value) -> Option<Vec<String>> {
        if !value.is_array() {
            self.wrong_type(value, "a list of strings");
            return None;
        }
        Some(self.each(value, Reader::string))
    }

    pub fn strings_or_one(&mut self, value: &Value) -> Option<Vec<String>> {
        Some(self.each(value, Reader::string))
    }

    pub fn bool(&mut self, value: &Value) -> Option<bool> {
        if !value.is_boolean() {
            self.wrong_type(value, "a boolean");
        }
        value.as_bool()
    }

    pub fn at_least(&mut self, value: &Value, least: f64) -> Option<f64> {
        let Some(number) = value.as_f64() else {
            self.wrong_type(value, "a number");
            return None;
        };
        if number < least {
            self.fail(finding::BAD_VALUE, format!("a number of at least {least} is needed"));
        }
        Some(number)
    }

    pub fn check_name(&mut self, name: &str, what: &str) {
        if !names::is_name(name) {
            let rule = "letters, digits, `_` and `-`, not beginning with a digit or `-`";
            self.fail(finding::BAD_NAME, format!("`{name}` cannot name {what}: {rule}"));
            self.last_at_key();
        }
    }

    /// A name that stands as a value.
    pub fn name(&mut self, value: &Value) -> Option<String> {
        let name = self.string(value)?;
        if !names::is_name(&name) {
            self.fail(
                finding::BAD_NAME,
                format!("`{name}` is not a name: letters, digits, `_` and `-`, not beginning with a digit or `-`"),
            );
        }
        Some(name)
    }

    pub fn dotted(&mut self, value: &Value) -> Option<String> {
        let name = self.string(value)?;
        if !names::is_dotted(&name) {
            self.fail(finding::BAD_NAME, format!("`{name}` is not a name, nor names joined by dots"));
        }
        Some(name)
    }

    pub fn value_path(&mut self, value: &Value) -> Option<String> {
        let path = self.string(value)?;
        if !names::is_value_path(&path) {
            self.fail(finding::BAD_VALUE, format!("`{path}` is not a path: keys joined by dots are"));
        }
        Some(path)
    }
}
