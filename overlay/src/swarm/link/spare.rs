//! A second connection with a peer: which of the two stays.
//!
//! A link in use goes only when it is certain that the other one is used. Both sides may have dialled at once: then each
//! gives up a dial of its own for a link that is ready; until one is ready, the one that the smaller id dialled counts.
//! A direct connection is always worth more than one through a relay. What the peer dialled is kept beside the link for a while: it becomes the link when that ends, or when a frame comes
//! on it, for then the far end of the older one has been lost.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::handler::Report;
use super::{Behaviour, Link};

/// Two connections in opposite directions within this time were dialled at the same time by both sides.
const DOUBLE_DIAL: Duration = Duration::from_secs(4);
/// A second connection of which nothing comes for so long is given up.
const SPARE: Duration = Duration::from_secs(10);

impl Behaviour {
    /// Keeps a connection beside the link, in the place of an earlier one.
    pub(super) fn keep_spare(&mut self, peer: PeerId, spare: Link) {
        self.drop_spare(&peer);
        self.ending.insert(spare.connection, (peer, Instant::now() + SPARE));
        self.spares.insert(peer, spare);
        self.timer = None;
    }

    pub(super) fn drop_spare(&mut self, peer: &PeerId) {
        if let Some(spare) = self.spares.remove(peer) {
            self.ending.remove(&spare.connection);
            self.shut(*peer, spare.connection);
        }
    }

    /// The spare takes the place of the link: the first of our own dials that is ready, or one that the peer speaks on.
    pub(super) fn spare_reported(&mut self, peer: &PeerId, report: &Report) {
        let Some(spare) = self.spares.get_mut(peer) else { return };
        let takes_over = match report {
            Report::Ready => {
                spare.ready = spare.inbound;
                !spare.inbound
            }
            Report::Wanted => false,
            Report::Frame(_) => true,
            Report::Ended(_) => return self.drop_spare(peer),
        };
        if takes_over {
            tracing::debug!(%peer, "a newer connection replaces the older one");
            self.cut(peer);
        }
    }
}

/// Whether a second connection is kept beside the link; see the file's head. `smaller`: our id is the smaller one.
pub(super) fn is_of_use(smaller: bool, old: &Link, new: &Link) -> bool {
    if old.is_relayed() && !new.is_relayed() {
        return true;
    }
    let young = new.since.duration_since(old.since) < DOUBLE_DIAL;
    match (old.inbound, new.inbound) {
        (true, true) => true,
        // Both dialled at once, or the peer has lost the older one.
        (false, true) => !smaller || !young,
        // Our dial began before there was a link.
        (true, false) => smaller && !old.ready,
        (false, false) => !old.ready,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::Multiaddr;
    use libp2p::swarm::ConnectionId;

    use super::super::super::queue;
    use super::*;
    use crate::id::NodeId;

    fn link(inbound: bool, ready: bool, since: Instant) -> Link {
        let (queue, _) = queue::queue();
        let (node, connection) = (NodeId::from_bytes([0; 32]), ConnectionId::new_unchecked(0));
        let address = Multiaddr::empty();
        Link { node, connection, address, inbound, since, queue, ready, dialled: !inbound }
    }

    /// What becomes of a connection, of our own dial or of the peer's, `age` after the link.
    fn kept(smaller: bool, old: (bool, bool), new_inbound: bool, age: Duration) -> bool {
        let now = Instant::now();
        is_of_use(smaller, &link(old.0, old.1, now), &link(new_inbound, false, now + age))
    }

    const YOUNG: Duration = Duration::from_secs(1);

    #[test]
    fn of_two_simultaneous_dials_at_least_one_is_kept() {
        // Each side has both, in either order; the one that the smaller dialled is outbound there and inbound at the other.
        for (at_smaller, at_larger) in [(true, true), (true, false), (false, true), (false, false)] {
            // Whether the smaller's came first, seen from each side. None is ready.
            let (first, second) = (!at_smaller, at_smaller);
            let smaller_has_both = kept(true, (first, false), second, YOUNG);
            let (first, second) = (at_larger, !at_larger);
            let larger_has_both = kept(false, (first, false), second, YOUNG);
            let smallers_survives = (at_smaller || smaller_has_both) && (at_larger || larger_has_both);
            assert!(smallers_survives, "{at_smaller} {at_larger}");
        }
    }

    #[test]
    fn a_link_that_is_ready_is_not_given_up_for_a_dial_of_our_own() {
        for (smaller, old_inbound) in [(true, true), (true, false), (false, true), (false, false)] {
            for age in [YOUNG, DOUBLE_DIAL] {
                assert!(!kept(smaller, (old_inbound, true), false, age));
            }
        }
    }

    #[test]
    fn a_direct_connection_is_of_use_beside_one_through_a_relay_and_not_the_other_way_round() {
        let now = Instant::now();
        let circuit: Multiaddr = "/ip4/192.0.2.1/tcp/1/p2p-circuit".parse().expect("an address");
        for (smaller, inbound) in [(true, true), (true, false), (false, true), (false, false)] {
            let relayed = Link { address: circuit.clone(), ..link(inbound, true, now) };
            assert!(is_of_use(smaller, &relayed, &link(false, false, now)), "our own");
            assert!(is_of_use(smaller, &relayed, &link(true, false, now)), "the peer's");
            assert!(!is_of_use(smaller, &link(inbound, true, now), &Link { inbound: false, ..relayed }));
        }
    }

    #[test]
    fn what_the_peer_dials_later_is_kept() {
        for (smaller, old_inbound, ready) in [(true, true, true), (false, true, true), (false, false, true)] {
            assert!(kept(smaller, (old_inbound, ready), true, YOUNG));
        }
        assert!(kept(true, (false, true), true, DOUBLE_DIAL));
        assert!(!kept(true, (false, true), true, YOUNG), "the smaller's own dial counts");
    }
}
