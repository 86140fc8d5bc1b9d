//! The certificate that clients see, made on the first run, and the TLS settings for it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use thiserror::Error;
use zeroize::Zeroizing;

/// Certificate and private key in one file, readable by its owner only.
pub const FILE: &str = "client-tls.pem";
const YEARS: i32 = 10;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read or written.
    #[error("{path}: {why}: make the data directory writable for the node")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// The file holds no usable certificate and key.
    #[error(
        "{path} holds no usable certificate and key ({why}): repair it, or move it away to get a new one"
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A domain is no DNS name, or the system has no randomness.
    #[error("no certificate can be made for {domains:?}: {why}")]
    Make {
        /// For which names.
        domains: Vec<String>,
        /// Why not.
        why: rcgen::Error,
    },
}

/// TLS 1.2 and 1.3 with the certificate in `dir`; if there is none it is made for `domains`, `localhost` and the
/// loopback addresses, valid for ten years. An existing one is kept as it is, because clients may have pinned it.
///
/// # Errors
/// See [`TlsError`].
pub fn load_or_create(dir: &Path, domains: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let path = dir.join(FILE);
    let pem = match std::fs::read(&path) {
        Ok(pem) => Zeroizing::new(pem),
        Err(why) if why.kind() == ErrorKind::NotFound => {
            let pem = make(domains).map_err(|why| TlsError::Make { domains: domains.to_vec(), why })?;
            store(dir, &path, &pem).map_err(|why| TlsError::File { path: path.clone(), why })?;
            pem
        }
        Err(why) => return Err(TlsError::File { path, why }),
    };
    config(&pem).map(Arc::new).map_err(|why| TlsError::Unusable { path, why })
}

#[allow(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn make(domains: &[String]) -> Result<Zeroizing<Vec<u8>>, rcgen::Error> {
    let fixed = ["localhost", "id.internal", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = fixed.into_iter().chain(domains.iter().cloned()).collect();
    names.sort_unstable();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "CrossTalk");
    // The clock may be wrong on a first run: the certificate is valid long before it.
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let year = 1970 + i32::try_from(days * 400 / 146_097).unwrap_or(0);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year.max(2026) + YEARS, 12, 31);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new([key_pem.as_bytes(), certificate.pem().as_bytes()].concat()))
}

/// Writes the file whole or not at all.
fn store(dir: &Path, path: &Path, pem: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("pem.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(pem)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

fn config(pem: &[u8]) -> Result<ServerConfig, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|why| why.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|why| why.to_string())?;
    // Clients stay connected for hours: resumption would cost memory and gain nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The same for ports where TLS comes first (XEP-0368 §3).
pub(super) fn for_direct_tls(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        load_or_create(dir.path(), &["office.example".into()]).unwrap();
        let first = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        load_or_create(dir.path(), &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(load_or_create(dir.path(), &[]), Err(TlsError::Unusable { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"nothing");
        assert!(matches!(load_or_create(&path, &[]), Err(TlsError::File { .. })));
    }
}
