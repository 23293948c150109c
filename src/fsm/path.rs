//! Where something is inside a definition, independent of how it was written.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Steps from the root of the document. A list of one counts as its element: `invoke: [{…}]` and `invoke: {…}` have
/// one path, because they mean one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Path(Vec<Step>);

impl Path {
    pub fn root() -> Path {
        Path::default()
    }

    pub fn key(&self, key: &str) -> Path {
        let mut path = self.clone();
        path.push_key(key);
        path
    }

    /// The `index`-th of a list of `count`; the path of the list itself when there is only one.
    pub fn item(&self, index: usize, count: usize) -> Path {
        let mut path = self.clone();
        path.push_item(index, count);
        path
    }

    pub fn join(&self, below: &Path) -> Path {
        Path(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    pub fn push_item(&mut self, index: usize, count: usize) {
        if count > 1 {
            self.0.push(Step::Index(index));
        }
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-$".contains(c));
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !plain(key) => write!(f, "[{key:?}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}
