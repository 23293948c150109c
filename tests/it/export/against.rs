//! `sluicegate verify --against-source`: the table is read again and compared with what was read.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, run, shown, sluicegate};
use insta::assert_snapshot;

/// A table of 3 ranges, exported.
fn exported(more: &str) -> (Database<'static>, Folder) {
    let (database, folder) = (Cluster::shared().fresh_database(), Folder::new());
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 25000) i");
    ran(&mut export(&database, &format!("{more} --quiet --chunk-bytes 64KiB --to {}", folder.text("out.jsonl")))).expect(0);
    (database, folder)
}

fn verify(database: &Database<'_>, folder: &Folder, more: &[&str]) -> Ran {
    let mut command = sluicegate();
    command.args(["verify", &folder.text("out.jsonl.journal"), "--against-source", "--from", &database.url()]).args(more);
    ran(&mut command)
}

/// Without what differs from run to run: places in the log.
fn compared(ran: &Ran) -> String {
    let lines = ran.text().lines().filter(|line| !line.ends_with(" read and compared"));
    let line = |line: &str| match line.split_once(" again at ") {
        Some((before, behind)) => format!("{before} again at [place]:{}", behind.split_once(':').expect("a colon").1),
        None => line.to_owned(),
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_table_is_compared_with_what_was_read_of_it() {
    let (database, folder) = exported("--table t");
    let says = |code| compared(&verify(&database, &folder, &[]).expect(code));
    assert_snapshot!(says(0), @"
    as written
    3 ranges read again at [place]: 15,000 rows then, 15,000 now; ranges that differ: 0
    as in the source
    ");
    database.psql("DELETE FROM t WHERE id = 10500");
    assert_snapshot!(says(1), @"
    as written
    t pages 0-254: 5,610 rows then, 5,609 now; the first difference is in chunk 0.2
    3 ranges read again at [place]: 15,000 rows then, 14,999 now; ranges that differ: 1
    NOT AS IN THE SOURCE
    ");
    database.psql("UPDATE t SET pad = 'x' WHERE id = 16000");
    assert_snapshot!(says(1), @"
    as written
    t pages 0-254: 5,610 rows then, 5,609 now; the first difference is in chunk 0.2
    t pages 255-509: 5,610 rows as then, but not the same; the first difference is in chunk 1.1
    3 ranges read again at [place]: 15,000 rows then, 14,999 now; ranges that differ: 2
    NOT AS IN THE SOURCE
    ");
    database.psql("UPDATE t SET pad = md5('y') WHERE id = 24990");
    database.psql("INSERT INTO t VALUES (1, 'new')");
    assert_snapshot!(says(1), @"
    as written
    t pages 0-254: 5,610 rows then, 5,609 now; the first difference is in chunk 0.2
    t pages 255-509: 5,610 rows as then, but not the same; the first difference is in chunk 1.1
    t pages 510-end: 3,780 rows then, 3,781 now; the first difference is in chunk 2.19
    3 ranges read again at [place]: 15,000 rows then, 15,000 now; ranges that differ: 3
    NOT AS IN THE SOURCE
    ");
    let found = verify(&database, &folder, &["--format", "json", "--connections", "1"]).expect(1);
    let found: serde_json::Value = serde_json::from_str(found.text()).unwrap();
    let first = serde_json::to_string(&found["source"]["differences"][0]).unwrap();
    assert_snapshot!(first, @r#"{"range":0,"origin":"t pages 0-254","rows_then":5610,"rows_now":5609,"first_chunk":"0.2"}"#);
    assert_eq!(found["source"]["ranges"], 3);
    assert_eq!(found["verified"]["problems"], serde_json::json!([]));
}

/// Rows, bytes and order as then, and one letter is another.
#[test]
fn a_value_of_the_same_length_is_noticed() {
    let (database, folder) = exported("--table t --where id%2=0");
    verify(&database, &folder, &[]).expect(0);
    database.psql("UPDATE t SET pad = repeat('x', 320) WHERE id = 25000");
    assert_snapshot!(compared(&verify(&database, &folder, &[]).expect(1)), @"
    as written
    t pages 510-end: 1,890 rows as then, but not the same; the first difference is in chunk 2.9
    3 ranges read again at [place]: 7,500 rows then, 7,500 now; ranges that differ: 1
    NOT AS IN THE SOURCE
    ");
    database.psql("UPDATE t SET pad = 'not exported' WHERE id = 24999");
    assert_snapshot!(compared(&verify(&database, &folder, &[]).expect(1)), @"
    as written
    t pages 510-end: 1,890 rows as then, but not the same; the first difference is in chunk 2.9
    3 ranges read again at [place]: 7,500 rows then, 7,500 now; ranges that differ: 1
    NOT AS IN THE SOURCE
    ");
}

/// By key there is no place in the log to speak of, and rows may be in another file by now: the bounds are those in the journal.
#[test]
fn key_ranges_are_compared_by_their_bounds() {
    let (database, folder) = (Cluster::shared().fresh_database(), Folder::new());
    database.psql("CREATE TABLE t AS SELECT i % 150 AS a, i AS b, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 25000) i");
    database.psql("ALTER TABLE t ADD PRIMARY KEY (a, b)");
    let to = folder.text("out.jsonl");
    let arguments = format!("--table t --columns b,pad --where b%2=0 --consistency keyset --quiet --chunk-bytes 64KiB --to {to}");
    ran(&mut export(&database, &arguments)).expect(0);
    let says = |code| compared(&verify(&database, &folder, &[]).expect(code));
    assert_snapshot!(says(0), @"
    as written
    2 ranges read again, each at a moment of its own: 7,500 rows then, 7,500 now; ranges that differ: 0
    as in the source
    ");
    database.psql("VACUUM FULL t");
    database.psql("UPDATE t SET pad = 'not exported' WHERE b = 10501");
    verify(&database, &folder, &["--connections", "1"]).expect(0);
    database.psql("DELETE FROM t WHERE (a, b) = (0, 10500)");
    database.psql("UPDATE t SET pad = repeat('x', 320) WHERE b = 24998");
    assert_snapshot!(says(1), @"
    as written
    t where (a, b) < (75, 10125): 3,800 rows then, 3,799 now; the first difference is in chunk 0.0
    t where (75, 10125) <= (a, b): 3,700 rows as then, but not the same; the first difference is in chunk 1.6
    2 ranges read again, each at a moment of its own: 7,500 rows then, 7,499 now; ranges that differ: 2
    NOT AS IN THE SOURCE
    ");
    database.psql("INSERT INTO t VALUES (1000, 2, 'beyond all bounds')");
    assert!(says(1).contains("3,700 rows then, 3,701 now; "), "{}", says(1));
    let found = verify(&database, &folder, &["--format", "json"]).expect(1);
    let found: serde_json::Value = serde_json::from_str(found.text()).unwrap();
    assert!(found["source"]["snapshot"].is_null(), "{found}");
    database.psql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD UNIQUE (b)");
    let stderr = verify(&database, &folder, &[]).expect(78).stderr;
    assert_snapshot!(stderr, @"error: --key a, b: t has no unique index on just these columns; it takes a primary key, or a unique index over columns that are NOT NULL");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let (database, folder) = exported("--table t");
    let says = |database: &Database<'_>, folder: &Folder, code| shown(&verify(database, folder, &[]).expect(code).stderr, folder, database);
    let other = Cluster::shared().fresh_database();
    let elsewhere = says(&other, &folder, 78).replace(database.name(), "[first]");
    assert_snapshot!(elsewhere, @r#"
    error: what is there is not what [dir]/out.jsonl was read from:
      server.database: was "[first]", is "[db]"
    If that is elsewhere, say where: --from CONNINFO.
    "#);
    let nowhere = run(["verify", &folder.text("out.jsonl.journal"), "--against-source", "--from", "postgres://me@127.0.0.1:1/db"]);
    assert!(nowhere.expect(69).stderr.contains("cannot reach Postgres"));
    database.psql("VACUUM FULL t");
    let rewritten = says(&database, &folder, 78);
    assert!(rewritten.contains("identity.file_node: was ") && rewritten.contains("heaps[0].file_node: was "), "{rewritten}");
    database.psql("DROP TABLE t");
    assert_snapshot!(says(&database, &folder, 78), @"error: no table matches `public.t` in database [db] (as role postgres)");
    let (database, folder) = exported("--query SELECT/**/*/**/FROM/**/t");
    assert_snapshot!(says(&database, &folder, 78), @"
    error: [dir]/out.jsonl cannot be compared with its source: it was read by one statement (it is a query), whose rows have no fixed order
    Without --against-source, the output alone is verified.
    ");
    let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
    journal.execute_batch(r#"UPDATE runs SET plan = '{"read":{"mode":"by_stars"}}'"#).unwrap();
    drop(journal);
    assert_snapshot!(says(&database, &folder, 78), @"
    error: [dir]/out.jsonl cannot be compared with its source: this program does not know how to read a plan of mode `by_stars` again
    Without --against-source, the output alone is verified.
    ");
}

/// A run that was cut off has read some ranges to their end: these are compared.
#[test]
fn of_a_run_that_was_cut_off_the_finished_ranges_are_compared() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 60000) i");
    let folder = super::resume::half_done(&database, "");
    let same = verify(&database, &folder, &["--format", "json"]).expect(0);
    let same: serde_json::Value = serde_json::from_str(same.text()).unwrap();
    let ranges = same["source"]["ranges"].as_u64().unwrap();
    assert!((1..11).contains(&ranges), "{ranges}");
    database.psql("DELETE FROM t WHERE id = 10017");
    verify(&database, &folder, &[]).expect(1);
}
