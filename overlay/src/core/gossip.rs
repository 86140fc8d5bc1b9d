//! What is told on about nodes that are not connected: users, whom nodes hear, link presence. Offered by mark, asked
//! for once, verified, kept within bounds, offered on. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::neighbours::STALE;
use super::timers::Timer;
use super::{Limits, Overlay};
use crate::id::{DeviceId, NodeId, UserId};
use crate::record::{LinkPresence, NodeLinks, Verified};
use crate::time::{Now, SECOND};
use crate::wire::{Frame, MAX_MARKS, MAX_RELAYED, Mark, Relayed, UserFrame};

mod accept;
mod asking;

use asking::Asking;

/// News are collected for so long before they are offered.
const COLLECT: u64 = 100;
/// Between two looks at what is to be asked for at least, whatever comes.
const ASK: u64 = 20;
/// Changes of one statement that are told on at once, …
const CHANGES: u64 = 8;
/// … and one more in each of these, which is more than an honest node makes.
const CHANGE: u64 = 3 * SECOND / 2;
/// Statements that a peer is given at once, …
const SERVED: u64 = 8_192;
/// … and one more in each of these: 64 a second.
const SERVE: u64 = 16;
/// Statements that came too early and are kept; with one more, all go, and come again when they are renewed.
const MAX_EARLY: usize = 256;
/// Bytes of statements in one frame.
const BYTES: usize = 256 * 1_024;
/// Bytes of statements in the answer to one question: more than an honest one asks for, and less than a queue holds.
const ANSWER: usize = 5 * BYTES;

/// What there is one newest statement of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    User(DeviceId),
    Links(NodeId),
    Shown(DeviceId),
}

#[derive(Debug)]
pub(super) enum Body {
    /// `gone`: it has left that node.
    User {
        frame: UserFrame,
        user: UserId,
        gone: bool,
    },
    Links(Verified<NodeLinks>),
    Shown(Verified<LinkPresence>),
}

impl Body {
    fn mark(&self) -> Mark {
        match self {
            Self::User { frame, .. } => mark(&[&frame.record, &frame.binding]),
            Self::Links(links) => mark(&[links.bytes()]),
            Self::Shown(presence) => mark(&[presence.bytes()]),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::User { frame, .. } => frame.record.len() + frame.binding.len(),
            Self::Links(links) => links.bytes().len(),
            Self::Shown(presence) => presence.bytes().len(),
        }
    }
}

/// A statement, verified.
#[derive(Debug)]
struct Item {
    mark: Mark,
    /// Of two with the same key the greater counts.
    version: (u64, u64),
    /// The node that it is about.
    node: NodeId,
    body: Body,
    /// When it was taken in.
    since: u64,
    changes: Budget,
}

/// So many at once, and one more in each period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u64,
    at: u64,
}

impl Budget {
    pub(super) fn full(burst: u64, now: Now) -> Self {
        Self { left: burst, at: now.mono }
    }

    pub(super) fn take(&mut self, burst: u64, period: u64, now: Now) -> bool {
        let earned = now.mono.saturating_sub(self.at) / period;
        self.at += earned * period;
        self.left = self.left.saturating_add(earned).min(burst);
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}

/// The newest statements about others, and what is to be offered to whom.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    items: BTreeMap<Key, Item>,
    marks: BTreeMap<Mark, Key>,
    /// The devices said to be, or to have been, on a node.
    homes: BTreeMap<NodeId, BTreeSet<DeviceId>>,
    bytes: usize,
    /// How many devices, and how many nodes with links, there are.
    counts: [usize; 2],
    /// Not offered yet; at most one for each item and peer.
    news: BTreeMap<NodeId, BTreeSet<Mark>>,
    served: BTreeMap<NodeId, Budget>,
    asking: Asking,
    /// When it was looked at last what is to be asked for, monotonic milliseconds.
    asked: u64,
    /// Link presences that came before the user that they are about, by the device that said it, and from whom.
    early: BTreeMap<DeviceId, Vec<(NodeId, Vec<u8>)>>,
}

pub(super) fn mark(parts: &[&[u8]]) -> Mark {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

impl Gossip {
    /// The user of a device, and the node that it says it is on.
    pub(super) fn home(&self, device: &DeviceId) -> Option<(UserId, NodeId)> {
        match self.items.get(&Key::User(*device)) {
            Some(Item { body: Body::User { user, gone: false, .. }, node, .. }) => Some((*user, *node)),
            Some(_) | None => None,
        }
    }

    /// The nodes that have or had devices, and these; those that are gone have no [home](Self::home).
    pub(super) fn homes(&self) -> impl Iterator<Item = (&NodeId, &BTreeSet<DeviceId>)> {
        self.homes.iter()
    }

    /// What a device shows according to others.
    pub(super) fn shown(&self, device: &DeviceId) -> Option<&Verified<LinkPresence>> {
        match self.items.get(&Key::Shown(*device)) {
            Some(Item { body: Body::Shown(presence), .. }) => Some(presence),
            Some(_) | None => None,
        }
    }

    /// Whom nodes hear, as they say, and since when that is known here.
    pub(super) fn links(&self) -> impl Iterator<Item = (&NodeId, &Verified<NodeLinks>, u64)> {
        self.items.values().filter_map(|item| match &item.body {
            Body::Links(links) => Some((&item.node, links, item.since)),
            Body::User { .. } | Body::Shown(_) => None,
        })
    }

    /// A node says once more what is known of it.
    fn confirm(&mut self, mark: &Mark, node: &NodeId, now: Now) {
        let item = self.marks.get(mark).and_then(|key| self.items.get_mut(key));
        if let Some(item) = item.filter(|item| item.node == *node) {
            item.since = now.mono;
        }
    }

    fn hears(&self, node: &NodeId, peer: &NodeId) -> bool {
        let prefix = crate::record::NodePrefix::of(peer);
        let links = self.items.get(&Key::Links(*node)).map(|item| &item.body);
        matches!(links, Some(Body::Links(links)) if links.hears.binary_search(&prefix).is_ok())
    }

    /// Whether one more of `size` bytes fits among those of others.
    fn has_room(&self, limits: &Limits, key: &Key, size: usize) -> bool {
        let [users, nodes] = self.counts;
        let known = self.items.get(key).map(|item| item.body.size());
        let counted = known.is_some()
            || match key {
                Key::User(_) => users < limits.relayed_users,
                Key::Links(_) => nodes < limits.relayed_nodes,
                // At most one for each user.
                Key::Shown(_) => true,
            };
        counted && self.bytes - known.unwrap_or_default() + size <= limits.relayed_bytes
    }

    /// Whether one more device fits on its node, perhaps in the place of one that has left it.
    fn fits_on(&mut self, limits: &Limits, key: &Key, node: &NodeId) -> bool {
        let new = matches!(key, Key::User(_)) && !self.items.contains_key(key);
        let Some(devices) =
            self.homes.get(node).filter(|devices| new && devices.len() >= limits.relayed_users_per_node)
        else {
            return true;
        };
        let left = |device: &&DeviceId| self.home(device).is_none();
        let since = |device: &&DeviceId| self.items.get(&Key::User(**device)).map(|item| item.since);
        let Some(oldest) = devices.iter().filter(left).min_by_key(since).copied() else { return false };
        self.remove(&Key::User(oldest));
        true
    }

    fn insert(&mut self, key: Key, item: Item) {
        self.remove(&key);
        self.bytes += item.body.size();
        self.counts[0] += usize::from(matches!(key, Key::User(_)));
        self.counts[1] += usize::from(matches!(key, Key::Links(_)));
        self.marks.insert(item.mark, key);
        if let Key::User(device) = key {
            self.homes.entry(item.node).or_default().insert(device);
        }
        self.items.insert(key, item);
    }

    /// Forgets a statement; the same bytes are not asked for again.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(mark) = self.take_out(key) {
            self.asking.refuse(mark);
        }
    }

    /// Forgets a statement that may come again.
    fn take_out(&mut self, key: &Key) -> Option<Mark> {
        let item = self.items.remove(key)?;
        self.bytes -= item.body.size();
        self.counts[0] -= usize::from(matches!(key, Key::User(_)));
        self.counts[1] -= usize::from(matches!(key, Key::Links(_)));
        self.marks.remove(&item.mark);
        if let Key::User(device) = key
            && let Some(devices) = self.homes.get_mut(&item.node)
        {
            devices.remove(device);
            if devices.is_empty() {
                self.homes.remove(&item.node);
            }
        }
        Some(item.mark)
    }

    /// Whether a node has not said for long whom it hears.
    fn is_silent(&self, node: &NodeId, now: Now) -> bool {
        self.items.get(&Key::Links(*node)).is_none_or(|links| now.mono >= links.since + STALE)
    }

    /// Everything about a node.
    fn keys_of(&self, node: &NodeId) -> Vec<Key> {
        self.items.iter().filter(|(_, item)| item.node == *node).map(|(key, _)| *key).collect()
    }

    pub(super) fn is_refused(&self, mark: &Mark) -> bool {
        self.asking.is_refused(mark)
    }

    /// How many statements are held, and how many bytes they have.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.items.len(), self.bytes)
    }
}

impl Overlay {
    /// Takes in a verified statement if it is newer than what is there, and offers it to all who may not have it.
    fn note(
        &mut self,
        from: NodeId,
        key: Key,
        node: NodeId,
        version: (u64, u64),
        body: Body,
        now: Now,
    ) -> bool {
        let (mark, size) = (body.mark(), body.size());
        let known = self.gossip.items.get(&key);
        if let Some(known) = known.filter(|known| known.version >= version) {
            let later = known.version > version;
            let held = known.mark;
            // What is held may be forgotten, and be asked for then.
            match held == mark {
                true => self.gossip.asking.close(&mark),
                false => self.gossip.asking.refuse(mark),
            }
            if later && from == node {
                // It has forgotten what it said, and has to say something later.
                self.on_want(from, &[held], now);
            }
            return false;
        }
        let mut changes = known.map_or(Budget::full(CHANGES, now), |known| known.changes);
        if !changes.take(CHANGES, CHANGE, now) {
            self.counters.drop("statement that changes too often");
            return false;
        }
        let fits = self.gossip.fits_on(&self.limits, &key, &node);
        if !fits || !self.make_room_for_statement(&key, &node, size) {
            self.counters.drop("no room for a statement about another node");
            return false;
        }
        self.gossip.insert(key, Item { mark, version, node, body, since: now.mono, changes });
        self.tell(mark, &key, node, from, now);
        true
    }

    /// Whether `size` bytes fit, after forgetting everything about the nodes that have not been on the link for longest.
    fn make_room_for_statement(&mut self, key: &Key, newcomer: &NodeId, size: usize) -> bool {
        while !self.gossip.has_room(&self.limits, key, size) {
            let absent = |item: &&Item| {
                item.node != *newcomer && !self.is_here(&item.node) && !self.peers.is_ready(&item.node)
            };
            let oldest = self.gossip.items.values().filter(absent).min_by_key(|item| item.since);
            let Some(node) = oldest.map(|item| item.node) else { return false };
            self.gossip.keys_of(&node).iter().for_each(|key| self.gossip.remove(key));
        }
        true
    }

    /// Offers news to every peer but the one it came from and those who have it from the node itself.
    fn tell(&mut self, mark: Mark, key: &Key, node: NodeId, from: NodeId, now: Now) {
        for peer in self.peers.near() {
            // A node tells whom it hears to all whom it hears.
            let has = matches!(key, Key::Links(_)) && self.gossip.hears(&node, &peer);
            if peer != from && peer != node && !has {
                self.gossip.news.entry(peer).or_default().insert(mark);
                self.timers.set_earlier(Timer::Gossip, now.mono + COLLECT);
            }
        }
    }

    /// A node says something after a long silence: peers may not have been offered what is known of it, or have forgotten it.
    fn tell_of(&mut self, node: NodeId, from: NodeId, now: Now) {
        for key in self.gossip.keys_of(&node) {
            let mark = self.gossip.items.get(&key).map(|item| item.mark);
            mark.into_iter().for_each(|mark| self.tell(mark, &key, node, from, now));
        }
    }

    /// Offers a peer everything about those who may be here, at the start of a session.
    pub(super) fn offer_all(&mut self, peer: NodeId, now: Now) {
        let counts = |item: &&Item| {
            item.node != peer && (self.peers.is_ready(&item.node) || !self.gossip.is_silent(&item.node, now))
        };
        let about_others = self.gossip.items.values().filter(counts);
        let marks: BTreeSet<Mark> = about_others.map(|item| item.mark).collect();
        if !marks.is_empty() {
            self.gossip.news.insert(peer, marks);
            self.timers.set_earlier(Timer::Gossip, now.mono);
        }
    }

    pub(super) fn on_gossip_timer(&mut self, now: Now) {
        for (peer, marks) in std::mem::take(&mut self.gossip.news) {
            let marks: Vec<Mark> =
                marks.into_iter().filter(|mark| self.gossip.marks.contains_key(mark)).collect();
            for marks in marks.chunks(MAX_MARKS) {
                self.send_frame(peer, &Frame::Have(marks.to_vec()), false, now);
            }
        }
    }

    pub(super) fn on_have(&mut self, peer: NodeId, marks: Vec<Mark>, now: Now) {
        if let Some(news) = self.gossip.news.get_mut(&peer) {
            news.retain(|mark| !marks.contains(mark));
        }
        for mark in marks {
            if !self.gossip.marks.contains_key(&mark) && !self.gossip.asking.offered(mark, peer) {
                self.counters.drop("offer of more statements than a peer may have open");
            }
        }
        self.ask_soon(now);
    }

    /// Many small frames lead to one look at what is to be asked for.
    fn ask_soon(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Ask, now.mono.max(self.gossip.asked + ASK));
    }

    /// Asks peers for what they offered, few at a time.
    pub(super) fn on_ask_timer(&mut self, now: Now) {
        self.gossip.asked = now.mono;
        self.gossip.asking.give_up_old(now);
        for (peer, marks) in self.gossip.asking.next(now) {
            self.send_frame(peer, &Frame::Want(marks), false, now);
        }
        if self.gossip.asking.is_waiting() {
            self.timers.set_earlier(Timer::Ask, now.mono + asking::PATIENCE);
        }
    }

    pub(super) fn on_want(&mut self, peer: NodeId, marks: &[Mark], now: Now) {
        let (mut batch, mut bytes, mut total) = (Relayed::default(), 0, 0);
        for mark in marks.iter().collect::<BTreeSet<_>>() {
            if total > ANSWER {
                self.counters.drop("statement beyond what one answer holds");
                break;
            }
            let Some(item) = self.gossip.marks.get(mark).and_then(|key| self.gossip.items.get(key)) else {
                continue;
            };
            let served = self.gossip.served.entry(peer).or_insert(Budget::full(SERVED, now));
            if !served.take(SERVED, SERVE, now) {
                self.counters.drop("statement that a peer asked for too fast");
                break;
            }
            match &item.body {
                Body::User { frame, .. } => batch.users.push(frame.clone()),
                Body::Links(links) => batch.links.push(links.bytes().to_vec()),
                Body::Shown(presence) => batch.presences.push(presence.bytes().to_vec()),
            }
            bytes += item.body.size() + 16;
            total += item.body.size();
            if batch.len() == MAX_RELAYED || bytes > BYTES {
                self.send_frame(peer, &Frame::Relayed(std::mem::take(&mut batch)), false, now);
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.send_frame(peer, &Frame::Relayed(batch), false, now);
        }
    }

    /// A peer has gone: what it was asked for is asked elsewhere.
    pub(super) fn forget_gossip_of(&mut self, peer: &NodeId) {
        self.gossip.news.remove(peer);
        self.gossip.served.remove(peer);
        self.voids.forget_peer(peer);
        if self.gossip.asking.forget_peer(peer) {
            self.timers.set_earlier(Timer::Ask, 0);
        }
    }

    /// Forgets what was not renewed for [`STALE`], and who is on a node that says nothing any more: when it is back, the
    /// same may be said of it.
    pub(super) fn forget_stale_statements(&mut self, now: Now) {
        let old = |item: &Item| now.mono >= item.since + STALE;
        let silent = |node: &NodeId| !self.peers.is_ready(node) && self.gossip.is_silent(node, now);
        let stale = |key: &Key, item: &Item| match key {
            Key::Links(_) => old(item),
            Key::User(_) | Key::Shown(_) => old(item) && silent(&item.node),
        };
        let keys: Vec<Key> =
            self.gossip.items.iter().filter(|(key, item)| stale(key, item)).map(|(key, _)| *key).collect();
        for key in keys {
            match key {
                // Whom a node hears it says anew: an old word that comes again is none about now.
                Key::Links(_) => self.gossip.remove(&key),
                Key::User(_) | Key::Shown(_) => drop(self.gossip.take_out(&key)),
            }
        }
    }
}
