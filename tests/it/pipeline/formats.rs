//! From format to format.

use super::{made, run, sound};
use insta::assert_snapshot;
use std::io::{Read, Write};

const CSV: &str = "id,name,price\r\n1,\"a, \"\"b\"\"\",1.50\r\n2,\"x\ny\",\r\n";

#[test]
fn csv_becomes_json_lines() {
    let (code, out, dead) = made(("in.csv", CSV.as_bytes()), "out.jsonl", &[]);
    assert_eq!((code, dead.len()), (Some(0), 0));
    assert_snapshot!(out, @r#"
    {"id":"1","name":"a, \"b\"","price":"1.50"}
    {"id":"2","name":"x\ny","price":""}
    "#);
    let typed = &["source.types={id: number, price: number}", "source.empty=null"];
    assert_snapshot!(made(("in.csv", CSV.as_bytes()), "out.jsonl", typed).1, @r#"
    {"id":1,"name":"a, \"b\"","price":1.50}
    {"id":2,"name":"x\ny","price":null}
    "#);
    let named = &["source.header=false", "source.columns=[a, b]", "source.delimiter=;"];
    assert_snapshot!(made(("in.csv", b"1;2\n3;\n"), "out.jsonl", named).1, @r#"
    {"a":"1","b":"2"}
    {"a":"3","b":""}
    "#);
    let numbered = made(("in.tsv", b"1\t2\n"), "out.jsonl", &["source.header=false"]).1;
    assert_snapshot!(numbered, @r#"{"c1":"1","c2":"2"}"#);
    let blank = made(("in.tsv", b"a\tb\n\t\n \t \n\r\n"), "out.jsonl", &[]).1;
    assert_eq!(blank, "{\"a\":\"\",\"b\":\"\"}\n{\"a\":\" \",\"b\":\" \"}\n", "tabs are no blanks");
    assert_snapshot!(made(("in.csv", b""), "out.jsonl", &[]).1, @"error: in.csv is empty, not even a header is there; `source.columns` says what it should have");
}

#[test]
fn csv_rows_that_are_none_are_set_aside_with_their_place() {
    let input = "a,b\n1,2\n1\n\n1,2,3\n\"x\"y,2\n\u{ff},2\n3,4\n";
    let bytes: Vec<u8> = input.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect();
    let (code, out, dead) = made(("in.csv", &bytes), "out.jsonl", &[]);
    assert_eq!((code, &*out), (Some(3), "{\"a\":\"1\",\"b\":\"2\"}\n{\"a\":\"3\",\"b\":\"4\"}\n"));
    let told: Vec<String> = dead.into_iter().map(|(reason, row)| format!("{row}: {reason}")).collect();
    assert_snapshot!(told.join("\n"), @r#"
    1: 1 fields instead of 2 (the row at byte 8)
    1,2,3: more than 2 fields (the row at byte 11)
    "x"y,2: field 1 goes on behind its closing quote (the row at byte 17)
    ff2c32: not UTF-8: byte 1 of the row is part of no character (the row at byte 24)
    "#);
}

#[test]
fn json_lines_become_csv() {
    let input = "{\"a\":1,\"b\":\"x,y\"}\n{\"b\":null,\"a\":\"\"}\n{\"a\":[1],\"b\":\"\\\"\\n\"}\n{\"a\":1,\"c\":2}\n[1]\n";
    let (code, out, dead) = made(("in.jsonl", input.as_bytes()), "out.csv", &[]);
    assert_eq!(code, Some(3));
    assert_snapshot!(out, @r#"
    a,b
    1,"x,y"
    "",
    [1],"""
    "
    "#);
    assert_eq!(dead[0].0, "the row has a member `c`, which is no column of the output (the row at byte 57)");
    assert_eq!(dead[1].0, "the row is no JSON object (the row at byte 71)");
    let (code, out, _) =
        made(("in.jsonl", b"{\"a\":1,\"c\":2}\n"), "out.tsv.gz", &["sink.columns=[c, d]", "sink.compress=none", "sink.header=false"]);
    assert_eq!((code, &*out), (Some(0), "2\t\n"));
}

#[test]
fn lines_of_text_become_objects_and_back() {
    let (code, out, _) = made(("in.log", b"a \"b\"\r\n\n\xc3\xa9\\\t\n"), "out.jsonl", &[]);
    assert_eq!((code, &*out), (Some(0), "{\"line\":\"a \\\"b\\\"\"}\n{\"line\":\"\"}\n{\"line\":\"é\\\\\\t\"}\n"));
    let (code, out, _) = made(("in.jsonl", out.as_bytes()), "out.txt", &[]);
    assert_eq!((code, &*out), (Some(0), "a \"b\"\n\né\\\t\n"));
}

#[test]
fn processors_change_what_they_name_and_nothing_else() {
    let input = b"{\"a\": 1.50,\"b\":{\"x\": [1, 2]},\"c\":\"\\u00e9\"}\n{\"c\":1e999}\n";
    let select = &["processors=[{type: select, names: [c, a]}, {type: rename, names: {c: the c}}]"];
    assert_snapshot!(made(("in.jsonl", input), "out.jsonl", select).1, @r#"
    {"the c":"\u00e9","a":1.50}
    {"the c":1e999}
    "#);
    assert_snapshot!(made(("in.jsonl", input), "out.jsonl", &["processors=[{type: drop, names: [a, c]}]"]).1, @r#"
    {"b":{"x": [1, 2]}}
    {}
    "#);
    let both = &["processors=[{type: drop, names: [name]}, {type: rename, names: {id: number}}]"];
    assert_snapshot!(made(("in.csv", CSV.as_bytes()), "out.csv", both).1, @r#"
    number,price
    1,1.50
    2,""
    "#);
}

#[test]
fn compressed_files_are_read_whole_and_written_by_chunks() {
    let text: String = (0..3_000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    let gzip = |part: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    // Members that end in the middle of a row.
    let packed = [gzip(&text[..10_001]), gzip(&text[10_001..])].concat();
    let frames =
        [zstd::encode_all(&text.as_bytes()[..20_003], 1).unwrap(), zstd::encode_all(&text.as_bytes()[20_003..], 1).unwrap()].concat();
    for (name, bytes) in [("in.jsonl.gz", &packed), ("in.jsonl", &packed), ("in.jsonl.zst", &frames)] {
        assert_eq!(made((name, bytes), "out.jsonl", &["chunk.rows=100"]).1, text, "{name}");
    }
    let folder = super::folder("in.jsonl", "out.jsonl.gz");
    std::fs::write(folder.join("in.jsonl"), &text).unwrap();
    run(&folder, &["chunk.rows=100"]).expect(0);
    sound(&folder, "out.jsonl.gz.journal");
    let (mut unpacked, written) = (String::new(), std::fs::read(folder.join("out.jsonl.gz")).unwrap());
    flate2::read::MultiGzDecoder::new(&written[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
}

#[test]
fn several_files_are_read_one_behind_the_other() {
    let folder = super::folder("a.csv", "out.jsonl");
    std::fs::write(folder.join("a.csv"), "x,y\n1,2").unwrap();
    std::fs::write(folder.join("b.csv"), "x,y\n3,4\n").unwrap();
    std::fs::write(folder.join("c.csv"), "y,x\n3,4\n").unwrap();
    run(&folder, &["source.path=[a.csv, b.csv]"]).expect(0);
    assert_eq!(folder.read("out.jsonl"), "{\"x\":\"1\",\"y\":\"2\"}\n{\"x\":\"3\",\"y\":\"4\"}\n");
    let refused = run(&folder, &["source.path=[a.csv, c.csv]", "sink.path=other.jsonl"]).expect(78);
    assert_snapshot!(refused.stderr, @"error: c.csv has another header than a.csv");
}

/// Ranges begin and end in the middle of rows, and rows may be longer than a range.
#[test]
fn ranges_change_nothing() {
    let mut text = String::new();
    for id in 0..60_000_u32 {
        let length = if id % 20_011 == 7 { 3 << 20 } else { (id.wrapping_mul(2_654_435_761) >> 24) as usize };
        text.push_str(&format!("{{\"id\":{id},\"pad\":\"{}\"}}\n", "x".repeat(length)));
    }
    let expected = text.clone();
    let (code, out, dead) = made(("in.jsonl", text.as_bytes()), "out.jsonl", &["source.readers=3", "workers=2"]);
    assert_eq!((code, dead.len()), (Some(0), 0));
    assert!(out == expected, "{} bytes instead of {}", out.len(), expected.len());
}
