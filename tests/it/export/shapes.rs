//! Every kind of relation, and names that need care.

use super::{assert_exact, assert_same};
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json, sluicegate};

/// Exports with these arguments (words, so that they may hold blanks) and compares with what the server makes of `from`.
#[track_caller]
fn assert_words(database: &Database<'_>, words: &[&str], from: &str) {
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    ran(export(database, "--quiet").args(["--to", &to]).args(words)).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(database, from));
}

#[test]
fn partitioned_tables_are_read_by_their_leaves() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE p (id int, region text, note text) PARTITION BY LIST (region);
         CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
         CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b') PARTITION BY RANGE (id);
         CREATE TABLE p_b1 PARTITION OF p_b FOR VALUES FROM (0) TO (1000);
         CREATE TABLE p_b2 (note text, gone int, region text, id int); ALTER TABLE p_b2 DROP COLUMN gone;
         ALTER TABLE p_b ATTACH PARTITION p_b2 FOR VALUES FROM (1000) TO (100000);
         CREATE TABLE p_rest PARTITION OF p DEFAULT;
         INSERT INTO p SELECT i, (ARRAY['a','b','c'])[1 + i % 3], repeat('n', i % 50) FROM generate_series(1, 20000) i",
    );
    assert_exact(&database, "p", "");
    let out = ran(&mut export(&database, "--table p --to x.jsonl --dry-run")).expect(0);
    assert!(out.text().contains("page ranges"), "{}", out.text());
}

#[test]
fn a_partition_that_is_no_heap_makes_it_one_statement() {
    let database = Cluster::shared().fresh_database();
    database.psql(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER me FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER me OPTIONS (user '{}');
         CREATE TABLE far (id int, t text); INSERT INTO far SELECT i, 'far ' || i FROM generate_series(101, 150) i;
         CREATE TABLE p (id int, t text) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
         CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200) SERVER me OPTIONS (table_name 'far');
         INSERT INTO p1 SELECT i, 'near' FROM generate_series(1, 99) i",
        Cluster::shared().port(),
        database.name(),
        database.psql("SELECT current_user"),
    ));
    assert_exact(&database, "p", "");
    assert_exact(&database, "p2", "");
    let out = ran(&mut export(&database, "--table p --to x.jsonl --dry-run")).expect(0);
    assert!(out.text().contains("because its partition p2 cannot be read by pages"), "{}", out.text());
}

#[test]
fn inherited_tables_bring_their_children() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent);
         INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT i, 'x' FROM generate_series(11, 20) i",
    );
    assert_exact(&database, "parent", "");
    assert_exact(&database, "child", "");
}

#[test]
fn views_and_materialised_views_are_read_like_tables() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE t AS SELECT i AS id, md5(i::text) AS h FROM generate_series(1, 5000) i;
         CREATE TYPE pair AS (a int, b text);
         CREATE VIEW v AS SELECT id, h, ROW(id, h)::pair AS pair FROM t WHERE id % 2 = 0;
         CREATE MATERIALIZED VIEW m AS SELECT id, h FROM t WHERE id % 3 = 0",
    );
    assert_exact(&database, "v", "");
    assert_exact(&database, "m", "--connections 3");
}

#[test]
fn tables_without_rows_or_columns_are_files_without_rows_or_columns() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE empty (id int); CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT VALUES;
         CREATE TABLE was_full AS SELECT i FROM generate_series(1, 10000) i; DELETE FROM was_full; CREATE VIEW none AS SELECT 1 AS x WHERE false",
    );
    for table in ["empty", "bare", "was_full", "none"] {
        assert_exact(&database, table, "");
    }
}

#[test]
fn dropped_generated_and_awkwardly_named_columns() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        r#"CREATE TABLE "Größe ""1""" (a int, gone text, "b c" int GENERATED ALWAYS AS (a * 2) STORED, "q""uote" text, "back\slash" text, "日本" text,
               "new
line" text, "UPPER" int, "select" int, r text, "ctid2" int);
           ALTER TABLE "Größe ""1""" DROP COLUMN gone;
           INSERT INTO "Größe ""1""" (a, "q""uote", r) SELECT i, 'x' || i, 'r' FROM generate_series(1, 100) i;
           ALTER TABLE "Größe ""1""" ADD COLUMN later text DEFAULT 'added'"#,
    );
    assert_words(&database, &["--table", r#""Größe ""1""""#], r#""Größe ""1""""#);
    assert_words(&database, &["--table", r#"public."Größe*""#.replace('*', " \"\"1\"\"").as_str()], r#""Größe ""1""""#);
    assert_words(
        &database,
        &["--table", r#""Größe ""1""""#, "--columns", r#""日本", A ,"b c""#],
        r#"(SELECT "日本", a, "b c" FROM "Größe ""1""") "#,
    );
}

#[test]
fn rows_can_be_chosen_limited_and_ordered() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE t AS SELECT i AS id, (i * 7919) % 1000 AS k, repeat('x', i % 100) AS pad FROM generate_series(1, 20000) i;
         CREATE INDEX ON t (k); ANALYZE t",
    );
    assert_words(&database, &["--table", "t", "--where", "k < 10 -- few"], "(SELECT * FROM t WHERE k < 10 ORDER BY ctid)");
    assert_words(&database, &["--table", "t", "--where", "k = 3 OR id = 1"], "(SELECT * FROM t WHERE k = 3 OR id = 1 ORDER BY ctid)");
    assert_words(&database, &["--table", "t", "--limit", "17"], "(SELECT * FROM t LIMIT 17)");
    assert_words(&database, &["--table", "t", "--order-by", "k DESC, id -- so"], "(SELECT * FROM t ORDER BY k DESC, id)");
    let all = ["--table", "t", "--columns", "k", "--where", "id > 5", "--order-by", "id DESC", "--limit", "3"];
    assert_words(&database, &all, "(SELECT k FROM t WHERE id > 5 ORDER BY id DESC LIMIT 3)");
}

#[test]
fn queries_are_read_as_they_are_written() {
    let database = Cluster::shared().fresh_database();
    database
        .psql("CREATE TABLE t AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 3000) i; CREATE TYPE pair AS (a int, b text)");
    let queries = [
        "SELECT * FROM t ORDER BY id DESC",
        "SELECT id, name AS id FROM t WHERE id < 5 -- twice the same name",
        "SELECT 1 AS one, NULL AS nothing, ROW(1, 'x')::pair AS p, ARRAY[ROW(2, 'y')::pair] AS ps, '{\"a\":1}'::jsonb -> 'a' AS j",
        "WITH x AS (SELECT generate_series(1, 10) AS g) SELECT sum(g) AS s, now() > '2000-01-01' AS late FROM x",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT ROW(1, 2) AS record, 'text' AS unknown, array_agg(id) AS ids FROM t WHERE id < 4 -- comment",
        "TABLE t",
    ];
    for query in queries {
        assert_words(&database, &["--query", query], &format!("({query}\n)"));
    }
    assert_words(
        &database,
        &["--query", "SELECT * FROM t", "--where", "id < 10", "--columns", "name"],
        "(SELECT name FROM t WHERE id < 10)",
    );
    // Where several columns have one name, each goes by its number.
    let twice = "SELECT id, name AS \"A b\", id FROM t";
    let folder = Folder::new();
    let words = ["--query", twice, "--where", "\"A b\" > 'n8' AND c3 > 5", "--order-by", "\"A b\" DESC", "--limit", "2"];
    ran(export(&database, "--quiet").args(["--to", &folder.text("out.jsonl")]).args(words)).expect(0);
    assert_eq!(folder.read("out.jsonl"), "{\"id\":999,\"A b\":\"n999\",\"id\":999}\n{\"id\":998,\"A b\":\"n998\",\"id\":998}\n");
}

#[test]
fn several_tables_are_read_under_one_snapshot() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE SCHEMA s; CREATE TABLE s.orders AS SELECT i FROM generate_series(1, 10) i; CREATE TABLE s.order_lines AS SELECT i FROM generate_series(1, 20) i;
         CREATE TABLE customers AS SELECT i FROM generate_series(1, 5) i; CREATE TABLE s.other AS SELECT 1 AS x;
         CREATE TABLE parts (i int) PARTITION BY RANGE (i); CREATE TABLE parts_1 PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1)",
    );
    let folder = Folder::new();
    let to = folder.text("{schema}.{table}.jsonl");
    let report =
        ran(export(&database, "--table s.order* --table CUSTOMERS --table part* --report json").args(["--to", &to, "--no-journal"]))
            .expect(0);
    assert_eq!(folder.names(), ["public.customers.jsonl", "public.parts.jsonl", "s.order_lines.jsonl", "s.orders.jsonl"]);
    let report: serde_json::Value = serde_json::from_str(report.text()).unwrap();
    let snapshots: std::collections::BTreeSet<&str> =
        report.as_array().unwrap().iter().map(|table| table["snapshot"]["id"].as_str().unwrap()).collect();
    assert_eq!(snapshots.len(), 1, "{report:#}");
    assert_same(&folder.read("s.order_lines.jsonl"), &row_to_json(&database, "s.order_lines"));
}

#[test]
fn every_lane_can_write_a_file_of_its_own() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat('x', 200) AS pad FROM generate_series(1, 100000) i");
    let folder = Folder::new();
    let to = folder.text("part-{n}.jsonl");
    ran(export(&database, "--table t --connections 3 --quiet").args(["--to", &to])).expect(0);
    assert_eq!(folder.names(), ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl", "part-N.jsonl.journal"]);
    let together: String = (0..3).map(|part| folder.read(&format!("part-{part}.jsonl"))).collect();
    assert_same(&together, &row_to_json(&database, "t"));
    assert!((0..3).all(|part| folder.read(&format!("part-{part}.jsonl")).lines().count() > 20_000), "about a third each");
}

#[test]
fn row_security_is_refused_or_applied_but_never_silent() {
    let database = Cluster::shared().fresh_database();
    let role = format!("reader_{}", database.name());
    database.psql(&format!(
        "CREATE TABLE secret AS SELECT i AS id, i % 2 = 0 AS visible FROM generate_series(1, 100) i;
         ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON secret USING (visible);
         CREATE ROLE {role} LOGIN; GRANT SELECT ON secret TO {role}"
    ));
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    let as_reader = |more: &str| {
        let from = format!("host=127.0.0.1 port={} dbname={} user={role}", Cluster::shared().port(), database.name());
        let words = format!("--table secret --quiet --to {to} {more}");
        ran(sluicegate().args(["export", "--from", &from]).args(words.split_whitespace()))
    };
    let refused = as_reader("").expect(78);
    assert!(refused.stderr.contains("row-security policy of secret hides rows from role reader_"), "{}", refused.stderr);
    assert!(folder.names().is_empty(), "{:?}", folder.names());
    as_reader("--row-security apply").expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "(SELECT * FROM secret WHERE visible)"));
    assert_exact(&database, "secret", "--force");
}

#[test]
fn output_is_the_same_whatever_the_number_of_workers_and_connections() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 1 + i % 40) AS pad FROM generate_series(1, 30000) i");
    let folder = Folder::new();
    let outputs = [(1, 1), (4, 1), (1, 4), (3, 3)].map(|(workers, connections)| {
        let name = format!("{workers}-{connections}.jsonl.gz");
        let arguments = format!("--table t --quiet --workers {workers} --connections {connections} --to {}", folder.text(&name));
        ran(&mut export(&database, &arguments)).expect(0);
        std::fs::read(folder.join(&name)).unwrap()
    });
    assert!(outputs.iter().all(|output| *output == outputs[0]), "even compressed");
    let unordered = format!("--table t --quiet --unordered --to {}", folder.text("u.jsonl"));
    ran(&mut export(&database, &unordered)).expect(0);
    let (text, expected) = (folder.read("u.jsonl"), row_to_json(&database, "t"));
    let (mut lines, mut servers): (Vec<&str>, Vec<&str>) = (text.lines().collect(), expected.lines().collect());
    lines.sort_unstable();
    servers.sort_unstable();
    assert_eq!(lines, servers);
}

/// Rows that end in the dead letter after they were encoded are there one by one, also from a compressed chunk.
#[test]
fn dead_letters_of_encoded_chunks_are_rows() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, 'x' || i AS name FROM generate_series(1, 100) i");
    let definition = r#"{ "id": "m", "initial": "a", "states": {
        "a": { "invoke": { "src": "transform", "onDone": "b", "onError": "b" } },
        "b": { "invoke": { "src": "deadLetter", "onDone": "f", "onError": "f" }, "on": { "GO": "c" } },
        "c": { "invoke": { "src": "sink", "onDone": "d", "onError": "f" } },
        "d": { "type": "final" }, "f": { "type": "final", "tags": ["error"] } } }"#;
    for compress in ["none", "gzip", "zstd"] {
        let folder = Folder::new();
        std::fs::write(folder.join("m.json"), definition).unwrap();
        let to = folder.text("out.jsonl");
        let words = format!("--table t --to {to} --quiet --compress {compress} --definition {}", folder.text("m.json"));
        ran(&mut export(&database, &words)).expect(3);
        let records: Vec<serde_json::Value> =
            folder.read("out.jsonl.dead.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let rows: String = records.iter().map(|record| format!("{}\n", record["raw"].as_str().unwrap())).collect();
        super::assert_same(&rows, &row_to_json(&database, "t"));
    }
}
