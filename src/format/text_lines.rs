//! Lines of text, each as a JSON object with one member.

use super::Output;
use super::json_text::{Cursor, Stop, StringMarks, quoted};

/// Makes `{"NAME":"…"}` of lines.
pub struct LineEncoder {
    /// `{"NAME":"`.
    head: Box<[u8]>,
}

impl LineEncoder {
    /// Lines become the member `name`.
    pub fn new(name: &str) -> LineEncoder {
        LineEncoder { head: [b"{", &*quoted(name), b":\""].concat().into() }
    }

    /// Appends the JSON line of the line at `src[at..end]`, which is UTF-8 and ends with a line feed, or with a carriage return before
    /// it. `src` must go on for [`PADDING`](super::PADDING) bytes behind it.
    pub fn encode(&self, src: &[u8], at: usize, end: usize, out: &mut Output) {
        while self.try_encode(src, at, end, out).is_err() {
            out.grow((end - at) * 2 + self.head.len() + 16);
        }
    }

    fn try_encode(&self, src: &[u8], at: usize, end: usize, out: &mut Output) -> Result<(), Stop> {
        let mut cursor = Cursor { out: out.spare(), at: 0 };
        cursor.bytes(&self.head)?;
        let text_end = end - 1 - usize::from(end - at > 1 && src[end - 2] == b'\r');
        let mut place = at;
        loop {
            place = cursor.copy_to_mark::<StringMarks>(src, place)?;
            if place >= text_end {
                break;
            }
            cursor.escaped(src[place])?;
            place += 1;
        }
        cursor.bytes(b"\"}\n")?;
        let written = cursor.at;
        out.commit(written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_serde_json_reads_is_the_line(text in "[^\r\n]{0,60}", carriage in any::<bool>()) {
            let line = format!("{text}{}\n", if carriage { "\r" } else { "" });
            let mut source = line.clone().into_bytes();
            source.extend([0; super::super::PADDING]);
            let mut out = Output::default();
            LineEncoder::new("line").encode(&source, 0, line.len(), &mut out);
            let value: serde_json::Value = serde_json::from_slice(out.bytes()).unwrap();
            prop_assert_eq!(value, serde_json::json!({ "line": text }));
            prop_assert_eq!(out.bytes().last(), Some(&b'\n'));
        }
    }
}
