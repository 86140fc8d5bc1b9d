//! Nodes on their way into a table: together, and not one by one.
//!
//! A table that grows is a reason to look around, to spread values, to publish anew. Of those that come within [`PAUSE`] that
//! shall be once.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// After somebody has entered, others wait for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// Nodes that wait; further ones come again with their next connection.
const MAX_WAITING: usize = 64;

/// See the file's head.
#[derive(Default)]
pub(super) struct Newcomers {
    waiting: BTreeMap<PeerId, Vec<Multiaddr>>,
    open: Option<Instant>,
}

impl Newcomers {
    /// A node may enter with these addresses: now, if nobody has lately, else with the others.
    pub(super) fn add(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&peer) {
            self.waiting.insert(peer, addresses);
        }
    }

    /// A node does not want to be in it any more.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.waiting.remove(peer);
    }

    /// Those who wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&PeerId, &[Multiaddr])> {
        self.waiting.iter().map(|(peer, addresses)| (peer, &addresses[..]))
    }

    /// When those who wait may enter.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.open.unwrap_or(now).max(now))
    }

    /// Those who may enter.
    pub(super) fn take(&mut self, now: Instant) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        if self.waiting.is_empty() || self.open.is_some_and(|open| now < open) {
            return BTreeMap::new();
        }
        self.open = Some(now + PAUSE);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_enters_at_once_and_the_next_ones_together() {
        let (mut newcomers, now) = (Newcomers::default(), Instant::now());
        let come = |newcomers: &mut Newcomers| newcomers.add(PeerId::random(), Vec::new());
        assert_eq!(newcomers.next(now), None);
        come(&mut newcomers);
        assert_eq!((newcomers.next(now), newcomers.take(now).len()), (Some(now), 1));
        (0..5).for_each(|_| come(&mut newcomers));
        let left = PeerId::random();
        newcomers.add(left, Vec::new());
        newcomers.remove(&left);
        let early = now + PAUSE - Duration::from_millis(1);
        assert_eq!((newcomers.next(early), newcomers.take(early).len()), (Some(now + PAUSE), 0));
        assert_eq!((newcomers.take(now + PAUSE).len(), newcomers.next(now + PAUSE)), (5, None));
        (0..2 * MAX_WAITING).for_each(|_| come(&mut newcomers));
        assert_eq!(newcomers.take(now + 3 * PAUSE).len(), MAX_WAITING);
    }
}
