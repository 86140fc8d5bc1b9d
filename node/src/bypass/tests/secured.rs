//! TLS of listed accounts that ends at the gateway, with real sockets, certificates and handshakes on both sides.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::bypass::accounts::Accounts;
use crate::bypass::tls::Tls;

mod on_the_way;

const CLIENT: &str = "<?xml version='1.0'?><stream:stream to='a.example' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const SERVER: &str = "<?xml version='1.0'?><stream:stream from='a.example' id='1' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const OFFER: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const BOUND: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism>\
    <mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>";
const UNBOUND: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

/// An authority that the gateway believes, and one that it does not.
struct Authorities {
    good: Issuer<'static, KeyPair>,
    other: Issuer<'static, KeyPair>,
    pem: String,
}

fn authorities() -> Authorities {
    let make = || {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("signed").pem(), Issuer::new(params, key))
    };
    let ((pem, good), (_, other)) = (make(), make());
    Authorities { good, other, pem }
}

/// A server's TLS with a certificate for this name.
fn certified(issuer: &Issuer<'static, KeyPair>, name: &str, years: (i32, i32)) -> TlsAcceptor {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    let key = KeyPair::generate().expect("a key");
    let chain = vec![params.signed_by(&key, issuer).expect("signed").der().clone()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).expect("a certificate");
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A chat program that believes what stands in a file.
fn trusting(pem: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(pem) {
        roots.add(one.expect("a certificate")).expect("added");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A gateway that ends TLS of romeo@a.example.
struct Ground {
    place: Place,
    authorities: Authorities,
    /// What a chat program has to trust.
    trusted: Vec<u8>,
    _dir: tempfile::TempDir,
}

type Pair = (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>);

impl Ground {
    async fn new() -> Self {
        Self::with("xmpp", Limits::default()).await
    }

    async fn with(network: &str, limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authorities = authorities();
        let ca_file: PathBuf = dir.path().join("ca.pem");
        std::fs::write(&ca_file, &authorities.pem).expect("written");
        let accounts = Accounts::new(["romeo@a.example".parse().expect("a JID")]);
        let tls = Tls::load(dir.path(), &accounts, Some(&ca_file)).expect("loaded");
        let trusted = std::fs::read(&tls.certificates.file).expect("read");
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let entry = format!("{network}://{}", server.local_addr().expect("an address"));
        let listed = vec![Listed::read(&entry).expect("an entry")];
        let destinations = Destinations::new(listed, Networks::default());
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let settings = Settings { listen, destinations, accounts: Some((accounts, tls)), limits };
        let gateway = open(settings).await.expect("open");
        Self { place: Place { gateway, server }, authorities, trusted, _dir: dir }
    }

    fn good(&self) -> TlsAcceptor {
        certified(&self.authorities.good, "a.example", (2020, 2200))
    }

    /// Up to the moment at which the server has said that TLS may begin; `domain` is what the client names.
    async fn ready(&self, domain: &str) -> (TcpStream, TcpStream) {
        let (mut client, mut server) = self.place.pair().await;
        let header = CLIENT.replace("a.example", domain);
        say(&mut client, &header).await;
        heard(&mut server, &header).await;
        say(&mut server, &[SERVER, OFFER].concat()).await;
        heard(&mut client, &[SERVER, OFFER].concat()).await;
        say(&mut client, STARTTLS).await;
        heard(&mut server, STARTTLS).await;
        say(&mut server, PROCEED).await;
        (client, server)
    }

    /// TLS on both sides, behind STARTTLS.
    async fn secured(&self) -> Pair {
        let (client, server) = self.ready("a.example").await;
        self.shake(client, server, self.good(), true).await
    }

    async fn shake(
        &self,
        mut client: TcpStream,
        server: TcpStream,
        acceptor: TlsAcceptor,
        starttls: bool,
    ) -> Pair {
        let trusting = trusting(&self.trusted);
        let of_client = async {
            if starttls {
                heard(&mut client, PROCEED).await;
            }
            let name = ServerName::try_from("a.example").expect("a name");
            trusting.connect(name, client).await.expect("the client takes the certificate")
        };
        let both = async { tokio::join!(of_client, acceptor.accept(server)) };
        let (client, server) = timeout(SOON, both).await.expect("in time");
        (client, server.expect("the gateway takes the certificate"))
    }

    async fn log_in(&self, pair: &mut Pair, user: &str) {
        let (client, server) = pair;
        say(client, CLIENT).await;
        heard(server, CLIENT).await;
        say(server, &[SERVER, BOUND].concat()).await;
        heard(client, &[SERVER, UNBOUND].concat()).await;
        let bound = format!(
            "<iq type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{user}/x</jid></bind></iq>"
        );
        let rest = [SUCCESS, SERVER, BOUND, &bound].concat();
        say(server, &rest).await;
        heard(client, &rest).await;
    }

    fn alarms(&self) -> Vec<String> {
        self.place.report().alarms.into_iter().map(|one| one.what).collect()
    }
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), text: &str) {
    to.write_all(text.as_bytes()).await.expect("written");
    to.flush().await.expect("flushed");
}

async fn heard(from: &mut (impl AsyncReadExt + Unpin), text: &str) {
    let mut bytes = vec![0; text.len()];
    let read = timeout(SOON, from.read_exact(&mut bytes)).await;
    assert!(matches!(read, Ok(Ok(_))), "{read:?}: {}", String::from_utf8_lossy(&bytes));
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

async fn rest(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(SOON, from.read_to_end(&mut bytes)).await.expect("in time").expect("ended in order");
    bytes
}

#[tokio::test]
async fn tls_of_a_listed_account_ends_here_and_goes_on_to_its_server() {
    let ground = Ground::new().await;
    let mut pair = ground.secured().await;
    assert!(ground.place.report().users.is_empty(), "nobody before the server's word");
    ground.log_in(&mut pair, "romeo@a.example").await;
    let view = ground.place.report();
    assert_eq!((view.users.len(), &*view.users[0].address), (1, "romeo@a.example"));
    assert_eq!((view.secured, view.unlisted, view.spoken["xmpp"]), (1, 0, 1));
    assert!(view.alarms.is_empty() && view.certificates.is_some(), "{view:?}");
    // Megabytes both ways at once, and the end of each half.
    let (mut client, mut server) = pair;
    let (out, back) = (noise(1, 3 << 20), noise(2, 2 << 20));
    let of_client = async {
        let (mut read, mut write) = tokio::io::split(&mut client);
        let sent = async {
            write.write_all(&out).await.expect("written");
            write.shutdown().await.expect("half closed");
        };
        tokio::join!(sent, rest(&mut read)).1
    };
    let of_server = async {
        let (mut read, mut write) = tokio::io::split(&mut server);
        let got = rest(&mut read).await;
        write.write_all(&back).await.expect("written behind the client's end");
        write.shutdown().await.expect("closed");
        got
    };
    let (got_back, got_out) = tokio::join!(of_client, of_server);
    assert!(got_out == out && got_back == back);
    ground.place.until("the end", |view| view.open == 0 && view.users.is_empty()).await;
}

#[tokio::test]
async fn direct_tls_ends_here_too() {
    let ground = Ground::new().await;
    let (client, server) = ground.place.pair().await;
    let mut pair = ground.shake(client, server, ground.good(), false).await;
    assert_eq!(pair.1.get_ref().1.server_name(), Some("a.example"));
    assert_eq!(pair.1.get_ref().1.alpn_protocol(), Some(&b"xmpp-client"[..]));
    ground.log_in(&mut pair, "romeo@a.example").await;
    let view = ground.place.report();
    assert_eq!((view.users.len(), view.secured, view.spoken.get("xmpp")), (1, 1, Some(&1)));
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_domain_is_refused_and_the_client_told() {
    let ground = Ground::new().await;
    let good = &ground.authorities.good;
    for (acceptor, why) in [
        (certified(&ground.authorities.other, "a.example", (2020, 2200)), "signed by nobody"),
        (certified(good, "a.example", (2020, 2021)), "has expired"),
        (certified(good, "a.example", (2199, 2200)), "not valid yet"),
        (certified(good, "b.example", (2020, 2200)), "for another name"),
    ] {
        let (mut client, server) = ground.ready("a.example").await;
        let (refused, told) = tokio::join!(acceptor.accept(server), rest(&mut client));
        assert!(refused.is_err());
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.starts_with("<stream:error><remote-connection-failed") && told.contains(why), "{told}");
        assert!(told.ends_with("</stream:error></stream:stream>") && !told.contains("proceed"), "{told}");
        assert!(ground.alarms().iter().any(|one| one.contains(why)), "{:?}", ground.alarms());
    }
    // Where the client has begun with TLS it is told inside.
    let wrong = certified(good, "b.example", (2020, 2200));
    let (client, server) = ground.place.pair().await;
    let name = ServerName::try_from("a.example").expect("a name");
    let trusting = trusting(&ground.trusted);
    let (refused, client) = tokio::join!(wrong.accept(server), trusting.connect(name, client));
    assert!(refused.is_err());
    let told = rest(&mut client.expect("TLS with this node")).await;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(
        told.starts_with("<?xml") && told.contains("from='a.example'") && told.contains("another name"),
        "{told}"
    );
    let view = ground.place.report();
    assert_eq!((view.secured, view.users.len()), (0, 0));
    ground.place.until("all to be over", |view| view.open == 0).await;
}

#[tokio::test]
async fn whatever_is_not_listed_ends_its_tls_at_its_server() {
    for (network, domain) in [("xmpp", "b.example"), ("any", "a.example")] {
        let ground = Ground::with(network, Limits::default()).await;
        let acceptor = certified(&ground.authorities.good, domain, (2020, 2200));
        let (mut client, server) = ground.ready(domain).await;
        heard(&mut client, PROCEED).await;
        let of_server = trusting(ground.authorities.pem.as_bytes());
        let name = ServerName::try_from(domain).expect("a name");
        let (client, server) = tokio::join!(of_server.connect(name, client), acceptor.accept(server));
        let (mut client, mut server) =
            (client.expect("the server's own certificate"), server.expect("untouched"));
        say(&mut server, &[SERVER, BOUND].concat()).await;
        heard(&mut client, &[SERVER, BOUND].concat()).await;
        assert_eq!((ground.place.report().secured, ground.alarms().len()), (0, 0));
    }
}

#[tokio::test]
async fn what_waited_is_passed_on_at_the_end_or_when_it_takes_too_long() {
    let limits = Limits { telling: Duration::from_millis(100), ..Limits::default() };
    let ground = Ground::with("xmpp", limits).await;
    let half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc";
    for ends in [true, false] {
        let (mut client, mut server) = ground.place.pair().await;
        client.write_all(half).await.expect("written");
        if ends {
            client.shutdown().await.expect("half closed");
            assert_eq!(rest(&mut server).await, half);
        } else {
            let mut got = [0; 9];
            timeout(SOON, server.read_exact(&mut got)).await.expect("in time").expect("read");
            assert_eq!(&got, half);
        }
    }
    assert_eq!(ground.place.report().secured, 0);
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_said_to_distrust_this_node() {
    let ground = Ground::new().await;
    let (mut client, server) = ground.ready("a.example").await;
    let acceptor = ground.good();
    let of_client = async {
        heard(&mut client, PROCEED).await;
        drop(client);
    };
    let (server, ()) = tokio::join!(acceptor.accept(server), of_client);
    drop(server);
    ground.place.until("the end", |view| view.open == 0).await;
    assert!(ground.alarms().is_empty(), "{:?}", ground.alarms());
}

#[tokio::test]
async fn an_account_that_is_not_listed_goes_on_and_is_not_shown() {
    let ground = Ground::new().await;
    let mut pair = ground.secured().await;
    ground.log_in(&mut pair, "nurse@a.example").await;
    let enabled = "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>";
    say(&mut pair.1, enabled).await;
    heard(&mut pair.0, enabled).await;
    say(&mut pair.0, "<presence/>").await;
    heard(&mut pair.1, "<presence/>").await;
    let view = ground.place.report();
    assert_eq!((view.users.len(), view.secured, view.unlisted, view.alarms.len()), (0, 1, 1, 0));
}

#[tokio::test]
async fn an_end_without_the_last_word_of_tls_is_passed_on_as_one() {
    for of_server in [true, false] {
        let ground = Ground::new().await;
        let mut pair = ground.secured().await;
        ground.log_in(&mut pair, "romeo@a.example").await;
        let (mut client, mut server) = pair;
        let mut bytes = Vec::new();
        let read = if of_server {
            say(&mut server, "<a>").await;
            server.get_mut().0.shutdown().await.expect("torn");
            timeout(SOON, client.read_to_end(&mut bytes)).await
        } else {
            say(&mut client, "<a>").await;
            client.get_mut().0.shutdown().await.expect("torn");
            timeout(SOON, server.read_to_end(&mut bytes)).await
        };
        let error = read.expect("in time").expect_err("no end in order");
        assert_eq!((error.kind(), &bytes[..]), (io::ErrorKind::UnexpectedEof, &b"<a>"[..]));
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_this_node_is_an_alarm() {
    let ground = Ground::new().await;
    let (mut client, server) = ground.ready("a.example").await;
    let acceptor = ground.good();
    let suspicious = trusting(ground.authorities.pem.as_bytes());
    let of_client = async {
        heard(&mut client, PROCEED).await;
        suspicious.connect(ServerName::try_from("a.example").expect("a name"), client).await
    };
    let (client, _) = tokio::join!(of_client, acceptor.accept(server));
    assert!(client.is_err());
    ground.place.until("the alarm", |view| !view.alarms.is_empty() && view.open == 0).await;
    assert!(ground.alarms()[0].contains("does not take this node's certificate"), "{:?}", ground.alarms());
}

#[tokio::test]
async fn half_open_handshakes_end_at_their_time() {
    let limits = Limits { securing: Duration::from_millis(300), connections: 64, ..Limits::default() };
    let ground = Ground::with("xmpp", limits).await;
    // Servers that say nothing, more of them than are asked at once, and one that is well behind them.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(ground.ready("a.example").await);
    }
    for (client, _server) in &mut silent {
        let told = rest(client).await;
        assert!(String::from_utf8_lossy(&told).contains("took too long"));
    }
    drop(silent);
    let mut pair = ground.secured().await;
    ground.log_in(&mut pair, "romeo@a.example").await;
    // A client that says nothing once it may begin.
    let (client, server) = ground.ready("a.example").await;
    let acceptor = ground.good();
    let server = timeout(SOON, acceptor.accept(server)).await.expect("in time").expect("proved");
    ground.place.until("the silent client's end", |view| view.open == 1).await;
    drop((client, server));
    assert_eq!(ground.place.report().users.len(), 1);
}

#[tokio::test]
async fn who_does_not_read_inside_of_tls_holds_up_nobody_else_and_gets_all() {
    let ground = Ground::new().await;
    let mut slow = ground.secured().await;
    ground.log_in(&mut slow, "romeo@a.example").await;
    let mut other = ground.secured().await;
    ground.log_in(&mut other, "romeo@a.example").await;
    let (mut client, mut flooding) = slow;
    let offered = flood(&mut flooding, 1 << 14).await;
    talk(&mut other.0, &mut other.1).await;
    // It reads at last, and nothing more has to be said for it to get all.
    let mut got = vec![0; offered.len()];
    let (read, flushed) = tokio::join!(timeout(SOON, client.read_exact(&mut got)), flooding.flush());
    assert!(matches!(read, Ok(Ok(_))) && flushed.is_ok() && got == offered);
}
