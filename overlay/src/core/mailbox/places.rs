//! Which nodes hold what waits for a user: those that its devices name, else those closest to its mailbox in the hash
//! table, else whoever is near. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Overlay;
use crate::core::query::Purpose;
use crate::core::timers::{Timer, on_grid};
use crate::id::{NodeId, UserId};
use crate::mailbox::COPIES;
use crate::time::{MINUTE, Now, SECOND};

/// What the hash table said counts so long; our own mailboxes are looked into as often.
const FRESH: u64 = 15 * MINUTE;
/// So long after the hash table has grown it is looked who is closest now.
const SETTLE: u64 = 5 * SECOND;
/// Where a node is that holds mail is not asked again sooner, …
const SEEK_AGAIN: u64 = MINUTE;
/// … and of so many nodes at most in that time.
const MAX_SOUGHT: usize = 256;
/// Nodes that are remembered of an answer.
const MAX_NODES: usize = 8;
/// Mailboxes whose places are remembered at most; the one asked for longest ago goes.
const MAX_PLACES: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Place {
    /// The closest first.
    pub(super) nodes: Vec<NodeId>,
    /// Monotonic milliseconds.
    at: u64,
}

/// What the hash table said.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: BTreeMap<UserId, Place>,
    /// When it was asked where a node is.
    sought: BTreeMap<NodeId, u64>,
    /// When to look for mail of our users again; 0: nobody has looked yet.
    pub(super) check_at: u64,
    /// How often that was since there is anybody to ask, or many more.
    pub(super) checks: u32,
    /// When was last looked for holders that have gone.
    pub(super) repaired: Option<u64>,
    /// Whose mailbox that was for last.
    pub(super) repaired_last: Option<UserId>,
}

impl Places {
    fn remember(&mut self, user: UserId, nodes: Vec<NodeId>, at: u64) {
        if !self.known.contains_key(&user) && self.known.len() >= MAX_PLACES {
            let first = self.known.iter().min_by_key(|(_, place)| place.at).map(|(user, _)| *user);
            first.map(|user| self.known.remove(&user));
        }
        self.known.insert(user, Place { nodes, at });
    }

    /// Whether it may be asked where a node is: once in a while.
    fn may_seek(&mut self, node: NodeId, mono: u64) -> bool {
        self.sought.retain(|_, at| mono < *at + SEEK_AGAIN);
        let may = self.sought.len() < MAX_SOUGHT && !self.sought.contains_key(&node);
        if may {
            self.sought.insert(node, mono);
        }
        may
    }

    /// When the mailboxes have to be looked at again.
    pub(super) fn next(&self, repair: u64) -> Option<u64> {
        let check = (self.check_at > 0).then(|| on_grid(self.check_at, SECOND));
        let repair = self.repaired.map(|at| on_grid(at + repair, SECOND));
        check.into_iter().chain(repair).min()
    }
}

impl Overlay {
    /// The closest nodes to a mailbox, as far as was asked of late.
    pub(super) fn closest(&self, mailbox: &UserId, now: Now) -> Option<&[NodeId]> {
        let place = self.mail.places.known.get(mailbox);
        place.filter(|place| now.mono < place.at + FRESH).map(|place| &place.nodes[..])
    }

    /// The nodes that could hold something for a user, the best first. None: it is being asked for.
    pub(super) fn holders_for(&mut self, mailbox: &UserId, now: Now) -> Option<Vec<NodeId>> {
        let declared = self.declared(mailbox);
        let mut nodes = match self.closest(mailbox, now) {
            Some(closest) => closest.to_vec(),
            None if self.queries.nodes > 0 => {
                self.ask_table(Purpose::FindHolders(*mailbox), now);
                return None;
            }
            None => Vec::new(),
        };
        nodes.retain(|node| !declared.contains(node));
        if declared.is_empty() && nodes.is_empty() {
            return Some(self.peers.near());
        }
        Some(declared.into_iter().chain(nodes).collect())
    }

    /// The nodes that a user's devices name.
    pub(super) fn declared(&self, user: &UserId) -> Vec<NodeId> {
        let parts = self.users.record(user).into_iter().flat_map(|record| record.devices().values());
        let nodes: BTreeSet<NodeId> = parts.flat_map(|part| part.info.mailboxes.iter().copied()).collect();
        nodes.into_iter().filter(|node| *node != self.node).collect()
    }

    /// The hash table has said who is closest to a mailbox; nobody: there is nobody, or it did not answer.
    pub(in crate::core) fn found_holders(
        &mut self,
        user: &UserId,
        nodes: Vec<(NodeId, Vec<String>)>,
        now: Now,
    ) {
        let mut closest = Vec::new();
        for (node, addresses) in nodes.into_iter().take(MAX_NODES) {
            if node != self.node && !closest.contains(&node) {
                self.learn(node, addresses, now);
                closest.push(node);
            }
        }
        self.mail.places.remember(*user, closest.clone(), now.mono);
        if !closest.is_empty() {
            let there = closest.iter().copied().chain(self.declared(user)).collect();
            self.forget_lost_holders(user, &there);
            // With this node they are as many as have to hold it; if others are closer, those pass it on among them.
            self.pass_on(user, &closest[..closest.len().min(COPIES - 1)], now);
        }
        if self.locals.contains_key(user) {
            self.keep_holders(user, now);
            self.look_into(user, now);
        }
        self.mail_soon(now);
    }

    /// The hash table has found its first nodes.
    pub(in crate::core) fn seek_mailboxes(&mut self, now: Now) {
        (self.mail.places.check_at, self.mail.places.checks, self.mail.places.repaired) = (0, 0, None);
        self.mail.places.known.clear();
        self.mail_soon(now);
    }

    /// The hash table has found many more nodes, so that others may be closest now, or this node is somewhere else. It is looked in
    /// a moment, as more will come.
    pub(in crate::core) fn mailboxes_have_moved(&mut self, now: Now) {
        let places = &mut self.mail.places;
        places.known.clear();
        (places.check_at, places.checks) = (places.check_at.min(now.mono + SETTLE), 0);
        self.timers.set_earlier(Timer::Mail, on_grid(now.mono + SETTLE, SECOND));
    }

    /// Connects with a node, or asks where it is.
    pub(super) fn connect_holder(&mut self, node: NodeId, now: Now) {
        if self.peers.is_ready(&node) {
            return;
        }
        self.need(node, now);
        let in_vain = self.peers.candidates.get(&node).is_none_or(|candidate| candidate.failures > 0);
        if in_vain && self.mail.places.may_seek(node, now.mono) {
            self.ask_table(Purpose::FindNode(node), now);
        }
    }

    /// The hash table has said who is closest to where a node lies.
    pub(in crate::core) fn found_node(&mut self, node: NodeId, nodes: Vec<(NodeId, Vec<String>)>, now: Now) {
        let there = nodes.into_iter().find(|(found, _)| *found == node);
        if let Some((_, addresses)) = there {
            self.learn(node, addresses, now);
            self.need(node, now);
        }
    }
}
