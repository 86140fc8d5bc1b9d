//! Accepts connections, bounds how many there are, and follows each from its first byte to its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::core::io::{ConnId, Ending, Input};
use crate::xmpp::error::StreamCondition;
use crate::xmpp::{Element, StreamError};

use super::connection::{Face, Session, Writing, linger};
use super::negotiate::{LoggedIn, Negotiation};
use super::outgoing::Clients;
use super::plain::PlainLogin;
use super::rate::{Bucket, Failures};
use super::register::RegisterRequest;
use super::strangers::Strangers;
use super::transport;
use super::wire::Stop;
use super::{Directory, Limits};

/// What a stranger's end may take; one who is turned out by a flood gets no time at all.
pub(crate) const STRANGERS_GRACE: Duration = Duration::from_secs(1);

/// What all connections share.
pub(crate) struct Door {
    pub(crate) domains: Vec<String>,
    pub(super) register: Option<mpsc::Sender<RegisterRequest>>,
    pub(super) plain_logins: Option<mpsc::Sender<PlainLogin>>,
    pub(super) features: fn() -> Vec<Element>,
    pub(crate) limits: Limits,
    pub(crate) starttls: Arc<ServerConfig>,
    pub(super) direct_tls: Arc<ServerConfig>,
    pub(super) directory: Directory,
    pub(crate) clients: Clients,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(super) hashing: Semaphore,
    pub(super) seats: Arc<Semaphore>,
    pub(super) strangers: Strangers,
    pub(super) failures: Mutex<Failures>,
    pub(super) start: Instant,
    pub(super) next: AtomicU64,
}

impl Door {
    /// Time since the node started, for what is counted here.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A number for a connection.
    pub(super) fn number(&self) -> ConnId {
        ConnId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new connection, numbered, with its seat among all.
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Given back when it is dropped.
    pub(crate) seat: OwnedSemaphorePermit,
}

/// Accepts until it is aborted.
pub(super) async fn accept(door: Arc<Door>, listener: TcpListener, direct_tls: bool) {
    loop {
        if let Some(Arrival { conn, stream, peer, seat }) = arrival(&door, &listener).await {
            tokio::spawn(follow(door.clone(), conn, stream, peer, direct_tls, seat));
        }
    }
}

/// The next connection, whatever is spoken on it; `None`: it was turned away.
pub(crate) async fn arrival(door: &Door, listener: &TcpListener) -> Option<Arrival> {
    let (stream, peer) = transport::accepted(listener, "a client").await;
    let Ok(seat) = door.seats.clone().try_acquire_owned() else {
        tracing::warn!(limit = door.limits.connections, "a client was turned away: too many connections");
        return None;
    };
    if let Err(why) = transport::prepare(&stream) {
        tracing::debug!(%why, "a client was gone at once");
        return None;
    }
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    Some(Arrival { conn: door.number(), stream, peer, seat })
}

/// How a login ended that the client did not end.
pub(crate) enum Turned {
    /// It took too long.
    Late,
    /// Others needed the place.
    Crowded,
}

/// Lets a stranger log in, as one of a bounded number and in a bounded time.
pub(crate) async fn admit<T>(
    door: &Door,
    conn: ConnId,
    peer: SocketAddr,
    login: impl Future<Output = T>,
) -> Result<T, Turned> {
    // Not counted any more when this ends: a flood would otherwise keep others out while the last words are written.
    let stranger = door.strangers.enter(conn, peer.ip());
    tokio::select! {
        outcome = login => Ok(outcome),
        () = tokio::time::sleep(door.limits.login_time) => Err(Turned::Late),
        () = stranger.evicted.notified() => Err(Turned::Crowded),
    }
}

pub(super) async fn follow(
    door: Arc<Door>,
    conn: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    direct_tls: bool,
    seat: OwnedSemaphorePermit,
) {
    // Boxed, because it is large and over long before the session is.
    let Some(client) = Box::pin(log_in(&door, conn, stream, peer, direct_tls)).await else { return };
    run_session(&door, conn, client).await;
    drop(seat);
}

async fn log_in(
    door: &Arc<Door>,
    conn: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    direct_tls: bool,
) -> Option<LoggedIn> {
    let mut negotiation = Negotiation::new(door.clone(), stream, peer, direct_tls);
    let error = |condition, text| Stop::Error(StreamError::new(condition, text));
    let (stop, grace) = match admit(door, conn, peer, negotiation.run()).await {
        Ok(Ok(user)) => return negotiation.into_logged_in(user),
        Ok(Err(stop)) => (stop, door.limits.grace.min(STRANGERS_GRACE)),
        Err(Turned::Late) => {
            (error(StreamCondition::ConnectionTimeout, "the login took too long"), STRANGERS_GRACE)
        }
        Err(Turned::Crowded) => (
            error(StreamCondition::ResourceConstraint, "too many connections wait for a login"),
            Duration::ZERO,
        ),
    };
    negotiation.refuse(stop, grace).await;
    None
}

async fn run_session(door: &Arc<Door>, conn: ConnId, client: LoggedIn) {
    let limits = &door.limits;
    let start = Instant::now();
    let outbox = door.clients.add(conn, limits.unread_bytes);
    let mut session = Session {
        face: Face::Client(conn),
        transport: client.transport,
        framer: client.framer,
        outbox,
        inputs: door.inputs.clone(),
        bucket: Bucket::new(limits.bytes_per_second, limits.burst_bytes, start.elapsed()),
        start,
        rest: client.rest,
        grace: limits.grace,
        writing: Writing::default(),
        pause: None,
    };
    let announced = door.inputs.send(Input::Authenticated { conn, user: client.user }).await.is_ok();
    let how = if announced { session.run().await } else { Ending::Lost };
    door.clients.remove(conn);
    if announced && door.inputs.send(Input::Ended { conn, how }).await.is_err() {
        tracing::debug!("the node stopped before a client did");
    }
    linger(&mut session.transport, limits.grace).await;
}
