//! What users show everybody on the link: ours pushed to every peer, theirs taken in and ended in time. *Pure.*

use std::collections::BTreeMap;

use super::timers::{TICK, Timer, on_grid};
use super::{Output, Overlay};
use crate::id::{DeviceId, NodeId, UserId};
use crate::record::{LinkPresence, LinkStatus, Unverified, Verified};
use crate::time::{MINUTE, Now};
use crate::wire::{Frame, MAX_LINK_PRESENCES};

/// How long a statement counts.
const LIFE: u64 = 2 * MINUTE;
/// How often it is renewed.
const REFRESH: u64 = MINUTE;
/// Bytes of statements in one frame.
const BYTES: usize = 256 * 1_024;

/// What the devices of others show; at most one for each live device.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    shown: BTreeMap<DeviceId, Verified<LinkPresence>>,
}

impl Overlay {
    pub(super) fn change_link_presence(&mut self, user: &UserId, status: Option<LinkStatus>, now: Now) {
        let Some(local) = self.locals.get_mut(user) else { return };
        let status = status.map(LinkStatus::fit);
        if local.shown.link_status == status {
            return;
        }
        local.shown.link_status = status;
        let device = local.device.id();
        self.sign_link_presence(user, now);
        let record = self.locals.get(user).and_then(|local| local.shown.link_presence.as_ref());
        let frame = match record {
            Some(record) => Frame::LinkPresences(vec![record.bytes().to_vec()]),
            None => Frame::LinkAbsence { user: *user, device, gone: false },
        };
        for node in self.peers.ready() {
            self.send_frame(node, &frame, false, now);
        }
        self.timers.set_earlier(Timer::LinkPresence, on_grid(now.mono + 1, REFRESH));
    }

    pub(super) fn sign_link_presence(&mut self, user: &UserId, now: Now) {
        let at = self.tick(now);
        let Some(local) = self.locals.get_mut(user) else { return };
        local.shown.link_presence = local.shown.link_status.clone().and_then(|status| {
            let device = local.device.id();
            let record =
                LinkPresence { user: *user, device, status, at, expires: at.millis.saturating_add(LIFE) };
            Verified::sign(record, &local.device, None).ok()
        });
    }

    /// Shows a peer what all our users show, as many to a frame as fit.
    pub(super) fn push_link_presences(&mut self, node: NodeId, now: Now) {
        let records = self.locals.values().filter_map(|local| local.shown.link_presence.as_ref());
        let records: Vec<Vec<u8>> = records.map(|record| record.bytes().to_vec()).collect();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for record in records {
            if batch.len() == MAX_LINK_PRESENCES || bytes + record.len() + 8 > BYTES {
                self.send_frame(node, &Frame::LinkPresences(std::mem::take(&mut batch)), false, now);
                bytes = 0;
            }
            bytes += record.len() + 8;
            batch.push(record);
        }
        if !batch.is_empty() {
            self.send_frame(node, &Frame::LinkPresences(batch), false, now);
        }
    }

    pub(super) fn on_link_presence_timer(&mut self, now: Now) {
        let users: Vec<UserId> = self
            .locals
            .iter()
            .filter(|(_, local)| local.shown.link_status.is_some())
            .map(|(user, _)| *user)
            .collect();
        if users.is_empty() {
            return;
        }
        users.iter().for_each(|user| self.sign_link_presence(user, now));
        for node in self.peers.ready() {
            self.push_link_presences(node, now);
        }
        self.timers.set(Timer::LinkPresence, on_grid(now.mono + 1, REFRESH));
    }

    pub(super) fn on_link_presences(&mut self, node: NodeId, records: &[Vec<u8>], now: Now) {
        for bytes in records {
            let time = self.clock.trusted(now);
            let record = Unverified::<LinkPresence>::parse(bytes);
            match record.and_then(|record| record.verify(&self.users.context(time))) {
                Ok(record) if self.users.node_of(&record.device) == Some(node) => {
                    self.on_neighbour(record, now)
                }
                Ok(_) => self.unproven(node, now),
                Err(refusal) => self.refused(node, &refusal, now),
            }
        }
    }

    fn on_neighbour(&mut self, record: Verified<LinkPresence>, now: Now) {
        let known = self.neighbours.shown.get(&record.device);
        if known.is_some_and(|known| known.at >= record.at) {
            return self.counters.drop("link presence that is not newer");
        }
        let changed = known.is_none_or(|known| known.status != record.status);
        // Its life counts from here, by our clock: the two wall clocks may differ by more than that life.
        self.timers.set(Timer::Neighbour(record.device), on_grid(now.mono + record.life(), TICK));
        self.neighbours.shown.insert(record.device, record.clone());
        if changed {
            self.outputs.push_back(Output::LinkPresence(record));
        }
    }

    /// Unsigned: the link proves that it comes from the device's own node.
    pub(super) fn on_link_absence(
        &mut self,
        node: NodeId,
        user: UserId,
        device: DeviceId,
        gone: bool,
        now: Now,
    ) {
        if self.users.node_of(&device) != Some(node) || !self.is_proven(&user, &node) {
            return self.unproven(node, now);
        }
        if gone {
            self.device_left(&device);
        } else {
            self.forget_neighbour(&device);
        }
    }

    /// A neighbour hides, has left, or was not heard of for the life of its last statement.
    pub(super) fn forget_neighbour(&mut self, device: &DeviceId) {
        self.timers.cancel(Timer::Neighbour(*device));
        if let Some(record) = self.neighbours.shown.remove(device) {
            self.outputs.push_back(Output::LinkAbsence { user: record.user, device: *device });
        }
    }
}
