//! How much one peer may deposit in an hour. *Pure.*

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::HOUR;

/// Peers whose deposits are counted at most; of more, the one that began longest ago is forgotten.
const MAX_PEERS: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Window {
    since: u64,
    items: usize,
    bytes: usize,
}

/// What peers deposited within the hour, each with its own and with what it passes on.
#[derive(Debug, Default)]
pub(super) struct Quota {
    peers: BTreeMap<(NodeId, bool), Window>,
}

impl Quota {
    /// Whether a peer may deposit that much more, `mono` being monotonic milliseconds.
    pub(super) fn has_room(
        &self,
        peer: (NodeId, bool),
        size: usize,
        (items, bytes): (usize, usize),
        mono: u64,
    ) -> bool {
        let window = self.peers.get(&peer).filter(|window| mono < window.since.saturating_add(HOUR));
        window.is_none_or(|window| window.items < items && window.bytes + size <= bytes)
    }

    pub(super) fn count(&mut self, peer: (NodeId, bool), size: usize, mono: u64) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            let first = self.peers.iter().min_by_key(|(_, window)| window.since).map(|(peer, _)| *peer);
            first.map(|peer| self.peers.remove(&peer));
        }
        let window = self.peers.entry(peer).or_insert(Window { since: mono, items: 0, bytes: 0 });
        if mono >= window.since.saturating_add(HOUR) {
            *window = Window { since: mono, items: 0, bytes: 0 };
        }
        window.items += 1;
        window.bytes += size;
    }
}
