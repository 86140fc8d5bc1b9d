//! The gateway with real sockets: what goes in comes out, byte for byte, and nothing grows.

use std::time::Duration;

use crosstalk_overlay::swarm::Networks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::destinations::Listed;
use super::*;

mod secured;

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream to='a.example' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const SOON: Duration = Duration::from_secs(10);

/// A gateway, and a server behind it that the list names with this network.
struct Place {
    gateway: Bypass,
    server: TcpListener,
}

async fn gateway(entry: &str, limits: Limits) -> Bypass {
    let listed = vec![Listed::read(entry).expect("an entry")];
    let destinations = Destinations::new(listed, Networks::default());
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    open(Settings { listen, destinations, accounts: None, limits }).await.expect("open")
}

/// A request of SOCKS 4 for a port of this machine.
fn request(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![4, 1, high, low, 127, 0, 0, 1, 0]
}

impl Place {
    async fn new(network: &str, connections: usize) -> Self {
        Self::with(network, Limits { connections, ..Limits::default() }).await
    }

    async fn with(network: &str, limits: Limits) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let entry = format!("{network}://{}", server.local_addr().expect("an address"));
        Self { gateway: gateway(&entry, limits).await, server }
    }

    fn port(&self) -> u16 {
        self.server.local_addr().expect("an address").port()
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.gateway.listen[0]).await.expect("connected")
    }

    /// A client and the server's end of its connection.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let mut client = self.dial().await;
        client.write_all(&request(self.port())).await.expect("asked");
        let (server, _) = self.server.accept().await.expect("accepted");
        let mut reply = [0; 8];
        client.read_exact(&mut reply).await.expect("a reply");
        assert_eq!(reply, [0, 0x5a, 0, 0, 0, 0, 0, 0]);
        (client, server)
    }

    fn report(&self) -> BypassView {
        self.gateway.view().report()
    }

    async fn until(&self, what: &str, holds: impl Fn(&BypassView) -> bool) {
        let wait = async {
            while !holds(&self.report()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(SOON, wait).await.is_ok(), "{what}: {:?}", self.report());
    }
}

/// Bytes that follow from a number.
fn noise(mut seed: u32, count: usize) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

async fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("in time").expect("read");
    bytes
}

#[tokio::test]
async fn megabytes_each_way_arrive_as_they_are_whatever_they_are() {
    for start in [HEADER, b"NICK a\r\n", b"GET / HTTP/1.1\r\n", b"\0"] {
        let place = Place::new("any", 8).await;
        let (mut client, mut server) = place.pair().await;
        let (out, back) = (noise(1, 3 << 20), noise(2, 2 << 20));
        let (out, back) = ([start, &out].concat(), [start, &back].concat());
        let (mut heard_out, mut heard_back) = (vec![0; out.len()], vec![0; back.len()]);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let done = tokio::join!(
            to_client.write_all(&out),
            to_server.write_all(&back),
            from_server.read_exact(&mut heard_out),
            from_client.read_exact(&mut heard_back)
        );
        assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok() && done.3.is_ok());
        assert!(heard_out == out && heard_back == back);
        let view = place.report();
        assert_eq!((view.bytes_out, view.bytes_in), (out.len() as u64, back.len() as u64));
    }
}

#[tokio::test]
async fn what_is_said_behind_the_request_follows_it_and_nothing_comes_before_the_server() {
    for size in [1, 5, 1000] {
        let place = Place::new("xmpp", 8).await;
        let mut client = place.dial().await;
        for piece in [request(place.port()), HEADER.to_vec()].concat().chunks(size) {
            client.write_all(piece).await.expect("written");
            tokio::task::yield_now().await;
        }
        let (mut server, _) = place.server.accept().await.expect("accepted");
        let mut heard = vec![0; HEADER.len()];
        timeout(SOON, server.read_exact(&mut heard)).await.expect("in time").expect("heard");
        assert_eq!(heard, HEADER);
        server.write_all(HEADER).await.expect("answered");
        drop(server);
        assert_eq!(all(&mut client).await, [b"\0\x5a\0\0\0\0\0\0", HEADER].concat());
        drop(client);
        place.until("the end", |view| view.open == 0 && view.spoken.get("xmpp") == Some(&1)).await;
        assert!(place.report().alarms.is_empty());
    }
}

#[tokio::test]
async fn a_half_close_is_passed_on_and_the_other_half_goes_on() {
    let place = Place::new("any", 8).await;
    let (mut client, mut server) = place.pair().await;
    client.write_all(b"NICK a\r\n").await.expect("written");
    client.shutdown().await.expect("half closed");
    assert_eq!(all(&mut server).await, b"NICK a\r\n");
    let answer = noise(3, 1 << 20);
    let (sent, heard) = tokio::join!(
        async {
            server.write_all(&answer).await.expect("written");
            server.shutdown().await
        },
        all(&mut client)
    );
    assert!(sent.is_ok() && heard == answer);
    place.until("the end", |view| view.open == 0).await;
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    for of_server in [true, false] {
        let place = Place::new("any", 8).await;
        let (client, server) = place.pair().await;
        let (broken, mut other) = if of_server { (server, client) } else { (client, server) };
        rustix::net::sockopt::set_socket_linger(&broken, Some(Duration::ZERO)).expect("set");
        drop(broken);
        let error =
            timeout(SOON, other.read(&mut [0; 1])).await.expect("in time").expect_err("no end in order");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        place.until("the end", |view| view.open == 0).await;
    }
}

/// Writes such pieces until the buffers of the system are full, and no more is taken; what was written.
async fn flood(to: &mut (impl AsyncWrite + Unpin), piece: usize) -> Vec<u8> {
    let (piece, moment) = (noise(4, piece), Duration::from_millis(100));
    let mut offered = Vec::new();
    while let Ok(written) = timeout(moment, to.write(&piece)).await {
        offered.extend_from_slice(&piece[..written.expect("written")]);
        assert!(offered.len() < 64 << 20, "all is taken that nobody reads");
    }
    offered
}

/// What one says, the other hears.
async fn talk(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin)) {
    for round in 0..100 {
        let said = noise(round, 100);
        from.write_all(&said).await.expect("written");
        let mut heard = vec![0; said.len()];
        timeout(SOON, to.read_exact(&mut heard)).await.expect("in time").expect("read");
        assert_eq!(heard, said);
    }
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else_and_costs_little() {
    let place = Place::new("any", 8).await;
    let (mut slow, mut flooding) = place.pair().await;
    let (mut client, mut server) = place.pair().await;
    let offered = flood(&mut flooding, 1 << 16).await;
    talk(&mut client, &mut server).await;
    // When it reads at last, all is there as it was.
    flooding.shutdown().await.expect("half closed");
    assert!(all(&mut slow).await == offered);
    drop(slow);
    place.until("the slow one's end", |view| view.open == 1).await;
}

#[tokio::test]
async fn what_is_not_understood_is_an_alarm_that_is_counted() {
    let place = Place::new("irc", 8).await;
    for (client_says, server_says) in [(HEADER, HEADER), (HEADER, HEADER), (b"GET / HTTP/1.1\r\n", b"x")] {
        let (mut client, mut server) = place.pair().await;
        client.write_all(client_says).await.expect("written");
        server.write_all(server_says).await.expect("written");
        client.read_exact(&mut vec![0; server_says.len()]).await.expect("passed");
        server.read_exact(&mut vec![0; client_says.len()]).await.expect("passed");
    }
    let view = place.report();
    let alarms: Vec<_> = view.alarms.iter().map(|one| (one.what.as_str(), one.count)).collect();
    let (nothing, other) =
        ("the client begins as no protocol that is known", "speaks xmpp, which is not what the settings say");
    assert_eq!(alarms, [(nothing, 1), (other, 2)]);
    assert_eq!(view.unknown, 3);
}

#[tokio::test]
async fn who_is_refused_is_told_why_and_no_connection_is_made() {
    let place = Place::new("any", 8).await;
    for (request, reply) in [
        (request(place.port() ^ 1), &b"\0\x5b\0\0\0\0\0\0"[..]),
        (b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\x02\0\x16".to_vec(), b"\x05\0\x05\x02\0\x01\0\0\0\0\0\0"),
        (b"\x05\x01\0\x05\x01\0\x03\x09localhost\0\x16".to_vec(), b"\x05\0\x05\x02\0\x01\0\0\0\0\0\0"),
        (b"\x05\x01\0\x05\x03\0\x01\x7f\0\0\x01\0\x16".to_vec(), b"\x05\0\x05\x07\0\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x02".to_vec(), b"\x05\xff"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), b""),
    ] {
        let mut client = place.dial().await;
        client.write_all(&request).await.expect("written");
        let mut heard = Vec::new();
        let end = timeout(SOON, client.read_to_end(&mut heard)).await.expect("in time");
        assert!(end.is_ok() || reply.is_empty(), "{end:?}");
        assert_eq!(heard, reply, "{}", request.escape_ascii());
    }
    // The server has gone: its own reply code.
    let port = place.port();
    let Place { gateway, server } = place;
    drop(server);
    let mut client = TcpStream::connect(gateway.listen[0]).await.expect("connected");
    let [high, low] = port.to_be_bytes();
    client.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).await.expect("written");
    assert_eq!(all(&mut client).await, b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0");
    let view = gateway.view().report();
    assert_eq!(
        (view.open, view.refused["destination not listed"], view.refused["connection refused"]),
        (0, 3, 1)
    );
}

#[tokio::test]
async fn a_flood_of_beginnings_keeps_nobody_out() {
    let place = Place::new("any", 512).await;
    const CROWD: usize = 64;
    let mut flood = Vec::new();
    for _ in 0..3 * CROWD {
        let mut client = place.dial().await;
        client.write_all(b"\x05").await.expect("written");
        flood.push(client);
    }
    place.until("the flood is bounded", |view| view.connecting == CROWD).await;
    let (mut client, mut server) = place.pair().await;
    client.write_all(b"NICK a\r\n").await.expect("written");
    server.read_exact(&mut [0; 8]).await.expect("passed");
    assert!(place.report().refused["too many at once"] >= 2 * CROWD as u64);
}

#[tokio::test]
async fn there_are_so_many_connections_and_not_one_more() {
    let place = Place::new("any", 2).await;
    let pairs = (place.pair().await, place.pair().await);
    let mut third = place.dial().await;
    assert!(matches!(timeout(SOON, third.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_))), "closed");
    drop(pairs);
    place.until("room again", |view| view.open == 0).await;
    place.pair().await;
}

#[tokio::test]
async fn closing_the_gateway_ends_what_it_carries() {
    let place = Place::new("any", 8).await;
    let (mut client, mut server) = place.pair().await;
    let Place { gateway, server: _listening } = place;
    drop(gateway);
    assert_eq!((all(&mut client).await, all(&mut server).await), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn who_is_silent_is_given_up_at_its_time() {
    let brief = Duration::from_millis(50);
    let entering = Duration::from_secs(1);
    let limits = Limits { entering, telling: brief, half_closed: brief, ..Limits::default() };
    let place = Place::with("any", limits).await;
    // At the entry.
    let mut client = place.dial().await;
    client.write_all(b"\x05").await.expect("written");
    assert_eq!(all(&mut client).await, b"");
    assert_eq!(place.report().refused["took too long"], 1);
    // Connected, and nobody says what it is: passed on all the same.
    let (mut client, mut server) = place.pair().await;
    place.until("the alarm", |view| view.unknown == 1).await;
    client.write_all(HEADER).await.expect("written");
    server.read_exact(&mut vec![0; HEADER.len()]).await.expect("passed");
    // Half closed, and the other side says nothing.
    client.shutdown().await.expect("half closed");
    place.until("the end", |view| view.open == 0).await;
    let error = timeout(SOON, client.read(&mut [0; 1])).await.expect("in time");
    assert_eq!(error.expect_err("broken off").kind(), io::ErrorKind::ConnectionReset);
}

/// A server that takes no connection, as its queue is full.
#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpSocket::new_v4().expect("a socket");
    silent.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bound");
    let silent = silent.listen(1).expect("listens");
    let address = silent.local_addr().expect("an address");
    let mut waiting = JoinSet::new();
    (0..4).for_each(|_| drop(waiting.spawn(TcpStream::connect(address))));
    while timeout(Duration::from_millis(100), waiting.join_next()).await.is_ok() {}
    assert!(!waiting.is_empty(), "the queue is not full");
    let limits = Limits { answering: Duration::from_millis(50), ..Limits::default() };
    let gateway = gateway(&format!("any://{address}"), limits).await;
    let mut client = TcpStream::connect(gateway.listen[0]).await.expect("connected");
    client.write_all(&request(address.port())).await.expect("asked");
    assert_eq!(all(&mut client).await, b"\0\x5b\0\0\0\0\0\0");
    assert_eq!(gateway.view().report().refused["took too long"], 1);
}
