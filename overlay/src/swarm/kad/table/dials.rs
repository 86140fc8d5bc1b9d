//! Dials for one table: few at a time, few connections open, further ones wait. Who does not answer at once, as machines that
//! lost their power never do, holds up neither a look-up nor the dials of others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use tokio::time::Instant;

/// Dials under way, and those beside them that are slow; each lasts until the transport gives up.
const AT_ONCE: usize = 8;
const MAX_SLOW: usize = 16;
/// With the connections that were dialled for this table.
const MAX_OPEN: usize = 32;
/// Dials that wait.
const MAX_WAITING: usize = 64;
/// A dial is slow after so long: eight round trips to the far side of the world.
const SLOW: Duration = Duration::from_millis(2_500);

/// See the file's head.
#[derive(Default)]
pub(super) struct Dials {
    under_way: BTreeMap<ConnectionId, Dial>,
    open: BTreeSet<ConnectionId>,
    waiting: VecDeque<PeerId>,
}

struct Dial {
    peer: PeerId,
    /// None: it is slow.
    slow_at: Option<Instant>,
}

impl Dials {
    /// Takes a peer to be dialled. False: there is no room, or it does not answer as it is.
    pub(super) fn add(&mut self, peer: PeerId) -> bool {
        let is_slow = self.under_way.values().any(|dial| dial.peer == peer && dial.slow_at.is_none());
        let fits = !is_slow && self.waiting.len() < MAX_WAITING;
        if fits {
            self.waiting.push_back(peer);
        }
        fits
    }

    /// The next one that may be dialled now.
    pub(super) fn next(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) -> Option<DialOpts> {
        let slow = self.under_way.values().filter(|dial| dial.slow_at.is_none()).count();
        while self.under_way.len() - slow < AT_ONCE
            && self.under_way.len() < AT_ONCE + MAX_SLOW
            && self.under_way.len() + self.open.len() < MAX_OPEN
        {
            let peer = self.waiting.pop_front()?;
            if !is_connected(&peer) {
                // A port of its own: one reused from the listener can still be taken by a former connection.
                let opts = DialOpts::peer_id(peer).allocate_new_port().build();
                let dial = Dial { peer, slow_at: Some(now + SLOW) };
                self.under_way.insert(opts.connection_id(), dial);
                return Some(opts);
            }
        }
        None
    }

    pub(super) fn connected(&mut self, connection: ConnectionId) {
        if self.under_way.remove(&connection).is_some() {
            self.open.insert(connection);
        }
    }

    /// A connection has ended, or did not come about.
    pub(super) fn ended(&mut self, connection: ConnectionId) {
        self.under_way.remove(&connection);
        self.open.remove(&connection);
    }

    /// When [`Dials::slow`] has something to say.
    pub(super) fn next_slow(&self) -> Option<Instant> {
        self.under_way.values().filter_map(|dial| dial.slow_at).min()
    }

    /// Those that are slow now and were not before.
    pub(super) fn slow(&mut self, now: Instant) -> Vec<(ConnectionId, PeerId)> {
        let late = self.under_way.iter_mut().filter(|(_, dial)| dial.slow_at.is_some_and(|at| at <= now));
        late.map(|(connection, dial)| {
            dial.slow_at = None;
            (*connection, dial.peer)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(dials: &mut Dials, now: Instant) -> Vec<DialOpts> {
        std::iter::from_fn(|| dials.next(now, |_| false)).collect()
    }

    #[tokio::test]
    async fn who_does_not_answer_holds_up_nobody_else() {
        let (mut dials, now) = (Dials::default(), Instant::now());
        let peers: Vec<PeerId> = (0..2 * MAX_WAITING).map(|_| PeerId::random()).collect();
        assert_eq!(peers.iter().filter(|peer| dials.add(**peer)).count(), MAX_WAITING);
        assert_eq!((all(&mut dials, now).len(), all(&mut dials, now).len()), (AT_ONCE, 0));
        assert_eq!((dials.slow(now).len(), dials.next_slow()), (0, Some(now + SLOW)));
        let slow = dials.slow(now + SLOW);
        assert_eq!((slow.len(), dials.next_slow()), (AT_ONCE, None));
        assert!(!dials.add(slow[0].1), "it is being dialled");
        let later = now + SLOW;
        assert_eq!(all(&mut dials, later).len(), AT_ONCE);
        dials.slow(later + SLOW);
        assert_eq!(all(&mut dials, later + SLOW).len(), AT_ONCE);
        dials.slow(later + 2 * SLOW);
        assert_eq!(all(&mut dials, later + 2 * SLOW).len(), 0, "all that may be under way");
        dials.ended(slow[0].0);
        assert_eq!(all(&mut dials, later + 2 * SLOW).len(), 1);
    }

    #[tokio::test]
    async fn connections_that_are_open_count() {
        let (mut dials, now) = (Dials::default(), Instant::now());
        let mut open = Vec::new();
        for _ in 0..MAX_OPEN {
            assert!(dials.add(PeerId::random()));
            let opts = dials.next(now, |_| false).expect("there is room");
            dials.connected(opts.connection_id());
            open.push(opts.connection_id());
        }
        assert!(dials.add(PeerId::random()) && dials.next(now, |_| false).is_none());
        dials.ended(open[0]);
        assert!(dials.next(now, |_| true).is_none(), "it has come by itself");
        assert!(dials.add(PeerId::random()) && dials.next(now, |_| false).is_some());
    }
}
