//! One deadline for each thing that waits, and the grid that periodic ones share so that few wake-ups do. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceId, NodeId};
use crate::time::SECOND;

/// Periodic deadlines fall on multiples of this.
pub(super) const TICK: u64 = 5 * SECOND;

/// The sending and the receiving device of an order.
pub(super) type Pair = (DeviceId, DeviceId);

/// What waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next dial of a node, or the end of waiting for one.
    Dial(NodeId),
    /// A peer's heartbeat or silence.
    Peer(NodeId),
    /// The next question to a silent node.
    Probe(NodeId),
    /// An answer that a peer owes.
    Doubt(NodeId),
    /// Envelopes without receipt.
    Lane(Pair),
    /// Envelopes held back behind a gap.
    Gap(Pair),
    /// What is said on the link is said anew; what others said is forgotten.
    Renew,
    /// Who is here, and whom to be connected with.
    Survey,
    /// Offers of what others said.
    Gossip,
    /// Questions for what was offered.
    Ask,
    /// Live stanzas that wait for a connection.
    Held,
    /// Questions to the hash table that are not answered.
    Query,
    /// What the hash table is told.
    Publish,
    /// Whom the hash table is asked for.
    Seek,
    /// What our users show their contacts.
    Presence,
    /// What goes to mailboxes and comes out of them.
    Mail,
    /// Work for a deposit.
    Work,
    /// What was revoked lately.
    Revoked,
    /// A join under way.
    Join,
    /// Questions to a server.
    Enrol,
    /// Expiry, renewal of records and keys, the clock.
    Sweep,
}

impl Timer {
    fn reason(self) -> &'static str {
        match self {
            Self::Dial(_) => "dial",
            Self::Peer(_) => "heartbeat",
            Self::Probe(_) => "liveness probe",
            Self::Doubt(_) => "no answer",
            Self::Lane(_) => "resend",
            Self::Gap(_) => "gap",
            Self::Renew => "link presence",
            Self::Survey => "who is here",
            Self::Gossip => "gossip",
            Self::Ask => "question",
            Self::Held => "live stanza waits",
            Self::Query => "query",
            Self::Publish => "publish",
            Self::Seek => "seek",
            Self::Presence => "presence",
            Self::Mail => "mailboxes",
            Self::Work => "work for a mailbox",
            Self::Revoked => "revocations",
            Self::Join => "join",
            Self::Enrol => "question to a server",
            Self::Sweep => "sweep",
        }
    }
}

/// The deadlines, monotonic milliseconds. As many as there are peers, candidates and pairs at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    when: BTreeMap<Timer, u64>,
    queue: BTreeSet<(u64, Timer)>,
}

/// The first multiple of `step` at or after `when`.
pub(super) fn on_grid(when: u64, step: u64) -> u64 {
    when.div_ceil(step).saturating_mul(step)
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, when: u64) {
        if let Some(old) = self.when.insert(timer, when) {
            self.queue.remove(&(old, timer));
        }
        self.queue.insert((when, timer));
    }

    /// Sets it unless it fires earlier anyway.
    pub(super) fn set_earlier(&mut self, timer: Timer, when: u64) {
        if self.when.get(&timer).is_none_or(|old| when < *old) {
            self.set(timer, when);
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.when.contains_key(&timer)
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(old) = self.when.remove(&timer) {
            self.queue.remove(&(old, timer));
        }
    }

    pub(super) fn pop_due(&mut self, mono: u64) -> Option<Timer> {
        let (when, timer) = *self.queue.first()?;
        if when > mono {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<(u64, &'static str)> {
        self.queue.first().map(|(when, timer)| (*when, timer.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_once_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(Timer::Sweep, 30);
        timers.set(Timer::Presence, 10);
        timers.set(Timer::Presence, 20);
        timers.set_earlier(Timer::Sweep, 40);
        assert_eq!(timers.next(), Some((20, "presence")));
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(30), Some(Timer::Presence));
        assert_eq!(timers.pop_due(30), Some(Timer::Sweep));
        assert_eq!(timers.pop_due(99), None);
    }

    #[test]
    fn the_grid_is_never_early() {
        assert_eq!([on_grid(0, 5), on_grid(1, 5), on_grid(5, 5), on_grid(6, 5)], [0, 5, 5, 10]);
    }
}
