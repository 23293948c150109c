//! The pipeline file: what is wrong with it is told all at once, with its place; what is not said comes from elsewhere.

use super::{command, folder, ran, run};
use crate::support::program::{Folder, sluicegate};
use insta::assert_snapshot;
use serde_json::Value;

fn check(folder: &Folder, name: &str, text: &str, code: i32) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    ran(sluicegate().current_dir(folder.path()).args(["check", name])).expect(code).text().to_owned()
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let folder = Folder::new();
    let yaml = "
sourc: { type: file, path: in.csv }
source: { type: fil, path: in.csv }
sink:
  type: file
  path: out.data
  compres: gzip
workers: many
chunk: { row: 3, bytes: 12 parsecs }
processors:
  - { type: select }
  - { type: selekt, names: [a] }
  - { names: [a] }
";
    assert_snapshot!(check(&folder, "p.yaml", yaml, 78), @r"
    p.yaml:2:1: sourc: unknown setting `sourc`; did you mean `source`?
    p.yaml:3:11: source.type: unknown type `fil`; did you mean `file`?
    p.yaml:7:3: sink.compres: unknown setting `compres`; did you mean `compress`?
    p.yaml:8:1: workers: `many` is not a number from 1 on
    p.yaml:9:10: chunk.row: unknown setting `row`; did you mean `rows`?
    p.yaml:11:5: processors[0]: `names` is not set: Which. One that a row does not have is left out.
    p.yaml:12:7: processors[1].type: unknown type `selekt`; did you mean `select`?
    p.yaml:13:5: processors[2]: `processors[2]` needs a `type`, one of select, drop, rename
    ");
    let toml = "[source]\ntype = \"file\"\npath = \"in.csv\"\ntypes = { a = \"int\" }\n[sink]\ntype = \"file\"\npath = \"out\"\ncompress = \"lz4\"\n";
    assert_snapshot!(check(&folder, "p.toml", toml, 78), @r"
    p.toml:4:11: source.types.a: unknown variant `int`, expected one of `string`, `number`, `boolean`, `json`
    ");
    let json = "{\"source\": {\"type\": \"file\", \"path\": \"in.jsonl\", \"header\": true},\n \"sink\": {\"type\": \"file\", \"path\": \"out\", \"compress\": \"lz4\"}}";
    assert_snapshot!(check(&folder, "p.json", json, 78), @r#"
    p.json:1:49: source.header: this format has no such setting
    p.json:2:27: sink.path: the name `out` does not tell the format; set `format`: jsonl, csv, tsv or text
    p.json:2:42: sink.compress: `lz4` is no method; there are none, gzip and zstd, each with a level behind a colon if you like
    "#);
    assert_snapshot!(check(&folder, "q.yaml", "source: [", 78), @"q.yaml:2:1: while parsing a node, did not find expected node content");
    let sound = "source: { type: file, path: in.csv }\nsink: { type: file, path: out.jsonl }\n";
    assert_snapshot!(check(&folder, "r.yaml", sound, 0), @"r.yaml: ok");
}

#[test]
fn settings_come_from_flags_then_the_environment_then_the_file() {
    let folder = folder("in.jsonl", "'${OUT:-file.jsonl}'");
    std::fs::write(folder.join("in.jsonl"), "{\"a\":1}\n").unwrap();
    run(&folder, &[]).expect(0);
    ran(command(&folder, &[]).env("OUT", "variable.jsonl")).expect(0);
    ran(command(&folder, &[]).env("OUT", "x.jsonl").env("SLUICEGATE_SINK__PATH", "environment.jsonl").env("SLUICEGATE_WORKERS", "1"))
        .expect(0);
    ran(command(&folder, &["sink.path=flag.jsonl"]).env("SLUICEGATE_SINK__PATH", "y.jsonl")).expect(0);
    let outputs: Vec<String> = folder.names().into_iter().filter(|name| name.ends_with(".jsonl") && name != "in.jsonl").collect();
    assert_eq!(outputs, ["environment.jsonl", "file.jsonl", "flag.jsonl", "variable.jsonl"]);
    let told = ran(command(&folder, &[]).env("SLUICEGATE_SINK__PAHT", "z")).expect(78).stderr;
    assert!(told.contains("sink.paht: unknown setting `paht`; did you mean `path`?"), "{told}");
    let told = run(&folder, &["sink.path"]).expect(78).stderr;
    assert_snapshot!(told, @"error: --set sink.path: write it like sink.path=out.jsonl");
}

#[test]
fn the_schema_admits_what_the_program_does() {
    let schema: Value = serde_json::from_str(ran(sluicegate().args(["schema", "--pipeline"])).expect(0).text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let sound = serde_json::json!({
        "source": { "type": "file", "path": ["a.csv", "b.csv"], "types": { "a": "number" }, "longest_row": "1MiB" },
        "processors": [{ "type": "select", "names": ["a"] }, { "type": "rename", "names": { "a": "b" } }],
        "sink": { "type": "file", "path": "out.jsonl.zst", "compress": "zstd:9", "mode": "644" },
        "chunk": { "rows": 1, "max_age": "1s" }, "workers": 2, "retry": { "give_up_after": "1m" }, "ordered": false,
    });
    assert!(validator.is_valid(&sound), "{:?}", validator.iter_errors(&sound).map(|error| error.to_string()).collect::<Vec<_>>());
    let text = sound.to_string();
    sluicegate::pipeline::Pipeline::parse(&text, sluicegate::pipeline::Syntax::Json).unwrap();
    for (path, wrong) in
        [("/workers", serde_json::json!(0)), ("/chunk/rows", serde_json::json!([])), ("/source/pth", serde_json::json!("x"))]
    {
        let mut value = sound.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = wrong;
        assert!(!validator.is_valid(&value), "{path}");
        assert!(sluicegate::pipeline::Pipeline::parse(&value.to_string(), sluicegate::pipeline::Syntax::Json).is_err(), "{path}");
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder("in.csv", "out.jsonl");
    std::fs::write(folder.join("in.csv"), "a\n1\n2\n").unwrap();
    let told = ran(command(&folder, &[]).arg("--dry-run")).expect(0);
    assert_snapshot!(told.text(), @r"
    in.csv -> out.jsonl
      read: 1 input, 6 B, 1 range
      first chunk: 2 rows; nothing was written
    ");
    assert_eq!(folder.names(), ["in.csv", "pipeline.yaml"]);
}

/// A machine with many processors needs more than the default limit, and may have it; a limit that was set is kept or refused.
#[test]
fn many_workers_get_the_memory_that_they_need() {
    let folder = folder("in.jsonl", "out.jsonl");
    std::fs::write(folder.join("in.jsonl"), "{}\n").unwrap();
    run(&folder, &["workers=64"]).expect(0);
    let told = run(&folder, &["workers=64", "memory_limit=32MiB", "sink.path=other.jsonl"]).expect(78).stderr;
    assert!(told.contains("memory_limit 32.0 MiB is less than the "), "{told}");
}

#[test]
fn parts_can_be_looked_up() {
    let list = ran(sluicegate().args(["list", "processors"])).expect(0);
    assert!(list.text().starts_with("select     Only these members"), "{}", list.text());
    let show = ran(sluicegate().args(["show", "file"])).expect(0);
    assert!(show.text().contains("longest_row") && show.text().contains("sink file:"), "{}", show.text());
    assert_snapshot!(ran(sluicegate().args(["show", "cvs"])).expect(78).stderr, @"error: there is nothing called `cvs`; did you mean `csv`?");
}

#[test]
fn pipelines_have_definitions_of_their_own() {
    let folder = folder("in.jsonl", "out.jsonl");
    std::fs::write(folder.join("in.jsonl"), "{\"a\":1}\n{\n").unwrap();
    std::fs::write(folder.join("direct.json"), sluicegate::definitions::DIRECT).unwrap();
    run(&folder, &["definition=direct.json"]).expect(3);
    let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
    let states: String = journal.query_row("SELECT group_concat(to_state, ' ') FROM transitions", [], |row| row.get(0)).unwrap();
    assert_eq!(states, "received transformed sunk");
    std::fs::write(folder.join("wrong.json"), sluicegate::definitions::DIRECT.replace("\"transform\"", "\"transfrom\"")).unwrap();
    let told = run(&folder, &["definition=wrong.json", "sink.path=other.jsonl"]).expect(78).stderr;
    assert!(told.contains("did you mean `transform`?"), "{told}");
}
