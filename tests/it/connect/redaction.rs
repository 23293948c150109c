//! A password must not appear anywhere.

use super::tls::with_server;
use super::{World, chain, connector};
use crate::support::cluster::Cluster;

const PASSWORD: &str = "Pa55w0rd";

#[track_caller]
fn assert_absent(text: &str) {
    // Halves too: a text that is cut in two at a special character shows one.
    for part in [PASSWORD, "Pa55", "w0rd", "UGE1NXcwcmQ"] {
        assert!(!text.contains(part), "shows the password: {text}");
    }
}

#[test]
fn errors_about_the_text_do_not_show_it() {
    let texts = [
        "postgres://u:Pa55w0rd@h:port/d",
        "postgres://u:Pa55w0rd@h/d?x=y",
        "postgres://u:Pa55w0rd@h/d?sslmode=x",
        "postgres://u:Pa55w0rd@[h/d",
        "postgres://u:Pa55%zzw0rd@h/d",
        "postgres://u:Pa55/w0rd@h/d",
        "postgres://u:Pa55@w0rd@h:x/d",
        "postgres://u:Pa55w0rd%00@h/d",
        "postgres://h?password=Pa55w0rd&nonsense",
        "postgres://h?password=Pa55=w0rd",
        "postgres://h?pasword=Pa55w0rd",
        "postgres://h?sslpassword=Pa55w0rd",
        "host=h password=Pa55w0rd sslmode=x",
        "host=h password='Pa55w0rd",
        "host=h password=Pa55 w0rd",
        "host=h password=Pa55 w0rd=x",
        "host=h password=Pa55 x w0rd=x",
        "host=h password=Pa55w0rd port=x",
        "host=h sslpassword=Pa55w0rd",
        "host=h pass=Pa55w0rd",
        "Pa55w0rd",
    ];
    for text in texts {
        let error = World::default().parse(text).expect_err(text);
        assert_absent(&format!("{error} {error:?}"));
    }
}

#[test]
fn nothing_that_holds_it_shows_it() {
    let cluster = Cluster::shared();
    let text = format!("{} password={PASSWORD}", cluster.socket_conninfo());
    let world = World { env: &[("PGPASSWORD", PASSWORD)], ..World::default() };
    for info in [World::default().parse(&text), world.parse(&cluster.socket_conninfo())] {
        let info = info.expect("complete");
        assert_absent(&format!("{info} {info:?} {info:#?} {} {:?}", info.identity(), info.warnings()));
    }
    let connector = connector(&text).expect("made");
    let connection = connector.raw().expect("connected");
    assert_absent(&format!("{connector:?} {connection:?} {:?} {:?}", connection.cancel_token(), connection.shutdown_handle()));
}

#[test]
fn errors_of_a_connection_do_not_show_it() {
    let cluster = Cluster::shared();
    let mut texts = vec![
        format!("{} dbname=nowhere password={PASSWORD}", cluster.socket_conninfo()),
        format!("{} user=nobody password={PASSWORD}", cluster.socket_conninfo()),
        format!("host=127.0.0.1 port=1 password={PASSWORD}"),
        format!("host=127.0.0.1 port={} sslmode=require password={PASSWORD}", cluster.port()),
        format!("host=127.0.0.1 port={} channel_binding=require password={PASSWORD}", cluster.port()),
    ];
    with_server(|server| {
        for rest in
            ["", "sslmode=disable", "sslmode=require", "host=x sslmode=verify-full sslrootcert=DIR/other.crt", "channel_binding=require"]
        {
            texts.push(server.conninfo("scram", &format!("{rest} password={PASSWORD}")));
        }
        for text in &texts {
            let connector = match connector(text) {
                Ok(connector) => connector,
                Err(error) => return assert_absent(&format!("{error:?} {}", chain(&error))),
            };
            for error in [connector.raw().map(drop), connector.client().map(drop)] {
                let error = error.expect_err(text);
                assert_absent(&format!("{error:?} {error:#?} {}", chain(&error)));
            }
        }
    });
}
