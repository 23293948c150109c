//! A name is a name, whatever is in it.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json};
use serde_json::Value;
use std::path::Path;

/// Names that mean something to SQL, shells, file systems, formats, terminals, or to us.
const NAMES: [&str; 18] = [
    "a\"b",
    "semi;colon",
    "it's",
    "line\nfeed",
    "per%cent %s",
    "back\\slash\\",
    "--option",
    "ünï ☃",
    "sixty-three bytes long, which is as long as a name can ever get",
    "select",
    "../../up",
    "..",
    "{n}",
    "\"; DROP TABLE canary; --",
    "$$;$1",
    "*.?",
    "-",
    "\u{1b}[31m",
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table that has to survive, and rows in a table of each name, with a column of each name.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    let columns: Vec<String> = NAMES.iter().zip(1..).map(|(name, number)| format!("i + {number} AS {}", quoted(name))).collect();
    let rows = format!("SELECT {} FROM generate_series(1, 3) i", columns.join(", "));
    let mut sql = "CREATE TABLE canary AS SELECT 1 AS lives; CREATE SCHEMA \"a\"\"b;/..\";".to_owned();
    for name in NAMES {
        sql += &format!("CREATE TABLE \"a\"\"b;/..\".{} AS {rows};", quoted(name));
    }
    sql += &format!("CREATE SCHEMA \"..\"; CREATE TABLE \"..\".plain AS {rows};");
    database.psql(&sql);
    database
}

/// Exports with these words and compares with what the server makes of `from`.
#[track_caller]
fn assert_rows(database: &Database<'_>, words: &[&str], from: &str) {
    let folder = Folder::new();
    ran(export(database, "--quiet").args(["--to", &folder.text("out.jsonl")]).args(words)).expect(0);
    assert_eq!(folder.read("out.jsonl"), row_to_json(database, from), "{words:?}");
}

#[test]
fn names_are_names_in_every_way_of_reading() {
    let database = database();
    let schema = quoted("a\"b;/..");
    let columns = NAMES.map(quoted).join(",");
    for (number, name) in NAMES.iter().enumerate() {
        let (table, column) = (format!("{schema}.{}", quoted(name)), quoted(name));
        // Each name in one way, all ways in turn; the columns have all names each time.
        match number % 4 {
            0 => {
                let filter = format!("{column} > {}", number + 2);
                let words = ["--table", &table, "--columns", &columns, "--where", &filter];
                assert_rows(&database, &words, &format!("(SELECT * FROM {table} WHERE {filter})"));
            }
            1 => {
                let order = format!("{column} DESC");
                let rows = format!("(SELECT * FROM {table} ORDER BY {order} LIMIT 2)");
                assert_rows(&database, &["--table", &table, "--order-by", &order, "--limit", "2"], &rows);
            }
            2 => {
                let query = format!("SELECT * FROM {table}");
                assert_rows(&database, &["--query", &query, "--columns", &columns], &format!("({query})"));
            }
            _ => {
                database.psql(&format!(
                    "CREATE SCHEMA IF NOT EXISTS {column}; CREATE TABLE {column}.{column} (LIKE {table}) PARTITION BY LIST ({column});
                     CREATE TABLE {column}.{leaf} PARTITION OF {column}.{column} DEFAULT; INSERT INTO {column}.{column} TABLE {table};
                     CREATE VIEW {column}.{view} AS TABLE {table}",
                    leaf = quoted(&format!("{}1", &name[..name.len().min(60)])),
                    view = quoted(&format!("{}2", &name[..name.len().min(60)])),
                ));
                assert_rows(&database, &["--table", &format!("{column}.{column}")], &table);
                let view = quoted(&format!("{}2", &name[..name.len().min(60)]));
                assert_rows(&database, &["--table", &format!("{column}.{view}")], &table);
            }
        }
    }
    assert_eq!(database.psql("TABLE canary"), "1");
}

/// All tables at once, by a pattern, into files that are called like them.
#[test]
fn no_name_leads_out_of_the_directory() {
    let database = database();
    let folder = Folder::new();
    std::fs::create_dir_all(folder.join("a/b/c")).unwrap();
    let to = folder.text("a/b/c/{table}");
    let words = ["--table", "\"a\"\"b;/..\".*", "--report", "json", "--to", &to];
    let reports: Value = serde_json::from_str(ran(export(&database, "").args(words)).expect(0).text()).unwrap();
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), NAMES.len());
    let rows = row_to_json(&database, "\"a\"\"b;/..\".\"select\"");
    for report in reports {
        let file = Path::new(report["files"][0].as_str().unwrap());
        assert_eq!(file.parent().unwrap(), folder.join("a/b/c"), "{report}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), rows);
        let shown = format!("{}{}", report["table"].as_str().unwrap(), file.display());
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    assert_eq!(folder.names(), ["a"]);
    assert_eq!(std::fs::read_dir(folder.join("a/b")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(folder.join("a/b/c")).unwrap().count(), 2 * NAMES.len(), "an output and a journal each");
    // A schema's name may be a directory's.
    let to = folder.text("a/{schema}/{table}.jsonl");
    ran(export(&database, "--quiet --table \"..\".plain").args(["--to", &to])).expect(74);
    std::fs::create_dir(folder.join("a/__")).unwrap();
    ran(export(&database, "--quiet --table \"..\".plain").args(["--to", &to])).expect(0);
    assert!(folder.join("a/__/plain.jsonl").exists());
    assert_eq!(folder.names(), ["a"]);
}

/// Journals and dead letters are called like the output, and so may a table be.
#[test]
fn one_tables_output_is_not_anothers_journal() {
    let database = Cluster::shared().fresh_database();
    let mut told = String::new();
    for other in ["a.journal", "a.dead.jsonl", "a.partial", "a.journal-wal"] {
        database.psql(&format!(
            "DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s; CREATE TABLE s.a (i int); CREATE TABLE s.{} (i int)",
            quoted(other)
        ));
        let folder = Folder::new();
        let ran = ran(export(&database, "--quiet --force --table s.*").args(["--to", &folder.text("{table}")])).expect(78);
        assert_eq!(folder.names(), [] as [&str; 0]);
        told += &super::within(&ran.stderr, &folder);
    }
    insta::assert_snapshot!(told);
}

/// What is SQL and comes from the user stays in its place: it can neither end a statement nor reach out of it. The role is a superuser.
#[test]
fn no_condition_ends_the_statement_around_it() {
    let database = Cluster::shared().fresh_database();
    database.psql(
        "CREATE TABLE canary AS SELECT 1 AS lives; CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 5) i;
         CREATE FUNCTION gone() RETURNS bool LANGUAGE sql AS 'DELETE FROM canary; SELECT true'",
    );
    let touched = Cluster::shared().dir().join(format!("touched-{}", database.name()));
    let program = format!("TO PROGRAM 'touch {}'", touched.display());
    // That this would work.
    database.psql(&format!("COPY (SELECT 1) {program}"));
    std::fs::remove_file(&touched).expect("it was touched");
    let parts = [
        format!("true) {program} --"),
        format!("true)) {program} --"),
        format!("id) {program} --"),
        format!("1); COPY (SELECT 1) {program} --"),
        format!("true; COPY (SELECT 1) {program}"),
        "true; DELETE FROM canary".to_owned(),
        "gone()".to_owned(),
        "true /*".to_owned(),
        "$$".to_owned(),
        "'".to_owned(),
        "true)\n-- ) \n OR (true".to_owned(),
    ];
    for part in &parts {
        for words in [["--table", "t", "--where", part], ["--table", "t", "--order-by", part], ["--query", "TABLE t", "--where", part]] {
            refused(&database, &words);
        }
        refused(&database, &["--query", &format!("SELECT {part}")]);
    }
    for name in [format!("t\" ) {program} --"), "t'; DELETE FROM canary; --".to_owned(), "t\\'; DELETE FROM canary; --".to_owned()] {
        refused(&database, &["--table", &quoted(&name)]);
        refused(&database, &["--table", "t", "--columns", &quoted(&name)]);
    }
    assert!(!touched.exists());
    assert_eq!(database.psql("TABLE canary"), "1");
}

#[track_caller]
fn refused(database: &Database<'_>, words: &[&str]) {
    let folder = Folder::new();
    let ran = ran(export(database, "--quiet --give-up-after 0s").args(["--to", &folder.text("out.jsonl")]).args(words));
    assert!(ran.code.is_some_and(|code| code == 78 || code == 69), "{words:?}: {:?} {}", ran.code, ran.stderr);
    assert!(!folder.join("out.jsonl").exists());
}
