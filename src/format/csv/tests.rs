//! The `csv` crate and `serde_json` are the oracles.

use super::*;
use crate::format::PADDING;
use proptest::prelude::*;
use serde_json::{Value, json};

fn encode(encoder: &RowEncoder, text: &str) -> Result<String, RowFault> {
    let mut source = text.as_bytes().to_vec();
    source.extend([0; PADDING]);
    let (mut out, mut at) = (Output::default(), 0);
    while at < text.len() {
        at = encoder.encode(&source, at, &mut out)?;
    }
    assert_eq!(at, text.len());
    Ok(String::from_utf8(out.bytes().to_vec()).unwrap())
}

fn strings(delimiter: u8) -> RowEncoder {
    RowEncoder::new([("a", Kind::String), ("b\"", Kind::String)], delimiter, Empty::String)
}

#[test]
fn values_are_as_they_are_written() {
    let text = "1,\"x, \"\"y\"\"\nz\"\r\n 5\" pipe ,\\\t\n,\"\"\n";
    insta::assert_snapshot!(encode(&strings(b','), text).unwrap(), @r#"
    {"a":"1","b\"":"x, \"y\"\nz"}
    {"a":" 5\" pipe ","b\"":"\\\t"}
    {"a":"","b\"":""}
    "#);
}

#[test]
fn rows_that_are_none_are_faults() {
    let fault = |text: &str| encode(&strings(b','), text).unwrap_err().to_string();
    assert_eq!(fault("1\n"), "1 fields instead of 2");
    assert_eq!(fault("1,2,3\n"), "more than 2 fields");
    assert_eq!(fault("1,\"2\" \n"), "field 2 goes on behind its closing quote");
    assert_eq!(fault("1,\"2\n"), "the quote that opens field 2 is never closed");
}

#[test]
fn columns_have_kinds_where_they_are_asked_for() {
    let kinds = [("s", Kind::String), ("n", Kind::Number), ("b", Kind::Boolean), ("j", Kind::Json)];
    let encoder = RowEncoder::new(kinds, b'\t', Empty::Null);
    let text = "\t-1.50e3\ttrue\t{\"k\": [1]}\nx\t\t\t\n\t\"0\"\t\"false\"\t\"[\"\"a\"\"]\"\n";
    insta::assert_snapshot!(encode(&encoder, text).unwrap(), @r#"
    {"s":null,"n":-1.50e3,"b":true,"j":{"k": [1]}}
    {"s":"x","n":null,"b":null,"j":null}
    {"s":null,"n":0,"b":false,"j":["a"]}
    "#);
    assert_eq!(encode(&encoder, "x\t01\t\t\n").unwrap_err().to_string(), "the value of `n` is no number as JSON writes it");
    assert_eq!(encode(&encoder, "x\t\tyes\t\n").unwrap_err().to_string(), "the value of `b` is no boolean (true or false)");
    assert_eq!(encode(&encoder, "x\t\t\t{\n").unwrap_err().to_string(), "the value of `j` is no JSON");
}

#[test]
fn rows_are_written_so_that_they_are_read_as_they_were() {
    let writer = RowWriter::new(["a", "b,c"], b',');
    let mut out = writer.header();
    for row in [json!({"a": "", "b,c": null}), json!({"a": [1, "x"]}), json!({"a": "say \"hi\"\n", "b,c": 1.5})] {
        writer.write(&RawRow::parse(&row.to_string()).unwrap(), &mut out).unwrap();
    }
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
    a,"b,c"
    "",
    "[1,""x""]",
    "say ""hi""
    ",1.5
    "#);
    let error = writer.write(&RawRow::parse(r#"{"a":1,"d":2}"#).unwrap(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, "the row has a member `d`, which is no column of the output");
}

proptest! {
    #[test]
    fn numbers_are_those_of_json(text in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
        let by_serde = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(is_number(text.as_bytes()), by_serde, "{}", text);
    }

    /// What the `csv` crate writes is read back as it was, in every dialect.
    #[test]
    fn what_another_writer_writes_is_read(
        rows in proptest::collection::vec(("[a\"\\\\,;|:\t\n\r\u{1}é]{0,12}", "[^\u{0}]{0,40}"), 1..6),
        dialect in 0..DELIMITERS.len(), crlf in any::<bool>(),
    ) {
        let delimiter = DELIMITERS[dialect];
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).terminator(terminator).from_writer(Vec::new());
        rows.iter().for_each(|(a, b)| writer.write_record([a, b]).unwrap());
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let lines = encode(&strings(delimiter), &text).unwrap();
        let read: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected: Vec<Value> = rows.iter().map(|(a, b)| json!({ "a": a, "b\"": b })).collect();
        prop_assert_eq!(read, expected);
    }

    /// Whatever comes, the columns of a row are the same whichever way it is taken apart.
    #[test]
    fn both_readers_agree(text in "[ab\",\r]{0,16}") {
        let row = format!("{text}\n");
        let by_fields = fields(row.as_bytes(), b',').ok().filter(|found| found.len() == 2);
        let by_encoder = encode(&strings(b','), &row).ok();
        let shown = by_fields.map(|found| found.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect::<Vec<_>>());
        let values = by_encoder.map(|line| {
            let value: Value = serde_json::from_str(&line).unwrap();
            vec![value["a"].as_str().unwrap().to_owned(), value["b\""].as_str().unwrap().to_owned()]
        });
        prop_assert_eq!(shown, values);
    }

    /// What is written is read by the `csv` crate as it was.
    #[test]
    fn another_reader_reads_what_is_written(values in proptest::collection::vec("[a\",\r\n é]{0,8}", 1..4)) {
        let names: Vec<String> = (0..values.len()).map(|index| format!("c{index}")).collect();
        let writer = RowWriter::new(names.clone(), b',');
        let row: serde_json::Map<String, Value> = names.into_iter().zip(values.iter().map(|value| json!(value))).collect();
        let mut out = Vec::new();
        writer.write(&RawRow::parse(&json!(row).to_string()).unwrap(), &mut out).unwrap();
        let read = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]).records().next().unwrap().unwrap();
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), values);
    }
}
