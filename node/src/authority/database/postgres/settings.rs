//! Where PostgreSQL is, and how it is reached: what the settings say, checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use zeroize::Zeroizing;

use super::PATIENCE;

/// Longest file of a password or of certificates, bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with what the settings say.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No address of a database.
    #[error("`database` in [authority]: {0}. Write postgresql://USER@HOST/DATABASE, or leave it empty")]
    Url(String),
    /// A password where everybody may see it.
    #[error(
        "`database` in [authority] has a password in it: put that into a file and name it in `database_password`"
    )]
    Password,
    /// Passwords and names of users would go over the network as they are.
    #[error(
        "the database in [authority] is on another machine: name the certificates that its own was signed with in \
         `database_ca`, so that nobody in between can read along"
    )]
    Open,
    /// A file that cannot be used.
    #[error("cannot use {path}, named in [authority]: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// A database in PostgreSQL.
#[derive(Clone)]
pub struct Postgres {
    config: Config,
    password: Option<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Postgres({:?})", self.config.get_hosts())
    }
}

impl Postgres {
    /// What the settings say: address, file with the password, file with the certificates of who signed the server's.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn new(url: &str, password: Option<&Path>, ca: Option<&Path>) -> Result<Self, SettingsError> {
        // What it always does with certificates to check by; the client knows no word for it.
        let verified = "sslmode=verify-full";
        if url.contains(verified) && ca.is_none() {
            return Err(SettingsError::Open);
        }
        let mut config: Config = url
            .replace(verified, "sslmode=require")
            .parse()
            .map_err(|error: tokio_postgres::Error| SettingsError::Url(told(&error)))?;
        if config.get_password().is_some() {
            return Err(SettingsError::Password);
        }
        if config.get_hosts().is_empty() {
            return Err(SettingsError::Url("it names no host".to_owned()));
        }
        let tls = ca.map(certificates).transpose()?;
        if tls.is_none() && !config.get_hosts().iter().all(is_here) {
            return Err(SettingsError::Open);
        }
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(PATIENCE / 2).keepalives_idle(PATIENCE).application_name("crosstalk");
        Ok(Self { config, password: password.map(Path::to_path_buf), tls })
    }

    /// With the password as it is now in its file.
    pub(super) fn config(&self) -> Result<Config, SettingsError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password {
            let text = Zeroizing::new(read(path)?);
            config.password(text.trim_ascii());
        }
        Ok(config)
    }

    /// Nothing: the connection stays on this machine.
    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }
}

fn told(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let failed = |why: String| SettingsError::File { path: path.to_path_buf(), why };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(failed("it is larger than 1 MiB".to_owned()));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn certificates(path: &Path) -> Result<Arc<ClientConfig>, SettingsError> {
    let failed = |why: String| SettingsError::File { path: path.to_path_buf(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate is in it (PEM)".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| failed(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_elsewhere_is_reached_by_tls_only_and_its_password_stands_in_a_file() {
        let new = |url: &str| Postgres::new(url, None, None);
        for here in ["postgresql://a@localhost/b", "postgresql://a@[::1]/b", "host=/run/postgresql user=a"] {
            assert!(new(here).is_ok(), "{here}");
        }
        assert!(matches!(new("postgresql://a@db.office.example/b"), Err(SettingsError::Open)));
        assert!(matches!(new("postgresql://a@localhost,192.0.2.1/b"), Err(SettingsError::Open)));
        assert!(matches!(new("postgresql://a:secret@localhost/b"), Err(SettingsError::Password)));
        assert!(matches!(new("sled"), Err(SettingsError::Url(_))));
        assert!(matches!(new("user=a"), Err(SettingsError::Url(_))));
        let nothing = tempfile::NamedTempFile::new().expect("a file");
        let of = |ca| Postgres::new("postgresql://a@db.office.example/b", None, Some(ca));
        assert!(matches!(of(nothing.path()), Err(SettingsError::File { .. })));
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = rcgen::CertificateParams::new(vec!["db".to_owned()]).and_then(|of| of.self_signed(&key));
        std::fs::write(nothing.path(), made.expect("a certificate").pem()).expect("written");
        assert!(of(nothing.path()).is_ok());
        for url in [
            "postgresql://a@db.office.example/b?sslmode=verify-full",
            "host=db.office.example user=a sslmode=verify-full",
        ] {
            assert!(Postgres::new(url, None, Some(nothing.path())).is_ok(), "{url}");
            assert!(matches!(new(url), Err(SettingsError::Open)), "{url}");
        }
    }
}
