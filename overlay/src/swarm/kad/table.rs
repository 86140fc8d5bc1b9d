//! One Kademlia table: libp2p-kad, and around it what it lacks.
//!
//! - Addresses: only those of this table's scope are entered, told and dialled, whoever named them; a node is entered
//!   only if it answers this table's protocol, at an address that the node was seen at.
//! - Few nodes of one network enter the public table (`diversity`), whatever it is that enters them.
//! - The table of private addresses is closed to connections from public ones: whom we are with is nobody's business.
//! - Dials: so many at a time, so many connections open; further ones wait, but not for those who do not answer (`dials`).
//! - That a node enters is no reason to look around (`hush`).
//! - Nodes that can't be reached leave; libp2p-kad keeps them for ever.
//! - A peer that asks too often is cut off.

mod dials;
mod entry;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::kad;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use self::dials::Dials;
use super::super::address;
use super::super::carried;
use super::hush::is_hushed;
use super::meter::Meter;
use super::newcomers::Newcomers;
use super::records::{self, Records};
use super::scope::{Networks, without_zone};
use super::shape::config;
use crate::dht::{self, Position};

/// Addresses of a node that are entered, and that are kept.
const MAX_ENTERED: usize = 4;
pub(super) const MAX_KEPT: usize = 8;
/// Dials in a row that failed before a node leaves the table.
const PATIENCE: u8 = 2;
/// Link-local addresses whose zone is remembered.
const MAX_ZONES: usize = 256;

type Inner = kad::Behaviour<Records>;
type Action = ToSwarm<kad::Event, THandlerInEvent<Inner>>;

/// See the file's head.
pub(in crate::swarm) struct Table {
    kind: dht::Table,
    local: PeerId,
    inner: Inner,
    networks: Arc<Networks>,
    carried: Arc<carried::Meter>,
    /// What is in the routing table.
    members: BTreeMap<PeerId, Member>,
    /// Connections that the table may use.
    usable: BTreeMap<PeerId, Vec<ConnectionId>>,
    /// Peers to whom there is another connection only.
    unusable: BTreeMap<ConnectionId, PeerId>,
    meters: BTreeMap<PeerId, Meter>,
    dials: Dials,
    zones: BTreeMap<Ipv6Addr, String>,
    newcomers: Newcomers,
    /// How far the eight nodes reach that are closest to this one, as it looked last.
    pub(super) reach: Option<u64>,
    actions: VecDeque<Action>,
}

struct Member {
    addresses: Vec<Multiaddr>,
    failures: u8,
}

impl Table {
    pub(super) fn new(
        kind: dht::Table,
        local: PeerId,
        records: Records,
        networks: Arc<Networks>,
        carried: Arc<carried::Meter>,
    ) -> Self {
        Self {
            kind,
            local,
            inner: Inner::with_config(local, records, config(kind)),
            networks,
            carried,
            members: BTreeMap::new(),
            usable: BTreeMap::new(),
            unusable: BTreeMap::new(),
            meters: BTreeMap::new(),
            dials: Dials::default(),
            zones: BTreeMap::new(),
            newcomers: Newcomers::default(),
            reach: None,
            actions: VecDeque::new(),
        }
    }

    pub(super) fn set_mode(&mut self, mode: Option<kad::Mode>) {
        self.inner.set_mode(mode);
    }

    pub(super) fn is_server(&self) -> bool {
        self.inner.mode() == kad::Mode::Server
    }

    pub(super) fn kad(&mut self) -> &mut Inner {
        &mut self.inner
    }

    pub(super) fn records(&mut self) -> &mut Records {
        self.inner.store_mut()
    }

    /// Where this node lies.
    pub(super) fn position(&self) -> Option<Position> {
        address::node(&self.local).map(|node| Position::of_node(&node))
    }

    /// Nodes in the table.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The nodes in the table, with their addresses.
    pub(super) fn members(&self) -> impl Iterator<Item = (&PeerId, &[Multiaddr])> {
        self.members.iter().map(|(peer, member)| (peer, &member.addresses[..]))
    }

    /// A node's addresses that others may be told, out of those that somebody has named.
    pub(super) fn addresses(&self, peer: &PeerId, named: &[Multiaddr]) -> Vec<Multiaddr> {
        let known = self.members.get(peer).map(|member| &member.addresses[..]).unwrap_or_default();
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in known.iter().chain(named).filter_map(|address| self.admissible(address, peer)) {
            if addresses.len() < MAX_KEPT && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The same, as they are dialled.
    pub(super) fn ways(&self, peer: &PeerId, named: &[Multiaddr]) -> Vec<Multiaddr> {
        self.addresses(peer, named).iter().filter_map(|address| self.dialable(address, peer)).collect()
    }

    /// The form in which an address is entered, if it is one that belongs here.
    fn admissible(&self, address: &Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
        let plain = without_zone(&address::without_id(address));
        let ip = address::ip(&plain).filter(|ip| self.networks.table(*ip) == Some(self.kind))?;
        // Link-local ones can be dialled with a zone only; any name of an interface does for the check.
        let checked = if address::is_link_local6(ip) { address::zoned("if", &plain) } else { plain.clone() };
        address::dialable(&checked, peer).map(|_| plain)
    }

    /// The form in which an address is dialled.
    fn dialable(&self, address: &Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
        let plain = self.admissible(address, peer)?;
        match address::ip(&plain)? {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                self.zones.get(&ip).map(|zone| address::zoned(zone, &plain))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Some(plain),
        }
    }

    /// Whether an address is of those that this table has.
    pub(super) fn is_for(&self, address: &Multiaddr) -> bool {
        self.networks.table_of(address) == Some(self.kind)
    }

    fn is_usable(&self, remote: &Multiaddr) -> bool {
        self.kind == dht::Table::Wan || self.is_for(remote)
    }

    fn learn_zone(&mut self, remote: &Multiaddr) {
        if let (Some(zone), Some(IpAddr::V6(ip))) = (address::zone(remote), address::ip(remote))
            && (self.zones.len() < MAX_ZONES || self.zones.contains_key(&ip))
        {
            self.zones.insert(ip, zone);
        }
    }

    fn established(&mut self, event: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id, connection_id, endpoint, .. } = event;
        let remote = endpoint.get_remote_address();
        self.learn_zone(remote);
        self.dials.connected(connection_id);
        if !self.is_usable(remote) {
            self.unusable.insert(connection_id, peer_id);
            return;
        }
        let usable = self.usable.entry(peer_id).or_default();
        usable.push(connection_id);
        let other_established = usable.len() - 1;
        if let Some(member) = self.members.get_mut(&peer_id) {
            member.failures = 0;
        }
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            other_established,
            ..event
        }));
    }

    fn closed(&mut self, event: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id, connection_id, .. } = event;
        self.dials.ended(connection_id);
        // One that could not be used leaves the table's view of the peer as it is.
        let mut remaining_established = 1;
        if self.unusable.remove(&connection_id).is_none()
            && let Some(usable) = self.usable.get_mut(&peer_id)
        {
            usable.retain(|other| *other != connection_id);
            remaining_established = usable.len();
            if usable.is_empty() {
                self.usable.remove(&peer_id);
                self.meters.remove(&peer_id);
            }
        }
        self.inner
            .on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed { remaining_established, ..event }));
        self.dial_held();
    }

    fn dial_failed(&mut self, event: DialFailure<'_>) {
        self.dials.ended(event.connection_id);
        self.inner.on_swarm_event(FromSwarm::DialFailure(event));
        let gone = matches!(event.error, DialError::Transport(_) | DialError::WrongPeerId { .. });
        // Without any connection it is most likely we who can't be reached.
        if let Some(peer) = event.peer_id.filter(|_| gone && !self.usable.is_empty())
            && let Some(member) = self.members.get_mut(&peer)
        {
            member.failures += 1;
            if member.failures >= PATIENCE {
                tracing::debug!(%peer, "left the table: it can't be reached");
                self.members.remove(&peer);
                self.inner.remove_peer(&peer);
            }
        }
        self.dial_held();
    }

    /// libp2p-kad wants to reach a peer.
    fn dial(&mut self, opts: &DialOpts) {
        let Some(peer) = opts.get_peer_id() else { return };
        if self.unusable.values().any(|other| *other == peer) || !self.dials.add(peer) {
            return self.pass_over(peer, opts.connection_id());
        }
        self.dial_held();
    }

    /// No look-up shall wait for this peer.
    fn pass_over(&mut self, peer: PeerId, connection_id: ConnectionId) {
        let failure = DialFailure { peer_id: Some(peer), error: &DialError::Aborted, connection_id };
        self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
    }

    fn dial_held(&mut self) {
        while let Some(opts) = self.dials.next(Instant::now(), |peer| self.usable.contains_key(peer)) {
            self.actions.push_back(ToSwarm::Dial { opts });
        }
    }

    /// When [`Table::tick`] has something to do.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        [self.next_entry(now), self.dials.next_slow()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.enter(now);
        let slow = self.dials.slow(now);
        if !slow.is_empty() {
            slow.into_iter().for_each(|(connection, peer)| self.pass_over(peer, connection));
            self.dial_held();
        }
    }

    fn count(&self, event: &kad::Event) {
        match event {
            kad::Event::InboundRequest { .. } => self.carried.answered(),
            kad::Event::OutboundQueryProgressed { stats, step, .. } if step.last => {
                self.carried.asked(stats.num_requests());
            }
            _ => {}
        }
    }

    /// What libp2p-kad wants, made fit.
    fn act(&mut self, action: Action) -> Option<Action> {
        match action {
            ToSwarm::Dial { opts } => {
                self.dial(&opts);
                None
            }
            ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event } => {
                let connection = self.usable.get(&peer_id)?.first()?;
                Some(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(*connection), event })
            }
            ToSwarm::GenerateEvent(event) if is_hushed(&mut self.inner, &event) => None,
            ToSwarm::GenerateEvent(event) => {
                self.count(&event);
                self.follow(&event);
                Some(ToSwarm::GenerateEvent(event))
            }
            other => Some(other),
        }
    }
}

impl NetworkBehaviour for Table {
    type ConnectionHandler = THandler<Inner>;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(id) = peer else { return Ok(Vec::new()) };
        let named = self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        let mut fit: Vec<Multiaddr> = Vec::new();
        for address in named.iter().filter_map(|address| self.dialable(address, &id)) {
            if fit.len() < MAX_KEPT && !fit.contains(&address) {
                fit.push(address);
            }
        }
        Ok(fit)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.admissible(remote, &peer).is_some() && address::zone(remote).is_none() {
            return self.inner.handle_established_outbound_connection(connection, peer, remote, role, port);
        }
        // libp2p-kad enters the address of a connection that we dialled: this one is not to be told.
        self.inner.handle_established_inbound_connection(connection, peer, &Multiaddr::empty(), remote)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.established(event),
            FromSwarm::ConnectionClosed(event) => self.closed(event),
            FromSwarm::DialFailure(event) => self.dial_failed(event),
            // Confirmed addresses make the public table a server.
            FromSwarm::ExternalAddrConfirmed(confirmed) if self.is_for(confirmed.addr) => {
                self.inner.on_swarm_event(FromSwarm::ExternalAddrConfirmed(confirmed));
            }
            FromSwarm::ExternalAddrExpired(expired) => {
                self.inner.on_swarm_event(FromSwarm::ExternalAddrExpired(expired));
            }
            // Not of interest; a new listener would have libp2p-kad look around and warn of having nobody to ask.
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.unusable.contains_key(&connection) || !self.usable.contains_key(&peer) {
            return;
        }
        if !self.meters.entry(peer).or_insert_with(Meter::new).take() {
            tracing::debug!(%peer, "asks too often: cut off");
            let connection = CloseConnection::All;
            return self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
        }
        self.inner.store_mut().source = records::source(&peer);
        self.inner.on_connection_handler_event(peer, connection, event);
        self.inner.store_mut().source = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.inner.poll(cx) {
                Poll::Ready(action) => {
                    if let Some(action) = self.act(action) {
                        return Poll::Ready(action);
                    }
                }
                Poll::Pending if self.actions.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

/// The far end's address, and whether we dialled it.
pub(super) fn remote(endpoint: &ConnectedPoint) -> (Multiaddr, bool) {
    (endpoint.get_remote_address().clone(), endpoint.is_dialer())
}
