//! Who else is on the link: libp2p-mdns, made prompt, sparing and bounded; and hints from elsewhere.
//!
//! libp2p-mdns decides when to ask and remembers without a limit; it is wrapped here rather than used bare. It gets
//! IPv4 only (it can't tell interfaces apart over IPv6; there the machine's own responder hears the neighbours, and
//! tells by [`Commands::sighted`](super::Commands::sighted)) and TCP addresses only, one for each interface. Beside
//! it we ask when an address or a cable comes (`probe.rs`). What is heard goes through a bounded table
//! (`sightings.rs`), and a libp2p-mdns that has swollen under a flood is thrown away and started anew. All of it is a
//! hint for dialling: only the handshake proves who answers.
//!
//! Everybody answers each question by multicast, so questions are what costs. libp2p-mdns asks once when it starts,
//! again while nobody answers, and so long after the last answer that one node asks for all.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ExpiredListenAddr, NewListenAddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, mdns};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, Sleep, sleep_until};

use super::address::Network;
use super::probe::Questions;
use super::sightings::{self, Sighting, Sightings};
use super::{Hint, address};
use crate::core::PeerEvent;
use crate::id::NodeId;

/// After how many ms without an answer from anybody libp2p-mdns asks: each node waits another time out of this range,
/// always the same one, so that on each link one node asks for all and the others wait anew. It bounds how long a
/// break that no interface notices (a switch between two others) hides a new neighbour.
const QUERY_INTERVAL: Range<u64> = 90_000..135_000;
/// libp2p-mdns is started anew when it remembers more addresses than nodes are taken in: somebody was refused then, whom it
/// would never tell of again …
const MAX_REMEMBERED: usize = sightings::MAX_SIGHTED;
/// … and rests for this long before.
const REST: Duration = Duration::from_secs(10);
/// How many ms after the first address libp2p-mdns begins: by then it knows all addresses, and nodes that start
/// together have not all begun to answer when the others ask.
const BEGINNING: Range<u64> = 20..120;
/// When a new address is asked from, in ms, unless somebody else asks. libp2p-mdns mostly does, but it may have known
/// the address too late to announce it, and packets are lost, most of all when many nodes start together.
const NEW_ADDRESS: [Range<u64>; 3] = [150..300, 1000..2000, 4000..8000];
/// The same after a cable came back: bridges and radios may swallow the first packets.
const NEW_CARRIER: [Range<u64>; 3] = [20..120, 1000..2000, 3000..4000];
/// Most listening addresses that are kept; ordinary machines have fewer than ten.
const MAX_LISTENING: usize = 64;
/// The part of an IPv6 address that neighbours have in common (RFC 4291 §2.5.1), bits.
const PREFIX6: u8 = 64;

/// See the file's head.
pub(super) struct Behaviour {
    local: PeerId,
    started: Instant,
    mdns: State,
    /// Over TCP, not on loopback.
    listening: Vec<(ListenerId, Multiaddr)>,
    /// As many as connections are allowed.
    connected: BTreeSet<NodeId>,
    sightings: Sightings,
    questions: Questions,
    rng: ChaCha8Rng,
    timer: Option<Pin<Box<Sleep>>>,
}

/// libp2p-mdns. It does not do anything before it is polled.
enum State {
    /// There is no address yet that could be announced.
    Ready(Box<mdns::tokio::Behaviour>),
    Beginning(Instant, Box<mdns::tokio::Behaviour>),
    Running(Box<mdns::tokio::Behaviour>),
    Resting(Instant),
}

impl State {
    /// To be begun at `now`, or at the end of the wait.
    fn begun(self, now: Instant) -> Self {
        match self {
            Self::Beginning(when, inner) if when <= now => Self::Running(inner),
            other => other,
        }
    }

    fn inner(&mut self) -> Option<&mut mdns::tokio::Behaviour> {
        match self {
            Self::Ready(inner) | Self::Beginning(_, inner) | Self::Running(inner) => Some(inner),
            Self::Resting(_) => None,
        }
    }
}

impl Behaviour {
    /// Fails when the system does not tell about its interfaces.
    pub(super) fn new(local: PeerId) -> io::Result<Self> {
        // Only to differ from others; nobody gains by foreseeing it.
        let mut rng = ChaCha8Rng::from_seed(Sha256::digest(local.to_bytes()).into());
        let mdns = State::Ready(inner(local, &mut rng)?);
        Ok(Self {
            local,
            started: Instant::now(),
            mdns,
            listening: Vec::new(),
            connected: BTreeSet::new(),
            sightings: Sightings::default(),
            questions: Questions::default(),
            rng,
            timer: None,
        })
    }

    /// An interface with these networks has its carrier again: ask there, and try everybody known there anew.
    pub(super) fn restored(&mut self, networks: &[Network]) {
        for network in networks {
            if let IpAddr::V4(ip) = network.ip {
                self.ask(ip, &NEW_CARRIER);
            }
        }
        let there = |address: &Multiaddr| networks.iter().any(|network| network.holds(address));
        self.sightings.again(|text| text.parse().is_ok_and(|address| there(&address)));
        self.timer = None;
    }

    /// The interface of this name is gone: nobody is reached through it.
    pub(super) fn interface_gone(&mut self, name: &str) {
        let through = |address: &Multiaddr| address::zone(address).is_some_and(|zone| zone == name);
        self.sightings.lost(|text| text.parse().is_ok_and(|address| through(&address)));
    }

    /// Takes in what the machine's own responder has heard over IPv6.
    pub(super) fn sighted(&mut self, hint: &Hint) {
        let now = self.millis(Instant::now());
        for told in &hint.dnsaddrs {
            let Some((peer, plain)) = address::hinted(told, &hint.interface) else { continue };
            let Some(node) = address::node(&peer).filter(|_| peer != self.local) else { continue };
            if self.is_near(&plain) {
                let connected = self.connected.contains(&node);
                self.sightings.hinted(node, plain.to_string(), connected, now);
            }
        }
        self.timer = None;
    }

    /// Whether an IPv6 address is on a link of ours, and not our own. Who knows a foreign one is found elsewhere.
    fn is_near(&self, plain: &Multiaddr) -> bool {
        let own = |(_, own): &(ListenerId, Multiaddr)| plain.iter().eq(own.iter());
        let Some(ip) = address::ip(plain).filter(|_| !self.listening.iter().any(own)) else { return false };
        let beside = |own| address::in_network(ip, (own, PREFIX6));
        address::is_link_local6(ip)
            || self.listening.iter().filter_map(|(_, own)| address::ip(own)).any(beside)
    }

    fn ask(&mut self, ip: Ipv4Addr, when: &[Range<u64>]) {
        if self.listening.iter().any(|(_, own)| address::ip(own) == Some(IpAddr::V4(ip))) {
            let now = Instant::now();
            let when = when.iter().map(|range| now + within(range, &mut self.rng));
            self.questions.plan(ip, when);
        }
    }

    fn new_address(&mut self, listener: ListenerId, own: &Multiaddr) {
        let Some(ip) = announced(own) else { return };
        if self.listening.len() < MAX_LISTENING {
            self.listening.push((listener, own.clone()));
        }
        let IpAddr::V4(ip) = ip else { return };
        if let Some(inner) = self.mdns.inner() {
            let event = NewListenAddr { listener_id: listener, addr: own };
            inner.on_swarm_event(FromSwarm::NewListenAddr(event));
        }
        let begin = Instant::now() + within(&BEGINNING, &mut self.rng);
        self.mdns = match std::mem::replace(&mut self.mdns, State::Resting(begin)) {
            State::Ready(inner) => State::Beginning(begin, inner),
            other => other,
        };
        self.ask(ip, &NEW_ADDRESS);
        self.timer = None;
    }

    fn address_gone(&mut self, listener: ListenerId, own: &Multiaddr) {
        self.listening.retain(|(id, other)| *id != listener || other != own);
        let Some(IpAddr::V4(ip)) = announced(own) else { return };
        if let Some(inner) = self.mdns.inner() {
            let event = ExpiredListenAddr { listener_id: listener, addr: own };
            inner.on_swarm_event(FromSwarm::ExpiredListenAddr(event));
        }
        self.questions.forget(ip);
    }

    fn heard(&mut self, event: mdns::Event, now: Instant) {
        let now = self.millis(now);
        let (list, seen) = match event {
            mdns::Event::Discovered(list) => (list, true),
            mdns::Event::Expired(list) => (list, false),
        };
        for (peer, told) in list {
            let Some(node) = address::node(&peer).filter(|_| peer != self.local) else { continue };
            let Some(plain) = address::neighbourly(&told, &peer) else { continue };
            if seen {
                self.sightings.seen(node, plain.to_string());
            } else {
                let connected = self.connected.contains(&node);
                self.sightings.gone(node, &plain.to_string(), connected, now);
            }
        }
    }

    fn poll_mdns(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.mdns = std::mem::replace(&mut self.mdns, State::Resting(now)).begun(now);
        if let State::Resting(until) = self.mdns
            && until <= now
        {
            self.start_anew(now);
        }
        while let State::Running(inner) = &mut self.mdns {
            let Poll::Ready(event) = inner.poll(cx) else { return };
            let is_swollen = inner.discovered_nodes().len() > MAX_REMEMBERED;
            if let ToSwarm::GenerateEvent(event) = event {
                self.heard(event, now);
            }
            if is_swollen {
                let refused = self.sightings.refused();
                tracing::warn!(refused, "a flood of multicast DNS answers: discovery over IPv4 starts anew");
                self.sightings.clear();
                self.mdns = State::Resting(now + REST);
            }
        }
    }

    fn start_anew(&mut self, now: Instant) {
        match inner(self.local, &mut self.rng) {
            Ok(mut inner) => {
                for (listener_id, addr) in &self.listening {
                    let event = NewListenAddr { listener_id: *listener_id, addr };
                    inner.on_swarm_event(FromSwarm::NewListenAddr(event));
                }
                self.mdns = State::Running(inner);
            }
            Err(error) => {
                tracing::warn!(%error, "no discovery over IPv4");
                self.mdns = State::Resting(now + REST);
            }
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.duration_since(self.started).as_millis() as u64
    }

    /// The earliest thing that has to be done without being called.
    fn next_deadline(&self) -> Option<Instant> {
        let begin = match self.mdns {
            State::Resting(until) | State::Beginning(until, _) => Some(until),
            State::Ready(_) | State::Running(_) => None,
        };
        let sightings = self.sightings.poll_timeout().map(|(at, _)| self.started + Duration::from_millis(at));
        begin.into_iter().chain(sightings).chain(self.questions.next_due()).min()
    }

    fn set_timer(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = self.next_deadline() else {
            self.timer = None;
            return;
        };
        if self.timer.as_ref().is_none_or(|timer| timer.deadline() != deadline) {
            self.timer = Some(Box::pin(sleep_until(deadline)));
        }
        if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            self.timer = None;
            cx.waker().wake_by_ref();
        }
    }
}

/// A new libp2p-mdns, for IPv4.
fn inner(local: PeerId, rng: &mut ChaCha8Rng) -> io::Result<Box<mdns::tokio::Behaviour>> {
    let config = mdns::Config {
        query_interval: within(&QUERY_INTERVAL, rng),
        ttl: Duration::from_millis(sightings::LIFE),
        enable_ipv6: false,
    };
    mdns::tokio::Behaviour::new(config, local).map(Box::new)
}

/// Some time out of a range in ms.
fn within(range: &Range<u64>, rng: &mut ChaCha8Rng) -> Duration {
    Duration::from_millis(range.start + rng.next_u64() % (range.end - range.start))
}

/// The IP address of one of our own addresses if others may hear of it: TCP, and not on this machine alone.
fn announced(own: &Multiaddr) -> Option<IpAddr> {
    let is_tcp = matches!(own.iter().last(), Some(Protocol::Tcp(_)));
    address::ip(own).filter(|ip| is_tcp && !ip.is_loopback())
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = PeerEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }) => {
                self.new_address(listener_id, addr)
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }) => {
                self.address_gone(listener_id, addr);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, .. }) => {
                self.connected.extend(address::node(&peer_id));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, remaining_established: 0, .. }) => {
                address::node(&peer_id).map(|node| self.connected.remove(&node));
            }
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let now = Instant::now();
        self.poll_mdns(cx, now);
        self.questions.poll(cx, now);
        let millis = self.millis(now);
        self.sightings.expire(millis, |node| self.connected.contains(node));
        if let Some(sighting) = self.sightings.poll(millis) {
            let event = match sighting {
                Sighting::Seen(node, addresses) => PeerEvent::Discovered { node, addresses },
                Sighting::Gone(node, addresses) => PeerEvent::Expired { node, addresses },
            };
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.set_timer(cx);
        Poll::Pending
    }
}
