//! Table names as psql's `\d` takes them (PostgreSQL documentation, psql, "Patterns").

use std::fmt;

/// A name with optional schema, folded to lower case outside quotes, with `*` and `?` as wildcards and regular expressions allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    /// As it was written.
    pub text: String,
    /// The database it names, if it does; it must be the one we are connected to.
    pub database: Option<String>,
    /// Regular expression for the schema, if one was given.
    pub schema: Option<String>,
    /// Regular expression for the name.
    pub name: String,
    /// Whether it can match several names.
    pub is_wild: bool,
}

/// The pattern means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    text: String,
    problem: &'static str,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no table name or pattern: {}", self.text, self.problem)
    }
}

impl std::error::Error for PatternError {}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When a quote is open, a part is empty, or there are too many parts.
    pub fn parse(text: &str) -> Result<NamePattern, PatternError> {
        let wrong = |problem| PatternError { text: text.to_owned(), problem };
        let mut parts = vec![String::new()];
        let mut literal = vec![String::new()];
        let mut is_wild = false;
        let mut quoted = false;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let (part, plain) = (parts.last_mut().expect("never empty"), literal.last_mut().expect("never empty"));
            match character {
                '"' if quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    part.push('"');
                    plain.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => {
                    parts.push(String::new());
                    literal.push(String::new());
                }
                '*' if !quoted => {
                    is_wild = true;
                    part.push_str(".*");
                }
                '?' if !quoted => {
                    is_wild = true;
                    part.push('.');
                }
                // psql: a dollar is always itself, because names may hold it.
                '$' => {
                    part.push_str("\\$");
                    plain.push('$');
                }
                '|' | '+' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '\\' | '.' | '*' | '?' if quoted => {
                    part.push('\\');
                    part.push(character);
                    plain.push(character);
                }
                '|' | '+' | '(' | ')' | '[' | '{' | '^' | '\\' => {
                    is_wild = true;
                    part.push(character);
                }
                other if quoted => {
                    part.push(other);
                    plain.push(other);
                }
                other => {
                    part.extend(other.to_lowercase());
                    plain.extend(other.to_lowercase());
                }
            }
        }
        if quoted {
            return Err(wrong("a quote is never closed"));
        }
        if parts.iter().any(String::is_empty) {
            return Err(wrong("a part of it is empty"));
        }
        let anchored = |part: String| format!("^({part})$");
        let mut parts = parts.into_iter().rev();
        let name = anchored(parts.next().expect("there is one"));
        let schema = parts.next().map(anchored);
        let database = parts.next().map(|_| literal.swap_remove(0));
        if parts.next().is_some() {
            return Err(wrong("it has more than database, schema and name"));
        }
        Ok(NamePattern { text: text.to_owned(), database, schema, name, is_wild })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> (Option<String>, String, bool) {
        let pattern = NamePattern::parse(text).unwrap();
        (pattern.schema, pattern.name, pattern.is_wild)
    }

    #[test]
    fn patterns_become_regular_expressions_as_in_psql() {
        assert_eq!(parsed("Orders"), (None, "^(orders)$".into(), false));
        assert_eq!(parsed("\"Orders\""), (None, "^(Orders)$".into(), false));
        assert_eq!(parsed("sales.ord*"), (Some("^(sales)$".into()), "^(ord.*)$".into(), true));
        assert_eq!(parsed("a?c"), (None, "^(a.c)$".into(), true));
        assert_eq!(parsed("\"a.b*\""), (None, "^(a\\.b\\*)$".into(), false));
        assert_eq!(parsed("\"a\"\"b\""), (None, "^(a\"b)$".into(), false));
        assert_eq!(parsed("x$1"), (None, "^(x\\$1)$".into(), false));
        assert_eq!(parsed("(a|b)"), (None, "^((a|b))$".into(), true));
        assert_eq!(NamePattern::parse("Db.\"S\".t").unwrap().database.as_deref(), Some("db"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in ["", "a.", ".a", "a..b", "\"a", "a.b.c.d"] {
            assert!(NamePattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
