//! For how long those are shown whose connection was lost in silence. *Pure.*
//!
//! On a bad link TCP may be silent for longer than it takes to connect anew: its estimate of the round trip grows with
//! each acknowledgement that is lost, and with it the pause before it sends again. A node that was lost so stays shown
//! until 27 s after it was last heard: whoever vanished is gone within 30 s. On a link that has shown itself bad it does
//! for longer, and so it does when a connection ends there without a goodbye.

use std::collections::{BTreeMap, VecDeque};

use super::Overlay;
use super::timers::Timer;
use crate::id::{DeviceId, NodeId};
use crate::time::{MINUTE, Now, SECOND};

/// Since a node was last heard.
const SHORT: u64 = 27 * SECOND;
/// The same on a link that seems bad: not for much longer, as one that is cut and mended again seems so too.
const LONG: u64 = 31 * SECOND;
/// Since a connection broke, on a bad link.
const BROKEN: u64 = 20 * SECOND;
/// A peer that is heard again after so long was late: its heartbeats come every 15 s at least.
const LATE: u64 = 17_500;
/// A Hello that came so long after the connection was slow, and very slow.
const SLOW: u64 = 2 * SECOND;
const VERY_SLOW: u64 = 4 * SECOND;
/// A connection that stood so long after it was dialled was slow.
const SLOW_DIAL: u64 = 4 * SECOND;
/// How many signs of a bad link make one, and for how long each counts.
const ENOUGH: usize = 2;
const MEMORY: u64 = 5 * MINUTE;

/// Who stays shown, and how good the link is.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// Devices, and until when; at most those that were on connected nodes.
    until: BTreeMap<DeviceId, u64>,
    /// When there were signs of a bad link: the newest.
    signs: VecDeque<u64>,
}

impl Linger {
    fn note(&mut self, signs: usize, now: Now) {
        self.signs.extend(std::iter::repeat_n(now.mono, signs));
        while self.signs.len() > ENOUGH {
            self.signs.pop_front();
        }
    }

    fn is_bad(&self, now: Now) -> bool {
        let first = self.signs.front().filter(|_| self.signs.len() >= ENOUGH);
        first.is_some_and(|first| now.mono < first + MEMORY)
    }

    /// Until when a device stays shown.
    pub(super) fn until(&self, device: &DeviceId) -> Option<u64> {
        self.until.get(device).copied()
    }

    /// Those who were shown for long enough.
    pub(super) fn over(&self, now: Now) -> Vec<DeviceId> {
        self.until.iter().filter(|(_, until)| **until <= now.mono).map(|(device, _)| *device).collect()
    }

    /// It was shown for long enough, or is to be shown no more.
    pub(super) fn end(&mut self, device: &DeviceId) {
        self.until.remove(device);
    }

    /// It is connected again. If it was waited for, it has been there all the time.
    pub(super) fn back(&mut self, device: &DeviceId, now: Now) {
        if self.until.remove(device).is_some() {
            self.note(1, now);
        }
    }

    /// A peer was heard after so long a silence.
    pub(super) fn heard_after(&mut self, silence: u64, now: Now) {
        if silence >= LATE {
            self.note(1, now);
        }
    }

    /// A connection of ours stood so long after it was dialled.
    pub(super) fn connected_after(&mut self, wait: u64, now: Now) {
        if wait >= SLOW_DIAL {
            self.note(1, now);
        }
    }

    /// A Hello came so long after its connection.
    pub(super) fn greeted_after(&mut self, wait: u64, now: Now) {
        match wait {
            ..SLOW => {}
            SLOW..VERY_SLOW => self.note(1, now),
            _ => self.note(ENOUGH, now),
        }
    }
}

impl Overlay {
    /// A connection is about to be forgotten that said nothing for too long, at one end or the other.
    pub(super) fn linger_in_silence(&mut self, node: &NodeId, now: Now) {
        let Some(peer) = self.peers.connected.get(node) else { return };
        let patience = if self.linger.is_bad(now) { LONG } else { SHORT };
        self.linger_until(node, peer.last_heard() + patience, now);
    }

    /// A connection is about to be forgotten that broke without a goodbye.
    pub(super) fn linger_if_bad(&mut self, node: &NodeId, now: Now) {
        let Some(peer) = self.peers.connected.get(node).filter(|_| self.linger.is_bad(now)) else { return };
        let until = (now.mono + BROKEN).min(peer.last_heard() + LONG);
        self.linger_until(node, until, now);
    }

    fn linger_until(&mut self, node: &NodeId, until: u64, now: Now) {
        let devices = self.peers.connected.get(node).map(|peer| peer.proven.values().copied());
        if until > now.mono {
            self.timers.set_earlier(Timer::Survey, until);
            self.linger.until.extend(devices.into_iter().flatten().map(|device| (device, until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now { mono, wall: mono }
    }

    #[test]
    fn a_link_is_bad_by_several_signs_and_for_a_while() {
        let mut linger = Linger::default();
        (0..100).for_each(|time| linger.heard_after(LATE - 1, at(time)));
        linger.greeted_after(SLOW - 1, at(100));
        assert!(!linger.is_bad(at(100)), "heartbeats in time and quick greetings are none");
        linger.connected_after(SLOW_DIAL - 1, at(150));
        linger.heard_after(LATE, at(200));
        assert!(!linger.is_bad(at(200)), "one may be chance");
        linger.connected_after(SLOW_DIAL, at(250));
        linger.greeted_after(SLOW, at(300));
        assert!(
            linger.is_bad(at(300)) && linger.is_bad(at(249 + MEMORY)) && !linger.is_bad(at(250 + MEMORY))
        );
        let mut linger = Linger::default();
        linger.greeted_after(VERY_SLOW, at(0));
        assert!(linger.is_bad(at(0)));
        (0..100).for_each(|_| linger.note(ENOUGH, at(1)));
        assert_eq!(linger.signs.len(), ENOUGH);
    }

    #[test]
    fn whoever_was_waited_for_and_came_back_is_a_sign() {
        let mut linger = Linger::default();
        let device = DeviceId::from_bytes([1; 32]);
        linger.back(&device, at(0));
        assert_eq!(linger.signs.len(), 0, "nobody waited");
        linger.until.insert(device, 10);
        linger.back(&device, at(5));
        assert_eq!((linger.signs.len(), linger.until(&device)), (1, None));
        linger.until.insert(device, 20);
        linger.end(&device);
        assert_eq!((linger.signs.len(), linger.until(&device)), (1, None));
    }
}
