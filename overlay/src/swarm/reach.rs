//! How others reach this node from beyond the link, and how it helps others: identify, AutoNAT v2, UPnP, circuit relay v2, DCUtR.
//!
//! | file | owns |
//! | --- | --- |
//! | `nat` | what is known about the addresses of this node |
//! | `probe`, `answer` | AutoNAT v2: others try our addresses, we try theirs |
//! | `own` | addresses of this node as they come and go |
//! | `upkeep` | what follows from all that: rounds of tries, places at relays, the report |
//! | `upnp` | asking the router |
//! | `relays` | at which relays this node has a place |
//! | `hop` | the relay that this node is |
//! | `report` | settings; what a person is told |
//!
//! It is there with the hash table only, and does nothing until a peer beyond the link is met. An address is told to the swarm
//! as confirmed when others have come in by it; then the public table serves, others are relayed and their addresses tried.
//! A node that nobody reaches has places at relays. Whoever comes through one is led to a direct connection, if the routers
//! between let both ends through at once (DCUtR); `link` then moves over.
//!
//! | bound | value | when full |
//! | --- | --- | --- |
//! | addresses tried in a round | [`probe::MAX_TRIED`] | further ones are not tried |
//! | addresses of others tried | 4 at a time, 30 a minute | refused |
//! | places at relays, relays known | 2, 8 configured and 16 others | the one seen longest ago goes |
//! | places and circuits that we give | `hop` | refused |

mod answer;
mod hop;
mod nat;
mod own;
mod probe;
mod relays;
mod report;
#[cfg(test)]
mod tests;
mod upkeep;
mod upnp;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, dcutr, relay};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use self::answer::Answer;
pub(super) use self::hop::{CIRCUITS, RESERVATIONS};
use self::nat::{Change, Nat};
use self::probe::Prober;
use self::relays::Relays;
pub use self::report::{ReachConfig, ReachReport, RelayMode, RelayPlace, UpnpState};
use self::upnp::{News, Upnp};
use super::kad::{DhtMode, Networks};
use super::{DhtConfig, address};
use crate::dht::Table;

const TRIES_OTHERS: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// A direct connection was made to a peer with whom there is one through a relay.
#[derive(Debug)]
pub(super) struct Punched {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
}

#[derive(NetworkBehaviour)]
pub(super) struct Parts {
    circuits: relay::client::Behaviour,
    hop: Toggle<relay::Behaviour>,
    punch: dcutr::Behaviour,
    probe: Prober,
    answer: Answer,
}

/// See the file's head.
pub(super) struct Behaviour {
    local: PeerId,
    networks: Arc<Networks>,
    relay: RelayMode,
    /// Our own addresses count as reachable because the settings say so.
    sure: bool,
    parts: Parts,
    nat: Nat,
    relays: Relays,
    upnp: Upnp,
    listening: Vec<(ListenerId, Multiaddr)>,
    /// Connections with peers beyond the link that no relay carries: with whom, at which address, dialled by us.
    beyond: BTreeMap<ConnectionId, (PeerId, Multiaddr, bool)>,
    direct_since: Option<Instant>,
    serving: usize,
    report: watch::Sender<ReachReport>,
    /// Something has happened since the last look at all of it.
    stale: bool,
    timer: Option<Pin<Box<Sleep>>>,
    actions: VecDeque<ToSwarm<Option<Punched>, THandlerInEvent<Parts>>>,
}

impl Behaviour {
    /// With the transport through relays, which has to be part of the swarm's, and what a person may be told of it.
    pub(super) fn new(
        local: PeerId,
        config: &DhtConfig,
    ) -> (relay::client::Transport, Self, watch::Receiver<ReachReport>) {
        let (transport, circuits) = relay::client::new(local);
        let (networks, now) = (Arc::new(config.networks.clone()), Instant::now());
        let parts = Parts {
            circuits,
            hop: hop::new(local, config.reach.relay),
            punch: dcutr::Behaviour::new(local),
            probe: Prober::new(now),
            answer: Answer::new(Arc::clone(&networks)),
        };
        let (report, reports) = watch::channel(ReachReport::default());
        let behaviour = Self {
            local,
            networks,
            relay: config.reach.relay,
            sure: config.mode == DhtMode::Server,
            parts,
            nat: Nat::new(config.reach.patience, config.reach.retest),
            relays: Relays::new(&config.reach.relays, local, now),
            upnp: Upnp::new(config.reach.upnp),
            listening: Vec::new(),
            beyond: BTreeMap::new(),
            direct_since: None,
            serving: 0,
            report,
            stale: true,
            timer: None,
            actions: VecDeque::new(),
        };
        (transport, behaviour, reports)
    }

    /// Whether others may come to be relayed.
    pub(super) fn may_relay(&self) -> bool {
        self.relay != RelayMode::Off
    }

    /// What a peer answers, as it says on this connection.
    pub(super) fn identified(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        protocols: &[StreamProtocol],
    ) {
        // At the address of one that came to us nobody may be found.
        self.stale = true;
        let Some((_, remote, true)) = self.beyond.get(&connection) else { return };
        self.parts.probe.identified(peer, remote, protocols.contains(&TRIES_OTHERS));
        if protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            self.relays.met(peer, remote, Instant::now());
        } else {
            self.relays.relays_no_more(&peer);
        }
    }

    fn tell(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Confirmed(address)) => {
                tracing::info!(%address, "others reach this node here");
                self.actions.push_back(ToSwarm::ExternalAddrConfirmed(address));
            }
            Some(Change::Lost(address)) => {
                tracing::info!(%address, "others do not reach this node here any more");
                self.actions.push_back(ToSwarm::ExternalAddrExpired(address));
            }
            None => {}
        }
    }

    fn established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let remote = endpoint.get_remote_address();
        if endpoint.is_relayed() || !is_beyond(&self.networks, remote) {
            return;
        }
        self.beyond.insert(connection, (peer, remote.clone(), endpoint.is_dialer()));
        let now = Instant::now();
        self.nat.met(now);
        if endpoint.is_listener() {
            self.nat.visited(now);
        }
    }

    fn on_event(&mut self, event: &FromSwarm<'_>) {
        self.stale = true;
        match event {
            FromSwarm::NewListenAddr(new) => self.listens(new.listener_id, new.addr),
            FromSwarm::ExpiredListenAddr(old) => self.listens_no_more(old.listener_id, old.addr),
            FromSwarm::ListenerClosed(closed) => self.relays.ended(closed.listener_id, Instant::now()),
            FromSwarm::ListenerError(failed) => self.relays.ended(failed.listener_id, Instant::now()),
            FromSwarm::ConnectionEstablished(new) => {
                self.established(new.peer_id, new.connection_id, new.endpoint);
                if self.beyond.contains_key(&new.connection_id) {
                    self.parts.probe.established(new.connection_id, *event);
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.beyond.remove(&closed.connection_id);
                self.parts.probe.closed(closed.connection_id, *event);
            }
            FromSwarm::NewExternalAddrCandidate(seen) => {
                self.propose(seen.addr);
                self.offer_quic(seen.addr);
            }
            _ => {}
        }
    }

    fn happened(&mut self, event: PartsEvent) {
        self.stale = true;
        match event {
            PartsEvent::Circuits(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal,
                ..
            }) => {
                tracing::debug!(relay = %relay_peer_id, renewal, "a relay has a place for this node");
                self.relays.agreed(&relay_peer_id, wall());
            }
            PartsEvent::Circuits(event) => tracing::debug!(?event, "a circuit"),
            PartsEvent::Hop(relay::Event::CircuitReqAccepted { .. }) => self.serving += 1,
            PartsEvent::Hop(relay::Event::CircuitClosed { .. }) => {
                self.serving = self.serving.saturating_sub(1);
            }
            PartsEvent::Hop(event) => tracing::debug!(?event, "relaying for others"),
            PartsEvent::Punch(dcutr::Event { remote_peer_id: peer, result: Ok(connection) }) => {
                tracing::debug!(%peer, "a direct connection in place of one through a relay");
                self.actions.push_back(ToSwarm::GenerateEvent(Some(Punched { peer, connection })));
            }
            PartsEvent::Punch(dcutr::Event { remote_peer_id: peer, result: Err(error) }) => {
                tracing::debug!(%peer, %error, "no direct connection: the relay goes on");
            }
            PartsEvent::Probe(tried) => {
                tracing::debug!(address = %tried.address, reached = tried.reached, "others have tried an address");
                let change = self.nat.tried(&tried.address, tried.reached, wall(), Instant::now());
                self.tell(change);
            }
            PartsEvent::Answer(()) => {}
        }
    }

    fn poll_upnp(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(news) = self.upnp.poll(cx) {
            self.stale = true;
            match news {
                News::Promised(address) => {
                    tracing::debug!(%address, "the router lets others in");
                    self.propose(&address);
                }
                News::Withdrawn(address) => {
                    let change = self.nat.gone(&address);
                    self.tell(change);
                }
            }
        }
    }

    /// Looks at all of it if there is a reason to.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.poll_upnp(cx);
        loop {
            if std::mem::take(&mut self.stale) {
                self.timer = self.tick().map(|at| Box::pin(sleep_until(at)));
            }
            match self.timer.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.stale = true,
                Some(Poll::Pending) | None => return,
            }
        }
    }
}

/// Whether an address is beyond every link: one that the public table may hold.
fn is_beyond(networks: &Networks, address: &Multiaddr) -> bool {
    !address::is_relayed(address) && networks.table_of(address) == Some(Table::Wan)
}

/// Unix milliseconds of the system's clock; for people to read.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn wall() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<Parts>;
    /// Always something: libp2p has no other way to say that actions carry no event of the parts.
    type ToSwarm = Option<Punched>;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.parts.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.parts.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_outbound_connection(connection, peer, remote, role, port)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the rest is for all parts"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.on_event(&event);
        match event {
            // A place at a relay does not make one oneself.
            FromSwarm::ExternalAddrConfirmed(own) if !is_beyond(&self.networks, own.addr) => {}
            FromSwarm::ExternalAddrExpired(own)
                if self.relay == RelayMode::On && !address::is_relayed(own.addr) => {}
            // What both ends of a circuit tell each other, so that they meet.
            FromSwarm::NewExternalAddrCandidate(own) if !is_beyond(&self.networks, own.addr) => {}
            event => self.parts.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.parts.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            self.look(cx);
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.parts.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.happened(event),
                Poll::Ready(action) => return Poll::Ready(action.map_out(|_| None)),
                Poll::Pending if self.stale => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
