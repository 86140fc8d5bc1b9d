//! Nodes that may be somewhere: remembered within bounds, dialled politely, and less often if that fails. *Pure.*

use std::collections::VecDeque;

use rand_core::Rng;

use super::timers::Timer;
use super::{Output, Overlay};
use crate::id::NodeId;
use crate::time::{MINUTE, Now, SECOND};

/// The node with the greater id leaves the first dial to the other for this long.
const POLITE_WAIT: u64 = 2 * SECOND;
/// Between two dials of one node at least.
const MIN_BACKOFF: u64 = SECOND;
/// Between two dials of one node at most, before jitter.
const MAX_BACKOFF: u64 = MINUTE;
/// A dial that has not connected by then has failed.
const DIAL_PATIENCE: u64 = 15 * SECOND;
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
}

impl Overlay {
    pub(super) fn on_discovered(&mut self, node: NodeId, addresses: Vec<String>, now: Now) {
        if node == self.node || addresses.is_empty() {
            return;
        }
        self.make_room_for(&node);
        let candidate = self.peers.candidates.entry(node).or_default();
        candidate.seen = now.mono;
        candidate.backoff = 0;
        for address in addresses.into_iter().filter(|address| address.len() <= MAX_ADDRESS) {
            candidate.addresses.retain(|known| *known != address);
            candidate.addresses.push_front(address);
        }
        candidate.addresses.truncate(self.limits.addresses);
        let wait = if self.node < node { 0 } else { POLITE_WAIT };
        let earliest = candidate.last_dial.map_or(0, |last| last + MIN_BACKOFF);
        if !candidate.dialling && !self.peers.connected.contains_key(&node) {
            self.timers.set_earlier(Timer::Dial(node), earliest.max(now.mono + wait));
        }
    }

    fn make_room_for(&mut self, node: &NodeId) {
        let candidates = &self.peers.candidates;
        if candidates.contains_key(node) || candidates.len() < self.limits.candidates {
            return;
        }
        let idle = candidates.iter().filter(|(node, _)| !self.peers.connected.contains_key(node));
        if let Some(oldest) = idle.min_by_key(|(_, candidate)| candidate.seen).map(|(node, _)| *node) {
            self.forget_candidate(&oldest);
        }
    }

    fn forget_candidate(&mut self, node: &NodeId) {
        self.peers.candidates.remove(node);
        self.timers.cancel(Timer::Dial(*node));
    }

    pub(super) fn on_expired(&mut self, node: NodeId, addresses: &[String]) {
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        candidate.addresses.retain(|known| !addresses.contains(known));
        if candidate.addresses.is_empty() {
            self.forget_candidate(&node);
        }
    }

    pub(super) fn on_dial_timer(&mut self, node: NodeId, now: Now) {
        let dials = self.peers.dials();
        let room = self.peers.connected.len() + dials < self.limits.connections;
        let banned = self.peers.is_banned(&node, now);
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        if self.peers.connected.contains_key(&node) {
            return;
        }
        if candidate.dialling {
            return self.on_dial_failed(node, now);
        }
        let share =
            if candidate.failures >= DOUBTFUL { self.limits.dials.div_ceil(2) } else { self.limits.dials };
        if banned || !room || dials >= share {
            let wait = self.jitter(if banned { MAX_BACKOFF } else { MIN_BACKOFF });
            return self.timers.set(Timer::Dial(node), now.mono + wait);
        }
        candidate.dialling = true;
        candidate.last_dial = Some(now.mono);
        let addresses = candidate.addresses.iter().cloned().collect();
        self.timers.set(Timer::Dial(node), now.mono + DIAL_PATIENCE);
        self.outputs.push_back(Output::Dial { node, addresses });
    }

    pub(super) fn on_dial_failed(&mut self, node: NodeId, now: Now) {
        let Some(candidate) = self.peers.candidates.get_mut(&node) else { return };
        candidate.dialling = false;
        candidate.failures = candidate.failures.saturating_add(1);
        candidate.backoff = (2 * candidate.backoff).clamp(MIN_BACKOFF, MAX_BACKOFF);
        let wait = candidate.backoff;
        let wait = self.jitter(wait);
        self.timers.set(Timer::Dial(node), now.mono + wait);
    }

    /// `wait`, a quarter more or less.
    fn jitter(&mut self, wait: u64) -> u64 {
        wait - wait / 4 + u64::from(self.rng.next_u32()) % (wait / 2 + 1)
    }

    pub(super) fn redial_later(&mut self, node: NodeId, now: Now) {
        if self.peers.candidates.contains_key(&node) {
            let wait = self.jitter(MIN_BACKOFF) + if self.node < node { 0 } else { POLITE_WAIT };
            self.timers.set(Timer::Dial(node), now.mono + wait);
        }
    }
}
