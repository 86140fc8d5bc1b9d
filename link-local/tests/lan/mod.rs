//! A link of many engines in virtual time: delay, loss of each host and direction, cuts, and everything on the wire
//! counted. Deterministic from a seed.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::{
    Config, Count, Destination, Event, Interface, Mdns, Output, PORT, Peer, Presence, ServiceId, Transmit,
};
use crosstalk_link_local::txt::Advert;
use crosstalk_overlay::time::Now;

/// The interface of every host.
pub(crate) const ETH: u32 = 2;
/// XEP-0115 node of hosts that are of one kind.
pub(crate) const KIN: &str = "https://crosstalk.example/caps";

pub(crate) fn at(mono: u64) -> Now {
    Now { mono, wall: 1_800_000_000_000 + mono }
}

pub(crate) fn instance(name: &str) -> Instance {
    Instance::new(name).unwrap()
}

pub(crate) struct Host {
    pub(crate) mdns: Mdns,
    /// Who is shown here.
    pub(crate) seen: BTreeMap<Instance, Peer>,
    /// Everything that was told, and when.
    pub(crate) story: Vec<(u64, Event)>,
    /// False: it has vanished, and its engine stands still.
    pub(crate) is_alive: bool,
    /// Hosts of different parts do not hear each other.
    pub(crate) part: u8,
    /// How many were vouched for last.
    vouched: usize,
    due: Option<u64>,
}

impl Host {
    /// When this was last told, if it was.
    pub(crate) fn when(&self, what: impl Fn(&Event) -> bool) -> Option<u64> {
        self.story.iter().rev().find(|(_, event)| what(event)).map(|(at, _)| *at)
    }

    pub(crate) fn names(&self) -> Vec<Instance> {
        let named = |event: &Event| match event {
            Event::Named { instance, .. } => Some(instance.clone()),
            _ => None,
        };
        self.story.iter().filter_map(|(_, event)| named(event)).collect()
    }
}

/// Arrival, order, receiver, sender, whether by multicast, payload.
type Flight = Reverse<(u64, u64, usize, SocketAddr, bool, Rc<[u8]>)>;

pub(crate) struct Lan {
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    /// Per cent lost by each host in each direction.
    pub(crate) loss: u64,
    /// One way, milliseconds.
    pub(crate) delay: u64,
    pub(crate) families: (bool, bool),
    /// Whether what is told is kept; else only the names of those seen.
    pub(crate) keeps: bool,
    /// Whether the layers above keep watch over all that are seen, as the overlay does over nodes.
    pub(crate) vouches: bool,
    /// Hosts without a node: nobody keeps watch over them, and they watch nobody themselves.
    pub(crate) plain: BTreeSet<usize>,
    pub(crate) multicast: Count,
    pub(crate) unicast: Count,
    /// Packets with their sender, since last taken.
    pub(crate) tape: Option<Vec<(u64, usize, Transmit)>>,
    flights: BinaryHeap<Flight>,
    order: u64,
    random: u64,
    seed: u8,
}

impl Lan {
    pub(crate) fn new(seed: u8) -> Self {
        Self {
            now: 1_000,
            hosts: Vec::new(),
            loss: 0,
            delay: 1,
            families: (true, true),
            keeps: true,
            vouches: false,
            plain: BTreeSet::new(),
            multicast: Count::default(),
            unicast: Count::default(),
            tape: None,
            flights: BinaryHeap::new(),
            order: 0,
            random: 0x9e37_79b9_7f4a_7c15 ^ (u64::from(seed) << 32),
            seed,
        }
    }

    pub(crate) fn v4(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, (host / 200) as u8, (host % 200) as u8 + 1)
    }

    pub(crate) fn v6(host: usize) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host as u16 + 1)
    }

    pub(crate) fn interface(&self, host: usize) -> Interface {
        Interface {
            index: ETH,
            name: "eth0".into(),
            v4: if self.families.0 { vec![(Self::v4(host), 16)] } else { Vec::new() },
            v6: if self.families.1 { vec![(Self::v6(host), 64)] } else { Vec::new() },
        }
    }

    pub(crate) fn add(&mut self) -> usize {
        let number = self.hosts.len();
        let mut seed = [self.seed; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let mdns = Mdns::new(Config { host: format!("h{number}"), seed, browse: true }, at(self.now));
        let (seen, story) = (BTreeMap::new(), Vec::new());
        self.hosts.push(Host { mdns, seen, story, is_alive: true, part: 0, vouched: 0, due: None });
        let interface = self.interface(number);
        self.with(number, |mdns, now| mdns.set_interfaces(vec![interface], now));
        number
    }

    pub(crate) fn announce(&mut self, host: usize, name: &str, advert: Advert) {
        let presence = Presence { wanted: instance(name), port: 5298, advert, picture: None };
        self.with(host, |mdns, now| assert!(mdns.announce(ServiceId(1), presence, now)));
    }

    /// What an ordinary user announces; `is_kin`: all of them run the same software.
    pub(crate) fn advert(number: usize, is_kin: bool) -> Advert {
        Advert {
            txtvers: Some(1),
            first: Some(format!("user{number}")),
            node: Some(if is_kin { KIN.into() } else { format!("client{number}") }),
            ver: Some("q07IKJEyjvHSyhy//CH0CxmKi8w=".into()),
            hash: Some("sha-1".into()),
            jid: Some(format!("user{number}@example.org")),
            port: Some(5298),
            ..Advert::default()
        }
    }

    pub(crate) fn add_user(&mut self, is_kin: bool) -> usize {
        let host = self.add();
        self.announce(host, &format!("user{host}@h{host}"), Self::advert(host, is_kin));
        host
    }

    pub(crate) fn with<T>(&mut self, host: usize, act: impl FnOnce(&mut Mdns, Now) -> T) -> T {
        let result = act(&mut self.hosts[host].mdns, at(self.now));
        self.drain(host);
        result
    }

    fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].mdns.poll_output() {
            match output {
                Output::Send(transmit) => self.send(host, transmit),
                Output::Event(event) => {
                    let one = &mut self.hosts[host];
                    match &event {
                        Event::Seen(peer) if !self.keeps => {
                            let (instance, advert) = (peer.instance.clone(), Advert::default());
                            let peer = Peer { instance: instance.clone(), advert, addresses: Vec::new() };
                            one.seen.insert(instance, peer);
                        }
                        Event::Seen(peer) => {
                            one.seen.insert(peer.instance.clone(), (**peer).clone());
                        }
                        Event::Gone(instance) => {
                            one.seen.remove(instance);
                        }
                        Event::Named { .. } | Event::Picture { .. } | Event::P2p { .. } => {}
                    }
                    if self.keeps {
                        one.story.push((self.now, event));
                    }
                }
            }
        }
        self.hosts[host].due = self.hosts[host].mdns.poll_timeout().map(|(at, _)| at);
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % 100 < percent
    }

    fn send(&mut self, from: usize, transmit: Transmit) {
        let is_v6 = match transmit.to {
            Destination::MulticastV4 => false,
            Destination::MulticastV6 => true,
            Destination::Unicast(to) => to.is_ipv6(),
        };
        let size = transmit.bytes.len() as u64 + if is_v6 { 62 } else { 42 };
        let is_multicast = !matches!(transmit.to, Destination::Unicast(_));
        let count = if is_multicast { &mut self.multicast } else { &mut self.unicast };
        count.packets += 1;
        count.bytes += size;
        if let Some(tape) = &mut self.tape {
            tape.push((self.now, from, transmit.clone()));
        }
        let source = if is_v6 {
            SocketAddr::V6(SocketAddrV6::new(Self::v6(from), PORT, 0, ETH))
        } else {
            SocketAddr::new(Self::v4(from).into(), PORT)
        };
        let bytes: Rc<[u8]> = transmit.bytes.into();
        // Lost on the way out: nobody hears it, but its sender by the loopback.
        let is_lost = self.chance(self.loss);
        for to in 0..self.hosts.len() {
            let is_addressed = match transmit.to {
                Destination::MulticastV4 | Destination::MulticastV6 => true,
                Destination::Unicast(address) => {
                    address.ip() == IpAddr::from(Self::v4(to)) || address.ip() == IpAddr::from(Self::v6(to))
                }
            };
            let is_near = self.hosts[from].part == self.hosts[to].part && self.hosts[from].is_alive;
            if !is_addressed || (to != from && (is_lost || !is_near || self.chance(self.loss))) {
                continue;
            }
            self.order += 1;
            let arrival = self.now + if to == from { 0 } else { self.delay };
            self.flights.push(Reverse((arrival, self.order, to, source, is_multicast, Rc::clone(&bytes))));
        }
    }

    /// A packet that some stranger sends to everybody.
    pub(crate) fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        let bytes: Rc<[u8]> = bytes.into();
        for to in 0..self.hosts.len() {
            self.order += 1;
            self.flights.push(Reverse((self.now, self.order, to, from, true, Rc::clone(&bytes))));
        }
    }

    /// Goes on until `until`.
    pub(crate) fn run_until(&mut self, until: u64) {
        loop {
            let arrival = self.flights.peek().map(|Reverse((at, ..))| *at);
            let due = self.hosts.iter().filter(|host| host.is_alive).filter_map(|host| host.due).min();
            let Some(next) = arrival.into_iter().chain(due).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                self.deliver();
            } else {
                self.wake();
            }
        }
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, _, to, from, multicast, bytes))) = self.flights.pop() else { return };
        if self.hosts[to].is_alive {
            self.with(to, |mdns, now| mdns.datagram(ETH, from, multicast, &bytes, now));
        }
    }

    fn wake(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_alive && self.hosts[host].due.is_some_and(|due| due <= self.now) {
                self.with(host, |mdns, now| mdns.handle_timeout(now));
                let due = self.hosts[host].due;
                assert!(
                    due.is_none_or(|due| due > self.now),
                    "spins: {:?}",
                    self.hosts[host].mdns.poll_timeout()
                );
            }
        }
    }

    pub(crate) fn run_for(&mut self, millis: u64) {
        self.run_until(self.now + millis);
    }

    /// Runs until the condition holds, looking each `step`; how long it took, or `None` after `limit`.
    pub(crate) fn run_till(&mut self, step: u64, limit: u64, is_met: impl Fn(&Self) -> bool) -> Option<u64> {
        let start = self.now;
        while !is_met(self) {
            if self.now >= start + limit {
                return None;
            }
            self.run_for(step);
            self.vouch();
        }
        Some(self.now - start)
    }

    fn vouch(&mut self) {
        let name = |host: &usize| instance(&format!("user{host}@h{host}"));
        let plain: BTreeSet<Instance> = self.plain.iter().map(name).collect();
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if self.vouches && host.vouched != host.seen.len() {
                host.vouched = host.seen.len();
                let watched = |name: &&Instance| self.plain.contains(&number) || !plain.contains(*name);
                let all = host.seen.keys().filter(watched).cloned().collect();
                self.with(number, |mdns, now| mdns.set_vouched(&all, now));
            }
        }
    }

    /// Whether each living host sees all others that announce.
    pub(crate) fn all_see_all(&self) -> bool {
        self.hosts.iter().all(|host| host.seen.len() + 1 == self.hosts.len())
    }

    pub(crate) fn wire(&self) -> Count {
        Count {
            packets: self.multicast.packets + self.unicast.packets,
            bytes: self.multicast.bytes + self.unicast.bytes,
        }
    }
}

pub(crate) fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}
