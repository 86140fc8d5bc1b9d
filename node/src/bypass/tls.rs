//! The certificates that chat programs see where their TLS ends here, and what is believed of their servers.
//!
//! One key, and one certificate for each domain of a listed account, signed with that key itself: who is given one of them
//! trusts this node for that domain and for nothing else. They are kept, as programs have been told to trust them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::client::{Resumption, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::c2s::tls::{TlsError, certificate, for_direct_tls, read, store, with_chain, with_key};
use crate::well_known::{self, FetchError};

use super::accounts::Accounts;

/// Key and certificates in one file of the data directory, readable by its owner only.
pub const FILE: &str = "bypass-tls.pem";
/// The certificates alone, for chat programs.
const CERTIFICATES: &str = "bypass-tls.crt";

/// What people need to make their chat program trust this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// The file that they are in (PEM).
    pub file: PathBuf,
    /// SHA-256 of each, hexadecimal, by domain.
    pub fingerprints: BTreeMap<String, String>,
}

/// TLS towards clients and servers.
#[derive(Debug)]
pub struct Tls {
    /// Towards clients, by domain: behind STARTTLS, and from the first byte.
    faces: BTreeMap<String, (Arc<ServerConfig>, Arc<ServerConfig>)>,
    /// Towards servers, the same.
    servers: (Arc<ClientConfig>, Arc<ClientConfig>),
    /// What clients have to trust.
    pub(super) certificates: Certificates,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Of this node.
    #[error(transparent)]
    Own(#[from] TlsError),
    /// Of authorities.
    #[error(transparent)]
    Roots(#[from] FetchError),
    /// Neither can be used.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// With the certificates in `dir`, which are made where there are none for these accounts; of servers the system's
    /// authorities are believed, and those in `ca_file`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(dir: &Path, accounts: &Accounts, ca_file: Option<&Path>) -> Result<Self, LoadError> {
        let mut server = well_known::client(well_known::roots(ca_file)?)?;
        // One connection has nothing to do with another one.
        server.resumption = Resumption::disabled();
        let mut direct = server.clone();
        direct.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let path = dir.join(FILE);
        let unusable = |why: String| TlsError::Unusable { path: path.clone(), why };
        let (key, certificates) = kept(&path, &accounts.domains())?;
        let mut faces = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        // Whose account is removed, of that domain the file is trusted no longer; its certificate waits in the other one.
        let mut trusted = String::new();
        for domain in accounts.domains() {
            let of_it = certificates.iter().find(|one| is_for(one, &domain)).cloned();
            let one = of_it.ok_or_else(|| unusable(format!("nothing for {domain}")))?;
            fingerprints.insert(domain.clone(), fingerprint(&one));
            trusted.push_str(&pem(&one));
            let face = with_chain(vec![one], key.clone_key()).map_err(unusable)?;
            faces.insert(domain, (Arc::new(face.clone()), for_direct_tls(&face)));
        }
        let file = dir.join(CERTIFICATES);
        if read(&file)?.is_none_or(|old| *old != *trusted.as_bytes()) {
            store(&file, trusted.as_bytes(), 0o644)?;
        }
        let certificates = Certificates { file, fingerprints };
        Ok(Self { faces, servers: (Arc::new(server), Arc::new(direct)), certificates })
    }

    /// Towards a client of that domain; `direct`: TLS comes first.
    pub(super) fn face(&self, domain: &str, direct: bool) -> Option<Arc<ServerConfig>> {
        let (behind, first) = self.faces.get(domain)?;
        Some(Arc::clone(if direct { first } else { behind }))
    }

    /// Towards its server.
    pub(super) fn server(&self, direct: bool) -> Arc<ClientConfig> {
        Arc::clone(if direct { &self.servers.1 } else { &self.servers.0 })
    }
}

type Kept = (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>);

/// Key and certificates of the file, with one for each of the domains.
fn kept(path: &Path, domains: &[String]) -> Result<Kept, TlsError> {
    let unusable = |why: String| TlsError::Unusable { path: path.to_path_buf(), why };
    let make = |why| TlsError::Make { domains: domains.to_vec(), why };
    let old = read(path)?;
    let (key, known) = match &old {
        None => (KeyPair::generate().map_err(make)?, Vec::new()),
        Some(pem) => {
            let text = std::str::from_utf8(pem).map_err(|why| unusable(why.to_string()))?;
            let key = KeyPair::from_pem(text).map_err(|why| unusable(why.to_string()))?;
            (key, read_all(pem).map_err(unusable)?)
        }
    };
    let lacking = domains.iter().filter(|domain| !known.iter().any(|one| is_for(one, domain)));
    let made =
        lacking.map(|domain| certificate(&format!("CrossTalk for {domain}"), vec![domain.clone()], &key));
    let made: Vec<String> = made.collect::<Result<_, _>>().map_err(make)?;
    let pem = if made.is_empty() {
        old.unwrap_or_else(|| with_key(&key, ""))
    } else {
        let all: String = known.iter().map(|one| pem(one)).chain(made).collect();
        let new = with_key(&key, &all);
        store(path, &new, 0o600)?;
        new
    };
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|why| unusable(why.to_string()))?;
    Ok((key, read_all(&pem).map_err(unusable)?))
}

fn read_all(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|why| why.to_string())
}

fn is_for(certificate: &CertificateDer<'_>, domain: &str) -> bool {
    let name = ServerName::try_from(domain);
    let parsed = ParsedCertificate::try_from(certificate);
    matches!((name, parsed), (Ok(name), Ok(parsed)) if verify_server_name(&parsed, &name).is_ok())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.extend(line.iter().map(|byte| char::from(*byte)));
        lines.push('\n');
    }
    lines + "-----END CERTIFICATE-----\n"
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let bytes = Sha256::digest(certificate);
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn accounts(of: &[&str]) -> Accounts {
        Accounts::new(of.iter().map(|jid| jid.parse().expect("a JID")))
    }

    #[test]
    fn certificates_are_made_once_for_each_domain_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let load = |of: &[&str]| Tls::load(dir.path(), &accounts(of), None).expect("loaded").certificates;
        let first = load(&["romeo@a.example", "juliet@a.example"]);
        assert_eq!(first.fingerprints.len(), 1);
        let mode =
            |name| std::fs::metadata(dir.path().join(name)).expect("a file").permissions().mode() & 0o777;
        assert_eq!((mode(FILE), mode(CERTIFICATES) & 0o600), (0o600, 0o600));
        let second = load(&["romeo@a.example", "nurse@b.example"]);
        assert_eq!(second.fingerprints["a.example"], first.fingerprints["a.example"], "as programs trust it");
        assert_eq!(load(&["nurse@b.example"]).fingerprints.len(), 1);
        let trusted = std::fs::read(&first.file).expect("read");
        assert_eq!(read_all(&trusted).expect("certificates").len(), 1, "who is removed is trusted no longer");
        assert_eq!(load(&["romeo@a.example", "nurse@b.example"]), second);
        let public = std::fs::read_to_string(&first.file).expect("text");
        assert_eq!((public.matches("BEGIN CERT").count(), public.contains("PRIVATE")), (2, false));
        // One that is damaged is not replaced.
        std::fs::write(dir.path().join(FILE), "nothing").expect("written");
        let error =
            Tls::load(dir.path(), &accounts(&["romeo@a.example"]), None).expect_err("refused").to_string();
        assert!(error.contains(FILE) && error.contains("repair it"), "{error}");
        let error = Tls::load(dir.path(), &accounts(&[]), Some(Path::new("/nowhere"))).expect_err("refused");
        assert!(error.to_string().contains("/nowhere"));
    }

    #[test]
    fn a_certificate_is_for_its_domain_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let tls =
            Tls::load(dir.path(), &accounts(&["romeo@a.example", "nurse@b.example"]), None).expect("loaded");
        let stored = std::fs::read(&tls.certificates.file).expect("read");
        let all = read_all(&stored).expect("certificates");
        let fits: Vec<usize> = ["a.example", "b.example", "x.a.example", "example"]
            .map(|domain| all.iter().filter(|one| is_for(one, domain)).count())
            .to_vec();
        assert_eq!(fits, [1, 1, 0, 0]);
        assert!(tls.face("a.example", true).is_some() && tls.face("c.example", false).is_none());
    }
}
