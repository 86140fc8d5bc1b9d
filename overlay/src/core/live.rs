//! Stanzas that are for now or never: straight to the proven node, or refused at once. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::{Live, Output, Overlay, Unreachable};
use crate::id::{DeviceId, NodeId};
use crate::time::{Now, SECOND};
use crate::wire::{Frame, MAX_LIVE};

/// What the receiver, the addresses and the framing take of a frame beside the stanza, at most.
const FRAME_OVERHEAD: usize = 4 * 1_024;

/// What peers were sent of late: no receipt says when a live stanza has left the queue, so time is taken for it.
#[derive(Debug, Default)]
pub(super) struct LiveLoad {
    /// Bytes of a peer that count at that time, monotonic milliseconds; as many as there are busy peers.
    peers: BTreeMap<NodeId, (usize, u64)>,
}

impl LiveLoad {
    /// Forgets what the peers had time for, at `rate` bytes a second.
    fn drain(&mut self, rate: usize, now: Now) {
        self.peers.retain(|_, (bytes, at)| {
            let elapsed = usize::try_from(now.mono.saturating_sub(*at)).unwrap_or(usize::MAX);
            *bytes = bytes.saturating_sub(elapsed.saturating_mul(rate) / SECOND as usize);
            *at = now.mono;
            *bytes > 0
        });
    }

    /// Counts a frame for a peer if it has room: an idle peer has room for any.
    fn take(&mut self, node: NodeId, size: usize, limit: usize, now: Now) -> bool {
        let (bytes, _) = self.peers.entry(node).or_insert((0, now.mono));
        let fits = *bytes == 0 || bytes.saturating_add(size) <= limit;
        *bytes += if fits { size } else { 0 };
        fits
    }
}

impl Overlay {
    pub(super) fn send_now(&mut self, live: Live, now: Now) -> Result<(), Unreachable> {
        let devices = self.devices_of(&live)?;
        let nodes = match self.owner(&devices, &live) {
            Some((_, node)) => BTreeSet::from([node]),
            None => devices.into_iter().map(|(_, node)| node).collect(),
        };
        self.send_to(nodes, live, now)
    }

    pub(super) fn ask_one(&mut self, live: Live, now: Now) -> Result<DeviceId, Unreachable> {
        let devices = self.devices_of(&live)?;
        let (device, node) = match (self.owner(&devices, &live), devices.as_slice()) {
            (Some(owner), _) => owner,
            (None, [first, ..]) if live.to_resource.is_empty() => *first,
            (None, [only]) => *only,
            (None, _) => return Err(Unreachable::NoSession),
        };
        self.send_to(BTreeSet::from([node]), live, now).map(|()| device)
    }

    /// Live devices of the recipient, at least one.
    fn devices_of(&self, live: &Live) -> Result<Vec<(DeviceId, NodeId)>, Unreachable> {
        if live.xml.len() > MAX_LIVE {
            return Err(Unreachable::TooLarge);
        }
        let devices = self.users.live_devices(&live.to);
        if devices.is_empty() || !self.locals.contains_key(&live.from) {
            return Err(Unreachable::NotLive);
        }
        Ok(devices)
    }

    /// The device that is known to have the session that a stanza is for.
    fn owner(&self, devices: &[(DeviceId, NodeId)], live: &Live) -> Option<(DeviceId, NodeId)> {
        let owns = |(device, _): &&(DeviceId, NodeId)| {
            self.presences.has_resource(device, &live.from, &live.to_resource)
        };
        devices.iter().find(owns).copied()
    }

    fn send_to(&mut self, mut nodes: BTreeSet<NodeId>, live: Live, now: Now) -> Result<(), Unreachable> {
        let (size, limit) = (live.xml.len() + FRAME_OVERHEAD, self.limits.live_bytes_per_peer);
        self.live_load.drain(limit, now);
        nodes.retain(|node| self.live_load.take(*node, size, limit, now));
        if nodes.is_empty() {
            return Err(Unreachable::Busy);
        }
        let frame = Frame::Live(live);
        for node in nodes {
            self.send_frame(node, &frame, false, now);
        }
        Ok(())
    }

    pub(super) fn on_live(&mut self, node: NodeId, live: Live, now: Now) {
        if !self.is_proven(&live.from, &node) {
            self.unproven(node, now);
        } else if self.locals.contains_key(&live.to) {
            self.outputs.push_back(Output::Live(live));
        } else {
            self.counters.drop("live stanza for a user who is not here");
        }
    }
}
