//! Owns one client's XEP-0198 counters, both directions, *pure*.

use std::collections::VecDeque;

/// Sent stanzas that may wait for the server's acknowledgement; above it the client sends nothing more.
pub const UNACKED_LIMIT: usize = 65_536;

/// Counters from `<enabled/>` on.
#[derive(Debug)]
pub struct StreamManagement {
    /// Stanzas received, modulo 2^32.
    handled: u32,
    /// The server's last `h`.
    acked: u32,
    /// Send times of stanzas not acknowledged yet; nothing for stanzas other than messages.
    unacked: VecDeque<Option<u64>>,
    since_request: u32,
    every: u32,
}

impl StreamManagement {
    /// Requests an acknowledgement after each `every` messages. The initial presence counts as sent.
    #[must_use]
    pub fn new(every: u32) -> Self {
        let unacked = VecDeque::from([None]);
        Self { handled: 0, acked: 0, unacked, since_request: 1, every: every.max(1) }
    }

    /// Notes one received stanza (message, presence, iq).
    pub fn received(&mut self) {
        self.handled = self.handled.wrapping_add(1);
    }

    /// What to answer to `<r/>`.
    #[must_use]
    pub fn handled(&self) -> u32 {
        self.handled
    }

    /// Notes one sent stanza; says whether `<r/>` is due after it. Call with the send time for messages only.
    pub fn sent(&mut self, time: Option<u64>) -> bool {
        self.unacked.push_back(time);
        self.since_request += 1;
        if self.since_request < self.every {
            return false;
        }
        self.since_request = 0;
        true
    }

    /// Whether stanzas went out since the last `<r/>`; resets it, for when nothing more can be sent now.
    pub fn take_request(&mut self) -> bool {
        std::mem::take(&mut self.since_request) > 0
    }

    /// Stanzas sent and not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// Takes the server's `h`: the send times of the messages that it acknowledges. An `h` beyond what was sent
    /// acknowledges all; one that goes back acknowledges nothing.
    pub fn acknowledged(&mut self, h: u32) -> impl Iterator<Item = u64> + '_ {
        let step = h.wrapping_sub(self.acked);
        let step = if step > u32::MAX / 2 { 0 } else { step };
        self.acked = self.acked.wrapping_add(step);
        let count = self.unacked.len().min(step as usize);
        self.unacked.drain(..count).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presence_comes_first_and_times_come_back_in_order() {
        let mut sm = StreamManagement::new(2);
        assert!(sm.take_request());
        assert!(!sm.sent(Some(10)));
        assert!(sm.sent(Some(20)));
        assert!(!sm.sent(Some(30)));
        assert_eq!(sm.acknowledged(2).collect::<Vec<_>>(), [10]);
        assert_eq!(sm.acknowledged(1).count(), 0);
        assert_eq!(sm.unacked(), 2);
        assert!(sm.take_request());
        assert!(!sm.take_request());
        assert_eq!(sm.acknowledged(900).collect::<Vec<_>>(), [20, 30]);
    }

    #[test]
    fn counters_wrap() {
        let mut sm = StreamManagement::new(1);
        sm.handled = u32::MAX;
        sm.acked = u32::MAX;
        sm.received();
        assert_eq!(sm.handled(), 0);
        assert_eq!(sm.acknowledged(0).count(), 0);
        assert_eq!(sm.unacked(), 0);
    }
}
