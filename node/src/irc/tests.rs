//! The face on loopback, raw sockets before it, and the test itself in the place of the event loop.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crosstalk_overlay::id::UserId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;
use crate::c2s::{self, Directory, Limits, credentials, tls};
use crate::core::io::{ConnId, Credentials, Ending, Input, LoginChange};
use crate::xmpp::error::StreamCondition;
use crate::xmpp::{Element, Kind, Stanza, StreamError, ns};

const PATIENCE: Duration = Duration::from_secs(20);
const LOGIN: &str = "PASS alice@id.internal:secret\r\nNICK al\r\nUSER a 0 * :Alice\r\n";

struct TestNode {
    door: FrontDoor,
    face: Face,
    inputs: mpsc::Receiver<Input>,
    dir: tempfile::TempDir,
}

impl TestNode {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domains = vec!["id.internal".to_owned()];
        let directory = Directory::new([3; 32]);
        let rounds = NonZeroU32::new(4096).unwrap();
        let (sha1, sha256) = credentials::scram_keys("secret", b"0123456789abcdef", rounds).unwrap();
        let credentials = Credentials { user: UserId::from_bytes([0xa1; 32]), sha1, sha256 };
        directory.apply(LoginChange::Put { name: "alice".into(), domain: domains[0].clone(), credentials });
        let (sender, inputs) = mpsc::channel(8);
        let settings = c2s::Settings {
            listen: Vec::new(),
            direct_tls: Vec::new(),
            register: None,
            plain_logins: None,
            features: Vec::new,
            tls: tls::load_or_create(dir.path(), &domains).unwrap(),
            domains,
            limits: Limits {
                grace: Duration::from_millis(300),
                unread_bytes: 100_000,
                common_bytes: 0,
                ..Limits::default()
            },
        };
        let door = c2s::open(settings, directory, sender).await.unwrap();
        let any = vec!["127.0.0.1:0".parse().unwrap()];
        let face = open(&Settings { listen: any.clone(), tls: any }, &door).await.unwrap();
        Self { door, face, inputs, dir }
    }

    async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.face.listen[0]).await.unwrap())
    }

    async fn connect_tls(&self) -> Client {
        let pem = std::fs::read(self.dir.path().join("client-tls.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.face.tls[0]).await.unwrap();
        let name = ServerName::try_from("id.internal").unwrap();
        Client::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.expect("an input").expect("the face is open")
    }

    /// What a client says next.
    async fn stanza(&mut self) -> Stanza {
        let input = self.next().await;
        let Input::Elements { elements, .. } = input else { panic!("{input:?}") };
        let element = elements.into_iter().next().unwrap();
        Stanza::from_element(Stanza::kind_of(&element).unwrap(), element).unwrap()
    }

    /// Plays the core until a client is inside.
    async fn let_in(&mut self, client: &mut Client) -> ConnId {
        client.say(LOGIN).await;
        let input = self.next().await;
        let Input::Authenticated { conn, user } = input else { panic!("{input:?}") };
        assert_eq!(user, UserId::from_bytes([0xa1; 32]));
        let bind = self.stanza().await;
        let bound = Element::new("jid", ns::BIND).text("alice@id.internal/1");
        let answer = bind.result(Some(Element::new("bind", ns::BIND).child(bound)));
        self.door.clients.send(conn, answer.to_bytes());
        let input = self.next().await;
        let Input::Elements { elements, .. } = input else { panic!("{input:?}") };
        let roster = Stanza::from_element(Kind::Iq, elements.into_iter().nth(1).unwrap()).unwrap();
        self.door.clients.send(conn, roster.result(Some(Element::new("query", ns::ROSTER))).to_bytes());
        assert_eq!(self.stanza().await.kind, Kind::Presence);
        client.expect(" 366 al &crosstalk ").await;
        conn
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

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn expect(&mut self, mark: &str) {
        while !self.seen.contains(mark) {
            let mut bytes = vec![0; 65_536];
            let count = timeout(PATIENCE, self.stream.read(&mut bytes)).await;
            let count =
                count.unwrap_or_else(|_| panic!("waited for {mark} after {}", self.seen)).unwrap_or(0);
            assert!(count > 0, "no {mark} in {}", self.seen);
            self.seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    /// All until the connection ends.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.expect("an end");
        std::mem::take(&mut self.seen) + &String::from_utf8(bytes).unwrap()
    }
}

#[tokio::test]
async fn a_client_comes_talks_and_goes() {
    let mut node = TestNode::start().await;
    for tls in [false, true] {
        let mut client = if tls { node.connect_tls().await } else { node.connect().await };
        let conn = node.let_in(&mut client).await;
        client.say("PRIVMSG bob@id.internal :one\r\nPRIVMSG bob@id.internal :two\r\nQUIT\r\n").await;
        let input = node.next().await;
        let Input::Elements { elements, .. } = input else { panic!("{input:?}") };
        assert_eq!(elements.len(), 2);
        assert!(client.rest().await.ends_with("ERROR :Closing link: you have left\r\n"));
        let input = node.next().await;
        assert!(
            matches!(input, Input::Ended { conn: ended, how: Ending::Closed } if ended == conn),
            "{input:?}"
        );
    }
    assert_eq!(node.door.clients.count(), 0);
}

#[tokio::test]
async fn the_core_ends_a_session_with_its_last_words() {
    let mut node = TestNode::start().await;
    let mut client = node.connect().await;
    let conn = node.let_in(&mut client).await;
    let mut message = Stanza::new(Kind::Message, crate::xmpp::Type::Chat);
    message.from = jid::Jid::new("bob@id.internal/x").ok();
    message.payload.push(Element::new("body", ns::CLIENT).text("the last"));
    node.door.clients.send(conn, message.to_bytes());
    node.door.clients.close(conn, Some(StreamError::new(StreamCondition::Conflict, "enough")));
    let rest = client.rest().await;
    assert!(
        rest.contains("PRIVMSG al :the last\r\n") && rest.ends_with("ERROR :Closing link: enough\r\n"),
        "{rest}"
    );
    assert!(matches!(node.next().await, Input::Ended { .. }));
}

#[tokio::test]
async fn what_waits_for_more_is_said_when_the_connection_is_lost() {
    let mut node = TestNode::start().await;
    let mut client = node.connect().await;
    node.let_in(&mut client).await;
    client.say(&format!("PRIVMSG bob@id.internal :{}\r\n", "word ".repeat(80))).await;
    // Behind it, so that it was heard.
    client.say("PING x\r\n").await;
    client.expect("PONG crosstalk.internal x").await;
    drop(client);
    assert_eq!(node.stanza().await.kind, Kind::Message);
    assert!(matches!(node.next().await, Input::Ended { how: Ending::Lost, .. }));
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let mut node = TestNode::start().await;
    let mut client = node.connect().await;
    let conn = node.let_in(&mut client).await;
    let mut message = Stanza::new(Kind::Message, crate::xmpp::Type::Chat);
    message.from = jid::Jid::new("bob@id.internal/x").ok();
    message.payload.push(Element::new("body", ns::CLIENT).text(&"word ".repeat(4_000)));
    let clients = node.door.clients.clone();
    let ended = async {
        loop {
            let input = node.next().await;
            if matches!(input, Input::Ended { .. }) {
                return input;
            }
        }
    };
    let flood = async {
        loop {
            clients.send(conn, message.to_bytes());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        input = ended => assert!(matches!(input, Input::Ended { how: Ending::Lost, .. }), "{input:?}"),
        () = flood => {}
    }
}

#[tokio::test]
async fn passwords_are_checked_as_those_of_xmpp() {
    let mut node = TestNode::start().await;
    for wrong in ["alice:wrong", "nobody:secret", "secret"] {
        let mut client = node.connect().await;
        client.say(&format!("PASS {wrong}\r\nNICK al\r\nUSER a 0 * :a\r\n")).await;
        let said = client.rest().await;
        assert!(said.contains(" 464 al ") && said.contains("ERROR :"), "{wrong}: {said}");
    }
    let mut client = node.connect().await;
    client.say("NICK alice\r\nUSER a 0 * :a\r\nPASS secret\r\n").await;
    assert!(client.rest().await.contains(" 464 "), "a password behind USER is none");
    let mut client = node.connect().await;
    client.say("CAP REQ sasl\r\nNICK al\r\nUSER a 0 * :a\r\nAUTHENTICATE X\r\n").await;
    client.expect(" 908 al SCRAM-SHA-256,SCRAM-SHA-1,PLAIN ").await;
    // The name twice, as WeeChat says it.
    client.say("AUTHENTICATE PLAIN\r\nAUTHENTICATE YWxpY2UAYWxpY2UAc2VjcmV0\r\n").await;
    client.expect(" 903 al ").await;
    client.say("CAP END\r\n").await;
    assert!(matches!(node.next().await, Input::Authenticated { .. }));
}
