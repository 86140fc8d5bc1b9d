//! Who else is on the link: libp2p-mdns, made prompt and bounded.
//!
//! libp2p-mdns decides when to ask and remembers without a limit; it is wrapped here rather than used bare. We ask
//! beside it whenever an address or a cable comes (`probe.rs`), what it tells goes through a bounded table
//! (`sightings.rs`), and one that has swollen under a flood is thrown away and started anew. All of it is a hint
//! for dialling: only the handshake proves who answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::swarm::behaviour::{ExpiredListenAddr, NewListenAddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, mdns};
use tokio::time::{Instant, Sleep, sleep_until};

use super::sightings::{Sighting, Sightings};
use super::{address, probe};
use crate::core::PeerEvent;

/// How often the link is asked when nothing happens. One question and an answer of each node (some 300 bytes each)
/// a minute bounds how long a break that no interface notices (a switch between two others) hides a new neighbour.
const QUERY_INTERVAL: Duration = Duration::from_secs(60);
/// libp2p-mdns is started anew when it remembers more than this many addresses …
const MAX_REMEMBERED: usize = 4096;
/// … and rests for this long before.
const REST: Duration = Duration::from_secs(10);
/// When a link is asked again after a cable came back: bridges and radios may swallow the first packets.
const RETRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// Most listening addresses that are announced; ordinary machines have fewer than ten.
const MAX_LISTENING: usize = 64;

/// See the file's head.
pub(super) struct Behaviour {
    local: PeerId,
    started: Instant,
    families: [Family; 2],
    listening: Vec<(ListenerId, Multiaddr)>,
    sightings: Sightings,
    /// When which address is to ask, sorted by time.
    questions: VecDeque<(Instant, Ipv4Addr)>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// One address family: libp2p-mdns does only one at a time.
struct Family {
    ipv6: bool,
    state: State,
}

enum State {
    /// Not wanted: there is no address to announce.
    Off,
    Running(Box<mdns::tokio::Behaviour>),
    Resting(Instant),
}

impl Behaviour {
    /// Fails when the system does not tell about its interfaces.
    pub(super) fn new(local: PeerId) -> io::Result<Self> {
        let families = [Family { ipv6: false, state: State::Off }, Family { ipv6: true, state: State::Off }];
        let mut behaviour = Self {
            local,
            started: Instant::now(),
            families,
            listening: Vec::new(),
            sightings: Sightings::default(),
            questions: VecDeque::new(),
            timer: None,
        };
        behaviour.families[0].start(local, &[])?;
        Ok(behaviour)
    }

    /// An interface with these networks has its carrier again: ask there, and try everybody known there anew.
    pub(super) fn restored(&mut self, networks: &[(IpAddr, u8)]) {
        let now = Instant::now();
        for (ip, _) in networks {
            if let IpAddr::V4(ip) = ip {
                RETRIES.iter().for_each(|delay| self.ask_at(now + *delay, *ip));
            }
        }
        let there = |ip| networks.iter().any(|network| address::in_network(ip, *network));
        self.sightings
            .again(|text| text.parse().ok().and_then(|address| address::ip(&address)).is_some_and(there));
        self.timer = None;
    }

    fn ask_at(&mut self, when: Instant, ip: Ipv4Addr) {
        let announced = self.listening.iter().any(|(_, own)| address::ip(own) == Some(IpAddr::V4(ip)));
        if !announced || self.questions.len() >= MAX_LISTENING * RETRIES.len() {
            return;
        }
        let place = self.questions.partition_point(|(other, _)| *other <= when);
        self.questions.insert(place, (when, ip));
    }

    fn is_asking(&self, ip: Ipv4Addr) -> bool {
        self.questions.iter().any(|(_, asked)| *asked == ip)
    }

    fn new_address(&mut self, listener: ListenerId, own: &Multiaddr) {
        if self.listening.len() < MAX_LISTENING {
            self.listening.push((listener, own.clone()));
        }
        match address::ip(own) {
            // The second listener (QUIC) of the same address follows at once: one question for both.
            Some(IpAddr::V4(ip)) if !ip.is_loopback() && !self.is_asking(ip) => {
                self.ask_at(Instant::now() + Duration::from_millis(5), ip);
            }
            // IPv6 link-local addresses can't be dialled yet: announcing them would only cost air time.
            Some(IpAddr::V6(ip)) if !ip.is_loopback() && !ip.is_unicast_link_local() => {
                let [_, v6] = &mut self.families;
                if matches!(v6.state, State::Off)
                    && let Err(error) = v6.start(self.local, &self.listening)
                {
                    tracing::warn!(%error, "no discovery over IPv6");
                }
            }
            _ => {}
        }
        self.timer = None;
    }

    fn heard(&mut self, event: mdns::Event) {
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
                self.sightings.gone(node, &plain.to_string());
            }
        }
    }

    fn poll_families(&mut self, cx: &mut Context<'_>, now: Instant) {
        for index in 0..self.families.len() {
            while let Poll::Ready(event) = self.families[index].poll(cx) {
                if let ToSwarm::GenerateEvent(event) = event {
                    self.heard(event);
                }
            }
            if self.families[index].is_swollen() {
                tracing::warn!(refused = self.sightings.refused(), "flood of mDNS answers: discovery rests");
                self.sightings.clear();
                self.families[index].state = State::Resting(now + REST);
            }
            if matches!(self.families[index].state, State::Resting(until) if until <= now) {
                let started = self.families[index].start(self.local, &self.listening);
                if let Err(error) = started {
                    tracing::warn!(%error, "discovery did not start again");
                    self.families[index].state = State::Resting(now + REST);
                }
                cx.waker().wake_by_ref();
            }
        }
    }

    fn ask_due(&mut self, now: Instant) {
        while self.questions.front().is_some_and(|(when, _)| *when <= now) {
            let Some((_, ip)) = self.questions.pop_front() else { return };
            if let Err(error) = probe::ask(ip) {
                tracing::debug!(%ip, %error, "could not ask for neighbours");
            }
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.duration_since(self.started).as_millis() as u64
    }

    /// The earliest thing that has to be done without being called.
    fn next_deadline(&self) -> Option<Instant> {
        let resting = self.families.iter().filter_map(|family| match family.state {
            State::Resting(until) => Some(until),
            State::Off | State::Running(_) => None,
        });
        let held_back = self.sightings.poll_timeout().map(|(at, _)| self.started + Duration::from_millis(at));
        resting.chain(held_back).chain(self.questions.front().map(|(when, _)| *when)).min()
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

impl Family {
    fn start(&mut self, local: PeerId, listening: &[(ListenerId, Multiaddr)]) -> io::Result<()> {
        let config = mdns::Config {
            query_interval: QUERY_INTERVAL,
            enable_ipv6: self.ipv6,
            ..mdns::Config::default()
        };
        let mut inner = mdns::tokio::Behaviour::new(config, local)?;
        for (listener_id, addr) in listening {
            let event = NewListenAddr { listener_id: *listener_id, addr };
            inner.on_swarm_event(FromSwarm::NewListenAddr(event));
        }
        self.state = State::Running(Box::new(inner));
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<mdns::Event, Infallible>> {
        match &mut self.state {
            State::Running(inner) => inner.poll(cx),
            State::Off | State::Resting(_) => Poll::Pending,
        }
    }

    fn is_swollen(&self) -> bool {
        match &self.state {
            State::Running(inner) => inner.discovered_nodes().len() > MAX_REMEMBERED,
            State::Off | State::Resting(_) => false,
        }
    }
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
        for family in &mut self.families {
            if let State::Running(inner) = &mut family.state {
                inner.on_swarm_event(event);
            }
        }
        if let FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }) = event {
            self.new_address(listener_id, addr);
        }
        if let FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }) = event {
            self.listening.retain(|(id, own)| *id != listener_id || own != addr);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let now = Instant::now();
        self.poll_families(cx, now);
        self.ask_due(now);
        if let Some(sighting) = self.sightings.poll(self.millis(now)) {
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
