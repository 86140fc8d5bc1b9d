//! Nodes that may be somewhere: remembered within bounds, dialled politely, less often if that fails, and quickly again
//! if they were here a moment ago. *Pure.*

use std::collections::VecDeque;

use rand_core::Rng;

use super::choice::{MIN_BACKOFF, Rank};
use super::timers::Timer;
use super::{Output, Overlay};
use crate::id::NodeId;
use crate::time::{MINUTE, Now, SECOND};

/// Between two dials of one node at most, before jitter.
const MAX_BACKOFF: u64 = MINUTE;
/// A node that was connected is dialled as often as [`QUICK`] says for so long after it was lost, …
const JUST_LOST: u64 = 2 * MINUTE;
/// … then as [`LESS_QUICK`] says until this, and then like any other.
const LOST: u64 = 10 * MINUTE;
/// From one dial of a node just lost to the next; and when such a dial has failed.
const QUICK: u64 = 3 * SECOND;
const LESS_QUICK: u64 = 15 * SECOND;
/// After a change of our addresses, until routes are there as well.
const HERE: u64 = SECOND / 4;
/// A dial that has not connected by then has failed: beyond the link, …
const DIAL_PATIENCE: u64 = 15 * SECOND;
/// … and on it, where the next one starts beside the last: one that lost its first packets may take longer than a new one.
const NEAR_PATIENCE: u64 = 3 * SECOND;
/// So often a node on the link is dialled again without growing pauses.
const EAGER: u32 = 4;
/// A node that failed so often may use half of the dials only, so that addresses made up by somebody starve nobody.
const DOUBTFUL: u32 = 3;
/// Bytes of an address that is remembered.
const MAX_ADDRESS: usize = 256;
/// A node that may be somewhere.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    pub(super) addresses: VecDeque<String>,
    pub(super) seen: u64,
    pub(super) backoff: u64,
    pub(super) failures: u32,
    pub(super) last_dial: Option<u64>,
    pub(super) dialling: bool,
    /// When its connection died, without a goodbye.
    pub(super) lost: Option<u64>,
    pub(super) rank: Rank,
    /// Discovered on the link, and not only said to be somewhere.
    pub(super) near: bool,
    /// It was connected: its handshake proved it.
    pub(super) met: bool,
}

impl Candidate {
    /// Remembers addresses, newest first.
    fn add(&mut self, addresses: Vec<String>, most: usize) {
        for address in addresses.into_iter().filter(|address| address.len() <= MAX_ADDRESS) {
            self.addresses.retain(|known| *known != address);
            self.addresses.push_front(address);
        }
        self.addresses.truncate(most);
    }

    /// From the last dial to the next, and how long one may take, if it was connected not long ago.
    fn haste(&self, now: Now) -> Option<u64> {
        match now.mono.saturating_sub(self.lost?) {
            ..JUST_LOST => Some(QUICK),
            JUST_LOST..LOST => Some(LESS_QUICK),
            _ => None,
        }
    }
}

impl Overlay {
    pub(super) fn on_discovered(&mut self, node: NodeId, addresses: Vec<String>, now: Now) {
        if node == self.node || addresses.is_empty() {
            return;
        }
        let candidate = self.remember_candidate(node, addresses, now);
        let new = !std::mem::replace(&mut candidate.near, true);
        let failed = std::mem::take(&mut candidate.failures) > 0;
        candidate.backoff = 0;
        let earliest = candidate.last_dial.map_or(0, |last| last + MIN_BACKOFF);
        let idle = !candidate.dialling && !self.peers.connected.contains_key(&node);
        if new || failed {
            self.consider(node, now);
        }
        if idle && self.is_worth_dialling(&node, now) {
            let wait = self.polite_wait(&node);
            self.timers.set_earlier(Timer::Dial(node), earliest.max(now.mono + wait));
        }
        self.join_goes_on(node, now);
        self.enrolment_goes_on(node, now);
    }

    /// Remembers where a node may be, whoever says so.
    pub(super) fn remember_candidate(
        &mut self,
        node: NodeId,
        addresses: Vec<String>,
        now: Now,
    ) -> &mut Candidate {
        self.make_room_for(&node);
        let new = !self.peers.candidates.contains_key(&node);
        let rank = new.then(|| self.rank_of(&node));
        let candidate = self.peers.candidates.entry(node).or_default();
        candidate.rank = rank.unwrap_or(candidate.rank);
        candidate.seen = now.mono;
        candidate.add(addresses, self.limits.addresses);
        candidate
    }

    /// Whoever was connected before, or is heard by others, goes only when there is nobody else: anybody can invent names.
    fn make_room_for(&mut self, node: &NodeId) {
        let candidates = &self.peers.candidates;
        if candidates.contains_key(node) || candidates.len() < self.limits.candidates {
            return;
        }
        let idle = candidates.iter().filter(|(node, _)| !self.peers.connected.contains_key(node));
        let worth =
            |(node, candidate): &(&NodeId, &Candidate)| (candidate.met || self.is_here(node), candidate.seen);
        if let Some(least) = idle.min_by_key(worth).map(|(node, _)| *node) {
            self.forget_candidate(&least);
        }
    }

    fn forget_candidate(&mut self, node: &NodeId) {
        self.peers.candidates.remove(node);
        self.timers.cancel(Timer::Dial(*node));
    }

    /// Whether a node is wanted, or was connected not long ago.
    fn is_worth_dialling(&self, node: &NodeId, now: Now) -> bool {
        let lost = self.peers.candidates.get(node).and_then(|candidate| candidate.haste(now));
        lost.is_some() || self.is_wanted(node, now)
    }

    pub(super) fn on_expired(&mut self, node: NodeId, addresses: &[String]) {
        if self.is_here(&node) || self.peers.is_ready(&node) {
            // Multicast may be lost; the node is not.
            return;
        }
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        candidate.addresses.retain(|known| !addresses.contains(known));
        if candidate.addresses.is_empty() {
            self.forget_candidate(&node);
        }
    }

    pub(super) fn on_dial_timer(&mut self, node: NodeId, now: Now) {
        let dials = self.peers.dials();
        let banned = self.peers.is_banned(&node, now);
        let worth = self.is_worth_dialling(&node, now);
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        if self.peers.connected.contains_key(&node) {
            return;
        }
        if candidate.dialling {
            return self.on_dial_failed(node, now);
        }
        if !worth {
            return;
        }
        let share =
            if candidate.failures >= DOUBTFUL { self.limits.dials.div_ceil(2) } else { self.limits.dials };
        if banned || dials >= share || !self.makes_room_for(&node, dials, now) {
            let wait = self.jitter(if banned { MAX_BACKOFF } else { MIN_BACKOFF });
            return self.timers.set(Timer::Dial(node), now.mono + wait);
        }
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        candidate.dialling = true;
        candidate.last_dial = Some(now.mono);
        let addresses = candidate.addresses.iter().cloned().collect();
        let usual = if candidate.near { NEAR_PATIENCE } else { DIAL_PATIENCE };
        let patience = candidate.haste(now).map_or(usual, |_| QUICK);
        self.timers.set(Timer::Dial(node), now.mono + patience);
        self.outputs.push_back(Output::Dial { node, addresses });
    }

    pub(super) fn on_dial_failed(&mut self, node: NodeId, now: Now) {
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        candidate.dialling = false;
        candidate.failures = candidate.failures.saturating_add(1);
        if !candidate.near || candidate.failures > EAGER {
            candidate.backoff *= 2;
        }
        candidate.backoff = candidate.backoff.clamp(MIN_BACKOFF, MAX_BACKOFF);
        let (backoff, haste) = (candidate.backoff, candidate.haste(now));
        let last = candidate.last_dial.unwrap_or(now.mono);
        let when = match haste {
            Some(haste) => (last + self.jitter(haste)).max(now.mono + MIN_BACKOFF / 4),
            None => now.mono + self.jitter(backoff),
        };
        self.timers.set(Timer::Dial(node), when);
        self.survey_soon(now);
    }

    /// This node is somewhere else: whoever is wanted may be reached from here, whatever failed before.
    pub(super) fn try_again_from_here(&mut self, now: Now) {
        let wanted =
            |node: &&NodeId| self.is_worth_dialling(node, now) && !self.peers.connected.contains_key(node);
        let wanted: Vec<NodeId> = self.peers.candidates.keys().filter(wanted).copied().collect();
        for node in wanted {
            let Some(candidate) = self.peers.candidates.get_mut(&node) else { continue };
            (candidate.backoff, candidate.failures, candidate.dialling) = (0, 0, false);
            self.timers.set(Timer::Dial(node), now.mono + HERE);
        }
    }

    /// `wait`, a quarter more or less.
    pub(super) fn jitter(&mut self, wait: u64) -> u64 {
        wait - wait / 4 + u64::from(self.rng.next_u32()) % (wait / 2 + 1)
    }

    pub(super) fn redial_later(&mut self, node: NodeId, now: Now) {
        self.survey_soon(now);
        if self.peers.candidates.contains_key(&node) && self.is_worth_dialling(&node, now) {
            let wait = self.jitter(MIN_BACKOFF) + self.polite_wait(&node);
            self.timers.set(Timer::Dial(node), now.mono + wait);
        }
    }
}
