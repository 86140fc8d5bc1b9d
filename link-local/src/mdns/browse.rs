//! Asking for people, and what is heard of them (RFC 6762 §5.2, §7.1, §7.3, §10, *pure*).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crosstalk_overlay::time::Now;
use hickory_proto::rr::Name;

use super::airtime::Kind;
use super::api::Event;
use super::lane::{Family, Lane, Link, Place, Schedule};
use super::names::{self, P2P, PRESENCE};
use super::own::{OTHER_TTL, is_on_link};
use super::packet::{Data, Packet, Question, Record, kind};
use super::peers::{Found, Key, Life};
use super::{MAX_ADDRESSES, MAX_INSTANCES, Mdns, Output, PORT};
use crate::instance::Instance;

/// Pauses between queries double from one second to an hour (RFC 6762 §5.2).
const LONGEST: u64 = 3_600_000;
/// libp2p nodes are asked for every ten minutes.
const P2P_PAUSE: u64 = 600_000;
/// Queries that fall due so soon share a packet.
const JOINED: u64 = 200;
/// A host that asked and is not known after so long is asked who it is.
const STRANGER: u64 = 3_000;
/// Hints of libp2p nodes passed on in a second at most, and addresses of one.
const HINTS: u32 = 32;
const HINT_ADDRESSES: usize = 16;
const HINT_BYTES: usize = 256;
/// Who claims the name of a peer that was heard within so long is not believed before that peer is checked.
const FIRM: u64 = 30_000;

impl Mdns {
    /// Asks at once, then less and less often; or no longer.
    pub(super) fn start_browsing(&mut self, place: Place, now: Now) {
        let at = now.mono + 20 + self.random(100);
        let browses = self.is_browsing;
        let has_node = self.own.p2p.is_some() && place.1 == Family::V6;
        let Some(lane) = self.lane(place) else { return };
        lane.browse = browses.then_some(Schedule { at, gap: 1_000 });
        lane.p2p_query = has_node.then_some(at);
    }

    pub(super) fn flush_queries(&mut self, place: Place, now: Now) {
        let Some(lane) = self.lane(place) else { return };
        let within = |pause: u64| {
            (
                lane.browse.is_some_and(|schedule| schedule.at <= now.mono + pause),
                lane.p2p_query.is_some_and(|at| at <= now.mono + pause),
            )
        };
        if within(0) == (false, false) || !self.may_send(place, Kind::Query, now) {
            return;
        }
        let Some(lane) = self.lane(place) else { return };
        let (people, nodes) = (
            lane.browse.is_some_and(|schedule| schedule.at <= now.mono + JOINED),
            lane.p2p_query.is_some_and(|at| at <= now.mono + JOINED),
        );
        let mut packet = Packet::query();
        if people {
            packet.questions.push(question(&PRESENCE, kind::PTR, false));
            packet.answers = self.known_answers(place.0, now);
            self.asked_for_people(place, now);
        }
        if nodes {
            packet.questions.push(question(&P2P, kind::PTR, false));
            self.asked_for_nodes(place, now);
        }
        self.multicast(place, Kind::Query, &packet, now);
    }

    /// The question was put, by us or by another host that knows no more than we do.
    fn asked_for_people(&mut self, place: Place, now: Now) {
        let random = self.random(1 << 20);
        let Some(schedule) = self.lane(place).and_then(|lane| lane.browse.as_mut()) else { return };
        schedule.at = now.mono + schedule.gap + random % (schedule.gap / 8);
        schedule.gap = (schedule.gap * 2).min(LONGEST);
    }

    fn asked_for_nodes(&mut self, place: Place, now: Now) {
        let at = now.mono + P2P_PAUSE + self.random(P2P_PAUSE / 10);
        let Some(lane) = self.lane(place) else { return };
        lane.p2p_query = lane.p2p_query.map(|_| at);
    }

    /// PTR records with more than half of their life left.
    fn known_answers(&self, index: u32, now: Now) -> Vec<Record> {
        let mut known = Vec::new();
        for ((_, name), found) in
            self.peers.all.range((index, Name::default())..).take_while(|(key, _)| key.0 == index)
        {
            let age = u32::try_from(now.mono.saturating_sub(found.confirmed) / 1_000).unwrap_or(u32::MAX);
            let ttl = OTHER_TTL.saturating_sub(age);
            if found.is_shown() && ttl > OTHER_TTL / 2 {
                known.push(Record {
                    name: PRESENCE.clone(),
                    flush: false,
                    ttl,
                    data: Data::Ptr(name.clone()),
                });
            }
        }
        known
    }

    /// Another host asks what we might ask (RFC 6762 §7.3), or is somebody that we have not heard of.
    pub(super) fn heard_browsing(&mut self, place: Place, from: SocketAddr, packet: &Packet, now: Now) {
        let asks = |name: &Name| {
            packet
                .questions
                .iter()
                .any(|asked| asked.name == *name && asked.kind == kind::PTR && !asked.unicast)
        };
        if asks(&P2P) && self.lane(place).and_then(|lane| lane.p2p_query).is_some_and(|at| at > now.mono) {
            self.asked_for_nodes(place, now);
        }
        if !asks(&PRESENCE) || !self.is_browsing {
            return;
        }
        let is_known = self.peers.knows(place.0, from.ip()) || self.is_own_address(from.ip());
        if let Some(link) = self.links.get_mut(&place.0).filter(|_| !is_known) {
            link.notice(from.ip(), now.mono + STRANGER, now.mono);
        }
        let schedule = self.lane(place).and_then(|lane| lane.browse);
        let is_near =
            schedule.is_some_and(|schedule| schedule.at <= now.mono + (schedule.gap / 2).max(1_000));
        if is_near && self.knows_all(place.0, packet) {
            self.asked_for_people(place, now);
        }
    }

    fn knows_all(&self, index: u32, packet: &Packet) -> bool {
        packet.answers.iter().all(|record| match &record.data {
            Data::Ptr(name) if record.name == *PRESENCE => {
                let found = self.peers.all.get(&(index, name.clone()));
                found.is_some_and(Found::is_shown) || self.own.service_named(name).is_some()
            }
            Data::Ptr(_) | Data::A(_) | Data::Aaaa(_) | Data::Srv { .. } => true,
            Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => true,
        })
    }

    pub(super) fn stranger_due(&self, link: &Link) -> Option<u64> {
        let open = link.strangers.iter().filter(|(_, stranger)| !stranger.is_asked);
        open.map(|(ip, stranger)| {
            let ready =
                link.lanes.get(&Family::of(*ip)).map_or(0, |lane| lane.budget.ready_at(Kind::Liveness));
            stranger.at.max(ready)
        })
        .min()
    }

    /// Asks hosts that look for people and have not been heard of: their announcement may have been lost.
    pub(super) fn ask_strangers(&mut self, index: u32, now: Now) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let mut due = Vec::new();
        for (ip, stranger) in &mut link.strangers {
            let lane: Option<&Lane> = link.lanes.get(&Family::of(*ip));
            let is_ready = lane.is_none_or(|lane| lane.budget.ready_at(Kind::Liveness) <= now.mono);
            if !stranger.is_asked && stranger.at <= now.mono && is_ready {
                stranger.is_asked = true;
                due.push(*ip);
            }
        }
        for ip in due.into_iter().filter(|ip| !self.peers.knows(index, *ip)).collect::<Vec<_>>() {
            let packet = Packet { questions: vec![question(&PRESENCE, kind::PTR, true)], ..Packet::query() };
            self.unicast((index, Family::of(ip)), SocketAddr::new(ip, PORT), Kind::Query, &packet, true, now);
        }
    }

    /// Takes in what a response says of people.
    pub(super) fn heard_records(
        &mut self,
        index: u32,
        from: IpAddr,
        direct: bool,
        packet: &Packet,
        now: Now,
    ) {
        let mut touched = BTreeSet::new();
        for record in packet.records() {
            let key = match &record.data {
                Data::Ptr(target) if record.name == *PRESENCE => (index, target.clone()),
                Data::Srv { .. } => (index, record.name.clone()),
                Data::Ptr(_) | Data::A(_) | Data::Aaaa(_) | Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => {
                    continue;
                }
            };
            let Some(instance) = names::instance(&key.1) else { continue };
            if self.own.service_named(&key.1).is_some() {
                continue;
            }
            if self.heard_of(&key, instance, record, from, now) {
                touched.insert(key);
            }
        }
        for record in packet.records() {
            self.heard_contents(index, record, from, now);
        }
        self.heard_addresses(index, from, packet, now);
        for key in touched {
            self.confirmed(&key, from, direct, now);
        }
        self.settle(now);
    }

    /// A PTR or SRV record. True: it says that the instance is there.
    fn heard_of(&mut self, key: &Key, instance: Instance, record: &Record, from: IpAddr, now: Now) -> bool {
        if record.ttl == 0 {
            self.goodbye(key, from, now);
            return false;
        }
        if !self.peers.all.contains_key(key) {
            if !self.peers.make_room(key.0, from) {
                self.airtime.flooded += 1;
                return false;
            }
            let life = Life::Resolving { tries: 0, at: now.mono + 50 };
            let (confirmed, sources) = (now.mono, BTreeSet::from([from]));
            self.peers.insert(key.clone(), Found { sources, confirmed, ..Found::new(instance, life) });
            self.peers.learn_address(key.0, from, now.mono);
        }
        match &record.data {
            Data::Srv { port, target } => {
                let is_there = self.heard_server(key, target, *port, from, now);
                if let Some(found) = self.peers.all.get_mut(key).filter(|_| is_there) {
                    found.expires = now.mono + u64::from(record.ttl) * 1_000;
                }
                is_there
            }
            Data::Ptr(_) => {
                // Whoever knows the name may say it; it proves nothing of the one who has it.
                self.peers.all.get(key).is_some_and(|found| found.server.is_none())
            }
            Data::A(_) | Data::Aaaa(_) | Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => false,
        }
    }

    fn heard_server(&mut self, key: &Key, target: &Name, port: u16, from: IpAddr, now: Now) -> bool {
        let Some(found) = self.peers.all.get(key) else { return false };
        let new = (target.clone(), port);
        if found.server.as_ref() == Some(&new) {
            self.peers.add_source(key, from, now.mono);
            return true;
        }
        if self.is_contested(key, from, now) {
            self.airtime.contested += 1;
            self.suspect_key(key, now);
            return false;
        }
        let Some(found) = self.peers.all.get_mut(key) else { return false };
        let old = found.server.replace(new);
        if old.as_ref().is_some_and(|(host, _)| host != target) {
            // Another host has the name now.
            found.sources = BTreeSet::from([from]);
            found.answered = None;
            self.peers.late.remove(key);
            self.peers.vouched.remove(&key.1);
        }
        if let Some((host, _)) = old.filter(|(host, _)| host != target) {
            self.peers.release_host(&(key.0, host), &key.1);
        }
        self.peers.bind_host((key.0, target.clone()), &key.1);
        self.peers.add_source(key, from, now.mono);
        self.peers.mark(&key.1);
        true
    }

    /// Whether somebody else than the host that has this name, and was heard lately, speaks for it.
    fn is_contested(&self, key: &Key, from: IpAddr, now: Now) -> bool {
        let Some(found) = self.peers.all.get(key) else { return false };
        let is_firm = found.server.is_some()
            && !matches!(found.life, Life::Gone { .. } | Life::Leaving { .. })
            && self.peers.sign_of_life(key) + FIRM > now.mono;
        is_firm && !self.peers.candidates(key).contains(&from)
    }

    fn goodbye(&mut self, key: &Key, from: IpAddr, now: Now) {
        let is_own = self.peers.candidates(key).contains(&from);
        let Some(found) = self.peers.all.get(key) else { return };
        match found.life {
            Life::Leaving { .. } => {}
            Life::Gone { .. } if is_own => self.peers.remove(key),
            _ if is_own => self.peers.set_life(key, Life::Leaving { at: now.mono + 1_000 }),
            _ => self.suspect_key(key, now),
        }
    }

    /// TXT and NULL records.
    fn heard_contents(&mut self, index: u32, record: &Record, from: IpAddr, now: Now) {
        let key = (index, record.name.clone());
        if record.ttl == 0 || !self.peers.all.contains_key(&key) {
            return;
        }
        match &record.data {
            Data::Txt(_) if self.is_contested(&key, from, now) => self.airtime.contested += 1,
            Data::Txt(text) => self.peers.heard_text(&key, text, now.mono),
            Data::Null(bytes) => self.heard_picture(&key, bytes),
            Data::A(_) | Data::Aaaa(_) | Data::Ptr(_) | Data::Srv { .. } | Data::Nsec(_) => {}
        }
    }

    /// A and AAAA records of the hosts that somebody's SRV record names.
    fn heard_addresses(&mut self, index: u32, from: IpAddr, packet: &Packet, now: Now) {
        let Some(interface) = self.links.get(&index).map(|link| link.interface.clone()) else { return };
        let mut sets: BTreeMap<(Name, Family), (BTreeSet<IpAddr>, bool)> = BTreeMap::new();
        for record in packet.records().filter(|record| record.ttl > 0) {
            let ip: IpAddr = match record.data {
                Data::A(ip) => ip.into(),
                Data::Aaaa(ip) => ip.into(),
                Data::Ptr(_) | Data::Srv { .. } | Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => continue,
            };
            if self.peers.addresses_of(&(index, record.name.clone())).is_none() || !is_on_link(ip, &interface)
            {
                continue;
            }
            let (set, flush) = sets.entry((record.name.clone(), Family::of(ip))).or_default();
            set.insert(ip);
            *flush |= record.flush;
        }
        for ((host, family), (new, flush)) in sets {
            self.set_addresses(&(index, host), family, new, flush, from, now);
        }
    }

    fn set_addresses(
        &mut self,
        host: &Key,
        family: Family,
        new: BTreeSet<IpAddr>,
        flush: bool,
        from: IpAddr,
        now: Now,
    ) {
        let instances = self.peers.of_host(host);
        let Some(old) = self.peers.addresses_of(host) else { return };
        let is_known =
            old.is_empty() || instances.iter().any(|key| self.peers.candidates(key).contains(&from));
        let mut all: BTreeSet<IpAddr> =
            old.iter().filter(|ip| !flush || Family::of(**ip) != family).copied().collect();
        all.extend(new.into_iter().take(MAX_ADDRESSES / 2));
        if !is_known || all == *old || all.len() > MAX_ADDRESSES {
            return;
        }
        for ip in &all {
            self.peers.learn_address(host.0, *ip, now.mono);
        }
        self.peers.set_addresses(host, all);
        instances.iter().for_each(|key| self.peers.mark(&key.1));
    }

    /// Hints of libp2p nodes.
    pub(super) fn heard_p2p(&mut self, index: u32, from: SocketAddr, packet: &Packet, now: Now) {
        let Some(interface) = self.links.get(&index).map(|link| link.interface.name.clone()) else { return };
        let own = self.own.p2p.as_ref().map(|(name, _)| name);
        let is_node = |record: &&Record| record.name == *P2P && record.ttl > 0;
        let nodes: Vec<&Name> = packet
            .answers
            .iter()
            .filter(is_node)
            .filter_map(|record| match &record.data {
                Data::Ptr(name) if Some(name) != own => Some(name),
                Data::Ptr(_) | Data::A(_) | Data::Aaaa(_) | Data::Srv { .. } => None,
                Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => None,
            })
            .collect();
        let texts =
            packet.records().filter(|record| nodes.contains(&&record.name)).filter_map(
                |record| match &record.data {
                    Data::Txt(text) => Some(dnsaddrs(text)),
                    Data::Ptr(_) | Data::A(_) | Data::Aaaa(_) | Data::Srv { .. } => None,
                    Data::Null(_) | Data::Nsec(_) => None,
                },
            );
        let dnsaddrs: Vec<String> = texts.flatten().take(HINT_ADDRESSES).collect();
        if dnsaddrs.is_empty() {
            return;
        }
        let second = now.mono / 1_000;
        let (last, count) = self.peers.hints;
        self.peers.hints = (second, if last == second { count + 1 } else { 1 });
        if self.peers.hints.1 > HINTS {
            self.airtime.flooded += 1;
            return;
        }
        self.outputs.push_back(Output::Event(Event::P2p { dnsaddrs, interface, from: from.ip() }));
    }

    /// The instances over whose hosts another layer keeps watch, all of them; until told otherwise there are no direct
    /// queries to them. Those that are no longer among them are asked at once. At most [`super::MAX_INSTANCES`] count.
    pub fn set_vouched(&mut self, instances: &BTreeSet<Instance>, now: Now) {
        let new: BTreeSet<Name> = instances.iter().take(MAX_INSTANCES).map(names::of_instance).collect();
        let old = std::mem::replace(&mut self.peers.vouched, new);
        let changed: Vec<Name> = old.symmetric_difference(&self.peers.vouched).cloned().collect();
        for (index, name) in
            self.indices().into_iter().flat_map(|index| changed.iter().map(move |n| (index, n)))
        {
            let key = (index, name.clone());
            let Some(life) = self.peers.all.get(&key).map(|found| found.life) else { continue };
            match life {
                Life::Checking { .. } | Life::Present { .. } => {
                    let at = now.mono + self.random(500);
                    let is_vouched = self.peers.is_vouched(&key);
                    let checking = Life::Checking { tries: 0, since: now.mono, at };
                    self.peers.set_life(&key, if is_vouched { Life::Present { at } } else { checking });
                }
                Life::Gone { .. } => self.suspect_key(&key, now),
                Life::Resolving { .. } | Life::Leaving { .. } => {}
            }
        }
    }

    pub(super) fn keys_of(&self, instance: &Instance) -> Vec<Key> {
        let name = names::of_instance(instance);
        let keys = self.links.keys().map(|index| (*index, name.clone()));
        keys.filter(|key| self.peers.all.contains_key(key)).collect()
    }

    pub(super) fn forget_peers_on(&mut self, index: u32) {
        self.peers.forget_interface(index);
    }

    /// Tells what has changed.
    pub(super) fn report(&mut self, _now: Now) {
        let interfaces = self.indices();
        for news in self.peers.news(&interfaces) {
            let event = match news {
                Ok(peer) => Event::Seen(Box::new(peer)),
                Err(instance) => Event::Gone(instance),
            };
            self.outputs.push_back(Output::Event(event));
        }
    }
}

pub(super) fn question(name: &Name, kind: u16, unicast: bool) -> Question {
    Question { name: name.clone(), kind, unicast }
}

/// The addresses in a TXT record of libp2p.
fn dnsaddrs(text: &[u8]) -> Vec<String> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let Some((string, after)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = after;
        let address = string.strip_prefix(b"dnsaddr=").and_then(|bytes| std::str::from_utf8(bytes).ok());
        found.extend(address.filter(|address| address.len() <= HINT_BYTES).map(str::to_owned));
    }
    found
}
