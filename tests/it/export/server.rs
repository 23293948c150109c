//! What a server does to those who read it: it ends their sessions, has no place for them, and sets them limits.

use super::assert_same;
use super::faults::until;
use super::resume::{audited, command, half_done, refused};
use crate::support::cluster::{Cluster, Database, program, without_pg_environment};
use crate::support::program::{Folder, Ran, ran, row_to_json, shown, sluicegate};
use insta::assert_snapshot;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A condition `gate(id)` that holds for all rows, and waits at every thousandth one if somebody has [`Closed`] it there.
pub(super) fn gate(database: &Database<'_>) {
    database.psql(
        "CREATE FUNCTION gate(id int) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN IF id % 1000 = 0 THEN PERFORM pg_advisory_xact_lock_shared(id); END IF; RETURN true; END $$",
    );
}

/// A session that has done something, and stays until its input ends.
fn session(conninfo: &str, sql: &str) -> Child {
    let mut psql = Command::new(program("psql"));
    without_pg_environment(&mut psql);
    let mut session = psql.args(["-XqAt", conninfo]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("no psql");
    writeln!(session.stdin.as_mut().expect("piped"), "{sql}").expect("psql does not read");
    session
}

/// A gate that is closed until this is dropped.
pub(super) struct Closed<'a> {
    database: &'a Database<'a>,
    id: u32,
    session: Child,
}

impl<'a> Closed<'a> {
    pub(super) fn at(database: &'a Database<'a>, id: u32) -> Closed<'a> {
        let closed = Closed { database, id, session: session(&database.url(), &format!("SELECT pg_advisory_lock({id});")) };
        until("the gate to be closed", || closed.locks("granted") == "1");
        closed
    }

    /// How many sessions hold the gate, or wait for it.
    fn locks(&self, which: &str) -> String {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        self.database.psql(&format!("{locks} AND objid = {} AND {which}", self.id))
    }

    /// Waits until somebody stands before it.
    pub(super) fn wait(&self) {
        until("somebody before the gate", || self.locks("NOT granted") == "1");
    }

    /// Does something to whoever stands before it: `pg_cancel_backend` or `pg_terminate_backend`.
    pub(super) fn to_who_waits(&self, what: &str) {
        self.wait();
        // Other tests have gates of the same number in databases of their own.
        let here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let sql =
            format!("SELECT {what}(pid) FROM pg_locks WHERE locktype = 'advisory' AND {here} AND objid = {} AND NOT granted", self.id);
        assert_eq!(self.database.psql(&sql), "t");
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // The lock ends with the session, and the session with its input.
        drop(self.session.stdin.take());
        let _ = self.session.wait();
    }
}

/// A table of 5 ranges with a gate in each.
fn gated() -> (Database<'static>, [u32; 5]) {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 34000) i");
    gate(&database);
    let place = |id: u32| database.psql(&format!("SELECT (ctid::text::point)[0]::int / 255 FROM t WHERE id = {id}"));
    let gates = [12_000, 18_000, 24_000, 29_000, 33_000];
    assert_eq!(gates.map(place), ["0", "1", "2", "3", "4"]);
    (database, gates)
}

#[test]
fn sessions_are_ended_and_statements_cancelled_in_each_range_in_turn() {
    let (database, gates) = gated();
    for what in ["pg_terminate_backend", "pg_cancel_backend"] {
        let folder = Folder::new();
        let closed: Vec<Closed<'_>> = gates.iter().map(|id| Closed::at(&database, *id)).collect();
        let child = command(&database, &folder, "--connections 1 --where gate(id)").stderr(Stdio::piped()).spawn().unwrap();
        closed.into_iter().for_each(|closed| closed.to_who_waits(what));
        let ended: Ran = child.wait_with_output().unwrap().into();
        let ended = ended.expect(0);
        assert_eq!(ended.stderr.matches("paused, will try again").count(), 5, "{}", ended.stderr);
        for range in ["0-254", "255-509", "510-764", "765-1019", "1020-end"] {
            assert!(ended.stderr.contains(&format!("while reading t pages {range}")), "{range}: {}", ended.stderr);
        }
        assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
        audited(&folder);
    }
}

/// Limits that are set on a role or a database for others than us.
#[test]
fn timeouts_of_the_role_are_not_ours() {
    let (database, gates) = gated();
    let role = format!("limited_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role}"));
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        database.psql(&format!("ALTER ROLE {role} SET {setting} = '300ms'"));
    }
    let from = database.url().replace("postgres@", &format!("{role}@"));
    let folder = Folder::new();
    let closed = Closed::at(&database, gates[2]);
    let mut command = sluicegate();
    let words = ["--table", "t", "--where", "gate(id)", "--quiet", "--to", &folder.text("out.jsonl")];
    let child = command.args(["export", "--from", &from]).args(words).stderr(Stdio::piped()).spawn().unwrap();
    closed.wait();
    std::thread::sleep(Duration::from_secs(1));
    drop(closed);
    let ended: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ended.expect(0).stderr, "");
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
}

#[test]
fn a_server_without_places_is_read_on_fewer_connections_or_waited_for() {
    let (database, _) = gated();
    let role = format!("few_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role}"));
    let from = database.url().replace("postgres@", &format!("{role}@"));
    let exporting = |folder: &Folder, limit: u8, patience: &str| {
        database.psql(&format!("ALTER ROLE {role} CONNECTION LIMIT {limit}"));
        let mut command = sluicegate();
        command.args(["export", "--table", "t", "--quiet", "--connections", "4", "--from", &from, "--to", &folder.text("out.jsonl")]);
        command.args(["--give-up-after", patience]);
        command
    };
    let expected = row_to_json(&database, "t");
    let folder = Folder::new();
    let fewer = ran(&mut exporting(&folder, 2, "60s")).expect(0);
    assert_eq!(fewer.stderr.matches("the server has no place for it").count(), 3, "{}", fewer.stderr);
    assert_same(&folder.read("out.jsonl"), &expected);

    let folder = Folder::new();
    let none = ran(&mut exporting(&folder, 1, "300ms")).expect(69);
    let error = none.stderr.split_once("error: ").expect("an error").1;
    assert_snapshot!(shown(error, &folder, &database), @r#"
    Postgres at 127.0.0.1:[port] has no connection left; use fewer here, or raise `max_connections` or the limit of the role or database
      because: FATAL 53300: too many connections for role "few_[db]"
    What was written so far is kept. The same command goes on from there.
    "#);

    // Somebody else has the last place, and leaves.
    let mut other = session(&from, "SELECT 1;");
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    until("the other session", || database.psql(&sessions) == "1");
    let folder = Folder::new();
    let child = exporting(&folder, 2, "60s").stderr(Stdio::piped()).spawn().unwrap();
    until("the export's session", || database.psql(&sessions) == "2");
    std::thread::sleep(Duration::from_millis(500));
    drop(other.stdin.take());
    other.wait().unwrap();
    let ended: Ran = child.wait_with_output().unwrap().into();
    assert!(ended.expect(0).stderr.contains("paused, will try again"));
    assert_same(&folder.read("out.jsonl"), &expected);
}

/// What runs in another database cannot have written here, however long it runs.
#[test]
fn transactions_of_other_databases_are_no_change() {
    let (database, other, another) =
        (Cluster::shared().fresh_database(), Cluster::shared().fresh_database(), Cluster::shared().fresh_database());
    another.psql(&format!("CREATE TABLE x (i int); BEGIN; INSERT INTO x VALUES (1); PREPARE TRANSACTION '{}'", another.name()));
    let mut open = session(&other.url(), "CREATE TABLE x (i int); BEGIN; SAVEPOINT s; INSERT INTO x VALUES (1); SELECT pg_sleep(0);");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL";
    until("an open transaction", || other.psql(running) == "1");
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 60000) i");
    let expected = row_to_json(&database, "t");
    let folder = half_done(&database, "");
    ran(&mut command(&database, &folder, "")).expect(0);
    assert_same(&folder.read("out.jsonl"), &expected);

    // They may also end before it is gone on with.
    let folder = half_done(&database, "");
    drop(open.stdin.take());
    open.wait().unwrap();
    another.psql(&format!("ROLLBACK PREPARED '{}'", another.name()));
    ran(&mut command(&database, &folder, "")).expect(0);
    assert_same(&folder.read("out.jsonl"), &expected);
}

/// In the same database it may have written here, and shows it once it commits.
#[test]
fn a_transaction_of_the_same_database_is_a_change_if_it_wrote_here() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 60000) i");
    super::faults::settled(&database);
    let mut open = session(&database.url(), "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (0, 'late'); RELEASE s;");
    until("an open transaction", || {
        database.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL") == "1"
    });
    let folder = half_done(&database, "");
    writeln!(open.stdin.as_mut().unwrap(), "COMMIT;").unwrap();
    drop(open.stdin.take());
    open.wait().unwrap();
    assert!(refused(&database, &folder, "").contains("1 rows were inserted or updated"));
}
