//! Every way to prove who one is.

use std::sync::OnceLock;

use insta::assert_snapshot;
use sluicegate::source::postgres::ConnectErrorKind;

use super::{connect, connector, libpq, refusal, settle, stable};
use crate::support::cluster::{Cluster, Options};

const HBA: &[&str] = &[
    "host  all  trusty    all  trust",
    "host  all  cleartext all  password",
    "host  all  md5er     all  md5",
    "host  all  scrammer  all  scram-sha-256",
    "host  all  unhashed  all  scram-sha-256",
    "host  all  gssy      all  gss",
    "host  all  rejected  all  reject",
    "local all  sockety   scram-sha-256",
];

fn server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| {
        let cluster = Cluster::start(&Options { hba: HBA, ..Options::default() });
        let create = |user| format!("CREATE ROLE {user} LOGIN PASSWORD 'it''s «ſecret» \\';");
        let users = ["trusty", "cleartext", "scrammer", "gssy", "rejected", "sockety"].map(create).concat();
        cluster.psql(&format!("{users} SET password_encryption = md5; {}", create("md5er")));
        cluster.psql("CREATE ROLE unhashed LOGIN; CREATE ROLE no_login; CREATE DATABASE closed ALLOW_CONNECTIONS false");
        cluster.psql("CREATE DATABASE private; REVOKE CONNECT ON DATABASE private FROM PUBLIC");
        cluster
    })
}

fn conninfo(user: &str, rest: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres user={user} {rest}", server().port())
}

/// With a quote, a backslash, and what SASLprep changes.
const PASSWORD: &str = r"password='it\'s «ſecret» \\'";

#[test]
fn every_method_with_the_right_password() {
    for user in ["trusty", "cleartext", "md5er", "scrammer"] {
        let connector = connector(&conninfo(user, PASSWORD)).expect(user);
        let rows = connector.raw().expect(user).simple("SELECT current_user");
        assert_eq!(rows.expect(user), [[Some(user.to_owned())]]);
        let row = connector.client().expect(user).query_one("SELECT current_user::text", &[]).expect(user);
        assert_eq!(row.get::<_, String>(0), user);
    }
    let over_socket = format!("host={} port={} dbname=postgres user=sockety {PASSWORD}", server().socket_dir().display(), server().port());
    connect(&over_socket).expect("over the socket");
}

#[test]
fn a_wrong_password_is_refused_by_every_method() {
    for user in ["cleartext", "md5er", "scrammer", "unhashed"] {
        let error = refusal(&conninfo(user, "password=wrong"));
        assert_eq!(error.kind(), ConnectErrorKind::Authentication, "{user}");
        assert!(!error.is_transient());
        assert_eq!(error.server_error().map(|error| error.sqlstate.as_str()), Some("28P01"), "{user}");
    }
    assert_snapshot!(settle(&stable(&refusal(&conninfo("scrammer", "password=wrong"))), server()), @r#"
    Postgres at 127.0.0.1:PORT refused the password of user `scrammer`; check it in the connection string, PGPASSWORD or the password file
      because: FATAL 28P01
    "#);
}

#[test]
fn what_the_server_says_no_to() {
    let table = [
        ("scrammer", ""),
        ("rejected", PASSWORD),
        ("nobody_knows", PASSWORD),
        ("gssy", PASSWORD),
        ("trusty", "dbname=nowhere"),
        ("trusty", "dbname=closed"),
        ("trusty", "dbname=private"),
        ("trusty", "options='-c no.such=1 -c work_mem=x'"),
        ("trusty", "channel_binding=require"),
        ("scrammer", "password=x channel_binding=require"),
    ];
    let outcome = |(user, rest)| {
        let text = conninfo(user, rest);
        assert_eq!(libpq(&text), None);
        let error = refusal(&text);
        format!("{:?}: {}", error.kind(), settle(&stable(&error), server()))
    };
    assert_snapshot!(table.map(outcome).join("\n"), @r#"
    Authentication: Postgres at 127.0.0.1:PORT asks for the password of user `scrammer`, and none is given; set PGPASSWORD or write it into ~/.pgpass
    Authentication: Postgres at 127.0.0.1:PORT does not let user `rejected` in; does the role exist, and does pg_hba.conf let it in from here?
      because: FATAL 28000
    Authentication: Postgres at 127.0.0.1:PORT does not let user `nobody_knows` in; does the role exist, and does pg_hba.conf let it in from here?
      because: FATAL 28000
    Authentication: Postgres at 127.0.0.1:PORT wants GSSAPI for user `gssy`, which is not supported; have pg_hba.conf ask for scram-sha-256 or cert
    Database: Postgres at 127.0.0.1:PORT has no database `nowhere`
      because: FATAL 3D000
    Database: database `closed` of Postgres at 127.0.0.1:PORT takes no connections
      because: FATAL 55000
    Authentication: user `trusty` may not connect to database `private` of Postgres at 127.0.0.1:PORT
      because: FATAL 42501
    Other: Postgres at 127.0.0.1:PORT refused the connection
      because: FATAL 22023
    Authentication: Postgres at 127.0.0.1:PORT cannot do channel binding, and `channel_binding=require` insists on it: it takes TLS and scram-sha-256
    Authentication: Postgres at 127.0.0.1:PORT cannot do channel binding, and `channel_binding=require` insists on it: it takes TLS and scram-sha-256
    "#);
}

#[test]
fn the_control_connection_says_the_same() {
    let connector = connector(&conninfo("trusty", "")).expect("made");
    drop(connector.raw().expect("connected"));
    server().psql("ALTER ROLE trusty CONNECTION LIMIT 0");
    let error = connector.client().map(drop).expect_err("no place left");
    server().psql("ALTER ROLE trusty CONNECTION LIMIT -1");
    assert_eq!((error.kind(), error.is_transient()), (ConnectErrorKind::TooManyConnections, true));
    assert_snapshot!(settle(&stable(&error), server()), @r#"
    Postgres at 127.0.0.1:PORT has no connection left; use fewer here, or raise `max_connections` or the limit of the role or database
      because: FATAL 53300
    "#);
}
