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
