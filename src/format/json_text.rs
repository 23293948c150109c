//! JSON text as Postgres writes it: which bytes `escape_json` escapes, and how.
//!
//! Source of the rules: PostgreSQL `src/backend/utils/adt/json.c` (`escape_json`): `"`, `\` and the control characters below
//! 0x20, of which `\b \f \n \r \t` have a short form; 0x7f and everything above are written as they are.

/// A place to write that says "full" instead of growing; see [`super::Output`].
pub(super) struct Cursor<'a> {
    pub out: &'a mut [u8],
    pub at: usize,
}

/// Why a row could not be written.
#[derive(Debug)]
pub(super) enum Stop {
    /// The buffer ended first: grow it and start the row again.
    Full,
    /// The row is not what its columns say.
    Bad(super::copy_text::RowFault),
}

/// Eight copies of `byte`.
pub(super) const fn splat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// High bits mark bytes of `word` that are below `limit` (at most 0x80). Only the lowest mark is exact.
///
/// Source: "Bit Twiddling Hacks" by Sean Eron Anderson, `hasless`.
pub(super) const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(splat(limit)) & !word & splat(0x80)
}

/// High bits mark bytes of `word` that equal `byte`. Only the lowest mark is exact.
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ splat(byte), 1)
}

/// A set of bytes at which copying has to stop and look.
pub(super) trait Marks {
    /// High bits mark the members among the bytes of `word`; only the lowest mark is exact.
    fn word(word: u64) -> u64;
    /// Whether `byte` is a member.
    fn byte(byte: u8) -> bool;
}

/// What ends or escapes a COPY text field: controls (tab and newline among them) and the backslash.
pub(super) struct FieldMarks;

impl Marks for FieldMarks {
    #[inline(always)]
    fn word(word: u64) -> u64 {
        below(word, 0x20) | equal(word, b'\\')
    }
    #[inline(always)]
    fn byte(byte: u8) -> bool {
        (byte < 0x20) | (byte == b'\\')
    }
}

/// [`FieldMarks`] and the quote: every byte that JSON escapes.
pub(super) struct StringMarks;

impl Marks for StringMarks {
    #[inline(always)]
    fn word(word: u64) -> u64 {
        FieldMarks::word(word) | equal(word, b'"')
    }
    #[inline(always)]
    fn byte(byte: u8) -> bool {
        FieldMarks::byte(byte) | (byte == b'"')
    }
}

impl Cursor<'_> {
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) -> Result<(), Stop> {
        *self.out.get_mut(self.at).ok_or(Stop::Full)? = byte;
        self.at += 1;
        Ok(())
    }

    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.out.get_mut(self.at..self.at + bytes.len()).ok_or(Stop::Full)?.copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(())
    }

    /// Stores all of `block` but moves on by `count` of it: one or two wide stores instead of a `memcpy` call.
    #[inline(always)]
    pub fn block<const N: usize>(&mut self, block: &[u8; N], count: usize) -> Result<(), Stop> {
        *self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut::<N>).ok_or(Stop::Full)? = *block;
        self.at += count;
        Ok(())
    }

    /// Copies from `src[from..]` up to the first byte in `M`; returns where that byte is.
    ///
    /// Reads and writes whole words, so `src` must go on for 7 bytes behind the marked byte: a source that ends too
    /// early is a caller's fault and panics by its bounds check.
    #[inline(always)]
    pub fn copy_to_mark<M: Marks>(&mut self, src: &[u8], from: usize) -> Result<usize, Stop> {
        let mut i = from;
        loop {
            let word: [u8; 8] = *src[i..].first_chunk().expect("padded source");
            *self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut).ok_or(Stop::Full)? = word;
            let found = M::word(u64::from_le_bytes(word));
            if found != 0 {
                let skip = (found.trailing_zeros() / 8) as usize;
                self.at += skip;
                return Ok(i + skip);
            }
            i += 8;
            self.at += 8;
            if i - from >= 32 {
                i = self.copy_clean_blocks::<M>(src, i)?;
            }
        }
    }

    /// The same for long runs, 32 bytes at a time in a form that compiles to vector code; stops before the first block
    /// with a marked byte in it.
    #[inline(always)]
    fn copy_clean_blocks<M: Marks>(&mut self, src: &[u8], from: usize) -> Result<usize, Stop> {
        let mut i = from;
        while let Some(block) = src[i..].first_chunk::<32>() {
            if block.iter().fold(false, |found, &byte| found | M::byte(byte)) {
                break;
            }
            *self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut).ok_or(Stop::Full)? = *block;
            i += 32;
            self.at += 32;
        }
        Ok(i)
    }

    /// One byte that JSON must escape.
    #[inline]
    pub fn escaped(&mut self, byte: u8) -> Result<(), Stop> {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => return self.bytes(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]),
        };
        self.bytes(&[b'\\', short])
    }

    /// `text` as a JSON string with its quotes.
    pub fn string(&mut self, text: &[u8]) -> Result<(), Stop> {
        self.byte(b'"')?;
        let mut clean = 0;
        for (i, &byte) in text.iter().enumerate() {
            if byte < 0x20 || byte == b'"' || byte == b'\\' {
                self.bytes(&text[clean..i])?;
                self.escaped(byte)?;
                clean = i + 1;
            }
        }
        self.bytes(&text[clean..])?;
        self.byte(b'"')
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789abcdef"[digit as usize]
}

/// `name` as a JSON string with its quotes, for keys.
pub(super) fn quoted(name: &str) -> Vec<u8> {
    let mut buffer = vec![0; name.len() * 6 + 2];
    let mut cursor = Cursor { out: &mut buffer, at: 0 };
    cursor.string(name.as_bytes()).expect("six bytes for each");
    let length = cursor.at;
    buffer.truncate(length);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lowest_mark_is_the_first_special_byte() {
        for position in 0..8 {
            for byte in 0..=255_u8 {
                let mut word = *b"abcdefgh";
                word[position] = byte;
                let special = byte < 0x20 || byte == b'\\';
                let found = FieldMarks::word(u64::from_le_bytes(word));
                assert_eq!((found != 0, FieldMarks::byte(byte)), (special, special), "{byte:#x} at {position}");
                assert!(!special || found.trailing_zeros() as usize / 8 == position, "{byte:#x} at {position}");
                assert_eq!(StringMarks::word(u64::from_le_bytes(word)) != 0, special || byte == b'"', "{byte:#x}");
            }
        }
    }

    proptest! {
        #[test]
        fn strings_are_what_serde_json_reads(text in ".{0,80}") {
            let encoded = quoted(&text);
            prop_assert_eq!(serde_json::from_slice::<String>(&encoded).unwrap(), text);
        }
    }
}
