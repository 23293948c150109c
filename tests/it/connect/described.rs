//! Service file, password file, environment and defaults, up to a real server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;
use sluicegate::source::postgres::{ConnectErrorKind, Connector};

use super::{World, chain};
use crate::support::cluster::{Cluster, Options};

#[test]
fn a_service_with_its_password_in_the_password_file() {
    let hba = &["host all app all scram-sha-256"];
    let cluster = Cluster::start(&Options { hba, ..Options::default() });
    cluster.psql("CREATE ROLE app LOGIN PASSWORD 'a:b\\c'; CREATE DATABASE shop OWNER app");
    let home = tempfile::tempdir().expect("a directory");
    let service =
        format!("[other]\nhost=nowhere\n\n[shop]\n# as deployed\nhost=127.0.0.1\nport={}\nuser=app\ndbname=wrong\n", cluster.port());
    fs::write(home.path().join(".pg_service.conf"), service).expect("written");
    let pgpass = home.path().join(".pgpass");
    fs::write(&pgpass, format!("# ours\nelsewhere:*:*:*:no\n127.0.0.1:{}:shop:app:a\\:b\\\\c\n", cluster.port())).expect("written");
    fs::set_permissions(&pgpass, Permissions::from_mode(0o600)).expect("set");
    let world = World { home: Some(home.path().to_owned()), env: &[("PGSERVICE", "shop"), ("PGPORT", "1")], ..World::default() };

    let info = world.parse("dbname=shop").expect("complete");
    assert_eq!(info.identity(), format!("postgres://app@127.0.0.1:{}/shop", cluster.port()));
    let mut connection = Connector::new(info).and_then(|connector| connector.raw()).expect("the password of the file");
    assert_eq!(
        connection.simple("SELECT current_user, current_database()").expect("answered"),
        [[Some("app".to_owned()), Some("shop".to_owned())]]
    );

    fs::set_permissions(&pgpass, Permissions::from_mode(0o640)).expect("set");
    let info = world.parse("dbname=shop").expect("complete");
    let warnings = info.warnings().join("\n").replace(&home.path().display().to_string(), "HOME");
    assert_snapshot!(warnings, @"the password file HOME/.pgpass is ignored: others than its owner have access to it; run chmod 0600 HOME/.pgpass");
    let error = Connector::new(info).and_then(|connector| connector.raw()).map(drop).expect_err("no password");
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert_snapshot!(chain(&error).replace(&cluster.port().to_string(), "PORT"), @"Postgres at 127.0.0.1:PORT asks for the password of user `app`, and none is given; set PGPASSWORD or write it into ~/.pgpass");
}

#[test]
fn without_a_host_the_socket_is_found_by_its_file() {
    let cluster = Cluster::shared();
    let nowhere = tempfile::tempdir().expect("a directory");
    let port = cluster.port().to_string();
    let env = [("PGPORT", port.as_str())];
    let found = World { socket_dirs: vec![nowhere.path().to_owned(), cluster.socket_dir()], env: &env, ..World::default() };
    let connector = Connector::new(found.parse("").expect("complete")).expect("made");
    assert!(
        connector.raw().expect("over the socket").simple("SELECT inet_client_addr() IS NULL").expect("answered")
            == [[Some("t".to_owned())]]
    );
    connector.client().expect("the control connection too");
    let not_found = World { socket_dirs: vec![nowhere.path().to_owned()], env: &env, ..World::default() };
    assert_eq!(not_found.parse("").expect("complete").identity(), format!("postgres://postgres@localhost:{port}/postgres"));
}

#[test]
fn what_the_server_is_told() {
    let cluster = Cluster::shared();
    let world = World { env: &[("PGAPPNAME", "from env"), ("PGOPTIONS", "-c statement_timeout=7s")], ..World::default() };
    let info = world
        .parse(&format!("{} keepalives_idle=30 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=9000", cluster.socket_conninfo()));
    let connector = Connector::new(info.expect("complete")).expect("made");
    let sql = "SELECT current_setting('application_name') || '|' || current_setting('statement_timeout') || '|' || current_setting('client_encoding')";
    let told = "from env|7s|UTF8";
    assert_eq!(connector.raw().expect("connected").simple(sql).expect("answered"), [[Some(told.to_owned())]]);
    assert_eq!(connector.client().expect("connected").query_one(sql, &[]).expect("answered").get::<_, String>(0), told);
    let info = World::default().parse(&format!(
        "{} keepalives_idle=30 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=9000",
        cluster
            .url()
            .replace("postgres://postgres@", "hostaddr=")
            .replace(':', " port=")
            .replace("/postgres", " user=postgres dbname=postgres")
    ));
    let mut connection = Connector::new(info.expect("complete")).and_then(|connector| connector.raw()).expect("over TCP");
    assert_eq!(connection.simple("SHOW application_name").expect("answered"), [[Some("sluicegate".to_owned())]]);
    assert!(connection.parameter("server_version").is_some());
}
