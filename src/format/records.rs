//! Where rows of a text format end.

use memchr::{memchr, memchr2};

/// How rows are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// A row is a line: it ends with a line feed.
    Lines,
    /// A row ends with a line feed that is not between quotes. A quote opens at the beginning of a field, and closes at the next one that
    /// is not doubled; anywhere else it is a character like others.
    Quoted {
        /// What stands between fields.
        delimiter: u8,
        /// What stands around them.
        quote: u8,
    },
}

/// How far a row was looked at before its end was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    at: usize,
    quoted: bool,
}

impl Scan {
    /// Whether a row that ends, without a line end, behind the `length` bytes that were looked at, ends between quotes.
    pub fn is_unclosed(self, length: usize) -> bool {
        self.quoted && self.at >= length
    }
}

impl Records {
    /// What a row is in a word, for who reads the dead letter: without its line end.
    pub fn form(self) -> &'static str {
        match self {
            Records::Lines => "line",
            Records::Quoted { .. } => "csv",
        }
    }

    /// The length of the first row of `bytes` with its line end, if that is there. If not, the next look, at the same bytes and more, may
    /// begin with the `scan` that this one leaves.
    #[inline]
    pub fn end(self, bytes: &[u8], scan: &mut Scan) -> Option<usize> {
        match self {
            Records::Lines => match memchr(b'\n', &bytes[scan.at..]) {
                Some(more) => Some(scan.at + more + 1),
                None => {
                    scan.at = bytes.len();
                    None
                }
            },
            Records::Quoted { delimiter, quote } => quoted_end(bytes, scan, delimiter, quote),
        }
    }

    /// Calls `each` with every row of `bytes`, line ends included. What stands behind the last line end is a row too.
    pub fn each(self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.end(rest, &mut Scan::default()).unwrap_or(rest.len());
            each(&rest[..length]);
            rest = &rest[length..];
        }
    }
}

fn quoted_end(bytes: &[u8], scan: &mut Scan, delimiter: u8, quote: u8) -> Option<usize> {
    loop {
        let rest = &bytes[scan.at..];
        if scan.quoted {
            let Some(more) = memchr(quote, rest) else {
                scan.at = bytes.len();
                return None;
            };
            match rest.get(more + 1) {
                // What follows decides what this quote is.
                None => {
                    scan.at += more;
                    return None;
                }
                Some(next) if *next == quote => scan.at += more + 2,
                Some(_) => *scan = Scan { at: scan.at + more + 1, quoted: false },
            }
        } else {
            let Some(more) = memchr2(b'\n', quote, rest) else {
                scan.at = bytes.len();
                return None;
            };
            let at = scan.at + more;
            if bytes[at] == b'\n' {
                return Some(at + 1);
            }
            let opens = at == 0 || bytes[at - 1] == delimiter;
            *scan = Scan { at: at + 1, quoted: opens };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CSV: Records = Records::Quoted { delimiter: b',', quote: b'"' };

    fn rows(records: Records, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        records.each(text.as_bytes(), |row| found.push(String::from_utf8(row.to_vec()).unwrap()));
        found
    }

    #[test]
    fn rows_end_at_line_feeds_outside_of_quotes() {
        assert_eq!(rows(Records::Lines, "a\r\n\n\"b\nc"), ["a\r\n", "\n", "\"b\n", "c"]);
        assert_eq!(rows(CSV, "a,\"b\n\"\"\n\",c\nd\n"), ["a,\"b\n\"\"\n\",c\n", "d\n"]);
        assert_eq!(rows(CSV, "5\" pipe,1\n6\" pipe,2\n"), ["5\" pipe,1\n", "6\" pipe,2\n"], "no quote opens within a field");
        assert_eq!(rows(CSV, "a,\"\"\n\"\",b\n"), ["a,\"\"\n", "\"\",b\n"], "empty fields");
        assert_eq!(rows(CSV, "a,\"open\nb\n"), ["a,\"open\nb\n"]);
    }

    proptest! {
        /// However the bytes come in, rows end at the same places.
        #[test]
        fn a_look_goes_on_where_the_last_one_ended(text in "[a\"\n,]{0,40}", quoted in any::<bool>()) {
            let (bytes, records) = (text.as_bytes(), if quoted { CSV } else { Records::Lines });
            let mut scan = Scan::default();
            let bit_by_bit = (0..=bytes.len()).find_map(|length| records.end(&bytes[..length], &mut scan));
            prop_assert_eq!(bit_by_bit, records.end(bytes, &mut Scan::default()));
        }

        /// The same rows as another reader finds.
        #[test]
        fn well_formed_rows_end_where_the_csv_crate_says(rows in proptest::collection::vec(proptest::collection::vec("[ab\"\n\r,]{0,5}", 2..4), 1..6)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let bytes = writer.into_inner().unwrap();
            let mut found = 0;
            CSV.each(&bytes, |_| found += 1);
            prop_assert_eq!(found, rows.len());
        }
    }
}
