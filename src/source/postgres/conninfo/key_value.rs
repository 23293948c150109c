//! `key=value` pairs: `host=localhost password='two words'`. A backslash takes the next character as it is.

use super::error::{ConnInfoError, Origin};
use super::settings::Pair;

/// Splits `text` into pairs, in its order. Keys are not judged here.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, ConnInfoError> {
    let mut scanner = Scanner { text, at: 0 };
    let mut pairs: Vec<Pair> = Vec::new();
    loop {
        scanner.skip_blanks();
        if scanner.at == text.len() {
            return Ok(pairs);
        }
        let start = scanner.at;
        let key = scanner.take_while(|c| c != '=' && !is_blank(c)).to_owned();
        scanner.skip_blanks();
        if scanner.peek() != Some('=') {
            return Err(scanner.error(start, no_value(text, pairs.is_empty())));
        }
        scanner.at += 1;
        scanner.skip_blanks();
        let value = if scanner.peek() == Some('\'') { scanner.quoted()? } else { scanner.bare() };
        let may_be_secret = pairs.last().is_some_and(|last| last.key.contains("pass") || last.may_be_secret);
        pairs.push(Pair { key, value, origin: Origin::in_text(text, start), may_be_secret });
    }
}

/// The word itself is not shown: it may be the second half of a password.
fn no_value(text: &str, is_first: bool) -> &'static str {
    if is_first && text.contains("://") {
        "this is no Postgres URL; it has to begin with postgres:// or postgresql://"
    } else if is_first {
        "no `=` after the first word; write dbname=… for a database, or a URL that begins with postgres://"
    } else {
        "no `=` after this word; write key=value, and quote a value that has spaces: key='two words'"
    }
}

/// What C's `isspace` accepts.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    fn bare(&mut self) -> String {
        let mut value = String::new();
        while let Some(c) = self.peek().filter(|c| !is_blank(*c)) {
            self.at += c.len_utf8();
            if c == '\\' {
                value.extend(self.next());
            } else {
                value.push(c);
            }
        }
        value
    }

    fn quoted(&mut self) -> Result<String, ConnInfoError> {
        let open = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(value),
                Some('\\') => value.extend(self.next()),
                Some(c) => value.push(c),
                None => return Err(self.error(open, "this quote is never closed")),
            }
        }
    }

    fn error(&self, byte: usize, problem: &str) -> ConnInfoError {
        ConnInfoError::new(Origin::in_text(self.text, byte), problem)
    }
}
