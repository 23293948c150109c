//! `sluicegate export` against a real server.

mod against;
#[cfg(feature = "failpoints")]
mod crash;
mod faults;
mod keyset;
mod kill;
mod memory;
mod network;
mod plan;
mod random;
mod refusals;
mod resume;
mod server;
mod shapes;
mod sinks;
mod split;
mod standby;
mod types;

use crate::support::cluster::Database;
use crate::support::program::{Folder, export, ran, row_to_json};

/// Exports `table` and compares every byte with what the server makes of it.
#[track_caller]
fn assert_exact(database: &Database<'_>, table: &str, arguments: &str) {
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    let arguments = format!("--table {table} --to {to} --quiet {arguments}");
    ran(&mut export(database, &arguments)).expect(0);
    assert_same(&folder.read("out.jsonl"), &row_to_json(database, table));
}

/// Compares line by line, so that a failure shows what differs and not megabytes.
#[track_caller]
fn assert_same(ours: &str, servers: &str) {
    for (number, (our, server)) in ours.lines().zip(servers.lines()).enumerate() {
        let at = our.bytes().zip(server.bytes()).take_while(|(a, b)| a == b).count();
        let shown = |line: &str| String::from_utf8_lossy(&line.as_bytes()[at.saturating_sub(40)..line.len().min(at + 60)]).into_owned();
        assert!(our == server, "line {}, byte {at}\n   ours: …{}…\nservers: …{}…", number + 1, shown(our), shown(server));
    }
    assert_eq!(ours.len(), servers.len(), "the same lines, but not the same number of them");
    assert_eq!(ours, servers);
}
