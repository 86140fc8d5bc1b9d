//! What this node holds for users who are away: sealed items that tell it neither content nor sender. *Pure.*
//!
//! An item is accepted by what it is, not by whom it comes from: within the bounds of its mailbox, of this node and of
//! the peer that brings it, and paid for by work or by a token of the mailbox's owner. What was acknowledged stays until
//! its owner has it or until it has expired; when full, further ones are refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::state::{STATE_VERSION, StoredMail, StoredToken, TokenPlace};
use crate::id::{DeviceId, ItemId, NodeId, UserId};
use crate::time::{DAY, MAX_SKEW, TrustedTime};

mod item;
mod quota;
pub mod work;

pub use item::{Item, Kind, MAX_ITEM, MAX_RECEIPTS, item_id};

/// Nodes that hold an item, if they can be found.
pub const COPIES: usize = 3;
/// An item is held so long at most.
pub const MAX_LIFE: u64 = 30 * DAY;
/// Used tokens that are remembered at most; of more, the one that ends first is forgotten and could be used again.
const MAX_TOKENS: usize = 16_384;
/// More work is asked when so many eighths of what strangers may fill are full: bits beyond the least.
const STEPS: [(usize, u32); 3] = [(4, 2), (6, 4), (7, 6)];

/// What this node holds for others at most. Whoever has neither work nor token gets nothing; who has no token may fill
/// three quarters of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all items; 0: this node holds nothing. Default 32 MiB.
    pub bytes: usize,
    /// Items of all mailboxes. Default 16,384.
    pub items: usize,
    /// Bytes of one mailbox. Default 4 MiB.
    pub mailbox_bytes: usize,
    /// Items of one mailbox. Default 512.
    pub mailbox_items: usize,
    /// Bytes that one peer may bring within an hour, and pass on as much. Default 8 MiB.
    pub peer_bytes: usize,
    /// Items that one peer may bring within an hour, and pass on as many. Default 512.
    pub peer_items: usize,
    /// Bits of work that a stranger pays for a small item; [`work::price`] says what a larger one costs, and it is six more
    /// when it gets full. Default 18.
    pub bits: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: 32 * 1_024 * 1_024,
            items: 16_384,
            mailbox_bytes: 4 * 1_024 * 1_024,
            mailbox_items: 512,
            peer_bytes: 8 * 1_024 * 1_024,
            peer_items: 512,
            bits: 18,
        }
    }
}

/// What somebody asks a node to hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// Whose mailbox.
    pub mailbox: UserId,
    /// An encoded [`Item`].
    pub item: Vec<u8>,
    /// Until when, Unix milliseconds; [`MAX_LIFE`] from now at most.
    pub expires: u64,
    /// The work paid for it.
    pub nonce: u64,
    /// A signed [`crate::record::Token`] in the place of work; empty for none.
    pub token: Vec<u8>,
    /// Whether it is passed on by another holder.
    pub replica: bool,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offer(for {}, {} bytes)", self.mailbox, self.item.len())
    }
}

/// What a holder says to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is held durably, or was before.
    Held,
    /// There is no room now.
    Full,
    /// So many bits of work are wanted.
    Work(u32),
    /// It is larger than a mailbox.
    TooLarge,
    /// It is not held here.
    Policy,
}

impl Answer {
    /// The numbers on the wire: outcome and bits.
    pub fn to_wire(self) -> (u32, u32) {
        match self {
            Self::Held => (1, 0),
            Self::Full => (2, 0),
            Self::Work(bits) => (3, bits),
            Self::TooLarge => (4, 0),
            Self::Policy => (5, 0),
        }
    }

    /// Reads [`Self::to_wire`]; an outcome of a later version counts as [`Self::Policy`].
    pub fn from_wire(outcome: u32, bits: u32) -> Self {
        match outcome {
            1 => Self::Held,
            2 => Self::Full,
            3 => Self::Work(bits),
            4 => Self::TooLarge,
            _ => Self::Policy,
        }
    }
}

/// A verified token: its serial number, and when it ends, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// Different for each token of a mailbox.
    pub serial: [u8; 16],
    /// When it ends.
    pub expires: u64,
}

/// Which devices somebody may list, take and discard for.
pub type Access = BTreeSet<(UserId, DeviceId)>;

/// An item with what is needed to find it and to pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub id: ItemId,
    /// The device that can open it.
    pub device: DeviceId,
    /// It, as it was offered.
    pub offer: Offer,
}

/// Sums that the bounds are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Items.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Load {
    fn add(&mut self, size: usize) {
        self.items += 1;
        self.bytes += size;
    }

    fn remove(&mut self, size: usize) {
        self.items -= 1;
        self.bytes -= size;
    }

    /// Whether one more of `size` fits into so many quarters of a bound.
    fn fits(&self, size: usize, (items, bytes): (usize, usize), quarters: usize) -> bool {
        self.items < items.saturating_mul(quarters).div_ceil(4) && self.bytes + size <= bytes / 4 * quarters
    }

    /// How many eighths of what strangers may have are full.
    fn eighths(&self, (items, bytes): (usize, usize)) -> usize {
        let part = |used: usize, bound: usize| used.saturating_mul(8) / (bound / 4 * 3).max(1);
        part(self.items, items).max(part(self.bytes, bytes))
    }
}

/// All that this node holds.
#[derive(Debug, Default)]
pub struct Mailboxes {
    bounds: Bounds,
    /// By number, in the order in which they came.
    held: BTreeMap<u64, Held>,
    by_id: BTreeMap<(ItemId, UserId), u64>,
    by_owner: BTreeMap<(UserId, DeviceId), BTreeSet<u64>>,
    loads: BTreeMap<UserId, Load>,
    load: Load,
    next: u64,
    quota: quota::Quota,
    used_tokens: BTreeMap<(UserId, [u8; 16]), u64>,
    /// Of these, what the store does not know yet.
    changes: Vec<TokenChange>,
}

/// What the store has to follow of used tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// One was used.
    Used(StoredToken),
    /// One has ended, or had to make room.
    Forgotten(TokenPlace),
}

impl Mailboxes {
    /// What was stored; what is damaged is left out, and counted by the second value. What was acknowledged is held also
    /// if the bounds are smaller now.
    pub fn restored(bounds: Bounds, stored: &[StoredMail]) -> (Self, usize) {
        let mut mailboxes = Self { bounds, ..Self::default() };
        let mut damaged = 0;
        for mail in stored {
            let read = UserId::from_slice(&mail.mailbox).zip(Item::decode(&mail.item).ok());
            match read {
                Some((mailbox, item)) => {
                    let (bytes, token) = (mail.item.clone(), mail.token.clone());
                    let (expires, nonce, replica) = (mail.expires, mail.nonce, false);
                    let offer = Offer { mailbox, item: bytes, expires, nonce, token, replica };
                    mailboxes.insert(mail.number, &item, offer);
                }
                None => damaged += 1,
            }
        }
        (mailboxes, damaged)
    }

    /// Decides about an offer. With [`Answer::Held`] comes what has to be stored before that is said, if it is new.
    pub fn offer(
        &mut self,
        peer: NodeId,
        offer: &Offer,
        token: Option<TokenUse>,
        time: TrustedTime,
        mono: u64,
    ) -> (Answer, Option<StoredMail>) {
        let Ok(item) = Item::decode(&offer.item) else { return (Answer::Policy, None) };
        let id = item_id(&offer.item);
        if self.by_id.contains_key(&(id, offer.mailbox)) {
            return (Answer::Held, None);
        }
        let token = token.filter(|token| !self.used_tokens.contains_key(&(offer.mailbox, token.serial)));
        if let Some(refusal) = self.refusal(peer, offer, id, token.is_some(), time, mono) {
            return (refusal, None);
        }
        if let Some(token) = token {
            self.use_token(offer.mailbox, token);
        }
        self.quota.count((peer, offer.replica), offer.item.len(), mono);
        let number = self.next.max(1);
        self.insert(number, &item, offer.clone());
        let stored = StoredMail {
            version: STATE_VERSION,
            number,
            mailbox: offer.mailbox.as_bytes().to_vec(),
            item: offer.item.clone(),
            expires: offer.expires,
            nonce: offer.nonce,
            token: offer.token.clone(),
        };
        (Answer::Held, Some(stored))
    }

    fn refusal(
        &self,
        peer: NodeId,
        offer: &Offer,
        id: ItemId,
        token: bool,
        time: TrustedTime,
        mono: u64,
    ) -> Option<Answer> {
        let (bounds, size) = (&self.bounds, offer.item.len());
        let ended = time.credible && offer.expires <= time.millis;
        let too_late = time.latest.saturating_add(MAX_LIFE).saturating_add(MAX_SKEW);
        if bounds.bytes == 0 || ended || offer.expires > too_late {
            return Some(Answer::Policy);
        }
        let quarters = if token { 4 } else { 3 };
        if size > bounds.mailbox_bytes / 4 * quarters {
            return Some(Answer::TooLarge);
        }
        let load = self.loads.get(&offer.mailbox).copied().unwrap_or_default();
        let allowance = (bounds.peer_items, bounds.peer_bytes);
        if !load.fits(size, (bounds.mailbox_items, bounds.mailbox_bytes), quarters)
            || !self.load.fits(size, (bounds.items, bounds.bytes), quarters)
            || !self.quota.has_room((peer, offer.replica), size, allowance, mono)
        {
            return Some(Answer::Full);
        }
        let wanted = self.bits_wanted(&offer.mailbox, size);
        let paid = token || work::bits_of(&offer.mailbox, &id, offer.expires, offer.nonce) >= wanted;
        (!paid).then_some(Answer::Work(wanted))
    }

    /// The work that a stranger pays now for an item of `size` bytes in a mailbox.
    pub fn bits_wanted(&self, mailbox: &UserId, size: usize) -> u32 {
        let bounds = &self.bounds;
        let load = self.loads.get(mailbox).copied().unwrap_or_default();
        let mailbox = load.eighths((bounds.mailbox_items, bounds.mailbox_bytes));
        let full = mailbox.max(self.load.eighths((bounds.items, bounds.bytes)));
        let more = STEPS.iter().rev().find(|(eighths, _)| full >= *eighths).map_or(0, |(_, bits)| *bits);
        (work::price(bounds.bits, size) + more).min(work::MAX_BITS)
    }

    fn use_token(&mut self, mailbox: UserId, token: TokenUse) {
        self.remember_used(mailbox, token.serial, token.expires);
        self.changes.push(TokenChange::Used(StoredToken {
            version: STATE_VERSION,
            mailbox: mailbox.as_bytes().to_vec(),
            serial: token.serial.to_vec(),
            to: Vec::new(),
            expires: token.expires,
            token: Vec::new(),
        }));
    }

    /// A token was used here, as the store knows.
    pub fn remember_used(&mut self, mailbox: UserId, serial: [u8; 16], expires: u64) {
        if self.used_tokens.len() >= MAX_TOKENS {
            let first = self.used_tokens.iter().min_by_key(|(_, expires)| **expires).map(|(key, _)| *key);
            first.into_iter().for_each(|key| self.forget_used(key));
        }
        self.used_tokens.insert((mailbox, serial), expires);
    }

    fn forget_used(&mut self, (mailbox, serial): (UserId, [u8; 16])) {
        self.used_tokens.remove(&(mailbox, serial));
        self.changes.push(TokenChange::Forgotten(TokenPlace { mailbox, serial, to: None }));
    }

    /// What the store has to follow since this was asked last: with the same commit as whatever else came of it.
    pub fn token_changes(&mut self) -> Vec<TokenChange> {
        std::mem::take(&mut self.changes)
    }

    fn insert(&mut self, number: u64, item: &Item, offer: Offer) {
        let (id, device, size) = (item_id(&offer.item), item.envelope.recipient, offer.item.len());
        let mailbox = offer.mailbox;
        if self.by_id.insert((id, mailbox), number).is_some() {
            return;
        }
        self.by_owner.entry((mailbox, device)).or_default().insert(number);
        self.loads.entry(mailbox).or_default().add(size);
        self.load.add(size);
        self.next = self.next.max(number + 1);
        self.held.insert(number, Held { id, device, offer });
    }

    fn remove(&mut self, number: u64) {
        let Some(Held { id, device, offer }) = self.held.remove(&number) else { return };
        self.by_id.remove(&(id, offer.mailbox));
        if let Some(numbers) = self.by_owner.get_mut(&(offer.mailbox, device)) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_owner.remove(&(offer.mailbox, device));
            }
        }
        if let Some(load) = self.loads.get_mut(&offer.mailbox) {
            load.remove(offer.item.len());
            if load.items == 0 {
                self.loads.remove(&offer.mailbox);
            }
        }
        self.load.remove(offer.item.len());
    }

    /// What is held for a device, in the order in which it came: names and bytes.
    pub fn list(&self, user: UserId, device: DeviceId) -> impl Iterator<Item = (ItemId, usize)> {
        let numbers = self.by_owner.get(&(user, device)).into_iter().flatten();
        let held = numbers.filter_map(|number| self.held.get(number));
        held.map(|held| (held.id, held.offer.item.len()))
    }

    /// The number of an item that somebody with this access may have.
    fn number_of(&self, id: ItemId, access: &Access) -> Option<u64> {
        let (low, high) = (UserId::from_bytes([0; 32]), UserId::from_bytes([0xff; 32]));
        let numbers = self.by_id.range((id, low)..=(id, high)).map(|(_, number)| *number);
        let mut allowed = numbers.filter(|number| {
            let held = self.held.get(number);
            held.is_some_and(|held| access.contains(&(held.offer.mailbox, held.device)))
        });
        allowed.next()
    }

    /// The bytes of an item, for somebody who may have them.
    pub fn fetch(&self, id: ItemId, access: &Access) -> Option<&[u8]> {
        let number = self.number_of(id, access)?;
        self.held.get(&number).map(|held| &held.offer.item[..])
    }

    /// Forgets an item at the word of somebody who may have it, and returns the number to be deleted.
    pub fn discard(&mut self, id: ItemId, access: &Access) -> Option<u64> {
        let number = self.number_of(id, access)?;
        self.remove(number);
        Some(number)
    }

    /// Forgets what has expired; only a credible clock can say so. Returns the numbers to be deleted.
    pub fn expire(&mut self, time: TrustedTime) -> Vec<u64> {
        let ended = |expires: u64| time.credible && expires <= time.millis;
        let used = self.used_tokens.iter().filter(|(_, expires)| ended(**expires));
        used.map(|(key, _)| *key).collect::<Vec<_>>().into_iter().for_each(|key| self.forget_used(key));
        let numbers = self.held.iter().filter(|(_, held)| ended(held.offer.expires));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        numbers.iter().for_each(|number| self.remove(*number));
        numbers
    }

    /// The users whose mailboxes are not empty.
    pub fn owners(&self) -> impl Iterator<Item = UserId> {
        self.loads.keys().copied()
    }

    /// Everything in a mailbox.
    pub fn of(&self, mailbox: UserId) -> impl Iterator<Item = &Held> {
        let (low, high) = (DeviceId::from_bytes([0; 32]), DeviceId::from_bytes([0xff; 32]));
        let numbers = self.by_owner.range((mailbox, low)..=(mailbox, high)).flat_map(|(_, numbers)| numbers);
        numbers.filter_map(|number| self.held.get(number))
    }

    /// An item by name and mailbox.
    pub fn get(&self, id: ItemId, mailbox: UserId) -> Option<&Held> {
        self.held.get(self.by_id.get(&(id, mailbox))?)
    }

    /// How much is held.
    pub fn load(&self) -> Load {
        self.load
    }

    /// The bounds.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }
}

#[cfg(test)]
mod tests;
