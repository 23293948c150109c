//! Servers that are not there, not ready, full, or not Postgres.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use sluicegate::source::postgres::{ConnectError, ConnectErrorKind};

use super::{World, chain, connect, refusal, settle, stable};
use crate::support::cluster::{Cluster, Options};

fn told(error: &ConnectError) -> String {
    format!("{:?}{}: {}", error.kind(), if error.is_transient() { ", transient" } else { "" }, stable(error))
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let shown = |text: &str| told(&refusal(&text.replace("PORT", &port.to_string()))).replace(&port.to_string(), "PORT");
    assert_snapshot!(shown("host=127.0.0.1 port=PORT"), @r"
    Unreachable, transient: cannot reach Postgres at 127.0.0.1:PORT: is the server running and accepting connections there?
      because: Connection refused (os error 111)
    ");
    assert_snapshot!(shown("host=/nowhere port=PORT"), @r"
    Unreachable, transient: cannot reach Postgres at /nowhere/.s.PGSQL.PORT: is the server running and accepting connections there?
      because: No such file or directory (os error 2)
    ");
    assert_snapshot!(shown("host=no.such.host.invalid port=PORT").split("because").next().unwrap_or_default(), @"Unreachable, transient: cannot find the host `no.such.host.invalid`: is the name right?");
    assert_snapshot!(shown("host=first,second hostaddr=127.0.0.1,127.0.0.1 port=PORT"), @r"
    Unreachable, transient: cannot reach Postgres at second:PORT (127.0.0.1): is the server running and accepting connections there?; before that: cannot reach Postgres at first:PORT (127.0.0.1): is the server running and accepting connections there? (Connection refused (os error 111))
      because: Connection refused (os error 111)
    ");
}

/// Accepts connections one after another and treats each as `serve` does.
fn fake_server(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    port
}

/// Reads what we say first, then answers.
fn answering(answer: &'static [u8]) -> impl Fn(TcpStream) + Send + 'static {
    move |mut stream| {
        let mut said = [0; 1024];
        drop(stream.read(&mut said));
        drop(stream.write_all(answer));
    }
}

#[test]
fn what_listens_is_not_postgres() {
    let shown = |port: u16, rest: &str| {
        let text = format!("host=127.0.0.1 port={port} sslmode=disable {rest}");
        told(&refusal(&text)).replace(&port.to_string(), "PORT")
    };
    assert_snapshot!(shown(fake_server(answering(b"")), ""), @r"
    Unreachable, transient: the server at 127.0.0.1:PORT hung up before the connection was ready: is that Postgres?
      because: unexpected end of file
    ");
    assert_snapshot!(shown(fake_server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")), ""), @r"
    Other: no Postgres at 127.0.0.1:PORT: is the port right?
      because: the server does not speak the Postgres protocol: a message of kind 0x48 with the impossible length 1414811695
    ");
    assert_snapshot!(shown(fake_server(answering(b"R\xff\xff\xff\xff")), ""), @r"
    Other: no Postgres at 127.0.0.1:PORT: is the port right?
      because: the server does not speak the Postgres protocol: a message of kind 0x52 with the impossible length 4294967295
    ");
    assert_snapshot!(shown(fake_server(answering(b"R\0\x10\0\0")), ""), @r"
    Other: no Postgres at 127.0.0.1:PORT: is the port right?
      because: the server does not speak the Postgres protocol: a message of 1048577 bytes where at most 65536 were expected
    ");
    assert_snapshot!(shown(fake_server(answering(b"R\0\0\0\x08\0\0\0\x0b")), ""), @r"
    Other: no Postgres at 127.0.0.1:PORT: is the port right?
      because: the server does not speak the Postgres protocol: unexpected during startup: authentication out of order
    ");
    assert_snapshot!(shown(fake_server(answering(b"E\0\0\0\x04")), "sslmode=require"), @"Unreachable, transient: Postgres at 127.0.0.1:PORT could not answer the request for TLS; its log says why");
    assert_snapshot!(shown(fake_server(answering(b"SRplain bytes, sent before TLS")), "sslmode=require"), @r"
    Tls: no TLS with Postgres at 127.0.0.1:PORT
      because: received corrupt message of type InvalidContentType
    ");
}

#[test]
fn a_server_that_says_nothing_runs_into_the_timeout() {
    let port = fake_server(|stream| {
        std::thread::sleep(Duration::from_secs(10));
        drop(stream);
    });
    for sslmode in ["disable", "require"] {
        let started = Instant::now();
        let error = refusal(&format!("host=127.0.0.1 port={port} sslmode={sslmode} connect_timeout=1"));
        assert!((Duration::from_millis(1900)..Duration::from_secs(5)).contains(&started.elapsed()), "{:?}", started.elapsed());
        let shown = error.to_string().replace(&port.to_string(), "PORT");
        assert_eq!(shown, "no answer from Postgres at 127.0.0.1:PORT within 2 s: is the server busy, or a firewall in between?");
    }
}

#[test]
fn a_server_that_is_full_or_not_ready() {
    let cluster = Cluster::start(&Options { conf: &["max_connections = 6", "superuser_reserved_connections = 1"], ..Options::default() });
    cluster.psql("CREATE ROLE guest LOGIN");
    let guest = cluster.url().replace("postgres@", "guest@");
    let mut places = Vec::new();
    let full = loop {
        match connect(&guest) {
            Ok(connection) => places.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!(places.len(), 5);
    assert_snapshot!(settle(&told(&full), &cluster), @r"
    TooManyConnections, transient: Postgres at 127.0.0.1:PORT has no connection left; use fewer here, or raise `max_connections` or the limit of the role or database
      because: FATAL 53300
    ");
    // `close` waits until the place is free again.
    places.pop().expect("five").close();
    places.push(connect(&guest).expect("a place"));

    cluster.stop();
    assert_eq!(refusal(&cluster.url()).kind(), ConnectErrorKind::Unreachable);
    cluster.write("data/standby.signal", "");
    cluster.write("data/port.conf", &format!("port = {}\nhot_standby = off\n", cluster.port()));
    cluster.start_again();
    assert_snapshot!(settle(&told(&refusal(&cluster.url())), &cluster), @r"
    StartingUp, transient: Postgres at 127.0.0.1:PORT is up and takes no connections: it is starting, stopping or recovering
      because: FATAL 57P03
    ");
}

#[test]
fn a_peer_of_another_user_is_refused() {
    let cluster = Cluster::shared();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(cluster.socket_dir()).expect("there"));
    connect(&format!("{} requirepeer={uid}", cluster.socket_conninfo())).expect("the right user");
    let error = refusal(&format!("{} requirepeer={}", cluster.socket_conninfo(), uid + 1));
    assert!(chain(&error).contains("the server runs as another user"), "{}", chain(&error));
    assert!(World::default().parse("requirepeer=x").is_ok());
}
