//! From a path in a definition to a place in its text.
//!
//! `serde_json` gives values without places and keeps only the last of two equal keys. This reader walks a text that
//! `serde_json` already accepted, so it may trust the syntax: it only has to find where things begin.

use super::finding::Position;
use super::path::{Path, Step};

/// Where every value of a JSON text begins.
#[derive(Debug)]
pub(super) struct Locator<'t> {
    text: &'t str,
    root: Place,
}

#[derive(Debug)]
struct Place {
    /// Byte offset of the key, or of the value where there is no key.
    key: usize,
    /// Byte offset of the value.
    value: usize,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Members(Vec<(String, Place)>),
    Items(Vec<Place>),
}

impl<'t> Locator<'t> {
    /// `text` must be JSON that `serde_json` accepts.
    pub fn new(text: &'t str) -> Locator<'t> {
        let mut scanner = Scanner { bytes: text.as_bytes(), text, at: 0 };
        scanner.space();
        let key = scanner.at;
        Locator { text, root: scanner.value(key) }
    }

    /// The byte offset of what `path` names, or of the nearest place around it that the text has.
    /// Points at the key for an object or a list and when `at_key`, else at the value.
    pub fn offset(&self, path: &Path, at_key: bool) -> usize {
        let mut place = &self.root;
        for (depth, step) in path.steps().iter().enumerate() {
            match place.child(step) {
                Some(child) => place = child,
                // An index into what was written without brackets is the thing itself.
                None if *step == Step::Index(0) => {}
                None => return if depth == 0 { place.value } else { place.key_or_scalar(false) },
            }
        }
        place.key_or_scalar(at_key)
    }

    /// Line and column of a byte offset.
    pub fn position(&self, offset: usize) -> Position {
        position(self.text, offset)
    }

    /// The paths of all keys that come twice in one object, in document order, each once per repetition.
    pub fn duplicates(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.root.duplicates(&Path::root(), &mut found);
        found
    }
}

/// Line and column (1-based, in characters) of a byte offset; the end of the text when the offset is behind it.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

impl Place {
    fn child(&self, step: &Step) -> Option<&Place> {
        match (&self.children, step) {
            // The last of equal keys is the one whose value counts.
            (Children::Members(members), Step::Key(key)) => members.iter().rev().find(|(name, _)| name == key).map(|(_, place)| place),
            (Children::Items(items), Step::Index(index)) => items.get(*index),
            // A list of one has the path of its element.
            (Children::Items(items), Step::Key(_)) if items.len() == 1 => items[0].child(step),
            _ => None,
        }
    }

    fn key_or_scalar(&self, at_key: bool) -> usize {
        if at_key || !matches!(self.children, Children::None) { self.key } else { self.value }
    }

    fn duplicates(&self, path: &Path, found: &mut Vec<Path>) {
        match &self.children {
            Children::None => {}
            Children::Items(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.duplicates(&path.item(index, items.len()), found);
                }
            }
            Children::Members(members) => {
                let mut seen = std::collections::HashSet::new();
                for (name, place) in members {
                    let below = path.key(name);
                    if !seen.insert(name) {
                        found.push(below.clone());
                    }
                    place.duplicates(&below, found);
                }
            }
        }
    }
}

struct Scanner<'t> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn value(&mut self, key: usize) -> Place {
        let value = self.at;
        let children = match self.peek() {
            b'{' => Children::Members(self.members()),
            b'[' => Children::Items(self.items()),
            b'"' => {
                self.string();
                Children::None
            }
            _ => {
                while !matches!(self.peek(), 0 | b',' | b']' | b'}') && !self.peek().is_ascii_whitespace() {
                    self.at += 1;
                }
                Children::None
            }
        };
        Place { key, value, children }
    }

    fn members(&mut self) -> Vec<(String, Place)> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'"' => {
                    let key = self.at;
                    let name = self.string();
                    self.space();
                    self.at += 1; // the colon
                    self.space();
                    members.push((name, self.value(key)));
                }
                _ => {
                    self.at += 1;
                    return members;
                }
            }
        }
    }

    fn items(&mut self) -> Vec<Place> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' | 0 => {
                    self.at += 1;
                    return items;
                }
                _ => items.push(self.value(self.at)),
            }
        }
    }

    /// Skips a string and returns its text.
    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 1).min(self.text.len());
        serde_json::from_str(&self.text[start..self.at]).unwrap_or_default()
    }
}
