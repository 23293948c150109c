//! TLS as `sslmode` wants it: which roots to trust, which certificate to show, what to verify.
//!
//! As in libpq, a root certificate that exists is used in every mode; `verify-ca` and `verify-full` insist on one, and
//! only `verify-full` looks at the name. The signature of the handshake is checked in every mode, since channel binding
//! rests on it.

mod binding;
mod files;
mod names;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{SupportedProtocolVersion, version};

use super::conninfo::{RootCerts, Ssl, SslMode, SslNegotiation, TlsVersion};
pub(super) use binding::server_end_point;
use files::{client_certificate, file_roots, system_roots};
use verify::{Roots, ServerVerifier};

/// Everything a handshake needs, read from files once.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    roots: Option<Arc<Roots>>,
    client: Option<Arc<SingleCertAndKey>>,
    verify_name: bool,
    send_server_name: bool,
    direct: bool,
}

/// TLS cannot be set up as asked.
#[derive(Debug)]
pub(super) struct TlsError {
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Tls {
    /// Reads roots and the client's certificate. What is odd but harmless goes to `warnings`.
    pub(super) fn new(ssl: &Ssl, warnings: &mut Vec<String>) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = roots(ssl, warnings)?;
        if let (Some(_), Some(crl)) = (&roots, ssl.default_crl.as_ref().filter(|crl| crl.exists())) {
            let problem =
                format!("the revocation list {} cannot be honoured by this program; move it away to connect without", crl.display());
            return Err(TlsError::new(problem));
        }
        Ok(Tls {
            versions: versions(ssl),
            roots: roots.map(Arc::new),
            client: client_certificate(ssl, &provider)?.map(Arc::new),
            provider,
            verify_name: ssl.mode == SslMode::VerifyFull,
            send_server_name: ssl.send_server_name,
            direct: ssl.negotiation == SslNegotiation::Direct,
        })
    }

    /// The configuration for one server, known to the user as `host`.
    pub(super) fn config(&self, host: &str) -> Result<ClientConfig, TlsError> {
        if self.verify_name && host.is_empty() {
            return Err(TlsError::new("`sslmode=verify-full` needs a name to verify: give `host` besides `hostaddr`"));
        }
        let expected = self.verify_name.then(|| host.to_owned());
        let verifier = ServerVerifier::new(self.roots.clone(), expected, &self.provider);
        let builder = ClientConfig::builder_with_provider(self.provider.clone()).with_protocol_versions(&self.versions);
        let builder = builder.map_err(|cause| TlsError::new("no usable TLS version").caused_by(cause))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.client {
            Some(client) => builder.with_client_cert_resolver(client.clone()),
            None => builder.with_no_client_auth(),
        };
        // Every connection verifies for itself.
        config.resumption = Resumption::disabled();
        config.enable_sni = self.send_server_name;
        if self.direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(config)
    }
}

/// The name to send in the handshake: only real names are sent, and the verifier has its own idea of the host.
pub(super) fn server_name(host: &str) -> ServerName<'static> {
    let unnamed = || ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| unnamed())
}

fn versions(ssl: &Ssl) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)];
    let wanted = all.into_iter().filter(|(version, _)| (ssl.min_version..=ssl.max_version).contains(version));
    wanted.map(|(_, version)| version).collect()
}

/// `None` where nothing is verified, which the stricter modes refuse.
fn roots(ssl: &Ssl, warnings: &mut Vec<String>) -> Result<Option<Roots>, TlsError> {
    let must_verify = ssl.mode >= SslMode::VerifyCa;
    let advice = "give the file in `sslrootcert`, or `sslrootcert=system` to trust the system's roots";
    match &ssl.root {
        RootCerts::System => system_roots().map(Some),
        RootCerts::File(file) | RootCerts::Default(file) if file.exists() => file_roots(file).map(Some),
        RootCerts::Nowhere if must_verify => Err(TlsError::new(format!("no root certificate to verify the server with; {advice}"))),
        RootCerts::File(file) | RootCerts::Default(file) if must_verify => {
            Err(TlsError::new(format!("the root certificate file {} does not exist; {advice}", file.display())))
        }
        RootCerts::File(file) => {
            warnings.push(format!("the root certificate file {} does not exist, so the server is not verified", file.display()));
            Ok(None)
        }
        RootCerts::Nowhere | RootCerts::Default(_) => Ok(None),
    }
}

/// What a failed handshake means to the person who set it up, where that is more than the error itself says.
pub(super) fn explain(error: &rustls::Error, roots: &RootCerts) -> Option<String> {
    use rustls::{AlertDescription as Alert, CertificateError as Bad};
    let bad = match error {
        rustls::Error::InvalidCertificate(bad) => bad,
        rustls::Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired | Alert::DecryptError,
        ) => return Some("it does not accept the client certificate; is `sslcert` signed by an authority that it trusts?".to_owned()),
        _ => return None,
    };
    let from: PathBuf = match roots {
        RootCerts::File(file) | RootCerts::Default(file) => file.clone(),
        RootCerts::System | RootCerts::Nowhere => PathBuf::from("the system"),
    };
    match bad {
        Bad::UnknownIssuer | Bad::BadSignature => Some(format!("its certificate is signed by none of the roots of {}", from.display())),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            Some("its certificate names another host; connect by a name it has".to_owned())
        }
        Bad::Expired | Bad::ExpiredContext { .. } => Some("its certificate has expired".to_owned()),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => Some("its certificate is not valid yet; is the clock right?".to_owned()),
        _ => None,
    }
}

impl TlsError {
    fn new(problem: impl Into<String>) -> TlsError {
        TlsError { problem: problem.into(), source: None }
    }

    fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> TlsError {
        self.source = Some(Box::new(cause));
        self
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}
