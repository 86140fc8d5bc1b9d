//! Nodes beyond the link: where others are said to be, and whom of our users a peer there is told of. *Pure.*
//!
//! On the link everybody learns who is here. A peer beyond it is told of a user of ours only if somebody is there, or is
//! said to be there by its own sealed presence, whom that user shows its presence or writes to at the moment.

use std::collections::{BTreeMap, BTreeSet};

use super::Overlay;
use crate::id::{NodeId, UserId};
use crate::time::Now;

/// Nodes that are remembered as somebody's at most; the one whose word ends first goes.
const MAX_HOMES: usize = 1_024;
/// Users that are remembered of one node at most; further ones are looked for when they are needed.
const MAX_USERS: usize = 256;

/// Where people are said to be, by themselves.
#[derive(Debug, Default)]
pub(super) struct Wide {
    /// Users of a node, and until when that counts, Unix milliseconds.
    homes: BTreeMap<NodeId, BTreeMap<UserId, u64>>,
}

impl Wide {
    fn users(&self, node: &NodeId, time: u64) -> impl Iterator<Item = &UserId> {
        let users = self.homes.get(node).into_iter().flatten();
        users.filter(move |(_, until)| time < **until).map(|(user, _)| user)
    }

    /// Where a user is said to be.
    pub(super) fn nodes_of(&self, user: &UserId, time: u64) -> Vec<NodeId> {
        let there = |users: &BTreeMap<UserId, u64>| users.get(user).is_some_and(|until| time < *until);
        self.homes.iter().filter(|(_, users)| there(users)).map(|(node, _)| *node).collect()
    }

    fn note(&mut self, node: NodeId, user: UserId, until: u64) {
        if !self.homes.contains_key(&node) && self.homes.len() >= MAX_HOMES {
            let end = |users: &BTreeMap<UserId, u64>| users.values().max().copied();
            let first = self.homes.iter().min_by_key(|(_, users)| end(users)).map(|(node, _)| *node);
            first.map(|node| self.homes.remove(&node));
        }
        let users = self.homes.entry(node).or_default();
        if users.len() < MAX_USERS || users.contains_key(&user) {
            users.insert(user, until);
        }
    }
}

impl Overlay {
    /// Somebody who is to be believed says where a node can be reached.
    pub(super) fn learn(&mut self, node: NodeId, addresses: Vec<String>, now: Now) {
        if node != self.node && !addresses.is_empty() {
            self.remember_candidate(node, addresses, now);
        }
    }

    /// Nodes beyond the link where somebody is said to be who matters here.
    pub(super) fn homes_of_contacts(&self, now: Now) -> Vec<NodeId> {
        let time = self.time(now);
        let homes = self.wide.homes.keys();
        homes.filter(|node| self.wide.users(node, time).any(|user| self.matters(user))).copied().collect()
    }

    /// A user says, in a presence that only its contacts can open, that it is on a node until then.
    pub(super) fn is_said_to_be_at(&mut self, node: NodeId, user: UserId, until: u64, now: Now) {
        self.wide.note(node, user, until);
        self.introduce(node, now);
        self.survey_soon(now);
    }

    /// Tells a peer beyond the link of those of our users who have something to do with somebody there.
    pub(super) fn introduce(&mut self, node: NodeId, now: Now) {
        let time = self.time(now);
        let Some(peer) = self.peers.connected.get(&node).filter(|_| self.is_greeted(&node)) else { return };
        let there: BTreeSet<UserId> =
            peer.proven.keys().chain(self.wide.users(&node, time)).copied().collect();
        let told = &peer.told;
        let new = |user: &&UserId| !told.contains(user) && self.concerns(user, &there);
        let new: Vec<UserId> = self.locals.keys().filter(new).copied().collect();
        for user in new {
            self.push_record(&user, node, now);
        }
    }

    /// The same to all peers where a user is, or is said to be.
    pub(super) fn introduce_to(&mut self, user: &UserId, now: Now) {
        let live = self.users.live_devices(user).into_iter().map(|(_, node)| node);
        let nodes: BTreeSet<NodeId> = live.chain(self.wide.nodes_of(user, self.time(now))).collect();
        for node in nodes {
            if !self.peers.is_near(&node) {
                self.introduce(node, now);
            }
        }
    }

    /// Whether a user of ours is there too, shows itself to one of them, or has something for one of them.
    fn concerns(&self, user: &UserId, others: &BTreeSet<UserId>) -> bool {
        if others.contains(user) {
            return true;
        }
        let shown = |local: &super::locals::Local| !local.shown.watchers.is_disjoint(others);
        self.locals.get(user).is_some_and(shown) || self.outbox.has_entries_between(user, others)
    }

    /// Peers that were told of a user, and all on the link.
    pub(super) fn told_of(&self, user: &UserId) -> Vec<NodeId> {
        let told =
            |node: &NodeId| self.peers.connected.get(node).is_some_and(|peer| peer.told.contains(user));
        self.peers.ready().into_iter().filter(|node| self.peers.is_near(node) || told(node)).collect()
    }
}
