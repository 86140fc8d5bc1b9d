//! Stanzas that are for now or never: straight to the proven node; after a moment, if it has to be connected first; or
//! refused. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::timers::Timer;
use super::{Live, Output, Overlay, Unreachable};
use crate::id::{DeviceId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::time::{Now, SECOND};
use crate::wire::{Frame, MAX_LIVE};

/// What the receiver, the addresses and the framing take of a frame beside the stanza, at most.
const FRAME_OVERHEAD: usize = 4 * 1_024;

/// A stanza waits so long for the connection to its recipient's node.
const PATIENCE: u64 = 3 * SECOND;
/// Stanzas that wait at most, …
const MAX_HELD: usize = 64;
/// … and their bytes; further ones are refused.
const MAX_HELD_BYTES: usize = 1_024 * 1_024;

/// What peers were sent of late: no receipt says when a live stanza has left the queue, so time is taken for it.
#[derive(Debug, Default)]
pub(super) struct LiveLoad {
    /// Bytes of a peer that count at that time, monotonic milliseconds; as many as there are busy peers.
    peers: BTreeMap<NodeId, (usize, u64)>,
    /// Stanzas that wait for a connection, in the order in which they are given up.
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    until: u64,
    live: Live,
    /// A request waits for this device, and for no other.
    only: Option<DeviceId>,
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
        let nodes: BTreeSet<NodeId> = match self.owner(&devices, &live) {
            Some((_, node)) => BTreeSet::from([node]),
            None => devices.into_iter().map(|(_, node)| node).collect(),
        };
        match nodes.is_empty() {
            true => self.hold(live, None, now),
            false => self.send_to(nodes, live, now),
        }
    }

    pub(super) fn ask_one(&mut self, live: Live, now: Now) -> Result<DeviceId, Unreachable> {
        let devices = self.devices_of(&live)?;
        if devices.is_empty() {
            let (device, _) = self.one_of(&self.present_devices(&live.to), &live)?;
            return self.hold(live, Some(device), now).map(|()| device);
        }
        let (device, node) = self.one_of(&devices, &live)?;
        self.send_to(BTreeSet::from([node]), live, now).map(|()| device)
    }

    /// Live devices of the recipient; none: it has to be connected first.
    fn devices_of(&self, live: &Live) -> Result<Vec<(DeviceId, NodeId)>, Unreachable> {
        if live.xml.len() > MAX_LIVE {
            return Err(Unreachable::TooLarge);
        }
        if self.locals.get(&live.from).is_none_or(|local| local.is_void(&self.users.revocations)) {
            return Err(Unreachable::NotLive);
        }
        Ok(self.users.live_devices(&live.to))
    }

    /// The device that is known to have the session that a stanza is for.
    fn owner(&self, devices: &[(DeviceId, NodeId)], live: &Live) -> Option<(DeviceId, NodeId)> {
        let owns = |(device, _): &&(DeviceId, NodeId)| {
            self.presences.has_resource(device, &live.from, &live.to_resource)
        };
        devices.iter().find(owns).copied()
    }

    /// The one device that a request is put to.
    fn one_of(&self, devices: &[(DeviceId, NodeId)], live: &Live) -> Result<(DeviceId, NodeId), Unreachable> {
        match (self.owner(devices, live), devices) {
            (Some(owner), _) => Ok(owner),
            (None, []) => Err(Unreachable::NotLive),
            (None, [first, ..]) if live.to_resource.is_empty() => Ok(*first),
            (None, [only]) => Ok(*only),
            (None, _) => Err(Unreachable::NoSession),
        }
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

    /// Keeps a stanza for a user who is on the link until the node is connected; a request until that of its device is.
    fn hold(&mut self, live: Live, only: Option<DeviceId>, now: Now) -> Result<(), Unreachable> {
        if self.present_devices(&live.to).is_empty() {
            return Err(Unreachable::NotLive);
        }
        let held = &mut self.live_load.held;
        let bytes: usize = held.iter().map(|held| held.live.xml.len()).sum();
        if held.len() >= MAX_HELD || bytes + live.xml.len() > MAX_HELD_BYTES {
            return Err(Unreachable::Busy);
        }
        let (to, until) = (live.to, now.mono + PATIENCE);
        held.push_back(Held { until, live, only });
        self.timers.set_earlier(Timer::Held, until);
        self.call(&to, now);
        Ok(())
    }

    /// A user's node is connected now.
    pub(super) fn send_held(&mut self, user: &UserId, now: Now) {
        let devices = self.users.live_devices(user);
        let there = |held: &Held| {
            held.live.to == *user
                && held.only.is_none_or(|only| devices.iter().any(|(device, _)| *device == only))
        };
        let (send, keep): (VecDeque<Held>, _) =
            std::mem::take(&mut self.live_load.held).into_iter().partition(there);
        self.live_load.held = keep;
        for Held { live, only, .. } in send {
            let nodes = devices.iter().filter(|(device, _)| only.is_none_or(|only| only == *device));
            let nodes = nodes.map(|(_, node)| *node).collect();
            if self.send_to(nodes, live.clone(), now).is_err() {
                self.outputs.push_back(Output::LiveFailed(live));
            }
        }
    }

    pub(super) fn on_held_timer(&mut self, now: Now) {
        let due = self.live_load.held.partition_point(|held| held.until <= now.mono);
        let failed = self.live_load.held.drain(..due).map(|held| Output::LiveFailed(held.live));
        self.outputs.extend(failed);
        if let Some(held) = self.live_load.held.front() {
            self.timers.set(Timer::Held, held.until);
        }
    }

    pub(super) fn on_live(&mut self, node: NodeId, live: Live, now: Now) {
        if !self.is_proven(&live.from, &node) && !is_on(Mutant::UnprovenLive) {
            self.unproven(node, now);
        } else if self.locals.contains_key(&live.to) {
            self.outputs.push_back(Output::Live(live));
        } else {
            self.counters.drop("live stanza for a user who is not here");
        }
    }
}
