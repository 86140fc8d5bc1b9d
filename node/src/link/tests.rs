//! Link-local streams on loopback: nodes, and raw sockets in the place of other programs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crosstalk_link_local::mdns::Interface;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::header::{self, Names};
use super::listener;
use super::streams::Streams;
use crate::c2s::connection::{Face, Session, Writing};
use crate::c2s::outgoing::Outbox;
use crate::c2s::rate::Bucket;
use crate::c2s::tls;
use crate::c2s::transport::Transport;
use crate::c2s::wire::Wire;
use crate::core::io::Input;
use crate::core::link::io::{LinkEnding, LinkEvent, StreamId};
use crate::xmpp::error::StreamCondition;
use crate::xmpp::framer::{Framer, Limits};
use crate::xmpp::{Element, StreamError, ns};

const PURPLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<stream:stream xmlns=\"jabber:client\" \
    xmlns:stream=\"http://etherx.jabber.org/streams\" from=\"anna@h1\" to=\"bob@h2\">";
const CALL: StreamId = StreamId(2);

/// A node's streams, with the test in the place of its core.
struct Side {
    streams: Streams,
    inputs: mpsc::Receiver<Input>,
    address: SocketAddr,
    interfaces: watch::Sender<Vec<Interface>>,
}

async fn side() -> Side {
    side_at("127.0.0.1:0").await
}

async fn side_at(listen: &str) -> Side {
    let dir = tempfile::tempdir().unwrap();
    let (told, inputs) = mpsc::channel(64);
    let streams = Streams::new(told, tls::load_or_create(dir.path(), &[]).unwrap());
    let listener = TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (interfaces, known) = watch::channel(Vec::new());
    tokio::spawn(listener::accept(listener, known, streams.clone()));
    Side { streams, inputs, address, interfaces }
}

impl Side {
    async fn event(&mut self) -> LinkEvent {
        match timeout(Duration::from_secs(10), self.inputs.recv()).await.expect("nothing in 10 s") {
            Some(Input::Link(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    async fn accepted(&mut self) -> StreamId {
        match self.event().await {
            LinkEvent::Accepted { stream, from, to, .. } => {
                assert_eq!((from.as_deref(), to.as_deref()), (Some("anna@h1"), Some("bob@h2")));
                stream
            }
            other => panic!("{other:?}"),
        }
    }

    async fn body(&mut self) -> String {
        loop {
            match self.event().await {
                LinkEvent::Elements { elements, .. } => {
                    return elements[0].get("body", ns::CLIENT).unwrap().own_text().to_string();
                }
                LinkEvent::Written { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn written(&mut self) -> u64 {
        match self.event().await {
            LinkEvent::Written { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&mut self) -> LinkEnding {
        loop {
            match self.event().await {
                LinkEvent::Ended { how, .. } => return how,
                LinkEvent::Written { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn call(&self, address: SocketAddr) {
        let names = Names { from: "anna@h1".to_owned(), to: Some("bob@h2".to_owned()) };
        self.streams.connect(CALL, vec![address], names);
    }

    fn take(&self, stream: StreamId) {
        self.streams.accept(stream, Names { from: "bob@h2".to_owned(), to: Some("anna@h1".to_owned()) });
    }
}

fn message(body: &str) -> Vec<u8> {
    let message = Element::new("message", ns::CLIENT).child(Element::new("body", ns::CLIENT).text(body));
    message.to_bytes(ns::CLIENT)
}

/// Reads until `end` has come.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            if stream.read_buf(&mut text).await.unwrap() == 0 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), read).await.unwrap_or_else(|_| panic!("no {end}"));
    String::from_utf8(text).unwrap()
}

/// Passes everything on to `to` and keeps what went through.
async fn tapped(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let (near, far) = (near.into_split(), far.into_split());
        tokio::join!(pass(near.0, far.1, &record), pass(far.0, near.1, &record));
    });
    (address, seen)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes).await
        && count > 0
    {
        record.lock().unwrap().extend(&bytes[..count]);
        to.write_all(&bytes[..count]).await.unwrap();
    }
    to.shutdown().await.ok();
}

#[tokio::test]
async fn two_nodes_talk_encrypted_and_hear_what_has_arrived() {
    let (mut anna, mut bob) = (side().await, side().await);
    let (address, seen) = tapped(bob.address).await;
    anna.call(address);
    let stream = bob.accepted().await;
    bob.take(stream);
    assert!(
        matches!(anna.event().await, LinkEvent::Connected { stream: CALL, address: to } if to == address)
    );
    let data = message("for your eyes only");
    let length = u64::try_from(data.len()).unwrap();
    anna.streams.write(CALL, data);
    assert_eq!(bob.body().await, "for your eyes only");
    assert_eq!(anna.written().await, length);
    bob.streams.write(stream, message("burn this"));
    assert_eq!(anna.body().await, "burn this");
    anna.streams.close(CALL, None);
    assert_eq!((bob.ended().await, anna.ended().await), (LinkEnding::Closed, LinkEnding::Closed));
    let wire = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(wire.contains("<proceed") && !wire.contains("eyes") && !wire.contains("burn"), "{wire}");
}

/// An address of this machine that is neither of loopback nor link-local; the system takes it to go to far places.
fn own_address() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // A place of documentation (RFC 5737). Nothing is sent there.
    socket.connect("198.51.100.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified() => Some(ip),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Told of no interface, the listener takes one's own address for a far one: what is turned away is not even read.
#[tokio::test]
async fn whoever_comes_from_beyond_the_link_is_turned_away() {
    let Some(own) = own_address() else {
        assert!(std::env::var_os("CROSSTALK_REQUIRE_ALL").is_none(), "no address but loopback");
        return eprintln!("NOT TESTED: this machine has no address but loopback");
    };
    let mut bob = side_at("0.0.0.0:0").await;
    let port = bob.address.port();
    let mut far = TcpStream::connect((own, port)).await.unwrap();
    far.write_all(PURPLE.as_bytes()).await.unwrap();
    let end = timeout(Duration::from_secs(10), far.read_u8()).await.expect("it is kept open");
    assert!(end.is_err() && bob.inputs.try_recv().is_err(), "turned away");
    let interface = Interface { index: 2, name: "eth0".into(), v4: vec![(own, 24)], v6: Vec::new() };
    bob.interfaces.send(vec![interface]).unwrap();
    let mut near = TcpStream::connect((own, port)).await.unwrap();
    near.write_all(PURPLE.as_bytes()).await.unwrap();
    bob.accepted().await;
}

#[tokio::test]
async fn libpurples_stream_is_answered_in_kind() {
    let mut bob = side().await;
    let mut purple = TcpStream::connect(bob.address).await.unwrap();
    purple.write_all(PURPLE.as_bytes()).await.unwrap();
    let stream = bob.accepted().await;
    bob.take(stream);
    let header = until(&mut purple, "etherx.jabber.org/streams' from='bob@h2' to='anna@h1'>").await;
    assert!(!header.contains(" version='1.0'>") && !header.contains("features"), "{header}");
    purple.write_all(b"<message type='chat'><body>hi</body></message>").await.unwrap();
    assert_eq!(bob.body().await, "hi");
    bob.streams.write(stream, message("hello"));
    assert!(until(&mut purple, "</message>").await.contains("hello"));
    purple.write_all(b"</stream:stream>").await.unwrap();
    assert!(until(&mut purple, "</stream:stream>").await.contains("</stream:stream>"));
    assert_eq!(bob.ended().await, LinkEnding::Closed);
}

#[tokio::test]
async fn libpurple_is_called_without_tls() {
    let mut anna = side().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    anna.call(listener.local_addr().unwrap());
    let (mut purple, _) = listener.accept().await.unwrap();
    assert!(
        until(&mut purple, "to='bob@h2'")
            .await
            .starts_with("<?xml version='1.0' encoding='UTF-8'?>\n<stream:stream")
    );
    let answer = PURPLE.replace("anna@h1", "x").replace("bob@h2", "anna@h1").replace("\"x\"", "\"bob@h2\"");
    purple.write_all(answer.as_bytes()).await.unwrap();
    assert!(matches!(anna.event().await, LinkEvent::Connected { .. }));
    anna.streams.write(CALL, message("hi"));
    assert!(until(&mut purple, "</message>").await.contains("hi"));
    purple.write_all(message("back").as_slice()).await.unwrap();
    assert_eq!(anna.body().await, "back");
    drop(purple);
    assert_eq!(anna.ended().await, LinkEnding::Lost);
}

#[tokio::test]
async fn how_a_call_fails_is_told_apart() {
    let mut anna = side().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    anna.call(nobody);
    assert_eq!(anna.ended().await, LinkEnding::Refused);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (answer, how) in [("", LinkEnding::BeforeHeader), ("HTTP/1.1 400 Bad Request\r\n", LinkEnding::Lost)]
    {
        anna.call(listener.local_addr().unwrap());
        let (mut other, _) = listener.accept().await.unwrap();
        until(&mut other, "bob@h2").await;
        other.write_all(answer.as_bytes()).await.unwrap();
        drop(other);
        assert_eq!(anna.ended().await, how, "{answer}");
    }
}

#[tokio::test]
async fn who_is_not_wanted_is_told_why() {
    let mut bob = side().await;
    let mut stranger = TcpStream::connect(bob.address).await.unwrap();
    stranger.write_all(PURPLE.as_bytes()).await.unwrap();
    let stream = bob.accepted().await;
    bob.streams.close(stream, Some(StreamError::new(StreamCondition::HostUnknown, "nobody of that name")));
    let said = until(&mut stranger, "</stream:stream>").await;
    assert!(said.contains("<stream:stream") && said.contains("<host-unknown"), "{said}");
    assert_eq!(bob.ended().await, LinkEnding::Closed);
}

#[tokio::test]
async fn what_is_too_large_ends_the_stream_with_the_reason() {
    let mut bob = side().await;
    let mut flood = TcpStream::connect(bob.address).await.unwrap();
    flood.write_all(PURPLE.as_bytes()).await.unwrap();
    let stream = bob.accepted().await;
    bob.take(stream);
    let body = format!("<message><body>{}</body></message>", "x".repeat(300 << 10));
    flood.write_all(body.as_bytes()).await.unwrap();
    assert!(until(&mut flood, "</stream:stream>").await.contains("<policy-violation"));
    assert_eq!(bob.ended().await, LinkEnding::Lost);
}

#[tokio::test]
async fn strangers_are_few() {
    let mut bob = side().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(bob.address).await.unwrap());
    }
    let mut fifth = TcpStream::connect(bob.address).await.unwrap();
    assert_eq!(until(&mut fifth, "anything").await, "", "closed at once");
    assert_eq!(bob.streams.count(), 4);
    // Who is known counts no longer.
    silent[0].write_all(PURPLE.as_bytes()).await.unwrap();
    let stream = bob.accepted().await;
    bob.take(stream);
    until(&mut silent[0], "bob@h2").await;
    let mut sixth = TcpStream::connect(bob.address).await.unwrap();
    sixth.write_all(PURPLE.as_bytes()).await.unwrap();
    bob.accepted().await;
}

#[tokio::test]
async fn a_neighbour_that_does_not_read_has_not_taken_it() {
    let mut anna = side().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    anna.call(listener.local_addr().unwrap());
    let (mut purple, _) = listener.accept().await.unwrap();
    until(&mut purple, "bob@h2").await;
    purple.write_all(PURPLE.as_bytes()).await.unwrap();
    assert!(matches!(anna.event().await, LinkEvent::Connected { .. }));
    let data = message(&"x".repeat(16 << 20));
    let length = u64::try_from(data.len()).unwrap();
    anna.streams.write(CALL, data);
    // More than fits into the buffers of both sides: some of it cannot have arrived.
    let first = anna.written().await;
    assert!(first < length, "{first} of {length}");
    let reading = tokio::spawn(async move {
        let mut all = vec![0; 1 << 20];
        while matches!(purple.read(&mut all).await, Ok(n) if n > 0) {}
    });
    while anna.written().await < length {}
    anna.streams.close(CALL, None);
    anna.ended().await;
    reading.await.unwrap();
}

/// An encrypted stream, and the socket of its other end.
async fn encrypted(outbox: Arc<Outbox>, total: watch::Sender<u64>) -> (Session, TcpStream) {
    let dir = tempfile::tempdir().unwrap();
    let config = tls::load_or_create(dir.path(), &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let (mut near, mut far) = (Wire::new(near, 1 << 20, 1 << 20), Wire::new(far, 1 << 20, 1 << 20));
    let (client, name) = (header::unauthenticated().ok().unwrap(), header::name().ok().unwrap());
    let (one, two) = tokio::join!(near.start_tls(config), far.connect_tls(client, name));
    assert!(one.is_ok() && two.is_ok());
    let far = match far.transport.unwrap() {
        Transport::Tls(stream) => match *stream {
            TlsStream::Client(stream) => stream.into_inner().0,
            TlsStream::Server(_) => panic!("connected, and not accepted"),
        },
        Transport::Plain(_) => panic!("not encrypted"),
    };
    let session = Session {
        face: Face::Neighbour(CALL, total),
        transport: near.transport.unwrap(),
        framer: Framer::new(Limits::AFTER_LOGIN),
        outbox,
        inputs: mpsc::channel(1).0,
        bucket: Bucket::new(1 << 20, 1 << 20, Duration::ZERO),
        start: tokio::time::Instant::now(),
        rest: Vec::new(),
        grace: Duration::ZERO,
        writing: Writing::default(),
        pause: None,
    };
    (session, far)
}

#[tokio::test]
async fn what_tls_holds_back_is_not_written() {
    let (outbox, (total, written)) = (Arc::new(Outbox::new(1 << 20)), watch::channel(0));
    let (mut session, mut far) = encrypted(Arc::clone(&outbox), total).await;
    outbox.push(vec![b' '; 16 << 20]);
    // The other end does not read; then it reads what the kernel has, and no more is written.
    assert!(timeout(Duration::from_millis(300), session.run()).await.is_err());
    let (mut all, mut bytes) = (0, vec![0; 1 << 20]);
    while let Ok(Ok(count)) = timeout(Duration::from_millis(300), far.read(&mut bytes)).await {
        all += count as u64;
    }
    let total = *written.borrow();
    assert!(all > 0 && total <= all, "{total} bytes said to be written, {all} came");
    // When all has gone through, all is said to be written.
    let reading = tokio::spawn(async move { while matches!(far.read(&mut bytes).await, Ok(n) if n > 0) {} });
    assert!(timeout(Duration::from_secs(2), session.run()).await.is_err());
    assert_eq!(*written.borrow(), 16 << 20);
    reading.abort();
}
