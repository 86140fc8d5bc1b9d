//! A front door on loopback, raw sockets before it, and the test itself in the place of the event loop.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk_overlay::id::UserId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;
use crate::core::io::{ConnId, Credentials, Ending, LoginChange};
use crate::xmpp::ns;

mod hostile;
mod login;
mod long_list;
mod measure;
mod negotiation;
mod sessions;

const PATIENCE: Duration = Duration::from_secs(20);
const OPEN: &str = "<?xml version='1.0'?><stream:stream to='id.internal' version='1.0' xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams'>";

struct TestNode {
    door: FrontDoor,
    inside: Arc<Door>,
    inputs: mpsc::Receiver<Input>,
    directory: Directory,
    dir: tempfile::TempDir,
}

fn alice() -> UserId {
    UserId::from_bytes([0xa1; 32])
}

fn features() -> Vec<Element> {
    vec![Element::new("bind", ns::BIND)]
}

fn account(directory: &Directory, name: &str, password: &str, user: UserId) {
    let rounds = NonZeroU32::new(4096).unwrap();
    let (sha1, sha256) = credentials::scram_keys(password, b"0123456789abcdef", rounds).unwrap();
    let credentials = Credentials { user, sha1, sha256 };
    directory.apply(LoginChange::Put { name: name.into(), domain: "id.internal".into(), credentials });
}

impl TestNode {
    async fn start(change: impl Fn(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domains = vec!["id.internal".to_owned(), "office.example".to_owned()];
        let directory = Directory::new([3; 32]);
        account(&directory, "alice", "secret", alice());
        let (sender, inputs) = mpsc::channel(8);
        let settings = || {
            let mut settings = Settings {
                listen: vec!["127.0.0.1:0".parse().unwrap()],
                direct_tls: vec!["127.0.0.1:0".parse().unwrap()],
                domains: domains.clone(),
                register: None,
                plain_logins: None,
                features,
                tls: tls::load_or_create(dir.path(), &domains).unwrap(),
                limits: Limits { grace: Duration::from_millis(300), ..Limits::default() },
            };
            change(&mut settings);
            settings
        };
        // A second door without listeners, for clients that seem to come from elsewhere.
        let inside = super::door(settings(), directory.clone(), sender.clone());
        let door = open(settings(), directory.clone(), sender).await.unwrap();
        Self { door, inside, inputs, directory, dir }
    }

    async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.door.listen[0]).await.unwrap())
    }

    /// A connection that the node believes to come from another machine.
    async fn connect_from(&self, peer: SocketAddr) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let seat = self.inside.seats.clone().try_acquire_owned().unwrap();
        let conn = self.inside.number();
        tokio::spawn(listener::follow(self.inside.clone(), conn, stream, peer, false, seat));
        Client::new(client)
    }

    async fn log_in(&mut self) -> (Client, ConnId) {
        let mut client = self.connect().await;
        client.open().await;
        client.plain("alice", "secret").await;
        client.expect("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        client.open().await;
        (client, self.authenticated().await)
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.expect("an input").expect("the door is open")
    }

    async fn authenticated(&mut self) -> ConnId {
        let input = self.next().await;
        let Input::Authenticated { conn, user } = input else { panic!("{input:?}") };
        assert_eq!(user, alice());
        conn
    }

    async fn elements(&mut self) -> Vec<Element> {
        let input = self.next().await;
        let Input::Elements { elements, .. } = input else { panic!("{input:?}") };
        elements
    }

    async fn ended(&mut self) -> Ending {
        let input = self.next().await;
        let Input::Ended { how, .. } = input else { panic!("{input:?}") };
        how
    }

    fn tls(&self, alpn: &[u8]) -> TlsConnector {
        let pem = std::fs::read(self.dir.path().join("client-tls.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Client {
    stream: Box<dyn Stream>,
    seen: String,
}

impl Client {
    fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), seen: String::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The node may have closed already: then what it said is what matters.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Reads up to `mark`; the error is all there was before the connection ended.
    async fn read_until(&mut self, mark: &str) -> Result<String, String> {
        loop {
            if let Some(at) = self.seen.find(mark) {
                let rest = self.seen.split_off(at + mark.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            let mut bytes = vec![0; 65536];
            let count = timeout(PATIENCE, self.stream.read(&mut bytes)).await;
            match count.unwrap_or_else(|_| panic!("waited for {mark} after {}", self.seen)) {
                Ok(count) if count > 0 => self.seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
                Ok(_) | Err(_) => return Err(std::mem::take(&mut self.seen)),
            }
        }
    }

    async fn expect(&mut self, mark: &str) -> String {
        self.read_until(mark).await.unwrap_or_else(|seen| panic!("no {mark} in {seen}"))
    }

    /// All until the connection ends.
    async fn rest(&mut self) -> String {
        self.read_until("\u{0}").await.unwrap_err()
    }

    async fn open(&mut self) -> String {
        self.send(OPEN).await;
        self.expect("</stream:features>").await
    }

    async fn auth(&mut self, mechanism: &str, data: &str) {
        self.send(format!("<auth xmlns='{}' mechanism='{mechanism}'>{data}</auth>", ns::SASL)).await;
    }

    async fn plain(&mut self, name: &str, password: &str) {
        self.auth("PLAIN", &STANDARD.encode(format!("\0{name}\0{password}"))).await;
    }

    async fn starttls(mut self, node: &TestNode) -> Self {
        self.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
        self.expect("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let name = ServerName::try_from("id.internal").unwrap();
        Self::new(node.tls(b"xmpp-client").connect(name, self.stream).await.unwrap())
    }
}
