//! Texts as people write them. What is expected is what libpq makes of them, but for the differences that the module
//! lists.

use std::path::PathBuf;

use insta::assert_snapshot;

use super::{ConnInfo, ConnInfoError, Surroundings};

/// One line: where to, and whatever was set beyond that.
fn told_in(text: &str, env: &[(&str, &str)]) -> String {
    match parse_in(text, env) {
        Ok(info) => summary(&info),
        Err(error) => error.to_string(),
    }
}

fn parse_in(text: &str, env: &[(&str, &str)]) -> Result<ConnInfo, ConnInfoError> {
    let lookup = |wanted: &str| env.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
    let around = Surroundings {
        env: &lookup,
        home: Some(PathBuf::from("/home/me")),
        os_user: Some("me".to_owned()),
        socket_dirs: Vec::new(),
        sysconf_dirs: Vec::new(),
    };
    ConnInfo::parse_in(text, &around)
}

fn summary(info: &ConnInfo) -> String {
    let mut line = info.to_string();
    let passwords: Vec<_> = info.hosts.iter().map(|host| host.password.as_ref().map_or("", |password| password.reveal())).collect();
    if passwords.iter().any(|password| !password.is_empty()) {
        line += &format!(" password={}", passwords.join(","));
    }
    for host in info.hosts.iter().filter_map(|host| host.address) {
        line += &format!(" at {host}");
    }
    if let Some(options) = &info.options {
        line += &format!(" options={options:?}");
    }
    info.warnings().iter().for_each(|warning| line += &format!(" ({warning})"));
    line
}

fn told(text: &str) -> String {
    told_in(text, &[])
}

/// Each text beside what it says.
fn table(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{text}\n    {}\n", told(text))).collect()
}

#[test]
fn urls() {
    assert_snapshot!(table(&[
        "postgres://",
        "postgresql://host",
        "postgres://host:6432/shop",
        "postgres://app:secret@host/shop",
        "postgres://app@/shop",
        "postgres:///shop",
        "postgres://a%40b:p%3A%2F%20q@host/sh%C3%B6p",
        "postgres://[2001:db8::1]:6432/shop",
        "postgres://one:1,two,[::1]:3/shop",
        "postgres://one,two:2,three:3/",
        "postgres://%2Fvar%2Frun%2Fpg:6432/shop",
        "postgres:///shop?host=/var/run/pg&port=6432",
        "postgres://app@?host=@abstract",
        "postgres://host/shop?user=app&options=-c%20a%3Db",
        "postgres://name?hostaddr=10.0.0.1",
        "postgres://?hostaddr=::1",
        "postgres://u:p:q@host/db",
        "postgres://host/a/b",
        "postgres://host?ssl=true",
    ]), @r#"
    postgres://
        postgres://me@localhost:5432/me
    postgresql://host
        postgres://me@host:5432/me
    postgres://host:6432/shop
        postgres://me@host:6432/shop
    postgres://app:secret@host/shop
        postgres://app@host:5432/shop password=secret
    postgres://app@/shop
        postgres://app@localhost:5432/shop
    postgres:///shop
        postgres://me@localhost:5432/shop
    postgres://a%40b:p%3A%2F%20q@host/sh%C3%B6p
        postgres://a%40b@host:5432/sh%C3%B6p password=p:/ q
    postgres://[2001:db8::1]:6432/shop
        postgres://me@[2001:db8::1]:6432/shop
    postgres://one:1,two,[::1]:3/shop
        postgres://me@one:1,two:5432,[::1]:3/shop
    postgres://one,two:2,three:3/
        postgres://me@one:5432,two:2,three:3/me
    postgres://%2Fvar%2Frun%2Fpg:6432/shop
        postgres://me@%2Fvar%2Frun%2Fpg:6432/shop
    postgres:///shop?host=/var/run/pg&port=6432
        postgres://me@%2Fvar%2Frun%2Fpg:6432/shop
    postgres://app@?host=@abstract
        postgres://app@%40abstract:5432/app
    postgres://host/shop?user=app&options=-c%20a%3Db
        postgres://app@host:5432/shop options="-c a=b"
    postgres://name?hostaddr=10.0.0.1
        postgres://me@name:5432/me at 10.0.0.1
    postgres://?hostaddr=::1
        postgres://me@[::1]:5432/me at ::1
    postgres://u:p:q@host/db
        postgres://u@host:5432/db password=p:q
    postgres://host/a/b
        postgres://me@host:5432/a%2Fb
    postgres://host?ssl=true
        postgres://me@host:5432/me
    "#);
}

#[test]
fn urls_that_are_none() {
    assert_snapshot!(table(&[
        "postgre://host/db",
        "mysql://host/db",
        "postgres://[::1/db",
        "postgres://[]/db",
        "postgres://[::1]x/db",
        "postgres://host/db?sslmode",
        "postgres://host/db?sslmode=a=b",
        "postgres://host/db?sslmod=require",
        "postgres://host/%zz",
        "postgres://host/%4",
        "postgres://host/%00",
        "postgres://host/%ff",
        "postgres://host:x/db",
        "postgres://host:0/db",
        "postgres://host:65536/db",
        "postgres://one,two/db?port=1,2,3",
        "postgres://one,two/db?hostaddr=10.0.0.1",
        "postgres://host/db?hostaddr=localhost",
        "postgres://user:pa/ss@host/db",
    ]), @r"
    postgre://host/db
        connection string, column 1: this is no Postgres URL; it has to begin with postgres:// or postgresql://
    mysql://host/db
        connection string, column 1: this is no Postgres URL; it has to begin with postgres:// or postgresql://
    postgres://[::1/db
        connection string, column 12: this `[` is never closed; an IPv6 address ends with `]`
    postgres://[]/db
        connection string, column 12: no address between `[` and `]`
    postgres://[::1]x/db
        connection string, column 17: unexpected text after `]`; `:port`, `/database`, `?key=value` or `,` may follow
    postgres://host/db?sslmode
        connection string, column 20: no `=` in this parameter; write ?key=value&key=value
    postgres://host/db?sslmode=a=b
        connection string, column 20: a second `=` in this parameter; write it as %3D
    postgres://host/db?sslmod=require
        connection string, column 20: unknown key `sslmod`; did you mean `sslmode`?
    postgres://host/%zz
        connection string, column 17: two hexadecimal digits must follow `%`; write a `%` itself as %25
    postgres://host/%4
        connection string, column 17: two hexadecimal digits must follow `%`; write a `%` itself as %25
    postgres://host/%00
        connection string, column 17: %00 is not allowed
    postgres://host/%ff
        connection string, column 17: percent-encoding that is not UTF-8
    postgres://host:x/db
        connection string, column 12: `port` is not a number from 1 to 65535; a `:`, `/` or `@` in a user name or password of a URL is written as %3A, %2F or %40
    postgres://host:0/db
        connection string, column 12: `port` is not a number from 1 to 65535; a `:`, `/` or `@` in a user name or password of a URL is written as %3A, %2F or %40
    postgres://host:65536/db
        connection string, column 12: `port` is not a number from 1 to 65535; a `:`, `/` or `@` in a user name or password of a URL is written as %3A, %2F or %40
    postgres://one,two/db?port=1,2,3
        connection string, column 23: 3 ports for 2 hosts; give one port for all or one for each
    postgres://one,two/db?hostaddr=10.0.0.1
        connection string, column 23: 1 addresses in `hostaddr` for 2 names in `host`; the two lists go together
    postgres://host/db?hostaddr=localhost
        connection string, column 20: `hostaddr` takes an IPv4 or IPv6 address; a name goes into `host`
    postgres://user:pa/ss@host/db
        connection string, column 12: an `@` after a `/`: write a `/` in a user name or password as %2F, and an `@` in a database name as %40
    ");
}

#[test]
fn pairs() {
    assert_snapshot!(table(&[
        "host=host user=app",
        "  host = host\n\tport\n=\n6432 \n user=app",
        r"host=host password='two words \' \\ end' user=a\ b",
        "host=a host=b dbname=''",
        "host=one,two port=1",
        "host=one,two port=1,",
        "host=/var/run/pg dbname=shop",
        "host=name,/dir hostaddr=10.0.0.1,10.0.0.2",
        "host=host options='-c geqo=off' client_encoding=LATIN1 krbsrvname=x gssencmode=prefer",
    ]), @r#"
    host=host user=app
        postgres://app@host:5432/app
      host = host
    	port
    =
    6432 
     user=app
        postgres://app@host:6432/app
    host=host password='two words \' \\ end' user=a\ b
        postgres://a%20b@host:5432/a%20b password=two words ' \ end
    host=a host=b dbname=''
        postgres://me@b:5432/me
    host=one,two port=1
        postgres://me@one:1,two:1/me
    host=one,two port=1,
        postgres://me@one:1,two:5432/me
    host=/var/run/pg dbname=shop
        postgres://me@%2Fvar%2Frun%2Fpg:5432/shop
    host=name,/dir hostaddr=10.0.0.1,10.0.0.2
        postgres://me@name:5432,10.0.0.2:5432/me at 10.0.0.1 at 10.0.0.2
    host=host options='-c geqo=off' client_encoding=LATIN1 krbsrvname=x gssencmode=prefer
        postgres://me@host:5432/me options="-c geqo=off" (connection string, column 33: `client_encoding` is ignored: the stream is always UTF8)
    "#);
}

#[test]
fn pairs_that_are_none() {
    assert_snapshot!(table(&[
        "shop",
        "host=host shop",
        "host=host password=two words",
        "host=host password=two words=x",
        "host='host",
        "=x",
        "hots=x",
        "database=x",
        "PGHOST=x",
        "completely_unknown=x",
        "user=''",
    ]), @r"
    shop
        connection string, column 1: no `=` after the first word; write dbname=… for a database, or a URL that begins with postgres://
    host=host shop
        connection string, column 11: no `=` after this word; write key=value, and quote a value that has spaces: key='two words'
    host=host password=two words
        connection string, column 24: no `=` after this word; write key=value, and quote a value that has spaces: key='two words'
    host=host password=two words=x
        connection string, column 24: unknown key after `password`; write a password that has spaces as password='…'
    host='host
        connection string, column 6: this quote is never closed
    =x
        connection string, column 1: unknown key ``
    hots=x
        connection string, column 1: unknown key `hots`; did you mean `host`?
    database=x
        connection string, column 1: unknown key `database`; did you mean `dbname`?
    PGHOST=x
        connection string, column 1: unknown key `PGHOST`; did you mean `host`?
    completely_unknown=x
        connection string, column 1: unknown key `completely_unknown`
    user=''
        connection string, column 1: `user` is empty; leave it out to use the name of the system user
    ");
}

#[test]
fn values() {
    assert_snapshot!(table(&[
        "sslmode=verify_full",
        "sslmode=on",
        "sslmode=",
        "target_session_attrs=master",
        "channel_binding=required",
        "connect_timeout=10s",
        "keepalives=yes",
        "port=5432,x",
        "sslrootcert=system sslmode=require",
        "sslnegotiation=direct",
        "ssl_min_protocol_version=TLSv1.4",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
    ]), @r"
    sslmode=verify_full
        connection string, column 1: `sslmode` cannot be `verify_full`; did you mean `verify-full`?
    sslmode=on
        connection string, column 1: `sslmode` cannot be `on`; use one of disable, allow, prefer, require, verify-ca, verify-full
    sslmode=
        connection string, column 1: `sslmode` cannot be ``; use one of disable, allow, prefer, require, verify-ca, verify-full
    target_session_attrs=master
        connection string, column 1: `target_session_attrs` cannot be `master`; use one of any, read-write, read-only, primary, standby, prefer-standby
    channel_binding=required
        connection string, column 1: `channel_binding` cannot be `required`; did you mean `require`?
    connect_timeout=10s
        connection string, column 1: `connect_timeout` is not a whole number: `10s`
    keepalives=yes
        connection string, column 1: `keepalives` is not a whole number: `yes`
    port=5432,x
        connection string, column 1: `port` is not a number from 1 to 65535; a `:`, `/` or `@` in a user name or password of a URL is written as %3A, %2F or %40
    sslrootcert=system sslmode=require
        connection string, column 1: `sslrootcert=system` needs `sslmode=verify-full`: any public authority can sign for any name
    sslnegotiation=direct
        connection string, column 1: `sslnegotiation=direct` needs `sslmode=require` or stricter
    ssl_min_protocol_version=TLSv1.4
        connection string, column 1: `ssl_min_protocol_version` cannot be `TLSv1.4`; use TLSv1.2 or TLSv1.3
    ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2
        connection string, column 1: `ssl_min_protocol_version` is above `ssl_max_protocol_version`
    ");
}

#[test]
fn keys_that_cannot_be_honoured_are_refused() {
    assert_snapshot!(table(&[
        "sslcrl=x",
        "sslcrl=''",
        "sslcrldir=x",
        "sslpassword=secret",
        "gssencmode=require",
        "require_auth=scram-sha-256",
        "sslcertmode=require",
        "replication=database",
        "min_protocol_version=3.2",
        "oauth_issuer=x",
    ]), @r"
    sslcrl=x
        connection string, column 1: `sslcrl=x` cannot be honoured: revocation lists are not checked here; take the key out to go on without
    sslcrl=''
        postgres://me@localhost:5432/me
    sslcrldir=x
        connection string, column 1: `sslcrldir=x` cannot be honoured: revocation lists are not checked here; take the key out to go on without
    sslpassword=secret
        connection string, column 1: `sslpassword` cannot be honoured: encrypted client keys cannot be read; decrypt the key into a file only you can read (mode 0600)
    gssencmode=require
        connection string, column 1: `gssencmode=require` cannot be honoured: GSSAPI is not supported; use TLS (`sslmode`) instead
    require_auth=scram-sha-256
        connection string, column 1: `require_auth=scram-sha-256` cannot be honoured: the authentication methods a server may ask for cannot be restricted here; `channel_binding=require` proves the server
    sslcertmode=require
        connection string, column 1: `sslcertmode=require` cannot be honoured: whether the server asked for the certificate is not checked here
    replication=database
        connection string, column 1: `replication=database` cannot be honoured: this is no replication client
    min_protocol_version=3.2
        connection string, column 1: `min_protocol_version=3.2` cannot be honoured: only protocol 3.0 is spoken here
    oauth_issuer=x
        connection string, column 1: `oauth_issuer=x` cannot be honoured: OAuth is not supported
    ");
}

#[test]
fn the_environment_fills_what_the_text_leaves_open() {
    let env = &[("PGHOST", "envhost"), ("PGPORT", "1,2"), ("PGUSER", "envuser"), ("PGPASSWORD", "envpass"), ("PGDATABASE", "")];
    assert_snapshot!(told_in("", &[("PGHOST", "envhost"), ("PGUSER", "envuser"), ("PGDATABASE", "")]), @"postgres://envuser@envhost:5432/envuser");
    assert_snapshot!(told(""), @"postgres://me@localhost:5432/me");
    assert_snapshot!(told_in("host=one,two dbname=shop", env), @"postgres://envuser@one:1,two:2/shop password=envpass,envpass");
    assert_snapshot!(told_in("", env), @"environment variable PGPORT: 2 ports for 1 hosts; give one port for all or one for each");
    assert_snapshot!(told_in("", &[("PGSSLMODE", "yes")]), @"environment variable PGSSLMODE: `sslmode` cannot be `yes`; use one of disable, allow, prefer, require, verify-ca, verify-full");
    assert_snapshot!(told_in("", &[("PGREQUIREAUTH", "none")]), @"environment variable PGREQUIREAUTH: `require_auth=none` cannot be honoured: the authentication methods a server may ask for cannot be restricted here; `channel_binding=require` proves the server");
    assert_snapshot!(told_in("", &[("PGSERVICE", "shop")]), @"environment variable PGSERVICE: no service `shop`; looked for [shop] in /home/me/.pg_service.conf");
    assert_snapshot!(told_in("", &[("PGSERVICE", "shop"), ("PGSERVICEFILE", "/no/file")]), @"environment variable PGSERVICE: cannot read the service file /no/file");
}

#[test]
fn a_description_can_be_read_again() {
    for text in ["postgres://a%40b@one:1,[::1]:2,%2Fdir:3/d%2Fb", "host=/a user=b", "host=x", "hostaddr=::1 user='ä b'"] {
        let info = parse_in(text, &[]).expect(text);
        assert_eq!(parse_in(&info.to_string(), &[]).expect(text).to_string(), info.to_string());
    }
}

#[test]
fn without_a_name_for_the_user_one_must_be_given() {
    let around = Surroundings { env: &|_| None, home: None, os_user: None, socket_dirs: Vec::new(), sysconf_dirs: Vec::new() };
    let error = ConnInfo::parse_in("", &around).expect_err("nobody");
    assert_snapshot!(error.to_string(), @"system: the system user has no name to connect as; give `user` or PGUSER");
    assert!(ConnInfo::parse_in("user=x", &around).is_ok());
}

#[test]
fn a_connection_that_falls_silent_is_asked_soon_unless_somebody_says_otherwise() {
    let parsed = |text: &str| {
        let keepalive = parse_in(text, &[]).expect("it is right").keepalive;
        keepalive.map(|set| (set.idle.map(|time| time.as_secs()), set.interval.map(|time| time.as_secs()), set.count))
    };
    assert_eq!(parsed(""), Some((Some(60), Some(10), Some(6))));
    assert_eq!(parsed("keepalives_idle=5 keepalives_count=0"), Some((Some(5), Some(10), None)), "0 is what the system has");
    assert_eq!(parsed("keepalives=0"), None);
}
