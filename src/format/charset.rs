//! Text in other encodings than UTF-8: `COPY` rows of databases that have no encoding of their own, once somebody knows which it is.
//!
//! Names are those of Postgres (`src/common/encnames.c`; `LATIN1` is ISO 8859-1, control characters and all), and behind them the labels of
//! the [Encoding Standard](https://encoding.spec.whatwg.org), whose tables decode.

use super::copy_text::plain_field;
use encoding_rs::{Encoding, mem::decode_latin1};
use std::borrow::Cow;
use std::fmt;

/// Postgres' names, without what is neither letter nor digit, with the label of the table that decodes them.
const POSTGRES: &[(&str, &str)] = &[
    ("abc", "windows-1258"),
    ("alt", "ibm866"),
    ("euccn", "gbk"),
    ("eucjp", "euc-jp"),
    ("euckr", "euc-kr"),
    ("iso88592", "iso-8859-2"),
    ("iso88593", "iso-8859-3"),
    ("iso88594", "iso-8859-4"),
    ("iso88595", "iso-8859-5"),
    ("iso88596", "iso-8859-6"),
    ("iso88597", "iso-8859-7"),
    ("iso88598", "iso-8859-8"),
    ("iso885910", "iso-8859-10"),
    ("iso885913", "iso-8859-13"),
    ("iso885914", "iso-8859-14"),
    ("iso885915", "iso-8859-15"),
    ("iso885916", "iso-8859-16"),
    ("koi8", "koi8-r"),
    ("koi8r", "koi8-r"),
    ("koi8u", "koi8-u"),
    ("latin2", "iso-8859-2"),
    ("latin3", "iso-8859-3"),
    ("latin4", "iso-8859-4"),
    ("latin6", "iso-8859-10"),
    ("latin7", "iso-8859-13"),
    ("latin8", "iso-8859-14"),
    ("latin9", "iso-8859-15"),
    ("latin10", "iso-8859-16"),
    ("mskanji", "shift_jis"),
    ("tcvn", "windows-1258"),
    ("tcvn5712", "windows-1258"),
    ("shiftjis", "shift_jis"),
    ("sjis", "shift_jis"),
    ("uhc", "euc-kr"),
    ("vscii", "windows-1258"),
    ("win", "windows-1251"),
    ("win866", "ibm866"),
    ("win874", "windows-874"),
    ("win932", "shift_jis"),
    ("win936", "gbk"),
    ("win949", "euc-kr"),
    ("win950", "big5"),
    ("win1250", "windows-1250"),
    ("win1251", "windows-1251"),
    ("win1252", "windows-1252"),
    ("win1253", "windows-1253"),
    ("win1254", "windows-1254"),
    ("win1255", "windows-1255"),
    ("win1256", "windows-1256"),
    ("win1257", "windows-1257"),
    ("win1258", "windows-1258"),
];

/// Encodings whose second bytes can be ASCII, a backslash among them: who escaped them byte by byte, as a server without encoding does,
/// has changed the text unless it is unescaped first.
const ASCII_BEHIND: [&str; 4] = ["Shift_JIS", "GBK", "gb18030", "Big5"];

/// An encoding.
#[derive(Clone, Debug)]
pub struct Charset {
    name: String,
    table: Table,
}

#[derive(Clone, Copy, Debug)]
enum Table {
    /// Every byte is the character of the same number: ISO 8859-1.
    Same,
    /// The same for 0x80 to 0x9f, the rest as a table has it: ISO 8859-9, for which the standard only has Microsoft's extension.
    SameControls(&'static Encoding),
    Standard(&'static Encoding),
}

/// There is no such encoding, or none that a row can be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCharset(String);

impl fmt::Display for UnknownCharset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownCharset {}

impl Charset {
    /// The encoding of this name, as Postgres (`LATIN1`, `WIN1252`, `EUC_JP`) or the Encoding Standard (`windows-1252`) has it.
    ///
    /// # Errors
    /// When there is none, or rows cannot be in it.
    pub fn named(name: &str) -> Result<Charset, UnknownCharset> {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let plain = plain.strip_prefix("windows").map_or(plain.clone(), |number| format!("win{number}"));
        let standard = || {
            let label = POSTGRES.iter().find(|(known, _)| *known == plain).map_or(name, |(_, label)| label);
            let found =
                Encoding::for_label_no_replacement(label.as_bytes()).or_else(|| Encoding::for_label_no_replacement(plain.as_bytes()));
            let unknown =
                || UnknownCharset(format!("`{name}` is no encoding that is known here; examples are LATIN1, WIN1252, KOI8R, EUC_JP, SJIS"));
            found.ok_or_else(unknown)
        };
        let table = match &*plain {
            "latin1" | "iso88591" => Table::Same,
            "latin5" | "iso88599" => Table::SameControls(encoding_rs::WINDOWS_1254),
            _ => Table::Standard(standard()?),
        };
        if let Table::Standard(encoding) = table {
            if encoding == encoding_rs::UTF_8 {
                return Err(UnknownCharset(format!(
                    "{name} is what rows are in that need no encoding; give the one that the others are in"
                )));
            }
            if !encoding.is_ascii_compatible() {
                return Err(UnknownCharset(format!("{name} cannot be the encoding of text in a Postgres database")));
            }
        }
        Ok(Charset { name: name.to_owned(), table })
    }

    /// What it was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn decode<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, str>> {
        match self.table {
            Table::Same => Some(decode_latin1(text)),
            Table::SameControls(encoding) => {
                let parts = text.chunk_by(|one, next| is_control(*one) == is_control(*next));
                let decoded = parts.map(|part| {
                    if part.first().is_some_and(|byte| is_control(*byte)) {
                        Some(decode_latin1(part))
                    } else {
                        encoding.decode_without_bom_handling_and_without_replacement(part)
                    }
                });
                decoded.collect::<Option<Vec<_>>>().map(|parts| parts.concat().into())
            }
            Table::Standard(encoding) => encoding.decode_without_bom_handling_and_without_replacement(text),
        }
    }

    /// A `COPY` text row (without its line feed) in UTF-8. `is_text` says of a column (from 0) whether its value is nothing but text.
    ///
    /// # Errors
    /// Which field is not in this encoding, for a person.
    pub fn decode_row(&self, row: &[u8], is_text: impl Fn(usize) -> bool) -> Result<Vec<u8>, String> {
        let needs_care = matches!(self.table, Table::Standard(encoding) if ASCII_BEHIND.contains(&encoding.name()));
        let mut decoded = Vec::with_capacity(row.len() + row.len() / 2);
        for (column, field) in row.split(|byte| *byte == b'\t').enumerate() {
            if column > 0 {
                decoded.push(b'\t');
            }
            if field.is_ascii() {
                decoded.extend_from_slice(field);
                continue;
            }
            if needs_care && !is_text(column) {
                let name = &self.name;
                return Err(format!("field {} is no plain text, and inside of others {name} cannot be told from escapes", column + 1));
            }
            let plain = plain_field(field);
            let text = self.decode(&plain).ok_or_else(|| format!("field {} is not text in {}", column + 1, self.name))?;
            escape(&text, &mut decoded);
        }
        Ok(decoded)
    }
}

fn is_control(byte: u8) -> bool {
    (0x80..0xa0).contains(&byte)
}

/// Puts text into the escapes of a field, as the server does (`CopyAttributeOutText` in `src/backend/commands/copyto.c`).
fn escape(text: &str, field: &mut Vec<u8>) {
    for byte in text.bytes() {
        let code = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            _ => {
                field.push(byte);
                continue;
            }
        };
        field.extend_from_slice(&[b'\\', code]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, row: &[u8]) -> String {
        String::from_utf8(Charset::named(name).unwrap().decode_row(row, |_| true).unwrap()).unwrap()
    }

    #[test]
    fn names_are_those_of_postgres_first() {
        for name in ["latin1", "LATIN1", "iso-8859-1", "ISO_8859_1"] {
            assert_eq!(decoded(name, b"\x80\xe9"), "\u{80}é", "{name}");
        }
        for name in ["win1252", "WINDOWS-1252", "cp1252"] {
            assert_eq!(decoded(name, b"\x80\xe9"), "€é", "{name}");
        }
        assert_eq!(decoded("LATIN5", b"\x80\x9f\xfd"), "\u{80}\u{9f}ı");
        assert_eq!(decoded("LATIN9", b"\xa4"), "€");
        assert_eq!(decoded("KOI8R", b"\xc1"), "а");
        assert_eq!(decoded("euc_jp", b"\xa4\xa2"), "あ");
        for (name, _) in POSTGRES {
            assert!(Charset::named(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn fields_keep_their_escapes_and_nulls() {
        assert_eq!(decoded("latin1", b"\\N\tcaf\xe9\\n\\\\N\t"), "\\N\tcafé\\n\\\\N\t");
        // The second byte of this character is a backslash, which the server escaped.
        assert_eq!(decoded("SJIS", b"\x83\x5c\x5c\tx"), "ソ\tx");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |name: &str| Charset::named(name).unwrap_err().to_string();
        insta::assert_snapshot!(refused("utf8"), @"utf8 is what rows are in that need no encoding; give the one that the others are in");
        insta::assert_snapshot!(refused("utf-16"), @"utf-16 cannot be the encoding of text in a Postgres database");
        insta::assert_snapshot!(refused("latin"), @"`latin` is no encoding that is known here; examples are LATIN1, WIN1252, KOI8R, EUC_JP, SJIS");
        let fault = |name: &str, row: &[u8], is_text: bool| Charset::named(name).unwrap().decode_row(row, |_| is_text).unwrap_err();
        insta::assert_snapshot!(fault("EUC_JP", b"a\t\xff", true), @"field 2 is not text in EUC_JP");
        insta::assert_snapshot!(fault("SJIS", b"{\x83\x41}", false), @"field 1 is no plain text, and inside of others SJIS cannot be told from escapes");
    }
}
