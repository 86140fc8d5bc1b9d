//! What users show everybody on the link: ours pushed to every peer, theirs taken in. A statement
//! counts as long as its node is heard of. *Pure.*

use std::collections::BTreeMap;

use super::timers::{Timer, on_grid};
use super::{Output, Overlay};
use crate::id::{DeviceId, NodeId, UserId};
use crate::record::{LinkPresence, LinkStatus, Unverified, Verified};
use crate::time::{MINUTE, Now};
use crate::wire::{Frame, MAX_LINK_PRESENCES, Relayed};

/// How long a statement counts after its node was heard of.
const LIFE: u64 = 2 * MINUTE;
/// How often everything that is said on the link is said anew.
pub(super) const REFRESH: u64 = 15 * MINUTE;
/// What others said is forgotten if it was not renewed for so long, twice and a little.
pub(super) const STALE: u64 = 2 * REFRESH + 2 * MINUTE;
/// Bytes of statements in one frame.
const BYTES: usize = 256 * 1_024;

/// What the devices of others show; at most one for each device that is live or present.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    shown: BTreeMap<DeviceId, Verified<LinkPresence>>,
}

impl Overlay {
    pub(super) fn change_link_presence(&mut self, user: &UserId, status: Option<LinkStatus>, now: Now) {
        let Some(local) = self.locals.get_mut(user) else { return };
        let status = status.map(LinkStatus::fit).filter(|_| !local.is_void(&self.users.revocations));
        if local.shown.link_status == status {
            return;
        }
        local.shown.link_status = status;
        self.show_on_link(user, now);
    }

    /// Signs what a user shows and tells every peer.
    pub(super) fn show_on_link(&mut self, user: &UserId, now: Now) {
        self.sign_link_presence(user, now);
        let Some(local) = self.locals.get(user) else { return };
        let device = local.device.id();
        let frames = match &local.shown.link_presence {
            Some(record) => vec![Frame::LinkPresences(vec![record.bytes().to_vec()])],
            None => {
                let absence = Frame::LinkAbsence { user: *user, device, gone: false };
                std::iter::once(absence).chain(self.sign_hidden(user, now)).collect()
            }
        };
        for node in self.peers.near() {
            frames.iter().for_each(|frame| self.send_frame(node, frame, false, now));
        }
    }

    /// Says to those who are told by others that a user shows nothing any more: by a statement without a life.
    fn sign_hidden(&mut self, user: &UserId, now: Now) -> Option<Frame> {
        let at = self.tick(now);
        let local = self.locals.get(user)?;
        let (device, status) = (local.device.id(), LinkStatus::default());
        let hidden = LinkPresence { user: *user, device, status, at, expires: at.millis };
        let presences = vec![Verified::sign(hidden, &local.device, None).ok()?.bytes().to_vec()];
        Some(Frame::Relayed(Relayed { presences, ..Relayed::default() }))
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

    /// Says everything anew, and forgets what others have not.
    pub(super) fn on_renew_timer(&mut self, now: Now) {
        self.timers.set(Timer::Renew, on_grid(now.mono + 1, REFRESH));
        self.forget_stale_statements(now);
        self.renew_links(now);
        let users: Vec<UserId> = self
            .locals
            .iter()
            .filter(|(_, local)| local.shown.link_status.is_some())
            .map(|(user, _)| *user)
            .collect();
        users.iter().for_each(|user| self.sign_link_presence(user, now));
        for node in self.peers.near() {
            self.push_link_presences(node, now);
        }
    }

    pub(super) fn on_link_presences(&mut self, node: NodeId, records: &[Vec<u8>], now: Now) {
        for bytes in records {
            let time = self.clock.trusted(now);
            let record = Unverified::<LinkPresence>::parse(bytes);
            match record.and_then(|record| record.verify(&self.users.context(time))) {
                Ok(record) if self.users.node_of(&record.device) == Some(node) => {
                    self.note_presence(node, node, &record, now);
                    self.on_neighbour(record);
                }
                Ok(_) => self.unproven(node, now),
                Err(refusal) => self.refused(node, &refusal, now),
            }
        }
    }

    /// Shows what a device that is on the link shows.
    pub(super) fn on_neighbour(&mut self, record: Verified<LinkPresence>) {
        if record.life() == 0 {
            return self.forget_neighbour(&record.device);
        }
        let known = self.neighbours.shown.get(&record.device);
        if known.is_some_and(|known| known.at >= record.at) {
            return self.counters.drop("link presence that is not newer");
        }
        let since = |known: &Verified<LinkPresence>| record.at.millis - known.at.millis;
        let changed = known.is_none_or(|known| known.status != record.status || since(known) >= REFRESH / 2);
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
            self.gossip.remove(&super::gossip::Key::User(device));
            self.device_left(&device);
        } else {
            self.forget_neighbour(&device);
        }
    }

    /// A neighbour hides, or has left.
    pub(super) fn forget_neighbour(&mut self, device: &DeviceId) {
        if let Some(record) = self.neighbours.shown.remove(device) {
            self.outputs.push_back(Output::LinkAbsence { user: record.user, device: *device });
        }
    }
}
