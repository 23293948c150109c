//! Input that is not what it should be: a clear error, or a dead letter with its place; nothing lost, nothing unbounded.

use super::{command, dead, folder, made, ran, run};
use crate::support::program::sluicegate;
use insta::assert_snapshot;
use std::io::Write;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_came_before_a_cut_in_compressed_data_is_kept() {
    let text: String = (0..20_000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    let folder = folder("in.jsonl.gz", "out.jsonl");
    let packed = gzip(&text);
    std::fs::write(folder.join("in.jsonl.gz"), &packed[..packed.len() / 2]).unwrap();
    let ended = run(&folder, &["chunk.bytes=16KiB", "sink.buffered=true"]).expect(74);
    assert!(ended.stderr.contains("in.jsonl.gz: the gzip data is cut off, "), "{}", ended.stderr);
    let kept = folder.read("out.jsonl.partial");
    assert!(kept.len() > 50_000 && text.starts_with(&kept) && kept.ends_with('\n'), "{} bytes", kept.len());
    let mut damaged = packed.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    std::fs::write(folder.join("in.jsonl.gz"), damaged).unwrap();
    let ended = ran(command(&folder, &[]).arg("--fresh")).expect(74);
    assert!(ended.stderr.contains("in.jsonl.gz: the gzip data is damaged, behind "), "{}", ended.stderr);
}

#[test]
fn data_of_another_kind_than_its_name_is_refused() {
    let (_, told, _) = made(("in.jsonl.gz", b"{\"a\":1}\n"), "out.jsonl", &[]);
    assert_snapshot!(told, @"error: in.jsonl.gz should be gzip, but begins with the bytes 7b226122");
    let (_, told, _) = made(("in.jsonl", b"\xff\xfe{\x00}\x00"), "out.jsonl", &[]);
    assert_snapshot!(told, @"error: in.jsonl is UTF-16, and only UTF-8 is read; `iconv -f UTF-16 -t UTF-8` makes it so");
    let (_, told, _) = made(("in.csv", b"a,b,a\n1,2,3\n"), "out.jsonl", &[]);
    assert_snapshot!(told, @"error: two columns of in.csv are called `a`; `source.columns` gives them names");
    let (_, told, _) = made(("in.csv", b"a,b\n1,2\n"), "out.jsonl", &["source.types={aa: number}"]);
    assert_snapshot!(told, @"error: source.types: in.csv has no column `aa`; did you mean `a`?");
}

/// In the dead letter a row is as it came, whoever refused it; and a replay, which knows rows of an export only, says so.
#[test]
fn rows_that_are_set_aside_are_as_they_came_and_cannot_be_replayed() {
    let folder = folder("in.csv", "out.txt");
    std::fs::write(folder.join("in.csv"), "id,line\n1,one\n2,\"a\nb\"\n3\n").unwrap();
    run(&folder, &[]).expect(3);
    let records: Vec<serde_json::Value> =
        folder.read("out.txt.dead.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: Vec<_> = records.iter().map(|record| (record["form"].as_str().unwrap(), record["raw"].as_str().unwrap())).collect();
    assert_eq!(known, [("csv", "2,\"a\nb\""), ("csv", "3")]);
    assert_eq!(folder.read("out.txt"), "one\n");
    let dlq = |words: &[&str]| ran(sluicegate().current_dir(folder.path()).args(["dlq"]).args(words));
    assert!(dlq(&["list", "out.txt.dead.jsonl"]).expect(0).text().contains("1 fields instead of 2"));
    let refused = dlq(&["replay", "out.txt.dead.jsonl", "--all", "--to", "again.jsonl"]).expect(78);
    assert_snapshot!(refused.stderr, @"
    error: out.txt.journal is the journal of a pipeline, and only rows of an export can be replayed
    Put what is to be mended into a file, and run the pipeline on that.
    ");
}

#[test]
fn a_line_without_end_is_passed_over_in_bounded_memory() {
    let folder = folder("in.jsonl", "out.jsonl");
    let mut file = std::fs::File::create(folder.join("in.jsonl")).unwrap();
    file.write_all(b"{\"a\":1}\n[").unwrap();
    // A hole: zeros that take no room on the disk.
    file.set_len(256 << 20).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"\n{\"a\":2}\n").unwrap();
    let ended = ran(command(&folder, &["source.readers=1"]).args(["--report", "json"])).expect(3);
    assert_eq!(folder.read("out.jsonl"), "{\"a\":1}\n{\"a\":2}\n");
    let dead = dead(&folder, "out.jsonl");
    assert_eq!(dead.len(), 1);
    assert!(dead[0].0.starts_with("the line at byte 8 of in.jsonl is longer than 16777216 bytes; this is its beginning"), "{}", dead[0].0);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let peak = report[0]["run"]["metrics"]["memory"]["peak_resident_bytes"].as_u64().unwrap();
    assert!(peak < 128 << 20, "{peak} bytes resident");
}

#[test]
fn a_quote_that_is_never_closed_swallows_no_more_than_a_row_may_have() {
    let (code, out, dead) = made(("in.csv", b"a,b\n1,2\n3,\"4\n5,6\n"), "out.jsonl", &[]);
    assert_eq!((code, &*out), (Some(3), "{\"a\":\"1\",\"b\":\"2\"}\n"));
    assert_eq!(dead, [("a quote is never closed, the input ends before (the row at byte 8)".to_owned(), "3,\"4\n5,6\n".to_owned())]);
    let long = format!("a,b\n1,2\n3,\"{}", "4\n".repeat(400_000));
    let (code, told, _) = made(("in.csv", long.as_bytes()), "out.jsonl", &["source.longest_row=300KiB"]);
    assert_eq!(code, Some(78));
    assert_snapshot!(told, @"error: the row at byte 8 of in.csv is longer than 307200 bytes: a quote may never be closed there. `longest_row` allows more");
}

#[test]
fn odd_bytes_are_taken_as_they_are_or_set_aside() {
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let input = format!("\u{feff}{{\"a\":1}}\r\n{deep}\n\n{{\"a\":\"\0\"}}\n{{\"a\":\"\u{feff}\"}}\n \r\n\"x\"");
    let (code, out, dead) = made(("in.jsonl", input.as_bytes()), "out.jsonl", &[]);
    assert_eq!(code, Some(3));
    assert_eq!(out, format!("{{\"a\":1}}\r\n{deep}\n{{\"a\":\"\u{feff}\"}}\n\"x\"\n"));
    assert_eq!(dead.len(), 1);
    assert!(dead[0].0.contains("control character"), "{}", dead[0].0);
    // Taken apart, it may be no deeper than 128.
    let deep = format!("{{\"a\":{deep},\"b\":1}}\n{{\"b\":2}}\n");
    let (code, out, _) = made(("in.jsonl", deep.as_bytes()), "out.jsonl", &["processors=[{type: select, names: [b]}]"]);
    assert_eq!((code, &*out), (Some(0), "{\"b\":1}\n{\"b\":2}\n"), "what is not asked for is not taken apart");
    let (code, out, _) = made(("in.csv", b"\xef\xbb\xbfa,b\n1,\0\n"), "out.jsonl", &[]);
    assert_eq!((code, &*out), (Some(0), "{\"a\":\"1\",\"b\":\"\\u0000\"}\n"));
}

#[test]
fn empty_input_is_an_empty_output() {
    for (from, text, expected) in [("in.jsonl", "", ""), ("in.csv", "a,b\n", ""), ("in.csv", "a,b", ""), ("in.jsonl", "\n\n", "")] {
        assert_eq!(made((from, text.as_bytes()), "out.jsonl", &[]).1, expected, "{from} {text:?}");
    }
    assert_eq!(made(("in.csv", b"a,b\n"), "out.csv", &[]).1, "a,b\n", "the header is there all the same");
}

#[test]
fn an_output_onto_an_input_is_refused() {
    let folder = folder("in.jsonl", "in.jsonl");
    std::fs::write(folder.join("in.jsonl"), "{}\n").unwrap();
    assert_snapshot!(run(&folder, &[]).expect(78).stderr, @r"
    pipeline.yaml:2:21: sink.path: in.jsonl is an input, and would be replaced by the output
    error: pipeline.yaml cannot be run; `sluicegate check pipeline.yaml` shows the same
    ");
    std::os::unix::fs::symlink("in.jsonl", folder.join("link.jsonl")).unwrap();
    let told = run(&folder, &["sink.path=link.jsonl"]).expect(78).stderr;
    assert!(told.contains("link.jsonl is an input"), "{told}");
    for setting in ["journal=in.jsonl", "dead_letter=in.jsonl", "dead_letter=out.jsonl", "journal=out.jsonl.partial"] {
        let told = run(&folder, &["sink.path=out.jsonl", setting]).expect(78).stderr;
        assert!(told.contains("cannot be the "), "{told}");
    }
    assert_eq!(folder.read("in.jsonl"), "{}\n");
    assert_eq!(folder.names(), ["in.jsonl", "link.jsonl", "pipeline.yaml"]);
}
