//! Every sslmode against every kind of certificate, each checked against libpq as well.

use std::sync::{Mutex, OnceLock, PoisonError};

use insta::assert_snapshot;
use sluicegate::source::postgres::ConnectError;

use super::certificates::Certificates;
use super::{chain, connect, connector, libpq, refusal, settle};
use crate::support::cluster::{Cluster, Options};

/// A server with TLS, and the certificates it may show. One test at a time has it.
pub(super) struct TlsServer {
    pub(super) cluster: Cluster,
    pub(super) certificates: Certificates,
}

/// Who asks how. `cert` takes the common name of the client's certificate for the user.
const HBA: &[&str] = &[
    "hostssl   all  encrypted  all  trust",
    "hostnossl all  plain      all  trust",
    "hostssl   all  certified  all  cert",
    "host      all  scram      all  scram-sha-256",
    "host      all  anybody    all  trust",
];

pub(super) fn with_server<T>(action: impl FnOnce(&TlsServer) -> T) -> T {
    static SERVER: OnceLock<Mutex<TlsServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::new(dir.path());
        make(&certificates);
        let cluster = certificates.with_files("server", |tls| Cluster::start(&Options { hba: HBA, tls: Some(tls), ..Options::default() }));
        // Into the directory that goes with the cluster: this static is never dropped.
        for file in std::fs::read_dir(dir.path()).expect("readable").flatten() {
            std::fs::copy(file.path(), cluster.dir().join(file.file_name())).expect("cannot copy");
        }
        let certificates = Certificates::at(cluster.dir());
        let create = |user| format!("CREATE ROLE {user} LOGIN PASSWORD 'right';");
        cluster.psql(&["encrypted", "plain", "certified", "scram", "anybody"].map(create).concat());
        Mutex::new(TlsServer { cluster, certificates })
    });
    action(&server.lock().unwrap_or_else(PoisonError::into_inner))
}

fn make(certificates: &Certificates) {
    certificates.signed("server", "root", "ignored.example", "subjectAltName=DNS:db.example,DNS:*.wild.example,IP:127.0.0.1\n");
    certificates.signed("recipe", "root", "db.example", "");
    certificates.self_signed("self", "db.example");
    certificates.self_signed_ed25519("ed25519", "db.example");
    certificates.expired("expired", "root", "db.example");
    certificates.signed("between", "root", "between", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n");
    certificates.signed("chained", "between", "chained", "subjectAltName=DNS:db.example\n");
    certificates.append("chained", "between");
    certificates.authority("forger", "/CN=root authority");
    certificates.signed("forged", "forger", "forged", "subjectAltName=DNS:db.example\n");
    certificates.signed("forged_recipe", "forger", "db.example", "");
    certificates.signed("certified", "root", "certified", "");
    certificates.signed("stranger", "other", "certified", "");
}

impl TlsServer {
    fn show(&self, name: &str) {
        self.certificates.with_files(name, |tls| self.cluster.install_tls(tls));
    }

    /// `user` is who asks; `DIR/` in `rest` is where the certificates are.
    pub(super) fn conninfo(&self, user: &str, rest: &str) -> String {
        let rest = rest.replace("DIR", &self.cluster.dir().display().to_string());
        format!("hostaddr=127.0.0.1 port={} dbname=postgres user={user} {rest}", self.cluster.port())
    }

    /// One line about how a connection goes, and whether libpq finds the same.
    fn outcome(&self, user: &str, rest: &str) -> String {
        let text = self.conninfo(user, rest);
        let ours = connect(&text);
        let encrypted = ours.as_ref().ok().map(|connection| connection.is_encrypted());
        let outcome = match ours {
            Ok(connection) if connection.is_encrypted() => "encrypted".to_owned(),
            Ok(_) => "plain".to_owned(),
            // What other libraries say further down is theirs to change.
            Err(error) => {
                settle(&chain(&error).split("\n  because: ").take(self.depth(&error)).collect::<Vec<_>>().join("; "), &self.cluster)
            }
        };
        let theirs = libpq(&text);
        let verdict = if theirs == encrypted { String::new() } else { format!(" (libpq: {theirs:?})") };
        format!("{rest}: {outcome}{verdict}")
    }

    fn depth(&self, error: &ConnectError) -> usize {
        if error.to_string() == "TLS cannot be set up" { 2 } else { 1 }
    }

    fn outcomes(&self, user: &str, table: &[&str]) -> String {
        table.iter().map(|rest| self.outcome(user, rest)).collect::<Vec<_>>().join("\n")
    }
}

/// Every mode with a root that signed the certificate, with another, and with none.
const MODES: &[&str] = &[
    "host=db.example sslmode=disable",
    "host=db.example sslmode=allow",
    "host=db.example sslmode=prefer",
    "host=db.example sslmode=prefer sslrootcert=DIR/root.crt",
    "host=db.example sslmode=prefer sslrootcert=DIR/other.crt",
    "host=db.example sslmode=require",
    "host=db.example sslmode=require sslrootcert=DIR/root.crt",
    "host=db.example sslmode=require sslrootcert=DIR/other.crt",
    "host=db.example sslmode=require sslrootcert=DIR/missing.crt",
    "host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt",
    "host=db.example sslmode=verify-ca sslrootcert=DIR/other.crt",
    "host=db.example sslmode=verify-ca sslrootcert=DIR/missing.crt",
    "host=db.example sslmode=verify-ca",
    "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt",
    "host=db.example sslmode=verify-full sslrootcert=DIR/other.crt",
];

#[test]
fn every_mode_with_a_certificate_of_an_authority() {
    with_server(|server| {
        server.show("server");
        assert_snapshot!(server.outcomes("anybody", MODES), @r"
        host=db.example sslmode=disable: plain
        host=db.example sslmode=allow: plain
        host=db.example sslmode=prefer: encrypted
        host=db.example sslmode=prefer sslrootcert=DIR/root.crt: encrypted
        host=db.example sslmode=prefer sslrootcert=DIR/other.crt: plain
        host=db.example sslmode=require: encrypted
        host=db.example sslmode=require sslrootcert=DIR/root.crt: encrypted
        host=db.example sslmode=require sslrootcert=DIR/other.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate is signed by none of the roots of DIR/other.crt
        host=db.example sslmode=require sslrootcert=DIR/missing.crt: encrypted
        host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt: encrypted
        host=db.example sslmode=verify-ca sslrootcert=DIR/other.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate is signed by none of the roots of DIR/other.crt
        host=db.example sslmode=verify-ca sslrootcert=DIR/missing.crt: TLS cannot be set up; the root certificate file DIR/missing.crt does not exist; give the file in `sslrootcert`, or `sslrootcert=system` to trust the system's roots
        host=db.example sslmode=verify-ca: TLS cannot be set up; no root certificate to verify the server with; give the file in `sslrootcert`, or `sslrootcert=system` to trust the system's roots
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=db.example sslmode=verify-full sslrootcert=DIR/other.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate is signed by none of the roots of DIR/other.crt
        ");
    });
}

#[test]
fn only_verify_full_looks_at_the_name() {
    let table = &[
        "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=DB.Example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=a.wild.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=127.0.0.1 sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=other.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=a.b.wild.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=ignored.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=127.0.0.2 sslmode=verify-full sslrootcert=DIR/root.crt",
        "sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=other.example sslmode=verify-ca sslrootcert=DIR/root.crt",
        "host=not_a_name.-x sslmode=verify-ca sslrootcert=DIR/root.crt",
        "sslmode=verify-ca sslrootcert=DIR/root.crt",
    ];
    with_server(|server| {
        server.show("server");
        assert_snapshot!(server.outcomes("anybody", table), @r"
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=DB.Example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=a.wild.example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=127.0.0.1 sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=other.example sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at other.example:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        host=a.b.wild.example sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at a.b.wild.example:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        host=ignored.example sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at ignored.example:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        host=127.0.0.2 sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at 127.0.0.2:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        sslmode=verify-full sslrootcert=DIR/root.crt: TLS cannot be set up; `sslmode=verify-full` needs a name to verify: give `host` besides `hostaddr`
        host=other.example sslmode=verify-ca sslrootcert=DIR/root.crt: encrypted
        host=not_a_name.-x sslmode=verify-ca sslrootcert=DIR/root.crt: encrypted
        sslmode=verify-ca sslrootcert=DIR/root.crt: encrypted
        ");
    });
}

#[test]
fn certificates_made_by_the_recipes_of_the_manual() {
    let by_root = &[
        "host=db.example sslmode=require",
        "host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt",
        "host=db.example sslmode=verify-ca sslrootcert=DIR/other.crt",
        "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=other.example sslmode=verify-full sslrootcert=DIR/root.crt",
        "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt ssl_max_protocol_version=TLSv1.2",
    ];
    let by_itself = &[
        "host=db.example sslmode=prefer",
        "host=db.example sslmode=require",
        "host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt",
        "host=db.example sslmode=verify-ca sslrootcert=DIR/self.crt",
        "host=db.example sslmode=verify-full sslrootcert=DIR/self.crt",
        "host=other.example sslmode=verify-full sslrootcert=DIR/self.crt",
    ];
    with_server(|server| {
        server.show("recipe");
        assert_snapshot!(server.outcomes("anybody", by_root), @r"
        host=db.example sslmode=require: encrypted
        host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt: encrypted
        host=db.example sslmode=verify-ca sslrootcert=DIR/other.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate is signed by none of the roots of DIR/other.crt
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        host=other.example sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at other.example:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt ssl_max_protocol_version=TLSv1.2: encrypted
        ");
        server.show("self");
        assert_snapshot!(server.outcomes("anybody", by_itself), @r"
        host=db.example sslmode=prefer: encrypted
        host=db.example sslmode=require: encrypted
        host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate is signed by none of the roots of DIR/root.crt
        host=db.example sslmode=verify-ca sslrootcert=DIR/self.crt: encrypted
        host=db.example sslmode=verify-full sslrootcert=DIR/self.crt: encrypted
        host=other.example sslmode=verify-full sslrootcert=DIR/self.crt: no TLS with Postgres at other.example:PORT (127.0.0.1): its certificate names another host; connect by a name it has
        ");
    });
}

#[test]
fn chains_and_dates() {
    let table = &["host=db.example sslmode=require", "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt"];
    with_server(|server| {
        server.show("chained");
        assert_snapshot!(server.outcomes("anybody", table), @r"
        host=db.example sslmode=require: encrypted
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt: encrypted
        ");
        server.show("expired");
        assert_snapshot!(server.outcomes("anybody", table), @r"
        host=db.example sslmode=require: encrypted
        host=db.example sslmode=verify-full sslrootcert=DIR/root.crt: no TLS with Postgres at db.example:PORT (127.0.0.1): its certificate has expired
        ");
    });
}

#[test]
fn the_server_may_insist_on_encryption_or_its_absence() {
    let table = &[
        "host=db.example sslmode=disable",
        "host=db.example sslmode=allow",
        "host=db.example sslmode=prefer",
        "host=db.example sslmode=require",
    ];
    with_server(|server| {
        server.show("server");
        assert_snapshot!(server.outcomes("encrypted", table), @r"
        host=db.example sslmode=disable: Postgres at db.example:PORT (127.0.0.1) does not let user `encrypted` in; does the role exist, and does pg_hba.conf let it in from here?
        host=db.example sslmode=allow: encrypted
        host=db.example sslmode=prefer: encrypted
        host=db.example sslmode=require: encrypted
        ");
        assert_snapshot!(server.outcomes("plain", table), @r"
        host=db.example sslmode=disable: plain
        host=db.example sslmode=allow: plain
        host=db.example sslmode=prefer: plain
        host=db.example sslmode=require: Postgres at db.example:PORT (127.0.0.1) does not let user `plain` in; does the role exist, and does pg_hba.conf let it in from here?
        ");
    });
}

#[test]
fn client_certificates() {
    let table = &[
        "host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/certified.key",
        "host=db.example sslmode=require",
        "host=db.example sslmode=require sslcert=DIR/missing.crt sslkey=DIR/certified.key",
        "host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/missing.key",
        "host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/open.key",
        "host=db.example sslmode=require sslcert=DIR/stranger.crt sslkey=DIR/stranger.key",
        "host=db.example sslmode=require sslcert=DIR/server.crt sslkey=DIR/certified.key",
        "host=db.example sslmode=require sslcert=DIR/root.key sslkey=DIR/certified.key",
        "host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/root.crt",
        "host=db.example sslmode=prefer sslcert=DIR/certified.crt sslkey=DIR/missing.key",
    ];
    with_server(|server| {
        server.show("server");
        let open = server.certificates.file("open.key");
        std::fs::copy(server.certificates.file("certified.key"), &open).expect("copied");
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("set");
        assert_snapshot!(server.outcomes("certified", table), @r"
        host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/certified.key: encrypted
        host=db.example sslmode=require: Postgres at db.example:PORT (127.0.0.1) does not let user `certified` in; does the role exist, and does pg_hba.conf let it in from here?
        host=db.example sslmode=require sslcert=DIR/missing.crt sslkey=DIR/certified.key: Postgres at db.example:PORT (127.0.0.1) does not let user `certified` in; does the role exist, and does pg_hba.conf let it in from here?
        host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/missing.key: TLS cannot be set up; the client certificate DIR/certified.crt has no private key beside it; give the file in `sslkey`
        host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/open.key: TLS cannot be set up; others than its owner have access to the private key DIR/open.key; run chmod 0600 DIR/open.key
        host=db.example sslmode=require sslcert=DIR/stranger.crt sslkey=DIR/stranger.key: no TLS with Postgres at db.example:PORT (127.0.0.1): it does not accept the client certificate; is `sslcert` signed by an authority that it trusts?
        host=db.example sslmode=require sslcert=DIR/server.crt sslkey=DIR/certified.key: TLS cannot be set up; the private key DIR/certified.key does not belong to the certificate DIR/server.crt
        host=db.example sslmode=require sslcert=DIR/root.key sslkey=DIR/certified.key: TLS cannot be set up; the client certificate DIR/root.key has no certificate in PEM form
        host=db.example sslmode=require sslcert=DIR/certified.crt sslkey=DIR/root.crt: TLS cannot be set up; others than its owner have access to the private key DIR/root.crt; run chmod 0600 DIR/root.crt
        host=db.example sslmode=prefer sslcert=DIR/certified.crt sslkey=DIR/missing.key: Postgres at db.example:PORT (127.0.0.1) does not let user `certified` in; does the role exist, and does pg_hba.conf let it in from here?
        ");
    });
}

#[test]
fn channel_binding() {
    let table = &[
        "host=db.example password=right channel_binding=require sslmode=require",
        "host=db.example password=right channel_binding=prefer sslmode=require",
        "host=db.example password=right channel_binding=disable sslmode=require",
        "host=db.example password=right channel_binding=require sslmode=disable",
        "host=db.example password=right channel_binding=require sslmode=prefer",
        "host=db.example password=wrong channel_binding=require sslmode=require",
    ];
    with_server(|server| {
        server.show("server");
        assert_snapshot!(server.outcomes("scram", table), @r"
        host=db.example password=right channel_binding=require sslmode=require: encrypted
        host=db.example password=right channel_binding=prefer sslmode=require: encrypted
        host=db.example password=right channel_binding=disable sslmode=require: encrypted
        host=db.example password=right channel_binding=require sslmode=disable: Postgres at db.example:PORT (127.0.0.1) cannot do channel binding, and `channel_binding=require` insists on it: it takes TLS and scram-sha-256
        host=db.example password=right channel_binding=require sslmode=prefer: encrypted
        host=db.example password=wrong channel_binding=require sslmode=require: Postgres at db.example:PORT (127.0.0.1) refused the password of user `scram`; check it in the connection string, PGPASSWORD or the password file
        ");
        let trusted = &["host=db.example channel_binding=require sslmode=require"];
        assert_snapshot!(server.outcomes("anybody", trusted), @"host=db.example channel_binding=require sslmode=require: Postgres at db.example:PORT (127.0.0.1) cannot do channel binding, and `channel_binding=require` insists on it: it takes TLS and scram-sha-256");
        // No hash function in its signature, so nothing to bind to. Versions of libpq differ here.
        server.show("ed25519");
        let required = refusal(&server.conninfo("scram", table[0]));
        assert!(required.to_string().contains("cannot do channel binding"), "{required}");
        assert!(connect(&server.conninfo("scram", table[1])).expect("connected").is_encrypted());
    });
}

#[test]
fn a_server_without_tls() {
    let cluster = Cluster::shared();
    let with = |mode: &str| format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode={mode}", cluster.port());
    for mode in ["disable", "allow", "prefer"] {
        assert!(!connect(&with(mode)).expect(mode).is_encrypted());
    }
    assert_snapshot!(settle(&refusal(&with("require")).to_string(), cluster), @"Postgres at 127.0.0.1:PORT has no TLS, and `sslmode` insists on it; turn `ssl` on there, or use `sslmode=prefer`");
    // As in libpq, sslmode is about TCP.
    assert!(connect(&format!("{} sslmode=verify-full", cluster.socket_conninfo())).is_ok());
}

#[test]
fn the_control_connection_is_as_encrypted_as_the_raw_one() {
    with_server(|server| {
        server.show("recipe");
        let rest = "host=db.example password=right channel_binding=require sslmode=verify-full sslrootcert=DIR/root.crt";
        let connector = connector(&server.conninfo("scram", rest)).expect("certificates");
        let mut client = connector.client().expect("connected");
        let row = client.query_one("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).expect("answered");
        assert_eq!((row.get(0), row.get(1)), (true, "TLSv1.3"));
        let row = connector.raw().expect("connected").simple("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        assert_eq!(row.expect("answered"), [[Some("t".to_owned()), Some("TLSv1.3".to_owned())]]);
    });
}

#[test]
fn versions_can_be_bounded() {
    with_server(|server| {
        server.show("server");
        let version = |bounds: &str| {
            let text = server.conninfo("anybody", &format!("host=db.example sslmode=require {bounds}"));
            let rows = connect(&text).expect("connected").simple("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
            rows.expect("answered").concat().into_iter().flatten().collect::<String>()
        };
        assert_eq!(version("ssl_max_protocol_version=TLSv1.2"), "TLSv1.2");
        assert_eq!(version("ssl_min_protocol_version=TLSv1.3"), "TLSv1.3");
    });
}

/// The program itself: what it is asked for, or an error and no output; never less.
#[test]
fn an_export_is_as_encrypted_as_it_was_asked_to_be() {
    let folder = crate::support::program::Folder::new();
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let export = |server: &TlsServer, user: &str, rest: &str, code: i32| {
        let (from, to) = (server.conninfo(user, rest), folder.text("out.jsonl"));
        crate::support::program::run(["export", "--quiet", "--no-journal", "--force", "--from", &from, "--query", query, "--to", &to])
            .expect(code);
        let written = folder.join("out.jsonl").exists().then(|| folder.read("out.jsonl"));
        std::fs::remove_file(folder.join("out.jsonl")).unwrap_or_default();
        assert_eq!(folder.names(), [] as [&str; 0]);
        written
    };
    with_server(|server| {
        server.show("server");
        let verified = "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt";
        assert_eq!(export(server, "anybody", verified, 0).unwrap(), "{\"ssl\":true}\n");
        assert_eq!(export(server, "anybody", "sslmode=require", 0).unwrap(), "{\"ssl\":true}\n");
        for (user, rest) in [
            ("anybody", "host=db.example sslmode=verify-ca sslrootcert=DIR/other.crt"),
            ("anybody", "host=other.example sslmode=verify-full sslrootcert=DIR/root.crt"),
            // The server would take it without TLS.
            ("plain", "sslmode=require"),
            ("scram", "sslmode=disable password=right channel_binding=require"),
        ] {
            assert_eq!(export(server, user, rest, 69), None, "{user} {rest}");
        }
        server.show("expired");
        assert_eq!(export(server, "anybody", verified, 69), None);
        // What `prefer`, the default, means: encrypted where both can, and unverified.
        assert_eq!(export(server, "anybody", "", 0).unwrap(), "{\"ssl\":true}\n");
        assert_eq!(export(server, "plain", "", 0).unwrap(), "{\"ssl\":false}\n");
    });
}
