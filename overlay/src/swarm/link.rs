//! The peers we are linked with: one connection each, of those that either side wants to be a link (others belong to the
//! hash table); `Connected` and `Disconnected` exactly once, frames between.
//!
//! Of two connections with one peer, one stays (`spare`).

mod handler;
mod spare;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep, sleep_until};

use self::handler::{BeLink, Handler, Report};
use super::near::{is_near, source_of};
use super::queue::{self, Sender};
use super::{Event, address};
use crate::core::PeerEvent;
use crate::id::NodeId;

/// How long the last frames to a peer that we close may take.
const DRAIN: Duration = Duration::from_secs(2);

/// See the file's head.
pub(super) struct Behaviour {
    local: PeerId,
    /// Most links.
    most: usize,
    /// The one connection in use of each peer.
    links: BTreeMap<PeerId, Link>,
    /// A second connection of some that have a link.
    spares: BTreeMap<PeerId, Link>,
    /// Dials of ours that are to be links.
    dials: BTreeSet<ConnectionId>,
    /// Accepted by us, not yet reported as established; and whether it is a link from the beginning.
    accepted: BTreeMap<ConnectionId, (Sender, bool)>,
    /// Connections that are no links.
    idle: BTreeMap<ConnectionId, Idle>,
    /// The addresses of this machine that connections bear, as far as they are known.
    sources: BTreeMap<ConnectionId, IpAddr>,
    /// When they are shut: given up by us and writing their last frames, or spare.
    ending: BTreeMap<ConnectionId, (PeerId, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
    events: VecDeque<ToSwarm<Event, BeLink>>,
}

/// Why a connection is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The core has dialled.
    Dialled,
    /// Both ends have made it, in place of one through a relay.
    Punched,
    /// The peer wants it.
    Peer,
}

/// A connection that is no link, and may become one.
struct Idle {
    peer: PeerId,
    address: Multiaddr,
    queue: Sender,
}

struct Link {
    node: NodeId,
    connection: ConnectionId,
    address: Multiaddr,
    inbound: bool,
    since: Instant,
    queue: Sender,
    /// Our substream is open, and `Connected` was told if this is no spare.
    ready: bool,
    /// The core waits for a dial that became this one, or was given up for it.
    dialled: bool,
}

impl Link {
    fn is_relayed(&self) -> bool {
        address::is_relayed(&self.address)
    }
}

impl Behaviour {
    /// With at most `most` links; more peers are turned away.
    pub(super) fn new(local: PeerId, most: usize) -> Self {
        Self {
            local,
            most,
            links: BTreeMap::new(),
            spares: BTreeMap::new(),
            dials: BTreeSet::new(),
            accepted: BTreeMap::new(),
            idle: BTreeMap::new(),
            sources: BTreeMap::new(),
            ending: BTreeMap::new(),
            timer: None,
            events: VecDeque::new(),
        }
    }

    /// True while a connection to `peer` is in use or about to be.
    pub(super) fn is_linked(&self, peer: &PeerId) -> bool {
        self.links.contains_key(peer)
    }

    /// A dial of ours whose connection is to be a link.
    pub(super) fn expect(&mut self, connection: ConnectionId) {
        self.dials.insert(connection);
    }

    /// Makes a connection to `peer` a link, if there is one that is none. As if it had been dialled for that.
    pub(super) fn make_link(&mut self, peer: &PeerId) -> bool {
        let Some(connection) = self.idle.iter().find(|(_, idle)| idle.peer == *peer).map(|(id, _)| *id)
        else {
            return false;
        };
        self.be_link(connection, Origin::Dialled);
        true
    }

    /// A direct connection was made to a peer whose link leads through a relay: it takes the link's place once it is ready.
    pub(super) fn upgrade(&mut self, peer: &PeerId, connection: ConnectionId) {
        let relayed = self.links.get(peer).is_some_and(Link::is_relayed);
        if relayed && self.idle.get(&connection).is_some_and(|idle| idle.peer == *peer) {
            self.be_link(connection, Origin::Punched);
        }
    }

    /// A connection that was no link becomes one.
    fn be_link(&mut self, connection: ConnectionId, origin: Origin) {
        let Some(idle) = self.idle.remove(&connection) else { return };
        let (peer_id, handler) = (idle.peer, NotifyHandler::One(connection));
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: BeLink });
        self.enter(connection, idle, origin);
    }

    /// True when no link is left and all last frames are written.
    pub(super) fn is_quiet(&self) -> bool {
        self.links.is_empty() && self.ending.is_empty()
    }

    /// Queues `frame`. A peer whose queue is full is cut off; one that is not connected gets nothing.
    pub(super) fn send(&mut self, peer: &PeerId, frame: Vec<u8>) {
        let Some(link) = self.links.get(peer).filter(|link| link.ready) else {
            return tracing::debug!(%peer, "no link: frame dropped");
        };
        if link.queue.push(frame).is_err() {
            tracing::warn!(%peer, "the peer has stopped reading: closed");
            self.cut(peer);
        }
    }

    /// Gives up the link to `peer` after the frames queued so far.
    pub(super) fn close(&mut self, peer: &PeerId, reason: &str) {
        self.drop_spare(peer);
        let Some(link) = self.unlink(peer) else { return };
        tracing::debug!(%peer, reason, "closing");
        self.ending.insert(link.connection, (*peer, Instant::now() + DRAIN));
        self.timer = None;
    }

    /// Gives up all links (see `close`).
    pub(super) fn close_all(&mut self, reason: &str) {
        let peers: Vec<PeerId> = self.links.keys().copied().collect();
        peers.iter().for_each(|peer| self.close(peer, reason));
    }

    /// Gives up at once the connections for which `lost` is true of the far end's address and of this machine's.
    pub(super) fn cut_where(&mut self, lost: impl Fn(&Multiaddr, Option<IpAddr>) -> bool) {
        let is_lost =
            |connection: &ConnectionId, far: &Multiaddr| lost(far, self.sources.get(connection).copied());
        let through = |links: &BTreeMap<PeerId, Link>| -> Vec<PeerId> {
            let lost = links.iter().filter(|(_, link)| is_lost(&link.connection, &link.address));
            lost.map(|(peer, _)| *peer).collect()
        };
        let (spares, links) = (through(&self.spares), through(&self.links));
        let idle = self.idle.iter().filter(|(connection, idle)| is_lost(connection, &idle.address));
        let idle: Vec<_> = idle.map(|(connection, idle)| (idle.peer, *connection)).collect();
        spares.iter().for_each(|peer| self.drop_spare(peer));
        links.iter().for_each(|peer| self.cut(peer));
        idle.into_iter().for_each(|(peer, connection)| self.shut(peer, connection));
    }

    fn cut(&mut self, peer: &PeerId) {
        if let Some(link) = self.unlink(peer) {
            self.shut(*peer, link.connection);
        }
    }

    /// Forgets the link, telling the core if it knew of it. If there is a spare, that is the link from now on.
    fn unlink(&mut self, peer: &PeerId) -> Option<Link> {
        let link = self.links.remove(peer)?;
        let (node, dialled) = (link.node, link.dialled && !link.ready);
        if link.ready {
            self.tell(PeerEvent::Disconnected { node });
        }
        if let Some(mut spare) = self.spares.remove(peer) {
            self.ending.remove(&spare.connection);
            spare.dialled |= dialled;
            if spare.ready {
                self.tell(connected(&spare));
            }
            self.links.insert(*peer, spare);
        } else if dialled {
            self.fail(node, "the connection closed before the link was up");
        }
        Some(link)
    }

    fn tell(&mut self, event: PeerEvent) {
        self.events.push_back(ToSwarm::GenerateEvent(Event::Peer(event)));
    }

    fn fail(&mut self, node: NodeId, why: &str) {
        let event = Event::DialFailed { node, error: why.to_owned() };
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    fn shut(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let connection = CloseConnection::One(connection);
        self.events.push_back(ToSwarm::CloseConnection { peer_id, connection });
    }

    fn accept(&mut self, connection: ConnectionId) -> Handler {
        let (sender, receiver) = queue::queue();
        let wanted = self.dials.remove(&connection);
        self.accepted.insert(connection, (sender, wanted));
        Handler::new(receiver, wanted)
    }

    fn established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let Some((queue, wanted)) = self.accepted.remove(&connection) else { return };
        let far = match endpoint {
            // Whoever comes through a relay has no address of its own.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr,
            ConnectedPoint::Listener { .. } | ConnectedPoint::Dialer { .. } => endpoint.get_remote_address(),
        };
        let address = address::without_id(far);
        self.sources.extend(source_of(&address).map(|source| (connection, source)));
        let idle = Idle { peer, address, queue };
        if wanted {
            self.enter(connection, idle, Origin::Dialled);
        } else {
            self.idle.insert(connection, idle);
        }
    }

    fn enter(&mut self, connection: ConnectionId, idle: Idle, origin: Origin) {
        let Idle { peer, address, queue } = idle;
        let Some(node) = address::node(&peer) else { return self.shut(peer, connection) };
        // Whoever wanted the link counts as the one who dialled, also if the hash table had dialled before.
        let (since, inbound, dialled) = (Instant::now(), origin == Origin::Peer, origin == Origin::Dialled);
        let new = Link { node, connection, address, inbound, since, queue, ready: false, dialled };
        if let Some(old) = self.links.get_mut(&peer) {
            if spare::is_of_use(self.local < peer, old, &new) {
                return self.keep_spare(peer, new);
            }
            old.dialled |= dialled;
            return self.shut(peer, connection);
        }
        if self.links.len() >= self.most {
            tracing::debug!(%peer, "turned away: as many links as allowed");
            if dialled {
                self.fail(node, "this node has as many links as allowed");
            }
            return self.shut(peer, connection);
        }
        self.links.insert(peer, new);
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        self.ending.remove(&connection);
        self.idle.remove(&connection);
        self.sources.remove(&connection);
        if self.spares.get(&peer).is_some_and(|spare| spare.connection == connection) {
            self.spares.remove(&peer);
        }
        if self.links.get(&peer).is_some_and(|link| link.connection == connection) {
            self.unlink(&peer);
        }
    }

    fn reported(&mut self, peer: PeerId, connection: ConnectionId, report: Report) {
        if matches!(report, Report::Wanted) {
            return self.be_link(connection, Origin::Peer);
        }
        if self.spares.get(&peer).is_some_and(|spare| spare.connection == connection) {
            self.spare_reported(&peer, &report);
        }
        let link = self.links.get_mut(&peer).filter(|link| link.connection == connection);
        match (report, link) {
            (Report::Ready, Some(link)) => {
                if !std::mem::replace(&mut link.ready, true) {
                    let event = connected(link);
                    self.tell(event);
                }
                if self.spares.get(&peer).is_some_and(|spare| !spare.inbound) {
                    self.drop_spare(&peer);
                }
            }
            (Report::Frame(frame), Some(link)) => {
                let node = link.node;
                self.tell(PeerEvent::Frame { node, frame });
            }
            (Report::Ended(reason), Some(_)) => {
                tracing::debug!(%peer, reason, "link ended");
                self.cut(&peer);
            }
            (Report::Ended(_), None) => self.shut(peer, connection),
            (Report::Wanted, Some(_)) | (Report::Wanted | Report::Ready | Report::Frame(_), None) => {}
        }
    }

    /// Shuts what has drained for too long, and spares of no use, and sets the timer for the next.
    fn poll_ending(&mut self, cx: &mut Context<'_>) {
        let Some(next) = self.ending.values().map(|(_, until)| *until).min() else {
            self.timer = None;
            return;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if timer.as_mut().poll(cx).is_pending() {
            return;
        }
        self.timer = None;
        let now = Instant::now();
        for (connection, (peer, until)) in std::mem::take(&mut self.ending) {
            if until <= now {
                self.shut(peer, connection);
            } else {
                self.ending.insert(connection, (peer, until));
            }
        }
        // A new timer has to be polled once to be set.
        cx.waker().wake_by_ref();
    }
}

fn connected(link: &Link) -> PeerEvent {
    let address = link.address.to_string();
    PeerEvent::Connected { node: link.node, address, inbound: link.inbound, near: is_near(&link.address) }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.accept(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.accept(connection))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the rest is of no interest"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.established(peer_id, connection_id, endpoint),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.accepted.remove(&connection_id);
                self.dials.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        self.reported(peer, connection, report);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.poll_ending(cx);
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a link, and a connection that is none, both to the same address and from the same one.
    fn connected(far: &str, source: &str) -> Behaviour {
        let mut behaviour = Behaviour::new(PeerId::random(), 8);
        for (number, is_link) in [(1, true), (2, false)] {
            let connection = ConnectionId::new_unchecked(number);
            let peer = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
            let address: Multiaddr = far.parse().expect("a multiaddress");
            let (queue, _) = queue::queue();
            behaviour.idle.insert(connection, Idle { peer, address, queue });
            behaviour.sources.extend(source.parse().map(|source: IpAddr| (connection, source)));
            if is_link {
                behaviour.make_link(&peer);
            }
        }
        behaviour
    }

    fn shut(behaviour: &Behaviour) -> usize {
        behaviour.events.iter().filter(|event| matches!(event, ToSwarm::CloseConnection { .. })).count()
    }

    #[test]
    fn what_bears_an_address_that_has_gone_is_given_up_wherever_it_leads() {
        let gone: IpAddr = "10.77.0.5".parse().expect("an address");
        let lost = |_: &Multiaddr, source: Option<IpAddr>| source == Some(gone);
        let mut through_it = connected("/ip4/203.0.113.9/tcp/1", "10.77.0.5");
        through_it.cut_where(lost);
        assert_eq!((through_it.links.len(), shut(&through_it)), (0, 2));
        let mut other = connected("/ip4/203.0.113.9/tcp/1", "10.80.5.2");
        other.cut_where(lost);
        assert_eq!((other.links.len(), shut(&other)), (1, 0));
    }
}
