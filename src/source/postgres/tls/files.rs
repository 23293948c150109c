//! Certificates and keys from files, and the system's roots.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::TlsError;
use super::verify::Roots;
use crate::source::postgres::conninfo::Ssl;

pub(super) fn system_roots() -> Result<Roots, TlsError> {
    let mut found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let error =
            TlsError::new("the system has no root certificates; install its ca-certificates package or give a file in `sslrootcert`");
        return Err(match found.errors.pop() {
            Some(cause) => error.caused_by(cause),
            None => error,
        });
    }
    Roots::new(found.certs, Path::new("system")).ok_or_else(|| TlsError::new("none of the system's root certificates can be used"))
}

pub(super) fn file_roots(file: &Path) -> Result<Roots, TlsError> {
    let certificates = read_certificates(file, "root certificate file")?;
    let unusable = || TlsError::new(format!("no certificate in {} can be used as a root", file.display()));
    Roots::new(certificates, file).ok_or_else(unusable)
}

fn read_certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(file).map_err(|cause| cannot_read(what, file, cause))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|cause| TlsError::new(format!("the {what} {} is not PEM", file.display())).caused_by(cause))?;
    if certificates.is_empty() {
        return Err(TlsError::new(format!("the {what} {} has no certificate in PEM form", file.display())));
    }
    Ok(certificates)
}

/// As in libpq, no file means no certificate, wherever the name came from.
pub(super) fn client_certificate(ssl: &Ssl, provider: &CryptoProvider) -> Result<Option<SingleCertAndKey>, TlsError> {
    let Some(file) = ssl.client_cert.as_ref().filter(|file| file.exists()) else {
        return Ok(None);
    };
    let chain = read_certificates(file, "client certificate")?;
    let key_file = ssl.client_key.as_ref().filter(|key| key.exists());
    let no_key =
        || TlsError::new(format!("the client certificate {} has no private key beside it; give the file in `sslkey`", file.display()));
    let key_file = key_file.ok_or_else(no_key)?;
    let key = private_key(key_file)?;
    let unusable = |cause| TlsError::new(format!("the private key {} cannot be used", key_file.display())).caused_by(cause);
    let key = provider.key_provider.load_private_key(key).map_err(unusable)?;
    let pair = CertifiedKey::new(chain, key);
    // Other failures of the check mean that it cannot be made (certificates before version 3), not that it failed.
    if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = pair.keys_match() {
        return Err(TlsError::new(format!("the private key {} does not belong to the certificate {}", key_file.display(), file.display())));
    }
    Ok(Some(SingleCertAndKey::from(pair)))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let shown = file.display();
    let metadata = fs::metadata(file).map_err(|cause| cannot_read("private key", file, cause))?;
    if !metadata.is_file() {
        return Err(TlsError::new(format!("the private key {shown} is not a plain file")));
    }
    // A key of the system's may be readable for a group; one's own must not be.
    let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & others != 0 {
        return Err(TlsError::new(format!("others than its owner have access to the private key {shown}; run chmod 0600 {shown}")));
    }
    let bytes = fs::read(file).map_err(|cause| cannot_read("private key", file, cause))?;
    if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(TlsError::new(format!(
            "the private key {shown} is encrypted, which is not supported; decrypt it into a file only you can read"
        )));
    }
    let read = PrivateKeyDer::from_pem_slice(&bytes).or_else(|cause| PrivateKeyDer::try_from(bytes).map_err(|_| cause));
    read.map_err(|cause| TlsError::new(format!("the private key {shown} is neither PEM nor DER")).caused_by(cause))
}

fn cannot_read(what: &str, file: &Path, cause: io::Error) -> TlsError {
    TlsError::new(format!("cannot read the {what} {}", file.display())).caused_by(cause)
}
