//! The routing table of one modelled node. *Pure.*

use crosstalk_overlay::dht::BUCKET;

/// Questions in a row without an answer before a node leaves the table.
const PATIENCE: u8 = 2;
/// A full bucket takes a new node in place of its oldest once in so many milliseconds (libp2p-kad: a pending entry
/// waits for a minute).
const PENDING: u64 = 60_000;

/// A node, and where it lies among the keys. 64 bits of a position suffice for any number of nodes that is modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) position: u64,
    pub(super) host: u32,
}

/// The oldest first.
#[derive(Clone, Debug, Default)]
struct Bucket {
    peers: [Peer; BUCKET],
    failures: [u8; BUCKET],
    len: u8,
    replaced: u64,
}

impl Bucket {
    fn peers(&self) -> &[Peer] {
        self.peers.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn remove(&mut self, index: usize) {
        self.peers[index..].rotate_left(1);
        self.failures[index..].rotate_left(1);
        self.len -= 1;
    }

    fn push(&mut self, peer: Peer) {
        let end = usize::from(self.len);
        (self.peers[end], self.failures[end]) = (peer, 0);
        self.len += 1;
    }
}

/// Bucket i has those whose first i bits are ours, and the next is not.
#[derive(Clone, Debug, Default)]
pub(super) struct Routing {
    position: u64,
    buckets: Vec<Bucket>,
}

impl Routing {
    pub(super) fn new(position: u64) -> Self {
        Self { position, buckets: Vec::new() }
    }

    /// Somebody has answered or asked.
    pub(super) fn heard(&mut self, peer: Peer, now: u64) {
        let Some(index) = self.index(peer.position) else { return };
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Bucket::default());
        }
        let bucket = &mut self.buckets[index];
        let known = bucket.peers().iter().position(|known| known.host == peer.host);
        if let Some(known) = known {
            bucket.remove(known);
        } else if usize::from(bucket.len) == BUCKET {
            if now < bucket.replaced + PENDING {
                return;
            }
            bucket.replaced = now;
            bucket.remove(0);
        }
        bucket.push(peer);
    }

    /// Somebody was asked and did not answer.
    pub(super) fn failed(&mut self, peer: Peer) {
        let Some(bucket) = self.index(peer.position).and_then(|index| self.buckets.get_mut(index)) else {
            return;
        };
        if let Some(known) = bucket.peers().iter().position(|known| known.host == peer.host) {
            bucket.failures[known] += 1;
            if bucket.failures[known] >= PATIENCE {
                bucket.remove(known);
            }
        }
    }

    /// The `wanted` closest to `target`, the closest first.
    pub(super) fn closest(&self, target: u64, wanted: usize, found: &mut Vec<Peer>) {
        found.clear();
        let distance = self.position ^ target;
        // Where the target has another bit than we do, a bucket lies closer to it than all after it; else farther away.
        let closer = |index: &usize| *index < 64 && distance << index >> 63 == 1;
        let end = self.buckets.len();
        let near = (0..end).filter(closer);
        let far = (0..end).rev().filter(|index| !closer(index));
        for index in near.chain(far) {
            let begin = found.len();
            found.extend_from_slice(self.buckets[index].peers());
            found[begin..].sort_unstable_by_key(|peer| peer.position ^ target);
            if found.len() >= wanted {
                break;
            }
        }
        found.truncate(wanted);
    }

    /// Everybody in it.
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.buckets.iter().flat_map(|bucket| bucket.peers().iter().copied())
    }

    /// How many it names.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| usize::from(bucket.len)).sum()
    }

    /// The number of buckets up to the one of the closest neighbour.
    pub(super) fn depth(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(u32::MAX)
    }

    fn index(&self, position: u64) -> Option<usize> {
        let distance = self.position ^ position;
        (distance != 0).then(|| distance.leading_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(position: u64, host: u32) -> Peer {
        Peer { position, host }
    }

    #[test]
    fn the_closest_are_those_of_a_full_sort() {
        let mut dice = crate::world::dice::Dice::new(7);
        for _ in 0..200 {
            let mut routing = Routing::new(dice.number());
            for host in 0..200 {
                routing.heard(peer(dice.number() >> dice.below(12), host), 0);
            }
            let target = dice.number() >> dice.below(12);
            let mut sorted: Vec<Peer> = routing.peers().collect();
            sorted.sort_by_key(|peer| peer.position ^ target);
            sorted.truncate(20);
            let mut found = Vec::new();
            routing.closest(target, 20, &mut found);
            assert_eq!(found, sorted);
        }
    }

    #[test]
    fn a_full_bucket_takes_one_in_a_minute_and_the_silent_leave() {
        let mut routing = Routing::new(0);
        let top = 1 << 63;
        (0..9).for_each(|host| routing.heard(peer(top + u64::from(host), host), 0));
        let hosts = |routing: &Routing| routing.peers().map(|peer| peer.host).collect::<Vec<_>>();
        assert_eq!(hosts(&routing), [0, 1, 2, 3, 4, 5, 6, 7], "the ninth has to wait");
        routing.heard(peer(top, 0), PENDING);
        routing.heard(peer(top + 9, 9), PENDING);
        assert_eq!(hosts(&routing), [2, 3, 4, 5, 6, 7, 0, 9], "the oldest leaves");
        routing.failed(peer(top + 3, 3));
        routing.heard(peer(top + 3, 3), PENDING);
        routing.failed(peer(top + 3, 3));
        routing.failed(peer(top + 2, 2));
        routing.failed(peer(top + 2, 2));
        assert_eq!(hosts(&routing), [4, 5, 6, 7, 0, 9, 3]);
    }
}
