//! What is due on one interface, and on each of its address families (*pure*).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::api::{Interface, ServiceId};
use super::budget::Budget;
use super::liveness::Loss;
use super::own::{Set, Unique};
use super::packet::{Packet, Question, Record};
use super::responder::CHANGES;

/// Most hosts whose answers wait; more are not answered, and counted.
const MAX_REPLIES: usize = 64;
/// Most queries whose known answers are still coming; more are answered at once.
const MAX_PARTIAL: usize = 16;
/// Questions and records gathered for one query; with more it is answered at once.
const MAX_GATHERED: usize = 1_024;
/// Most farewells that wait: two of each service.
const MAX_FAREWELLS: usize = 2 * super::MAX_SERVICES;
/// Most hosts that ask and are not known.
const MAX_STRANGERS: usize = 32;

/// An address family: each is asked and answered by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Interface and family.
pub(super) type Place = (u32, Family);

/// How far a name of ours has come on an interface (RFC 6762 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many probes were sent; the next one is due.
    Probing { sent: u8, at: u64 },
    /// The name is ours.
    Ready,
}

/// A record set that is to be announced so many times more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) left: u8,
    pub(super) at: u64,
    /// Until the one after that; doubles.
    pub(super) gap: u64,
}

/// A TXT record as it was multicast.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) text: Vec<u8>,
    /// When for the first time.
    pub(super) since: u64,
}

/// Records that are withdrawn.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) records: Vec<Record>,
    pub(super) left: u8,
    pub(super) at: u64,
}

/// An answer to one host.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) sets: BTreeSet<Set>,
    /// Asked from another port than 5353 (RFC 6762 §6.7): what to repeat.
    pub(super) legacy: Option<(u16, Vec<Question>)>,
    pub(super) at: u64,
}

/// A query whose known answers go on in the next packet (RFC 6762 §7.2).
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) packet: Packet,
    pub(super) at: u64,
}

/// When to ask next, and how long to wait after that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) at: u64,
    pub(super) gap: u64,
}

/// A host that asked for people and has not said who it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stranger {
    /// When to ask it.
    pub(super) at: u64,
    pub(super) is_asked: bool,
}

/// One family of one interface.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) budget: Budget,
    pub(super) repeats: BTreeMap<Set, Repeat>,
    /// Multicast answers, and when they are due.
    pub(super) answers: BTreeMap<Set, u64>,
    /// When each set was last multicast.
    pub(super) sent: BTreeMap<Set, u64>,
    /// The TXT record that was last multicast for each service.
    pub(super) texts: BTreeMap<ServiceId, Told>,
    pub(super) replies: BTreeMap<SocketAddr, Reply>,
    pub(super) partial: BTreeMap<SocketAddr, Partial>,
    pub(super) farewells: Vec<Farewell>,
    pub(super) browse: Option<Schedule>,
    pub(super) p2p_query: Option<u64>,
}

impl Lane {
    pub(super) fn new(mono: u64) -> Self {
        Self {
            budget: Budget::new(mono),
            repeats: BTreeMap::new(),
            answers: BTreeMap::new(),
            sent: BTreeMap::new(),
            texts: BTreeMap::new(),
            replies: BTreeMap::new(),
            partial: BTreeMap::new(),
            farewells: Vec::new(),
            browse: None,
            p2p_query: None,
        }
    }

    /// Announces these sets twice from `at` on, a second apart, none within a second after it was last multicast.
    pub(super) fn announce(&mut self, sets: &[Set], at: u64) {
        for set in sets {
            let earliest = self.sent.get(set).map_or(0, |sent| sent + 1_000);
            self.repeats.insert(*set, Repeat { left: 2, at: at.max(earliest), gap: 1_000 });
        }
    }

    /// Announces sets that have changed. A changed TXT record is another record: it waits only for a while after the
    /// last change was told, not for the repetition of that (RFC 6762 §8.4; see [`super::responder`]).
    pub(super) fn announce_changed(&mut self, sets: &[Set], at: u64) {
        self.announce(sets, at);
        for set in sets {
            let Set::Text(id) = set else { continue };
            let earliest = self.texts.get(id).map_or(0, |told| told.since + CHANGES);
            self.repeats.insert(*set, Repeat { left: 2, at: at.max(earliest), gap: 1_000 });
        }
    }

    /// The name is withdrawn or lost: what was told of it counts no more.
    pub(super) fn forget(&mut self, unique: Unique) {
        self.hold(unique);
        self.sent.retain(|set, _| set.belongs_to() != Some(unique));
        self.texts.retain(|id, _| unique != Unique::Service(*id));
    }

    /// A set is to be multicast by `at`, or when it may be.
    pub(super) fn answer(&mut self, set: Set, at: u64, gap: u64) {
        let earliest = self.sent.get(&set).map_or(0, |sent| sent + gap);
        let at = at.max(earliest);
        self.answers.entry(set).and_modify(|due| *due = at.min(*due)).or_insert(at);
    }

    /// Drops what waits to be said of a name that is in doubt.
    pub(super) fn hold(&mut self, unique: Unique) {
        self.repeats.retain(|set, _| set.belongs_to() != Some(unique));
        self.answers.retain(|set, _| set.belongs_to() != Some(unique));
    }

    /// False: there is no room.
    pub(super) fn reply(
        &mut self,
        to: SocketAddr,
        sets: &[Set],
        legacy: Option<(u16, &[Question])>,
        at: u64,
    ) -> bool {
        if self.replies.len() >= MAX_REPLIES && !self.replies.contains_key(&to) {
            return false;
        }
        let reply = self.replies.entry(to).or_insert(Reply { sets: BTreeSet::new(), legacy: None, at });
        reply.sets.extend(sets);
        if let Some((id, questions)) = legacy {
            reply.legacy = Some((id, questions.to_vec()));
        }
        true
    }

    /// Keeps a query until its known answers are complete, and gives back the whole when they are or there is no room.
    pub(super) fn gather(&mut self, from: SocketAddr, packet: Packet, mut at: u64) -> Option<Packet> {
        let is_last = !packet.truncated;
        let whole = match self.partial.remove(&from) {
            Some(mut partial) => {
                // More packets do not put it off.
                at = at.min(partial.at);
                partial.packet.questions.extend(packet.questions);
                partial.packet.answers.extend(packet.answers);
                partial.packet.authorities.extend(packet.authorities);
                partial.packet
            }
            None => packet,
        };
        let records = whole.questions.len() + whole.answers.len() + whole.authorities.len();
        if is_last || self.partial.len() >= MAX_PARTIAL || records > MAX_GATHERED {
            return Some(whole);
        }
        self.partial.insert(from, Partial { packet: whole, at });
        None
    }

    pub(super) fn say_farewell(&mut self, records: Vec<Record>, at: u64, left: u8) {
        if self.farewells.len() < MAX_FAREWELLS && !records.is_empty() {
            self.farewells.push(Farewell { records, left, at });
        }
    }
}

/// One interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) interface: Interface,
    /// What is announced here: its addresses, and those of our other interfaces on the same link.
    pub(super) told: Interface,
    /// Our other interfaces whose packets were heard here: they are on the same link.
    pub(super) twins: BTreeSet<u32>,
    pub(super) lanes: BTreeMap<Family, Lane>,
    pub(super) phases: BTreeMap<Unique, Phase>,
    /// Hosts that asked for people and have not said who they are, and when to ask them.
    pub(super) strangers: BTreeMap<IpAddr, Stranger>,
    pub(super) loss: Loss,
    /// When we last said goodbye and hello to be found again.
    pub(super) cured: Option<u64>,
}

impl Link {
    pub(super) fn new(interface: Interface) -> Self {
        Self {
            told: interface.clone(),
            interface,
            twins: BTreeSet::new(),
            lanes: BTreeMap::new(),
            phases: BTreeMap::new(),
            strangers: BTreeMap::new(),
            loss: Loss::default(),
            cured: None,
        }
    }

    /// Whether this set may be told here.
    pub(super) fn is_ready(&self, set: Set) -> bool {
        set.belongs_to().is_none_or(|unique| self.phases.get(&unique) == Some(&Phase::Ready))
    }

    /// Somebody unknown asked: to be asked at `at`, once a minute.
    pub(super) fn notice(&mut self, ip: IpAddr, at: u64, mono: u64) {
        self.strangers.retain(|_, stranger| stranger.at + 60_000 > mono);
        if self.strangers.len() < MAX_STRANGERS {
            self.strangers.entry(ip).or_insert(Stranger { at, is_asked: false });
        }
    }
}
