//! Owns the flows between clients, their windows and the account of what arrived; *pure* (times are arguments).

use super::histogram::Histogram;
use super::marker::{Marker, MarkerFinder};
use super::scanner::attribute;
use super::sequence::{Arrival, Sequence};
use super::stanza::{self, Template};
use std::ops::Range;

/// What was counted, over the whole run unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages handed to sockets.
    pub sent: u64,
    /// Different messages that arrived.
    pub delivered: u64,
    /// Of these, those that arrived within the measured time.
    pub delivered_in_time: u64,
    /// Arrivals of a message that had arrived before.
    pub repeated: u64,
    /// Messages that arrived after a later one of the same flow.
    pub reordered: u64,
    /// Messages that came back as errors.
    pub bounced: u64,
    /// Messages that were due and not sent, because the client's queue was full.
    pub withheld: u64,
    /// Messages acknowledged by the server (XEP-0198).
    pub acked: u64,
    /// Of these, within the measured time.
    pub acked_in_time: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    sent: u32,
    bounced: u32,
    received: Sequence,
}

/// All flows: each client sends to `fanout` others.
#[derive(Debug)]
pub struct Traffic {
    fanout: usize,
    /// Servers that the clients are on in turn.
    servers: usize,
    window: Option<u32>,
    templates: Vec<Template>,
    flows: Vec<Flow>,
    finder: MarkerFinder,
    measured: Range<u64>,
    /// Totals so far.
    pub counts: Counts,
    /// Send (or scheduled) time to arrival, in nanoseconds, of measured messages.
    pub latency: Histogram,
    /// Send (or scheduled) time to the server's acknowledgement.
    pub ack_latency: Histogram,
}

impl Traffic {
    /// Flows between clients with these addresses, who are on so many servers in turn; `window` messages of a flow may be on their way, no window means
    /// that somebody else decides when to send. Only what falls into `measured` (nanoseconds) is timed.
    #[must_use]
    pub fn new(
        jids: &[String],
        servers: usize,
        fanout: usize,
        body_bytes: usize,
        window: Option<u32>,
        measured: Range<u64>,
    ) -> Self {
        Self {
            fanout: fanout.max(1),
            servers: servers.max(1),
            window,
            templates: jids.iter().map(|jid| Template::new(jid, body_bytes)).collect(),
            flows: vec![Flow::default(); jids.len() * fanout.max(1)],
            finder: MarkerFinder::default(),
            measured,
            counts: Counts::default(),
            latency: Histogram::default(),
            ack_latency: Histogram::default(),
        }
    }

    /// How many messages each client sends per round.
    #[must_use]
    pub fn fanout(&self) -> usize {
        self.fanout
    }

    /// The flow that message `number` of a fixed rate belongs to: all clients in turn, then their next recipients.
    #[must_use]
    pub fn turn_of(&self, number: u64) -> (usize, usize) {
        let clients = self.templates.len().max(1) as u64;
        let slot = (number / clients) % self.fanout as u64;
        ((number % clients) as usize, slot as usize)
    }

    /// The first recipient from `slot` on to which `sender` may send another message now.
    #[must_use]
    pub fn open_slot(&self, sender: usize, slot: usize) -> Option<usize> {
        let window = self.window?;
        (slot..self.fanout).find(|slot| {
            let flow = self.flows.get(sender * self.fanout + slot).copied().unwrap_or_default();
            flow.sent.wrapping_sub(flow.received.delivered()).wrapping_sub(flow.bounced) < window
        })
    }

    /// Writes the next message of a flow to `out`, stamped with `time`.
    pub fn write(&mut self, sender: usize, slot: usize, time: u64, out: &mut Vec<u8>) {
        let target = self.target(sender, slot);
        let Some(flow) = self.flows.get_mut(sender * self.fanout + slot) else { return };
        let Some(template) = self.templates.get(target) else { return };
        let marker = Marker { sender: sender as u32, sequence: flow.sent, time };
        template.write(marker, out);
        flow.sent = flow.sent.wrapping_add(1);
        self.counts.sent += 1;
    }

    /// Takes a message stanza that `receiver` got at `now`: the client that may send again because of it.
    pub fn receive(&mut self, receiver: usize, stanza: &[u8], now: u64) -> Option<usize> {
        if attribute(stanza, "type") == Some(b"error") {
            // An error need not hold the message again, but its id (RFC 6120 §8.3.1).
            let sender = attribute(stanza, "id").and_then(stanza::sender_of)?;
            return self.bounced(receiver, sender);
        }
        let marker = self.finder.find(stanza)?;
        let sender = marker.sender as usize;
        let slot = self.slot(sender, receiver)?;
        let flow = self.flows.get_mut(sender * self.fanout + slot)?;
        match flow.received.arrive(marker.sequence) {
            Arrival::Repeated => {
                self.counts.repeated += 1;
                return None;
            }
            Arrival::Late => self.counts.reordered += 1,
            Arrival::InOrder => {}
        }
        self.counts.delivered += 1;
        if self.measured.contains(&now) {
            self.counts.delivered_in_time += 1;
        }
        if self.is_timed(marker.time, now) {
            self.latency.record(now.saturating_sub(marker.time));
        }
        Some(sender)
    }

    /// Takes the server's acknowledgement, at `now`, of a message of `time`.
    pub fn acknowledged(&mut self, time: u64, now: u64) {
        self.counts.acked += 1;
        if self.measured.contains(&now) {
            self.counts.acked_in_time += 1;
        }
        if self.is_timed(time, now) {
            self.ack_latency.record(now.saturating_sub(time));
        }
    }

    /// Messages whose fate is open.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.counts.sent.saturating_sub(self.counts.delivered).saturating_sub(self.counts.bounced)
    }

    /// With a window, what arrives in the measured time is timed. At a rate, what was due in it, however late it
    /// arrives: else the slowest would be left out.
    fn is_timed(&self, time: u64, now: u64) -> bool {
        self.measured.contains(if self.window.is_some() { &now } else { &time })
    }

    /// A client got a message back that this one had sent.
    fn bounced(&mut self, sender: usize, said: usize) -> Option<usize> {
        self.counts.bounced += 1;
        // Without the original `to` any open flow may take the credit: only the sum over the client matters.
        let flows = self.flows.get_mut(sender * self.fanout..(sender + 1) * self.fanout)?;
        let open = flows.iter_mut().find(|flow| flow.sent > flow.received.delivered() + flow.bounced)?;
        open.bounced += 1;
        (said == sender).then_some(sender)
    }

    fn target(&self, sender: usize, slot: usize) -> usize {
        if self.is_paired() {
            return sender ^ 1;
        }
        // With several servers in turn, always one of the next server.
        (sender + 1 + slot * self.servers) % self.templates.len().max(1)
    }

    fn slot(&self, sender: usize, receiver: usize) -> Option<usize> {
        let clients = self.templates.len();
        if sender >= clients {
            return None;
        }
        if self.is_paired() {
            return (sender ^ 1 == receiver).then_some(0);
        }
        let apart = (receiver + clients).checked_sub(sender + 1)? % clients;
        let slot = apart / self.servers;
        (slot < self.fanout && apart.is_multiple_of(self.servers)).then_some(slot)
    }

    /// Two clients each write to each other.
    fn is_paired(&self) -> bool {
        self.fanout == 1 && self.servers == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn traffic(clients: usize, fanout: usize, window: Option<u32>) -> Traffic {
        let jids: Vec<_> = (0..clients).map(|index| format!("u{index}@d")).collect();
        Traffic::new(&jids, 1, fanout, 150, window, 100..200)
    }

    fn message(traffic: &mut Traffic, sender: usize, slot: usize, time: u64) -> Vec<u8> {
        let mut out = Vec::new();
        traffic.write(sender, slot, time, &mut out);
        out
    }

    #[test]
    fn a_window_closes_and_opens_again() {
        let mut traffic = traffic(2, 1, Some(2));
        let first = message(&mut traffic, 0, 0, 1);
        assert_eq!(traffic.open_slot(0, 0), Some(0));
        message(&mut traffic, 0, 0, 2);
        assert_eq!(traffic.open_slot(0, 0), None);
        assert_eq!(traffic.receive(1, &first, 150), Some(0));
        assert_eq!(traffic.open_slot(0, 0), Some(0));
        assert_eq!(traffic.receive(1, &first, 151), None);
        assert_eq!(traffic.counts.repeated, 1);
        assert_eq!(traffic.in_flight(), 1);
    }

    #[test]
    fn at_a_rate_the_due_time_decides_what_is_timed() {
        let mut traffic = traffic(2, 1, None);
        for (due, arrival) in [(99, 150), (150, 10_000), (200, 201)] {
            let stanza = message(&mut traffic, 0, 0, due);
            traffic.receive(1, &stanza, arrival);
        }
        assert_eq!((traffic.latency.len(), traffic.latency.max()), (1, 9_850));
        assert_eq!((traffic.counts.delivered, traffic.counts.delivered_in_time), (3, 1));
    }

    #[test]
    fn errors_are_bounces_not_deliveries() {
        let mut traffic = traffic(2, 1, Some(1));
        let stanza = String::from_utf8(message(&mut traffic, 1, 0, 1)).unwrap();
        let (head, _) = stanza.split_once("<body>").unwrap();
        let error = format!("{}<error type='wait'/></message>", head.replace("type='chat'", "type='error'"));
        assert_eq!(traffic.receive(1, error.as_bytes(), 150), Some(1));
        assert_eq!((traffic.counts.bounced, traffic.counts.delivered), (1, 0));
        assert_eq!(traffic.open_slot(1, 0), Some(0));
    }

    #[test]
    fn a_message_to_the_wrong_client_is_not_counted() {
        let mut traffic = traffic(4, 1, None);
        let stanza = message(&mut traffic, 0, 0, 1);
        assert_eq!(traffic.receive(2, &stanza, 150), None);
        assert_eq!(traffic.counts.delivered, 0);
    }

    proptest! {
        #[test]
        fn recipients_are_others_and_found_again(half in 2usize..20, servers in 1usize..4, fanout in 1usize..4, sender in 0usize..40, slot in 0usize..4) {
            let clients = half * 2 * servers;
            let (sender, slot) = (sender % clients, slot % fanout);
            let jids = vec![String::new(); clients];
            let traffic = Traffic::new(&jids, servers, fanout, 150, None, 100..200);
            let target = traffic.target(sender, slot);
            prop_assert!(target != sender && target < clients);
            prop_assert!(servers == 1 || target % servers == (sender + 1) % servers, "of the next server");
            prop_assert_eq!(traffic.slot(sender, target), Some(slot));
        }
    }
}
