//! `postgres://user:password@host1:port1,host2/dbname?key=value`, read as libpq reads it.

use super::error::{ConnInfoError, Origin};
use super::settings::Pair;

/// Splits a URL into pairs, percent-decoded, in its order. Keys are not judged here.
///
/// `text` begins with one of the two schemes. The authority never appears in an error: what stands where a host or a
/// port should be is often a password with an unescaped `/` or `@`.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, ConnInfoError> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let mut url = Url { text, at: start, pairs: Vec::new() };
    let has_user = url.user()?;
    url.hosts(has_user)?;
    if url.peek() == Some(b'/') {
        url.at += 1;
        let (at, name) = (url.at, url.until(b"?"));
        url.push_non_empty("dbname", name, at)?;
    }
    if url.peek() == Some(b'?') {
        url.at += 1;
        url.parameters()?;
    }
    Ok(url.pairs)
}

/// Escapes everything that has a meaning in a URL.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let mut utf8 = [0; 4];
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => out.push(c),
            c => out.extend(c.encode_utf8(&mut utf8).bytes().map(|b| format!("%{b:02X}"))),
        }
    }
    out
}

struct Url<'t> {
    text: &'t str,
    at: usize,
    pairs: Vec<Pair>,
}

impl<'t> Url<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Up to, and without, the first of `ends`, which are ASCII.
    fn until(&mut self, ends: &[u8]) -> &'t str {
        let rest = &self.text[self.at..];
        let len = rest.bytes().position(|b| ends.contains(&b)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// `user:password@`, if there is an `@` before the first `/`. Returns whether there is.
    fn user(&mut self) -> Result<bool, ConnInfoError> {
        let start = self.at;
        self.until(b"@/");
        if self.peek() != Some(b'@') {
            self.at = start;
            return Ok(false);
        }
        self.at = start;
        let user = self.until(b":@");
        self.push_non_empty("user", user, start)?;
        if self.peek() == Some(b':') {
            self.at += 1;
            let (at, password) = (self.at, self.until(b"@"));
            self.push_non_empty("password", password, at)?;
        }
        self.at += 1;
        Ok(true)
    }

    fn hosts(&mut self, has_user: bool) -> Result<(), ConnInfoError> {
        let (start, mut hosts, mut ports) = (self.at, String::new(), String::new());
        loop {
            hosts.push_str(if self.peek() == Some(b'[') { self.bracketed()? } else { self.until(b":/?,") });
            if self.peek() == Some(b':') {
                self.at += 1;
                ports.push_str(self.until(b"/?,"));
            }
            if self.peek() != Some(b',') {
                break;
            }
            self.at += 1;
            hosts.push(',');
            ports.push(',');
        }
        self.refuse_stray_password(start, has_user)?;
        self.push_non_empty("host", &hosts, start)?;
        self.push_non_empty("port", &ports, start)
    }

    /// `user:pa/ss@host/db` reads as host `user`, port `pa` and database `ss@host/db`. Better to say so than to show
    /// that database in an error.
    fn refuse_stray_password(&self, start: usize, has_user: bool) -> Result<(), ConnInfoError> {
        let (authority, rest) = self.text[start..].split_at(self.at - start);
        let path = rest.split('?').next().unwrap_or("");
        if !has_user && authority.contains(':') && path.contains('@') {
            let problem = "an `@` after a `/`: write a `/` in a user name or password as %2F, and an `@` in a database name as %40";
            return Err(self.error(start, problem));
        }
        Ok(())
    }

    /// An IPv6 address in brackets, without them.
    fn bracketed(&mut self) -> Result<&'t str, ConnInfoError> {
        let open = self.at;
        self.at += 1;
        let address = self.until(b"]");
        if self.peek().is_none() {
            return Err(self.error(open, "this `[` is never closed; an IPv6 address ends with `]`"));
        }
        if address.is_empty() {
            return Err(self.error(open, "no address between `[` and `]`"));
        }
        self.at += 1;
        match self.peek() {
            None | Some(b':' | b'/' | b'?' | b',') => Ok(address),
            Some(_) => Err(self.error(self.at, "unexpected text after `]`; `:port`, `/database`, `?key=value` or `,` may follow")),
        }
    }

    fn parameters(&mut self) -> Result<(), ConnInfoError> {
        while self.at < self.text.len() {
            let start = self.at;
            let parameter = self.until(b"&");
            self.at += usize::from(self.peek().is_some());
            let Some((key, value)) = parameter.split_once('=') else {
                return Err(self.error(start, "no `=` in this parameter; write ?key=value&key=value"));
            };
            if value.contains('=') {
                return Err(self.error(start, "a second `=` in this parameter; write it as %3D"));
            }
            let (key, value) = (self.decode(key, start)?, self.decode(value, start + key.len() + 1)?);
            // JDBC's spelling, which libpq takes too.
            let (key, value) = if key == "ssl" && value == "true" { ("sslmode".to_owned(), "require".to_owned()) } else { (key, value) };
            self.push(key, value, start);
        }
        Ok(())
    }

    fn push_non_empty(&mut self, key: &str, raw: &str, at: usize) -> Result<(), ConnInfoError> {
        let value = self.decode(raw, at)?;
        if !value.is_empty() {
            self.push(key.to_owned(), value, at);
        }
        Ok(())
    }

    fn push(&mut self, key: String, value: String, at: usize) {
        self.pairs.push(Pair { key, value, origin: Origin::in_text(self.text, at), may_be_secret: false });
    }

    fn decode(&self, raw: &str, at: usize) -> Result<String, ConnInfoError> {
        let (bytes, mut out, mut i) = (raw.as_bytes(), Vec::with_capacity(raw.len()), 0);
        while i < bytes.len() {
            if bytes[i] != b'%' {
                out.push(bytes[i]);
                i += 1;
                continue;
            }
            let digit = |k: usize| bytes.get(i + k).and_then(|b| char::from(*b).to_digit(16));
            let byte = digit(1).zip(digit(2)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            match byte {
                Some(0) => return Err(self.error(at + i, "%00 is not allowed")),
                Some(byte) => out.push(byte),
                None => {
                    return Err(self.error(at + i, "two hexadecimal digits must follow `%`; write a `%` itself as %25"));
                }
            }
            i += 3;
        }
        String::from_utf8(out).map_err(|_| self.error(at, "percent-encoding that is not UTF-8"))
    }

    fn error(&self, byte: usize, problem: &str) -> ConnInfoError {
        ConnInfoError::new(Origin::in_text(self.text, byte), problem)
    }
}
