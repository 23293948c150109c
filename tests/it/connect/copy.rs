//! COPY streams as a lane reads them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sluicegate::source::postgres::{ConnectErrorKind, Message, RawConnection, ServerError, WireError, copy_run, frame};

use super::tls::with_server;
use super::{connect, connector};
use crate::support::cluster::{Cluster, Options};

/// What a stream said up to its `ReadyForQuery`s, or to its end.
#[derive(Default)]
struct Heard {
    text: Vec<u8>,
    rows: usize,
    copied: Vec<u64>,
    errors: Vec<ServerError>,
    ready: usize,
    closed: bool,
    rest: Vec<u8>,
}

/// Reads until `ready` queries are answered. `on_data` is called after every read that brought rows.
fn hear(connection: &mut RawConnection, ready: usize, mut on_data: impl FnMut(&Heard)) -> Heard {
    let (mut heard, mut buf, mut filled) = (Heard::default(), vec![0; 256 << 10], 0);
    while heard.ready < ready {
        match connection.read(&mut buf[filled..]) {
            Ok(0) => {
                heard.closed = true;
                break;
            }
            Ok(n) => filled += n,
            Err(error) => panic!("read: {error}"),
        }
        let mut at = 0;
        loop {
            let run = copy_run(&buf[at..filled]).expect("in step");
            let mut row = at;
            for _ in 0..run.rows {
                let len = frame(&buf[row..]).expect("in step").expect("whole").len;
                heard.text.extend_from_slice(&buf[row + 5..row + len]);
                row += len;
            }
            (heard.rows, at) = (heard.rows + run.rows, at + run.len);
            let Some(next) = frame(&buf[at..filled]).expect("in step") else {
                break;
            };
            if heard.ready == ready {
                heard.rest = buf[at..filled].to_vec();
                return heard;
            }
            if at + next.len > filled {
                if next.len > buf.len() {
                    buf.resize(next.len, 0);
                }
                break;
            }
            note(&mut heard, &buf[at..at + next.len]);
            at += next.len;
        }
        buf.copy_within(at..filled, 0);
        filled -= at;
        on_data(&heard);
    }
    heard
}

fn note(heard: &mut Heard, message: &[u8]) {
    match Message::parse(message).expect("well formed") {
        Message::Error(error) => heard.errors.push(*error),
        Message::Ready(_) => heard.ready += 1,
        complete @ Message::CommandComplete(_) => heard.copied.extend(complete.copied_rows()),
        _ => {}
    }
}

const WIDE: &str = "COPY (SELECT i, repeat('x', i % 200), 'tab\there', NULL FROM generate_series(1, 50000) i) TO STDOUT";

#[test]
fn pipelined_queries_are_answered_in_order() {
    let cluster = Cluster::shared();
    let mut connection = connect(&cluster.url()).expect("connected");
    for sql in ["BEGIN", WIDE, "COPY (SELECT 'last') TO STDOUT", "COMMIT"] {
        connection.send_query(sql).expect("sent");
    }
    let heard = hear(&mut connection, 4, |_| ());
    assert_eq!(heard.copied, [50_000, 1]);
    assert_eq!(heard.rows, 50_001);
    assert!(heard.errors.is_empty() && heard.rest.is_empty() && !heard.closed);
    let expected = cluster.psql(WIDE) + "\nlast\n";
    assert!(heard.text == expected.as_bytes(), "{} and {} bytes", heard.text.len(), expected.len());
    assert_eq!(connection.simple("SELECT 1").expect("still usable"), [[Some("1".to_owned())]]);
}

#[test]
fn the_same_through_tls() {
    with_server(|server| {
        let mut connection = connect(&server.conninfo("anybody", "host=db.example sslmode=require")).expect("connected");
        assert!(connection.is_encrypted());
        connection.send_query(WIDE).expect("sent");
        let heard = hear(&mut connection, 1, |_| ());
        assert!(heard.text == (server.cluster.psql(WIDE) + "\n").as_bytes());
    });
}

#[test]
fn a_table_of_a_database_of_its_own() {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i");
    for text in [database.url(), database.socket_conninfo()] {
        let mut connection = connect(&text).expect("connected");
        let here = connection.simple("SELECT current_database()").expect("answered");
        assert_eq!(here, [[Some(database.name().to_owned())]]);
        connection.send_query("COPY t TO STDOUT").expect("sent");
        assert_eq!(hear(&mut connection, 1, |_| ()).copied, [1000]);
    }
}

#[test]
fn an_error_ends_one_query_and_not_the_next() {
    let mut connection = connect(&Cluster::shared().socket_conninfo()).expect("connected");
    connection.send_query("COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) i) TO STDOUT").expect("sent");
    connection.send_query("COPY (SELECT 1) TO STDOUT").expect("sent");
    let heard = hear(&mut connection, 2, |_| ());
    assert_eq!((heard.rows, heard.copied.as_slice()), (3, &[1][..]));
    assert_eq!(heard.errors[0].to_string(), "ERROR 22012: division by zero");
}

#[test]
fn a_row_may_be_larger_than_any_buffer() {
    let mut connection = connect(&Cluster::shared().url()).expect("connected");
    connection.send_query("COPY (SELECT repeat('y', 3000000)) TO STDOUT").expect("sent");
    assert_eq!(hear(&mut connection, 1, |_| ()).text.len(), 3_000_001);
}

const ENDLESS: &str = "COPY (SELECT repeat('z', 1000), generate_series(1, 100000000)) TO STDOUT";

/// A backend that waits for us to read hangs up without a word, even in the middle of a message.
#[test]
fn a_backend_that_is_terminated_while_it_writes_hangs_up() {
    let cluster = Cluster::shared();
    let mut connection = connect(&cluster.url()).expect("connected");
    let pid = connection.backend_pid();
    connection.send_query(ENDLESS).expect("sent");
    let mut terminated = false;
    let heard = hear(&mut connection, 1, |_| {
        if !std::mem::replace(&mut terminated, true) {
            cluster.psql(&format!("SELECT pg_terminate_backend({pid})"));
        }
    });
    assert!(heard.closed && heard.ready == 0 && heard.copied.is_empty());
    let error = connection.simple("SELECT 1").expect_err("gone");
    assert!(matches!(error, WireError::Closed | WireError::Io(_)), "{error:?}");
}

#[test]
fn a_backend_that_is_terminated_while_it_thinks_says_so() {
    let cluster = Cluster::shared();
    let mut connection = connect(&cluster.url()).expect("connected");
    connection.send_query("COPY (SELECT pg_sleep(60)) TO STDOUT").expect("sent");
    let asleep = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", connection.backend_pid());
    while cluster.psql(&asleep) != "PgSleep" {}
    cluster.psql(&format!("SELECT pg_terminate_backend({})", connection.backend_pid()));
    let heard = hear(&mut connection, 1, |_| ());
    assert!(heard.closed && heard.ready == 0);
    assert!(heard.errors.iter().all(ServerError::ends_connection));
    assert_eq!(heard.errors.iter().map(|error| error.sqlstate.as_str()).collect::<Vec<_>>(), ["57P01"]);
}

#[test]
fn a_server_that_crashes_ends_the_stream_and_can_be_found_again() {
    let cluster = Cluster::start(&Options::default());
    let connector = connector(&cluster.url()).expect("made");
    let mut connection = connector.raw().expect("connected");
    connection.send_query(ENDLESS).expect("sent");
    let mut crashed = false;
    let heard = hear(&mut connection, 1, |_| {
        if !std::mem::replace(&mut crashed, true) {
            cluster.crash();
        }
    });
    assert!(heard.closed && heard.ready == 0 && heard.copied.is_empty());
    assert_eq!(connector.raw().map(drop).expect_err("down").kind(), ConnectErrorKind::Unreachable);
    cluster.start_again();
    assert!(cluster.log().contains("was not properly shut down"));
    connector.raw().expect("up again");
}

#[test]
fn a_query_can_be_cancelled_and_the_connection_used_again() {
    let cancel = |mut connection: RawConnection| {
        let token = connection.cancel_token();
        connection.send_query(ENDLESS).expect("sent");
        let mut cancelled = false;
        let heard = hear(&mut connection, 1, |_| {
            if !std::mem::replace(&mut cancelled, true) {
                token.cancel().expect("sent");
            }
        });
        assert_eq!(heard.errors.iter().map(|error| error.sqlstate.as_str()).collect::<Vec<_>>(), ["57014"]);
        assert_eq!(connection.simple("SELECT 1").expect("usable"), [[Some("1".to_owned())]]);
    };
    cancel(connect(&Cluster::shared().url()).expect("connected"));
    cancel(connect(&Cluster::shared().socket_conninfo()).expect("connected"));
    with_server(|server| cancel(connect(&server.conninfo("anybody", "host=db.example sslmode=require")).expect("connected")));
}

#[test]
fn a_read_gives_up_after_its_timeout_and_goes_on_later() {
    let pause = |mut connection: RawConnection| {
        connection.set_read_timeout(Some(Duration::from_millis(30))).expect("set");
        connection.send_query("COPY (SELECT pg_sleep(0.2)) TO STDOUT").expect("sent");
        let (mut heard, mut pauses) = (Vec::new(), 0);
        while !heard.ends_with(b"Z\0\0\0\x05I") {
            let mut buf = [0; 100];
            match connection.read(&mut buf) {
                Ok(n) => heard.extend_from_slice(&buf[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => pauses += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(pauses >= 2, "{pauses}");
        // A small query waits for as long as it takes.
        connection.simple("SELECT pg_sleep(0.1)").expect("answered");
        connection.set_read_timeout(None).expect("set");
    };
    pause(connect(&Cluster::shared().url()).expect("connected"));
    with_server(|server| pause(connect(&server.conninfo("anybody", "host=db.example sslmode=require")).expect("connected")));
}

#[test]
fn a_blocked_read_can_be_ended_from_another_thread() {
    let end = |mut connection: RawConnection| {
        let handle = connection.shutdown_handle().expect("a handle");
        connection.send_query("SELECT pg_sleep(60)").expect("sent");
        let started = Instant::now();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            handle.shutdown();
            handle.shutdown();
        });
        assert!(matches!(connection.read(&mut [0; 100]), Ok(0) | Err(_)));
        assert!(started.elapsed() < Duration::from_secs(10));
        other.join().expect("no panic");
    };
    end(connect(&Cluster::shared().url()).expect("connected"));
    end(connect(&Cluster::shared().socket_conninfo()).expect("connected"));
    with_server(|server| end(connect(&server.conninfo("anybody", "host=db.example sslmode=require")).expect("connected")));
}

#[test]
fn a_dropped_connection_ends_its_query() {
    let cluster = Cluster::shared();
    let mut connection = connect(&cluster.url()).expect("connected");
    let running = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", connection.backend_pid());
    connection.send_query(ENDLESS).expect("sent");
    connection.read(&mut [0; 1000]).expect("rows");
    drop(connection);
    let started = Instant::now();
    while cluster.psql(&running) != "0" {
        assert!(started.elapsed() < Duration::from_secs(10), "the backend is still there");
    }
}

#[test]
fn bytes_read_too_far_can_be_given_back() {
    let mut connection = connect(&Cluster::shared().url()).expect("connected");
    connection.send_query("SELECT 1").expect("sent");
    connection.send_query("SET application_name = 'unread'").expect("sent");
    let heard = hear(&mut connection, 1, |_| ());
    connection.unread(&heard.rest);
    let heard = hear(&mut connection, 1, |_| ());
    assert!(heard.rest.is_empty() && heard.ready == 1);
    // The parameter came with the answer that was read here, so only a later one is seen.
    connection.simple("SET application_name = 'later'").expect("answered");
    assert_eq!(connection.parameter("application_name"), Some("later"));
}

#[test]
fn the_last_words_of_a_server_are_not_lost() {
    let cluster = Cluster::shared();
    let mut connection = connect(&cluster.url()).expect("connected");
    let error = connection.simple("SELECT pg_terminate_backend(pg_backend_pid())");
    let error = error.expect_err("gone");
    assert_eq!(error.server_error().map(|error| error.sqlstate.as_str()), Some("57P01"));
    assert!(error.server_error().is_some_and(ServerError::ends_connection));
}

#[test]
fn small_queries_survive_what_does_not_belong_to_them() {
    let connector = connector(&Cluster::shared().url()).expect("made");
    let mut connection = connector.raw().expect("connected");
    let none: &[Vec<Option<String>>] = &[];
    assert_eq!(connection.simple("").expect("empty"), none);
    assert_eq!(connection.simple("COPY (SELECT 1) TO STDOUT").expect("ignored"), none);
    assert!(matches!(connection.simple("CREATE TEMP TABLE t (); COPY t FROM STDIN"), Err(WireError::Server(_))));
    assert!(matches!(connection.simple("SELECT 1; SELECT 1/0; SELECT 2"), Err(WireError::Server(_))));
    assert_eq!(connection.simple("DO $$ BEGIN RAISE NOTICE 'hm'; END $$; SELECT 1").expect("answered"), [[Some("1".to_owned())]]);
    assert_eq!(connection.send_query("SELECT '\0'").expect_err("refused").kind(), ErrorKind::InvalidInput);
    let error = connection.simple("SELECT repeat('x', 20000000)").expect_err("too large");
    assert!(matches!(error, WireError::Protocol(_)), "{error}");
}
