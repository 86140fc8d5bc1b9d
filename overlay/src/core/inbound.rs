//! Envelopes that arrive: opened, put in order, each message delivered once, and receipted. *Pure.*

use std::collections::BTreeMap;

use super::state::Seen;
use super::timers::{Pair, Timer};
use super::{Delivery, Disposition, Output, Overlay, Restored, Ticket, Write};
use crate::envelope::{Content, Envelope, EnvelopeError, Inner};
use crate::id::{DeviceId, ItemId, MessageId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::record::{Receipt, ReceiptOutcome, RefusalCode, Verified};
use crate::seal::SealError;
use crate::time::{Now, SECOND};
use crate::wire::Frame;

mod track;

use track::{Early, Place, RING, Track};

/// A gap is passed when what came after it has waited so long.
const GAP_PATIENCE: u64 = 30 * SECOND;
/// How an envelope came, and so how its receipt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// Over a session with the sender's node.
    Session(NodeId),
    /// By a mailbox.
    Mail(ItemId),
}

/// A delivery that is not settled yet.
#[derive(Debug)]
struct Open {
    pair: Pair,
    user: UserId,
    from: UserId,
    envelope: MessageId,
    message: MessageId,
    seq: u64,
    via: Via,
}

/// All orders towards our devices.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    tracks: BTreeMap<Pair, Track>,
    open: BTreeMap<Ticket, Open>,
    next_ticket: u64,
    held_back: usize,
}

impl Inbound {
    /// Drops what is held back for places up to `last`, and returns how it had come.
    fn drop_early(&mut self, pair: &Pair, last: u64) -> Vec<Via> {
        let mut dropped = Vec::new();
        let Some(track) = self.tracks.get_mut(pair) else { return dropped };
        while track.early.first_key_value().is_some_and(|(seq, _)| *seq <= last) {
            if let Some((_, early)) = track.early.pop_first() {
                self.held_back -= early.inner.bytes().len();
                dropped.push(early.via);
            }
        }
        dropped
    }
}

impl Overlay {
    /// What a device sent too early is not taken any more.
    pub(super) fn drop_early_of(&mut self, device: &DeviceId) {
        let pairs = self.inbound.tracks.keys().filter(|(sender, _)| sender == device);
        for pair in pairs.copied().collect::<Vec<_>>() {
            self.inbound.drop_early(&pair, u64::MAX);
        }
    }

    pub(super) fn restore_inbound(&mut self, restored: &Restored) {
        for state in &restored.inbound {
            if let Some(pair) = state.key() {
                self.inbound.tracks.insert(pair, Track::from_state(state));
            }
        }
        let mut seen: Vec<&Seen> = restored.seen.iter().filter(|seen| seen.slot < RING).collect();
        seen.sort_by_key(|seen| seen.slot);
        for seen in seen {
            let Some((sender, recipient, slot)) = seen.key() else { continue };
            let message = MessageId::from_slice(&seen.message);
            let track = self.inbound.tracks.get_mut(&(sender, recipient));
            let (Some(track), Some(message)) = (track, message) else { continue };
            track.ring.resize((slot as usize + 1).max(track.ring.len()), message);
            track.ring[slot as usize] = message;
        }
    }

    pub(super) fn on_envelope(&mut self, node: NodeId, envelope: &Envelope, now: Now) {
        let Some(user) = self.local_devices.get(&envelope.recipient).copied() else {
            return self.counters.drop("envelope for a device that is not here");
        };
        match self.open(&user, envelope, now) {
            Ok(inner) => self.on_message(Via::Session(node), envelope.id, inner, now),
            Err(Some(EnvelopeError::Refused(refusal))) => self.refused(node, &refusal, now),
            Err(Some(EnvelopeError::Seal(_))) => self.offence(node, "envelope that does not open", now),
            Err(None) => self.answer_cannot_open(&user, node, envelope, now),
        }
    }

    /// Makes room: the pair that was used longest ago is forgotten. Its sender starts again at the lowest place that it
    /// still wants, so nothing is lost; only a repeat of what is under way at that moment would not be noticed.
    fn forget_oldest_pair(&mut self) -> bool {
        let idle =
            self.inbound.tracks.iter().filter(|(_, track)| track.pending.is_none() && track.early.is_empty());
        let Some(pair) = idle.min_by_key(|(_, track)| track.used).map(|(pair, _)| *pair) else {
            return false;
        };
        self.inbound.tracks.remove(&pair);
        let (sender, recipient) = pair;
        self.outputs.push_back(Output::Write(Write::ForgetInbound { sender, recipient, slots: RING }));
        true
    }

    /// None: the key that it was sealed to is not there (any more).
    pub(super) fn open(
        &self,
        user: &UserId,
        envelope: &Envelope,
        now: Now,
    ) -> Result<Verified<Inner>, Option<EnvelopeError>> {
        let local = self.locals.get(user).ok_or(SealError::Open).map_err(|error| Some(error.into()))?;
        let key = local.sealing.iter().find(|key| key.public() == envelope.key).ok_or(None)?;
        envelope.open(key, &self.users.context(self.clock.trusted(now))).map_err(Some)
    }

    /// Pushes the user's present record first, so that the sender knows what to seal to when it reads the answer.
    fn answer_cannot_open(&mut self, user: &UserId, node: NodeId, envelope: &Envelope, now: Now) {
        self.counters.drop("envelope sealed to an unknown key");
        self.push_record(user, node, now);
        let receipt = Receipt {
            envelope: envelope.id,
            message: MessageId::from_bytes([0; 16]),
            sender: DeviceId::from_bytes([0; 32]),
            user: *user,
            recipient: envelope.recipient,
            outcome: ReceiptOutcome::CannotOpen,
        };
        self.answer_session(receipt, node, now);
    }

    pub(super) fn on_message(&mut self, via: Via, envelope: MessageId, inner: Verified<Inner>, now: Now) {
        let pair = (inner.sender, inner.recipient);
        if !self.inbound.tracks.contains_key(&pair) {
            if self.inbound.tracks.len() >= self.limits.pairs && !self.forget_oldest_pair() {
                self.take_later(via);
                return self.counters.drop("no room for another pair of devices");
            }
            self.inbound.tracks.insert(pair, Track::new(&inner));
        }
        if let Some(track) = self.inbound.tracks.get_mut(&pair) {
            track.used = now.mono;
        }
        if self.inbound.tracks.get(&pair).is_some_and(|track| inner.epoch > track.epoch) {
            let dropped = self.inbound.drop_early(&pair, u64::MAX);
            dropped.into_iter().for_each(|via| self.is_useless(via, now));
        }
        let Some(track) = self.inbound.tracks.get_mut(&pair) else { return };
        track.enter(&inner);
        let (place, cumulative) = (track.place(&inner), track.cumulative);
        // What the sender gave up is not wanted any more.
        let dropped = self.inbound.drop_early(&pair, cumulative);
        dropped.into_iter().for_each(|via| self.is_useless(via, now));
        match place {
            Place::Next => self.deliver(pair, Early { inner, envelope, via, since: now.mono }, now),
            Place::Late => self.on_late(pair, Early { inner, envelope, via, since: now.mono }, now),
            Place::Early if is_on(Mutant::NoHoldBack) => {
                self.deliver(pair, Early { inner, envelope, via, since: now.mono }, now)
            }
            Place::Early => self.hold_back(pair, Early { inner, envelope, via, since: now.mono }),
            Place::Repeated => self.on_repeat(via, envelope, &inner, now),
            Place::OldEpoch => {
                self.is_useless(via, now);
                self.counters.drop("envelope of an old epoch");
            }
            Place::Beyond => {
                self.take_later(via);
                self.counters.drop("envelope beyond the window");
            }
        }
        self.release(pair, now);
    }

    /// One for a hole: it comes late, but it comes. While another delivery is not settled it has to be sent again.
    fn on_late(&mut self, pair: Pair, late: Early, now: Now) {
        if self.inbound.tracks.get(&pair).is_some_and(|track| track.pending.is_none()) {
            self.deliver(pair, late, now);
        } else {
            self.take_later(late.via);
        }
    }

    fn hold_back(&mut self, pair: Pair, early: Early) {
        let size = early.inner.bytes().len();
        if self.inbound.held_back + size > self.limits.held_back_bytes {
            self.take_later(early.via);
            return self.counters.drop("no room to hold back an early envelope");
        }
        let Some(track) = self.inbound.tracks.get_mut(&pair) else { return };
        if let std::collections::btree_map::Entry::Vacant(place) = track.early.entry(early.inner.seq) {
            self.timers.set_earlier(Timer::Gap(pair), early.since + GAP_PATIENCE);
            place.insert(early);
            self.inbound.held_back += size;
        } else {
            self.take_later(early.via);
        }
    }

    /// Delivers what is next in the order, unless a delivery is not settled yet.
    fn release(&mut self, pair: Pair, now: Now) {
        while let Some(track) = self.inbound.tracks.get_mut(&pair) {
            if track.pending.is_some() {
                return;
            }
            let Some(next) = track.early.remove(&(track.cumulative + 1)) else { break };
            self.inbound.held_back -= next.inner.bytes().len();
            self.deliver(pair, next, now);
        }
        if self.inbound.tracks.get(&pair).is_none_or(|track| track.early.is_empty()) {
            self.timers.cancel(Timer::Gap(pair));
        }
    }

    pub(super) fn on_gap_timer(&mut self, pair: Pair, now: Now) {
        let Some(track) = self.inbound.tracks.get_mut(&pair) else { return };
        let Some(first) = track.early.values().map(|early| early.since).min() else { return };
        if now.mono < first + GAP_PATIENCE {
            return self.timers.set(Timer::Gap(pair), first + GAP_PATIENCE);
        }
        track.pass_gap();
        self.release(pair, now);
        let rest =
            self.inbound.tracks.get(&pair).and_then(|track| track.early.values().map(|e| e.since).min());
        if let Some(since) = rest {
            self.timers.set(Timer::Gap(pair), (since + GAP_PATIENCE).max(now.mono + SECOND));
        }
    }

    /// Counts a message and hands it to the node, in one batch; or receipts it if its id was taken before.
    fn deliver(&mut self, pair: Pair, early: Early, now: Now) {
        let Early { inner, envelope, via, .. } = early;
        let Some(user) = self.local_devices.get(&pair.1).copied() else { return };
        let Some(track) = self.inbound.tracks.get_mut(&pair) else { return };
        track.take(inner.seq);
        if track.ring.contains(&inner.message) && !is_on(Mutant::TakeRepeats) {
            return self.on_repeat(via, envelope, &inner, now);
        }
        let slot = track.remember(inner.message);
        self.inbound.next_ticket += 1;
        let ticket = Ticket(self.inbound.next_ticket);
        track.pending = Some(ticket);
        let seen = Seen {
            sender: pair.0.as_bytes().to_vec(),
            recipient: pair.1.as_bytes().to_vec(),
            slot,
            message: inner.message.as_bytes().to_vec(),
        };
        if !is_on(Mutant::OrderUnsaved) {
            self.outputs.push_back(Output::Write(Write::PutInbound(track.to_state(&pair))));
            self.outputs.push_back(Output::Write(Write::PutSeen(seen)));
        }
        let (from, message) = (inner.user, inner.message);
        let open = Open { pair, user, from, envelope, message, seq: inner.seq, via };
        self.inbound.open.insert(ticket, open);
        if inner.content.is_among_own() && inner.user != user {
            // Only a user's own devices may say what that user wrote, or what its account is.
            return self.settle_delivery(ticket, Disposition::Refused(RefusalCode::Policy), now);
        }
        if let Content::Audience { presence, key, at } = inner.content.clone() {
            self.take_audience((inner.user, inner.sender, user), (presence, key, at), now);
            return self.settle_delivery(ticket, Disposition::Held, now);
        }
        if let Content::Tokens(tokens) = &inner.content {
            self.take_tokens(inner.user, user, tokens, now);
            return self.settle_delivery(ticket, Disposition::Held, now);
        }
        self.counters.delivered += 1;
        let (from, message, sent) = (inner.user, inner.message, inner.sent);
        let content = inner.content.clone();
        self.outputs.push_back(Output::Deliver(Delivery { ticket, from, to: user, message, content, sent }));
    }

    /// A repeated one gets its receipt again and goes no further; unless its first delivery is not settled yet.
    fn on_repeat(&mut self, via: Via, envelope: MessageId, inner: &Inner, now: Now) {
        self.counters.repeated += 1;
        let pair = (inner.sender, inner.recipient);
        let Some(track) = self.inbound.tracks.get(&pair) else { return };
        let unsettled = track.pending.and_then(|ticket| self.inbound.open.get(&ticket));
        if unsettled.is_some_and(|open| open.message == inner.message) {
            return self.take_later(via);
        }
        let refused = track.refused.get(&inner.seq);
        let outcome = refused.map_or(ReceiptOutcome::Held, |code| ReceiptOutcome::Refused(*code));
        let Some(user) = self.local_devices.get(&pair.1).copied() else { return };
        let receipt =
            Receipt { envelope, message: inner.message, sender: pair.0, user, recipient: pair.1, outcome };
        self.send_receipt(receipt, inner.user, via, now);
    }

    pub(super) fn settle_delivery(&mut self, ticket: Ticket, how: Disposition, now: Now) {
        let Some(open) = self.inbound.open.remove(&ticket) else { return };
        let Open { pair, user, from, envelope, message, seq, via } = open;
        let Some(track) = self.inbound.tracks.get_mut(&pair) else { return };
        track.pending = None;
        let outcome = match how {
            Disposition::Held => ReceiptOutcome::Held,
            Disposition::Refused(code) => {
                track.refuse(seq, code);
                self.outputs.push_back(Output::Write(Write::PutInbound(track.to_state(&pair))));
                ReceiptOutcome::Refused(code)
            }
        };
        let receipt = Receipt { envelope, message, sender: pair.0, user, recipient: pair.1, outcome };
        // If the peer is gone, the envelope will come again and get its receipt then.
        self.send_receipt(receipt, from, via, now);
        self.release(pair, now);
    }

    /// The receipt goes back as the envelope came.
    fn send_receipt(&mut self, receipt: Receipt, to: UserId, via: Via, now: Now) {
        match via {
            Via::Session(node) => self.answer_session(receipt, node, now),
            Via::Mail(item) => self.answer_by_mail(&receipt, to, item, now),
        }
    }

    fn answer_session(&mut self, receipt: Receipt, node: NodeId, now: Now) {
        let Some(local) = self.locals.get(&receipt.user) else { return };
        if let Ok(receipt) = Verified::sign(receipt, &local.device, None) {
            let durable = !is_on(Mutant::ReceiptAtOnce);
            self.send_frame(node, &Frame::Receipt(receipt.bytes().to_vec()), durable, now);
        }
    }

    /// What a lost session brought too early will be sent again in order: held back no longer, order is kept.
    pub(super) fn drop_held_back(&mut self, node: &NodeId) {
        for (pair, track) in &mut self.inbound.tracks {
            if track.early.is_empty() {
                continue;
            }
            let held = &mut self.inbound.held_back;
            track.early.retain(|_, early| {
                let keep = early.via != Via::Session(*node);
                *held -= if keep { 0 } else { early.inner.bytes().len() };
                keep
            });
            if track.early.is_empty() {
                self.timers.cancel(Timer::Gap(*pair));
            }
        }
    }

    pub(super) fn drop_tickets_of(&mut self, device: &DeviceId) {
        self.inbound.open.retain(|_, open| open.pair.1 != *device);
        let ours = self.inbound.tracks.keys().filter(|pair| pair.1 == *device).copied();
        let ours: Vec<Pair> = ours.collect();
        for pair in ours {
            if let Some(track) = self.inbound.tracks.get_mut(&pair) {
                track.pending = None;
            }
            self.inbound.drop_early(&pair, u64::MAX);
            self.timers.cancel(Timer::Gap(pair));
        }
    }
}
