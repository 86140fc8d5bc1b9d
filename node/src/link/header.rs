//! Stream headers between neighbours (XEP-0174 §7), as libpurple and RFC 6120 have them, and TLS where it is offered.
//!
//! Both headers name the two instances. Version and features are written only to those who say that they know them, or
//! in the first header, where all clients tolerate the version. TLS is with whoever answers: the link proves nobody's
//! name, so certificates are not looked at, and only listeners that cannot interfere are shut out.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::time::timeout;

use crate::c2s::wire::{Stop, Wire};
use crate::xmpp::element::write_attribute;
use crate::xmpp::framer::{Frame, Limits};
use crate::xmpp::{Element, ns};

/// Longest header, bytes, and what may follow it before the stream is open.
pub(super) const HEADER: Limits =
    Limits { stanza_bytes: 4 << 10, written_bytes: 16 << 10, depth: 8, attributes: 32, elements: 64 };
/// How long features, or an answer to ours, are waited for: a neighbour may have none.
const FEATURES: Duration = Duration::from_secs(1);

/// What the other side's header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// Whether it knows stream features (RFC 6120 §4.7.5).
    pub(super) features: bool,
}

impl Header {
    fn of(element: &Element) -> Self {
        let text = |name| element.get_attr(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let major =
            element.get_attr("version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        Self { from: text("from"), to: text("to"), features: major.is_some_and(|major| major >= 1) }
    }
}

/// Who talks to whom: the instances in our header.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) from: String,
    pub(super) to: Option<String>,
}

/// Our header.
fn write(names: &Names, version: bool) -> Vec<u8> {
    let mut out = b"<?xml version='1.0' encoding='UTF-8'?>\n<stream:stream".to_vec();
    write_attribute(&mut out, "xmlns", ns::CLIENT);
    write_attribute(&mut out, "xmlns:stream", ns::STREAMS);
    write_attribute(&mut out, "from", &names.from);
    if let Some(to) = &names.to {
        write_attribute(&mut out, "to", to);
    }
    if version {
        write_attribute(&mut out, "version", "1.0");
    }
    out.push(b'>');
    out
}

/// Reads the other side's header.
pub(super) async fn read(wire: &mut Wire) -> Result<Header, Stop> {
    match wire.frame().await? {
        Frame::Open(header) => Ok(Header::of(&header)),
        Frame::Element(_) | Frame::Close => Err(Stop::Closed),
    }
}

/// Opens a stream on a connection of ours. Gives what came behind the headers.
pub(super) async fn open(wire: &mut Wire, names: &Names) -> Result<Option<Element>, Stop> {
    wire.write(&write(names, true)).await?;
    if !read(wire).await?.features {
        return Ok(None);
    }
    let Some(first) = soon(wire).await? else { return Ok(None) };
    if !first.is("features", ns::STREAMS) {
        return Ok(Some(first));
    }
    if !first.has("starttls", ns::TLS) || wire.is_tls() {
        return Ok(None);
    }
    wire.send(&Element::new("starttls", ns::TLS)).await?;
    if !wire.element().await?.is("proceed", ns::TLS) || !wire.unread().is_empty() {
        return Err(Stop::Closed);
    }
    restart(wire);
    wire.connect_tls(unauthenticated()?, name()?).await?;
    wire.write(&write(names, true)).await?;
    let knows_features = read(wire).await?.features;
    let first = if knows_features { soon(wire).await? } else { None };
    Ok(first.filter(|first| !first.is("features", ns::STREAMS)))
}

/// Answers the header of somebody who connected. Gives what came behind the headers.
pub(super) async fn answer(
    wire: &mut Wire,
    header: &Header,
    names: &Names,
    tls: Arc<ServerConfig>,
) -> Result<Option<Element>, Stop> {
    let mut out = write(names, header.features);
    if !header.features {
        wire.write(&out).await?;
        return Ok(None);
    }
    let starttls = Element::new("features", ns::STREAMS).child(Element::new("starttls", ns::TLS));
    out.extend(features(&starttls));
    wire.write(&out).await?;
    let first = soon(wire).await?;
    if !first.as_ref().is_some_and(|first| first.is("starttls", ns::TLS)) {
        return Ok(first);
    }
    if wire.unread().iter().any(|byte| !byte.is_ascii_whitespace()) {
        // Somebody on the way may have put it there to have it taken for what is protected.
        return Err(Stop::Closed);
    }
    wire.send(&Element::new("proceed", ns::TLS)).await?;
    restart(wire);
    wire.start_tls(tls).await?;
    let knows_features = read(wire).await?.features;
    let mut out = write(names, knows_features);
    if knows_features {
        out.extend(features(&Element::new("features", ns::STREAMS)));
    }
    wire.write(&out).await?;
    Ok(None)
}

/// The header before a refusal, with the names that the other side used.
pub(super) fn refusal(header: &Header) -> Vec<u8> {
    let names = Names { from: header.to.clone().unwrap_or_default(), to: header.from.clone() };
    write(&names, header.features)
}

/// `<stream:features/>` with the prefix that the header declares: simple parsers look for it.
fn features(features: &Element) -> Vec<u8> {
    let mut out = b"<stream:features>".to_vec();
    features.children().for_each(|child| child.write(&mut out, ns::CLIENT));
    out.extend_from_slice(b"</stream:features>");
    out
}

/// The next element, if one comes soon.
async fn soon(wire: &mut Wire) -> Result<Option<Element>, Stop> {
    match timeout(FEATURES, wire.element()).await {
        Ok(element) => element.map(Some),
        Err(_) => Ok(None),
    }
}

fn restart(wire: &mut Wire) {
    wire.framer.reset(HEADER);
    wire.forget();
}

/// A name for the certificate that nobody looks at.
pub(super) fn name() -> Result<ServerName<'static>, Stop> {
    ServerName::try_from("link.internal").map_err(|_| Stop::Gone)
}

/// TLS with anybody.
pub(super) fn unauthenticated() -> Result<Arc<ClientConfig>, Stop> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .ok()?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.enable_sni = false;
        Some(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone().ok_or(Stop::Gone)
}

/// Accepts every certificate whose key signed the handshake.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::framer::Framer;

    fn read_header(text: &str) -> Header {
        let mut framer = Framer::new(HEADER);
        match framer.next(&mut text.as_bytes()) {
            Ok(Some(Frame::Open(element))) => Header::of(&element),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn libpurples_header_is_understood() {
        let header = read_header(
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<stream:stream xmlns=\"jabber:client\" \
             xmlns:stream=\"http://etherx.jabber.org/streams\" from=\"anna@h1\" to=\"bob@h2\">",
        );
        let (from, to) = (Some("anna@h1".to_owned()), Some("bob@h2".to_owned()));
        assert_eq!(header, Header { from, to, features: false });
    }

    #[test]
    fn ours_is_read_as_it_was_meant() {
        let names = Names { from: "Anna & \"Bob\"@h1".to_owned(), to: None };
        for version in [false, true] {
            let header = read_header(&String::from_utf8(write(&names, version)).unwrap());
            assert_eq!(header, Header { from: Some(names.from.clone()), to: None, features: version });
        }
    }

    #[test]
    fn a_long_header_is_refused() {
        let mut framer = Framer::new(HEADER);
        let text = format!("<stream:stream from='{}'", "x".repeat(5_000));
        assert!(framer.next(&mut text.as_bytes()).is_err());
    }
}
