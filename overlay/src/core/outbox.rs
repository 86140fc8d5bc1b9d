//! Messages that wait for receipts: accepted, copied to every device, settled once, forgotten at last. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::state::OutboxEntry;
use super::timers::{Pair, Timer};
use super::{FailReason, OutboxFull, Outcome, Outgoing, Output, Overlay, Restored, Write};
use crate::envelope::{Content, MAX_CONTENT};
use crate::id::{DeviceId, MessageId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::record::{DevicePart, Receipt, ReceiptOutcome, RefusalCode, Unverified};
use crate::time::{DAY, HOUR, Now};

mod entry;
mod lane;
mod mailed;

pub(super) use mailed::SealedCopy;

use entry::{Copy, ENTRY_OVERHEAD, Entry, State};
use lane::Lane;

/// A message is given up after that long, if its sender did not say otherwise.
const LIFE: u64 = 30 * DAY;
/// A device whose record is older gets no copy, if the user has another one.
const SILENT: u64 = 60 * DAY;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: BTreeMap<u64, Entry>,
    by_id: BTreeMap<(MessageId, UserId), u64>,
    by_recipient: BTreeMap<UserId, BTreeSet<u64>>,
    by_sender: BTreeMap<UserId, BTreeSet<u64>>,
    bytes: usize,
    next: u64,
    lanes: BTreeMap<Pair, Lane>,
    /// Bytes without receipt, of each node that has any.
    flight_bytes: BTreeMap<NodeId, usize>,
    /// The same pairs, recipient first.
    towards: BTreeSet<(DeviceId, DeviceId)>,
}

impl Outbox {
    fn add_lane(&mut self, pair: Pair, epoch: u64, seq: u64) {
        self.towards.insert((pair.1, pair.0));
        self.lanes.insert(pair, Lane { epoch, seq, ..Lane::default() });
    }

    /// Counts bytes that are under way to a node, in place of others that are not any more.
    fn count_flight(&mut self, node: NodeId, more: usize, less: usize) {
        let bytes = self.flight_bytes.entry(node).or_default();
        *bytes = (*bytes + more).saturating_sub(less);
        if *bytes == 0 {
            self.flight_bytes.remove(&node);
        }
    }

    /// The pairs of devices whose recipient is `device`.
    fn pairs_to(&self, device: &DeviceId) -> Vec<Pair> {
        let (low, high) = (DeviceId::from_bytes([0; 32]), DeviceId::from_bytes([0xff; 32]));
        let towards = self.towards.range((*device, low)..=(*device, high));
        towards.map(|(recipient, sender)| (*sender, *recipient)).collect()
    }

    /// Whom messages wait for.
    pub(super) fn recipients(&self) -> BTreeSet<UserId> {
        self.by_recipient.keys().copied().collect()
    }

    pub(super) fn has_entries_for(&self, user: &UserId) -> bool {
        self.by_recipient.contains_key(user)
    }

    /// Whether messages of one user wait for any of others.
    pub(super) fn has_entries_between(&self, from: &UserId, to: &BTreeSet<UserId>) -> bool {
        let numbers = self.by_sender.get(from).into_iter().flatten();
        numbers.filter_map(|number| self.entries.get(number)).any(|entry| to.contains(&entry.to))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = OutboxEntry> {
        self.entries.iter().map(|(number, entry)| entry.to_state(*number))
    }

    fn insert(&mut self, number: u64, entry: Entry) {
        self.by_id.insert((entry.message, entry.to), number);
        self.by_recipient.entry(entry.to).or_default().insert(number);
        self.by_sender.entry(entry.from).or_default().insert(number);
        self.bytes += entry.size;
        self.next = self.next.max(number + 1);
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.by_id.remove(&(entry.message, entry.to));
        remove_from(&mut self.by_recipient, &entry.to, number);
        remove_from(&mut self.by_sender, &entry.from, number);
        self.bytes -= entry.size;
        Some(entry)
    }

    fn numbers_to(&self, user: &UserId) -> Vec<u64> {
        self.by_recipient.get(user).map(|numbers| numbers.iter().copied().collect()).unwrap_or_default()
    }

    fn numbers_from(&self, user: &UserId) -> Vec<u64> {
        self.by_sender.get(user).map(|numbers| numbers.iter().copied().collect()).unwrap_or_default()
    }

    /// The lowest place between two devices that a receipt is still wanted for.
    fn first_wanted(&self, pair: &Pair) -> Option<u64> {
        let number = self.lanes.get(pair)?.queue.first()?;
        Some(self.entries.get(number)?.copies.get(&pair.1)?.seq).filter(|seq| *seq > 0)
    }
}

/// Whether somebody waits to hear what became of it.
fn is_for_users(content: &Content) -> bool {
    !matches!(content, Content::Audience { .. } | Content::Tokens(_))
}

fn remove_from(map: &mut BTreeMap<UserId, BTreeSet<u64>>, user: &UserId, number: u64) {
    if let Some(numbers) = map.get_mut(user) {
        numbers.remove(&number);
        if numbers.is_empty() {
            map.remove(user);
        }
    }
}

impl Overlay {
    /// How many messages of a user wait here.
    pub fn outbox_of(&self, user: &UserId) -> usize {
        self.outbox.by_sender.get(user).map_or(0, BTreeSet::len)
    }

    pub(super) fn restore_outbox(&mut self, restored: &Restored) {
        for state in &restored.outbox {
            match Entry::from_state(state) {
                Some(entry) => self.outbox.insert(state.number, entry),
                None => self.counters.drop("stored message"),
            }
        }
        for state in &restored.outbound {
            if let Some(pair) = state.key() {
                self.outbox.add_lane(pair, state.epoch, state.seq);
            }
        }
    }

    pub(super) fn accept(&mut self, message: Outgoing, now: Now) -> Result<(), OutboxFull> {
        let Outgoing { id, from, to, content, expires } = message;
        if self.outbox.by_id.contains_key(&(id, to)) {
            return Ok(());
        }
        if self.users.revocations.is_compromised(&to) {
            let outcome = Outcome::Failed(FailReason::Compromised);
            if is_for_users(&content) {
                self.outputs.push_back(Output::Settled { message: id, from, to, outcome, content });
            }
            return Ok(());
        }
        let encoded = content.encode().len();
        let size = encoded + ENTRY_OVERHEAD;
        self.check_room(&from, encoded, size)?;
        let number = self.outbox.next.max(1);
        let created = self.time(now);
        let expires = expires.unwrap_or(created.saturating_add(LIFE));
        let copies = BTreeMap::new();
        let entry = Entry { message: id, from, to, content, size, created, expires, settled: false, copies };
        self.outbox.insert(number, entry);
        self.timers.set_earlier(Timer::Sweep, now.mono + expires.saturating_sub(created).clamp(1, HOUR));
        self.introduce_to(&to, now);
        self.seek(&to, now);
        let pairs = self.attach(number, now);
        if self.locals.contains_key(&to) && pairs.is_empty() {
            // A user of this node with no other device: there is nobody to send it to.
            self.settled(number, Outcome::Delivered);
            self.outbox.remove(number);
            return Ok(());
        }
        let mut written = false;
        for pair in pairs {
            written |= self.pump(pair, now).contains(&number);
        }
        if !written {
            self.write_entry(number);
        }
        Ok(())
    }

    fn check_room(&self, from: &UserId, encoded: usize, size: usize) -> Result<(), OutboxFull> {
        let outbox = &self.outbox;
        if encoded > MAX_CONTENT {
            Err(OutboxFull::TooLarge)
        } else if outbox.by_sender.get(from).map_or(0, BTreeSet::len) >= self.limits.outbox_per_user {
            Err(OutboxFull::User)
        } else if outbox.entries.len() >= self.limits.outbox {
            Err(OutboxFull::Node)
        } else if outbox.bytes + size > self.limits.outbox_bytes {
            Err(OutboxFull::Bytes)
        } else {
            Ok(())
        }
    }

    /// Makes copies for the devices known now, and queues every open one. Returns the pairs of devices.
    fn attach(&mut self, number: u64, now: Now) -> Vec<Pair> {
        let Some(entry) = self.outbox.entries.get(&number) else { return Vec::new() };
        let local = self.locals.get(&entry.from).filter(|local| !local.is_void(&self.users.revocations));
        let Some(local) = local else { return Vec::new() };
        let (sender, epoch) = (local.device.id(), local.epoch);
        let devices = self.devices_for(&entry.to, now);
        let Some(entry) = self.outbox.entries.get_mut(&number) else { return Vec::new() };
        for device in devices {
            entry.copies.entry(device).or_default();
        }
        let open = entry.copies.iter().filter(|(_, copy)| copy.state.is_open());
        let pairs: Vec<Pair> = open.map(|(device, _)| (sender, *device)).collect();
        pairs.iter().for_each(|pair| self.enqueue(*pair, number, epoch));
        pairs
    }

    /// Queues a copy between two devices. A place that was given in an earlier epoch does not count any more.
    fn enqueue(&mut self, pair: Pair, number: u64, epoch: u64) {
        match self.outbox.lanes.get(&pair) {
            Some(lane) if lane.epoch >= epoch => {}
            None if self.outbox.lanes.len() >= self.limits.lanes => {
                return self.counters.drop("no room for another pair of devices");
            }
            Some(_) | None => self.outbox.add_lane(pair, epoch, 0),
        }
        let Some(lane) = self.outbox.lanes.get_mut(&pair) else { return };
        lane.queue.insert(number);
        let copies = self.outbox.entries.get_mut(&number).map(|entry| &mut entry.copies);
        if let Some(copy) =
            copies.and_then(|copies| copies.get_mut(&pair.1)).filter(|copy| copy.epoch != lane.epoch)
        {
            *copy = Copy { epoch: lane.epoch, ..Copy::default() };
        }
    }

    /// The devices of a user that get copies: none of this node, and no long silent one beside others.
    fn devices_for(&self, user: &UserId, now: Now) -> Vec<DeviceId> {
        let time = self.clock.trusted(now);
        let silent =
            |part: &DevicePart| time.credible && time.millis.saturating_sub(part.info.at.millis) > SILENT;
        let parts = self.users.record(user).into_iter().flat_map(|record| record.devices());
        let others: Vec<_> = parts.filter(|(device, _)| !self.local_devices.contains_key(device)).collect();
        let all_silent = others.iter().all(|(_, part)| silent(part));
        others
            .into_iter()
            .filter(|(_, part)| all_silent || !silent(part))
            .map(|(device, _)| *device)
            .collect()
    }

    /// Entries of a user who has just been added.
    pub(super) fn adopt_entries(&mut self, user: &UserId, now: Now) {
        for number in self.outbox.numbers_from(user) {
            for pair in self.attach(number, now) {
                self.pump(pair, now);
            }
        }
    }

    /// The record of a user has changed: there may be new devices, or new keys.
    pub(super) fn devices_changed(&mut self, user: &UserId, now: Now) {
        let mut pairs = BTreeSet::new();
        for number in self.outbox.numbers_to(user) {
            pairs.extend(self.attach(number, now));
        }
        for pair in pairs {
            self.pump(pair, now);
        }
    }

    pub(super) fn on_receipt(&mut self, node: NodeId, bytes: &[u8], now: Now) {
        let time = self.clock.trusted(now);
        let receipt = Unverified::<Receipt>::parse(bytes);
        let receipt = match receipt.and_then(|receipt| receipt.verify(&self.users.context(time))) {
            Ok(receipt) => receipt,
            Err(refusal) => return self.refused(node, &refusal, now),
        };
        if self.users.node_of(&receipt.recipient) != Some(node) {
            return self.unproven(node, now);
        }
        match receipt.outcome {
            ReceiptOutcome::CannotOpen => self.on_cannot_open(&receipt, node, now),
            ReceiptOutcome::Held | ReceiptOutcome::Refused(_) => self.take_receipt(&receipt, now),
        }
    }

    /// A receipt that came by a mailbox. It proves itself.
    pub(super) fn on_mailed_receipt(&mut self, bytes: &[u8], now: Now) {
        let context = self.users.context(self.clock.trusted(now));
        let receipt = Unverified::<Receipt>::parse(bytes).and_then(|receipt| receipt.verify(&context));
        match receipt {
            Ok(receipt) => self.take_receipt(&receipt, now),
            Err(_) => self.counters.drop("receipt in a mailbox that does not count"),
        }
    }

    fn take_receipt(&mut self, receipt: &Receipt, now: Now) {
        match receipt.outcome {
            ReceiptOutcome::Held => self.on_answer(receipt, State::Held, now),
            ReceiptOutcome::Refused(code) => self.on_answer(receipt, State::Refused(code), now),
            ReceiptOutcome::CannotOpen => {}
        }
    }

    fn on_answer(&mut self, receipt: &Receipt, state: State, now: Now) {
        let number = self.outbox.by_id.get(&(receipt.message, receipt.user)).copied();
        let Some(number) = number else { return };
        let pair = (receipt.sender, receipt.recipient);
        let Some(entry) = self.outbox.entries.get_mut(&number) else { return };
        let ours = self.locals.get(&entry.from).is_some_and(|local| local.device.id() == pair.0);
        let Some(copy) = entry.copies.get_mut(&pair.1) else { return };
        if !ours || !copy.state.is_open() {
            return;
        }
        copy.state = state;
        self.leave_lane(pair, number, now);
        self.conclude(number, state == State::Held);
        self.pump_blocked(&pair.1, now);
        self.pump(pair, now);
    }

    /// Reports the outcome once, and forgets the entry when nothing is waited for any more.
    fn conclude(&mut self, number: u64, held: bool) {
        let Some(entry) = self.outbox.entries.get(&number) else { return };
        let finished = entry.is_finished();
        let refusal = entry.refusal().unwrap_or(RefusalCode::Policy);
        if held {
            self.settled(number, Outcome::Delivered);
        } else if finished {
            self.settled(number, Outcome::Failed(FailReason::Refused(refusal)));
        }
        if finished && !is_on(Mutant::KeepAfterReceipt) {
            self.outbox.remove(number);
            self.outputs.push_back(Output::Write(Write::DeleteOutbox(number)));
        } else {
            self.write_entry(number);
        }
    }

    fn settled(&mut self, number: u64, outcome: Outcome) {
        let Some(entry) = self.outbox.entries.get_mut(&number) else { return };
        if !std::mem::replace(&mut entry.settled, true) && is_for_users(&entry.content) {
            let (message, from, to, content) = (entry.message, entry.from, entry.to, entry.content.clone());
            self.outputs.push_back(Output::Settled { message, from, to, outcome, content });
        }
    }

    /// Gives up what has expired; only a credible clock can say so.
    pub(super) fn expire_entries(&mut self, now: Now) {
        let time = self.clock.trusted(now);
        if !time.credible {
            return;
        }
        let next =
            self.outbox.entries.values().map(|entry| entry.expires).filter(|at| *at > time.millis).min();
        if let Some(next) = next {
            self.timers.set_earlier(Timer::Sweep, now.mono + (next - time.millis).min(HOUR));
        }
        let expired = self.outbox.entries.iter().filter(|(_, entry)| entry.expires <= time.millis);
        let expired: Vec<u64> = expired.map(|(number, _)| *number).collect();
        for number in expired {
            let refusal = self.outbox.entries.get(&number).and_then(Entry::refusal);
            let reason = refusal.map_or(FailReason::Expired, FailReason::Refused);
            self.settled(number, Outcome::Failed(reason));
            self.give_up(number, now);
        }
    }

    pub(super) fn cancel_message(&mut self, id: MessageId, now: Now) -> bool {
        let (low, high) = (UserId::from_bytes([0; 32]), UserId::from_bytes([0xff; 32]));
        let numbers: Vec<u64> =
            self.outbox.by_id.range((id, low)..=(id, high)).map(|(_, number)| *number).collect();
        let waiting = |number: &u64| self.outbox.entries.get(number).is_some_and(|entry| !entry.settled);
        let found = numbers.iter().any(waiting);
        numbers.into_iter().for_each(|number| self.give_up(number, now));
        found
    }

    /// Gives up the pair that one of our users was about to give to somebody.
    pub(super) fn cancel_audience(&mut self, from: &UserId, to: &UserId, now: Now) {
        let of = |number: &u64| {
            let entry = self.outbox.entries.get(number);
            entry.is_some_and(|entry| entry.to == *to && matches!(entry.content, Content::Audience { .. }))
        };
        let numbers: Vec<u64> = self.outbox.numbers_from(from).into_iter().filter(of).collect();
        numbers.into_iter().for_each(|number| self.give_up(number, now));
    }

    pub(super) fn drop_entries_of(&mut self, user: &UserId, device: &DeviceId, now: Now) {
        self.outbox.numbers_from(user).into_iter().for_each(|number| self.give_up(number, now));
        self.outbox.lanes.retain(|pair, _| pair.0 != *device);
        self.outbox.towards.retain(|(_, sender)| sender != device);
    }

    /// A device of ours is void: what it had to send waits until the user has another one here, or for its end.
    pub(super) fn stop_lanes_of(&mut self, device: &DeviceId, now: Now) {
        let lanes = self.outbox.lanes.iter().filter(|(pair, _)| pair.0 == *device);
        let queued = lanes.flat_map(|(pair, lane)| lane.queue.iter().map(|number| (*pair, *number)));
        for (pair, number) in queued.collect::<Vec<_>>() {
            self.leave_lane(pair, number, now);
        }
    }

    /// A device is void: it gets nothing any more. What was for it alone waits for the user's next device.
    pub(super) fn drop_copies_to(&mut self, user: &UserId, device: &DeviceId, now: Now) {
        for number in self.outbox.numbers_to(user) {
            let Some(entry) = self.outbox.entries.get_mut(&number) else { continue };
            let from = entry.from;
            if entry.copies.remove(device).is_none() {
                continue;
            }
            if let Some(sender) = self.locals.get(&from).map(|local| local.device.id()) {
                self.leave_lane((sender, *device), number, now);
            }
            self.conclude(number, false);
        }
    }

    /// The key of a user is void: nothing is sent to whoever has it.
    pub(super) fn fail_entries_to(&mut self, user: &UserId, now: Now) {
        for number in self.outbox.numbers_to(user) {
            self.settled(number, Outcome::Failed(FailReason::Compromised));
            self.give_up(number, now);
        }
    }

    fn give_up(&mut self, number: u64, now: Now) {
        let Some(entry) = self.outbox.remove(number) else { return };
        if let Some(sender) = self.locals.get(&entry.from).map(|local| local.device.id()) {
            for pair in entry.copies.keys().map(|device| (sender, *device)) {
                self.leave_lane(pair, number, now);
                self.pump_blocked(&pair.1, now);
                self.pump(pair, now);
            }
        }
        self.outputs.push_back(Output::Write(Write::DeleteOutbox(number)));
    }

    fn write_entry(&mut self, number: u64) {
        if let Some(entry) = self.outbox.entries.get(&number) {
            self.outputs.push_back(Output::Write(Write::PutOutbox(entry.to_state(number))));
        }
    }
}
