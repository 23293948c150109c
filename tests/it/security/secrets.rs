//! A password is told to the server and to nobody else, however it came and whatever happens.

use super::{ROWS, contents};
use crate::support::cluster::{Cluster, Options};
use crate::support::program::{Folder, Ran, ran, sluicegate};
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// With everything in it that has to be quoted somewhere. `PRIVATE` goes into `options`, which may hold secrets too.
const PASSWORD: &str = r"gEh31m'@ w0rt\%:";
const PRIVATE: &str = "pr1vat3";

/// No part of it, plain, percent-encoded or in base64.
#[track_caller]
fn assert_absent(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for part in ["gEh31m", "w0rt", "Z0VoMzFt", PRIVATE] {
        assert!(!text.contains(part), "{place} shows `{part}`:\n{text}");
    }
}

/// A server that lets `keeper` in with the password alone.
fn server() -> Cluster {
    let cluster = Cluster::start(&Options { hba: &["host all all all scram-sha-256"], ..Options::default() });
    let quoted = PASSWORD.replace('\'', "''");
    cluster.psql(&format!("CREATE ROLE keeper LOGIN PASSWORD '{quoted}'"));
    cluster.psql("CREATE DATABASE vault OWNER keeper TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    cluster
}

/// `export` with the password given in one way after the other.
fn ways(cluster: &Cluster, folder: &Folder, password: &str) -> Vec<(&'static str, Command)> {
    let (port, rest) = (cluster.port(), "host=127.0.0.1 user=keeper dbname=vault");
    let encoded: String = password.bytes().fold(String::new(), |mut text, byte| {
        let _ = if byte.is_ascii_alphanumeric() { write!(text, "{}", char::from(byte)) } else { write!(text, "%{byte:02X}") };
        text
    });
    let url = format!("postgres://keeper:{encoded}@127.0.0.1:{port}/vault?options=-c%20my.token%3D{PRIVATE}");
    let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
    let private = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        folder.text(name)
    };
    let passfile = private("passfile", &format!("*:*:*:keeper:{}\n", password.replace('\\', r"\\").replace(':', r"\:")));
    let services = private("services", &format!("[vault]\nhost=127.0.0.1\nport={port}\nuser=keeper\ndbname=vault\npassword={password}\n"));
    let with = |from: &str, env: &[(&str, &str)]| {
        let mut command = sluicegate();
        command.arg("export").envs(env.iter().copied());
        if !from.is_empty() {
            command.args(["--from", from]);
        }
        command
    };
    let plain = format!("{rest} port={port}");
    vec![
        ("URL", with(&url, &[])),
        ("DATABASE_URL", with("", &[("DATABASE_URL", &url)])),
        ("key=value", with(&format!("{plain} password='{quoted}'"), &[])),
        ("PGPASSWORD", with(&plain, &[("PGPASSWORD", password)])),
        ("PGPASSFILE", with(&plain, &[("PGPASSFILE", &passfile)])),
        ("service", with("service=vault", &[("PGSERVICEFILE", &services)])),
    ]
}

#[track_caller]
fn told(what: &str, ran: Ran, code: i32) {
    let ran = ran.expect(code);
    assert_absent(&format!("{what}, on standard output"), &ran.stdout);
    assert_absent(&format!("{what}, on standard error"), ran.stderr.as_bytes());
}

/// The raw files, and every value of every table of a journal: text may be cut in two by the pages of the file.
fn written(folder: &Folder) {
    for (name, bytes) in contents(folder.path()) {
        assert_absent(&name, &bytes);
        if !name.ends_with(".journal") {
            continue;
        }
        let journal = rusqlite::Connection::open(folder.join(&name)).unwrap();
        let mut tables = journal.prepare("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut all = String::new();
        for table in &tables {
            let mut rows = journal.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                (0..columns).for_each(|column| write!(all, "{:?} ", row.get_ref(column).unwrap()).unwrap());
            }
        }
        assert_absent(&name, all.as_bytes());
        let servers: String = journal.query_row("SELECT source FROM runs LIMIT 1", [], |row| row.get(0)).unwrap();
        assert!(servers.contains("postgres://keeper@127.0.0.1"), "that much is told: {servers}");
    }
}

/// What other commands make of what an export has left.
fn looked_at(folder: &Folder) {
    let look = |words: &str, code: i32| {
        let words = words.replace("JOURNAL", &folder.text("out.jsonl.journal")).replace("DEAD", &folder.text("out.jsonl.dead.jsonl"));
        told(&words, ran(sluicegate().arg("-vvv").args(words.split_whitespace())), code);
    };
    for words in ["", "chunks", "transitions", "audit"] {
        look(&format!("inspect JOURNAL {words} --format json"), 0);
    }
    for words in [
        "inspect JOURNAL",
        "inspect JOURNAL chunk 0.0",
        "inspect JOURNAL --follow",
        "verify JOURNAL",
        "verify JOURNAL --format json",
        "graph --journal JOURNAL --format svg",
        "dlq list DEAD --format json",
        "dlq list DEAD --summary",
        "dlq show DEAD 1",
        "dlq show DEAD 1 --format json",
    ] {
        look(words, 0);
    }
}

#[test]
fn a_password_is_in_nothing_that_is_written_or_told() {
    let cluster = server();
    cluster.psql("GRANT ALL ON SCHEMA public TO keeper");
    let psql = |sql: &str| {
        let mut psql = Command::new(crate::support::cluster::program("psql"));
        psql.args([
            "-Xqc",
            sql,
            "-d",
            &format!("host={} port={} user=postgres dbname=vault", cluster.socket_dir().display(), cluster.port()),
        ]);
        assert!(psql.output().expect("no psql").status.success(), "{sql}");
    };
    psql(ROWS);
    psql("ALTER TABLE t OWNER TO keeper");
    let secrets = Folder::new();
    for (number, (way, mut command)) in ways(&cluster, &secrets, PASSWORD).into_iter().enumerate() {
        let folder = Folder::new();
        let to = folder.text("out.jsonl");
        let log = if number % 2 == 0 { "json" } else { "text" };
        command.args(["-vvv", "--log-format", log, "--table", "t", "--to", &to, "--report", "json"]);
        told(way, ran(&mut command), 3);
        assert_eq!(folder.names(), ["out.jsonl", "out.jsonl.dead.jsonl", "out.jsonl.journal"]);
        written(&folder);
        if number == 0 {
            looked_at(&folder);
        }
    }
    for words in [
        &["--dry-run"][..],
        &["--where", "1 / (id - id) = 1"],
        &["--where", "nonsense"],
        &["--where", "id = (SELECT 1 FROM pg_sleep(0), generate_series(1, 2))"],
    ] {
        for (way, mut command) in ways(&cluster, &secrets, PASSWORD).into_iter().step_by(2) {
            let folder = Folder::new();
            command.args(["-vvv", "--table", "t", "--to", &folder.text("out.jsonl")]).args(words);
            let ran = ran(&mut command);
            assert_eq!(ran.code == Some(0), words == ["--dry-run"], "{}", ran.stderr);
            let code = ran.code.expect("it ends by itself");
            told(&format!("{way} {words:?}"), ran, code);
            written(&folder);
        }
    }
    wrong_ones_are_not_told_either(&cluster, &secrets);
    a_server_that_goes_away(&cluster, &secrets);
}

fn wrong_ones_are_not_told_either(cluster: &Cluster, secrets: &Folder) {
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    for (way, mut command) in ways(cluster, secrets, &format!("{PASSWORD}x")) {
        told(way, ran(command.args(["-vvv", "--table", "t", "--to", &to])), 69);
    }
    for (way, mut command) in ways(cluster, secrets, PASSWORD) {
        command.env("PGSSLMODE", "require").args(["-vvv", "--table", "t", "--to", &to]);
        told(&format!("{way}, without TLS"), ran(&mut command), 69);
    }
    assert_eq!(folder.names(), [] as [&str; 0]);
}

/// In the middle of a run: what is on disk then, what the list of processes shows, and what is said when the server is gone.
fn a_server_that_goes_away(cluster: &Cluster, secrets: &Folder) {
    let folder = Folder::new();
    let (_, mut command) = ways(cluster, secrets, PASSWORD).swap_remove(4);
    let query = "SELECT i AS id, repeat('x', 1000) AS pad FROM generate_series(1, 200000) i";
    command.args(["-vvv", "--query", query, "--to", "-", "--give-up-after", "0s", "--journal", &folder.text("out.journal")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut first = [0];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("it begins");
    let began = Instant::now();
    while !folder.join("out.journal-wal").exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "there is no log");
        std::thread::sleep(Duration::from_millis(5));
    }
    for (name, bytes) in contents(folder.path()) {
        assert_absent(&name, &bytes);
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("it runs");
    assert_absent("the list of processes", &arguments);
    assert_eq!(children_of(child.id()), [] as [String; 0], "programs were started");
    cluster.stop();
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    told("a server that is gone", ran, 69);
    for (name, bytes) in contents(folder.path()) {
        assert_absent(&name, &bytes);
    }
}

/// Processes whose parent this is (proc(5), `stat`).
fn children_of(parent: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("proc(5)").flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&parent.to_string())).collect()
}

/// One moment says little: there is nothing in the program that could start another.
#[test]
fn no_other_program_is_started() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let starts = ["process::Command", "Command::new", "CommandExt", "fork("].iter().find(|word| text.contains(**word));
            assert!(starts.is_none(), "{}: {starts:?}", path.display());
        }
    }
}

/// A connection string where none belongs is not repeated.
#[test]
fn what_stands_in_the_wrong_place_is_not_repeated() {
    let url = "postgres://keeper:gEh31m%27w0rt@127.0.0.1:1/vault";
    let mut all = String::new();
    for words in [
        &[url][..],
        &["export", url, "--table", "t", "--to", "x"],
        &["export", "--form", url],
        &["export", "--table", "t", "--to", "x", "--limit", url],
        &["export", "--from", &Cluster::shared().url(), "--table", url, "--to", "x"],
        &["export", "--table", "t", "--to", url],
        &["export", "--table", "t", "--to", "x", "--from", "host=h", "password=gEh31m"],
        &["inspect", url],
        &["verify", url],
        &["dlq", "list", url],
    ] {
        let ran = ran(sluicegate().args(words));
        assert_ne!(ran.code, Some(0));
        assert_absent(&format!("{words:?}"), ran.stderr.as_bytes());
        let _ = writeln!(all, "{}", ran.stderr.lines().next().unwrap_or_default());
    }
    insta::assert_snapshot!(all);
    let help = ran(sluicegate().args(["export", "--help"]).env("DATABASE_URL", url)).expect(0);
    assert_absent("the help", &help.stdout);
}
