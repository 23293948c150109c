//! What flows: a chunk's identity, where it came from, and what an engine must know of its payload.

use std::fmt;
use std::str::FromStr;

/// What a chunk carries. The engine looks at nothing else of it.
pub trait Payload: Send + Sync + 'static {
    /// Bytes of data.
    fn bytes(&self) -> usize;

    /// Bytes of memory that live as long as the payload does, which may be more. This is what the memory limit counts.
    fn resident_bytes(&self) -> usize {
        self.bytes()
    }

    /// Rows that still have to end somewhere: written, filtered, dead-lettered or cancelled.
    fn rows(&self) -> u64;

    /// A digest of its bytes, for the journal, if there is one: asked for when the chunk comes in, to know it again, and when a sink has
    /// taken it.
    fn digest(&self) -> Option<u64> {
        None
    }
}

/// A payload that can be cut in two, so that a bad row among good ones can be found by halving.
///
/// ```
/// use sluicegate::{Halves, Payload};
///
/// struct Readings(Vec<f64>);
/// # impl Payload for Readings {
/// #     fn bytes(&self) -> usize { self.0.len() * 8 }
/// #     fn rows(&self) -> u64 { self.0.len() as u64 }
/// # }
///
/// impl Halves for Readings {
///     fn halves(&self) -> Option<[Readings; 2]> {
///         let (first, second) = self.0.split_at(self.0.len() / 2);
///         (!first.is_empty()).then(|| [Readings(first.into()), Readings(second.into())])
///     }
/// }
/// ```
pub trait Halves: Payload + Sized {
    /// The first and the second half of its rows, in their order; each row is in one of them, and neither is empty. `None` when it cannot be
    /// cut: it has one row only, or a form in which rows do not stand alone.
    ///
    /// The same payload gives the same halves, also in another run of the program: what was split before a crash is split alike after it.
    /// Halves may share the memory of the whole, which counts as theirs until both are gone.
    fn halves(&self) -> Option<[Self; 2]>;
}

/// Text, counted as one row a line. Handy for examples and small tools.
impl Payload for String {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn resident_bytes(&self) -> usize {
        self.capacity()
    }

    fn rows(&self) -> u64 {
        self.lines().count() as u64
    }
}

/// Cut between lines.
impl Halves for String {
    fn halves(&self) -> Option<[String; 2]> {
        let (first, second) = self.split_at(self.match_indices('\n').nth((self.lines().count() / 2).checked_sub(1)?)?.0 + 1);
        (!second.is_empty()).then(|| [first.into(), second.into()])
    }
}

/// Items, one row each.
impl<T: Send + Sync + 'static> Payload for Vec<T> {
    fn bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }

    fn resident_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }

    fn rows(&self) -> u64 {
        self.len() as u64
    }
}

/// Items that can be copied.
impl<T: Clone + Send + Sync + 'static> Halves for Vec<T> {
    fn halves(&self) -> Option<[Vec<T>; 2]> {
        let (first, second) = self.split_at(self.len() / 2);
        (!first.is_empty()).then(|| [first.to_vec(), second.to_vec()])
    }
}

/// Which chunk: the range it was read from, its place in that range, and how often it was split since.
///
/// Ordered as its rows are: by range, by index, and a half before the other half. Written `12.3`, or `12.3/0/1` for the second
/// half of the first half. The same input cut the same way gives the same ids, whoever reads it and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// What a lane reads at a time, counted from 0 over the whole source.
    pub range: u32,
    /// The chunk's place in its range, from 0.
    pub index: u32,
    /// The halves that lead here, first half = 0, first decision in the highest bit.
    path: u32,
    /// How many bits of `path` count.
    depth: u8,
}

impl ChunkId {
    /// The chunk at `index` of `range`, as it was read.
    pub const fn new(range: u32, index: u32) -> ChunkId {
        ChunkId { range, index, path: 0, depth: 0 }
    }

    /// The two halves of this chunk; none after 32 splits, which no chunk needs.
    pub fn halves(self) -> Option<[ChunkId; 2]> {
        let depth = self.depth + 1;
        let bit = 1 << 32_u32.checked_sub(depth.into())?;
        Some([ChunkId { depth, ..self }, ChunkId { depth, path: self.path | bit, ..self }])
    }

    /// The chunk as it was read, whatever halves of it this is.
    pub const fn whole(self) -> ChunkId {
        ChunkId::new(self.range, self.index)
    }

    /// The chunk whose turn it is when this one is done, in the same range: the other half of the smallest chunk that this one is, or is in,
    /// the first half of; or the next one as it was read.
    pub(crate) fn next(self) -> ChunkId {
        let mut id = self;
        while let Some(parent) = id.parent() {
            match parent.halves() {
                Some([first, second]) if first == id => return second,
                _ => id = parent,
            }
        }
        ChunkId::new(id.range, id.index + 1)
    }

    /// Whether this is `other`, or a part of it.
    pub(crate) fn is_within(self, other: ChunkId) -> bool {
        let keep = if other.depth == 0 { 0 } else { u32::MAX << (32 - u32::from(other.depth)) };
        self.whole() == other.whole() && self.depth >= other.depth && self.path & keep == other.path
    }

    /// Whether the chunk was split off another.
    pub const fn is_part(self) -> bool {
        self.depth > 0
    }

    /// The chunk this is a half of.
    pub fn parent(self) -> Option<ChunkId> {
        let depth = self.depth.checked_sub(1)?;
        let keep = if depth == 0 { 0 } else { u32::MAX << (32 - u32::from(depth)) };
        Some(ChunkId { depth, path: self.path & keep, ..self })
    }

    /// The splits as text: empty, or `/0/1`.
    pub fn split(self) -> String {
        (0..self.depth).map(|level| if self.path & (1 << (31 - level)) == 0 { "/0" } else { "/1" }).collect()
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.range, self.index)?;
        if self.depth > 0 { f.write_str(&self.split()) } else { Ok(()) }
    }
}

/// As text.
impl serde::Serialize for ChunkId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is no chunk id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseChunkIdError(String);

impl fmt::Display for ParseChunkIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no chunk id; chunks are written RANGE.INDEX, like 12.3", self.0)
    }
}

impl std::error::Error for ParseChunkIdError {}

impl FromStr for ChunkId {
    type Err = ParseChunkIdError;

    fn from_str(text: &str) -> Result<ChunkId, ParseChunkIdError> {
        let parse = || {
            let mut parts = text.split('/');
            let (range, index) = parts.next()?.split_once('.')?;
            let whole = ChunkId::new(range.parse().ok()?, index.parse().ok()?);
            parts.try_fold(whole, |id, half| match half {
                "0" => Some(id.halves()?[0]),
                "1" => Some(id.halves()?[1]),
                _ => None,
            })
        };
        parse().ok_or_else(|| ParseChunkIdError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back_what_they_print(range: u32, index: u32, halves in proptest::collection::vec(0..2_usize, 0..33)) {
            let mut id = ChunkId::new(range, index);
            for half in halves {
                let child = id.halves().unwrap()[half];
                prop_assert_eq!(child.parent(), Some(id));
                prop_assert_eq!(child.whole(), ChunkId::new(range, index));
                id = child;
            }
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    proptest! {
        #[test]
        fn halves_have_every_row_once_and_in_order(rows in proptest::collection::vec("[a-z]{0,3}", 0..20), ends: bool) {
            let text = rows.join("\n") + if ends { "\n" } else { "" };
            match text.halves() {
                None => prop_assert!(text.rows() < 2, "{:?}", text),
                Some([first, second]) => {
                    prop_assert_eq!(format!("{first}{second}"), text.clone());
                    prop_assert!(first.rows() > 0 && second.rows() > 0);
                    prop_assert_eq!(first.rows() + second.rows(), text.rows());
                    prop_assert!(first.rows().abs_diff(second.rows()) <= 1);
                }
            }
            match rows.halves() {
                None => prop_assert!(rows.len() < 2),
                Some(halves) => prop_assert!(halves.concat() == rows && halves.iter().all(|half| !half.is_empty())),
            }
        }
    }

    #[test]
    fn behind_a_chunk_comes_the_next_one() {
        let next = |id: &str| id.parse::<ChunkId>().unwrap().next().to_string();
        let walk = ["2.1", "2.1/0", "2.1/1/0", "2.1/1/1/0", "2.1/1/1"].map(next);
        assert_eq!(walk, ["2.2", "2.1/1", "2.1/1/1", "2.1/1/1/1", "2.2"]);
        let within = |id: &str, other: &str| id.parse::<ChunkId>().unwrap().is_within(other.parse().unwrap());
        assert!(within("2.1/0/1", "2.1") && within("2.1/0/1", "2.1/0") && within("2.1/0", "2.1/0"));
        assert!(!within("2.1/0/1", "2.1/1") && !within("2.1/0", "2.1/0/0") && !within("2.2/0", "2.1"));
    }

    #[test]
    fn order_is_the_order_of_the_rows() {
        let ids: Vec<ChunkId> = ["0.9", "1.0/0", "1.0/1/0", "1.0/1/1", "1.1", "10.0"].iter().map(|id| id.parse().unwrap()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ChunkId::new(1, 1).halves().unwrap()[1].to_string(), "1.1/1");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "1", "1.", ".1", "1.2/2", "1.2/", "a.b", "-1.2", "1.2.3"] {
            assert!(text.parse::<ChunkId>().is_err(), "{text}");
        }
    }
}
