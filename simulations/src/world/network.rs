//! The network between hosts, as a swarm shows it: multicast DNS, one link for each peer, frames in order while it
//! lasts; cables that are cut, with what was under way lost or late. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk::core::Input;
use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::wire::{self, Frame};

use super::World;
use super::events::{Event, HostId, Life, Parcel, PipeId};
use super::host::Power;
use super::radio::{OVERHEAD, Radio, Traffic};
use super::sabotage::Sabotage;

/// How often the link is asked who is there, milliseconds; as in the swarm.
const QUERY_INTERVAL: u64 = 60_000;
/// When the link is asked after a cable came back, milliseconds; as in the swarm.
const RETRIES: [u64; 3] = [0, 1_000, 3_000];
/// Two dials in opposite directions within this time met each other; as in the swarm.
const DOUBLE_DIAL: u64 = 4_000;
/// Bytes of an announcement by multicast DNS, about.
const DISCOVERY: usize = 400;

/// All that lies between hosts.
pub(crate) struct Network {
    pipes: BTreeMap<PipeId, Pipe>,
    next: u64,
    cut: BTreeSet<(HostId, HostId)>,
    /// Pairs that are in different places, or out of each other's range.
    pub(super) far: BTreeSet<(HostId, HostId)>,
    /// Who is heard by whom all the same, though no answer comes back: the first has the stronger radio.
    pub(super) one_way: BTreeSet<(HostId, HostId)>,
    /// What one host can know of another: how old the newest news are, virtual milliseconds; `None` while there is a way.
    known: BTreeMap<(HostId, HostId), Option<u64>>,
    /// The parts of it when that was noted.
    parts: Vec<Option<usize>>,
    /// Milliseconds that a frame takes, from and to.
    pub(crate) delay: (u64, u64),
    /// What the air does to it, where the link is a radio channel.
    pub(crate) radio: Option<Radio>,
    /// What went over it.
    pub(crate) traffic: Traffic,
    /// Envelopes and receipts come late, twice or never, which no stream does.
    pub(crate) datagrams: bool,
    /// Frames seen, if there is an attacker.
    pub(super) tapped: Option<VecDeque<Vec<u8>>>,
}

/// A connection between two hosts; end 0 dialled.
struct Pipe {
    ends: [HostId; 2],
    /// When the last parcel arrives at each end.
    last: [u64; 2],
    /// What waits for the cable, for each end.
    waiting: [VecDeque<Parcel>; 2],
    /// Nothing comes through any more.
    broken: bool,
}

/// A host's end of its link with a peer.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) pipe: PipeId,
    /// 0 or 1.
    pub(crate) end: usize,
    since: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pipes: BTreeMap::new(),
            next: 0,
            cut: BTreeSet::new(),
            far: BTreeSet::new(),
            one_way: BTreeSet::new(),
            known: BTreeMap::new(),
            parts: Vec::new(),
            delay: (1, 5),
            radio: None,
            traffic: Traffic::default(),
            datagrams: false,
            tapped: None,
        }
    }
}

impl Network {
    /// Whether nothing gets from one to the other.
    pub(super) fn is_cut(&self, a: HostId, b: HostId) -> bool {
        let pair = (a.min(b), a.max(b));
        self.cut.contains(&pair) || self.far.contains(&pair)
    }

    /// From when the newest news are that one host can have of another, which is out of its reach.
    pub(crate) fn news_from(&self, at: HostId, of: HostId) -> Option<u64> {
        self.known.get(&(at, of)).copied().flatten()
    }

    /// Whether everybody is in reach of everybody.
    pub(crate) fn all_in_reach(&self) -> bool {
        self.known.values().all(Option::is_none)
    }
}

impl World {
    fn delay(&mut self) -> u64 {
        let (low, high) = self.network.delay;
        self.dice.between(low, high)
    }

    fn host_of(&self, node: &NodeId) -> Option<HostId> {
        self.hosts.iter().position(|host| host.node == *node).map(HostId)
    }

    /// The host at an end of a pipe, and its node.
    pub(super) fn node_at(&self, pipe: PipeId, end: usize) -> Option<(HostId, NodeId)> {
        let host = self.network.pipes.get(&pipe)?.ends[end];
        Some((host, self.hosts[host.0].node))
    }

    /// After a host or a cable changed: what each host can know of the others. Whoever hears somebody who hears a third is told
    /// of the third too; and whoever comes from there brings the news, as old as they are then.
    pub(crate) fn note_apart(&mut self) {
        let parts = self.parts();
        self.note_met(&parts);
        if parts == self.network.parts {
            return;
        }
        if let Some(meter) = &mut self.meter {
            meter.ways(&parts, self.time);
        }
        let (hosts, time) = (0..parts.len(), self.time);
        let known = &mut self.network.known;
        for (a, b) in hosts.clone().flat_map(|a| hosts.clone().map(move |b| (HostId(a), HostId(b)))) {
            let together = parts[a.0].is_some() && parts[a.0] == parts[b.0];
            match known.get(&(a, b)) {
                _ if together => drop(known.insert((a, b), None)),
                None => drop(known.insert((a, b), Some(0))),
                Some(None) => drop(known.insert((a, b), Some(time))),
                Some(Some(_)) => {}
            }
        }
        let mut groups: BTreeMap<usize, Vec<HostId>> = BTreeMap::new();
        for (host, part) in hosts.clone().filter_map(|host| Some((HostId(host), parts[host]?))) {
            groups.entry(part).or_default().push(host);
        }
        for group in groups.values().filter(|group| group.len() > 1) {
            for b in hosts.clone().map(HostId) {
                let newest = group.iter().filter_map(|a| known.get(&(*a, b)).copied().flatten()).max();
                for a in group {
                    if let (Some(Some(own)), Some(newest)) = (known.get_mut(&(*a, b)), newest) {
                        *own = newest;
                    }
                }
            }
        }
        self.network.parts = parts;
    }

    /// Which part of the network each host is in, if it runs.
    fn parts(&self) -> Vec<Option<usize>> {
        let mut parts = vec![None; self.hosts.len()];
        let on = |host: usize| self.hosts[host].power == Power::On;
        for first in 0..parts.len() {
            let mut left = if parts[first].is_none() && on(first) { vec![first] } else { Vec::new() };
            while let Some(host) = left.pop() {
                parts[host] = Some(first);
                let near = |other: &usize| parts[*other].is_none() && on(*other);
                let near = (0..parts.len()).filter(near);
                left.extend(near.filter(|other| !self.network.is_cut(HostId(host), HostId(*other))));
            }
        }
        parts
    }

    /// Asks the link who is there: both sides learn of each other.
    pub(crate) fn query(&mut self, life: Life, again: bool) {
        let host = life.host;
        if again {
            self.queue.push(self.time + QUERY_INTERVAL, Event::Query(life, true));
        }
        self.meter_discovery(host, DISCOVERY, OVERHEAD);
        for other in (0..self.hosts.len()).map(HostId) {
            if other == host || self.hosts[other.0].power != Power::On {
                continue;
            }
            for (by, whom) in [(host, other), (other, host)] {
                let hears = !self.network.is_cut(whom, by) || self.network.one_way.contains(&(whom, by));
                if hears && !self.is_lost_in_the_air(whom, by, DISCOVERY, None) {
                    self.sighted(by, whom);
                }
            }
        }
    }

    fn sighted(&mut self, by: HostId, whom: HostId) {
        let node = self.hosts[whom.0].node;
        let addresses = vec![address(whom)];
        self.peer_event(by, PeerEvent::Discovered { node, addresses });
    }

    /// What a host learnt of another has run out.
    pub(crate) fn forget(&mut self, at: HostId, whom: HostId) {
        if self.hosts[at.0].power == Power::On {
            let node = self.hosts[whom.0].node;
            self.peer_event(at, PeerEvent::Expired { node, addresses: vec![address(whom)] });
        }
    }

    /// A host has come to the link: it asks from now on.
    pub(crate) fn join_the_link(&mut self, host: HostId) {
        let soon = self.time + self.dice.between(5, 200);
        self.queue.push(soon, Event::Query(self.life(host), true));
    }

    pub(crate) fn dial(&mut self, host: HostId, node: NodeId) {
        let when = self.time + 1 + self.delay() + self.delay();
        self.queue.push(when, Event::Dialled(self.life(host), node));
    }

    pub(crate) fn dialled(&mut self, host: HostId, node: NodeId) {
        let Some(other) = self.host_of(&node) else { return };
        let answers = self.hosts[other.0].power == Power::On && !self.network.is_cut(host, other);
        if self.hosts[host.0].links.contains_key(&node) || !answers {
            return;
        }
        let pipe = PipeId(self.network.next);
        self.network.next += 1;
        let made =
            Pipe { ends: [host, other], last: [self.time; 2], waiting: Default::default(), broken: false };
        self.network.pipes.insert(pipe, made);
        self.established(pipe, 0);
        self.ship(pipe, 1, Parcel::Opened);
    }

    fn established(&mut self, pipe: PipeId, end: usize) {
        let (Some((host, own)), Some((other, node))) = (self.node_at(pipe, end), self.node_at(pipe, 1 - end))
        else {
            return;
        };
        if let Some(old) = self.hosts[host.0].links.get(&node).copied() {
            let met = old.end != end && self.time - old.since < DOUBLE_DIAL;
            let by_smaller = (old.end == 1) != (own < node);
            if met && by_smaller {
                return self.ship(pipe, 1 - end, Parcel::Closed);
            }
            self.hosts[host.0].links.remove(&node);
            self.ship(old.pipe, 1 - old.end, Parcel::Closed);
            self.peer_event(host, PeerEvent::Disconnected { node });
        }
        self.hosts[host.0].links.insert(node, End { pipe, end, since: self.time });
        let (here, there) = (self.hosts[host.0].name, self.hosts[other.0].name);
        self.story.tell(self.time, || format!("{here} is linked with {there}"));
        let inbound = end == 1;
        self.peer_event(host, PeerEvent::Connected { node, address: address(other), inbound, near: true });
    }

    /// Sends a frame on the link with a peer, if there is one.
    pub(crate) fn send_frame(&mut self, host: HostId, node: NodeId, frame: Vec<u8>) {
        let Some(link) = self.hosts[host.0].links.get(&node).copied() else { return };
        let durable = || matches!(wire::decode(&frame), Ok(Frame::Envelope(_) | Frame::Receipt(_)));
        if self.sabotage == Some(Sabotage::DoubleFrame) && durable() {
            self.ship(link.pipe, 1 - link.end, Parcel::Frame(frame.clone()));
        }
        if self.network.datagrams && durable() {
            return self.ship_datagram(link.pipe, 1 - link.end, frame);
        }
        self.ship(link.pipe, 1 - link.end, Parcel::Frame(frame));
    }

    fn ship_datagram(&mut self, pipe: PipeId, end: usize, frame: Vec<u8>) {
        let copies = [(80, 1), (90, 2), (100, 0)];
        let fate = self.dice.below(100);
        let count = copies.iter().find(|(below, _)| fate < *below).map_or(1, |(_, count)| *count);
        for _ in 0..count {
            let late = self.time + self.delay() + self.dice.below(3_000);
            self.queue.push(late, Event::Parcel(pipe, end, Parcel::Frame(frame.clone())));
        }
    }

    pub(crate) fn ship(&mut self, pipe: PipeId, end: usize, parcel: Parcel) {
        let when = self.time + self.delay() + self.on_the_air(pipe, end, &parcel);
        let Some(pipe_) = self.network.pipes.get_mut(&pipe).filter(|pipe| !pipe.broken) else { return };
        let when = when.max(pipe_.last[end]);
        pipe_.last[end] = when;
        self.queue.push(when, Event::Parcel(pipe, end, parcel));
    }

    /// A host takes datagrams from now on.
    pub(crate) fn open_port(&mut self, host: HostId) {
        self.peer_event(host, PeerEvent::ProbePort(Some(port(host))));
    }

    /// A datagram leaves: one in ten is lost, one in ten comes twice, each at its own time.
    pub(crate) fn send_datagram(&mut self, from: HostId, to: &str, at: u16, bytes: Vec<u8>) {
        let there = |host: &HostId| address(*host) == to && port(*host) == at;
        let Some(to) = (0..self.hosts.len()).map(HostId).find(there) else { return };
        let copies = match self.dice.below(10) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            if self.is_lost_in_the_air(from, to, bytes.len(), Some("probes")) {
                continue;
            }
            let when = self.time + self.delay();
            self.queue.push(when, Event::Datagram(from, to, bytes.clone()));
        }
    }

    pub(crate) fn datagram_arrived(&mut self, from: HostId, to: HostId, bytes: Vec<u8>) {
        if self.hosts[to.0].power == Power::On && !self.network.is_cut(from, to) {
            self.peer_event(to, PeerEvent::Datagram(bytes));
        }
    }

    pub(crate) fn arrived(&mut self, pipe: PipeId, end: usize, parcel: Parcel) {
        let Some(known) = self.network.pipes.get(&pipe).filter(|pipe| !pipe.broken) else { return };
        let cut = self.network.is_cut(known.ends[0], known.ends[1]);
        let asleep = self.hosts[known.ends[end].0].power == Power::Asleep;
        if cut || asleep || !known.waiting[end].is_empty() {
            if let Some(known) = self.network.pipes.get_mut(&pipe) {
                known.waiting[end].push_back(parcel);
            }
            return;
        }
        self.take_in(pipe, end, parcel);
    }

    fn take_in(&mut self, pipe: PipeId, end: usize, parcel: Parcel) {
        let Some([host, peer]) =
            self.network.pipes.get(&pipe).map(|known| [known.ends[end], known.ends[1 - end]])
        else {
            return;
        };
        let node = self.hosts[peer.0].node;
        match self.hosts[host.0].power {
            Power::On => {}
            // The machine answers for the dead process.
            Power::Killed => return self.ship(pipe, 1 - end, Parcel::Closed),
            Power::Off | Power::Asleep => return,
        }
        let linked = self.hosts[host.0].links.get(&node).is_some_and(|link| link.pipe == pipe);
        match parcel {
            Parcel::Opened => self.established(pipe, end),
            Parcel::Frame(frame) if linked => {
                self.tap(&frame);
                self.peer_event(host, PeerEvent::Frame { node, frame });
            }
            Parcel::News(news) if linked => self.news_arrived(host, node, news),
            Parcel::Frame(_) | Parcel::News(_) => self.ship(pipe, 1 - end, Parcel::Closed),
            Parcel::Closed => self.pipe_ended(pipe, end),
        }
    }

    /// An end notices that its pipe is gone.
    pub(crate) fn pipe_ended(&mut self, pipe: PipeId, end: usize) {
        let (Some((host, _)), Some((_, node))) = (self.node_at(pipe, end), self.node_at(pipe, 1 - end))
        else {
            return;
        };
        if self.hosts[host.0].links.get(&node).is_some_and(|link| link.pipe == pipe) {
            self.hosts[host.0].links.remove(&node);
            self.peer_event(host, PeerEvent::Disconnected { node });
        }
    }

    /// A core closes its link with a peer: the swarm tells it so, then the far end.
    pub(crate) fn close_peer(&mut self, host: HostId, node: NodeId) {
        let Some(link) = self.hosts[host.0].links.remove(&node) else { return };
        self.hosts[host.0].afterwards.push(Input::Peer(PeerEvent::Disconnected { node }));
        self.ship(link.pipe, 1 - link.end, Parcel::Closed);
    }

    /// What waited for the cable comes through.
    pub(crate) fn resume_pipe(&mut self, pipe: PipeId, end: usize) {
        let Some(known) = self.network.pipes.get(&pipe).filter(|pipe| !pipe.broken) else { return };
        let ends = known.ends;
        if self.network.is_cut(ends[0], ends[1]) || self.hosts[ends[end].0].power == Power::Asleep {
            return;
        }
        let Some(known) = self.network.pipes.get_mut(&pipe) else { return };
        for parcel in std::mem::take(&mut known.waiting[end]) {
            self.take_in(pipe, end, parcel);
        }
    }

    /// Cuts the cable between two hosts. `lossy`: no connection survives it, and each end notices some time.
    pub(crate) fn cut(&mut self, a: HostId, b: HostId, lossy: bool) {
        self.network.cut.insert((a.min(b), a.max(b)));
        if lossy {
            self.disconnect(a, b);
        }
        self.note_apart();
    }

    /// No connection between two hosts survives; each end notices some time.
    pub(super) fn disconnect(&mut self, a: HostId, b: HostId) {
        for pipe in self.pipes_between(a, b) {
            self.break_pipe(pipe, [20_000, 20_000]);
        }
    }

    /// Breaks a pipe; each end notices within its time.
    pub(crate) fn break_pipe(&mut self, pipe: PipeId, within: [u64; 2]) {
        let Some(known) = self.network.pipes.get_mut(&pipe) else { return };
        known.broken = true;
        known.waiting = Default::default();
        for (end, within) in within.into_iter().enumerate() {
            let when = self.time + self.dice.below(within);
            self.queue.push(when, Event::Broken(pipe, end));
        }
    }

    fn pipes_between(&self, a: HostId, b: HostId) -> Vec<PipeId> {
        let between = |pipe: &Pipe| pipe.ends == [a, b] || pipe.ends == [b, a];
        self.network.pipes.iter().filter(|(_, pipe)| between(pipe)).map(|(id, _)| *id).collect()
    }

    /// The pipes that a host's links use.
    pub(crate) fn pipes_of(&self, host: HostId) -> Vec<(PipeId, usize)> {
        self.hosts[host.0].links.values().map(|link| (link.pipe, link.end)).collect()
    }

    /// Joins the cable again. `noticed`: the hosts see the carrier come back and ask the link at once.
    pub(crate) fn mend(&mut self, a: HostId, b: HostId, noticed: bool) {
        if self.network.cut.remove(&(a.min(b), a.max(b))) {
            self.reconnect(a, b, noticed);
        }
    }

    /// What waited between two hosts comes through again. `noticed`: the first asks the link at once.
    pub(super) fn reconnect(&mut self, a: HostId, b: HostId, noticed: bool) {
        for pipe in self.pipes_between(a, b) {
            for end in 0..2 {
                let when = self.time + self.delay();
                self.queue.push(when, Event::Resume(pipe, end));
            }
        }
        if noticed {
            for after in RETRIES {
                self.queue
                    .push(self.time + after + self.dice.between(5, 200), Event::Query(self.life(a), false));
            }
        }
        self.note_apart();
    }

    /// Joins all cables.
    pub(crate) fn mend_all(&mut self) {
        for (a, b) in self.network.cut.clone() {
            self.mend(a, b, true);
        }
    }

    /// Forgets pipes that nobody holds an end of.
    pub(crate) fn sweep_pipes(&mut self) {
        let (hosts, time) = (&self.hosts, self.time);
        let young = |pipe: &Pipe| pipe.last[0].max(pipe.last[1]) + 60_000 > time;
        let holds = |id: &PipeId, at: HostId, peer: HostId| {
            hosts[at.0].links.get(&hosts[peer.0].node).is_some_and(|link| link.pipe == *id)
        };
        self.network.pipes.retain(|id, pipe| {
            let [a, b] = pipe.ends;
            young(pipe) || holds(id, a, b) || holds(id, b, a)
        });
    }

    /// Tells whatever runs on a host what its swarm saw.
    pub(crate) fn peer_event(&mut self, host: HostId, event: PeerEvent) {
        if self.hosts[host.0].attacker.is_some() {
            return self.attacker_hears(host, &event);
        }
        self.tell(host, Input::Peer(event));
    }
}

fn address(host: HostId) -> String {
    format!("/ip4/169.254.0.{}/tcp/14774", host.0 + 1)
}

/// Where a host takes datagrams: each on a port of its own.
fn port(host: HostId) -> u16 {
    14_775 + u16::try_from(host.0).unwrap_or(0)
}
