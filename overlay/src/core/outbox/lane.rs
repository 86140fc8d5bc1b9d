//! The order between two devices: places, what is under way, sealing at each attempt, sending again. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use super::entry::{Copy, State};
use crate::core::state::{OutboundSequence, STATE_VERSION};
use crate::core::timers::{Pair, Timer};
use crate::core::{Output, Overlay, Write};
use crate::envelope::{Envelope, Inner};
use crate::id::{DeviceId, MessageId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::record::Receipt;
use crate::time::{Now, SECOND};
use crate::wire::Frame;

/// Without receipt on a live link, an envelope is sent again after that long, …
const RESEND: u64 = 10 * SECOND;
/// … and from the third time on twice as long, up to that.
const MAX_RESEND: u64 = 60 * SECOND;
/// Places that a pair of devices may be apart, far below the receiver's window of 1,024.
const MAX_SPREAD: u64 = 512;

/// The order between one of our devices and another device.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) epoch: u64,
    /// The last place given.
    pub(super) seq: u64,
    /// Numbers of entries with an open copy, in order.
    pub(super) queue: BTreeSet<u64>,
    /// Those of the queue that were sent on the present session.
    pub(super) flight: BTreeMap<u64, Flight>,
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) envelope: MessageId,
    pub(super) key: [u8; 32],
    pub(super) due: u64,
    pub(super) attempts: u32,
    /// What it takes of [`Limits::flight_bytes_per_peer`](crate::core::Limits).
    pub(super) size: usize,
}

impl Overlay {
    /// Sends what waits for the live devices of a user.
    pub(in crate::core) fn pump_user(&mut self, user: &UserId, now: Now) {
        if !self.outbox.has_entries_for(user) {
            return;
        }
        for (device, _) in self.users.live_devices(user) {
            for pair in self.outbox.pairs_to(&device) {
                self.pump(pair, now);
            }
        }
    }

    /// Sends what may be sent between two devices, in order. Returns the numbers of entries that were written because
    /// they got their place.
    pub(super) fn pump(&mut self, pair: Pair, now: Now) -> Vec<u64> {
        let mut written = Vec::new();
        let Some(lane) = self.outbox.lanes.get(&pair) else { return written };
        let Some(node) = self.users.node_of(&pair.1) else {
            if !lane.queue.is_empty()
                && let Some((user, _)) = self.gossip.home(&pair.1)
            {
                self.call(&user, now);
            }
            self.is_away(pair.1);
            return written;
        };
        let room = self.limits.flight.saturating_sub(lane.flight.len());
        let next: Vec<u64> = lane
            .queue
            .iter()
            .filter(|number| !lane.flight.contains_key(number))
            .take(room)
            .copied()
            .collect();
        for number in next {
            let full = self.is_full(&node);
            let Some(peer) = self.peers.connected.get_mut(&node) else { break };
            if full {
                if !peer.blocked.contains(&pair) {
                    peer.blocked.push_back(pair);
                }
                break;
            }
            match self.place(pair, number) {
                Some(true) => written.push(number),
                Some(false) => {}
                None => break,
            }
            self.transmit(pair, number, node, now);
        }
        written
    }

    /// Whether as much is under way to a node as may be. An idle one has room for an envelope of any size.
    fn is_full(&self, node: &NodeId) -> bool {
        let number = self.peers.connected.get(node).map_or(0, |peer| peer.flight);
        let bytes = self.outbox.flight_bytes.get(node).copied().unwrap_or_default();
        number >= self.limits.flight_per_peer || (bytes > 0 && bytes >= self.limits.flight_bytes_per_peer)
    }

    /// Gives a copy its place in the order and writes that down. None: it has to wait for earlier ones.
    pub(super) fn place(&mut self, pair: Pair, number: u64) -> Option<bool> {
        let first = self.outbox.first_wanted(&pair);
        let lane = self.outbox.lanes.get_mut(&pair)?;
        let copy = self.outbox.entries.get_mut(&number)?.copies.get_mut(&pair.1)?;
        if copy.seq > 0 {
            return Some(false);
        }
        if first.is_some_and(|first| lane.seq + 1 >= first + MAX_SPREAD) {
            return None;
        }
        lane.seq += 1;
        *copy = Copy { epoch: lane.epoch, seq: lane.seq, state: State::Sent, ..Copy::default() };
        let outbound = OutboundSequence {
            version: STATE_VERSION,
            sender: pair.0.as_bytes().to_vec(),
            recipient: pair.1.as_bytes().to_vec(),
            epoch: lane.epoch,
            seq: lane.seq,
        };
        self.write_entry(number);
        if is_on(Mutant::ForgetWhenSent) {
            self.outputs.push_back(Output::Write(Write::DeleteOutbox(number)));
        }
        self.outputs.push_back(Output::Write(Write::PutOutbound(outbound)));
        Some(true)
    }

    /// Signs, seals and sends one copy.
    fn transmit(&mut self, pair: Pair, number: u64, node: NodeId, now: Now) {
        let Some((inner, from)) = self.inner(pair, number) else { return };
        let (key, mut id) = (inner.key, [0; 16]);
        self.rng.fill_bytes(&mut id);
        let id = MessageId::from_bytes(id);
        let Some(local) = self.locals.get(&from) else { return };
        let sealed = Envelope::seal(id, inner, &local.device, &local.cert, &mut self.rng);
        let (Some(lane), Some(peer)) =
            (self.outbox.lanes.get_mut(&pair), self.peers.connected.get_mut(&node))
        else {
            return;
        };
        let attempts = lane.flight.get(&number).map_or(0, |flight| flight.attempts) + 1;
        let due = now.mono + (RESEND << attempts.saturating_sub(2).min(3)).min(MAX_RESEND);
        let size = sealed.as_ref().map_or(0, |envelope| envelope.sealed.ciphertext.len());
        let before = lane.flight.insert(number, Flight { envelope: id, key, due, attempts, size });
        peer.flight += usize::from(before.is_none());
        self.outbox.count_flight(node, size, before.map_or(0, |before| before.size));
        self.timers.set_earlier(Timer::Lane(pair), due);
        match sealed {
            Ok(envelope) => {
                self.send_frame(node, &Frame::Envelope(envelope), true, now);
                self.expect_answer(node, now);
            }
            Err(_) => self.counters.drop("a device's sealing key cannot be sealed to"),
        }
    }

    pub(super) fn inner(&self, pair: Pair, number: u64) -> Option<(Inner, UserId)> {
        let (sender, recipient) = pair;
        let entry = self.outbox.entries.get(&number)?;
        let copy = entry.copies.get(&recipient)?;
        let key = self.users.record(&entry.to)?.devices().get(&recipient)?.info.newest()?.public;
        let inner = Inner {
            user: entry.from,
            sender,
            recipient,
            key,
            message: entry.message,
            epoch: copy.epoch,
            seq: copy.seq,
            first: self.outbox.first_wanted(&pair)?.min(copy.seq),
            sent: entry.created,
            content: entry.content.clone(),
            card: Vec::new(),
        };
        Some((inner, entry.from))
    }

    pub(in crate::core) fn on_lane_timer(&mut self, pair: Pair, now: Now) {
        let Some(node) = self.users.node_of(&pair.1) else { return };
        let Some(lane) = self.outbox.lanes.get(&pair) else { return };
        let due: Vec<u64> = lane
            .flight
            .iter()
            .filter(|(_, flight)| flight.due <= now.mono)
            .map(|(number, _)| *number)
            .collect();
        for number in due.into_iter().filter(|_| !is_on(Mutant::NoResend)) {
            self.counters.resent += 1;
            self.transmit(pair, number, node, now);
        }
        self.arm_lane(pair, now);
        self.pump(pair, now);
    }

    fn arm_lane(&mut self, pair: Pair, now: Now) {
        let due =
            self.outbox.lanes.get(&pair).and_then(|lane| lane.flight.values().map(|flight| flight.due).min());
        match due {
            Some(due) => self.timers.set(Timer::Lane(pair), due.max(now.mono + SECOND)),
            None => self.timers.cancel(Timer::Lane(pair)),
        }
    }

    pub(super) fn leave_lane(&mut self, pair: Pair, number: u64, now: Now) {
        let Some(lane) = self.outbox.lanes.get_mut(&pair) else { return };
        lane.queue.remove(&number);
        if let Some(flight) = lane.flight.remove(&number)
            && let Some(node) = self.users.node_of(&pair.1)
            && let Some(peer) = self.peers.connected.get_mut(&node)
        {
            peer.flight = peer.flight.saturating_sub(1);
            self.outbox.count_flight(node, 0, flight.size);
        }
        self.arm_lane(pair, now);
    }

    /// Room was made at a peer that may have been full: those that wait longest get their turn.
    pub(super) fn pump_blocked(&mut self, device: &DeviceId, now: Now) {
        let Some(node) = self.users.node_of(device) else { return };
        while !self.is_full(&node) {
            let Some(peer) = self.peers.connected.get_mut(&node) else { return };
            let Some(pair) = peer.blocked.pop_front() else { return };
            self.pump(pair, now);
        }
    }

    /// Seals again if the device has another key now; else the resend timer does.
    pub(super) fn on_cannot_open(&mut self, receipt: &Receipt, node: NodeId, now: Now) {
        let device = receipt.recipient;
        let newest = self.users.record(&receipt.user).and_then(|record| record.devices().get(&device));
        let newest = newest.and_then(|part| part.info.newest()).map(|key| key.public);
        for pair in self.outbox.pairs_to(&device) {
            let flight = self.outbox.lanes.get(&pair).map(|lane| &lane.flight);
            let number = flight.into_iter().flatten().find(|(_, flight)| flight.envelope == receipt.envelope);
            if let Some(number) =
                number.filter(|(_, flight)| Some(flight.key) != newest).map(|(number, _)| *number)
            {
                self.counters.resent += 1;
                return self.transmit(pair, number, node, now);
            }
        }
    }

    /// A device is no longer reached over a node: what was under way to it will be sent again.
    pub(in crate::core) fn forget_flight(&mut self, device: &DeviceId, node: &NodeId) {
        let (mut lost, mut bytes) = (0, 0);
        for pair in self.outbox.pairs_to(device) {
            if let Some(lane) = self.outbox.lanes.get_mut(&pair) {
                let flight = std::mem::take(&mut lane.flight);
                lost += flight.len();
                bytes += flight.values().map(|flight| flight.size).sum::<usize>();
            }
            self.timers.cancel(Timer::Lane(pair));
        }
        self.is_away(*device);
        self.outbox.count_flight(*node, 0, bytes);
        if let Some(peer) = self.peers.connected.get_mut(node) {
            peer.flight = peer.flight.saturating_sub(lost);
            // The room that this makes is given to those that wait for it by the next timeout, which is now.
            peer.blocked.drain(..).for_each(|pair| self.timers.set(Timer::Lane(pair), 0));
        }
    }
}
