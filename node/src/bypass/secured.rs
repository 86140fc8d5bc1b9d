//! TLS of a client that ends here: first towards its server, which has to prove the domain of the account, then towards the
//! client with this node's certificate; who is refused is told why in XMPP's own words.
//!
//! A server that proves nothing is never passed through to: the client would take this node's certificate for the proof. Nor can
//! it be given what the server shows, as the server is in the middle of a handshake with this node.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::{StartHandshake, TlsAcceptor, TlsConnector, TlsStream};

use crate::c2s::connection::{end, linger};
use crate::c2s::transport::Transport;
use crate::xmpp::StreamError;
use crate::xmpp::element::write_attribute;
use crate::xmpp::error::StreamCondition;

use super::accounts::Accounts;
use super::base::{Alarm, Distrust};
use super::course::{Course, Learnt};
use super::figures::Teller;
use super::relay::{Ends, HELD_BY_TLS};
use super::streams::Streams;
use super::tls::Tls;
use super::upgrade::Turn;

/// Handshakes at once; others wait, within their time.
const HANDSHAKES: usize = 16;
/// What a client who was refused may take to read why.
const GRACE: Duration = Duration::from_secs(1);

/// Accounts whose TLS ends here, and what that takes.
pub(super) struct Keeper {
    pub(super) accounts: Arc<Accounts>,
    pub(super) tls: Tls,
    streams: Arc<Mutex<Streams>>,
    room: Semaphore,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(accounts: Accounts, tls: Tls) -> Self {
        let room = Semaphore::new(HANDSHAKES);
        Self { accounts: Arc::new(accounts), tls, streams: Arc::default(), room }
    }

    /// Ends TLS of the client, each handshake within `patience`: the two sides as they are inside of it. Nothing if that was not to be; the
    /// client has been told.
    pub(super) async fn secure(
        &self,
        ends: Ends,
        turn: Turn,
        told: &Teller,
        patience: Duration,
    ) -> Option<(Ends, Course)> {
        let (Transport::Plain(client), Transport::Plain(server)) = (ends.client, ends.server) else {
            return None;
        };
        let (domain, is_direct) = match &turn {
            Turn::Starttls { domain, .. } | Turn::Refused { domain, .. } => (domain.clone(), false),
            Turn::Direct { domain, .. } => (domain.clone(), true),
        };
        let proved = async {
            if matches!(turn, Turn::Refused { .. }) {
                return Err(Distrust::NoTls);
            }
            let _place = self.room.acquire().await.map_err(|_| Distrust::Slow)?;
            self.prove(server, &domain, is_direct).await
        };
        let server = match timeout(patience, proved).await.unwrap_or(Err(Distrust::Slow)) {
            Ok(server) => server,
            Err(why) => {
                told.learnt(Learnt::Alarm(Alarm::Distrusted(why)));
                let refused = self.refuse(client, turn, why);
                let _ = timeout(patience, refused).await;
                return None;
            }
        };
        let client = match timeout(patience, self.show(client, turn)).await {
            Ok(Ok(client)) => client,
            Ok(Err(why)) if distrusts(&why) => {
                told.learnt(Learnt::Alarm(Alarm::Distrusting));
                return None;
            }
            Ok(Err(_)) | Err(_) => return None,
        };
        told.secured();
        let course =
            Course::inside(domain, !is_direct, Arc::clone(&self.accounts), Arc::clone(&self.streams));
        Some((Ends { client, server }, course))
    }

    /// TLS with a server that proves to be that of the domain.
    async fn prove(&self, server: TcpStream, domain: &str, is_direct: bool) -> Result<Transport, Distrust> {
        let name = ServerName::try_from(domain.to_owned()).map_err(|_| Distrust::Name)?;
        let connector = TlsConnector::from(self.tls.server(is_direct));
        let mut stream = connector.connect(name, server).await.map_err(|why| meaning(&why))?;
        stream.get_mut().1.set_buffer_limit(Some(HELD_BY_TLS));
        Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// TLS with the client, who is told first that it may begin.
    async fn show(&self, mut client: TcpStream, turn: Turn) -> io::Result<Transport> {
        let face = |domain: &str, is_direct| self.tls.face(domain, is_direct).ok_or(io::ErrorKind::NotFound);
        let mut stream = match turn {
            Turn::Starttls { domain, proceed } => {
                client.write_all(&proceed).await?;
                TlsAcceptor::from(face(&domain, false)?).accept(client).await?
            }
            Turn::Direct { domain, hello } => {
                StartHandshake::from_parts(*hello, client).into_stream(face(&domain, true)?).await?
            }
            Turn::Refused { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        stream.get_mut().1.set_buffer_limit(Some(HELD_BY_TLS));
        Ok(Transport::Tls(Box::new(TlsStream::Server(stream))))
    }

    /// Tells the client why its connection ends: where it waits for TLS, in place of that; else inside of it.
    async fn refuse(&self, client: TcpStream, turn: Turn, why: Distrust) {
        let text = format!("CrossTalk did not connect you: the server has not proved its name, {why}");
        let error = StreamError::new(StreamCondition::RemoteConnectionFailed, text).to_bytes();
        let header = |domain: &str| {
            let mut header = br"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='0'".to_vec();
            write_attribute(&mut header, "from", domain);
            header.push(b'>');
            header
        };
        let (mut client, last) = match turn {
            Turn::Starttls { .. } | Turn::Refused { begun: true, .. } => (Transport::Plain(client), error),
            Turn::Refused { domain, .. } => (Transport::Plain(client), [header(&domain), error].concat()),
            Turn::Direct { ref domain, .. } => {
                let header = header(domain);
                let Ok(client) = self.show(client, turn).await else { return };
                (client, [header, error].concat())
            }
        };
        end(&mut client, &last, GRACE).await;
        linger(&mut client, GRACE).await;
    }
}

/// Whether the client has said that it does not take the certificate.
fn distrusts(why: &io::Error) -> bool {
    use AlertDescription as Alert;
    let tls = why.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(
        tls,
        Some(TlsError::AlertReceived(
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
        ))
    )
}

/// What a failed handshake says of the server.
fn meaning(why: &io::Error) -> Distrust {
    let tls = why.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(certificate)) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Distrust::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Distrust::TooEarly,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Distrust::Name
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Distrust::Issuer,
            _ => Distrust::Certificate,
        },
        Some(_) => Distrust::NoTls,
        None => Distrust::Gone,
    }
}
