//! Among many nodes one asks for all whether a Bonjour program is still there: by multicast, and the answer tells everybody
//! (RFC 6762 §7.3, §10.5, *pure*).
//!
//! Each node asking each program would cost as many questions as there are pairs. Whoever is due first asks; the others hear
//! the question, take it for their own, and wait for the answer. Who does not hear one asks by unicast, as among few: so
//! lost multicast costs more, but nobody is given up for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crosstalk_overlay::time::Now;
use hickory_proto::rr::Name;

use super::Mdns;
use super::lane::{Family, Place};
use super::liveness::{QUIET, search_pause};
use super::packet::{Data, Packet, kind};
use super::peers::{Key, Life};

/// From so many hosts with nodes on, ours not counted. Among fewer, unicast is cheaper on a radio.
const CROWD: usize = 12;
/// Instances that are asked for in one packet.
const TOGETHER: usize = 16;
/// A peer that would be asked within so long is asked along, milliseconds.
const JOINED: u64 = 4_000;
/// Nodes that would ask at the same time differ by up to so much.
const SPREAD: u64 = 1_000;
/// The next tries of those who heard the same question without an answer differ by up to so much.
const SECOND_SPREAD: u64 = 200;
/// A question is no reason to doubt somebody heard so lately.
const FRESH: u64 = 2_000;
/// Every so many searches one goes by unicast: multicast may be what fails.
const SEARCHES: u32 = 4;

impl Mdns {
    /// Whether so many nodes are here that one of them asks for all.
    fn is_crowd(&self, index: u32) -> bool {
        if self.peers.vouched.len() < CROWD {
            return false;
        }
        let watched = self.peers.all.iter().filter(|(key, _)| key.0 == index && self.peers.is_vouched(key));
        let hosts: BTreeSet<&Name> =
            watched.filter_map(|(_, found)| found.server.as_ref().map(|(host, _)| host)).collect();
        hosts.len() >= CROWD
    }

    /// Whether everybody is asked for this one, and everybody may answer for us.
    fn is_shared(&self, key: &Key) -> bool {
        self.peers.is_proven(key) && !self.peers.is_vouched(key) && self.is_crowd(key.0)
    }

    /// Whether the next try of a check goes to everybody.
    pub(super) fn checks_for_all(&self, key: &Key, tries: u32) -> bool {
        tries == 0 && self.is_shared(key)
    }

    /// Whether the next search goes to everybody.
    pub(super) fn searches_for_all(&self, key: &Key, tries: u32) -> bool {
        tries % SEARCHES != SEARCHES - 1 && self.is_shared(key)
    }

    /// How much later than [`QUIET`] a peer is asked at most.
    pub(super) fn spread(&self, key: &Key) -> u64 {
        if self.is_shared(key) { SPREAD } else { SPREAD / 2 }
    }

    /// This one, and others of whom nothing was heard for nearly as long.
    pub(super) fn together_for_all(&self, key: &Key, now: Now) -> Vec<Key> {
        let family = |key: &Key| self.target(key, 0).map(Family::of);
        let lane = family(key);
        let is_due = |other: &Key| {
            let Some(found) = self.peers.all.get(other).filter(|found| found.answered.is_some()) else {
                return false;
            };
            let is_near = match found.life {
                Life::Present { at } | Life::Checking { tries: 0, at, .. } => at <= now.mono + JOINED,
                Life::Checking { .. } | Life::Resolving { .. } | Life::Leaving { .. } | Life::Gone { .. } => {
                    false
                }
            };
            let is_quiet = self.peers.sign_of_life(other) + QUIET <= now.mono + JOINED;
            is_near && is_quiet && !self.peers.is_vouched(other) && family(other) == lane
        };
        let others = self.peers.all.keys().filter(|other| *other != key && other.0 == key.0 && is_due(other));
        std::iter::once(key.clone()).chain(others.take(TOGETHER - 1).cloned()).collect()
    }

    /// Another host asks everybody for instances: a question of ours as well.
    pub(super) fn heard_asking(&mut self, place: Place, from: IpAddr, packet: &Packet, now: Now) {
        let is_known = |name: &Name| {
            packet
                .answers
                .iter()
                .any(|record| record.name == *name && matches!(record.data, Data::Srv { .. }))
        };
        let asked = packet.questions.iter().filter(|asked| asked.kind == kind::SRV && !asked.unicast);
        let keys: Vec<Key> = asked
            .filter(|asked| !is_known(&asked.name))
            .map(|asked| (place.0, asked.name.clone()))
            .filter(|key| self.peers.all.contains_key(key) && !self.is_own_address(from))
            .take(TOGETHER)
            .collect();
        for key in keys {
            if self.is_shared(&key) {
                self.asked_for_all(&key, now);
            }
        }
    }

    fn asked_for_all(&mut self, key: &Key, now: Now) {
        let Some(life) = self.peers.all.get(key).map(|found| found.life) else { return };
        let next = match life {
            Life::Present { .. } | Life::Checking { tries: 0, .. } => {
                if self.peers.sign_of_life(key) + FRESH > now.mono {
                    return;
                }
                let loss = self.links.get(&key.0).map(|link| link.loss).unwrap_or_default();
                let at = now.mono + loss.pause(0, self.tries_needed(key)) + self.random(SECOND_SPREAD);
                Life::Checking { tries: 1, since: now.mono, at }
            }
            Life::Gone { since, silent, tries, .. } => {
                let at = now.mono + search_pause(now.mono.saturating_sub(since), 0) + self.random(400);
                Life::Gone { since, silent, tries: tries.wrapping_add(1), at }
            }
            Life::Checking { .. } | Life::Resolving { .. } | Life::Leaving { .. } => return,
        };
        self.peers.set_life(key, next);
    }
}
