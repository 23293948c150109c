//! Servers that go away and networks that break: the export comes to its end all the same.

use super::assert_same;
use super::faults::{large, until};
use super::server::{Closed, gate};
use crate::support::cluster::{Cluster, Database, Options};
use crate::support::program::{Folder, export, ran, row_to_json, run, sluicegate};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A network between the program and a server, that breaks as it is told.
pub(super) struct Network {
    address: &'static str,
    port: u16,
}

/// What it does to bytes on their way from the server.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    /// All connections are cut whenever so many bytes have come through.
    pub cut_every: u64,
    /// After every 64 KiB, it waits.
    pub pause: Duration,
}

impl Network {
    pub fn to(server: u16, faults: Faults) -> Network {
        Network::at("127.0.0.1", server, faults)
    }

    fn at(address: &'static str, server: u16, faults: Faults) -> Network {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Arc::new(Wire { through: AtomicU64::new(0), ends: Mutex::default(), faults });
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let wire = wire.clone();
                wire.ends.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                std::thread::spawn(move || wire.carry(&client, &server));
            }
        });
        Network { address, port }
    }

    pub fn export(&self, database: &Database<'_>, arguments: &str) -> std::process::Command {
        let mut command = sluicegate();
        let from = format!("host={} port={} user=postgres dbname={}", self.address, self.port, database.name());
        // What a test says of the connection goes with it.
        let (arguments, more) = arguments.split_once(" from ").unwrap_or((arguments, ""));
        command.args(["export", "--from", &format!("{from} {more}")]).args(arguments.split_whitespace());
        command
    }
}

/// What all connections share.
struct Wire {
    /// Bytes that have come through.
    through: AtomicU64,
    ends: Mutex<Vec<TcpStream>>,
    faults: Faults,
}

impl Wire {
    /// Carries bytes both ways until one side ends, or the network breaks.
    fn carry(&self, client: &TcpStream, server: &TcpStream) {
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
        });
        let (mut from_server, mut to_client) = (server, client);
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            let before = self.through.fetch_add(count as u64, Ordering::SeqCst);
            if before / self.faults.cut_every != (before + count as u64) / self.faults.cut_every {
                self.cut();
            }
            if to_client.write_all(&bytes[..count]).is_err() {
                break;
            }
            std::thread::sleep(self.faults.pause);
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    /// Ends every connection there is, the one that holds the snapshot too.
    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_network_that_cuts_all_connections_again_and_again() {
    let database = Cluster::shared().fresh_database();
    large(&database);
    let network = Network::to(Cluster::shared().port(), Faults { cut_every: 14 << 20, pause: Duration::ZERO });
    let folder = Folder::new();
    let arguments = format!("--table t --quiet --checkpoint-bytes 1MiB --chunk-bytes 64KiB --to {}", folder.text("out.jsonl"));
    let ran = ran(&mut network.export(&database, &arguments)).expect(0);
    assert!(ran.stderr.matches("going on under a new snapshot").count() >= 2, "{}", ran.stderr);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
    run(["inspect", &folder.text("out.jsonl.journal"), "audit"]).expect(0);
}

/// What is sent there vanishes, and nobody is told, until this is dropped.
struct Vanishing(&'static str);

impl Vanishing {
    /// `None` where this process may not change routes: only root may.
    fn begin(address: &'static str) -> Option<Vanishing> {
        let done = route("add", address).status.success();
        if !done {
            eprintln!("skipped: this process may not change routes");
        }
        done.then_some(Vanishing(address))
    }
}

impl Drop for Vanishing {
    fn drop(&mut self) {
        route("del", self.0);
    }
}

fn route(what: &str, address: &str) -> std::process::Output {
    let blackhole = std::process::Command::new("ip").args(["route", what, "blackhole", address, "table", "local"]).output();
    blackhole.unwrap_or_else(|_| std::process::Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(1),
        stdout: Vec::new(),
        stderr: Vec::new(),
    })
}

/// A connection that is gone without a word, in the middle of a range: nobody will ever say so.
#[test]
fn a_connection_that_falls_silent_is_noticed() {
    const ADDRESS: &str = "127.83.19.7";
    let database = Cluster::shared().fresh_database();
    large(&database);
    gate(&database);
    let network = Network::at(ADDRESS, Cluster::shared().port(), Faults { cut_every: u64::MAX, pause: Duration::ZERO });
    let folder = Folder::new();
    let closed = Closed::at(&database, 90_000);
    let arguments = format!(
        "--table t --quiet --where gate(id) --to {} from keepalives_idle=1 keepalives_interval=1 keepalives_count=2",
        folder.text("out.jsonl")
    );
    let (told, errors) = (folder.join("told"), std::fs::File::create(folder.join("told")).unwrap());
    let mut child = network.export(&database, &arguments).stderr(errors).spawn().unwrap();
    closed.wait();
    let Some(vanishing) = Vanishing::begin(ADDRESS) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    until("the loss to be noticed", || std::fs::read_to_string(&told).unwrap().contains("to the server is lost while reading t pages"));
    drop(closed);
    drop(vanishing);
    assert!(child.wait().unwrap().success(), "{}", std::fs::read_to_string(&told).unwrap());
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
}

/// A snapshot that was taken while a table was being rewritten sees no row of the new file; and no table is rewritten behind a snapshot
/// that is held, also one that is read last.
#[test]
fn a_table_that_is_being_rewritten_when_an_export_begins_loses_no_row() {
    let database = Cluster::shared().fresh_database();
    let pad = "repeat('x', 300) AS pad FROM generate_series(1, 20000) i";
    database.psql(&format!("CREATE TABLE a AS SELECT i AS id, {pad}; CREATE TABLE b AS TABLE a; CREATE VIEW v AS TABLE b"));
    for (words, tables) in [("--table a --table b", "ab"), ("--table v", "v"), ("--query TABLE\u{a0}b", "q")] {
        let mut psql = std::process::Command::new(crate::support::cluster::program("psql"));
        crate::support::cluster::without_pg_environment(&mut psql);
        let mut altering = psql.args(["-Xq", &database.url()]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = altering.stdin.take().unwrap();
        let column = format!("BEGIN; ALTER TABLE b ADD COLUMN {tables} float8 DEFAULT random(); SELECT pg_advisory_lock(1);\n");
        stdin.write_all(column.as_bytes()).unwrap();
        until("the lock", || database.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != "0");
        let folder = Folder::new();
        let network = Network::to(Cluster::shared().port(), Faults { cut_every: u64::MAX, pause: Duration::from_millis(8) });
        let mut command = network.export(&database, "--quiet --connections 1");
        command.args(["--to", &folder.text("{table}.jsonl")]).args(words.split(' ').map(|word| word.replace('\u{a0}', " ")));
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("an export that waits", || database.psql(waits) != "0");
        stdin.write_all(b"COMMIT;\n").unwrap();
        drop(stdin);
        altering.wait().unwrap();
        if tables == "ab" {
            until("the first table", || folder.join("a.jsonl.partial").exists());
            let altered = "DO $$ BEGIN SET lock_timeout = 100; ALTER TABLE b ADD COLUMN no float8 DEFAULT random(); RAISE 'altered';
                EXCEPTION WHEN lock_not_available THEN NULL; END $$";
            database.psql(altered);
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let jsonl = folder.names().into_iter().filter(|name| name.ends_with(".jsonl"));
        for name in jsonl {
            assert_eq!(folder.read(&name).lines().count(), 20_000, "{words}: {name}");
        }
    }
}

#[test]
fn a_slow_network_is_waited_for() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS pad FROM generate_series(1, 30000) i");
    let network = Network::to(Cluster::shared().port(), Faults { cut_every: u64::MAX, pause: Duration::from_millis(20) });
    let folder = Folder::new();
    ran(&mut network.export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")))).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(&database, "t"));
}

/// The snapshot is gone with the server: the same process goes on under a new one, having proved that nothing has changed.
#[test]
fn a_server_that_crashes_or_is_away_for_a_while() {
    let cluster = Cluster::start(&Options::default());
    let database = cluster.fresh_database();
    large(&database);
    let expected = row_to_json(&database, "t");
    for crash in [true, false] {
        let folder = Folder::new();
        let arguments =
            format!("--table t --checkpoint-bytes 1MiB --chunk-bytes 16KiB --workers 1 --connections 2 --to {}", folder.text("out.jsonl"));
        let child = export(&database, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        until("bytes in the output", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 4 << 20));
        if crash {
            cluster.crash();
        } else {
            cluster.stop();
            std::thread::sleep(Duration::from_secs(3));
        }
        cluster.start_again();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("going on under a new snapshot"), "{stderr}");
        assert!(stderr.contains("resuming: "), "{stderr}");
        assert_same(&folder.read("out.jsonl"), &expected);
    }
}

/// A table that changes while the server is away is not mixed with what was written before.
#[test]
fn a_server_that_comes_back_with_another_table() {
    let cluster = Cluster::start(&Options::default());
    let database = cluster.fresh_database();
    large(&database);
    let folder = Folder::new();
    let arguments =
        format!("--table t --checkpoint-bytes 1MiB --chunk-bytes 16KiB --workers 1 --connections 1 --to {}", folder.text("out.jsonl"));
    // Held up by the network, so that the change surely comes before it can go on.
    let network = Network::to(cluster.port(), Faults { cut_every: u64::MAX, pause: Duration::from_millis(5) });
    let child = network.export(&database, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    until("bytes in the output", || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > 4 << 20));
    database.psql("SET synchronous_commit = on; UPDATE t SET pad = 'changed' WHERE id = 149000");
    cluster.crash();
    cluster.start_again();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("has changed since it was begun"), "{stderr}");
    assert!(!folder.join("out.jsonl").exists());
}
