//! Certificates for tests, made by `openssl` in the ways the PostgreSQL manual shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::TlsFiles;

/// A directory with keys (`NAME.key`), certificates (`NAME.crt`) and two authorities, `root` and `other`.
pub(super) struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes the two authorities.
    pub(super) fn new(dir: &Path) -> Certificates {
        let made = Certificates::at(dir);
        for authority in ["root", "other"] {
            made.authority(authority, &format!("/CN={authority} authority"));
        }
        made
    }

    /// Those that are there already.
    pub(super) fn at(dir: &Path) -> Certificates {
        Certificates { dir: dir.to_owned() }
    }

    /// One that signs itself, by its whole name.
    pub(super) fn authority(&self, name: &str, subject: &str) {
        self.openssl(&format!("req -new -x509 -days 3650 -nodes {EC} -subj SUBJECT -out {name}.crt -keyout {name}.key"), subject);
    }

    /// As the manual has it for a quick start: self-signed, known by its common name alone.
    pub(super) fn self_signed(&self, name: &str, host: &str) {
        self.authority(name, &format!("/CN={host}"));
    }

    /// Self-signed, with a key of another kind.
    pub(super) fn self_signed_ed25519(&self, name: &str, host: &str) {
        self.openssl(
            &format!("req -new -x509 -days 3650 -nodes -newkey ed25519 -subj SUBJECT -out {name}.crt -keyout {name}.key"),
            &format!("/CN={host}"),
        );
    }

    /// Signed by an authority; `extensions` are lines for openssl. Without any, openssl before 3.2 makes version 1.
    pub(super) fn signed(&self, name: &str, authority: &str, common_name: &str, extensions: &str) {
        let subject = format!("/CN={common_name}");
        self.openssl(&format!("req -new -nodes {EC} -subj SUBJECT -out {name}.csr -keyout {name}.key"), &subject);
        let mut sign =
            format!("x509 -req -in {name}.csr -days 365 -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -out {name}.crt");
        if !extensions.is_empty() {
            fs::write(self.dir.join("extensions"), extensions).expect("cannot write");
            sign.push_str(" -extfile extensions");
        }
        self.openssl(&sign, "");
    }

    /// Signed by an authority, and no longer valid.
    pub(super) fn expired(&self, name: &str, authority: &str, common_name: &str) {
        self.openssl(&format!("req -new -nodes {EC} -subj SUBJECT -out {name}.csr -keyout {name}.key"), &format!("/CN={common_name}"));
        let config = "[ca]\ndefault_ca=x\n[x]\ndatabase=index\nserial=number\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n";
        fs::write(self.dir.join("ca.conf"), config).expect("cannot write");
        fs::write(self.dir.join("index"), "").expect("cannot write");
        fs::write(self.dir.join("number"), "77").expect("cannot write");
        fs::write(self.dir.join("extensions"), format!("subjectAltName=DNS:{common_name}\n")).expect("cannot write");
        let dates = "-startdate 20200101000000Z -enddate 20210101000000Z";
        self.openssl(
            &format!("ca -batch -notext -config ca.conf -cert {authority}.crt -keyfile {authority}.key -in {name}.csr -out {name}.crt -extfile extensions {dates}"),
            "",
        );
    }

    /// Puts further certificates behind the first, as a server does with intermediate ones.
    pub(super) fn append(&self, name: &str, others: &str) {
        let read = |name: &str| fs::read_to_string(self.file(&format!("{name}.crt"))).expect("cannot read");
        fs::write(self.file(&format!("{name}.crt")), read(name) + &read(others)).expect("cannot write");
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs `action` with a server's files.
    pub(super) fn with_files<T>(&self, name: &str, action: impl FnOnce(TlsFiles<'_>) -> T) -> T {
        let (certificate, key, roots) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")), self.file("root.crt"));
        action(TlsFiles { certificate: &certificate, key: &key, client_roots: Some(&roots) })
    }

    fn openssl(&self, arguments: &str, subject: &str) {
        let arguments = arguments.split(' ').map(|argument| if argument == "SUBJECT" { subject } else { argument });
        let output = Command::new("openssl").args(arguments).current_dir(&self.dir).output().expect("these tests need openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
