//! Whom to be connected with: everybody while they are few; else a few neighbours, contacts, and whoever is needed at the
//! moment. *Pure.*
//!
//! Neighbours are the nodes with the lowest numbers by two hashes: one that both ends compute alike, so that they often
//! choose each other, and one that nobody else can, so that nobody can surround a node with keys made for it. Whoever
//! comes or goes changes the choice of few. A node that was only discovered is chosen if there are not enough others, or
//! as one of two to be tried, so that addresses made up by somebody crowd out nobody and two islands find each other.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::Overlay;
use super::timers::Timer;
use crate::id::{DeviceId, NodeId, UserId};
use crate::time::{MINUTE, Now, SECOND};

/// So many nodes are a full mesh.
const MESH: usize = 12;
/// Of so many discovered nodes each is dialled without waiting for others.
const AT_ONCE: usize = 4;
/// Neighbours by the hash that both ends know, …
const COMMON: usize = 4;
/// … and by our own.
const OWN: usize = 2;
/// Nodes only discovered that are tried at a time.
const TRIED: usize = 2;
/// Nodes of contacts that stay connected at most.
const MAX_CONTACTS: usize = 40;
/// A node that is needed stays wanted for so long.
const NEED: u64 = MINUTE;
/// Nodes needed at the moment at most; of further ones the users have to wait.
const MAX_NEEDED: usize = 256;
/// A connection that is not wanted any more is closed when no user's traffic went over it for so long.
const IDLE: u64 = MINUTE;
/// The node with the greater id leaves the first dial to the other for this long.
const POLITE_WAIT: u64 = 2 * SECOND;
/// Between two dials of one node at least.
pub(super) const MIN_BACKOFF: u64 = SECOND;

/// Whom we want.
#[derive(Debug)]
pub(super) struct Choice {
    salt: [u8; 32],
    chosen: BTreeSet<NodeId>,
    /// Nodes of contacts, and of those whom messages wait for.
    contacts: BTreeSet<NodeId>,
    /// Until when others are needed.
    needed: BTreeMap<NodeId, u64>,
}

impl Choice {
    pub(super) fn new(salt: [u8; 32]) -> Self {
        Self { salt, chosen: BTreeSet::new(), contacts: BTreeSet::new(), needed: BTreeMap::new() }
    }
}

/// A node's two numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rank {
    common: u64,
    own: u64,
}

fn number(parts: [&[u8]; 2]) -> u64 {
    let mut hash = Sha256::new_with_prefix(b"crosstalk neighbours");
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().first_chunk().copied().map_or(0, u64::from_be_bytes)
}

impl Overlay {
    pub(super) fn rank_of(&self, node: &NodeId) -> Rank {
        let (low, high) = (self.node.min(*node), self.node.max(*node));
        let common = number([low.as_bytes(), high.as_bytes()]);
        Rank { common, own: number([&self.choice.salt, node.as_bytes()]) }
    }

    /// Whether a node is to be connected.
    pub(super) fn is_wanted(&self, node: &NodeId, now: Now) -> bool {
        self.choice.chosen.contains(node)
            || self.choice.contacts.contains(node)
            || self.choice.needed.get(node).is_some_and(|until| now.mono < *until)
            || self.is_kept_for_mail(node)
    }

    /// Whether a connection may end: nobody here wants it, and no user's traffic went over it of late.
    pub(super) fn is_surplus(&self, node: &NodeId, now: Now) -> bool {
        let idle = self.peers.connected.get(node).is_some_and(|peer| now.mono >= peer.used + IDLE);
        idle && !self.is_wanted(node, now)
    }

    /// A node was discovered that was not known before.
    pub(super) fn consider(&mut self, node: NodeId, now: Now) {
        if self.peers.candidates.len() <= AT_ONCE {
            self.choice.chosen.insert(node);
        }
        self.survey_soon(now);
    }

    pub(super) fn choose(&mut self, now: Now) {
        self.choice.needed.retain(|_, until| now.mono < *until);
        self.choice.contacts = self.nodes_of_contacts(now);
        self.choice.chosen = self.chosen(now);
        let wanted = self.choice.chosen.union(&self.choice.contacts).copied().collect::<Vec<_>>();
        wanted.into_iter().for_each(|node| self.plan_dial(node, true, now));
    }

    fn chosen(&self, now: Now) -> BTreeSet<NodeId> {
        let (mut sure, mut new) = (Vec::new(), Vec::new());
        for (node, candidate) in &self.peers.candidates {
            if !candidate.near || self.peers.is_banned(node, now) {
                continue;
            }
            if self.peers.is_ready(node) || self.is_here(node) && candidate.failures == 0 {
                sure.push((*node, candidate.rank));
            } else if candidate.failures == 0 {
                new.push((*node, candidate.rank));
            }
        }
        if sure.len() + new.len() <= MESH {
            let near = self.peers.candidates.iter().filter(|(_, candidate)| candidate.near);
            return near.map(|(node, _)| *node).collect();
        }
        let mut chosen = BTreeSet::new();
        take(&mut chosen, &mut sure, COMMON, |rank| rank.common);
        take(&mut chosen, &mut sure, OWN, |rank| rank.own);
        let missing = (COMMON + OWN).saturating_sub(chosen.len());
        take(&mut chosen, &mut new, missing, |rank| rank.common);
        take(&mut chosen, &mut new, TRIED, |rank| rank.own);
        chosen
    }

    /// Nodes on the link where somebody is whom our users know, or whom a message waits for.
    fn nodes_of_contacts(&self, now: Now) -> BTreeSet<NodeId> {
        let known = |device: &DeviceId| self.gossip.home(device).is_some_and(|(user, _)| self.matters(&user));
        let by_gossip = self.gossip.homes().filter(|(node, devices)| {
            (self.is_here(node) || self.peers.is_ready(node)) && devices.iter().any(known)
        });
        let by_session =
            self.peers.connected.iter().filter(|(_, peer)| peer.proven.keys().any(|user| self.matters(user)));
        let beyond = self.homes_of_contacts(now);
        let nodes = by_session.map(|(node, _)| *node).chain(by_gossip.map(|(node, _)| *node)).chain(beyond);
        nodes.take(MAX_CONTACTS).collect()
    }

    pub(super) fn matters(&self, user: &UserId) -> bool {
        self.users.is_kept(user)
            || self.outbox.has_entries_for(user)
            || self.locals.values().any(|local| local.shown.watchers.contains(user))
    }

    /// Dials a node unless it is connected, being dialled, or to be dialled later anyway.
    pub(super) fn plan_dial(&mut self, node: NodeId, polite: bool, now: Now) {
        let Some(candidate) = self.peers.candidates.get(&node) else { return };
        if candidate.dialling || self.peers.connected.contains_key(&node) {
            return;
        }
        if !self.timers.is_set(Timer::Dial(node)) {
            let earliest = candidate.last_dial.map_or(0, |last| last + MIN_BACKOFF);
            let wait = if polite { self.polite_wait(&node) } else { 0 };
            self.timers.set(Timer::Dial(node), earliest.max(now.mono + wait));
        }
    }

    pub(super) fn polite_wait(&self, node: &NodeId) -> u64 {
        if self.node < *node { 0 } else { POLITE_WAIT }
    }

    /// Somebody has something for a user who is on the link but not connected: the nodes are dialled now.
    pub(super) fn call(&mut self, user: &UserId, now: Now) {
        for (_, node) in self.present_devices(user) {
            self.need(node, now);
        }
    }

    /// A node has to be connected for a minute.
    pub(super) fn need(&mut self, node: NodeId, now: Now) {
        if self.choice.needed.len() < MAX_NEEDED || self.choice.needed.contains_key(&node) {
            self.choice.needed.insert(node, now.mono + NEED);
            self.plan_dial(node, false, now);
        }
    }

    /// Makes room for a node among the connections; false: there is none for it. A stranger cannot hold a place by traffic:
    /// one beyond the link gives way to whom this node wants at once, to others after a minute; one on the link, whose
    /// absence would be shown, when it is idle, and after a minute to whom this node wants.
    pub(super) fn makes_room_for(&mut self, node: &NodeId, dials: usize, now: Now) -> bool {
        if self.peers.connected.len() + dials < self.limits.connections {
            return true;
        }
        let wanted = self.is_wanted(node, now);
        let strangers = self.peers.connected.iter().filter(|(other, _)| !self.is_wanted(other, now));
        let gives_way = strangers.filter(|(_, peer)| {
            let had_its_minute = now.mono >= peer.since + IDLE;
            match peer.far.near {
                true => now.mono >= peer.used + IDLE || wanted && had_its_minute,
                false => wanted || had_its_minute,
            }
        });
        let least = gives_way.min_by_key(|(_, peer)| peer.used).map(|(node, _)| *node);
        if let Some(node) = least {
            self.close_peer(node, NOT_NEEDED, now);
        }
        least.is_some()
    }

    /// Says goodbye to one that is not needed now.
    pub(super) fn end_if_surplus(&mut self, node: NodeId, now: Now) -> bool {
        // Whoever dialled wanted it, and ends it; on the link when others hear that node too.
        let ours = self.peers.connected.get(&node).is_some_and(|peer| !peer.far.inbound);
        let known = self.is_here(&node) || !self.peers.is_near(&node);
        let ends = ours && known && self.is_surplus(&node, now);
        if ends {
            self.close_peer(node, NOT_NEEDED, now);
        }
        ends
    }

    /// Whether a device of a user is on the link.
    pub(super) fn is_on_link(&self, user: &UserId) -> bool {
        !self.users.live_devices(user).is_empty() || !self.present_devices(user).is_empty()
    }
}

/// The reason given when a connection is closed that nobody needs.
pub(super) const NOT_NEEDED: &str = "not needed now";

/// Moves the `count` lowest from one to the other.
fn take(to: &mut BTreeSet<NodeId>, from: &mut Vec<(NodeId, Rank)>, count: usize, by: impl Fn(&Rank) -> u64) {
    from.sort_by_key(|(node, rank)| (by(rank), *node));
    to.extend(from.drain(..count.min(from.len())).map(|(node, _)| node));
}
