//! The control connection: one transaction that holds the snapshot everything is read under.

use super::connect::{ConnectError, ConnectErrorKind, Connector};
use super::conninfo::ConnInfo;
use super::export::{Export, ReadMode};
use super::frozen::{LOOK, PAUSE_STATE, Standstill};
use super::sql::{literal, shown};
use super::view::View;
use crate::trouble::{Trouble, TroubleKind};
use postgres::{Client, SimpleQueryMessage};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Instant;

/// What is pinned in every transaction, so that the same rows always give the same text. `search_path` and `lc_monetary` stay as they are.
const PINNED: &[(&str, &str)] = &[
    // First of all: what is asked for next may take as long as it takes.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_encoding", "'UTF8'"),
    ("\"TimeZone\"", "'UTC'"),
    ("\"DateStyle\"", "'ISO, MDY'"),
    ("\"IntervalStyle\"", "'postgres'"),
    ("bytea_output", "'hex'"),
    ("extra_float_digits", "1"),
    ("xmlbinary", "'base64'"),
    ("quote_all_identifiers", "off"),
    // Each scan starts at the first page, and runs in one process: the order of rows is the order in the table.
    ("synchronize_seqscans", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// What else is pinned where pages are read by number: a filter must not make the planner use an index and visit them in another order.
const PINNED_FOR_PAGES: &[(&str, &str)] = &[("enable_indexscan", "off"), ("enable_indexonlyscan", "off"), ("enable_bitmapscan", "off")];

/// And where ranges of a key are: the planner must not read the whole table for one, whatever its statistics make it believe.
const PINNED_FOR_KEYS: &[(&str, &str)] = &[("enable_seqscan", "off")];

/// What to do about policies that would hide rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSecurity {
    /// Refuse to read a table that has one: an export must not miss rows silently.
    #[default]
    Refuse,
    /// Read what the policy lets this role see.
    Apply,
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// Number of the version, like 150018.
    pub version: u32,
    /// Its text, like `15.18`.
    pub version_text: String,
    /// The database.
    pub database: String,
    /// The role.
    pub role: String,
    /// Encoding of the database.
    pub encoding: String,
    /// Bytes of a page.
    pub block_bytes: u64,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Names this cluster among all, if we may know.
    pub system_identifier: Option<String>,
    /// The timeline, if we may know.
    pub timeline: Option<u32>,
    /// `search_path`, which decides how names in `reg*` values are written.
    pub search_path: String,
    /// `lc_monetary`, which decides how `money` is written.
    pub lc_monetary: String,
}

impl ServerFacts {
    /// Whether the database may hold text in any encoding or none.
    pub fn has_no_encoding(&self) -> bool {
        self.encoding == "SQL_ASCII"
    }
}

/// What is known of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// The id under which other sessions can import it. Empty where the server stands still and none is needed.
    pub id: String,
    /// `xmin:xmax:xip`, as `pg_current_snapshot()` prints it.
    pub transactions: String,
    /// Where the write-ahead log was when it was taken.
    pub lsn: Option<String>,
    /// When it was taken, by the server's clock.
    pub taken_at: String,
    /// Those of the transactions running then that ran in other databases, and so wrote nothing in the tables of this one. None where
    /// that cannot be told: on a standby, and in journals of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Vec<u64>>,
    /// Whether it is no snapshot that is held, but a standby that stands still at `lsn`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
}

/// A transaction that holds a snapshot, and answers questions. Once [released](Session::release) it only answers.
pub struct Session {
    connector: Connector,
    client: Client,
    server: ServerFacts,
    snapshot: SnapshotFacts,
    since: Instant,
    row_security: RowSecurity,
    /// Where the server stands, if that is what the run relies on.
    standstill: Option<Standstill>,
    /// Whether the transaction with the snapshot is under way.
    holds: bool,
}

/// One row of an answer: text or NULL.
pub(super) type Row = Vec<Option<String>>;

impl Session {
    /// Connects, begins a transaction, and exports its snapshot.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(connector: &Connector, row_security: RowSecurity) -> Result<Session, Trouble> {
        let mut client = connector.client().map_err(connect_trouble)?;
        let version = server_version(&mut client)?;
        run(&mut client, &begin(REPEATABLE, None, row_security, version, &[]), "begin a transaction")?;
        let since = Instant::now();
        let snapshot = snapshot_facts(&mut client)?;
        let server = server_facts(&mut client, version)?;
        Ok(Session { connector: connector.clone(), client, server, snapshot, since, row_security, standstill: None, holds: true })
    }

    /// The same on a standby or clone whose replay is paused: nothing changes there, so no snapshot is exported, and none has to be held
    /// while the tables are read. Every connection looks, before and after each range, whether the server still stands where it did.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not stand still.
    pub fn open_frozen(connector: &Connector, row_security: RowSecurity) -> Result<Session, Trouble> {
        let mut client = connector.client().map_err(connect_trouble)?;
        let version = server_version(&mut client)?;
        let before = standstill(&mut client, version)?;
        run(&mut client, &begin(REPEATABLE, None, row_security, version, &[]), "begin a transaction")?;
        let since = Instant::now();
        let mut row = one(&mut client, "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.now()", "take a snapshot")?;
        let server = server_facts(&mut client, version)?;
        let at = standstill(&mut client, version)?;
        if before != at {
            let message = format!("replay went on from {} to {} while the standby was looked at", before.lsn, at.lsn);
            return Err(Trouble::passing(TroubleKind::Unavailable, message));
        }
        let snapshot = SnapshotFacts {
            id: String::new(),
            transactions: text(&mut row, 0),
            lsn: Some(at.lsn.clone()),
            taken_at: text(&mut row, 1),
            elsewhere: None,
            frozen: true,
        };
        Ok(Session { connector: connector.clone(), client, server, snapshot, since, row_security, standstill: Some(at), holds: true })
    }

    /// Lets the snapshot go. From here on every question is a transaction of its own, and nothing keeps the server from cleaning up.
    /// For exports that need no snapshot: by [key](super::Request::key), and of a server that stands still. Others could not be read any
    /// more.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn release(&mut self) -> Result<(), Trouble> {
        if std::mem::take(&mut self.holds) {
            run(&mut self.client, "COMMIT", "end a transaction")?;
        }
        Ok(())
    }

    /// [`Session::open`] on a URL or `key=value` string as libpq takes it; what it leaves open comes from `PG*` variables, the service
    /// file and the password file. Tables with row-security policies that would hide rows are refused.
    ///
    /// # Errors
    /// When the text is no such string, or the server cannot be reached or refuses.
    pub fn connect(conninfo: &str) -> Result<Session, Trouble> {
        let wrong = |error: String| Trouble::lasting(TroubleKind::Configuration, error);
        let info = ConnInfo::parse(conninfo).map_err(|error| wrong(error.to_string()))?;
        let connector = Connector::new(info).map_err(|error| wrong(error.to_string()))?;
        Session::open(&connector, RowSecurity::Refuse)
    }

    /// Makes further connections to the same server.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// What the server says of itself.
    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// The snapshot that this transaction holds.
    pub fn snapshot(&self) -> &SnapshotFacts {
        &self.snapshot
    }

    /// When the snapshot was taken, by our clock.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What is done about policies.
    pub fn row_security(&self) -> RowSecurity {
        self.row_security
    }

    /// What other connections read `export` under: what this session sees, or, by key, each range at a moment of its own.
    pub(super) fn view(&self, export: &Export) -> View {
        let more = match &export.mode {
            ReadMode::Pages => PINNED_FOR_PAGES,
            ReadMode::Keyset { .. } => PINNED_FOR_KEYS,
            ReadMode::OneLane { .. } => &[],
        };
        let (isolation, snapshot) = match &self.standstill {
            Some(_) => ("READ COMMITTED", None),
            None if export.is_by_key() => (REPEATABLE, None),
            None => (REPEATABLE, Some(&*self.snapshot.id)),
        };
        let mut begin = begin(isolation, snapshot, self.row_security, self.server.version, more);
        if self.server.has_no_encoding() {
            // The server would refuse to send what is not UTF-8; it has to come as it is, and is looked at here.
            begin.push_str("SET LOCAL client_encoding = 'SQL_ASCII';");
        }
        match (&self.standstill, export.guard()) {
            (Some(at), _) => View::Frozen { begin, at: at.clone() },
            (None, Some(guard)) => View::Moments { begin, guard: guard.clone() },
            (None, None) => View::Snapshot { begin },
        }
    }

    /// Asks something; `doing` completes "cannot …" when it fails.
    pub(super) fn ask(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>, Trouble> {
        if self.holds {
            return run(&mut self.client, sql, doing);
        }
        let whole = format!("{}{sql};COMMIT", begin(REPEATABLE, None, self.row_security, self.server.version, &[]));
        let answer = run(&mut self.client, &whole, doing);
        if answer.is_err() {
            // Without effect if the connection is what is at fault.
            let _ = run(&mut self.client, "ROLLBACK", doing);
        }
        answer
    }

    /// Locks everything that `select` reads, so that nobody rewrites it while the snapshot is held, and makes sure that nobody has just
    /// done so: an `ALTER TABLE` that makes a new file marks every row in it as its own, and a snapshot from before sees none of them.
    ///
    /// # Errors
    /// Passing trouble when somebody has: a new session sees the rows.
    pub(super) fn lock(&mut self, select: &str) -> Result<(), Trouble> {
        // Planning takes the locks, and nothing is run.
        self.ask(&format!("EXPLAIN {select}"), "use this SQL")?;
        // What the catalog says under the snapshot, against the file in use now.
        let rewritten = "SELECT n.nspname, c.relname FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'm') AND c.relfilenode <> 0
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
                AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid) LIMIT 1";
        match self.ask(rewritten, "look whether tables were rewritten")?.as_slice() {
            [] => Ok(()),
            [row, ..] => {
                let name = shown(row[0].as_deref().unwrap_or_default(), row[1].as_deref().unwrap_or_default());
                let message = format!("{name} was rewritten after the snapshot was taken, which may not see its rows");
                Err(Trouble::passing(TroubleKind::Unavailable, message))
            }
        }
    }

    /// Names and type ids of a query's columns. The query is not run. `flag` is where its author wrote what may be wrong with it.
    pub(super) fn describe(&mut self, sql: &str, flag: &str) -> Result<Vec<(String, u32)>, Trouble> {
        let statement = self.client.prepare(sql).map_err(|error| query_trouble(&error, &format!("use {flag}")))?;
        Ok(statement.columns().iter().map(|column| (column.name().to_owned(), column.type_().oid())).collect())
    }
}

/// All statements of a transaction see the same.
const REPEATABLE: &str = "REPEATABLE READ";

/// The statements that begin a transaction with everything pinned and `more`, under `snapshot` if there is one.
fn begin(isolation: &str, snapshot: Option<&str>, row_security: RowSecurity, version: u32, more: &[(&str, &str)]) -> String {
    let mut sql = format!("BEGIN ISOLATION LEVEL {isolation} READ ONLY;");
    if let Some(snapshot) = snapshot {
        let _ = write!(sql, "SET TRANSACTION SNAPSHOT {};", literal(snapshot));
    }
    let newer = if version >= 170_000 { &[("transaction_timeout", "0")][..] } else { &[] };
    for (name, value) in PINNED.iter().chain(newer).chain(more) {
        let _ = write!(sql, "SET LOCAL {name} = {value};");
    }
    let _ = write!(sql, "SET LOCAL row_security = {};", if row_security == RowSecurity::Apply { "on" } else { "off" });
    sql
}

fn run(client: &mut Client, sql: &str, doing: &str) -> Result<Vec<Row>, Trouble> {
    let messages = client.simple_query(sql).map_err(|error| query_trouble(&error, doing))?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

/// The one row of an answer that always has one.
fn one(client: &mut Client, sql: &str, doing: &str) -> Result<Row, Trouble> {
    let missing = || Trouble::lasting(TroubleKind::Unavailable, format!("cannot {doing}: the server gave no answer"));
    run(client, sql, doing)?.pop().ok_or_else(missing)
}

fn text(row: &mut Row, column: usize) -> String {
    row[column].take().unwrap_or_default()
}

fn is_true(row: &Row, column: usize) -> bool {
    row[column].as_deref() == Some("t")
}

fn server_version(client: &mut Client) -> Result<u32, Trouble> {
    let mut row = one(client, "SELECT pg_catalog.current_setting('server_version_num')", "ask for the server's version")?;
    let version = text(&mut row, 0).parse().unwrap_or(0);
    if version < 130_000 {
        let message = format!("the server is version {}; versions from 13 on are supported", version / 10_000);
        return Err(Trouble::lasting(TroubleKind::Configuration, message));
    }
    Ok(version)
}

/// Where the server stands, if it does.
fn standstill(client: &mut Client, version: u32) -> Result<Standstill, Trouble> {
    let refused = |why: String| Err(Trouble::lasting(TroubleKind::Configuration, format!("--consistency frozen needs {why}")));
    if version < PAUSE_STATE {
        return refused(format!(
            "a server from version 14 on; version {} does not say whether its replay has really stopped",
            version / 10_000
        ));
    }
    let sql = "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'), current_user";
    let mut row = one(client, sql, "ask for privileges")?;
    if !is_true(&row, 0) {
        let role = text(&mut row, 1);
        return refused(format!("to know which cluster it reads: on the primary, GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}"));
    }
    Standstill::find(&one(client, LOOK, "ask where replay stands")?)
}

fn snapshot_facts(client: &mut Client) -> Result<SnapshotFacts, Trouble> {
    let sql = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_snapshot(),
        CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END,
        pg_catalog.now(), pg_catalog.pg_is_in_recovery()";
    let mut row = one(client, sql, "export a snapshot")?;
    let transactions = text(&mut row, 1);
    let elsewhere = if is_true(&row, 4) { None } else { Some(running_elsewhere(client, &transactions)?) };
    Ok(SnapshotFacts { id: text(&mut row, 0), transactions, lsn: row[2].take(), taken_at: text(&mut row, 3), elsewhere, frozen: false })
}

/// Those of the snapshot's running transactions that are seen in other databases now. They were there when it was taken too: no
/// transaction changes its database, and a backend that has come since has a later one. Which are not seen, because they have ended or
/// may not be looked at, are not among them.
fn running_elsewhere(client: &mut Client, transactions: &str) -> Result<Vec<u64>, Trouble> {
    let sql = format!(
        "WITH here AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
         SELECT running FROM here, pg_catalog.pg_snapshot_xip({}) running
         WHERE EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
             WHERE a.backend_xid = running::pg_catalog.xid AND a.datid <> 0 AND a.datid <> here.oid AND a.backend_start <= pg_catalog.now())
         OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xact() p(transaction, gid, prepared, ownerid, dbid)
             WHERE p.transaction = running::pg_catalog.xid AND p.dbid <> here.oid)",
        literal(transactions)
    );
    let rows = run(client, &sql, "ask where transactions are running")?;
    Ok(rows.iter().filter_map(|row| row.first()?.as_deref()?.parse().ok()).collect())
}

fn server_facts(client: &mut Client, version: u32) -> Result<ServerFacts, Trouble> {
    let sql = "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_database(), current_user,
        pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('block_size'), pg_catalog.pg_is_in_recovery(),
        pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
        pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE'),
        pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lc_monetary')";
    let mut row = one(client, sql, "ask what the server is")?;
    let (may_identify, may_date) = (is_true(&row, 6), is_true(&row, 7));
    let identity = |client: &mut Client, sql| Ok::<_, Trouble>(one(client, sql, "ask which cluster this is")?.swap_remove(0));
    let system_identifier =
        if may_identify { identity(client, "SELECT system_identifier FROM pg_catalog.pg_control_system()")? } else { None };
    let timeline = if may_date { identity(client, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()")? } else { None };
    Ok(ServerFacts {
        version,
        version_text: text(&mut row, 0),
        database: text(&mut row, 1),
        role: text(&mut row, 2),
        encoding: text(&mut row, 3),
        block_bytes: text(&mut row, 4).parse().unwrap_or(8192),
        in_recovery: is_true(&row, 5),
        system_identifier,
        timeline: timeline.and_then(|timeline| timeline.parse().ok()),
        search_path: text(&mut row, 8),
        lc_monetary: text(&mut row, 9),
    })
}

/// A failed connection in the engine's words.
pub(super) fn connect_trouble(error: ConnectError) -> Trouble {
    let kind = if matches!(error.kind(), ConnectErrorKind::Config) { TroubleKind::Configuration } else { TroubleKind::Unavailable };
    let message = error.to_string();
    let trouble = if error.is_transient() { Trouble::passing(kind, message) } else { Trouble::lasting(kind, message) };
    match std::error::Error::source(&error).map(ToString::to_string) {
        Some(cause) => trouble.because(cause),
        None => trouble,
    }
}

/// A refused or failed question on the control connection. The snapshot is gone with the connection, so no such trouble passes.
fn query_trouble(error: &postgres::Error, doing: &str) -> Trouble {
    let Some(server) = error.as_db_error() else {
        let message = format!("cannot {doing}: the control connection is lost, and with it the snapshot");
        return Trouble::lasting(TroubleKind::Unavailable, message).because(error.to_string());
    };
    let mut message = format!("cannot {doing}: {}", server.message());
    for (label, more) in [(" (", server.detail()), ("; ", server.hint())] {
        if let Some(more) = more {
            message.push_str(label);
            message.push_str(more);
            message.push_str(if label == " (" { ")" } else { "" });
        }
    }
    // Class 42 is "syntax error or access rule violation", 22 "data exception": what was asked for is at fault, not the server.
    let asked_wrong = matches!(&server.code().code()[..2], "42" | "22" | "0A");
    Trouble::lasting(if asked_wrong { TroubleKind::Configuration } else { TroubleKind::Unavailable }, message)
}
