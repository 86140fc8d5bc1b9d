//! Whether somebody who does not answer has gone elsewhere. *Pure.*
//!
//! Who leaves a network cannot say so there, and to whoever stayed TCP looks alive. From the new place the one who left
//! connects at once, but not with somebody whom a router hides and for whom no relay has a place. So if an envelope is not
//! answered for a moment, the hash table is asked where its recipient is now; if they have said so since they were heard
//! last, the old connection ends and the new place is dialled. Silence alone, as on a bad radio, ends nothing so soon.

use std::collections::BTreeMap;

use super::query::Purpose;
use super::timers::Timer;
use super::{Overlay, peers::Peer};
use crate::id::{DeviceId, NodeId, UserId};
use crate::time::{DAY, Now, SECOND};

/// An envelope that is not answered for so long is a reason to ask, and each time that it lasts as long again.
const DOUBT: u64 = 5 * SECOND / 2;

/// Peers that owe an answer, and since when (monotonic milliseconds). As many as are connected at most.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    owed: BTreeMap<NodeId, u64>,
}

impl Doubts {
    /// Something was heard of a peer.
    pub(super) fn end(&mut self, node: &NodeId) {
        self.owed.remove(node);
    }

    fn is_doubted(&self, node: &NodeId, now: Now) -> bool {
        self.owed.get(node).is_some_and(|owed| now.mono >= owed + DOUBT)
    }
}

impl Overlay {
    /// An envelope goes to a peer, which answers at once what it gets.
    pub(super) fn expect_answer(&mut self, node: NodeId, now: Now) {
        if let std::collections::btree_map::Entry::Vacant(owes) = self.doubts.owed.entry(node) {
            owes.insert(now.mono);
            self.timers.set(Timer::Doubt(node), now.mono + DOUBT);
        }
    }

    pub(super) fn on_doubt_timer(&mut self, node: NodeId, now: Now) {
        let Some(peer) = self.peers.connected.get(&node) else { return self.doubts.end(&node) };
        let Some(owed) = self.doubts.owed.get(&node).copied() else { return };
        self.timers.set(Timer::Doubt(node), now.mono.max(owed) + DOUBT);
        if self.doubts.is_doubted(&node, now) {
            let there: Vec<(UserId, DeviceId)> =
                peer.proven.iter().map(|(user, device)| (*user, *device)).collect();
            let day = self.time(now) / DAY;
            for (user, device) in there {
                self.ask_table(Purpose::FindPresence(user, device, day), now);
            }
        }
    }

    /// A device has said at `said` (Unix milliseconds, by its clock) where this node is. If it does not answer, and was not
    /// heard since, the connection is one of the place where it was.
    pub(super) fn is_elsewhere(&mut self, node: NodeId, said: u64, now: Now) {
        let heard = self.peers.connected.get(&node).and_then(heard_by_its_clock);
        if self.doubts.is_doubted(&node, now) && heard.is_some_and(|heard| said > heard) {
            self.end_silent(node, now);
            self.timers.set(Timer::Dial(node), now.mono);
        }
    }
}

/// What a peer's clock showed when it was heard last: its last Hello says what it showed then.
fn heard_by_its_clock(peer: &Peer) -> Option<u64> {
    let wall = peer.hello.as_ref()?.wall;
    Some(wall.saturating_add(peer.last_heard.saturating_sub(peer.clock_at)))
}
