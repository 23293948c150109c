//! Whether a certificate is for a host, as libpq decides it.

use std::net::IpAddr;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The alternative names decide; the common name only where none of them is of the host's kind (name or address).
pub(super) fn verify_name(certificate: &Certificate, host: &str) -> Result<(), Error> {
    let address: Option<IpAddr> = host.parse().ok();
    let names = alternative_names(certificate)?;
    let mut presented: Vec<String> = names.iter().filter_map(show).collect();
    let is_match = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => name_matches(name.as_str(), host),
        GeneralName::IpAddress(octets) => address.is_some_and(|address| same_address(octets.as_bytes(), address)),
        _ => false,
    };
    let has_kind = |name: &GeneralName| match name {
        GeneralName::DnsName(_) => address.is_none(),
        GeneralName::IpAddress(_) => address.is_some(),
        _ => false,
    };
    if names.iter().any(is_match) {
        return Ok(());
    }
    if !names.iter().any(has_kind)
        && let Some(name) = common_name(certificate)
    {
        if name_matches(&name, host) {
            return Ok(());
        }
        presented.push(name);
    }
    Err(match ServerName::try_from(host.to_owned()) {
        Ok(expected) => CertificateError::NotValidForNameContext { expected, presented }.into(),
        Err(_) => CertificateError::NotValidForName.into(),
    })
}

fn alternative_names(certificate: &Certificate) -> Result<Vec<GeneralName>, Error> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let mut lists = extensions.filter(|extension| extension.extn_id == SubjectAltName::OID);
    match lists.next().map(|list| SubjectAltName::from_der(list.extn_value.as_bytes())) {
        None => Ok(Vec::new()),
        Some(Ok(names)) => Ok(names.0),
        // Not "no names": the common name must not stand in for names we cannot read.
        Some(Err(_)) => Err(CertificateError::BadEncoding.into()),
    }
}

fn show(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(octets) => address(octets.as_bytes()).map(|address| address.to_string()),
        _ => None,
    }
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|set| set.0.iter());
    let name = parts.into_iter().find(|part| part.oid == COMMON_NAME)?;
    String::from_utf8(name.value.value().to_vec()).ok()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn same_address(octets: &[u8], wanted: IpAddr) -> bool {
    address(octets) == Some(wanted)
}

/// `*.` at the beginning stands for one label.
fn name_matches(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') || pattern.is_empty() {
        return false;
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|suffix| suffix.len() > 1 && suffix.starts_with('.')) else {
        return pattern.eq_ignore_ascii_case(host);
    };
    host.split_once('.').is_some_and(|(label, _)| !label.is_empty() && host[label.len()..].eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let table = [
            ("db.example.com", "db.example.com", true),
            ("DB.Example.com", "db.example.COM", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "example", false),
            ("*.", "example.", false),
            ("d*.example.com", "db.example.com", false),
            ("db.example.com", "db.example.com.", false),
            ("db.example.com\0.evil.com", "db.example.com", false),
            ("", "", false),
        ];
        for (pattern, host, expected) in table {
            assert_eq!(name_matches(pattern, host), expected, "{pattern:?} against {host:?}");
        }
    }
}
