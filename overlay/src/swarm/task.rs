//! The one task that owns the libp2p swarm: commands in, events out, nothing decided.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};

use super::address::{self, Kind};
use super::interfaces::Change;
use super::{Command, Event, Hint, datagrams, discovery, gossip, kad, link, ping, reach};
use crate::core::PeerEvent;
use crate::id::NodeId;

/// A carrier that was away for less has disturbed no connection that TCP does not mend at once.
const SHORT_BREAK: Duration = Duration::from_secs(2);
/// Dials of one peer at a time: when the core has lost patience with one, the next does not wait for its end. The core's
/// most dials, times this, are what the limit of pending ones allows.
const DIALS: usize = 3;
/// Addresses of our own that are told.
const MAX_OWN: usize = 8;
/// How long shutting down may take.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// What libp2p runs for us. Limits come first: what they deny, the others never see.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    link: link::Behaviour,
    ping: ping::Behaviour,
    discovery: Toggle<discovery::Behaviour>,
    pub(super) dht: Toggle<kad::Behaviour>,
    pub(super) reach: Toggle<reach::Behaviour>,
    gossip: gossip::Behaviour,
}

/// Connections that the hash table may have beside the links, and those of whom this node relays for.
const DHT_CONNECTIONS: u32 = 64;
const RELAYED: u32 = (reach::RESERVATIONS + reach::CIRCUITS) as u32;
/// Dials under way for the hash table, slow ones too, and for being reached.
const DHT_DIALS: u32 = 52;

impl Behaviour {
    pub(super) fn new(
        local: PeerId,
        peers: u32,
        discovery: Option<discovery::Behaviour>,
        dht: Option<kad::Behaviour>,
        reach: Option<reach::Behaviour>,
        gossip: gossip::Behaviour,
    ) -> Self {
        // `link` counts the peers; these bound what has no link (yet). The spare ones are for connections being closed,
        // and for doubles until one of the two is.
        let (mut most, mut dials) = (peers.saturating_add(8), 24);
        if let Some(reach) = &reach {
            most = most.saturating_add(DHT_CONNECTIONS + if reach.may_relay() { RELAYED } else { 0 });
            dials += DHT_DIALS;
        }
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(32))
            .with_max_pending_outgoing(Some(dials))
            .with_max_established(Some(most))
            .with_max_established_per_peer(Some(4));
        Self {
            limits: connection_limits::Behaviour::new(limits),
            link: link::Behaviour::new(local, usize::try_from(peers).unwrap_or(usize::MAX)),
            ping: ping::Behaviour,
            discovery: discovery.into(),
            dht: dht.into(),
            reach: reach.into(),
            gossip,
        }
    }
}

/// See the file's head.
pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) hints: mpsc::Receiver<Hint>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) datagrams: Option<datagrams::Datagrams>,
    pub(super) stop: oneshot::Receiver<()>,
    /// As many as the limit of pending dials allows.
    pub(super) dials: BTreeMap<ConnectionId, Dial>,
    /// Where this node can be reached from beyond the link, as it was told.
    pub(super) own: Vec<String>,
}

/// Whether a connection to `far` leads into a network of this machine, or out of it by this machine's address there.
fn is_through(network: &address::Network, far: &Multiaddr, source: Option<IpAddr>) -> bool {
    network.holds(far) || source == Some(network.ip)
}

/// A dial under way.
pub(super) struct Dial {
    node: NodeId,
    peer: PeerId,
    /// What to try when all first addresses have failed.
    second: Vec<Multiaddr>,
}

impl Task {
    /// Runs until told to stop or until nobody takes events any more.
    pub(super) async fn run(mut self) {
        // Before any connection.
        self.tell(Event::Peer(PeerEvent::ProbePort(self.datagrams.as_ref().map(datagrams::Datagrams::port))));
        loop {
            let Self { swarm, events, commands, hints, changes, datagrams, stop, .. } = &mut self;
            // The swarm is asked only when the core has room for what it says: all the backpressure there is.
            let next = async {
                events.reserve().await.ok()?;
                Some(swarm.select_next_some().await)
            };
            tokio::select! {
                _ = stop => break,
                Some(command) = commands.recv() => self.obey(command),
                Some(hint) = hints.recv() => self.sighted(&hint),
                Some(change) = changes.recv() => self.changed(&change),
                bytes = datagrams::next(datagrams) => self.tell(Event::Peer(PeerEvent::Datagram(bytes))),
                event = next => match event {
                    Some(event) => self.happened(event),
                    None => break,
                },
            }
        }
        self.wind_up().await;
    }

    /// Lets queued frames go out and connections close in order, for a bounded time.
    async fn wind_up(mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        self.swarm.behaviour_mut().link.close_all("shutting down");
        let quiet = async {
            while !self.swarm.behaviour().link.is_quiet() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(SHUTDOWN, quiet).await.is_err() {
            tracing::debug!("some peers did not close in time");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Dial { node, addresses } => self.dial(node, &addresses),
            Command::Send { node, frame } => {
                if let Some(peer) = address::peer(&node) {
                    self.swarm.behaviour_mut().link.send(&peer, frame);
                }
            }
            Command::Datagram { address, port, bytes } => {
                if let Some(datagrams) = &self.datagrams {
                    datagrams.send(&address, port, &bytes);
                }
            }
            Command::Close { node, reason } => {
                if let Some(peer) = address::peer(&node) {
                    self.swarm.behaviour_mut().link.close(&peer, reason);
                }
            }
            Command::Publish { news } => self.swarm.behaviour_mut().gossip.publish(news),
            Command::Judged { node, id, verdict } => {
                if let Some(peer) = address::peer(&node) {
                    self.swarm.behaviour_mut().gossip.judged(&peer, &id, verdict);
                }
            }
            Command::Query { id, query } => {
                if let Some(dht) = self.dht() {
                    dht.ask(id, query);
                }
            }
            Command::Bootstrap { addresses } => {
                if let Some(dht) = self.dht() {
                    dht.bootstrap(&addresses);
                }
            }
            Command::Judge { time, revocations } => {
                if let Some(dht) = self.dht() {
                    dht.judge(time, *revocations);
                }
            }
        }
    }

    fn dht(&mut self) -> Option<&mut kad::Behaviour> {
        self.swarm.behaviour_mut().dht.as_mut()
    }

    /// Dials the TCP addresses at the same time, and those of QUIC only when all have failed: a TCP link costs less
    /// memory and fewer wake-ups.
    fn dial(&mut self, node: NodeId, addresses: &[String]) {
        let Some(peer) = address::peer(&node) else {
            return self.dial_failed(node, "the id is not an Ed25519 key".into());
        };
        let under_way = self.dials.values().filter(|dial| dial.peer == peer).count();
        let link = &mut self.swarm.behaviour_mut().link;
        if link.is_linked(&peer) || link.make_link(&peer) || under_way >= DIALS {
            return;
        }
        let mut tcp = Vec::new();
        let (mut quic, mut relayed) = (Vec::new(), Vec::new());
        for address in addresses.iter().filter_map(|text| text.parse().ok()) {
            match address::dialable(&address, &peer) {
                Some((Kind::Tcp, plain)) => tcp.push(plain),
                Some((Kind::Quic, plain)) => quic.push(plain),
                None => match address::relayed(&address, &peer) {
                    Some(way) if self.swarm.behaviour().reach.is_enabled() => relayed.push(way),
                    Some(_) | None => tracing::debug!(%address, "not dialable"),
                },
            }
        }
        // Whoever has a place at a relay is not reached otherwise from outside; on a network of its own a direct dial is faster.
        tcp.append(&mut relayed);
        if tcp.is_empty() {
            self.dial_addresses(node, peer, quic, Vec::new());
        } else {
            self.dial_addresses(node, peer, tcp, quic);
        }
    }

    fn dial_addresses(&mut self, node: NodeId, peer: PeerId, first: Vec<Multiaddr>, second: Vec<Multiaddr>) {
        // A port of its own: one reused from the listener can still be taken by a former connection.
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(first)
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        self.swarm.behaviour_mut().link.expect(connection);
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, Dial { node, peer, second });
            }
            Err(error) => self.dial_failed(node, error.to_string()),
        }
    }

    /// Advisory: not told when the core lags behind.
    fn dial_failed(&mut self, node: NodeId, error: String) {
        // The node may have reached us in the meantime, or a later dial still may reach it.
        let other_way = |peer| {
            self.swarm.behaviour().link.is_linked(&peer) || self.dials.values().any(|dial| dial.peer == peer)
        };
        if address::peer(&node).is_some_and(other_way) {
            return;
        }
        tracing::debug!(%node, error, "dialling failed");
        self.tell(Event::DialFailed { node, error });
    }

    fn tell(&mut self, event: Event) {
        // This is the only sender, and the swarm is asked only when there is room; a datagram may be lost.
        let _ = self.events.try_send(event);
    }

    /// Where this node can be reached from beyond the link, if that has changed.
    fn tell_addresses(&mut self) {
        // What a relay lists as its addresses is its own word; the one that we know it by is confirmed.
        let listeners = self.swarm.listeners().filter(|address| !address::is_relayed(address));
        let all = listeners.chain(self.swarm.external_addresses());
        let beyond = all.filter(|address| address::is_beyond(address)).map(address::without_own_id);
        // Relays first: where they are listed, hardly anything else is of use.
        let beyond = beyond.map(|address| (!address::is_relayed(&address), address.to_string()));
        let addresses: Vec<String> =
            beyond.collect::<BTreeSet<_>>().into_iter().map(|(_, address)| address).take(MAX_OWN).collect();
        if self.own != addresses {
            self.own.clone_from(&addresses);
            self.tell(Event::Peer(PeerEvent::Addresses(addresses)));
        }
    }

    fn sighted(&mut self, hint: &Hint) {
        if let Some(discovery) = self.swarm.behaviour_mut().discovery.as_mut() {
            discovery.sighted(hint);
        }
    }

    fn changed(&mut self, change: &Change) {
        let behaviour = self.swarm.behaviour_mut();
        match change {
            Change::Restored { networks, away } => {
                if *away >= SHORT_BREAK {
                    let lost =
                        |far: &_, source| networks.iter().any(|network| is_through(network, far, source));
                    behaviour.link.cut_where(lost);
                }
                if let Some(discovery) = behaviour.discovery.as_mut() {
                    discovery.restored(networks);
                }
            }
            Change::AddressGone(network) => {
                behaviour.link.cut_where(|far, source| is_through(network, far, source));
            }
            Change::InterfaceGone(name) => {
                behaviour.link.cut_where(|far, _| address::zone(far).is_some_and(|zone| zone == *name));
                if let Some(discovery) = behaviour.discovery.as_mut() {
                    discovery.interface_gone(name);
                }
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the rest is of no interest"
    )]
    fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Link(event) | BehaviourEvent::Gossip(event)) => {
                self.tell(event)
            }
            SwarmEvent::Behaviour(BehaviourEvent::Dht(Some(kad::Told::Event(event)))) => self.tell(event),
            SwarmEvent::Behaviour(BehaviourEvent::Dht(Some(kad::Told::Identified(
                connection,
                peer,
                answers,
            )))) => {
                if let Some(reach) = self.swarm.behaviour_mut().reach.as_mut() {
                    reach.identified(connection, peer, &answers);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Reach(Some(punched))) => {
                self.swarm.behaviour_mut().link.upgrade(&punched.peer, punched.connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Discovery(event)) => self.tell(Event::Peer(event)),
            // Without its zone, which libp2p does not tell, a link-local address is of no use to anybody.
            SwarmEvent::NewListenAddr { address, .. }
                if !address::ip(&address).is_some_and(address::is_link_local6) =>
            {
                self.tell_addresses();
                self.tell(Event::Listening { address: address.to_string() });
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.tell_addresses(),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => match addresses.first() {
                Some(address) if !address::is_relayed(address) => {
                    self.tell(Event::ListenFailed { address: address.to_string(), error: error.to_string() });
                }
                Some(_) | None => tracing::debug!(%error, "a place at a relay was refused or lost"),
            },
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.dials.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                let Some(Dial { node, peer, second }) = self.dials.remove(&connection_id) else { return };
                if second.is_empty() {
                    self.dial_failed(node, error.to_string());
                } else {
                    self.dial_addresses(node, peer, second, Vec::new());
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an incoming connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener reported an error"),
            _ => {}
        }
    }
}
