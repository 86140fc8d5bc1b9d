//! Tries the addresses of others (the server of AutoNAT v2), on a node that is reachable itself. Around libp2p-autonat:
//!
//! - Only addresses beyond the link are dialled: else strangers could have our neighbours' ports tried.
//! - So many at a time and in a minute; what answers slowly is given up while the asker still waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::autonat::v2::server;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::DialFailure;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::time::Instant;

use super::super::address;
use super::super::kad::Networks;
use super::is_beyond;

/// Dials under way, and in a minute.
const MAX_DIALS: usize = 4;
const A_MINUTE: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// The asker waits for 10 s in all.
const PATIENCE: Duration = Duration::from_secs(6);

type Inner = server::Behaviour;
type Handler = Either<THandler<Inner>, dummy::ConnectionHandler>;
type Action = ToSwarm<(), Either<THandlerInEvent<Inner>, std::convert::Infallible>>;

/// Somebody has asked to have another's address tried, or one on the link.
#[derive(Debug, Error)]
#[error("not an address beyond the link")]
struct NotBeyond;

/// See the file's head.
pub(in crate::swarm) struct Answer {
    inner: Inner,
    /// Connections that come in are served.
    pub(super) serves: bool,
    networks: Arc<Networks>,
    dialling: BTreeMap<ConnectionId, (PeerId, Instant)>,
    begun: VecDeque<Instant>,
    actions: VecDeque<Action>,
}

impl Answer {
    pub(super) fn new(networks: Arc<Networks>) -> Self {
        Self {
            inner: Inner::default(),
            serves: false,
            networks,
            dialling: BTreeMap::new(),
            begun: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Gives up what takes too long; when to be called again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let late = self.dialling.iter().filter(|(_, (_, until))| *until <= now);
        for (connection, peer) in late.map(|(id, (peer, _))| (*id, *peer)).collect::<Vec<_>>() {
            self.give_up(connection, peer);
        }
        self.dialling.values().map(|(_, until)| *until).min()
    }

    fn give_up(&mut self, connection_id: ConnectionId, peer: PeerId) {
        self.dialling.remove(&connection_id);
        let error = DialError::Aborted;
        let failure = DialFailure { peer_id: Some(peer), error: &error, connection_id };
        self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
    }

    fn may_dial(&mut self, now: Instant) -> bool {
        while self.begun.front().is_some_and(|begun| *begun + MINUTE <= now) {
            self.begun.pop_front();
        }
        let may = self.dialling.len() < MAX_DIALS && self.begun.len() < A_MINUTE;
        if may {
            self.begun.push_back(now);
        }
        may
    }
}

impl NetworkBehaviour for Answer {
    type ConnectionHandler = Handler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.serves || !is_beyond(&self.networks, remote) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(Either::Left)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let fit = |address: &Multiaddr| {
            let dialable = peer.is_some_and(|peer| address::dialable(address, &peer).is_some());
            dialable && is_beyond(&self.networks, address)
        };
        if self.dialling.contains_key(&connection) && !addresses.iter().all(fit) {
            return Err(ConnectionDenied::new(NotBeyond));
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.dialling.remove(&connection).is_none() {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner
            .handle_established_outbound_connection(connection, peer, remote, role, port)
            .map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::DialFailure(failure) = &event
            && self.dialling.remove(&failure.connection_id).is_some()
        {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, connection, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    let Some(peer) = opts.get_peer_id() else { continue };
                    let (now, connection) = (Instant::now(), opts.connection_id());
                    if !self.may_dial(now) {
                        tracing::debug!(%peer, "no more addresses of others are tried now");
                        self.give_up(connection, peer);
                        continue;
                    }
                    self.dialling.insert(connection, (peer, now + PATIENCE));
                    return Poll::Ready(ToSwarm::Dial { opts });
                }
                Poll::Ready(ToSwarm::GenerateEvent(_)) => {}
                Poll::Ready(action) => return Poll::Ready(action.map_out(|_| ()).map_in(Either::Left)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
