//! Has others try the addresses of this node (the client of AutoNAT v2). Around libp2p-autonat, what it lacks:
//!
//! - Only addresses beyond the link are tried, and few: anybody can say that it has seen us somewhere.
//! - Only peers beyond the link are asked: a neighbour reaches everything.
//! - It asks once and remembers the answer for ever. Here a *round* is a new instance, which knows the connections that
//!   began after it only; without such a one to a server, one is made.
//! - Its clock ticks every 5 s. Here it is asked only while something is being tried.
//!
//! A try costs 30 to 100 kB, which the server wants to be sent before it dials.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::autonat::v2::client;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::NewExternalAddrCandidate;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// Addresses that are tried in a round.
pub(super) const MAX_TRIED: usize = 8;
/// Servers that are remembered.
const MAX_SERVERS: usize = 8;
/// What has no answer after so long stays untried in this round.
const ANSWER: Duration = Duration::from_secs(60);
/// A server is dialled for a round no more often.
const DIAL: Duration = Duration::from_secs(30);

/// What a try has shown.
#[derive(Debug)]
pub(in crate::swarm) struct Tried {
    pub(super) address: Multiaddr,
    pub(super) reached: bool,
}

type Action = ToSwarm<Tried, THandlerInEvent<client::Behaviour>>;

/// See the file's head.
pub(in crate::swarm) struct Prober {
    inner: client::Behaviour,
    /// Connections of this round with peers beyond the link, and whether the peer serves.
    connections: BTreeMap<ConnectionId, bool>,
    /// What is tried in this round, and until when an answer is waited for; None: it has come.
    trying: BTreeMap<Multiaddr, Option<Instant>>,
    servers: BTreeMap<PeerId, Multiaddr>,
    next_dial: Instant,
    /// It has to be asked whatever is being tried.
    awake: bool,
    actions: VecDeque<Action>,
}

impl Prober {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            inner: client::Behaviour::default(),
            connections: BTreeMap::new(),
            trying: BTreeMap::new(),
            servers: BTreeMap::new(),
            next_dial: now,
            awake: true,
            actions: VecDeque::new(),
        }
    }

    /// An address beyond the link that may be ours. True if it is new in this round.
    pub(super) fn propose(&mut self, addr: &Multiaddr, now: Instant) -> bool {
        if self.trying.contains_key(addr) || self.trying.len() >= MAX_TRIED {
            return false;
        }
        self.trying.insert(addr.clone(), Some(now + ANSWER));
        self.inner.on_swarm_event(FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }));
        self.awake = true;
        true
    }

    /// Begins a new round with these addresses.
    pub(super) fn again(&mut self, addresses: impl IntoIterator<Item = Multiaddr>, now: Instant) {
        (self.inner, self.awake) = (client::Behaviour::default(), true);
        self.connections.clear();
        self.trying.clear();
        for address in addresses {
            self.propose(&address, now);
        }
    }

    /// All that was tried in this round, or is being.
    pub(super) fn tried(&self) -> Vec<Multiaddr> {
        self.trying.keys().cloned().collect()
    }

    /// Something is being tried.
    pub(super) fn is_trying(&self) -> bool {
        self.trying.values().any(Option::is_some)
    }

    /// A peer beyond the link says whether it serves.
    pub(super) fn identified(&mut self, peer: PeerId, address: &Multiaddr, serves: bool) {
        if !serves {
            self.servers.remove(&peer);
        } else if self.servers.len() < MAX_SERVERS || self.servers.contains_key(&peer) {
            self.servers.insert(peer, address.clone());
        }
    }

    /// A connection with a peer beyond the link, relayed by nobody. Others are none of its business.
    pub(super) fn established(&mut self, connection: ConnectionId, event: FromSwarm<'_>) {
        self.connections.insert(connection, false);
        self.inner.on_swarm_event(event);
    }

    /// A connection has ended.
    pub(super) fn closed(&mut self, connection: ConnectionId, event: FromSwarm<'_>) {
        if self.connections.remove(&connection).is_some() {
            self.inner.on_swarm_event(event);
        }
    }

    /// Does what is due; when to be called again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        for until in self.trying.values_mut() {
            *until = until.filter(|until| now < *until);
        }
        if !self.is_trying() || self.connections.values().any(|serves| *serves) {
            return self.trying.values().filter_map(|until| *until).min();
        }
        if self.next_dial <= now
            && let Some((peer, address)) = self.servers.pop_first()
        {
            self.next_dial = now + DIAL;
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![address])
                .allocate_new_port()
                .build();
            self.actions.push_back(ToSwarm::Dial { opts });
        }
        let patience = self.trying.values().filter_map(|until| *until).min();
        let dial = (!self.servers.is_empty()).then_some(self.next_dial);
        patience.into_iter().chain(dial).min()
    }

    fn concluded(&mut self, event: client::Event) -> Tried {
        self.trying.insert(event.tested_addr.clone(), None);
        Tried { address: event.tested_addr, reached: event.result.is_ok() }
    }
}

impl NetworkBehaviour for Prober {
    type ConnectionHandler = THandler<client::Behaviour>;
    type ToSwarm = Tried;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, remote, role, port)
    }

    /// What it is to know comes by [`Prober::established`] and its like.
    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // Of a dial back (right) only its number counts; what a server says (left) only if it was asked in this round.
        if matches!(event, Either::Left(_)) {
            let Some(serves) = self.connections.get_mut(&connection) else { return };
            *serves = true;
        }
        self.awake = true;
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            let busy = self.is_trying() && self.connections.values().any(|serves| *serves);
            if !busy && !std::mem::take(&mut self.awake) {
                return Poll::Pending;
            }
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.awake = true;
                    let tried = self.concluded(event);
                    return Poll::Ready(ToSwarm::GenerateEvent(tried));
                }
                // Confirmed by one server's word; `nat` decides.
                Poll::Ready(ToSwarm::ExternalAddrConfirmed(_)) => self.awake = true,
                Poll::Ready(action) => {
                    self.awake = true;
                    return Poll::Ready(action.map_out(|event| self.concluded(event)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
