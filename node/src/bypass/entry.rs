//! The entry of chat programs: from the accepted connection to the one with their server, bounded in number, time and bytes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Limits;
use super::base::{Base, Protocol};
use super::course::Course;
use super::destinations::{Destinations, Way};
use super::figures::{Figures, Teller};
use super::relay::{self, Ends};
use super::secured::Keeper;
use super::socks::{Handshake, Host, Refused, Step, Target};
use crate::c2s::connection::linger;
use crate::c2s::strangers::Strangers;
use crate::c2s::transport::{Transport, accepted, prepare};
use crate::core::io::ConnId;

/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// Names that are looked up at once: each takes one of the node's few threads for slow work.
const LOOKING_UP: usize = 2;
/// What one who was refused may take to read why.
const GRACE: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Door {
    pub(super) destinations: Destinations,
    pub(super) figures: Figures,
    /// Whose TLS ends here.
    pub(super) keeper: Option<Keeper>,
    limits: Limits,
    /// Those that are not connected to their server yet.
    strangers: Strangers,
    /// All of them.
    seats: Arc<Semaphore>,
    names: Arc<Semaphore>,
    next: AtomicU64,
}

impl Door {
    pub(super) fn new(destinations: Destinations, keeper: Option<Keeper>, limits: Limits) -> Self {
        Self {
            destinations,
            keeper,
            figures: Figures::default(),
            limits,
            strangers: Strangers::new(limits.connecting),
            seats: Arc::new(Semaphore::new(limits.connections)),
            names: Arc::new(Semaphore::new(LOOKING_UP)),
            next: AtomicU64::new(1),
        }
    }
}

/// Accepts until it is dropped, and with it all connections.
pub(super) async fn accept(door: Arc<Door>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            connection = accepted(&listener, "a chat program for its network") => connection,
            Some(_) = connections.join_next() => continue,
        };
        match door.seats.clone().try_acquire_owned() {
            Ok(seat) => drop(connections.spawn(follow(door.clone(), stream, peer, seat))),
            Err(_) => drop(door.figures.refused(None, Refused::Crowded)),
        }
    }
}

async fn follow(door: Arc<Door>, stream: TcpStream, peer: SocketAddr, seat: OwnedSemaphorePermit) {
    // Boxed, because it is large and over long before the connection is.
    if let Some(entered) = Box::pin(enter(&door, stream, peer)).await {
        let _open = door.figures.open();
        let target = entered.teller.target.clone();
        if let Err(why) = carry(&door, entered, peer).await {
            tracing::debug!(%why, "a connection to {target} broke");
        }
    }
    drop(seat);
}

/// Passes on to the end. TLS may end here for chat programs of this machine alone, whose user wrote the settings.
async fn carry(door: &Door, entered: Entered, peer: SocketAddr) -> io::Result<()> {
    let Entered { client, server, said, teller } = entered;
    let protocol = door.destinations.listed().get(teller.entry).and_then(|listed| listed.protocol);
    let is_ours = peer.ip().to_canonical().is_loopback() && protocol == Some(Protocol::Xmpp);
    let keeper = door.keeper.as_ref().filter(|_| is_ours);
    let ends = Ends { client: Transport::Plain(client), server: Transport::Plain(server) };
    let course = Course::new(Base::new(protocol), keeper.map(|keeper| Arc::clone(&keeper.accounts)));
    let turned = relay::run(ends, said, course, &teller, &door.limits).await?;
    let (Some((ends, turn)), Some(keeper)) = (turned, keeper) else { return Ok(()) };
    match Box::pin(keeper.secure(ends, turn, &teller, door.limits.securing)).await {
        Some((ends, course)) => relay::run(ends, Vec::new(), course, &teller, &door.limits).await.map(drop),
        None => Ok(()),
    }
}

/// A client with the connection to its server.
struct Entered {
    client: TcpStream,
    server: TcpStream,
    /// What the client has said behind its request.
    said: Vec<u8>,
    teller: Teller,
}

/// Who is not connected, and why.
struct Turned {
    target: Option<Target>,
    why: Refused,
}

async fn enter(door: &Door, mut stream: TcpStream, peer: SocketAddr) -> Option<Entered> {
    let connecting = door.figures.connecting();
    let number = door.next.fetch_add(1, Ordering::Relaxed);
    let stranger = door.strangers.enter(ConnId(number), peer.ip());
    let mut handshake = Handshake::default();
    let mut target = None;
    let outcome = tokio::select! {
        outcome = introduce(door, &mut stream, &mut handshake, &mut target) => outcome,
        () = tokio::time::sleep(door.limits.entering) => Err(Refused::TooLate),
        () = stranger.evicted.notified() => Err(Refused::Crowded),
    };
    let crowded = matches!(outcome, Err(Refused::Crowded));
    drop((connecting, stranger));
    match (outcome, target) {
        (Ok((server, entry)), Some(target)) => {
            let teller = Teller { number, figures: door.figures.clone(), entry, target };
            Some(Entered { client: stream, server, said: handshake.into_rest(), teller })
        }
        (Ok(_), None) => None,
        (Err(why), target) => {
            tell(door, &Turned { target, why });
            let grace = if crowded { Duration::ZERO } else { GRACE };
            turn_away(stream, &handshake.refused(why), grace).await;
            None
        }
    }
}

/// From the client's first byte to the reply that it is connected; `target` is what it asked for.
async fn introduce(
    door: &Door,
    stream: &mut TcpStream,
    handshake: &mut Handshake,
    target: &mut Option<Target>,
) -> Result<(TcpStream, usize), Refused> {
    prepare(stream).map_err(|_| Refused::NotSocks)?;
    let asked = target.insert(request(stream, handshake).await?);
    let (addresses, entry) = lead(door, asked).await?;
    let server = connect(&addresses, door.limits.answering).await?;
    let from = server.local_addr().map_err(|_| Refused::HostUnreachable)?;
    stream.write_all(&handshake.granted(from)).await.map_err(|_| Refused::NotSocks)?;
    Ok((server, entry))
}

/// What the client wants.
async fn request(stream: &mut TcpStream, handshake: &mut Handshake) -> Result<Target, Refused> {
    let mut bytes = [0; 256];
    loop {
        match handshake.step() {
            Some(Step::Say(words)) => stream.write_all(&words).await.map_err(|_| Refused::NotSocks)?,
            Some(Step::Connect(target)) => return Ok(target),
            Some(Step::Refuse(why)) => return Err(why),
            None => {
                let room = handshake.room().min(bytes.len());
                match stream.read(&mut bytes[..room]).await {
                    Ok(0) | Err(_) => return Err(Refused::NotSocks),
                    Ok(count) => handshake.hear(&bytes[..count]),
                }
            }
        }
    }
}

/// The addresses behind a request, and the entry of the list that allows it.
async fn lead(door: &Door, target: &Target) -> Result<(Vec<SocketAddr>, usize), Refused> {
    match (door.destinations.way(target), &target.host) {
        (Way::Listed(entry), Host::Address(address)) => {
            Ok((vec![SocketAddr::new(*address, target.port)], entry))
        }
        (Way::Listed(entry), Host::Name(name)) => {
            let found = door.destinations.usable(look_up(door, name, target.port).await?);
            if found.is_empty() { Err(Refused::Private) } else { Ok((found, entry)) }
        }
        (Way::Perhaps(entries), Host::Address(address)) => {
            let at = SocketAddr::new(*address, target.port);
            for entry in entries {
                let Some(Host::Name(name)) =
                    door.destinations.listed().get(entry).map(|one| &one.target.host)
                else {
                    continue;
                };
                if look_up(door, name, target.port).await.is_ok_and(|found| found.contains(&at)) {
                    return Ok((vec![at], entry));
                }
            }
            Err(Refused::NotListed)
        }
        (Way::Perhaps(_), Host::Name(_)) | (Way::None, _) => Err(Refused::NotListed),
    }
}

/// What the system says of a name. The thread is counted until it is done, however long the system takes.
async fn look_up(door: &Door, name: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
    let place = door.names.clone().acquire_owned().await.map_err(|_| Refused::NoSuchName)?;
    let name = name.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _place = place;
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    match found.await {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(Refused::NoSuchName),
    }
}

/// Connects to the first of the addresses that answers.
async fn connect(addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream, Refused> {
    let mut why = Refused::HostUnreachable;
    for address in addresses.iter().take(ADDRESSES) {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if prepare(&stream).is_ok() => return Ok(stream),
            Ok(Ok(_)) => why = Refused::HostUnreachable,
            Ok(Err(error)) => why = meaning(&error),
            Err(_) => why = Refused::TooLate,
        }
    }
    Err(why)
}

fn meaning(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Refused::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable => Refused::NetworkUnreachable,
        io::ErrorKind::TimedOut => Refused::TooLate,
        _ => Refused::HostUnreachable,
    }
}

/// Counts a refusal; what a person can do something about goes into the log, once.
fn tell(door: &Door, turned: &Turned) {
    let fresh = door.figures.refused(turned.target.as_ref(), turned.why);
    let Some(target) = turned.target.as_ref().filter(|_| fresh) else { return };
    let remedy = match turned.why {
        Refused::NotListed => ". If it is to be, add it to `allow` in [bypass]",
        Refused::Private => ". If it is to be, add that address itself to `allow` in [bypass]",
        _ => "",
    };
    tracing::warn!("a chat program was not connected to {target}: {}{remedy}", turned.why.label());
}

async fn turn_away(stream: TcpStream, reply: &[u8], grace: Duration) {
    if !reply.is_empty() && stream.try_write(reply).is_ok() && !grace.is_zero() {
        let mut transport = Transport::Plain(stream);
        if transport.shutdown().await.is_ok() {
            linger(&mut transport, grace).await;
        }
    }
}
