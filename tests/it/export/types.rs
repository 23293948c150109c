//! Every built-in type, with values that exporters get wrong.

use super::assert_exact;
use crate::support::cluster::Cluster;

/// Type and values, as SQL writes them.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647", "0"]),
    ("bigint", &["9223372036854775807", "-9223372036854775808", "9007199254740993"]),
    ("real", &["0.1", "'NaN'", "'Infinity'", "'-Infinity'", "-0.0", "1e-40", "3.4028235e38", "16777216", "1e15", "1e14"]),
    (
        "double precision",
        &["0.1", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "1e15", "123456789012345680"],
    ),
    (
        "numeric",
        &[
            "0.10",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "-0.000000000000000000001",
            "123456789012345678901234567890.123456789",
            "(repeat('9', 1000))::numeric",
            "('0.' || repeat('7', 1000))::numeric",
            "1e-16383",
            "1e100",
        ],
    ),
    ("numeric(15,2)", &["19", "-0.01", "9999999999999.99"]),
    ("money", &["'$1,234.56'", "'-0.01'"]),
    (
        "text",
        &[
            r#"'quote " and '' and \ and /'"#,
            r"E'\b\f\n\r\t\x0b'",
            r"E'\x01\x02\x03\x04\x05\x06\x07\x0e\x0f\x10\x1e\x1f\x7f'",
            "''",
            r"'\N'",
            r"'\.'",
            "'\\\\'",
            "'zażółć gęślą jaźń — 日本語 😀 \u{10ffff}'",
            "E'\\u2028\\u2029'",
            "repeat('x', 100000)",
            r#"repeat(E'"\\\n', 5000)"#,
            "' leading and trailing '",
            "E'tab\\there'",
            "'null'",
            "'{\"looks\": \"like json\"}'",
            "repeat('0123456789abcdef', 2) || E'\\n'",
            "repeat('y', 31) || '\"'",
            "repeat('z', 32) || E'\\x1f'",
        ],
    ),
    ("varchar(20)", &["'short'", "''"]),
    ("char(8)", &["'pad'", "''", "'12345678'"]),
    ("\"char\"", &["'x'", "'\\'", "'\"'", "''"]),
    ("name", &["'a name'", "'\"quoted\"'"]),
    ("bytea", &[r"'\xdeadbeef00'", "''", r"decode(repeat('00', 1000), 'hex')"]),
    ("date", &["'2024-02-29'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'4713-01-01 BC'", "'0001-01-01'"]),
    (
        "timestamp",
        &[
            "'2024-02-29 12:34:56.123456'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'2024-01-01'",
            "'2024-01-01 00:00:00.1'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2024-02-29 12:34:56.123456+05:30'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03.5+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'1883-11-18 12:03:57-05'",
        ],
    ),
    ("time", &["'12:34:56.123456'", "'00:00'", "'24:00:00'"]),
    ("timetz", &["'12:34:56.123456+02'", "'00:00-15:59:59'", "'23:59:59.5+05:30'"]),
    (
        "interval",
        &[
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 year -2 mons +3 days -04:05:06'",
            "'0'",
            "'178000000 years'",
            "'1 microsecond'",
            "'-00:00:00.1'",
        ],
    ),
    ("boolean", &["true", "false"]),
    ("uuid", &["'6f1ed002-ab5d-4f2a-9c11-7d1c34ad6a01'"]),
    (
        "json",
        &[
            "'{\"a\" : 1,   \"a\": 2}'",
            "E'{\\n\"nl\":\\r\\n \"x\\\\ny\",\\t\"t\": [1,\\n2]}'",
            "'null'",
            "'\"\\u0000 \\ud83d\\ude00\"'",
            "'1e400'",
            "'  [ ]  '",
            "'\"\\\\\\\\\"'",
        ],
    ),
    (
        "jsonb",
        &[
            "'{\"big\": 12345678901234567890.5, \"n\": {\"s\": \"q\\\"\\\\ ü\"}}'",
            "'null'",
            "'[]'",
            "'{}'",
            "'\"\\n\\t\\u0001\"'",
            "'[1, [2, {\"a\": null}]]'",
        ],
    ),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"c\">d &amp; e</a>'", "E'<a>\\n</a>'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(8)", &["B'10101010'"]),
    ("varbit", &["B'101'", "B''"]),
    ("point", &["'(1.5,-2)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1,1),(2,0)]'", "'((0,0),(1,1))'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("circle", &["'<(0,0),1.5>'"]),
    ("tsvector", &["'a:1A fat:2B,4C ''it''''s'':3'"]),
    ("tsquery", &["'fat & (rat | !cat) & ''it''''s'''"]),
    ("oid", &["0", "4294967295"]),
    ("xid", &["'42'"]),
    ("xid8", &["'42'"]),
    ("cid", &["'42'"]),
    ("tid", &["'(0,1)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("regclass", &["'pg_class'"]),
    ("regtype", &["'integer'", "'double precision'"]),
    ("regproc", &["'now'"]),
    ("regprocedure", &["'abs(integer)'"]),
    ("regoperator", &["'+(integer,integer)'"]),
    ("regrole", &["current_user::regrole"]),
    ("regnamespace", &["'pg_catalog'"]),
    ("regconfig", &["'english'"]),
    ("int2vector", &["'1 2 3'", "''"]),
    ("oidvector", &["'1 2 3'"]),
    ("int4range", &["'[1,10)'", "'empty'", "'(,)'"]),
    ("numrange", &["'[1.5,NaN]'"]),
    ("tstzrange", &["'[2024-01-01 00:00+00,2024-02-01 00:00+00)'"]),
    ("daterange", &["'[2024-01-01,infinity)'"]),
    ("int4multirange", &["'{[1,2),[5,9)}'", "'{}'"]),
    ("mood", &["'so \"so\"'", "'ok'"]),
    ("positive", &["1", "42"]),
    ("short_text", &["'a\"b'"]),
    ("numbers", &["'{1,2,NULL}'"]),
    (
        "pair",
        &[
            "ROW(1, 'a \"b\"', '{\"j\": [1]}', '2024-01-01 00:00+00', '{1,2}')",
            "ROW(NULL, NULL, NULL, NULL, NULL)",
            "ROW(1, E'line\\nbreak', E'{\\n}', 'infinity', NULL)",
        ],
    ),
    ("pair_domain", &["ROW(7, 'x', 'null', NULL, '{}')"]),
    ("hstore", &["'a=>1, b=>NULL, \"c \\\"d\\\"\"=>\"e\\\\f\"'", "''"]),
];

const SETUP: &str = r#"
    CREATE EXTENSION hstore;
    CREATE TYPE mood AS ENUM ('ok', 'so "so"');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN short_text AS varchar(10);
    CREATE DOMAIN numbers AS integer[];
    CREATE TYPE pair AS (n integer, t text, j json, ts timestamptz, a integer[]);
    CREATE DOMAIN pair_domain AS pair;
    SET timezone = 'UTC';
"#;

/// A table with a column for each type and as many rows as the type with most values has.
fn table_of(name: &str, column_type: impl Fn(&str) -> String, value: impl Fn(&str, &[&str], usize) -> String) -> String {
    let rows = TYPES.iter().map(|(_, values)| values.len()).max().unwrap() + 1;
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(number, (name, _))| format!("c{number} {}", column_type(name))).collect();
    let line = |row: usize| {
        let values: Vec<String> = TYPES.iter().map(|(name, values)| value(name, values, row)).collect();
        format!("({})", values.join(", "))
    };
    let lines: Vec<String> = (0..rows).map(line).collect();
    format!("CREATE TABLE {name} ({}); INSERT INTO {name} VALUES {};", columns.join(", "), lines.join(",\n"))
}

fn typed(name: &str, value: &str) -> String {
    // What is an expression of its own is left alone.
    if value.starts_with("ROW") || value.starts_with('\'') || value.starts_with("E'") {
        format!("{value}::{name}")
    } else {
        format!("({value})::{name}")
    }
}

#[test]
fn every_type_as_row_to_json_has_it() {
    let database = Cluster::shared().fresh_database();
    let scalar = table_of("scalars", str::to_owned, |name, values, row| values.get(row).map_or("NULL".into(), |value| typed(name, value)));
    database.psql(&format!("{SETUP} {scalar}"));
    assert_exact(&database, "scalars", "");
}

#[test]
fn arrays_of_every_type_as_row_to_json_has_them() {
    let database = Cluster::shared().fresh_database();
    let array = table_of(
        "arrays",
        |name| format!("{name}[]"),
        |name, values, row| {
            let items: Vec<String> = values.iter().map(|value| typed(name, value)).collect();
            let all = items.join(", ");
            match row {
                0 => format!("ARRAY[{all}]::{name}[]"),
                1 => format!("ARRAY[NULL, {}, NULL]::{name}[]", items[0]),
                2 => format!("'{{}}'::{name}[]"),
                // Vectors and arrays behind a domain cannot be nested this way; the first value alone will do.
                3 if !["int2vector", "oidvector", "numbers"].contains(&name) => {
                    format!("ARRAY[[{0}, {0}], [NULL, {0}]]::{name}[]", items[0])
                }
                4 if !["int2vector", "oidvector", "numbers"].contains(&name) => {
                    format!("array_fill({}, ARRAY[2,1,2], ARRAY[-3,0,7])", items[0])
                }
                _ => "NULL".into(),
            }
        },
    );
    database.psql(&format!("{SETUP} {array}"));
    assert_exact(&database, "arrays", "");
}

/// The classic: data that most exporters survive, all in one table, with small chunks so that rows fall on their borders.
#[test]
fn chunks_of_every_size_hold_the_same_rows() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        r#"CREATE TABLE t AS SELECT i, repeat(E'x"\\\n', i % 97) AS a, ARRAY[i::text, NULL, 'q"'] AS b, i * 0.1 AS c, now() AS d, NULL::int AS e
           FROM generate_series(1, 3000) i"#,
    );
    for arguments in [
        "--chunk-rows 1",
        "--chunk-rows 7 --workers 1",
        "--chunk-bytes 1KiB --workers 3",
        "--chunk-bytes 100",
        "--connections 4",
        "--connections 1",
    ] {
        assert_exact(&database, "t", arguments);
    }
}
