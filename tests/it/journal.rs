//! The journal file: what readers need, what they leave behind, and what stays when a run has ended.

use crate::support::cluster::{Cluster, Database, as_unprivileged};
use crate::support::program::{Folder, Ran, export, ran, run, sluicegate};
use rusqlite::{Connection, OpenFlags};
use sluicegate::journal::sqlite::schema;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A database with a table that fills more than a pipe.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 20000) i");
    database
}

/// A run that goes on until its output is read. Its journal is `run.journal`, and says that it is running.
fn under_way(database: &Database<'_>, folder: &Folder) -> Child {
    let arguments = format!("--table t --to - --quiet --chunk-bytes 64KiB --journal {}", folder.text("run.journal"));
    let child = export(database, &arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
    let began = Instant::now();
    while !run(["inspect", &folder.text("run.journal")]).text().contains("active") {
        assert!(began.elapsed() < Duration::from_secs(60), "the run does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// Lets it come to its end.
fn to_the_end(mut child: Child) {
    let mut lines = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut lines).expect("UTF-8");
    assert_eq!(lines.lines().count(), 20_000);
    assert!(child.wait().expect("it ends").success());
}

/// The documentation of the tables.
fn documentation() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/journal.md")).expect("the documentation is there")
}

/// Names in backquotes in the first column of the table below this heading.
fn documented(heading: &str) -> Option<BTreeSet<String>> {
    let documentation = documentation();
    let (_, section) = documentation.split_once(&format!("\n### `{heading}`\n"))?;
    let rows = section.lines().take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| `"));
    let names = |row: &str| row.split(" | ").next().unwrap_or("").replace(['`', ' '], "").split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(rows.flat_map(names).collect())
}

fn strings(connection: &Connection, sql: &str) -> Vec<String> {
    connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().expect("the file is there").permissions().mode() & 0o777
}

/// Every file with its content.
fn contents(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    folder.names().into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).expect("the file is there"))).collect()
}

/// `inspect`, by somebody who may read and no more, in every way that reads differently.
fn inspect_read_only(folder: &Folder, journal: &str) -> Vec<Ran> {
    for name in folder.names() {
        std::fs::set_permissions(folder.join(&name), Permissions::from_mode(0o444)).unwrap();
    }
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    let before = contents(folder);
    let inspect = |command: &[&str]| {
        let mut inspect = sluicegate();
        inspect.arg("inspect").arg(folder.join(journal)).args(command);
        as_unprivileged(&mut inspect);
        ran(&mut inspect).expect(0)
    };
    let told = [&[][..], &["chunks"], &["transitions"], &["audit"]].map(inspect).into();
    assert!(contents(folder) == before, "reading has left something behind: {:?}", folder.names());
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    told
}

#[test]
fn a_finished_journal_is_one_file_that_anyone_can_read_anywhere() {
    let (database, folder) = (database(), Folder::new());
    ran(&mut export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")))).expect(0);
    assert_eq!(folder.names(), ["out.jsonl", "out.jsonl.journal"]);
    // 1: no write-ahead log (the SQLite file format, 1.3.3).
    let journal = std::fs::read(folder.join("out.jsonl.journal")).unwrap();
    assert_eq!(journal[18..20], [1, 1]);

    let copy = Folder::new();
    std::fs::write(copy.join("copy"), journal).unwrap();
    let told = inspect_read_only(&copy, "copy");
    assert!(told[0].text().contains("completed"), "{}", told[0].text());
    assert!(told[3].text().contains("sound"), "{}", told[3].text());
}

/// Also the run that stops or fails.
#[test]
fn a_stopped_run_leaves_one_file_too() {
    let (database, folder) = (database(), Folder::new());
    let mut child = under_way(&database, &folder);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    child.stdout.take().expect("piped").read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(folder.names(), ["run.journal"]);
    assert!(inspect_read_only(&folder, "run.journal")[3].text().contains("sound"));
}

/// What it has not yet put into the file is in the log beside it.
#[test]
fn the_journal_of_a_killed_run_can_be_read_with_its_log() {
    let (database, folder) = (database(), Folder::new());
    let mut child = under_way(&database, &folder);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(folder.names(), ["run.journal", "run.journal-shm", "run.journal-wal"]);
    let told = inspect_read_only(&folder, "run.journal");
    assert!(told[0].text().contains("active"), "{}", told[0].text());
    assert!(told[1].text().contains("t pages"), "{}", told[1].text());
}

#[test]
fn it_can_be_read_and_followed_while_the_run_is_on() {
    let (database, folder) = (database(), Folder::new());
    let child = under_way(&database, &folder);
    let journal = folder.text("run.journal");
    assert!(run(["inspect", &journal, "chunks"]).expect(0).text().contains("t pages"));
    run(["inspect", &journal, "audit"]).expect(0);
    let follower = sluicegate().args(["inspect", &journal, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    to_the_end(child);
    let followed = Ran::from(follower.wait_with_output().unwrap()).expect(0);
    assert!(followed.text().lines().count() > 100, "{}", followed.text());
    assert_eq!(folder.names(), ["run.journal"], "a follower lets the file go when the run has ended");
}

/// It has a log beside it then, with nothing in it that the file has not.
#[test]
fn a_reader_that_does_not_let_go_does_not_hold_up_the_end() {
    let (database, folder) = (database(), Folder::new());
    let child = under_way(&database, &folder);
    let reader = Connection::open(folder.join("run.journal")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM transitions").unwrap();
    let began = Instant::now();
    to_the_end(child);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let summary = run(["inspect", &folder.text("run.journal")]).expect(0);
    assert!(summary.text().contains("completed"), "{}", summary.text());
    drop(reader);
    assert!(run(["inspect", &folder.text("run.journal"), "audit"]).expect(0).text().contains("sound"));
}

#[test]
fn new_files_are_for_their_owner_only_unless_asked_otherwise() {
    let database = database();
    for (arguments, mode) in [("", 0o600), ("--mode 640", 0o640)] {
        let folder = Folder::new();
        ran(&mut export(&database, &format!("--table t --quiet --to {} {arguments}", folder.text("out.jsonl")))).expect(0);
        assert_eq!(mode_of(&folder.join("out.jsonl")), mode);
        assert_eq!(mode_of(&folder.join("out.jsonl.journal")), mode);
    }
    let folder = Folder::new();
    let mut child = under_way(&database, &folder);
    for name in ["run.journal", "run.journal-wal", "run.journal-shm"] {
        assert_eq!(mode_of(&folder.join(name)), 0o600, "{name}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Through a symbolic link that leads nowhere, a file would be made in a place that nobody named.
#[test]
fn no_journal_is_made_through_a_link() {
    let (database, folder) = (database(), Folder::new());
    std::os::unix::fs::symlink(folder.join("elsewhere"), folder.join("out.jsonl.journal")).unwrap();
    let refused = ran(&mut export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")))).expect(74);
    assert!(refused.stderr.contains("is a symbolic link, which is not followed"), "{}", refused.stderr);
    assert_eq!(folder.names(), ["out.jsonl.journal"]);
}

#[test]
fn every_column_is_documented() {
    let connection = Connection::open_in_memory().unwrap();
    schema::create(&connection).unwrap();
    let tables = strings(&connection, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')");
    assert!(tables.len() >= 8, "{tables:?}");
    for table in tables {
        let columns: BTreeSet<String> =
            strings(&connection, &format!("SELECT name FROM pragma_table_info('{table}')")).into_iter().collect();
        let told = documented(&table).unwrap_or_else(|| panic!("docs/journal.md has no section for `{table}`: write ### `{table}`"));
        let untold: Vec<_> = columns.difference(&told).collect();
        let unknown: Vec<_> = told.difference(&columns).collect();
        assert!(untold.is_empty(), "docs/journal.md, `{table}`: no row for {untold:?}");
        assert!(unknown.is_empty(), "docs/journal.md, `{table}`: there is no {unknown:?}");
    }
    assert!(documentation().contains(&format!("of these tables: {}.", schema::VERSION)), "docs/journal.md: the version is another");
}

#[test]
fn the_documented_queries_work() {
    let (database, folder) = (database(), Folder::new());
    ran(&mut export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")))).expect(0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(folder.join("out.jsonl.journal"), flags).unwrap();
    let documentation = documentation();
    let queries: Vec<&str> = documentation.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(queries.len() >= 8);
    let mut rows = Vec::new();
    for query in queries {
        let mut statement = connection.prepare(query).unwrap_or_else(|error| panic!("{error}:\n{query}"));
        let count = statement.query([]).unwrap().mapped(|_| Ok(())).try_fold(0, |count, row| row.map(|()| count + 1));
        rows.push(count.unwrap_or_else(|error| panic!("{error}:\n{query}")));
    }
    // A run without a fault: one row each for progress, states, the chunk of a line, and the sum.
    assert_eq!([rows[0], rows[1], rows[7], rows[8]], [1; 4], "{rows:?}");
    assert_eq!([rows[5], rows[6]], [0; 2], "errors and dead letters: {rows:?}");
}
