//! The connection layer of the Postgres source against real servers.

mod auth;
mod certificates;
mod copy;
mod described;
mod impostors;
mod redaction;
mod refusals;
mod sessions;
mod tls;

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use sluicegate::source::postgres::{ConnInfo, ConnInfoError, ConnectError, Connector, RawConnection, Surroundings};

use crate::support::cluster::{self, Cluster};

/// A world with nothing in it but what a test puts there.
#[derive(Default)]
struct World<'a> {
    env: &'a [(&'a str, &'a str)],
    home: Option<PathBuf>,
    socket_dirs: Vec<PathBuf>,
}

impl World<'_> {
    fn parse(&self, text: &str) -> Result<ConnInfo, ConnInfoError> {
        let env = |wanted: &str| self.env.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        let around = Surroundings {
            env: &env,
            home: self.home.clone(),
            os_user: Some("postgres".to_owned()),
            socket_dirs: self.socket_dirs.clone(),
            sysconf_dirs: Vec::new(),
        };
        ConnInfo::parse_in(text, &around)
    }
}

fn connector(text: &str) -> Result<Connector, ConnectError> {
    Connector::new(World::default().parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

fn connect(text: &str) -> Result<RawConnection, ConnectError> {
    connector(text)?.raw()
}

/// The error of a connection that must not succeed.
fn refusal(text: &str) -> ConnectError {
    match connect(text) {
        Ok(_) => panic!("connected with {text}"),
        Err(error) => error,
    }
}

/// As `main` prints it: one line a cause.
fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect::<Vec<_>>().join("\n  because: ")
}

/// Like [`chain`], but of the server's words only those that are the same in every version.
fn stable(error: &ConnectError) -> String {
    match error.server_error() {
        Some(said) => format!("{error}\n  because: {} {}", said.severity, said.sqlstate),
        None => chain(error),
    }
}

/// Without what differs from run to run.
fn settle(text: &str, cluster: &Cluster) -> String {
    let port = cluster.port().to_string();
    text.replace(&cluster.dir().display().to_string(), "DIR").replace(&port, "PORT")
}

/// What libpq makes of it: whether the connection is encrypted, or `None` if there is none.
fn libpq(text: &str) -> Option<bool> {
    let mut psql = Command::new(cluster::program("psql"));
    cluster::without_pg_environment(&mut psql);
    psql.env("HOME", "/nonexistent").args(["-XAtw", "-d", text]);
    let output = psql.args(["-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]).output().expect("no psql");
    output.status.success().then(|| output.stdout == b"t\n")
}
