//! Channel binding `tls-server-end-point` (RFC 5929): the hash of the server's certificate.

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5912 as oid;

/// The hash that both ends know, or `None` where the certificate's signature names no hash function (Ed25519, RSA-PSS).
pub(in crate::source::postgres) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    match parsed.signature_algorithm.oid {
        oid::SHA_224_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_224 => Some(Sha224::digest(certificate).to_vec()),
        // The RFC replaces SHA-1 and MD5 by SHA-256.
        oid::SHA_1_WITH_RSA_ENCRYPTION | oid::MD_5_WITH_RSA_ENCRYPTION => Some(Sha256::digest(certificate).to_vec()),
        oid::SHA_256_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_256 => Some(Sha256::digest(certificate).to_vec()),
        oid::SHA_384_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_384 => Some(Sha384::digest(certificate).to_vec()),
        oid::SHA_512_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}
