//! Servers that show a certificate and are not its owner.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use sluicegate::source::postgres::ConnectErrorKind;

use super::tls::{TlsServer, with_server};
use super::{chain, refusal};

/// Shows a certificate whatever the key.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Speaks TLS with this certificate and this key, then hangs up. Returns its port.
fn server_with(certificate: &Path, key: &Path, direct: bool) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(certificate).expect("readable").map(|one| one.expect("PEM")).collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("readable");
    let pair = CertifiedKey::new(chain, provider.key_provider.load_private_key(key).expect("a key"));
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Shown(Arc::new(pair))));
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, &config, direct)));
    port
}

fn serve(mut stream: TcpStream, config: &Arc<ServerConfig>, direct: bool) {
    if !direct {
        let mut request = [0; 8];
        drop(stream.read_exact(&mut request));
        drop(stream.write_all(b"S"));
    }
    let mut session = ServerConnection::new(config.clone()).expect("a session");
    while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
    if direct && session.alpn_protocol() != Some(b"postgresql") {
        return;
    }
    // As far as the startup message, which the client only sends when it trusts the handshake.
    drop(session.complete_io(&mut stream));
}

/// How far a client gets: `Tls` if it does not trust the server, `Unreachable` if it does and finds no Postgres behind it.
fn verdict(server: &TlsServer, port: u16, rest: &str) -> (ConnectErrorKind, String) {
    let text = server.conninfo("anybody", rest);
    let text = text.replace(&format!("port={}", server.cluster.port()), &format!("port={port}"));
    let error = refusal(&text);
    (error.kind(), chain(&error))
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing_in_any_mode() {
    let modes = ["sslmode=require", "sslmode=verify-ca sslrootcert=DIR/root.crt", "sslmode=verify-full sslrootcert=DIR/root.crt"];
    with_server(|server| {
        for shown in ["server", "recipe"] {
            let file = |name: &str| server.certificates.file(name);
            let owner = server_with(&file(&format!("{shown}.crt")), &file(&format!("{shown}.key")), false);
            let thief = server_with(&file(&format!("{shown}.crt")), &file("certified.key"), false);
            for version in ["TLSv1.2", "TLSv1.3"] {
                for mode in modes {
                    let rest = format!("host=db.example {mode} ssl_min_protocol_version={version} ssl_max_protocol_version={version}");
                    let (kind, chain) = verdict(server, owner, &rest);
                    assert_eq!(kind, ConnectErrorKind::Unreachable, "{shown}, {rest}: {chain}");
                    let (kind, chain) = verdict(server, thief, &rest);
                    assert_eq!(kind, ConnectErrorKind::Tls, "{shown}, {rest}: {chain}");
                    assert!(chain.contains("BadSignature"), "{shown}, {rest}: {chain}");
                }
            }
        }
    });
}

#[test]
fn an_authority_of_the_same_name_is_another() {
    with_server(|server| {
        for name in ["forged", "forged_recipe"] {
            let file = |kind: &str| server.certificates.file(&format!("{name}.{kind}"));
            let port = server_with(&file("crt"), &file("key"), false);
            let trusted = |roots: &str| verdict(server, port, &format!("host=db.example sslmode=verify-full sslrootcert=DIR/{roots}"));
            assert_eq!(trusted("root.crt").0, ConnectErrorKind::Tls, "{name}");
            assert_eq!(trusted("forger.crt").0, ConnectErrorKind::Unreachable, "{name}: {}", trusted("forger.crt").1);
        }
    });
}

#[test]
fn direct_negotiation_begins_with_the_handshake() {
    with_server(|server| {
        let port = server_with(&server.certificates.file("server.crt"), &server.certificates.file("server.key"), true);
        let rest = "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt sslnegotiation=direct";
        let (kind, chain) = verdict(server, port, rest);
        assert_eq!(kind, ConnectErrorKind::Unreachable, "{chain}");
    });
}
