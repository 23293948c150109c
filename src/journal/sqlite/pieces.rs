//! What was read, piece by piece: for who reads it again and compares.

use super::query::Reader;
use crate::trouble::Trouble;

/// A chunk as it was read, whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its rows.
    pub rows: u64,
    /// Its bytes, as the source gave them.
    pub bytes: u64,
    /// Their digest (XXH3, 64 bits), where the payload has one.
    pub digest: Option<u64>,
}

impl Piece {
    /// Whether both are the same, as far as is known of them.
    pub fn equals(&self, other: &Piece) -> bool {
        let digests = self.digest.zip(other.digest);
        (self.rows, self.bytes) == (other.rows, other.bytes) && digests.is_none_or(|(one, other)| one == other)
    }
}

impl Reader {
    /// The ranges that were read to their end, in order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn ranges_read(&self) -> Result<Vec<u32>, Trouble> {
        self.all("SELECT range FROM ranges ORDER BY range", &[], |row| row.get(0))
    }

    /// The pieces of a range, in order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn pieces(&self, range: u32) -> Result<Vec<Piece>, Trouble> {
        let sql = "SELECT rows, bytes, source_digest FROM chunks WHERE range = ?1 AND split = '' ORDER BY idx";
        self.all(sql, &[range.into()], |row| {
            let number = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
            let digest = row.get::<_, Option<String>>(2)?;
            Ok(Piece { rows: number(0)?, bytes: number(1)?, digest: digest.and_then(|digest| u64::from_str_radix(&digest, 16).ok()) })
        })
    }
}
