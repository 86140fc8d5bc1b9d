//! The receipts of what came by mailbox: straight to the sender's device if it is live, else sealed and deposited. What
//! they are for stays in its mailbox until somebody has them. *Pure.*

use std::collections::BTreeMap;

use rand_core::Rng as _;

use super::job::{Job, JobKey};
use crate::core::Overlay;
use crate::core::timers::on_grid;
use crate::id::{DeviceId, ItemId, MessageId, NodeId, UserId};
use crate::mailbox::{Item, MAX_LIFE, MAX_RECEIPTS, Offer};
use crate::record::{Receipt, Verified};
use crate::time::{DAY, HOUR, MINUTE, Now, SECOND};
use crate::wire::Frame;

/// Receipts for one device are collected for so long.
const COLLECT: u64 = 2 * SECOND;
/// Receipts that are sent over a session at once; further ones a second later.
const AT_ONCE: usize = 32;
/// A receipt that was sent has arrived if the session has lasted for so long.
const ARRIVED: u64 = 10 * SECOND;
/// Receipts for a device that cannot be found are given up, with what they are for.
const PATIENCE: u64 = DAY;
/// Until then they are looked for, a while in each hour.
const SEEK: u64 = 2 * MINUTE;

#[derive(Debug)]
struct Waiting {
    /// Who says that it has arrived.
    user: UserId,
    receipt: Vec<u8>,
    item: ItemId,
    since: u64,
}

#[derive(Debug)]
struct Sent {
    to: (UserId, DeviceId),
    node: NodeId,
    waiting: Waiting,
    due: u64,
}

/// As many as there are items listed, at most.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// By the sender's user and device.
    waiting: BTreeMap<(UserId, DeviceId), Vec<Waiting>>,
    /// Sent over a session.
    sent: Vec<Sent>,
    /// What the receipts of a deposit are for.
    deposited: BTreeMap<u64, Vec<ItemId>>,
    next: u64,
}

impl Receipts {
    /// When to look again: soon, or from time to time if all that is left is for people who are being looked for.
    pub(super) fn next(&self, now: Now) -> Option<u64> {
        let newest = self.waiting.values().flatten().map(|waiting| waiting.since).max();
        let soon = !self.sent.is_empty() || newest.is_some_and(|since| now.mono < since + SEEK);
        let waits = soon || newest.is_some();
        waits.then(|| on_grid(now.mono + 1, if soon { SECOND } else { MINUTE }))
    }
}

impl Overlay {
    /// A message that came by mailbox is settled.
    pub(in crate::core) fn answer_by_mail(&mut self, receipt: &Receipt, to: UserId, item: ItemId, now: Now) {
        let Some(local) = self.locals.get(&receipt.user) else { return };
        let Ok(signed) = Verified::sign(receipt.clone(), &local.device, None) else { return };
        let waiting = Waiting { user: receipt.user, receipt: signed.bytes().to_vec(), item, since: now.mono };
        self.mail.receipts.waiting.entry((to, receipt.sender)).or_default().push(waiting);
        self.mail_soon(now);
    }

    pub(super) fn send_receipts(&mut self, now: Now) {
        self.confirm_sent(now);
        let devices: Vec<(UserId, DeviceId)> = self.mail.receipts.waiting.keys().copied().collect();
        for to in devices {
            match self.users.node_of(&to.1) {
                Some(node) => self.send_directly(to, node, now),
                None => self.deposit_receipts(to, now),
            }
        }
    }

    fn send_directly(&mut self, to: (UserId, DeviceId), node: NodeId, now: Now) {
        let mut waiting = self.mail.receipts.waiting.remove(&to).unwrap_or_default();
        let rest = waiting.split_off(waiting.len().min(AT_ONCE));
        if !rest.is_empty() {
            self.mail.receipts.waiting.insert(to, rest);
        }
        for waiting in waiting {
            self.send_frame(node, &Frame::Receipt(waiting.receipt.clone()), true, now);
            self.mail.receipts.sent.push(Sent { to, node, waiting, due: now.mono + ARRIVED });
        }
    }

    /// What was sent over a session that is no more goes by mailbox.
    fn confirm_sent(&mut self, now: Now) {
        for sent in std::mem::take(&mut self.mail.receipts.sent) {
            let Sent { to, node, waiting, due } = sent;
            if self.users.node_of(&to.1) != Some(node) {
                self.mail.receipts.waiting.entry(to).or_default().push(waiting);
            } else if now.mono >= due {
                self.forget_mail(waiting.item, now);
            } else {
                self.mail.receipts.sent.push(Sent { to, node, waiting, due });
            }
        }
    }

    fn deposit_receipts(&mut self, to: (UserId, DeviceId), now: Now) {
        let Some(waiting) = self.mail.receipts.waiting.get(&to) else { return };
        let oldest = waiting.iter().map(|waiting| waiting.since).min().unwrap_or(now.mono);
        if now.mono < oldest + COLLECT && waiting.len() < MAX_RECEIPTS || !self.has_room_for_job(0) {
            return;
        }
        let part = self.users.record(&to.0).and_then(|record| record.devices().get(&to.1));
        let Some(key) = part.and_then(|part| part.info.newest()).map(|key| key.public) else {
            if (now.mono - oldest) % HOUR < SEEK {
                self.seek(&to.0, now);
            }
            return self.give_up_receipts(to, oldest, now);
        };
        let Some(mut waiting) = self.mail.receipts.waiting.remove(&to) else { return };
        let rest = waiting.split_off(waiting.len().min(MAX_RECEIPTS));
        if !rest.is_empty() {
            self.mail.receipts.waiting.insert(to, rest);
        }
        let Some(user) = waiting.first().map(|waiting| waiting.user) else { return };
        let (receipts, items): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|waiting| (waiting.receipt, waiting.item)).unzip();
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let item = Item::seal_receipts(MessageId::from_bytes(id), to.1, key, receipts, &mut self.rng);
        let Ok(item) = item else { return self.counters.drop("a device's sealing key cannot be sealed to") };
        let expires = self.time(now).saturating_add(MAX_LIFE);
        let token = self.next_token(&to.0, &user, now);
        let offer = Offer { mailbox: to.0, item: item.encode(), expires, nonce: 0, token, replica: false };
        self.mail.receipts.next += 1;
        let number = self.mail.receipts.next;
        self.mail.receipts.deposited.insert(number, items);
        if !self.add_job(JobKey::Receipts(number), Job::new(offer, std::collections::BTreeSet::new()), now) {
            self.receipts_have_ended(number);
        }
    }

    /// The sender's device is not known (any more).
    fn give_up_receipts(&mut self, to: (UserId, DeviceId), oldest: u64, now: Now) {
        if now.mono < oldest + PATIENCE {
            return;
        }
        for waiting in self.mail.receipts.waiting.remove(&to).unwrap_or_default() {
            self.counters.drop("receipt for a device that is not known");
            self.forget_mail(waiting.item, now);
        }
    }

    /// A node holds receipts: what they are for may go.
    pub(super) fn receipts_are_held(&mut self, number: u64, now: Now) {
        for item in self.mail.receipts.deposited.remove(&number).unwrap_or_default() {
            self.forget_mail(item, now);
        }
    }

    /// No node took receipts: what they are for is taken again another time, and answered then.
    pub(super) fn receipts_have_ended(&mut self, number: u64) {
        for item in self.mail.receipts.deposited.remove(&number).unwrap_or_default() {
            self.look_again(item);
        }
    }
}
