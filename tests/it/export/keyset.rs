//! `--consistency keyset`: ranges of a unique key, each at a moment of its own, on tables that are being written meanwhile.

use super::assert_same;
use super::faults::until;
use super::network::{Faults, Network};
use super::random::{awkward, instant, literal, numeric};
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, row_to_json, run, shown};
use insta::assert_snapshot;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A table of about 18 MB, in 8 ranges of its key, whose rows do not stand in the order of the key.
pub(super) fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE t AS SELECT (i * 7919::bigint % 50000)::int - 25000 AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 50000) i;
         ALTER TABLE t ADD PRIMARY KEY (id); ANALYZE t",
    );
    database
}

/// Small chunks, so that ranges are many of them.
const SMALL: &str = "--quiet --chunk-bytes 16KiB --checkpoint-bytes 256KiB --consistency keyset";

pub(super) fn command(database: &Database<'_>, folder: &Folder, more: &str) -> Command {
    export(database, &format!("--table t --to {} {SMALL} {more}", folder.text("out.jsonl")))
}

/// What the server itself makes of the table in the order of a key.
fn in_order(database: &Database<'_>, columns: &str, key: &str) -> String {
    row_to_json(database, &format!("(SELECT {columns} FROM t ORDER BY {key})"))
}

fn sound(folder: &Folder) {
    let journal = folder.text("out.jsonl.journal");
    let audit = run(["inspect", &journal, "audit"]).expect(0);
    assert!(audit.text().ends_with("sound\n"), "{}", audit.text());
    run(["verify", &journal]).expect(0);
}

/// Kills a run when its output has so many bytes.
#[track_caller]
pub(super) fn kill_at(mut child: Child, folder: &Folder, name: &str, bytes: u64) {
    until("bytes in the output", || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
        folder.join(name).metadata().is_ok_and(|file| file.len() >= bytes)
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A network that takes its time, so that a run can be met in the middle of a range.
fn slow() -> Network {
    Network::to(Cluster::shared().port(), Faults { cut_every: u64::MAX, pause: Duration::from_millis(8) })
}

fn journal(folder: &Folder) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap()
}

#[test]
fn key_ranges_are_what_the_server_has_in_the_order_of_the_key() {
    let database = database();
    let expected = in_order(&database, "*", "id");
    let folder = Folder::new();
    for (connections, workers) in [(1, 1), (4, 2)] {
        let more = format!("--connections {connections} --workers {workers} --fresh --force --report json");
        let ran = ran(&mut command(&database, &folder, &more)).expect(0);
        let report: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        assert_eq!((&report[0]["read"]["mode"], &report[0]["snapshot"]), (&"keyset".into(), &serde_json::Value::Null));
        assert_same(&folder.read("out.jsonl"), &expected);
    }
    sound(&folder);
    let ranges: i64 = journal(&folder).query_row("SELECT count(*) FROM ranges", [], |row| row.get(0)).unwrap();
    assert_eq!(ranges, 8);
    let complete = ran(command(&database, &folder, "").arg("--report=json")).expect(0);
    assert!(complete.text().contains("already_complete"), "{}", complete.text());
    // The key need not be among the columns, and conditions are the user's own.
    ran(command(&database, &folder, "--fresh --force --columns pad").args(["--where", "t.id % 3 = 0 OR id = 1 -- and"])).expect(0);
    let expected = row_to_json(&database, "(SELECT pad FROM t WHERE id % 3 = 0 OR id = 1 ORDER BY id)");
    assert_same(&folder.read("out.jsonl"), &expected);
}

/// Columns that are keys, alone or with others: name, type, and a strategy for their values.
fn key_columns() -> Vec<(&'static str, &'static str, BoxedStrategy<String>)> {
    let text = awkward().prop_map(|text| literal(&text)).boxed();
    vec![
        ("plain", "text", text.clone()),
        ("\"Wört \"\" x\"", "text COLLATE \"und-x-icu\"", text.clone()),
        ("short", "char(300)", text),
        ("number", "numeric", numeric().boxed()),
        ("whole", "bigint", any::<i64>().prop_map(|number| number.to_string()).prop_map(|text| format!("'{text}'")).boxed()),
        ("float", "float8", any::<i64>().prop_map(|bits| format!("'{:e}'", bits as f64 / 1e7)).boxed()),
        ("taken", "timestamptz", instant().prop_map(|instant| format!("({instant})::timestamptz")).boxed()),
        ("day", "date", (-2_000_000_i32..2_000_000).prop_map(|days| format!("'2000-01-01'::date + {days}")).boxed()),
        ("uuid", "uuid", any::<u128>().prop_map(|bits| format!("'{bits:032x}'")).boxed()),
        (
            "bytes",
            "bytea",
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| format!("decode('{}', 'hex')", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
                .boxed(),
        ),
        (
            "span",
            "int4range",
            (any::<i16>(), any::<u8>())
                .prop_map(|(from, length)| format!("int4range({from}, {})", i32::from(from) + i32::from(length)))
                .boxed(),
        ),
        (
            "list",
            "int[]",
            proptest::collection::vec(any::<i32>(), 0..5)
                .prop_map(|list| format!("'{{{}}}'", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))
                .boxed(),
        ),
        ("to_json", "pair", (any::<i8>(), awkward()).prop_map(|(a, b)| format!("ROW({a}, {})::pair", literal(&b))).boxed()),
        // Equal by other names.
        ("few", "numeric", proptest::sample::select(vec!["'1'", "'1.0'", "'1.00'", "'-2'"]).prop_map(ToOwned::to_owned).boxed()),
        ("mood", "mood", proptest::sample::select(vec!["'sad'", "'it''s ok'", "'glad'"]).prop_map(ToOwned::to_owned).boxed()),
    ]
}

/// Keys of many kinds, random and awkward, alone and together; the bounds go through text and back.
#[test]
fn keys_of_every_kind_make_ranges() {
    let seed: [u8; 32] = std::array::from_fn(|_| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) as u8);
    println!("seed {seed:?}");
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let columns = key_columns();
    let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
    let mut line = || {
        let values = columns.iter().map(|(_, kind, values)| {
            let kind = kind.split(" COLLATE").next().unwrap();
            format!("({})::{kind}", values.new_tree(&mut runner).expect("a value").current())
        });
        format!("INSERT INTO t ({}) VALUES ({}) ON CONFLICT DO NOTHING;", names.join(", "), values.collect::<Vec<_>>().join(", "))
    };
    let lines: Vec<String> = (0..1600).map(|_| line()).collect();
    let database = Cluster::shared().fresh_database();
    let defined: Vec<String> = columns.iter().map(|(name, kind, _)| format!("{name} {kind} NOT NULL")).collect();
    // A page for each row, so that few rows are several ranges.
    let filler = "filler text NOT NULL DEFAULT repeat('x', 4100)";
    let unique: Vec<String> = names.iter().filter(|name| !["mood", "few"].contains(name)).map(|name| format!("UNIQUE ({name})")).collect();
    database.psql(&format!(
        "CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'glad'); SET timezone = 'UTC';
         CREATE TABLE t ({}, {filler}, {}, UNIQUE (mood, number), UNIQUE (few, mood, whole), UNIQUE (span, plain)); ALTER TABLE t ALTER filler SET STORAGE PLAIN; {}",
        defined.join(", "),
        unique.join(", "),
        lines.join("\n")
    ));
    let list = names.join(", ");
    for key in names
        .iter()
        .map(|name| match *name {
            "mood" => "number, mood",
            "few" => "few, mood, whole",
            alone => alone,
        })
        .chain(["plain, span"])
    {
        let folder = Folder::new();
        let to = folder.text("out.jsonl");
        ran(export(&database, &format!("--table t --to {to} {SMALL}")).args(["--columns", &list, "--key", key])).expect(0);
        let order = match key {
            "number, mood" => "mood, number",
            "plain, span" => "span, plain",
            other => other,
        };
        assert_same(&folder.read("out.jsonl"), &in_order(&database, &list, order.replace("to_json", "t.to_json").as_str()));
        let ranges: i64 = journal(&folder).query_row("SELECT count(*) FROM ranges", [], |row| row.get(0)).unwrap();
        // How many rows there are is a matter of chance: equal keys are left out.
        let rows = folder.read("out.jsonl").lines().count();
        assert!(ranges >= 2 || rows < 700, "{key}: {ranges} ranges of {rows} rows");
    }
}

#[test]
fn partitioned_tables_have_ranges_too() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE t (region text, id int, pad text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE north PARTITION OF t FOR VALUES IN ('n'); CREATE TABLE south PARTITION OF t DEFAULT;
         INSERT INTO t SELECT CASE i % 3 WHEN 0 THEN 'n' ELSE 's' END, i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i",
    );
    let folder = Folder::new();
    ran(&mut command(&database, &folder, "--connections 3")).expect(0);
    assert_same(&folder.read("out.jsonl"), &in_order(&database, "*", "id, region"));
    let ranges: i64 = journal(&folder).query_row("SELECT count(*) FROM ranges", [], |row| row.get(0)).unwrap();
    assert!(ranges > 2, "{ranges}");
}

/// Nothing has changed: then the output is what an undisturbed run writes, compressed or not, in one file or several.
#[test]
fn a_killed_export_by_key_goes_on_byte_for_byte() {
    let database = database();
    let expected = in_order(&database, "*", "id");
    for (more, bytes) in [("--connections 1 --workers 1 --buffered", 6 << 20), ("--connections 3 --buffered --compress zstd:1", 600 << 10)]
    {
        let folder = Folder::new();
        kill_at(command(&database, &folder, more).stderr(Stdio::null()).spawn().unwrap(), &folder, "out.jsonl.partial", bytes);
        // Another file behind the table is no other table.
        database.psql("VACUUM FULL t");
        let again = ran(command(&database, &folder, more).args(["--report", "json"])).expect(0);
        let report: serde_json::Value = serde_json::from_str(again.text()).unwrap();
        assert!(report[0]["run"]["metrics"]["rows_admitted"].as_u64().unwrap() < 45_000, "finished ranges were read again");
        let bytes = std::fs::read(folder.join("out.jsonl")).unwrap();
        let text = if more.contains("zstd") { zstd::stream::decode_all(&bytes[..]).unwrap() } else { bytes };
        assert_same(std::str::from_utf8(&text).unwrap(), &expected);
        sound(&folder);
    }
    let folder = Folder::new();
    let words = format!("--table t --to {} {SMALL} --connections 3 --buffered", folder.text("{n}.jsonl"));
    kill_at(export(&database, &words).stderr(Stdio::null()).spawn().unwrap(), &folder, "1.jsonl.partial", 1 << 20);
    ran(&mut export(&database, &words)).expect(0);
    let parts: String = (0..3).map(|part| folder.read(&format!("{part}.jsonl"))).collect();
    assert_same(&parts, &expected);
}

/// Writes to a third of the rows, again and again, until it is dropped.
struct Load {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Load {
    fn on(database: &Database<'_>) -> Load {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (conninfo, stopped) = (database.url(), stop.clone());
        let work = "UPDATE t SET pad = md5(random()::text) WHERE id % 3 = 0 AND id / 3 % 50 = (random() * 50)::int;
            DELETE FROM t WHERE id % 3 = 0 AND id / 3 % 200 = (random() * 200)::int;
            INSERT INTO t SELECT 3 * (random() * 20000 - 10000)::int, 'new' FROM generate_series(1, 200) ON CONFLICT DO NOTHING";
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut psql = Command::new(crate::support::cluster::program("psql"));
                crate::support::cluster::without_pg_environment(&mut psql);
                // What is said while a server goes away is of no interest.
                let _ = psql.args(["-Xq", "-c", work, &conninfo]).stdout(Stdio::null()).stderr(Stdio::null()).status();
                rounds += 1;
            }
            rounds
        });
        Load { stop, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Every row that nobody touched is there exactly once, as it is.
#[track_caller]
fn untouched_rows_are_there_once(database: &Database<'_>, text: &str) {
    let mut lines: HashMap<&str, u32> = HashMap::new();
    text.lines().for_each(|line| *lines.entry(line).or_default() += 1);
    let untouched = row_to_json(database, "(SELECT * FROM t WHERE id % 3 <> 0)");
    assert_eq!(untouched.lines().count(), 33_333);
    for line in untouched.lines() {
        assert_eq!(lines.get(line), Some(&1), "{line}");
    }
    let mut ids = std::collections::HashSet::new();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(ids.insert(row["id"].as_i64().unwrap()), "twice: {line}");
    }
    assert!(text.lines().is_sorted_by_key(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64()));
}

#[test]
fn a_table_under_load_is_gone_on_with_and_loses_no_row_that_stands_still() {
    let database = database();
    let load = Load::on(&database);
    let folder = Folder::new();
    for megabytes in [3, 8, 13] {
        let child = command(&database, &folder, "--buffered --connections 3").stderr(Stdio::null()).spawn().unwrap();
        kill_at(child, &folder, "out.jsonl.partial", megabytes << 20);
    }
    let ended = ran(&mut command(&database, &folder, "--connections 2 --report json")).expect(0);
    assert!(load.end() > 5);
    let text = folder.read("out.jsonl");
    untouched_rows_are_there_once(&database, &text);
    let report: serde_json::Value = serde_json::from_str(ended.text()).unwrap();
    let rows = &report[0]["run"]["rows"];
    assert_eq!((rows["read"].as_u64(), rows["written"].as_u64()), (Some(text.lines().count() as u64), rows["read"].as_u64()));
    sound(&folder);
}

/// A range that its connection was lost in comes out otherwise: the same process cuts off what there is of it.
#[test]
fn a_connection_that_is_lost_in_a_range_that_changes_costs_nothing() {
    let database = database();
    let load = Load::on(&database);
    let folder = Folder::new();
    let network = Network::to(Cluster::shared().port(), Faults { cut_every: 5 << 20, pause: Duration::from_millis(4) });
    let words = format!("--table t --to {} {SMALL} --connections 2 --buffered", folder.text("out.jsonl"));
    let ended = ran(&mut network.export(&database, &words)).expect(0);
    load.end();
    assert!(ended.stderr.contains("again gave other rows than before"), "{}", ended.stderr);
    assert!(ended.stderr.contains("going on, and reading ranges that are half written again"), "{}", ended.stderr);
    untouched_rows_are_there_once(&database, &folder.read("out.jsonl"));
    sound(&folder);
}

/// Nothing of the run keeps the server from cleaning up what was deleted since it began.
#[test]
fn no_snapshot_outlives_its_range() {
    let database = database();
    database.psql("CREATE EXTENSION pageinspect");
    let folder = Folder::new();
    let words = format!("--table t --to {} {SMALL} --connections 2 --buffered", folder.text("out.jsonl"));
    let mut child = slow().export(&database, &words).stderr(Stdio::piped()).spawn().unwrap();
    until("bytes in the output", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20));
    let held = "SELECT count(*) FILTER (WHERE state LIKE 'idle%' AND (backend_xmin IS NOT NULL OR state <> 'idle')), count(*) > 1
        FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(database.psql(held), "0|t", "who asked the catalog holds nothing");
    database.psql("DELETE FROM t WHERE ctid < '(10,0)'");
    let now = database.psql("SELECT txid_current()");
    let oldest = format!(
        "SELECT coalesce(bool_and(age(backend_xmin) < age('{now}'::xid)), true) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL"
    );
    until("younger snapshots", || database.psql(&oldest) == "t");
    let others = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) > '{now}'::xid8");
    until("transactions of other tests to end", || database.psql(&others) == "t");
    database.psql("VACUUM t");
    let dead = "SELECT count(*) FROM generate_series(0, 9) page, heap_page_items(get_raw_page('t', page::int)) WHERE t_xmax::text <> '0' OR lp_flags = 1";
    assert_eq!(database.psql(dead), "0");
    assert_eq!(child.try_wait().unwrap(), None, "it is still on");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

/// A range that waits for the lock of an `ALTER TABLE` must not look at the new table with an old snapshot, which sees nothing there.
#[test]
fn a_table_that_is_rewritten_meanwhile_loses_no_row() {
    let database = database();
    let expected = in_order(&database, "*", "id");
    let mut psql = Command::new(crate::support::cluster::program("psql"));
    crate::support::cluster::without_pg_environment(&mut psql);
    let mut altering = psql.args(["-Xq", &database.url()]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = altering.stdin.take().unwrap();
    let folder = Folder::new();
    let words = format!("--table t --columns id,pad --to {} {SMALL} --connections 2 --buffered", folder.text("out.jsonl"));
    let child = slow().export(&database, &words).stderr(Stdio::piped()).spawn().unwrap();
    until("bytes in the output", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20));
    std::io::Write::write_all(&mut stdin, b"BEGIN; ALTER TABLE t ADD COLUMN more float8 DEFAULT random();\n").unwrap();
    until("a lane that waits", || {
        database.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%LOCK TABLE%'") != "0"
    });
    std::io::Write::write_all(&mut stdin, b"COMMIT;\n").unwrap();
    drop(stdin);
    altering.wait().unwrap();
    Ran::from(child.wait_with_output().unwrap()).expect(0);
    assert_same(&folder.read("out.jsonl"), &expected);
}

/// What rows mean depends on their columns' types: a table that is another by now is not mixed in.
#[test]
fn a_table_that_becomes_another_meanwhile_ends_the_export() {
    for change in ["ALTER TABLE t ALTER COLUMN pad TYPE varchar", "ALTER TABLE t RENAME TO old; CREATE TABLE t (LIKE old INCLUDING ALL)"] {
        let database = database();
        let folder = Folder::new();
        let words = format!("--table t --to {} {SMALL} --connections 1 --buffered", folder.text("out.jsonl"));
        let child = slow().export(&database, &words).stderr(Stdio::piped()).spawn().unwrap();
        until("bytes in the output", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20));
        database.psql(change);
        let ended = Ran::from(child.wait_with_output().unwrap()).expect(78);
        assert!(ended.stderr.contains("t has been given other columns or types, or is another table by now"), "{}", ended.stderr);
        let refused = ran(&mut command(&database, &folder, "")).expect(78);
        assert!(refused.stderr.contains("is the journal of another export, or of a table that is another by now"), "{}", refused.stderr);
    }
}

/// A database without an encoding, so that rows can be none of text; half of such an export, and the rest. What was set aside of
/// half-written ranges is cut off with them, also where several outputs share one dead letter.
#[test]
fn dead_letters_of_ranges_that_are_read_again_are_there_once() {
    let database = Cluster::shared().fresh_database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    let note = "CASE WHEN i % 97 = 5 THEN E'bad \\xff' || i ELSE 'good ' || i END";
    database.psql(&format!(
        "CREATE TABLE t AS SELECT i AS id, {note} AS note, repeat('x', 300) AS pad FROM generate_series(1, 40000) i; ALTER TABLE t ADD PRIMARY KEY (id)"
    ));
    super::faults::settled(&database);
    let bad = 40_000 / 97 + 1;
    for (to, watched, more) in [
        ("out.jsonl", "out.jsonl.partial", SMALL),
        ("out-{n}.jsonl", "out-1.jsonl.partial", SMALL),
        ("out.jsonl", "out.jsonl.partial", "--quiet --chunk-bytes 16KiB --checkpoint-bytes 256KiB --consistency mixed"),
    ] {
        let folder = Folder::new();
        let words = format!("--table t --to {} {more} --buffered --connections 2 --dead-letter {}", folder.text(to), folder.text("dead"));
        for megabytes in [1, 2, 4] {
            let child = slow().export(&database, &words).stderr(Stdio::null()).spawn().unwrap();
            kill_at(child, &folder, watched, megabytes << 20);
            if more.contains("mixed") {
                database.psql("INSERT INTO t VALUES ((SELECT max(id) + 1 FROM t), 'new', '')");
                super::faults::settled(&database);
            }
        }
        ran(&mut export(&database, &words)).expect(3);
        let dead = folder.read("dead");
        let record = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["raw_hex"].as_str().unwrap().to_owned();
        let rows: std::collections::HashSet<String> = dead.lines().map(record).collect();
        assert_eq!((dead.lines().count(), rows.len()), (bad, bad), "{words}");
        let written: usize =
            folder.names().iter().filter(|name| name.ends_with(".jsonl")).map(|name| folder.read(name).lines().count()).sum();
        assert_eq!(written as i64, database.psql("SELECT count(*) FROM t WHERE note NOT LIKE 'bad%'").parse::<i64>().unwrap());
        let journal = folder.names().into_iter().find(|name| name.ends_with(".journal")).unwrap();
        run(["inspect", &folder.text(&journal), "audit"]).expect(0);
        run(["verify", &folder.text(&journal)]).expect(0);
    }
}

/// A half-written range that has become smaller leaves no chunk behind.
#[test]
fn ranges_that_have_become_smaller_leave_nothing_behind() {
    let database = database();
    let folder = Folder::new();
    let child = slow().export(&database, &format!("--table t --to {} {SMALL} --buffered --connections 1", folder.text("out.jsonl")));
    let child = { child }.stderr(Stdio::null()).spawn().unwrap();
    kill_at(child, &folder, "out.jsonl.partial", 3 << 20);
    let half_done = "SELECT range FROM chunks WHERE final AND range NOT IN (SELECT range FROM ranges) LIMIT 1";
    let range: i64 = journal(&folder).query_row(half_done, [], |row| row.get(0)).unwrap();
    let kept = journal(&folder)
        .query_row("SELECT max(output_at + output_bytes) FROM chunks WHERE range < ?1", [range], |row| row.get::<_, i64>(0))
        .unwrap();
    let kept = String::from_utf8(std::fs::read(folder.join("out.jsonl.partial")).unwrap()[..kept as usize].to_vec()).unwrap();
    let last: serde_json::Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
    database.psql(&format!("DELETE FROM t WHERE id % 7 <> 0 AND id > {}", last["id"]));
    let more = ran(&mut command(&database, &folder, "--plan")).expect(0);
    assert!(more.text().contains(&format!("{range} of 8 ranges and ")), "{}", more.text());
    ran(&mut command(&database, &folder, "")).expect(0);
    assert_same(
        &folder.read("out.jsonl"),
        &(kept + &row_to_json(&database, &format!("(SELECT * FROM t WHERE id > {} ORDER BY id)", last["id"]))),
    );
    sound(&folder);
    let discarded = "SELECT count(DISTINCT range || '.' || idx) FROM transitions WHERE event = 'sluicegate.discarded'";
    assert!(journal(&folder).query_row(discarded, [], |row| row.get::<_, i64>(0)).unwrap() > 10);
}

#[test]
fn what_has_no_key_is_refused_and_told_what_would_do() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE bare (id int); CREATE TABLE nullable (id int UNIQUE); CREATE TABLE late (id int NOT NULL UNIQUE DEFERRABLE);
         CREATE TABLE computed (id int NOT NULL, name text NOT NULL); CREATE UNIQUE INDEX ON computed (lower(name));
         CREATE UNIQUE INDEX few ON computed (id) WHERE id > 5; CREATE UNIQUE INDEX odd ON computed (name text_pattern_ops);
         CREATE VIEW v AS TABLE bare; CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
         CREATE TABLE two (a int NOT NULL, b int NOT NULL, c int, PRIMARY KEY (a, b), UNIQUE (c))",
    );
    let folder = Folder::new();
    let says = |words: &str| {
        let ran = ran(&mut export(&database, &format!("{words} --to {}", folder.text("out.jsonl")))).expect(78);
        assert_eq!(folder.names(), [""; 0]);
        shown(&ran.stderr, &folder, &database)
    };
    let key = |words: &str| says(&format!("--consistency keyset {words}"));
    assert_snapshot!(key("--table bare"), @"error: bare has no key to make ranges by: it has no unique index; it takes a primary key, or a unique index over columns that are NOT NULL");
    assert_snapshot!(key("--table nullable"), @r#"error: nullable has no key to make ranges by: nullable_id_key has id, which may be NULL (ALTER TABLE … ALTER COLUMN "id" SET NOT NULL); it takes a primary key, or a unique index over columns that are NOT NULL"#);
    assert_snapshot!(key("--table late"), @"error: late has no key to make ranges by: late_id_key is deferrable, so that keys may be there twice for a while; it takes a primary key, or a unique index over columns that are NOT NULL");
    assert_snapshot!(key("--table computed"), @"error: computed has no key to make ranges by: computed_lower_idx is over an expression; few is for some rows only; odd orders name otherwise than the column itself does; it takes a primary key, or a unique index over columns that are NOT NULL");
    assert_snapshot!(key("--table v"), @"error: v cannot be read by key ranges: it is a view, and views have no key");
    assert_snapshot!(key("--table parent"), @"error: parent cannot be read by key ranges: other tables inherit from it, and its key says nothing of their rows; export them one by one");
    assert_snapshot!(key("--table two --key c"), @r#"error: --key c: two_c_key has c, which may be NULL (ALTER TABLE … ALTER COLUMN "c" SET NOT NULL); it takes a primary key, or a unique index over columns that are NOT NULL"#);
    assert_snapshot!(key("--table two --key a"), @"error: --key a: two has no unique index on just these columns; it takes a primary key, or a unique index over columns that are NOT NULL");
    assert_snapshot!(key("--table two --key a,"), @"error: --key: a column name is missing");
    assert_snapshot!(key("--table two --limit 5"), @"error: two cannot be read by key ranges: --limit counts over the whole table");
    assert_snapshot!(key("--table two --order-by a"), @"error: two cannot be read by key ranges: ranges are read in the order of the key; leave --order-by out");
    assert_snapshot!(key("--table two --unordered"), @"error: --unordered does not go with --consistency keyset: a range that was cut off could not be told apart in the output; leave it out");
    assert_snapshot!(key("--table two --max-snapshot-age 5s"), @"error: --max-snapshot-age: --consistency keyset holds no snapshot; leave it out");
    assert_snapshot!(key("--query TABLE"), @"error: --consistency keyset needs the key of a table, and a query has none");
    assert_snapshot!(says("--table two --key a"), @"error: --key makes ranges for --consistency keyset; give that as well");
    let role = format!("reader_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT (a, b) ON two TO {role}"));
    let from = format!("host=127.0.0.1 port={} dbname={} user={role}", Cluster::shared().port(), database.name());
    let to = folder.text("out.jsonl");
    let words = ["export", "--from", &from, "--table", "two", "--columns", "a,b", "--consistency", "keyset", "--to", &to];
    assert_snapshot!(shown(&run(words).expect(78).stderr, &folder, &database), @"error: two cannot be read by key ranges: this role may read only some of its columns, and ranges need SELECT on the whole table for its lock");
}

/// An export that was begun in one way is not gone on with in another.
#[test]
fn keys_and_snapshots_do_not_mix() {
    let database = database();
    let folder = Folder::new();
    kill_at(command(&database, &folder, "--buffered").stderr(Stdio::null()).spawn().unwrap(), &folder, "out.jsonl.partial", 6 << 20);
    let before = std::fs::read(folder.join("out.jsonl.partial")).unwrap();
    let words = format!("--table t --to {} --chunk-bytes 16KiB", folder.text("out.jsonl"));
    let refused = ran(&mut export(&database, &words)).expect(78);
    assert!(refused.stderr.contains("identity.key: was {\"columns\":[\"id\"]"), "{}", refused.stderr);
    assert!(before == std::fs::read(folder.join("out.jsonl.partial")).unwrap(), "the output was touched");
}
