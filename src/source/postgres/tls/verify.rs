//! Verifies a server's certificate by libpq's rules, which are wider than those of the web in three ways that the
//! PostgreSQL manual's own recipes need: a self-signed certificate may be its own root, a certificate may be of X.509
//! version 1, and a certificate without alternative names is known by its common name.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme};
use webpki::RawPublicKeyEntity;
use x509_cert::certificate::Version;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::{Certificate, TbsCertificate};

use super::names::verify_name;

/// Trusted certificates, each in the form that a check wants.
#[derive(Debug)]
pub(super) struct Roots {
    anchors: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// `None` if not one of them can be used. `origin` is for the log.
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>, origin: &Path) -> Option<Roots> {
        let mut anchors = RootCertStore::empty();
        let (used, skipped) = anchors.add_parsable_certificates(certificates.iter().cloned());
        tracing::debug!(used, skipped, origin = %origin.display(), "root certificates");
        (used > 0).then_some(Roots { anchors, certificates })
    }
}

/// One server's verifier. Without `roots` it accepts every certificate, but still only from who holds its key.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Option<Arc<Roots>>,
    expected_name: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(roots: Option<Arc<Roots>>, expected_name: Option<String>, provider: &CryptoProvider) -> ServerVerifier {
        ServerVerifier { roots, expected_name, algorithms: provider.signature_verification_algorithms }
    }

    fn verify_chain(&self, roots: &Roots, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let stated = parse(leaf).ok();
        if let Some(own) = stated.as_ref().map(|stated| &stated.tbs_certificate).filter(|own| own.issuer == own.subject) {
            // Nobody else has signed it, so it is trusted itself or not at all.
            return if roots.certificates.contains(leaf) { check_dates(own, now) } else { Err(CertificateError::UnknownIssuer.into()) };
        }
        let Some(old) = stated.filter(is_before_3) else {
            let leaf = ParsedCertificate::try_from(leaf)?;
            return verify_server_cert_signed_by_trust_anchor(&leaf, &roots.anchors, others, now, self.algorithms.all);
        };
        let tbs = &old.tbs_certificate;
        check_dates(tbs, now)?;
        let trusted = roots.certificates.iter().filter_map(|root| parse(root).ok());
        let mut signers = trusted.filter(|root| root.tbs_certificate.subject == tbs.issuer);
        if signers.any(|root| self.has_signed(&root, &old)) { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }

    /// For certificates before version 3, which the general check does not read: signed by this root itself.
    fn has_signed(&self, root: &Certificate, leaf: &Certificate) -> bool {
        let (Ok(message), Ok(algorithm)) = (leaf.tbs_certificate.to_der(), leaf.signature_algorithm.to_der()) else {
            return false;
        };
        let (Some(signature), Ok(key)) = (leaf.signature.as_bytes(), public_key(root)) else {
            return false;
        };
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
            return false;
        };
        // Identifiers are kept without the header of their sequence.
        let mut known = self.algorithms.all.iter().filter(|known| algorithm.get(2..) == Some(known.signature_alg_id().as_ref()));
        leaf.signature_algorithm == leaf.tbs_certificate.signature
            && known.any(|known| key.verify_signature(*known, &message, signature).is_ok())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.verify_chain(roots, end_entity, intermediates, now)?;
        }
        if let Some(host) = &self.expected_name {
            verify_name(&parse(end_entity)?, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(old) = parse(cert).ok().filter(is_before_3) else {
            return verify_tls12_signature(message, cert, dss, &self.algorithms);
        };
        let key = public_key(&old)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let candidates = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let (_, candidates) = candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        if candidates.iter().any(|candidate| key.verify_signature(*candidate, message, dss.signature()).is_ok()) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(old) = parse(cert).ok().filter(is_before_3) else {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        };
        verify_tls13_signature_with_raw_key(message, &public_key(&old)?, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse(certificate: &[u8]) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// What the general checks cannot read. A certificate that we cannot read either is left to them.
fn is_before_3(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.version != Version::V3
}

fn public_key(certificate: &Certificate) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let der = certificate.tbs_certificate.subject_public_key_info.to_der();
    der.map(SubjectPublicKeyInfoDer::from).map_err(|_| CertificateError::BadEncoding.into())
}

fn check_dates(tbs: &TbsCertificate, now: UnixTime) -> Result<(), Error> {
    let now = std::time::Duration::from_secs(now.as_secs());
    if now < tbs.validity.not_before.to_unix_duration() {
        Err(CertificateError::NotValidYet.into())
    } else if now > tbs.validity.not_after.to_unix_duration() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}
