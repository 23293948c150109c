//! Several hosts, and which of them will do.

use insta::assert_snapshot;

use super::{chain, connector, libpq, settle};
use crate::support::cluster::{Cluster, Options};

/// A primary that also has a role whose sessions are read-only, and a standby without a primary, which is enough here.
struct Pair {
    primary: Cluster,
    standby: Cluster,
}

impl Pair {
    fn start() -> Pair {
        let socket = format!("unix_socket_directories = '@sluicegate-{}'", std::process::id());
        let primary = Cluster::start(&Options::default());
        primary.psql("CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on");
        let standby = Cluster::start(&Options { conf: &[&socket], ..Options::default() });
        standby.stop();
        standby.write("data/standby.signal", "");
        standby.start_again();
        Pair { primary, standby }
    }

    fn url(&self, user: &str, ports: &[u16], wanted: &str) -> String {
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://{user}@{}/postgres?target_session_attrs={wanted}", hosts.join(","))
    }

    /// Which of the two it is, and whether libpq ends there too.
    fn outcome(&self, url: &str) -> String {
        let found = connector(url).expect("made").raw();
        assert_eq!(found.is_ok(), libpq(url).is_some(), "{url}");
        match found {
            Ok(mut connection) => {
                let port = connection.simple("SHOW port").expect("answered").concat().into_iter().flatten().collect::<String>();
                (if port == self.primary.port().to_string() { "primary" } else { "standby" }).to_owned()
            }
            Err(error) => settle(&chain(&error), &self.primary).replace(&self.standby.port().to_string(), "STANDBY"),
        }
    }
}

#[test]
fn which_of_several_hosts_will_do() {
    let pair = Pair::start();
    let (primary, standby) = (pair.primary.port(), pair.standby.port());
    let mut lines = Vec::new();
    for wanted in ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] {
        lines.push(format!("{wanted}: {}", pair.outcome(&pair.url("postgres", &[1, primary, standby], wanted))));
    }
    for (user, wanted) in [("postgres", "standby"), ("postgres", "prefer-standby"), ("reader", "read-only"), ("reader", "read-write")] {
        lines.push(format!("{user}, {wanted}, only the primary: {}", pair.outcome(&pair.url(user, &[primary], wanted))));
    }
    assert_snapshot!(lines.join("\n"), @r"
    any: primary
    read-write: primary
    read-only: standby
    primary: primary
    standby: standby
    prefer-standby: standby
    postgres, standby, only the primary: Postgres at 127.0.0.1:PORT is not a standby
    postgres, prefer-standby, only the primary: primary
    reader, read-only, only the primary: primary
    reader, read-write, only the primary: Postgres at 127.0.0.1:PORT does not accept writes
    ");

    all_connections_go_where_the_first_one_went(&pair);
}

/// Until that is forgotten.
fn all_connections_go_where_the_first_one_went(pair: &Pair) {
    let (primary, standby) = (pair.primary.port(), pair.standby.port());
    let connector = connector(&pair.url("postgres", &[standby, primary], "any")).expect("made");
    let is_standby = "SELECT pg_is_in_recovery()";
    let yes = [[Some("t".to_owned())]];
    assert_eq!(connector.raw().expect("connected").simple(is_standby).expect("answered"), yes);
    assert!(connector.client().expect("connected").query_one(is_standby, &[]).expect("answered").get::<_, bool>(0));
    pair.standby.stop();
    assert!(connector.raw().is_err());
    connector.forget_server();
    assert_ne!(connector.raw().expect("the other one").simple(is_standby).expect("answered"), yes);
}

#[test]
fn a_socket_without_a_file() {
    let name = format!("@sluicegate-abstract-{}", std::process::id());
    let cluster = Cluster::start(&Options { conf: &[&format!("unix_socket_directories = '{name}'")], ..Options::default() });
    let connector = connector(&format!("host={name} port={} user=postgres", cluster.port())).expect("made");
    connector.raw().expect("connected").close();
    connector.client().expect("connected");
}

#[test]
fn hosts_may_be_shuffled() {
    let port = Cluster::shared().port();
    let url = format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{port}/postgres?load_balance_hosts=random");
    connector(&url).and_then(|connector| connector.raw()).expect("connected");
}
