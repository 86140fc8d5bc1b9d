//! One link-local stream from its connection to its end: headers, then stanzas both ways, and what has arrived.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::c2s::connection::{Face, Session, Writing, end, linger};
use crate::c2s::outgoing::{Order, Outbox};
use crate::c2s::rate::Bucket;
use crate::c2s::transport;
use crate::c2s::wire::{Stop, Wire};
use crate::core::io::{Ending, Input};
use crate::core::link::io::{LinkEnding, LinkEvent};
use crate::xmpp::error::StreamCondition;
use crate::xmpp::framer::Limits;
use crate::xmpp::{Element, StreamError};

use super::acknowledged::{Connection, Follower, USER_TIMEOUT};
use super::dial;
use super::header::{self, Header, Names};
use super::streams::Seat;

/// From the connection to the open stream.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// How long the core may take to say whether a stream is wanted.
const DECISION: Duration = Duration::from_secs(10);
/// What an ending stream may take to be read and answered.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes a second that are read of a neighbour, and bytes that it may send at once.
const RATE: (u32, u32) = (128 << 10, 1 << 20);
/// Longest `from` and `to` that are looked at, bytes: that of a JID's part (RFC 7622 §3).
const LONGEST_NAME: usize = 1_023;

/// Somebody who connected.
pub(super) struct Caller {
    pub(super) connection: TcpStream,
    pub(super) address: SocketAddr,
}

/// A stream that the core opens.
pub(super) async fn call(seat: Seat, addresses: Vec<SocketAddr>, names: Names) {
    let opening = async {
        let connection = dial::connect(&addresses).await.ok_or(LinkEnding::Refused)?;
        let address = connection.peer_addr().map_err(|_| LinkEnding::Refused)?;
        let mut wire = wire(connection).map_err(|_| LinkEnding::Lost)?;
        match timeout(HEADER_TIME, header::open(&mut wire, &names)).await {
            Ok(Ok(first)) => Ok((wire, address, first)),
            Ok(Err(Stop::Error(error))) => {
                tracing::debug!(%address, condition = error.condition.as_str(), "a neighbour speaks something else");
                Err(LinkEnding::Lost)
            }
            Ok(Err(Stop::Closed | Stop::Gone)) | Err(_) => Err(LinkEnding::BeforeHeader),
        }
    };
    let opened = tokio::select! {
        opened = opening => opened,
        _ = ordered(&seat.outbox) => Err(LinkEnding::Closed),
    };
    match opened {
        Ok((wire, address, first)) => {
            let stream = seat.stream;
            if tell(&seat, LinkEvent::Connected { stream, address }).await {
                converse(seat, wire, address, first).await;
            }
        }
        Err(how) => conclude(&seat, how).await,
    }
}

/// A stream that somebody else opens.
pub(super) async fn receive(seat: Seat, caller: Caller, answer: oneshot::Receiver<Names>) {
    let Caller { connection, address } = caller;
    let Ok(mut wire) = wire(connection) else { return };
    let header = match timeout(HEADER_TIME, header::read(&mut wire)).await {
        Ok(Ok(header)) if is_short(&header) => header,
        Ok(Err(Stop::Error(error))) => return refuse(wire, &Header::default(), error).await,
        Ok(_) | Err(_) => {
            tracing::debug!(%address, "a neighbour sent no usable stream header");
            return;
        }
    };
    let (stream, from, to) = (seat.stream, header.from.clone(), header.to.clone());
    if !tell(&seat, LinkEvent::Accepted { stream, address, from, to }).await {
        return;
    }
    let decision = async {
        tokio::select! {
            names = answer => names.map_err(|_| None),
            order = ordered(&seat.outbox) => Err(match order {
                Order::Close(error) => error,
                Order::Cut => None,
            }),
        }
    };
    let names = match timeout(DECISION, decision).await {
        Ok(Ok(names)) => names,
        Ok(Err(error)) => {
            conclude(&seat, LinkEnding::Closed).await;
            drop(seat);
            let denied = || StreamError::new(StreamCondition::PolicyViolation, "not wanted here");
            return refuse(wire, &header, error.unwrap_or_else(denied)).await;
        }
        Err(_) => return conclude(&seat, LinkEnding::Lost).await,
    };
    let tls = seat.shared.tls.clone();
    match timeout(HEADER_TIME, header::answer(&mut wire, &header, &names, tls)).await {
        Ok(Ok(first)) => converse(seat, wire, address, first).await,
        Ok(Err(_)) | Err(_) => conclude(&seat, LinkEnding::Lost).await,
    }
}

fn is_short(header: &Header) -> bool {
    [&header.from, &header.to].into_iter().flatten().all(|name| name.len() <= LONGEST_NAME)
}

fn wire(connection: TcpStream) -> std::io::Result<Wire> {
    transport::prepare(&connection)?;
    let limit = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&connection, limit)?;
    // A few lines now and then: what a bad radio loses is sent again at an even pace.
    rustix::net::sockopt::set_tcp_thin_linear_timeouts(&connection, true)?;
    let mut wire = Wire::new(connection, RATE.0, RATE.1);
    wire.framer.set_limits(header::HEADER);
    Ok(wire)
}

/// Waits for an order of the core.
async fn ordered(outbox: &Outbox) -> Order {
    poll_fn(|cx| outbox.order(cx).map_or(Poll::Pending, Poll::Ready)).await
}

/// Tells the core; false if the node is stopping.
async fn tell(seat: &Seat, event: LinkEvent) -> bool {
    seat.shared.inputs.send(Input::Link(event)).await.is_ok()
}

async fn conclude(seat: &Seat, how: LinkEnding) {
    tell(seat, LinkEvent::Ended { stream: seat.stream, how }).await;
}

/// Tells the other side why its stream is not wanted.
async fn refuse(mut wire: Wire, header: &Header, error: StreamError) {
    let mut last = header::refusal(header);
    last.extend(error.to_bytes());
    if let Some(transport) = &mut wire.transport {
        end(transport, &last, GRACE).await;
        linger(transport, GRACE).await;
    }
}

/// The open stream, until it ends.
async fn converse(seat: Seat, wire: Wire, remote: SocketAddr, first: Option<Element>) {
    let (total, written) = watch::channel(0);
    let Some(mut session) = session(&seat, wire, total) else {
        return conclude(&seat, LinkEnding::Lost).await;
    };
    let stream = seat.stream;
    if let Some(first) = first {
        let elements = vec![first];
        tell(&seat, LinkEvent::Elements { stream, elements }).await;
    }
    let local = session.transport.local();
    let connection = Connection { local: local.unwrap_or(remote), remote, tls: session.transport.is_tls() };
    let mut follower = Follower::new(connection, written);
    let follow = async {
        while let Some(bytes) = follower.next().await {
            tell(&seat, LinkEvent::Written { stream, bytes }).await;
        }
        std::future::pending().await
    };
    let ending = tokio::select! {
        ending = session.run() => ending,
        ending = follow => ending,
    };
    if let Some(bytes) = follower.last() {
        tell(&seat, LinkEvent::Written { stream, bytes }).await;
    }
    let how = match ending {
        Ending::Closed => LinkEnding::Closed,
        Ending::Lost => LinkEnding::Lost,
    };
    conclude(&seat, how).await;
    drop(seat);
    linger(&mut session.transport, GRACE).await;
}

fn session(seat: &Seat, wire: Wire, total: watch::Sender<u64>) -> Option<Session> {
    let start = Instant::now();
    let rest = wire.unread().to_vec();
    let mut framer = wire.framer;
    framer.set_limits(Limits::AFTER_LOGIN);
    Some(Session {
        face: Face::Neighbour(seat.stream, total),
        transport: wire.transport?,
        framer,
        outbox: seat.outbox.clone(),
        inputs: seat.shared.inputs.clone(),
        bucket: Bucket::new(RATE.0, RATE.1, start.elapsed()),
        start,
        rest,
        grace: GRACE,
        writing: Writing::default(),
        pause: None,
    })
}
