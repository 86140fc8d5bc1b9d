//! The part of the outbox that mailboxes need: which copies to put where, sealed, and who has acknowledged them. *Pure.*

use std::collections::BTreeSet;

use rand_core::Rng;

use crate::core::Overlay;
use crate::core::timers::Pair;
use crate::envelope::{Envelope, Inner, MAX_CARD, MAX_CONTENT};
use crate::id::{DeviceId, MessageId, NodeId, UserId};
use crate::mailbox::COPIES;
use crate::mailbox::{Item, Kind};
use crate::record::UserRecord;

/// A copy, sealed to wait in a mailbox.
pub(in crate::core) struct SealedCopy {
    pub(in crate::core) mailbox: UserId,
    pub(in crate::core) item: Vec<u8>,
    /// Unix milliseconds.
    pub(in crate::core) expires: u64,
    /// The nodes that hold it already.
    pub(in crate::core) holders: BTreeSet<NodeId>,
}

impl Overlay {
    /// Whether messages wait for a device.
    pub(in crate::core) fn has_copies_for(&self, device: &DeviceId) -> bool {
        let lanes = self.outbox.pairs_to(device).into_iter().filter_map(|pair| self.outbox.lanes.get(&pair));
        lanes.into_iter().any(|lane| !lane.queue.is_empty())
    }

    /// The copies for a device that too few nodes hold, oldest first, as far as they may wait in mailboxes at once.
    pub(in crate::core) fn copies_to_deposit(&self, device: &DeviceId, mono: u64) -> Vec<(Pair, u64)> {
        let mut copies = Vec::new();
        for pair in self.outbox.pairs_to(device) {
            let Some(lane) = self.outbox.lanes.get(&pair) else { continue };
            let due = |number: &&u64| {
                let entry = self.outbox.entries.get(number);
                let copy = entry.and_then(|entry| entry.copies.get(device));
                copy.is_some_and(|copy| copy.holders.len() < COPIES && copy.next_try <= mono)
            };
            let queue = lane.queue.iter().take(self.limits.deposited_per_device);
            copies.extend(queue.filter(due).map(|number| (pair, *number)));
        }
        copies
    }

    /// Whether a copy still waits for its receipt, and cannot be sent directly.
    pub(in crate::core) fn is_to_be_deposited(&self, pair: Pair, number: u64) -> bool {
        let lane = self.outbox.lanes.get(&pair);
        lane.is_some_and(|lane| lane.queue.contains(&number)) && self.users.node_of(&pair.1).is_none()
    }

    /// Gives a copy its place in the order, and seals it. None: earlier ones have to be receipted first.
    pub(in crate::core) fn seal_for_mailbox(&mut self, pair: Pair, number: u64) -> Option<SealedCopy> {
        self.place(pair, number)?;
        let (mut inner, from) = self.inner(pair, number)?;
        inner.card = self.card(&inner);
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let local = self.locals.get(&from)?;
        let envelope =
            Envelope::seal(MessageId::from_bytes(id), inner, &local.device, &local.cert, &mut self.rng);
        let Ok(envelope) = envelope else {
            self.counters.drop("a device's sealing key cannot be sealed to");
            return None;
        };
        let entry = self.outbox.entries.get(&number)?;
        let holders = entry.copies.get(&pair.1)?.holders.clone();
        let item = Item { kind: Kind::Envelope, envelope }.encode();
        Some(SealedCopy { mailbox: entry.to, item, expires: entry.expires, holders })
    }

    /// What the first letters to a device bring, until it has answered one: who writes, under which name, and what an answer
    /// is to be sealed to. Over a session nodes tell each other; by mail they would have to look it up.
    fn card(&self, inner: &Inner) -> Vec<u8> {
        let record = self.users.record(&inner.user).filter(|_| inner.first == 1);
        let card = record.map(UserRecord::encode).unwrap_or_default();
        let fits = card.len() <= MAX_CARD && inner.content.encode().len() + card.len() <= MAX_CONTENT;
        if fits { card } else { Vec::new() }
    }

    /// A node holds a copy, durably.
    pub(in crate::core) fn copy_is_held(&mut self, pair: Pair, number: u64, node: NodeId) {
        let copies = self.outbox.entries.get_mut(&number).map(|entry| &mut entry.copies);
        let copy = copies.and_then(|copies| copies.get_mut(&pair.1));
        if copy.is_some_and(|copy| copy.state.is_open() && copy.holders.insert(node)) {
            self.write_entry(number);
        }
    }

    /// No node takes a copy now.
    pub(in crate::core) fn deposit_later(&mut self, pair: Pair, number: u64, when: u64) {
        let copies = self.outbox.entries.get_mut(&number).map(|entry| &mut entry.copies);
        if let Some(copy) = copies.and_then(|copies| copies.get_mut(&pair.1)) {
            copy.next_try = when;
        }
    }

    /// Somebody new could take what nobody took before.
    pub(in crate::core) fn try_deposits_again(&mut self) {
        let copies = self.outbox.entries.values_mut().flat_map(|entry| entry.copies.values_mut());
        copies.for_each(|copy| copy.next_try = 0);
    }

    /// Users for whom something waits in mailboxes.
    pub(in crate::core) fn users_with_deposits(&self) -> BTreeSet<UserId> {
        let waits = |copy: &super::Copy| copy.state.is_open() && !copy.holders.is_empty();
        let entries = self.outbox.entries.values();
        entries.filter(|entry| entry.copies.values().any(waits)).map(|entry| entry.to).collect()
    }

    /// Of a user's copies forgets the holders that are no longer among the nodes where its mailbox is, so that others
    /// get them.
    pub(in crate::core) fn forget_lost_holders(&mut self, user: &UserId, there: &BTreeSet<NodeId>) {
        for number in self.outbox.numbers_to(user) {
            let Some(entry) = self.outbox.entries.get_mut(&number) else { continue };
            let open = entry.copies.values_mut().filter(|copy| copy.state.is_open());
            for copy in open {
                copy.holders.retain(|node| there.contains(node));
                copy.next_try = 0;
            }
        }
    }
}
