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
    let pem = match read(&path)? {
        Some(pem) => pem,
        None => {
            let fixed = ["localhost", "id.internal", "127.0.0.1", "::1"].map(str::to_owned);
            let mut names: Vec<String> = fixed.into_iter().chain(domains.iter().cloned()).collect();
            names.sort_unstable();
            names.dedup();
            let make = |why| TlsError::Make { domains: domains.to_vec(), why };
            let key = KeyPair::generate().map_err(make)?;
            let pem = with_key(&key, &certificate("CrossTalk", names, &key).map_err(make)?);
            store(&path, &pem, 0o600)?;
            pem
        }
    };
    config(&pem).map(Arc::new).map_err(|why| TlsError::Unusable { path, why })
}

/// What the file holds, if it is there.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, TlsError> {
    match std::fs::read(path) {
        Ok(pem) => Ok(Some(Zeroizing::new(pem))),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(TlsError::File { path: path.to_path_buf(), why }),
    }
}

/// A key and what goes with it, as one file.
pub(crate) fn with_key(key: &KeyPair, certificates: &str) -> Zeroizing<Vec<u8>> {
    let key = Zeroizing::new(key.serialize_pem());
    Zeroizing::new([key.as_bytes(), certificates.as_bytes()].concat())
}

/// A certificate (PEM) for these names, signed with its own key, valid for ten years.
#[allow(clippy::disallowed_methods, reason = "the shell reads the clock")]
pub(crate) fn certificate(called: &str, names: Vec<String>, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, called);
    // The clock may be wrong on a first run: the certificate is valid long before it.
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let year = 1970 + i32::try_from(days * 400 / 146_097).unwrap_or(0);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year.max(2026) + YEARS, 12, 31);
    Ok(params.self_signed(key)?.pem())
}

/// Writes the file whole or not at all.
pub(crate) fn store(path: &Path, pem: &[u8], mode: u32) -> Result<(), TlsError> {
    let write = || {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(pem)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|why| TlsError::File { path: path.to_path_buf(), why })
}

fn config(pem: &[u8]) -> Result<ServerConfig, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|why| why.to_string())?;
    with_chain(chain, key)
}

/// TLS 1.2 and 1.3 with a certificate and its key.
pub(crate) fn with_chain(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, String> {
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
pub(crate) fn for_direct_tls(config: &ServerConfig) -> Arc<ServerConfig> {
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
