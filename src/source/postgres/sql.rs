//! Names and values in SQL text.
//!
//! Everything goes by the simple protocol, which poolers in transaction mode understand too and which knows no parameters; so what
//! comes from people is quoted here.

/// `name` as an identifier, always quoted.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `value` as a string literal, whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `schema.name`, quoted.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// `schema.name` as a person would write it: quoted only where it must be. Always one line, without anything that a terminal obeys.
pub fn shown(schema: &str, name: &str) -> String {
    let plain = |word: &str| {
        let mut bytes = word.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if first && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            word.to_owned()
        } else if word.contains(char::is_control) {
            let escaped = word.chars().map(|character| match character {
                '\\' => "\\\\".to_owned(),
                control if control.is_control() => format!("\\{:04X}", u32::from(control)),
                other => other.to_string(),
            });
            format!("U&{}", identifier(&escaped.collect::<String>()))
        } else {
            identifier(word)
        }
    };
    if schema == "public" { plain(name) } else { format!("{}.{}", plain(schema), plain(name)) }
}

/// A list of object ids as an array literal.
pub fn oid_array(oids: impl IntoIterator<Item = u32>) -> String {
    let oids: Vec<String> = oids.into_iter().map(|oid| oid.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", oids.join(","))
}

/// Text of a person's that is put into a statement, so that a comment at its end cannot swallow what follows.
pub fn fragment(text: &str) -> String {
    format!("(\n{text}\n)")
}

/// Takes one list of SQL identifiers apart: `a, "B c", d`.
///
/// # Errors
/// What is wrong with it.
pub fn identifier_list(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (name, behind) = one_identifier(rest)?;
        names.push(name);
        rest = behind.trim_start();
        if rest.is_empty() {
            return Ok(names);
        }
        rest = rest.strip_prefix(',').ok_or_else(|| format!("expected a comma before `{rest}`"))?.trim_start();
    }
}

fn one_identifier(text: &str) -> Result<(String, &str), String> {
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let (part, behind) = rest.split_once('"').ok_or_else(|| format!("the quote before `{rest}` is never closed"))?;
            name.push_str(part);
            let Some(more) = behind.strip_prefix('"') else { return Ok((name, behind)) };
            name.push('"');
            rest = more;
        }
    }
    let end = text.find([',', ' ', '"']).unwrap_or(text.len());
    if end == 0 {
        return Err("a column name is missing".to_owned());
    }
    Ok((text[..end].to_lowercase(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_quoted() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'"), r" E'a\\b'''");
        assert_eq!(shown("public", "plain_1"), "plain_1");
        assert_eq!(shown("Sales", "Größe"), "\"Sales\".\"Größe\"");
        assert_eq!(shown("public", "a\n\\\"\u{1b}"), r#"U&"a\000A\\""\001B""#);
        assert_eq!(oid_array([1, 2]), "'{1,2}'::pg_catalog.oid[]");
    }

    #[test]
    fn lists_of_names_are_taken_apart_as_sql_would() {
        assert_eq!(identifier_list(r#"Id, "Big ""name""" ,x"#).unwrap(), ["id", "Big \"name\"", "x"]);
        for wrong in ["", "a,", ",a", "a b", "\"a", "a,,b"] {
            assert!(identifier_list(wrong).is_err(), "{wrong}");
        }
    }
}
