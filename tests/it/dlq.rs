//! `sluicegate dlq`: rows that were set aside, by the real program.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, row_to_json, run};
use insta::assert_snapshot;
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// A database without an encoding, so that it can hold rows that are no text.
fn without_encoding() -> Database<'static> {
    Cluster::shared().fresh_database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
}

/// Text that has the byte `i` in it, and everything that COPY escapes.
const NOTE: &str = r"set_byte('\x783f095c0a22'::bytea, 1, i)";

/// An export in which rows with the bytes 128 to 255 were set aside: records 1 to 128.
fn set_aside() -> (Database<'static>, Folder) {
    let (database, folder) = (without_encoding(), Folder::new());
    database.psql(&format!(
        "CREATE TABLE t AS SELECT i AS id, convert_from({NOTE}, 'SQL_ASCII') AS note, ARRAY[i, NULL] AS list FROM generate_series(1, 255) i"
    ));
    ran(&mut export(&database, &format!("--table t --quiet --chunk-rows 40 --to {}", folder.text("out.jsonl")))).expect(3);
    (database, folder)
}

fn dlq(folder: &Folder, words: &str) -> Ran {
    let words = words.replace("FILE", &folder.text("out.jsonl.dead.jsonl")).replace("DIR", folder.path().to_str().unwrap());
    run(["dlq"].into_iter().chain(words.split_whitespace()))
}

/// An error, as a person reads it.
fn refused(ran: Ran, code: i32, folder: &Folder) -> String {
    let ran = ran.expect(code);
    ran.stderr.replace(folder.path().to_str().unwrap(), "[dir]")
}

fn items(ran: Ran) -> Vec<Value> {
    ran.expect(0).text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn ids(items: &[Value]) -> Vec<u64> {
    items.iter().map(|item| item["id"].as_u64().expect("an id")).collect()
}

/// What a server that knows the encoding makes of the same bytes, from `first` to 255.
fn in_encoding(encoding: &str, first: u32) -> String {
    let database = Cluster::shared().fresh_database();
    let rows =
        format!("SELECT i AS id, convert_from({NOTE}, '{encoding}') AS note, ARRAY[i, NULL] AS list FROM generate_series({first}, 255) i");
    row_to_json(&database, &format!("({rows})"))
}

#[test]
fn rows_in_another_encoding_are_replayed_as_the_server_would_convert_them() {
    let (_database, folder) = set_aside();
    let journal = folder.text("out.jsonl.journal");
    // As many times as one likes: each from a copy of the file as it was.
    for (encoding, first) in
        [("LATIN1", 128), ("LATIN2", 160), ("LATIN5", 128), ("LATIN9", 160), ("WIN1251", 160), ("KOI8R", 128), ("ISO_8859_5", 160)]
    {
        let copy = folder.text(&format!("{encoding}.dead.jsonl"));
        std::fs::copy(folder.join("out.jsonl.dead.jsonl"), &copy).unwrap();
        let records = format!("{}-128", first - 127);
        let words = format!("replay {copy} {records} --journal {journal} --encoding {encoding} --to DIR/{encoding}.jsonl --quiet");
        let replay = dlq(&folder, &words).expect(0);
        assert_eq!((replay.stderr.as_str(), replay.text()), ("", ""), "{encoding}");
        assert_eq!(folder.read(&format!("{encoding}.jsonl")), in_encoding(encoding, first), "{encoding}");
        run(["verify", &folder.text(&format!("{encoding}.jsonl.journal"))]).expect(0);
        assert!(run(["inspect", &folder.text(&format!("{encoding}.jsonl.journal")), "audit"]).expect(0).text().contains("sound"));
        let marked = items(run(["dlq", "list", &copy, "--replayed", "--format", "jsonl"]));
        assert_eq!(ids(&marked), (u64::from(first - 127)..=128).collect::<Vec<_>>(), "{encoding}");
        assert_eq!(marked[0]["replayed"]["to"], folder.text(&format!("{encoding}.jsonl")));
    }
}

#[test]
fn what_fails_again_stays_pending_and_what_got_through_is_done() {
    let (database, folder) = set_aside();
    let again = dlq(&folder, "replay FILE 1-3 --to DIR/again.jsonl").expect(3);
    assert_snapshot!(again.stderr.replace(folder.path().to_str().unwrap(), "[dir]"), @r"
    Rows that are not UTF-8 can only get through with --encoding NAME, which says what they are in.
    [dir]/out.jsonl.dead.jsonl -> [dir]/again.jsonl: 3 read = 0 written + 0 filtered + 3 dead-lettered + 0 cancelled
      0 records marked as replayed, 3 failed again
      those that failed again stay pending; why: [dir]/again.jsonl.dead.jsonl
    ");
    assert_eq!(items(dlq(&folder, "list FILE --pending --format jsonl")).len(), 128);
    // What failed again is a dead letter like any other, and can be replayed from there.
    dlq(&folder, "replay DIR/again.jsonl.dead.jsonl --all --encoding latin1 --to DIR/second.jsonl --quiet").expect(0);
    assert_eq!(folder.read("second.jsonl").lines().count(), 3);
    // Bytes that EUC_JP does not have; and the original bytes are what is set aside.
    dlq(&folder, "replay FILE 1 --encoding EUC_JP --to DIR/euc.jsonl --quiet").expect(3);
    let records = items(dlq(&folder, "show DIR/euc.jsonl.dead.jsonl 1 --format jsonl"));
    assert_snapshot!(records[0]["reason"].as_str().unwrap(), @"not UTF-8: byte 6 of the row is part of no character; and field 2 is not text in EUC_JP");
    assert_eq!(records[0]["raw_hex"], items(dlq(&folder, "show FILE 1 --format jsonl"))[0]["raw_hex"]);
    // In parts, by what is wrong, and the rest; nothing twice.
    dlq(&folder, "replay FILE 5,7-9 --encoding latin1 --to DIR/some.jsonl --quiet").expect(0);
    dlq(&folder, "replay FILE --chunk 0.4 --encoding latin1 --to DIR/chunk.jsonl --quiet").expect(0);
    dlq(&folder, "replay FILE --reason UTF-8 --encoding latin1 --to DIR/rest.jsonl --quiet").expect(0);
    let mut lines: Vec<String> = ["some.jsonl", "chunk.jsonl", "rest.jsonl"]
        .iter()
        .flat_map(|name| folder.read(name).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.sort_by_key(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64());
    assert_eq!(lines.join("\n") + "\n", in_encoding("LATIN1", 128));
    let done = dlq(&folder, "replay FILE --all --encoding latin1 --to DIR/none.jsonl").expect(0);
    assert_eq!(refused(done, 0, &folder), "[dir]/out.jsonl.dead.jsonl: 0 pending, 128 replayed already: nothing to do\n");
    assert!(!folder.join("none.jsonl").exists());
    // The export knows nothing of it, and is as complete as it was.
    let complete = ran(&mut export(&database, &format!("--table t --chunk-rows 40 --to {}", folder.text("out.jsonl")))).expect(3);
    assert!(complete.stderr.contains("already complete"), "{}", complete.stderr);
    dlq(&folder, "drop FILE --all --yes").expect(0);
    run(["verify", &folder.text("out.jsonl.journal")]).expect(0);
    run(["inspect", &folder.text("out.jsonl.journal"), "audit"]).expect(0);
    let complete = ran(&mut export(&database, &format!("--table t --chunk-rows 40 --to {}", folder.text("out.jsonl")))).expect(3);
    assert!(complete.stderr.contains("already complete"), "{}", complete.stderr);
}

/// Lines of a table, without what differs from run to run.
fn without_times(text: &str) -> String {
    let word =
        |word: &str| if word.len() == 27 && word.ends_with('Z') && word.starts_with("20") { "[time]".to_owned() } else { word.to_owned() };
    text.split(' ')
        .map(|part| word(part.trim_end_matches('\n')) + if part.ends_with('\n') { "\n" } else { "" })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn records_are_listed_counted_and_shown() {
    let (_database, folder) = set_aside();
    let list = dlq(&folder, "list FILE --chunk 0.6").expect(0);
    let head: Vec<&str> = list.text().lines().take(2).collect();
    assert_snapshot!(head[0], @"id   time                         chunk  row  status   reason                                                content");
    let row = "0.6      0  pending  not UTF-8: byte 6 of the row is part of no character  241\\tx\\xf1\\t\\\\\\n\"\\t{241,NULL}";
    assert!(head[1].starts_with("114  20") && head[1].ends_with(row), "{}", head[1]);
    assert_snapshot!(dlq(&folder, "list FILE --summary").expect(0).text(), @r"
    records  pending  first  reason
        128      128      1  not UTF-8: byte N of the row is part of no character
    128 records, 128 pending, 0 replayed
    ");
    let summary: Value = serde_json::from_str(dlq(&folder, "list FILE --summary --format json --reason nothing").expect(0).text()).unwrap();
    assert_eq!(summary, serde_json::json!({ "records": 0, "pending": 0, "replayed": 0, "reasons": [] }));
    let all: Value = serde_json::from_str(dlq(&folder, "list FILE --format json").expect(0).text()).unwrap();
    assert_eq!(ids(all.as_array().unwrap()), (1..=128).collect::<Vec<_>>());
    let item = all[40].as_object().unwrap();
    assert_eq!(item.keys().collect::<Vec<_>>(), ["id", "time", "chunk", "row", "origin", "status", "reason", "preview"]);
    assert_eq!((&item["chunk"], &item["row"], &item["status"]), (&"0.4".into(), &7.into(), &"pending".into()));

    assert_snapshot!(without_times(dlq(&folder, "show FILE 106").expect(0).text()), @r#"
    record 106, [time]
      reason   not UTF-8: byte 6 of the row is part of no character
      from     t pages 0-end, chunk 0.5, row 32
      status   pending
        id    233
        note  x\xe9\t\\n"
        list  {233,NULL}
    "#);
    assert!(dlq(&folder, "show FILE 106 --encoding latin1").expect(0).text().contains("    note  xé"));
    let shown: Value = serde_json::from_str(dlq(&folder, "show FILE 106 --encoding latin1 --format json").expect(0).text()).unwrap();
    assert_eq!(shown[0]["columns"], serde_json::json!({ "id": "233", "note": "xé\t\\\n\"", "list": "{233,NULL}" }));
    // Byte for byte, as COPY gave it.
    assert_eq!(dlq(&folder, "show FILE 106 --raw").expect(0).stdout, b"233\tx\xe9\\t\\\\\\n\"\t{233,NULL}\n");
    assert_snapshot!(refused(dlq(&folder, "show FILE 300 1"), 78, &folder), @"error: [dir]/out.jsonl.dead.jsonl has no record 300; it has 1-128");

    // Without its journal it can be looked at, and not replayed.
    std::fs::rename(folder.join("out.jsonl.journal"), folder.join("elsewhere")).unwrap();
    assert_eq!(items(dlq(&folder, "list FILE --format jsonl")).len(), 128);
    assert_snapshot!(dlq(&folder, "show FILE 106").expect(0).text(), @r#"
    record 106
      reason   not UTF-8: byte 6 of the row is part of no character
      from     t pages 0-end, chunk 0.5, row 32
      status   pending
      copy     233\tx\xe9\t\\\n"\t{233,NULL}
    "#);
    assert_snapshot!(refused(dlq(&folder, "replay FILE --all --to DIR/x.jsonl"), 78, &folder), @r"
    error: [dir]/out.jsonl.journal is not there: a replay needs the journal of the run that set the rows aside, which says what their columns are and by which definition they lived
    Say where it is: --journal PATH.
    ");
    dlq(&folder, "replay FILE --all --encoding latin1 --to DIR/x.jsonl --journal DIR/elsewhere --quiet").expect(0);
}

#[test]
fn what_is_dropped_is_what_was_named() {
    let (_database, folder) = set_aside();
    std::fs::set_permissions(folder.join("out.jsonl.dead.jsonl"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let whole = folder.read("out.jsonl.dead.jsonl");
    let usage = dlq(&folder, "drop FILE").expect(2);
    assert!(usage.stderr.contains("<ID|--all|--reason <TEXT>|--chunk <ID>|--pending|--replayed>"), "{}", usage.stderr);
    assert_snapshot!(refused(dlq(&folder, "drop FILE --all"), 78, &folder), @r"
    error: this would drop 128 of 128 records: 1-128
    Nothing was changed. Say --yes if that is meant.
    ");
    assert_snapshot!(refused(dlq(&folder, "drop FILE 1 129"), 78, &folder), @"error: [dir]/out.jsonl.dead.jsonl has no record 129; it has 1-128");
    assert_eq!(folder.read("out.jsonl.dead.jsonl"), whole);
    assert_eq!(dlq(&folder, "drop FILE 2,4-6").expect(0).text(), "dropped 4 of 128 records: 2,4-6\n");
    let dropped = dlq(&folder, "drop FILE --chunk 0.4 --yes --to DIR/archive.jsonl").expect(0);
    assert_snapshot!(dropped.text().replace(folder.path().to_str().unwrap(), "[dir]"), @"dropped 40 of 124 records: 34-73; they are in [dir]/archive.jsonl");
    // The others are what they were, byte for byte, and those that are gone are in the archive.
    let is_kept = |id: &u64| ![2, 4, 5, 6].contains(id) && !(34..=73).contains(id);
    let kept: String = (1..).zip(whole.split_inclusive('\n')).filter(|(id, _)| is_kept(id)).map(|(_, line)| line).collect();
    assert_eq!(folder.read("out.jsonl.dead.jsonl"), kept);
    let archived: String = (1..).zip(whole.split_inclusive('\n')).filter(|(id, _)| (34..=73).contains(id)).map(|(_, line)| line).collect();
    assert_eq!(folder.read("archive.jsonl"), archived);
    for name in ["out.jsonl.dead.jsonl", "archive.jsonl"] {
        assert_eq!(std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777, 0o640, "{name}");
    }
    assert_snapshot!(refused(dlq(&folder, "drop FILE 1 --to DIR/archive.jsonl"), 78, &folder), @"error: [dir]/archive.jsonl exists; give another output, or --force to replace it");
    assert_eq!(dlq(&folder, "drop FILE --replayed --yes").expect(0).text(), "nothing to drop: no record is meant\n");
    assert_eq!(folder.names(), ["archive.jsonl", "out.jsonl", "out.jsonl.dead.jsonl", "out.jsonl.journal"]);
}

#[test]
fn files_that_are_not_what_they_should_be_are_left_alone() {
    let (_database, folder) = set_aside();
    let dead = folder.join("out.jsonl.dead.jsonl");
    let whole = folder.read("out.jsonl.dead.jsonl");
    let mut told = String::new();
    let mut tell = |what: &str, content: &str, words: &str| {
        std::fs::write(&dead, content).unwrap();
        let refused = refused(dlq(&folder, words), 78, &folder);
        let _ = writeln!(told, "{what}: {refused}");
        assert_eq!(std::fs::read_to_string(&dead).unwrap(), content, "{what}");
    };
    tell("cut off", &whole[..whole.len() - 10], "list FILE --summary");
    tell("foreign", "{\"id\":1}\n", "list FILE");
    tell("no JSON", "id,name\n1,x\n", "drop FILE --all --yes");
    tell("put together", &format!("{whole}{whole}"), "list FILE --summary");
    let first = whole.lines().next().unwrap();
    tell("changed", &format!("{}\n", first.replace("0.3", "7.7")), "replay FILE --all --to DIR/x.jsonl");
    tell("two rows in one", &format!("{}\n", first.replace("\"raw_hex\":\"", "\"raw_hex\":\"310a")), "replay FILE --all --to DIR/x.jsonl");
    tell("cut in an escape", &format!("{}\n", first.replace("7d\"}", "5c\"}")), "replay FILE --all --to DIR/x.jsonl");
    tell("unknown form", &format!("{}\n", first.replace("\"copy\"", "\"csv\"")), "replay FILE --all --to DIR/x.jsonl");
    assert_snapshot!(told, @r"
    cut off: error: [dir]/out.jsonl.dead.jsonl: line 128 is cut off: the file is not whole

    foreign: error: [dir]/out.jsonl.dead.jsonl: line 1 is no record of a dead letter: missing field `reason`, at its byte 8

    no JSON: error: [dir]/out.jsonl.dead.jsonl: line 1 is no record of a dead letter: expected value, at its byte 1

    put together: error: [dir]/out.jsonl.dead.jsonl: line 129 has the id 1, behind 128: the file was put together from others

    changed: error: [dir]/out.jsonl.dead.jsonl: record 1 is of chunk 7.7 from t pages 0-end, which [dir]/out.jsonl.journal does not know
    Give the journal of the run that set these rows aside: --journal PATH.

    two rows in one: error: [dir]/out.jsonl.dead.jsonl: record 1 cannot be replayed: its row has a line break in it, which no such row has

    cut in an escape: error: [dir]/out.jsonl.dead.jsonl: record 1 cannot be replayed: its row ends in the middle of an escape

    unknown form: error: [dir]/out.jsonl.dead.jsonl: record 1 cannot be replayed: its row is of the form `csv`, which no replay knows
    ");
}

#[test]
fn what_must_not_be_touched_is_refused() {
    let (_database, folder) = set_aside();
    let dead = folder.join("out.jsonl.dead.jsonl");
    let whole = folder.read("out.jsonl.dead.jsonl");
    let mut told = String::new();
    let mut tell = |what: &str, content: &str, words: &str| {
        std::fs::write(&dead, content).unwrap();
        let refused = refused(dlq(&folder, words), 78, &folder);
        let _ = writeln!(told, "{what}: {refused}");
        assert_eq!(std::fs::read_to_string(&dead).unwrap(), content, "{what}");
    };
    tell("output there", &whole, "replay FILE --all --to DIR/out.jsonl");
    tell("no file", &whole, "replay FILE --all --to -");
    tell("no such definition", &whole, "replay FILE --all --to DIR/x.jsonl --definition DIR/none.json");
    std::os::unix::fs::symlink(&dead, folder.join("link.dead.jsonl")).unwrap();
    tell("link", &whole, "drop DIR/link.dead.jsonl 1 --journal DIR/out.jsonl.journal");
    std::fs::rename(folder.join("link.dead.jsonl"), folder.join("out.jsonl.dead.jsonl.partial")).unwrap();
    tell("partial", &whole, "drop FILE 1");
    std::fs::remove_file(folder.join("out.jsonl.dead.jsonl.partial")).unwrap();
    std::fs::write(folder.join("out.jsonl.dead.jsonl.replay"), "x").unwrap();
    tell("foreign intent", &whole, "drop FILE 1");
    std::fs::remove_file(folder.join("out.jsonl.dead.jsonl.replay")).unwrap();
    tell("missing", &whole, "list DIR/none.dead.jsonl");
    rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap().execute("UPDATE runs SET phase = 'running'", []).unwrap();
    tell("unfinished", &whole, "replay FILE --all --to DIR/x.jsonl");
    assert_snapshot!(told, @r"
    output there: error: [dir]/out.jsonl exists; give another --to

    no file: error: --to - is no file: which rows got through has to be known when they are marked

    no such definition: error: [dir]/none.json cannot be read
      because: No such file or directory (os error 2)

    link: error: [dir]/link.dead.jsonl is a symbolic link, which is not followed; name the file itself

    partial: error: [dir]/out.jsonl.dead.jsonl.partial is of a run that is not complete
    Run the same export again first: it goes on, and cuts the dead letter to what is certain.

    foreign intent: error: [dir]/out.jsonl.dead.jsonl.replay does not say what is being replayed, which it is for
      because: expected value at line 1 column 1

    missing: error: [dir]/none.dead.jsonl cannot be opened
      because: No such file or directory (os error 2)

    unfinished: error: [dir]/out.jsonl.dead.jsonl is of a run that is not complete (running, by [dir]/out.jsonl.journal)
    Run the same export again first: it goes on, and cuts the dead letter to what is certain.
    ");
    assert_eq!(folder.names(), ["out.jsonl", "out.jsonl.dead.jsonl", "out.jsonl.journal"]);
}

#[test]
fn a_dead_letter_is_changed_by_one_process_at_a_time() {
    let (_database, folder) = set_aside();
    let held = std::fs::File::open(folder.join("out.jsonl.dead.jsonl")).unwrap();
    held.try_lock().unwrap();
    for words in ["drop FILE 1", "replay FILE 1 --to DIR/x.jsonl"] {
        let busy = refused(dlq(&folder, words), 75, &folder);
        assert_eq!(busy, format!("error: [dir]/out.jsonl.dead.jsonl is being written by process {}\n", std::process::id()));
    }
    assert_eq!(items(dlq(&folder, "list FILE --format jsonl")).len(), 128, "looking needs no claim");
    drop(held);
    dlq(&folder, "drop FILE 1").expect(0);
}

/// Whole chunks whose machine ends in the dead letter: rows as they came, and rows that were encoded already.
#[test]
fn whole_chunks_are_replayed_too() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, E'\"x\\\\ \t' || i AS name, now() AS at FROM generate_series(1, 1000) i");
    let given_up = |before: &str| {
        format!(
            r#"{{ "id": "m", "initial": "a", "states": {{ {before}
            "b": {{ "invoke": {{ "src": "deadLetter", "onDone": "f", "onError": "f" }}, "on": {{ "GO": "c" }} }},
            "c": {{ "invoke": {{ "src": "transform", "onDone": "d", "onError": "f" }} }},
            "d": {{ "invoke": {{ "src": "sink", "onDone": "e", "onError": "f" }} }},
            "e": {{ "type": "final" }}, "f": {{ "type": "final", "tags": ["error"] }} }} }}"#
        )
    };
    let as_read = r#""a": { "invoke": { "src": "validate", "onDone": "b", "onError": "b" } },"#;
    let encoded = r#""a": { "invoke": { "src": "transform", "onDone": "b", "onError": "b" } },"#;
    for (before, form, extension) in [(as_read, "copy", "jsonl"), (encoded, "json", "jsonl.zst")] {
        let folder = Folder::new();
        std::fs::write(folder.join("m.json"), given_up(before)).unwrap();
        let words = format!("--table t --quiet --chunk-rows 300 --to {} --definition {}", folder.text("out.jsonl"), folder.text("m.json"));
        ran(&mut export(&database, &words)).expect(3);
        let records = items(dlq(&folder, "show FILE 1-1000 --format jsonl"));
        assert_eq!((records.len(), &records[999]["form"], &records[999]["id"]), (1000, &form.into(), &1000.into()));
        // By the same machine they end where they did.
        dlq(&folder, "replay FILE --all --to DIR/again.jsonl --quiet").expect(3);
        assert_eq!(items(dlq(&folder, "list FILE --pending --format jsonl")).len(), 1000);
        let words = format!(
            "replay FILE --all --to DIR/new.{extension} --definition {}/fsm-definitions/chunk.json --quiet",
            env!("CARGO_MANIFEST_DIR")
        );
        dlq(&folder, &words).expect(0);
        let bytes = std::fs::read(folder.join(&format!("new.{extension}"))).unwrap();
        let lines = if extension == "jsonl" { bytes } else { zstd::decode_all(bytes.as_slice()).unwrap() };
        assert!(String::from_utf8(lines).unwrap() == row_to_json(&database, "t"), "{form}");
        run(["verify", &folder.text(&format!("new.{extension}.journal"))]).expect(0);
    }
}

/// The most memory that the program had, in MiB.
fn peak(words: &[&str]) -> u64 {
    let mut child = crate::support::program::sluicegate().args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // It cannot end before its output is read: its peak can be asked for just before the last of it is.
    let (mut peak, mut page) = (0, vec![0; 1 << 20]);
    while std::io::Read::read(&mut stdout, &mut page).unwrap() > 0 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(kibibytes >> 10);
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn a_large_dead_letter_is_never_in_memory() {
    let (_database, folder) = set_aside();
    let template = folder.read("out.jsonl.dead.jsonl").lines().next().unwrap().replace("\"id\":1,", "\"id\":ID,");
    let template = template.replace("\"errors\":[]", &format!("\"errors\":[\"{}\"]", "x".repeat(1500)));
    let records: String = (1..=40_000).map(|id| template.replace("ID", &id.to_string()) + "\n").collect();
    assert!(records.len() > 55 << 20);
    std::fs::write(folder.join("out.jsonl.dead.jsonl"), records).unwrap();
    let file = folder.text("out.jsonl.dead.jsonl");
    for words in [
        vec!["dlq", "list", &file],
        vec!["dlq", "list", &file, "--format", "json"],
        vec!["dlq", "show", &file, "1-40000", "--format", "jsonl"],
    ] {
        let peak = peak(&words);
        assert!((1..30).contains(&peak), "{words:?}: {peak} MiB");
    }
    dlq(&folder, "replay FILE --all --encoding latin1 --to DIR/x.jsonl --quiet").expect(0);
    assert_eq!(folder.read("x.jsonl").lines().count(), 40_000);
    assert_eq!(dlq(&folder, "drop FILE --replayed --yes").expect(0).text(), "dropped 40,000 of 40,000 records: 1-40000\n");
}

/// A chunk of many short rows is many times larger as records. It is written record by record.
#[test]
fn a_chunk_that_is_given_up_is_no_larger_in_memory_than_before() {
    let (database, folder) = (Cluster::shared().fresh_database(), Folder::new());
    database.psql("CREATE TABLE t AS SELECT 1::smallint AS id FROM generate_series(1, 300000) i");
    let definition = r#"{ "id": "m", "initial": "a", "states": {
        "a": { "invoke": { "src": "validate", "onDone": "b", "onError": "b" } },
        "b": { "invoke": { "src": "deadLetter", "onDone": "f", "onError": "f" }, "on": { "GO": "c" } },
        "c": { "invoke": { "src": "transform", "onDone": "d", "onError": "f" } },
        "d": { "invoke": { "src": "sink", "onDone": "e", "onError": "f" } },
        "e": { "type": "final" }, "f": { "type": "final", "tags": ["error"] } } }"#;
    std::fs::write(folder.join("m.json"), definition).unwrap();
    let words = format!(
        "--table t --report json --chunk-bytes 4MiB --connections 1 --workers 1 --memory-limit 64MiB --to {}",
        folder.text("out.jsonl")
    );
    let ran = ran(export(&database, &words).args(["--definition", &folder.text("m.json")])).expect(3);
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    let peak = report[0]["run"]["metrics"]["memory"]["peak_resident_bytes"].as_u64().unwrap() >> 20;
    let size = std::fs::metadata(folder.join("out.jsonl.dead.jsonl")).unwrap().len() >> 20;
    assert!(size >= 30 && peak < 40, "{peak} MiB for {size} MiB of records");
}

#[cfg(feature = "failpoints")]
fn replay(folder: &Folder, to: &str) -> std::process::Command {
    let mut command = crate::support::program::sluicegate();
    let (file, to, journal) = (folder.text("out.jsonl.dead.jsonl"), folder.text(to), folder.text("out.jsonl.journal"));
    command.args(["dlq", "replay", &file, "--all", "--encoding", "latin1", "--quiet", "--to", &to, "--journal", &journal]);
    command
}

#[cfg(feature = "failpoints")]
fn status(folder: &Folder) -> Vec<String> {
    items(dlq(folder, "list FILE --format jsonl")).iter().map(|item| item["status"].to_string()).collect()
}

/// A crash, and then a replay into another output: what the first has is marked first, and is not in the second.
#[cfg(feature = "failpoints")]
fn into_another_output(folder: &Folder, place: &str, expected: &str) {
    replay(folder, "x.jsonl").env("SLUICEGATE_CRASH_AT", place).output().unwrap();
    let has_first = folder.join("x.jsonl").exists();
    let other = replay(folder, "y.jsonl").output().unwrap();
    let stderr = String::from_utf8_lossy(&other.stderr);
    if other.status.code() == Some(78) {
        assert!(stderr.contains("was cut off just before its end"), "{place}: {stderr}");
        replay(folder, "x.jsonl").output().unwrap();
        assert_eq!(folder.read("x.jsonl"), expected, "{place}");
    } else {
        assert_eq!(other.status.code(), Some(3), "{place}: {stderr}");
        assert_eq!(folder.read("y.jsonl"), if has_first { "" } else { expected }, "{place}");
    }
    assert_eq!(status(folder).iter().filter(|status| *status == "\"pending\"").count(), 2, "{place}");
}

/// Crashed at every place at which a replay makes something durable, and gone on with: every row is in one output, once.
#[cfg(feature = "failpoints")]
#[test]
fn a_replay_that_crashes_anywhere_loses_and_doubles_nothing() {
    use std::os::unix::process::ExitStatusExt;
    let (_database, folder) = set_aside();
    let copy = || {
        let copy = Folder::new();
        for name in ["out.jsonl.dead.jsonl", "out.jsonl.journal"] {
            std::fs::copy(folder.join(name), copy.join(name)).unwrap();
        }
        // Two rows that lack a field, and fail again.
        let cut = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            let raw = record["raw_hex"].as_str().unwrap();
            if [5, 6].contains(&record["id"].as_u64().unwrap()) {
                record["raw_hex"] = raw[..raw.rfind("097b").unwrap()].into();
            }
            format!("{record}\n")
        };
        let lines: String = copy.read("out.jsonl.dead.jsonl").lines().map(cut).collect();
        std::fs::write(copy.join("out.jsonl.dead.jsonl"), lines).unwrap();
        copy
    };
    let undisturbed = copy();
    ran(replay(&undisturbed, "x.jsonl").env("SLUICEGATE_STEPS", undisturbed.join("log"))).expect(3);
    let expected = (undisturbed.read("x.jsonl"), undisturbed.read("x.jsonl.dead.jsonl"));
    let marks = status(&undisturbed);
    assert_eq!((expected.0.lines().count(), expected.1.lines().count()), (126, 2));
    let log = undisturbed.read("log");
    let mut places: Vec<(&str, usize)> = log.lines().map(|name| (name, log.lines().filter(|other| *other == name).count())).collect();
    places.sort_unstable();
    places.dedup();
    assert!(places.iter().filter(|(name, _)| name.starts_with("dlq.")).count() >= 9, "{places:?}");
    let mut crashes = 0;
    for (name, times) in places {
        for occurrence in if times > 1 { vec![1, times] } else { vec![1] } {
            let folder = copy();
            let place = format!("{name}:{occurrence}");
            let crashed = replay(&folder, "x.jsonl").env("SLUICEGATE_CRASH_AT", &place).output().unwrap();
            assert_eq!(crashed.status.signal(), Some(6), "{place}");
            crashes += 1;
            let again = replay(&folder, "x.jsonl").output().unwrap();
            let is_marked = status(&folder) == marks;
            // After the very last steps the output stands there, and what is pending has to go elsewhere.
            let forgets = name.starts_with("dlq.intent.remove") || name.starts_with("dlq.intent.folder") && occurrence == times;
            let is_over = forgets || again.status.code() == Some(3);
            assert!(is_over && is_marked, "{place}: {:?} {}", again.status, String::from_utf8_lossy(&again.stderr));
            assert!(folder.read("x.jsonl") == expected.0 && folder.read("x.jsonl.dead.jsonl") == expected.1, "{place}");
            // A journal that was closed by a crash keeps its log.
            let names: Vec<String> = folder.names().into_iter().filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).collect();
            assert_eq!(names, ["out.jsonl.dead.jsonl", "out.jsonl.journal", "x.jsonl", "x.jsonl.dead.jsonl", "x.jsonl.journal"], "{place}");
            into_another_output(&copy(), &place, &expected.0);
        }
    }
    println!("{crashes} crashes of a replay: nothing lost, nothing doubled");
}
