//! Where a message ends. Pure, checked, and without allocation: this is the hot path of a COPY.

use std::fmt;

/// The server's own limit for a message is one byte below 1 GiB.
const MAX_BODY_BYTES: u32 = 1 << 30;

/// The tag of `CopyData`.
pub(super) const COPY_DATA: u8 = b'd';

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The kind of message.
    pub tag: u8,
    /// Bytes of the whole message, tag and length word included. At least 5.
    pub len: usize,
}

/// A length that no server sends: the stream is out of step, or it is not Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingError {
    /// The kind of message it claims to be.
    pub tag: u8,
    /// The length word.
    pub length: u32,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of kind 0x{:02x} with the impossible length {}", self.tag, self.length)
    }
}

impl std::error::Error for FramingError {}

/// The head of the message that begins at `bytes`. `None` as long as the head itself is incomplete; the body may still be.
///
/// # Errors
/// A length that cannot be.
#[inline]
pub fn frame(bytes: &[u8]) -> Result<Option<Frame>, FramingError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    // One comparison for both ends: what is below 4 wraps around.
    if length.wrapping_sub(4) > MAX_BODY_BYTES {
        return Err(FramingError { tag, length });
    }
    Ok(Some(Frame { tag, len: length as usize + 1 }))
}

/// Whole `CopyData` messages one after another: in text and CSV format, one is one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyRun {
    /// How many.
    pub rows: usize,
    /// Bytes of all of them, heads included.
    pub len: usize,
}

/// The `CopyData` messages at the beginning of `bytes`, up to the first that is incomplete or of another kind.
///
/// # Errors
/// A length that cannot be.
#[inline]
pub fn copy_run(bytes: &[u8]) -> Result<CopyRun, FramingError> {
    let mut run = CopyRun::default();
    while let Some(rest) = bytes.get(run.len..)
        && let Some(next) = frame(rest)?
        && next.tag == COPY_DATA
        && next.len <= rest.len()
    {
        run.rows += 1;
        run.len += next.len;
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::wire::message;

    fn copy_data(row: &str) -> Vec<u8> {
        message(COPY_DATA, &[row.as_bytes()])
    }

    #[test]
    fn a_frame_needs_its_head_and_a_sane_length() {
        assert_eq!(frame(b""), Ok(None));
        assert_eq!(frame(b"d\0\0\0"), Ok(None));
        assert_eq!(frame(b"c\0\0\0\x04"), Ok(Some(Frame { tag: b'c', len: 5 })));
        assert_eq!(frame(b"d\0\0\x01\0rest"), Ok(Some(Frame { tag: b'd', len: 257 })));
        for length in [0, 1, 2, 3, (1 << 30) + 5, 0x7fff_ffff, 0xffff_ffff_u32] {
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(frame(&bytes), Err(FramingError { tag: b'd', length }), "{length:#x}");
        }
    }

    #[test]
    fn a_run_ends_at_the_first_message_that_is_incomplete_or_of_another_kind() {
        let mut bytes = copy_data("1\ta\n");
        bytes.extend(copy_data(""));
        let whole = bytes.len();
        assert_eq!(copy_run(&bytes), Ok(CopyRun { rows: 2, len: whole }));
        bytes.extend(copy_data("2\tb\n"));
        for cut in whole..bytes.len() {
            assert_eq!(copy_run(&bytes[..cut]), Ok(CopyRun { rows: 2, len: whole }), "{cut}");
        }
        bytes.truncate(whole);
        bytes.extend(message(b'c', &[]));
        assert_eq!(copy_run(&bytes), Ok(CopyRun { rows: 2, len: whole }));
        bytes.truncate(whole);
        bytes.extend(b"d\0\0\0\x01");
        assert!(copy_run(&bytes).is_err());
    }
}
