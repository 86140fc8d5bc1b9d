//! Which messages are deposited: those for devices that have been away for a moment. *Pure.*

use std::collections::BTreeMap;

use super::job::{Job, JobKey};
use crate::core::Overlay;
use crate::core::outbox::SealedCopy;
use crate::core::timers::{Pair, Timer, on_grid};
use crate::id::DeviceId;
use crate::mailbox::{MAX_LIFE, Offer};
use crate::time::{MINUTE, Now, SECOND};

/// A device that is away for so long gets its messages by mailbox.
const AWAY: u64 = 5 * SECOND;
/// What could not be deposited is looked at again.
const AGAIN: u64 = MINUTE;

/// Devices that messages wait for and that are not live, since when; as many as there are pairs of devices.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// None: since the next look.
    away: BTreeMap<DeviceId, Option<u64>>,
}

impl Sender {
    pub(super) fn waits(&self) -> bool {
        !self.away.is_empty()
    }

    /// When to look again.
    pub(super) fn next(&self, now: Now) -> Option<u64> {
        let soon = self.away.values().map(|since| since.map_or(now.mono, |since| since + AWAY));
        let next = soon.filter(|at| *at > now.mono).min();
        self.waits().then(|| next.unwrap_or(u64::MAX).min(on_grid(now.mono + 1, AGAIN)))
    }
}

impl Overlay {
    /// Something waits for a device that is not live.
    pub(in crate::core) fn is_away(&mut self, device: DeviceId) {
        if !self.mail.sender.away.contains_key(&device) && self.has_copies_for(&device) {
            self.mail.sender.away.insert(device, None);
            // With the next timeout, which is now.
            self.timers.set_earlier(Timer::Mail, 0);
        }
    }

    /// Begins a deposit for whatever waits for a device that is away.
    pub(super) fn deposit_waiting(&mut self, now: Now) {
        let mut away = std::mem::take(&mut self.mail.sender.away);
        away.retain(|device, _| self.users.node_of(device).is_none() && self.has_copies_for(device));
        away.values_mut().for_each(|since| *since = since.or(Some(now.mono)));
        let late = |since: &Option<u64>| since.is_some_and(|since| now.mono >= since + AWAY);
        let due: Vec<DeviceId> =
            away.iter().filter(|(_, since)| late(since)).map(|(device, _)| *device).collect();
        self.mail.sender.away = away;
        for device in due {
            let copies = self.copies_to_deposit(&device, now.mono);
            let mailbox = self.users.by_device.get(&device).copied().filter(|_| !copies.is_empty());
            // Otherwise it is being asked who that is.
            let Some(holders) = mailbox.and_then(|mailbox| self.holders_for(&mailbox, now)) else { continue };
            for (pair, number) in copies {
                if holders.is_empty() {
                    self.deposit_later(pair, number, now.mono + self.limits.repair);
                } else if !self.deposit_copy(pair, number, now) {
                    break;
                }
            }
        }
    }

    /// False: there is no room for more now.
    fn deposit_copy(&mut self, pair: Pair, number: u64, now: Now) -> bool {
        let key = JobKey::Copy(pair, number);
        if self.mail.jobs.contains(&key) {
            return true;
        }
        if !self.has_room_for_job(0) {
            return false;
        }
        let Some(SealedCopy { mailbox, item, expires, holders }) = self.seal_for_mailbox(pair, number) else {
            return false;
        };
        let expires = expires.min(self.time(now).saturating_add(MAX_LIFE));
        let from = self.local_devices.get(&pair.0).copied();
        let token = from.map(|from| self.next_token(&mailbox, &from, now)).unwrap_or_default();
        let offer = Offer { mailbox, item, expires, nonce: 0, token, replica: false };
        self.add_job(key, Job::new(offer, holders), now)
    }
}
