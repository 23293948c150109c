//! Stopped, killed, and gone on with: the output is what an undisturbed run writes, or the program says why not.

use super::assert_same;
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, row_to_json, run, shown};
use insta::assert_snapshot;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The export of `t`, in small chunks.
pub(super) fn command(database: &Database<'_>, folder: &Folder, more: &str) -> Command {
    let to = if more.contains("--to") { String::new() } else { format!("--to {}", folder.text("out.jsonl")) };
    let group = if more.contains("--checkpoint-bytes") { "" } else { "--checkpoint-bytes 1MiB" };
    export(database, &format!("--table t {to} --quiet --chunk-bytes 16KiB {group} {more}"))
}

pub(super) fn kill(mut child: Child) -> bool {
    let killed = matches!(child.try_wait(), Ok(None));
    child.kill().unwrap();
    child.wait().unwrap();
    killed
}

/// Starts the export and kills it (SIGKILL) when its output has so many bytes.
#[track_caller]
pub(super) fn killed_at(database: &Database<'_>, folder: &Folder, bytes: u64, more: &str) {
    let partial = folder.join("out.jsonl.partial");
    let mut child = command(database, folder, &format!("--buffered {more}")).stderr(Stdio::null()).spawn().unwrap();
    super::faults::until("bytes in the output", || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
        partial.metadata().is_ok_and(|file| file.len() >= bytes)
    });
    assert!(kill(child));
}

pub(super) fn audited(folder: &Folder) {
    let audit = run(["inspect", &folder.text("out.jsonl.journal"), "audit"]).expect(0);
    assert!(audit.text().ends_with("sound\n"), "{}", audit.text());
}

/// A table of about 20 MB in 11 ranges, on which things take a moment.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 60000) i");
    super::faults::settled(&database);
    database
}

#[test]
fn a_killed_export_goes_on_byte_for_byte() {
    let database = database();
    let expected = row_to_json(&database, "t");
    for more in ["--connections 1 --workers 1", "--connections 4 --workers 4", "--unordered"] {
        let folder = Folder::new();
        killed_at(&database, &folder, 6 << 20, more);
        let ran = ran(command(&database, &folder, more).args(["--report", "json"])).expect(0);
        let report: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        assert_eq!(report[0]["run"]["rows"]["written"], 50_000);
        let again = report[0]["run"]["metrics"]["rows_admitted"].as_u64().unwrap();
        assert!(again < 150_000, "everything was read again");
        if more == "--unordered" {
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort_unstable();
                lines
            };
            assert_eq!(sorted(&folder.read("out.jsonl")), sorted(&expected));
        } else {
            assert_same(&folder.read("out.jsonl"), &expected);
        }
        audited(&folder);
    }
}

/// A table that is small, of which half is exported: the first ranges.
pub(super) fn half_done(database: &Database<'_>, more: &str) -> Folder {
    let folder = Folder::new();
    killed_at(database, &folder, 8 << 20, more);
    folder
}

#[track_caller]
pub(super) fn refused(database: &Database<'_>, folder: &Folder, more: &str) -> String {
    let before = std::fs::read(folder.join("out.jsonl.partial")).unwrap();
    let ran = ran(&mut command(database, folder, more)).expect(78);
    assert!(before == std::fs::read(folder.join("out.jsonl.partial")).unwrap(), "the output was touched");
    shown(&ran.stderr, folder, database)
}

/// A number that differs from run to run.
pub(super) fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if shown.ends_with('#') => {}
            '0'..='9' => shown.push('#'),
            other => shown.push(other),
        }
    }
    shown.replace("#-end", "#-#")
}

#[test]
fn a_table_that_changed_meanwhile_is_refused() {
    let updated = "DELETE FROM t WHERE id < 10100; VACUUM t; UPDATE t SET pad = pad || 'x' WHERE id BETWEEN 58000 AND 58020";
    for (change, what) in [
        ("INSERT INTO t VALUES (0, 'new')", "inserted"),
        ("UPDATE t SET pad = 'changed' WHERE id = 59999", "updated where nothing was read"),
        ("DELETE FROM t WHERE id = 10017", "deleted where it was read"),
        (updated, "moved from where nothing was read into free space where it was"),
        ("ALTER TABLE t ADD COLUMN more int", "another column"),
        ("VACUUM FULL t", "rewritten"),
    ] {
        let database = database();
        let folder = half_done(&database, "");
        database.psql(change);
        insta::with_settings!({ snapshot_suffix => what.replace(' ', "_") }, {
            assert_snapshot!(without_numbers(&refused(&database, &folder, "")));
        });
        ran(&mut command(&database, &folder, "--fresh")).expect(0);
        assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    }
}

/// Rows that an open transaction has written are not in the snapshot, and must not slip in on resume.
#[test]
fn a_transaction_that_was_open_is_a_change_once_it_commits() {
    let database = database();
    database.psql("CREATE TABLE go (x int)");
    let mut open = Command::new(crate::support::cluster::program("psql"));
    crate::support::cluster::without_pg_environment(&mut open);
    let sql = "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (0, 'late'); RELEASE s; SELECT pg_sleep(0.1); \\! sleep 2\nCOMMIT;";
    let mut child = open.arg(database.url()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), sql.replace("; ", ";\n").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let folder = half_done(&database, "");
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(refused(&database, &folder, "").contains("inserted or updated"));
}

#[test]
fn mixed_goes_on_in_whole_ranges_and_says_so() {
    let database = database();
    let folder = half_done(&database, "");
    database.psql("INSERT INTO t VALUES (0, 'new')");
    let ran = ran(&mut command(&database, &folder, "--consistency mixed")).expect(3);
    assert!(ran.stderr.contains("rows may be lost or doubled"), "{}", ran.stderr);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    audited(&folder);
}

#[test]
fn another_export_is_not_gone_on_with() {
    let database = database();
    let folder = half_done(&database, "");
    let refused = |more: &str| without_numbers(&refused(&database, &folder, more));
    assert_snapshot!(refused("--where id>5"));
    assert_snapshot!(refused("--columns id"));
    assert_snapshot!(refused("--compress gzip"));
    assert_snapshot!(refused("--unordered"));
    assert_snapshot!(refused(concat!("--definition ", env!("CARGO_MANIFEST_DIR"), "/fsm-definitions/direct.json")));
}

#[test]
fn another_query_is_not_gone_on_with() {
    let database = database();
    let folder = Folder::new();
    let query = |sql: &str| {
        let mut command = export(&database, &format!("--to {}", folder.text("out.jsonl")));
        command.args(["--query", sql]);
        ran(&mut command)
    };
    query("SELECT id FROM t WHERE id < 9").expect(0);
    let says = query("SELECT id FROM t WHERE id < 10").expect(78).stderr;
    assert_snapshot!(shown(&says, &folder, &database), @r#"
    error: [dir]/out.jsonl.journal is the journal of another export, or of a table that is another by now:
      identity.query: was "SELECT id FROM t WHERE id < 9", is "SELECT id FROM t WHERE id < 10"
    Ask for the same again to go on with it, or start over with --fresh.
    "#);
    assert!(query("SELECT id FROM t WHERE id < 9").expect(0).stderr.contains("already complete"));
}

#[test]
fn output_that_somebody_touched_is_not_gone_on_with() {
    let database = database();
    let folder = half_done(&database, "");
    let partial = folder.join("out.jsonl.partial");
    let whole = std::fs::read(&partial).unwrap();
    let says = |bytes: Option<&[u8]>| {
        match bytes {
            Some(bytes) => std::fs::write(&partial, bytes).unwrap(),
            None => std::fs::remove_file(&partial).unwrap(),
        }
        without_numbers(&shown(&ran(&mut command(&database, &folder, "")).expect(78).stderr, &folder, &database))
    };
    assert_snapshot!(says(Some(&whole[..1000])));
    let mut changed = whole.clone();
    changed[2_000_000] ^= 1;
    assert_snapshot!(says(Some(&changed)));
    assert_snapshot!(says(None));
    std::fs::write(&partial, &whole).unwrap();
    ran(&mut command(&database, &folder, "")).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
}

#[test]
fn journals_that_cannot_be_used_are_left_alone() {
    let database = database();
    let folder = half_done(&database, "");
    let journal = folder.join("out.jsonl.journal");
    // Brings the journal to one file.
    rusqlite::Connection::open(&journal).unwrap().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    let whole = std::fs::read(&journal).unwrap();
    let says = |bytes: &[u8], code: i32| {
        std::fs::write(&journal, bytes).unwrap();
        let ran = ran(&mut command(&database, &folder, "")).expect(code);
        assert!(std::fs::read(&journal).unwrap() == bytes, "the journal was touched");
        shown(&ran.stderr, &folder, &database)
    };
    assert_snapshot!(says(b"not a journal at all, but a text of some length", 78));
    assert_snapshot!(says(&whole[..whole.len() / 2], 78));
    // Of the right length and with the right head, but damaged inside.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..][..3 * 4096].fill(0x5a);
    assert!(says(&damaged, 78).contains("damaged"), "{}", says(&damaged, 78));
    let newer = folder.join("newer");
    std::fs::write(&newer, &whole).unwrap();
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert_snapshot!(says(&std::fs::read(&newer).unwrap(), 78));
}

#[test]
fn a_complete_export_is_not_read_again() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i");
    let folder = Folder::new();
    let again = |more: &str| -> Ran { ran(&mut export(&database, &format!("--table t --to {} {more}", folder.text("out.jsonl")))) };
    again("--quiet").expect(0);
    let journal = std::fs::read(folder.join("out.jsonl.journal")).unwrap();
    assert_snapshot!(without_numbers(&shown(&again("").expect(0).stderr, &folder, &database)));
    assert_eq!(journal, std::fs::read(folder.join("out.jsonl.journal")).unwrap());
    database.psql("INSERT INTO t VALUES (0)");
    again("--fresh").expect(78);
    again("--fresh --force --quiet").expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    std::fs::write(folder.join("out.jsonl"), "").unwrap();
    assert_snapshot!(without_numbers(&shown(&again("").expect(78).stderr, &folder, &database)));
    std::fs::remove_file(folder.join("out.jsonl")).unwrap();
    assert_snapshot!(without_numbers(&shown(&again("").expect(78).stderr, &folder, &database)));
}

/// Killed between giving the output its name and saying so.
#[test]
fn a_finish_that_was_cut_off_is_made_good() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i");
    for renamed in [true, false] {
        let folder = Folder::new();
        ran(&mut command(&database, &folder, "")).expect(0);
        let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
        journal.execute_batch("UPDATE runs SET phase = 'finishing', ended_at = NULL, rows_read = NULL").unwrap();
        drop(journal);
        if !renamed {
            std::fs::rename(folder.join("out.jsonl"), folder.join("out.jsonl.partial")).unwrap();
        }
        // Whoever made it good was killed too, and the table is another by now: nothing of it is left to be read.
        let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
        journal
            .execute_batch(
                "CREATE TEMP TABLE r AS SELECT * FROM runs; UPDATE r SET run = 2, phase = 'running'; INSERT INTO runs SELECT * FROM r",
            )
            .unwrap();
        drop(journal);
        let expected = row_to_json(&database, "t");
        database.psql("UPDATE t SET id = id + 1 WHERE id = 5");
        ran(&mut command(&database, &folder, "")).expect(0);
        assert_same(&folder.read("out.jsonl"), &expected);
        assert_eq!(folder.names(), ["out.jsonl", "out.jsonl.journal"]);
        audited(&folder);
    }
}

#[test]
fn what_is_read_by_one_statement_starts_over() {
    let database = database();
    database.psql("CREATE VIEW v AS SELECT * FROM t");
    let folder = Folder::new();
    let words = format!("--table v --to {} --quiet --chunk-bytes 16KiB --buffered", folder.text("out.jsonl"));
    let mut child = export(&database, &words).stderr(Stdio::null()).spawn().unwrap();
    super::faults::until("bytes", || {
        child.try_wait().unwrap().is_some() || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20)
    });
    assert!(kill(child));
    let ran = ran(&mut export(&database, &words)).expect(0);
    assert!(ran.stderr.contains("starting over, because what is read by one statement cannot be continued"), "{}", ran.stderr);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "v"));
}

/// Several tables are of one snapshot, also when they were not all exported by one run.
#[test]
fn tables_of_one_snapshot_stay_that() {
    let database = database();
    database.psql("CREATE TABLE s AS SELECT i AS id FROM generate_series(1, 1000) i");
    super::faults::settled(&database);
    let folder = Folder::new();
    let words = format!("--table s --table t --to {} --quiet --chunk-bytes 16KiB --buffered", folder.text("{table}.jsonl"));
    let cut_off = || {
        let mut child = export(&database, &words).stderr(Stdio::null()).spawn().unwrap();
        super::faults::until("bytes", || {
            child.try_wait().unwrap().is_some() || folder.join("t.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20)
        });
        assert!(kill(child));
    };
    cut_off();
    assert!(folder.join("s.jsonl").exists());
    database.psql("DELETE FROM s WHERE id = 1");
    let refused = ran(&mut export(&database, &words)).expect(78);
    assert!(refused.stderr.contains("has changed since it was begun"), "{}", refused.stderr);
    database.psql("TRUNCATE s; INSERT INTO s SELECT i FROM generate_series(1, 1000) i");
    ran(&mut export(&database, &words)).expect(78);
    ran(&mut export(&database, &format!("{words} --fresh --force"))).expect(0);
    assert_same(&folder.read("s.jsonl"), &row_to_json(&database, "s"));
    assert_same(&folder.read("t.jsonl"), &row_to_json(&database, "t"));
}

#[test]
fn a_file_per_lane_goes_on_with_as_many_files() {
    let database = database();
    let folder = Folder::new();
    let words = |connections: u8| {
        format!("--table t --to {} --quiet --chunk-bytes 16KiB --connections {connections} --buffered", folder.text("part-{n}.jsonl"))
    };
    let mut child = export(&database, &words(3)).stderr(Stdio::null()).spawn().unwrap();
    super::faults::until("bytes", || {
        child.try_wait().unwrap().is_some() || folder.join("part-2.jsonl.partial").metadata().is_ok_and(|file| file.len() > 1 << 20)
    });
    assert!(kill(child));
    ran(&mut export(&database, &words(2))).expect(0);
    let parts: String = (0..3).map(|part| folder.read(&format!("part-{part}.jsonl"))).collect();
    assert_same(&parts, &row_to_json(&database, "t"));
}

/// What was given away cannot be taken back, and what comes behind it would not be the whole.
#[test]
fn a_stream_is_not_gone_on_with() {
    let database = database();
    let folder = Folder::new();
    let words = format!("--table t --to - --journal {} --quiet --chunk-bytes 16KiB --checkpoint-bytes 1MiB", folder.text("journal"));
    let mut child = export(&database, &words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut vec![0; 6 << 20]).unwrap();
    super::faults::until("a finished range in the journal", || {
        let journal = rusqlite::Connection::open(folder.join("journal")).unwrap();
        journal.query_row("SELECT count(*) FROM chunks WHERE final", [], |row| row.get::<_, i64>(0)).is_ok_and(|chunks| chunks > 100)
    });
    assert!(kill(child));
    let again = ran(&mut export(&database, &words)).expect(0);
    assert!(again.stderr.contains("starting over, because what went into a stream cannot be taken back"), "{}", again.stderr);
    assert_same(again.text(), &row_to_json(&database, "t"));
}

/// Each output is known by its own name, also where they are called the same in directories of their own.
#[test]
fn outputs_of_one_name_are_told_apart() {
    let database = database();
    let folder = Folder::new();
    (0..3).for_each(|part| std::fs::create_dir(folder.join(&format!("part{part}"))).unwrap());
    let (to, journal) = (folder.text("part{n}/out.jsonl"), folder.text("journal"));
    let words = format!("--table t --to {to} --journal {journal} --quiet --chunk-bytes 16KiB --connections 3 --buffered");
    let mut child = export(&database, &format!("{words} --checkpoint-bytes 1MiB")).stderr(Stdio::null()).spawn().unwrap();
    super::faults::until("bytes", || {
        child.try_wait().unwrap().is_some() || folder.join("part1/out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 2 << 20)
    });
    assert!(kill(child));
    ran(&mut export(&database, &words)).expect(0);
    let parts: String = (0..3).map(|part| folder.read(&format!("part{part}/out.jsonl"))).collect();
    assert_same(&parts, &row_to_json(&database, "t"));
    let dead = folder.text("part1/out.jsonl");
    let refused = ran(&mut export(&database, &format!("--table t --to {} --dead-letter {dead}", folder.text("out.jsonl")))).expect(78);
    assert!(refused.stderr.contains("has the name of the output"), "{}", refused.stderr);
}

#[test]
fn an_output_by_another_name_is_not_gone_on_with() {
    let database = database();
    let folder = Folder::new();
    let journal = format!("--journal {}", folder.text("journal"));
    killed_at(&database, &folder, 8 << 20, &journal);
    std::fs::rename(folder.join("out.jsonl.partial"), folder.join("other.jsonl.partial")).unwrap();
    let other = format!("{journal} --to {}", folder.text("other.jsonl"));
    let before = std::fs::read(folder.join("other.jsonl.partial")).unwrap();
    assert_snapshot!(without_numbers(&shown(&ran(&mut command(&database, &folder, &other)).expect(78).stderr, &folder, &database)));
    assert!(before == std::fs::read(folder.join("other.jsonl.partial")).unwrap(), "the output was touched");
    std::fs::rename(folder.join("other.jsonl.partial"), folder.join("out.jsonl.partial")).unwrap();
    ran(&mut command(&database, &folder, &journal)).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
}

/// Rows of one length move up behind one that was deleted, and the chunks have as many rows and bytes as before.
#[test]
fn a_row_that_went_from_a_half_done_range_is_noticed() {
    let database = database();
    let half_done = "SELECT origin FROM chunks c WHERE final GROUP BY range
        HAVING count(*) <> coalesce((SELECT chunks FROM ranges r WHERE r.range = c.range), -1)";
    for tenth in 40..90 {
        let folder = Folder::new();
        killed_at(&database, &folder, tenth << 17, "--connections 1 --workers 1 --checkpoint-bytes 128KiB");
        let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
        let Ok(origin) = journal.query_row(half_done, [], |row| row.get::<_, String>(0)) else { continue };
        drop(journal);
        let page = origin.rsplit_once(' ').unwrap().1.split_once('-').unwrap().0;
        database.psql(&format!("DELETE FROM t WHERE ctid = '({page},3)'"));
        let refused = ran(&mut command(&database, &folder, "")).expect(78);
        assert!(refused.stderr.contains("has other rows than when it was exported"), "{}", refused.stderr);
        return;
    }
    panic!("no range was ever half done");
}

#[test]
fn a_column_that_came_back_under_its_old_name_is_another() {
    let database = database();
    let folder = half_done(&database, "");
    database.psql("ALTER TABLE t DROP COLUMN pad; ALTER TABLE t ADD COLUMN pad text DEFAULT 'x'");
    assert!(refused(&database, &folder, "").contains("identity.numbers[1]: was 2, is 3"));
}

/// A chunk that the sink has and the definition keeps on its way cannot be read again, whatever the definition calls the invocation.
#[test]
fn a_chunk_in_the_output_that_had_more_to_do_is_not_written_twice() {
    let database = database();
    let folder = Folder::new();
    let machine = r#"{ "id": "m", "initial": "received", "states": {
        "received": { "invoke": { "src": "transform", "onDone": "transformed", "onError": "failed" } },
        "transformed": { "invoke": { "id": "write", "src": "sink", "onDone": "written", "onError": "failed" } },
        "written": { "after": { "2000": "sunk" } }, "sunk": { "type": "final" }, "failed": { "type": "final" } } }"#;
    std::fs::write(folder.join("machine.json"), machine).unwrap();
    let definition = format!("--definition {}", folder.text("machine.json"));
    killed_at(&database, &folder, 6 << 20, &definition);
    assert!(refused(&database, &folder, &definition).contains("is in the output and had more to do by its definition"));
}

/// The journal is one run's alone, also where another run would write another output.
#[test]
fn a_journal_that_is_being_written_is_not_replaced() {
    let database = database();
    let folder = Folder::new();
    let journal = format!("--journal {}", folder.text("journal"));
    let mut child = command(&database, &folder, &format!("--workers 1 --connections 1 {journal}")).stderr(Stdio::null()).spawn().unwrap();
    super::faults::until("bytes", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 0));
    let (pid, process) = (child.id(), rustix::process::Pid::from_child(&child));
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    for more in ["", "--fresh", "--fresh --force"] {
        for to in ["out.jsonl", "other.jsonl"] {
            let other = ran(&mut command(&database, &folder, &format!("{journal} --to {} {more}", folder.text(to))));
            let is_told = other.stderr.contains(&format!("is being written by process {pid}"));
            let is_another = to == "other.jsonl" && more.is_empty() && other.code == Some(78);
            assert!(is_another || other.code == Some(75) && is_told, "{to} {more}: {:?} {}", other.code, other.stderr);
        }
    }
    rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    assert_eq!(folder.names(), ["journal", "out.jsonl"]);
    run(["inspect", &folder.text("journal"), "audit"]).expect(0);
}

/// Killed in the middle of a change to a journal without a write-ahead log.
#[test]
fn a_change_that_was_cut_off_in_the_journal_is_undone() {
    let database = database();
    let (folder, left) = (half_done(&database, ""), Folder::new());
    let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
    journal.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN; UPDATE transitions SET worker = 99").unwrap();
    for name in folder.names() {
        std::fs::copy(folder.join(&name), left.join(&name)).unwrap();
    }
    drop(journal);
    assert!(left.names().contains(&"out.jsonl.journal-journal".to_owned()), "{:?}", left.names());
    run(["inspect", &left.text("out.jsonl.journal"), "audit"]).expect(78);
    ran(&mut command(&database, &left, "")).expect(0);
    assert_same(&left.read("out.jsonl"), &row_to_json(&database, "t"));
    audited(&left);
}

/// The snapshot is gone with the server, and the same process goes on under another: twice.
#[test]
fn a_server_that_is_restarted_in_mid_run_costs_nothing() {
    let cluster = Cluster::start(&crate::support::cluster::Options::default());
    let database = cluster.fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 110000) i; CHECKPOINT");
    let folder = Folder::new();
    let mut child = command(&database, &folder, "--buffered --connections 2 --workers 1").stderr(Stdio::piped()).spawn().unwrap();
    let process = rustix::process::Pid::from_child(&child);
    for bytes in [4_u64 << 20, 12 << 20] {
        super::faults::until("bytes in the output", || {
            assert_eq!(child.try_wait().unwrap(), None, "it ended too soon");
            folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() >= bytes)
        });
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
        cluster.crash();
        cluster.start_again();
        rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    }
    let ended: Ran = child.wait_with_output().unwrap().into();
    let ended = ended.expect(0);
    assert!(ended.stderr.contains("going on under a new snapshot, if nothing has changed"), "{}", ended.stderr);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    audited(&folder);
}

/// `--force` replaces a file under the final name. It is no leave to mix.
#[test]
fn force_goes_on_or_refuses_like_any_other() {
    let database = database();
    let folder = half_done(&database, "");
    assert!(refused(&database, &folder, "--force --columns id").contains("identity.columns"));
    let (going_on, to) = (Folder::new(), folder.text("out.jsonl"));
    for name in folder.names() {
        std::fs::copy(folder.join(&name), going_on.join(&name)).unwrap();
    }
    let words = format!("--table t --force --to {}", going_on.text("out.jsonl"));
    let resumed = ran(&mut export(&database, &words)).expect(0);
    let told = without_numbers(resumed.stderr.lines().find(|line| line.contains("resuming")).unwrap());
    assert_snapshot!(told, @"t: resuming: # of # ranges and #,# rows done");
    assert_same(&going_on.read("out.jsonl"), &row_to_json(&database, "t"));
    database.psql("UPDATE t SET pad = 'changed' WHERE id = 59999");
    assert!(refused(&database, &folder, "--force").contains("has changed since it was begun"));
    // A second copy of the database is another source.
    database.psql(&format!("CREATE DATABASE {0}_copy TEMPLATE template0", database.name()));
    let mut other = export(&database, &format!("--table t --force --to {to}"));
    other.args(["--from", &database.url().replace(database.name(), &format!("{}_copy", database.name()))]);
    assert_ne!(ran(&mut other).code, Some(0));
    assert!(!folder.join("out.jsonl").exists());
}
