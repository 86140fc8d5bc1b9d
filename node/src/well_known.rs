//! The document with which a domain's web server says which key speaks for the domain (RFC 8615): made by the domain's server,
//! fetched by whoever wants to know, only when a person asks for it.
//!
//! What it proves is what the web's certificates prove (RFC 9525), once. Nothing is fetched by itself: a question tells the
//! web server, and whoever watches the line, that somebody here has to do with the domain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crosstalk_overlay::id::AuthorityId;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::keys_of;

/// Where it stands at the web server.
pub const PATH: &str = "/.well-known/crosstalk-authority.json";
/// Version of its shape.
const VERSION: u32 = 1;
/// Bytes of it at most, and of the headers before it.
const MAX_SIZE: usize = 32 * 1_024;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not connected.
    #[error("cannot connect to port 443 of {0} ({1}): is this machine online, and is there a web server?")]
    Connect(String, std::io::Error),
    /// No TLS.
    #[error(
        "{0} does not prove to be that web server ({1}); if its certificate is by an authority of your own, name the file with \
         that authority's as `ca_file` in [domains]"
    )]
    Tls(String, std::io::Error),
    /// HTTP went wrong.
    #[error("the web server of {0} does not speak HTTP as it should: {1}")]
    Http(String, hyper::Error),
    /// Another status than 200.
    #[error(
        "https://{0}{PATH} answers {1}: whoever runs the domain has to put there what `crosstalk authority domain document` \
         prints; no other place is asked"
    )]
    Status(String, StatusCode),
    /// Not read.
    #[error("what stands at https://{0}{PATH} is longer than {MAX_SIZE} bytes, or was cut off")]
    Body(String),
    /// Not understood.
    #[error("what stands at https://{0}{PATH} is not the key of {0} in a form that is known here: {1}")]
    Content(String, String),
    /// No roots.
    #[error("cannot read certificates of authorities from {path}: {why}", path = .0.display(), why = .1)]
    Roots(PathBuf, String),
    /// Too long.
    #[error("the web server of {0} takes longer than {secs} s", secs = PATIENCE.as_secs())]
    Slow(String),
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    version: u32,
    /// Of which domain.
    domain: String,
    /// The key that speaks for it, hexadecimal.
    authority: String,
    /// Signed rotations that led to that key, oldest first, base64.
    #[serde(default)]
    rotations: Vec<String>,
}

/// What it says, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// The key.
    pub key: AuthorityId,
    /// Signed rotations that led to it, oldest first.
    pub rotations: Vec<Vec<u8>>,
}

impl Document {
    /// Says which key speaks for a domain, and how it came to do so.
    pub fn new(domain: &str, authority: AuthorityId, rotations: &[Vec<u8>]) -> Self {
        let rotations = rotations.iter().map(|bytes| STANDARD.encode(bytes)).collect();
        Self { version: VERSION, domain: domain.to_owned(), authority: authority.to_hex(), rotations }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(domain: &str, bytes: &[u8]) -> Result<Said, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("it has version {}", document.version));
        }
        if document.domain != domain {
            return Err(format!("it is of {}", document.domain.escape_debug()));
        }
        let key = parse_key(&document.authority).ok_or("its key is none")?;
        let rotations: Result<Vec<Vec<u8>>, _> =
            document.rotations.iter().map(|one| STANDARD.decode(one)).collect();
        let rotations = rotations.map_err(|_| "its rotations are not base64")?;
        let leads = keys_of(key, &rotations, domain).is_some_and(|chain| chain.current() == key);
        if !leads {
            return Err("its rotations do not lead to its key".to_owned());
        }
        Ok(Said { key, rotations })
    }
}

/// A key as people and programs write it: 64 hexadecimal digits.
pub fn parse_key(text: &str) -> Option<AuthorityId> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    AuthorityId::from_slice(&digits.chunks(2).filter_map(byte).collect::<Vec<u8>>())
}

/// Asks the web server of a domain. Beside the system's authorities those in `ca_file` are believed.
///
/// # Errors
/// Says what went wrong, and what to do.
pub async fn fetch(domain: &str, ca_file: Option<PathBuf>) -> Result<Said, FetchError> {
    let roots = tokio::task::spawn_blocking(move || roots(ca_file.as_deref())).await;
    let roots = roots.unwrap_or_else(|error| Err(FetchError::Roots(PathBuf::new(), error.to_string())))?;
    let got = tokio::time::timeout(PATIENCE, get(domain, roots)).await;
    let body = got.unwrap_or_else(|_| Err(FetchError::Slow(domain.to_owned())))?;
    Document::read(domain, &body).map_err(|why| FetchError::Content(domain.to_owned(), why))
}

async fn get(domain: &str, roots: RootCertStore) -> Result<Bytes, FetchError> {
    let of = || domain.to_owned();
    let connected =
        TcpStream::connect((domain, 443)).await.map_err(|error| FetchError::Connect(of(), error))?;
    let tls = |error| FetchError::Tls(of(), error);
    let name = ServerName::try_from(of()).map_err(std::io::Error::other).map_err(tls)?;
    let config = client(roots).map_err(std::io::Error::other).map_err(tls)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, connected).await.map_err(tls)?;
    let http = |error| FetchError::Http(of(), error);
    let mut settings = http1::Builder::new();
    let (mut asking, connection) =
        settings.max_buf_size(MAX_SIZE).handshake(TokioIo::new(stream)).await.map_err(http)?;
    let running = tokio::spawn(connection);
    let answer = ask(domain, &mut asking).await;
    running.abort();
    answer
}

async fn ask(domain: &str, asking: &mut http1::SendRequest<Empty<Bytes>>) -> Result<Bytes, FetchError> {
    let of = || domain.to_owned();
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = hyper::Uri::from_static(PATH);
    let host = hyper::header::HeaderValue::from_str(domain);
    request.headers_mut().insert(HOST, host.map_err(|error| FetchError::Content(of(), error.to_string()))?);
    request.headers_mut().insert(ACCEPT, hyper::header::HeaderValue::from_static("application/json"));
    let answer = asking.send_request(request).await.map_err(|error| FetchError::Http(of(), error))?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(of(), answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_SIZE).collect().await;
    Ok(body.map_err(|_| FetchError::Body(of()))?.to_bytes())
}

/// TLS to servers that are verified by the web's rules.
pub(crate) fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The system's authorities, and those of a file.
pub(crate) fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let failed = |why: String| FetchError::Roots(path.to_path_buf(), why);
        for one in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
            let one = one.map_err(|error| failed(error.to_string()))?;
            roots.add(one).map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use crosstalk_overlay::keys::AuthorityKey;
    use crosstalk_overlay::record::Rotation;

    use super::*;

    fn key(seed: u8) -> AuthorityKey {
        AuthorityKey::from_seed([seed; 32])
    }

    fn document(rotations: &[Vec<u8>]) -> Vec<u8> {
        serde_json::to_vec(&Document::new("b.example", key(2).id(), rotations)).expect("json")
    }

    #[test]
    fn what_is_written_is_read_and_nothing_that_leads_elsewhere() {
        let step = |old: u8, new: u8, domain| {
            Rotation::issue(&key(old), &key(new), domain, 1_000).expect("signs").bytes().to_vec()
        };
        let led = vec![step(1, 2, "b.example")];
        let said = Document::read("b.example", &document(&led)).expect("read");
        assert_eq!(said, Said { key: key(2).id(), rotations: led });
        assert!(Document::read("b.example", &document(&[])).is_ok());
        for (domain, bytes, why) in [
            ("c.example", document(&[]), "it is of b.example"),
            ("b.example", document(&[step(2, 3, "b.example")]), "do not lead"),
            ("b.example", document(&[step(1, 2, "c.example")]), "do not lead"),
            ("b.example", b"{}".to_vec(), "version"),
            ("b.example", b"<html>".to_vec(), "expected value"),
        ] {
            let error = Document::read(domain, &bytes).expect_err("refused");
            assert!(error.contains(why), "{error}");
        }
        let later = String::from_utf8(document(&[])).expect("text").replace("\"version\":1", "\"version\":2");
        assert_eq!(Document::read("b.example", later.as_bytes()), Err("it has version 2".to_owned()));
    }

    #[test]
    fn a_key_is_sixty_four_digits() {
        let id = key(1).id();
        assert_eq!(parse_key(&id.to_hex()), Some(id));
        assert_eq!(parse_key(&id.to_hex().to_uppercase()), Some(id));
        for bad in ["", "12", &id.to_hex()[1..], &format!("{}é", &id.to_hex()[2..])] {
            assert_eq!(parse_key(bad), None, "{bad}");
        }
    }
}
