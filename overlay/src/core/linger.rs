//! For how long those are shown whose connection was lost without a goodbye. *Pure.*
//!
//! TCP may be silent, or break, though both ends are well. Whoever was lost in silence stays shown until 27 s after it was last
//! heard, whoever was lost otherwise for a moment, and both are asked by datagrams (`probes`) and stay shown until 27 s
//! after the last answer. So whoever vanished is gone within 30 s, and nobody flickers who is there.

use std::collections::BTreeMap;

use super::Overlay;
use super::timers::Timer;
use crate::id::{DeviceId, NodeId};
use crate::time::{Now, SECOND};

/// Since a node was last heard.
const PATIENCE: u64 = 27 * SECOND;
/// Since a connection broke, if no datagram is answered: on a bad link the neighbour's address may have to be asked for first.
const BROKEN: u64 = 10 * SECOND;

/// Who stays shown.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// Devices, the nodes that they were on, and until when; at most those that were on connected nodes.
    until: BTreeMap<DeviceId, (NodeId, u64)>,
}

impl Linger {
    /// Until when a device stays shown.
    pub(super) fn until(&self, device: &DeviceId) -> Option<u64> {
        self.until.get(device).map(|(_, until)| *until)
    }

    /// Those who were shown for long enough.
    pub(super) fn over(&self, now: Now) -> Vec<DeviceId> {
        self.until.iter().filter(|(_, (_, until))| *until <= now.mono).map(|(device, _)| *device).collect()
    }

    /// When the next of them was.
    pub(super) fn next(&self) -> Option<u64> {
        self.until.values().map(|(_, until)| *until).min()
    }

    /// It was shown for long enough, is to be shown no more, or is connected again.
    pub(super) fn end(&mut self, device: &DeviceId) {
        self.until.remove(device);
    }

    /// Whether somebody stays shown who was on this node.
    pub(super) fn waits_for(&self, node: &NodeId) -> bool {
        self.until.values().any(|(on, _)| on == node)
    }
}

impl Overlay {
    /// A connection is about to be forgotten that said nothing for too long, at one end or the other.
    pub(super) fn linger_in_silence(&mut self, node: &NodeId, now: Now) {
        let Some(heard) = self.peers.heard_at(node) else { return };
        self.probe_lost(node, now);
        self.linger_until(node, heard + PATIENCE, now);
    }

    /// A connection is about to be forgotten that broke without a goodbye.
    pub(super) fn linger_if_asked(&mut self, node: &NodeId, now: Now) {
        let Some(heard) = self.peers.heard_at(node) else { return };
        if self.probe_lost(node, now) {
            self.linger_until(node, (now.mono + BROKEN).min(heard + PATIENCE), now);
        }
    }

    fn linger_until(&mut self, node: &NodeId, until: u64, now: Now) {
        let devices = self.peers.connected.get(node).map(|peer| peer.proven.values().copied());
        if until > now.mono {
            self.timers.set_earlier(Timer::Survey, until);
            let devices = devices.into_iter().flatten().map(|device| (device, (*node, until)));
            self.linger.until.extend(devices);
        }
    }

    /// A node whose connection was lost has answered, or shaken hands anew: those who are on it stay shown.
    pub(super) fn linger_on(&mut self, node: &NodeId, now: Now) {
        let theirs = self.linger.until.values_mut().filter(|(on, _)| on == node);
        theirs.for_each(|(_, until)| *until = now.mono + PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_stays_shown_does_so_by_its_own_node() {
        let mut linger = Linger::default();
        let (device, other) = (DeviceId::from_bytes([1; 32]), DeviceId::from_bytes([2; 32]));
        let (node, elsewhere) = (NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32]));
        linger.until = BTreeMap::from([(device, (node, 10)), (other, (elsewhere, 20))]);
        assert_eq!((linger.next(), linger.until(&device)), (Some(10), Some(10)));
        assert_eq!(linger.over(Now { mono: 10, wall: 0 }), [device]);
        linger.end(&device);
        assert!(!linger.waits_for(&node) && linger.waits_for(&elsewhere));
    }
}
