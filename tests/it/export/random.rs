//! Random values of many types against the server, with a fresh seed each time.

use super::assert_exact;
use crate::support::cluster::Cluster;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

const ROWS: usize = 1500;

/// `text` as a literal, whatever is in it.
pub(super) fn literal(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|character| match character {
            '\'' => "''".to_owned(),
            '\\' => "\\\\".to_owned(),
            control if (control as u32) < 0x20 => format!("\\x{:02x}", control as u32),
            other => other.to_string(),
        })
        .collect();
    format!("E'{escaped}'")
}

/// Text that is mostly what encoders trip over.
pub(super) fn awkward() -> BoxedStrategy<String> {
    let character = prop_oneof![
        4 => proptest::char::range('a', 'z'),
        3 => proptest::sample::select(vec!['"', '\\', '\n', '\r', '\t', '\u{8}', '\u{c}', '\u{b}', '\u{1}', '\u{1f}', '\u{7f}', '{', '}', ',', ' ', '\'', 'N', '/']),
        1 => any::<char>().prop_filter("not in text", |character| *character != '\0'),
    ];
    prop_oneof![
        8 => proptest::collection::vec(character.clone(), 0..24),
        1 => proptest::collection::vec(character, 30..200),
    ]
    .prop_map(|characters| characters.into_iter().collect())
    .boxed()
}

fn maybe(value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![9 => value, 1 => Just("NULL".to_owned())].boxed()
}

fn array_of(item: impl Strategy<Value = String> + 'static, element: &'static str) -> BoxedStrategy<String> {
    let item = item.boxed();
    let flat =
        proptest::collection::vec(maybe(item.clone()), 0..5).prop_map(move |items| format!("ARRAY[{}]::{element}[]", items.join(",")));
    let deep = proptest::collection::vec(proptest::array::uniform2(maybe(item)), 1..4).prop_map(move |rows| {
        let rows: Vec<String> = rows.iter().map(|row| format!("[{}]", row.join(","))).collect();
        format!("ARRAY[{}]::{element}[]", rows.join(","))
    });
    prop_oneof![3 => flat, 1 => deep].boxed()
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        awkward().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((awkward(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// JSON text with line breaks and tabs between tokens, as people write it.
fn spread(value: &Value) -> String {
    format!("{value:#}").replace("\n  ", "\r\n\t")
}

fn float() -> impl Strategy<Value = String> {
    any::<u64>().prop_map(|bits| match f64::from_bits(bits) {
        number if number.is_nan() => "'NaN'".to_owned(),
        number if number.is_infinite() => if number > 0.0 { "'Infinity'" } else { "'-Infinity'" }.to_owned(),
        number => format!("'{number:e}'"),
    })
}

fn small_float() -> impl Strategy<Value = String> {
    any::<u32>().prop_map(|bits| match f32::from_bits(bits) {
        number if number.is_finite() => format!("'{number:e}'"),
        _ => "'NaN'".to_owned(),
    })
}

pub(super) fn numeric() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "-?[0-9]{1,40}(\\.[0-9]{1,30})?".prop_map(|digits| format!("'{digits}'")),
        1 => proptest::sample::select(vec!["'NaN'".to_owned(), "'Infinity'".to_owned(), "'-Infinity'".to_owned()]),
    ]
}

pub(super) fn instant() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (-2_000_000_i64..2_000_000, any::<u32>()).prop_map(|(days, micros)| format!("'2000-01-01'::timestamp + '{days} days {micros} microseconds'")),
        4 => (-9_000_i64..9_000).prop_map(|days| format!("'2000-01-01'::timestamp + '{days} days'")),
        1 => proptest::sample::select(vec!["'infinity'".to_owned(), "'-infinity'".to_owned()]),
    ]
}

/// The columns: name, type, and a strategy for its values.
fn columns() -> Vec<(&'static str, BoxedStrategy<String>)> {
    let text = awkward().prop_map(|text| literal(&text)).boxed();
    let record = (text.clone(), array_of(text.clone(), "text"), instant(), json())
        .prop_map(|(t, a, ts, j)| format!("ROW({t}, {a}, ({ts})::timestamptz, {}::json)::thing", literal(&spread(&j))))
        .boxed();
    let pairs = proptest::collection::vec((awkward(), proptest::option::of(awkward())), 0..4).prop_map(|pairs| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| format!("hstore({}, {})", literal(key), value.as_ref().map_or("NULL".into(), |value| literal(value))));
        std::iter::once("''::hstore".to_owned()).chain(pairs).collect::<Vec<_>>().join(" || ")
    });
    vec![
        ("text", text.clone().boxed()),
        ("text[]", array_of(text, "text")),
        ("numeric", numeric().boxed()),
        ("numeric[]", array_of(numeric(), "numeric")),
        ("float8", float().boxed()),
        ("real[]", array_of(small_float(), "real")),
        ("bigint", any::<i64>().prop_map(|number| format!("'{number}'")).boxed()),
        ("timestamp", instant().boxed()),
        ("timestamptz", instant().prop_map(|instant| format!("({instant})::timestamptz")).boxed()),
        ("timestamptz[]", array_of(instant(), "timestamptz")),
        ("date", (-2_000_000_i32..2_000_000).prop_map(|days| format!("'2000-01-01'::date + {days}")).boxed()),
        (
            "interval",
            (any::<i16>(), any::<i16>(), any::<i64>())
                .prop_map(|(m, d, us)| format!("'{m} mons {d} days {} microseconds'", us / 4096))
                .boxed(),
        ),
        ("boolean", any::<bool>().prop_map(|truth| truth.to_string()).boxed()),
        ("boolean[]", array_of(any::<bool>().prop_map(|truth| truth.to_string()), "boolean")),
        (
            "bytea",
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| format!("'\\x{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
                .boxed(),
        ),
        ("json", json().prop_map(|value| literal(&spread(&value))).boxed()),
        ("json[]", array_of(json().prop_map(|value| literal(&spread(&value))), "json").boxed()),
        ("jsonb", json().prop_map(|value| literal(&value.to_string())).boxed()),
        ("thing", record.clone().boxed()),
        ("thing[]", array_of(record, "thing")),
        ("hstore", pairs.boxed()),
        (
            "int4range",
            (any::<i16>(), any::<u8>())
                .prop_map(|(from, length)| format!("int4range({from}, {})", i32::from(from) + i32::from(length)))
                .boxed(),
        ),
    ]
}

#[test]
fn random_values_are_what_row_to_json_makes_of_them() {
    let seed: [u8; 32] = std::array::from_fn(|_| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) as u8);
    println!("seed {seed:?}");
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let columns = columns();
    let mut line = || {
        let values = columns.iter().map(|(kind, values)| {
            let value = values.new_tree(&mut runner).expect("a value").current();
            format!("({value})::{kind}")
        });
        format!("({})", values.collect::<Vec<_>>().join(","))
    };
    let lines: Vec<String> = (0..ROWS).map(|_| line()).collect();
    let definition: Vec<String> = columns.iter().enumerate().map(|(number, (kind, _))| format!("c{number} {kind}")).collect();
    let database = Cluster::shared().fresh_database();
    let inserts: Vec<String> = lines.chunks(100).map(|lines| format!("INSERT INTO t VALUES {};", lines.join(",\n"))).collect();
    database.psql(&format!(
        "CREATE EXTENSION hstore; CREATE TYPE thing AS (t text, a text[], ts timestamptz, j json); CREATE TABLE t ({}); SET timezone = 'UTC';\n{}",
        definition.join(", "),
        inserts.join("\n")
    ));
    assert_exact(&database, "t", "--chunk-bytes 64KiB");
}
