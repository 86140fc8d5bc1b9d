//! mDNS and DNS-SD for XEP-0174 (RFC 6762, RFC 6763), and libp2p's `_p2p._udp` over IPv6 (*pure*, sans-IO).
//!
//! | file | owns |
//! | --- | --- |
//! | `api` | what goes in and comes out |
//! | `names`, `packet` | names, messages: a bounded, total parser and a writer |
//! | `own` | our records, and which of them a question asks for |
//! | `probe` | names claimed, ties and conflicts |
//! | `responder` | announcements, answers, goodbyes |
//! | `interfaces` | those that come and go, and lie on the same link |
//! | `lane` | what is due on one interface and family |
//! | `peers`, `browse`, `texts` | what others announce; asking for it; how often it may change |
//! | `liveness`, `watch` | whether they are still there: direct unicast queries |
//! | `shared` | among many nodes, one asks for all |
//! | `budget`, `airtime` | the airtime that we allow ourselves; counters |
//!
//! Our host name is one of our own, `<machine>-ct.local`: avahi on the same machine has `<machine>.local`, with a set
//! of addresses that need not be ours, and two different sets of one unique name are a conflict. Multicast introduces;
//! liveness is unicast: a peer of which nothing was heard for 11 s is asked directly, ten times within 17 s or more
//! often on a bad link, and searched for ten minutes after it vanished. Not so who never answered: four to eight tries,
//! one minute. Everything follows from the seed and the inputs.
//!
//! Bounds: 16 services, 32 interfaces, 1,024 instances (32 of one source) with 16 addresses each, 64 waiting unicast answers for each
//! interface and family, 12 packets and 2 kB a second sent on each. What is over the budget is put off and joined.

mod airtime;
mod api;
mod browse;
mod budget;
mod interfaces;
mod lane;
mod liveness;
mod names;
mod own;
mod packet;
mod peers;
mod probe;
mod responder;
mod shared;
#[cfg(test)]
mod tests;
mod texts;
mod watch;

pub use airtime::{Airtime, KINDS, Kind, Minute};
pub use api::{
    Config, Destination, Event, Interface, Output, P2pService, Peer, Presence, ServiceId, Transmit,
};

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crosstalk_overlay::time::Now;
pub use crosstalk_overlay::traffic::Count;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use airtime::Flow;
use lane::{Family, Lane, Link, Phase, Place};
use own::{Own, Service, Set, Unique};
use packet::Packet;
use peers::Peers;

/// The port of mDNS.
pub const PORT: u16 = 5353;
/// Most users announced.
pub const MAX_SERVICES: usize = 16;
/// Most interfaces; more are ignored.
pub const MAX_INTERFACES: usize = 32;
/// Most instances of others that are kept.
pub const MAX_INSTANCES: usize = 1024;
/// Most addresses of a peer.
pub const MAX_ADDRESSES: usize = 16;
/// Largest picture served or taken, in bytes: what fits into one datagram with its name.
pub const MAX_PICTURE: usize = 8_192;

/// Our packets that are remembered, so as to know them when they come back, and for how long, milliseconds.
const MAX_ECHOES: usize = 256;
const ECHO: u64 = 2_000;

/// The engine: hand in what happens, then drain [`Mdns::poll_output`], then ask [`Mdns::poll_timeout`].
#[derive(Debug)]
pub struct Mdns {
    rng: ChaCha20Rng,
    links: BTreeMap<u32, Link>,
    /// Interfaces without carrier, since when.
    down: BTreeMap<u32, u64>,
    own: Own,
    is_browsing: bool,
    peers: Peers,
    /// When names were lost, the latest.
    conflicts: VecDeque<u64>,
    /// Hashes of what was sent, and when.
    echoes: VecDeque<(u64, u64)>,
    outputs: VecDeque<Output>,
    airtime: Airtime,
}

impl Mdns {
    /// An engine without interfaces.
    pub fn new(config: Config, _now: Now) -> Self {
        Self {
            rng: ChaCha20Rng::from_seed(config.seed),
            links: BTreeMap::new(),
            down: BTreeMap::new(),
            own: Own::new(config.host),
            is_browsing: config.browse,
            peers: Peers::default(),
            conflicts: VecDeque::new(),
            echoes: VecDeque::new(),
            outputs: VecDeque::new(),
            airtime: Airtime::default(),
        }
    }

    /// A datagram came in on port 5353 of this interface, our own ones included. Anything may be in it.
    pub fn datagram(&mut self, interface: u32, from: SocketAddr, to_multicast: bool, bytes: &[u8], now: Now) {
        let place = (interface, Family::of(from.ip()));
        if !self.links.get(&interface).is_some_and(|link| link.lanes.contains_key(&place.1)) {
            return;
        }
        if self.is_echo(from.ip(), bytes, now) {
            self.notice_twin(interface, from.ip(), now);
            return;
        }
        let parsed = Packet::parse(bytes);
        let flow = self.flow_of(interface, from, to_multicast, parsed.as_ref());
        self.airtime.count_heard(flow, airtime::wire_bytes(bytes.len(), from.is_ipv6()), now.mono);
        let is_near =
            self.links.get(&interface).is_some_and(|link| own::is_on_link(from.ip(), &link.interface));
        let Some(packet) = parsed.filter(|_| is_near) else {
            self.airtime.refused += 1;
            return;
        };
        self.peers.heard(interface, from.ip(), now.mono);
        if packet.response {
            self.heard_response(place, from, to_multicast, &packet, now);
        } else {
            self.heard_query(place, from, !to_multicast, packet, now);
        }
        self.report(now);
    }

    /// libp2p asks and answers from ports of its own; what it sends from this machine comes back to us.
    fn flow_of(&self, interface: u32, from: SocketAddr, to_multicast: bool, packet: Option<&Packet>) -> Flow {
        let is_own = self.links.get(&interface).is_some_and(|link| has_address(&link.interface, from.ip()));
        let is_of_nodes = |packet: &Packet| {
            let asks = packet.questions.iter().any(|question| question.name == *names::P2P);
            asks || packet.answers.iter().any(|record| record.name == *names::P2P)
        };
        match packet.is_some_and(is_of_nodes) {
            true if is_own && from.port() != PORT => Flow::Nodes,
            _ if to_multicast => Flow::HeardByAll,
            _ => Flow::HeardAlone,
        }
    }

    fn heard_response(
        &mut self,
        place: Place,
        from: SocketAddr,
        to_multicast: bool,
        packet: &Packet,
        now: Now,
    ) {
        if place.1 == Family::V6 {
            self.heard_p2p(place.0, from, packet, now);
        }
        if from.port() != PORT {
            // libp2p answers from another port; from everybody else it is not mDNS (RFC 6762 §6).
            self.airtime.refused += u64::from(packet.answers.iter().all(|record| record.name != *names::P2P));
            return;
        }
        self.find_conflicts(place.0, packet, now);
        if to_multicast {
            self.heard_answers(place, packet);
        }
        if self.is_browsing {
            self.heard_records(place.0, from.ip(), !to_multicast, packet, now);
        }
    }

    /// Announces a user, or what has changed. False: there are [`MAX_SERVICES`] others, and this one is not announced.
    pub fn announce(&mut self, id: ServiceId, presence: Presence, now: Now) -> bool {
        if self.own.services.get(&id).is_some_and(|old| old.presence.wanted != presence.wanted) {
            self.withdraw(id, now);
        }
        if let Some(service) = self.own.services.get_mut(&id) {
            let has_other_port = service.presence.port != presence.port;
            let text = presence.advert.to_record();
            let has_other_text = std::mem::replace(&mut service.text, text) != service.text;
            service.presence = presence;
            let changed = [(Set::Server(id), has_other_port), (Set::Text(id), has_other_text)];
            let changed: Vec<Set> = changed.iter().filter(|(_, has)| *has).map(|(set, _)| *set).collect();
            self.announce_again(&changed, now);
            return true;
        }
        if self.own.services.len() >= MAX_SERVICES {
            return false;
        }
        let is_first = self.own.services.is_empty();
        self.own.services.insert(id, Service::new(presence));
        for index in self.indices() {
            let has_host = self.links.get(&index).is_some_and(|link| link.phases.contains_key(&Unique::Host));
            if is_first && !has_host {
                self.claim(index, Unique::Host, now);
            }
            self.claim(index, Unique::Service(id), now);
        }
        true
    }

    fn announce_again(&mut self, sets: &[Set], now: Now) {
        for link in self.links.values_mut() {
            let told: Vec<Set> = sets.iter().copied().filter(|set| link.is_ready(*set)).collect();
            link.lanes.values_mut().for_each(|lane| lane.announce_changed(&told, now.mono));
        }
    }

    /// Says goodbye for a user.
    pub fn withdraw(&mut self, id: ServiceId, now: Now) {
        let records = self.own.farewell(id);
        let unique = Unique::Service(id);
        for link in self.links.values_mut() {
            let was_told = link.phases.remove(&unique) == Some(Phase::Ready);
            for lane in link.lanes.values_mut() {
                lane.forget(unique);
                if was_told {
                    lane.say_farewell(records.clone(), now.mono, 2);
                }
            }
        }
        self.own.services.remove(&id);
    }

    /// Announces the libp2p node over IPv6, or no longer.
    pub fn set_p2p(&mut self, p2p: Option<P2pService>, now: Now) {
        let label: String = (0..32).map(|_| char::from(b'a' + (self.rng.next_u32() % 26) as u8)).collect();
        self.own.p2p = p2p.map(|service| (names::of_p2p(&label), service));
        let is_on = self.own.p2p.is_some();
        for link in self.links.values_mut() {
            let Some(lane) = link.lanes.get_mut(&Family::V6) else { continue };
            lane.repeats.remove(&Set::P2p);
            lane.p2p_query = is_on.then_some(now.mono);
            if is_on {
                lane.announce(&[Set::P2p], now.mono);
            }
        }
    }

    /// Looks for others, or no longer: then all are gone.
    pub fn set_browsing(&mut self, on: bool, now: Now) {
        if std::mem::replace(&mut self.is_browsing, on) == on {
            return;
        }
        for index in self.indices() {
            if !on {
                self.forget_peers_on(index);
            }
            for family in [Family::V4, Family::V6] {
                self.start_browsing((index, family), now);
            }
        }
        self.report(now);
    }

    /// Says goodbye for all users.
    pub fn shutdown(&mut self, now: Now) {
        let ids: Vec<_> = self.own.services.keys().copied().collect();
        for id in ids {
            self.withdraw(id, now);
        }
        self.set_p2p(None, now);
        self.handle_timeout(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        for index in self.indices() {
            let families: Vec<Family> =
                self.links.get(&index).map(|link| link.lanes.keys().copied().collect()).unwrap_or_default();
            let places = || families.iter().map(|family| (index, *family));
            places().for_each(|place| self.flush_farewells(place, now));
            self.flush_probes(index, now);
            places().for_each(|place| self.flush_partial(place, now));
            places().for_each(|place| self.flush_announcements(place, now));
            places().for_each(|place| self.flush_replies(place, now));
            places().for_each(|place| self.flush_answers(place, now));
            places().for_each(|place| self.flush_queries(place, now));
            self.ask_strangers(index, now);
        }
        self.watch(now);
        self.report(now);
    }

    /// What to do or to tell next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, milliseconds of the monotonic clock, and why.
    pub fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        let lanes = self.links.values().flat_map(|link| link.lanes.values());
        let due = lanes.filter_map(Self::lane_due);
        let probes = self.links.values().filter(|link| !link.lanes.is_empty()).flat_map(|link| {
            let ready = link.lanes.values().map(|lane| lane.budget.ready_at(Kind::Probe)).max().unwrap_or(0);
            link.phases.values().filter_map(move |phase| match phase {
                Phase::Probing { at, .. } => Some((ready.max(*at), "probe")),
                Phase::Ready => None,
            })
        });
        let strangers =
            self.links.values().filter_map(|link| Some((self.stranger_due(link)?, "ask a stranger")));
        due.chain(probes).chain(strangers).chain(self.peers.due()).min()
    }

    fn lane_due(lane: &Lane) -> Option<(u64, &'static str)> {
        let after = |kind: Kind, at: Option<u64>, why: &'static str| {
            at.map(|at| (at.max(lane.budget.ready_at(kind)), why))
        };
        let all = [
            after(Kind::Goodbye, lane.farewells.iter().map(|farewell| farewell.at).min(), "goodbye"),
            after(Kind::Announcement, lane.repeats.values().map(|repeat| repeat.at).min(), "announce"),
            after(Kind::Answer, lane.replies.values().map(|reply| reply.at).min(), "reply"),
            after(Kind::Answer, lane.answers.values().copied().min(), "answer"),
            after(Kind::Query, lane.browse.map(|schedule| schedule.at), "browse"),
            after(Kind::Query, lane.p2p_query, "browse for nodes"),
            lane.partial.values().map(|partial| (partial.at, "known answers")).min(),
        ];
        all.into_iter().flatten().min()
    }

    /// What this costs the link, and how much was refused.
    pub fn airtime(&self) -> &Airtime {
        &self.airtime
    }

    fn indices(&self) -> Vec<u32> {
        self.links.keys().copied().collect()
    }

    fn lane(&mut self, (index, family): Place) -> Option<&mut Lane> {
        self.links.get_mut(&index)?.lanes.get_mut(&family)
    }

    /// A number below `range`.
    fn random(&mut self, range: u64) -> u64 {
        self.rng.next_u64() % range.max(1)
    }

    fn is_own_address(&self, ip: IpAddr) -> bool {
        self.links.values().any(|link| has_address(&link.interface, ip))
    }

    fn is_echo(&self, from: IpAddr, bytes: &[u8], now: Now) -> bool {
        if !self.is_own_address(from) {
            return false;
        }
        let hash = hash(bytes);
        self.echoes.iter().any(|(old, at)| *old == hash && at + ECHO > now.mono)
    }

    /// Whether the budget allows a packet of this kind; counts it if not.
    fn may_send(&mut self, place: Place, kind: Kind, now: Now) -> bool {
        let ready = self.lane(place).map_or(u64::MAX, |lane| lane.budget.ready_at(kind));
        if ready > now.mono {
            self.airtime.delayed += 1;
        }
        ready <= now.mono
    }

    fn multicast(&mut self, place: Place, kind: Kind, packet: &Packet, now: Now) {
        let to = match place.1 {
            Family::V4 => Destination::MulticastV4,
            Family::V6 => Destination::MulticastV6,
        };
        self.transmit(place, to, kind, packet, true, now);
    }

    fn unicast(
        &mut self,
        place: Place,
        to: SocketAddr,
        kind: Kind,
        packet: &Packet,
        compress: bool,
        now: Now,
    ) {
        let to = match to {
            SocketAddr::V6(to) if to.ip().is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(*to.ip(), to.port(), 0, place.0))
            }
            other => other,
        };
        self.transmit(place, Destination::Unicast(to), kind, packet, compress, now);
    }

    fn transmit(
        &mut self,
        place: Place,
        to: Destination,
        kind: Kind,
        packet: &Packet,
        compress: bool,
        now: Now,
    ) {
        for bytes in packet.encode(compress) {
            let size = airtime::wire_bytes(bytes.len(), place.1 == Family::V6);
            let flow = if matches!(to, Destination::Unicast(_)) { Flow::Unicast } else { Flow::Multicast };
            self.airtime.count_sent(kind, flow, size, now.mono);
            if let Some(lane) = self.lane(place) {
                lane.budget.charge(size, now.mono);
            }
            self.echoes.push_back((hash(&bytes), now.mono));
            while self.echoes.len() > MAX_ECHOES {
                self.echoes.pop_front();
            }
            self.outputs.push_back(Output::Send(Transmit { interface: place.0, to, bytes }));
        }
    }
}

fn has_address(interface: &Interface, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => interface.v4.iter().any(|(own, _)| *own == ip),
        IpAddr::V6(ip) => interface.v6.iter().any(|(own, _)| *own == ip),
    }
}

/// To know our own packets again; nobody can gain by a collision but that one packet from our own address is ignored.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
