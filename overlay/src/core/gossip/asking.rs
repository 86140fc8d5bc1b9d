//! Which offered statements are wanted, whom they were asked of, and which are not wanted again. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::NodeId;
use crate::time::{Now, SECOND};
use crate::wire::Mark;

/// Marks offered and not here yet at most; further ones are ignored.
const MAX_OPEN: usize = 8_192;
/// Of these, marks that came first from one peer.
const MAX_OPEN_PER_PEER: usize = 4_096;
/// Marks that one peer is asked for at a time.
const MAX_ASKED: usize = 32;
/// Peers that are remembered to offer the same mark.
const MAX_OFFERERS: usize = 4;
/// A peer that has not answered by then does not have it.
pub(super) const PATIENCE: u64 = 3 * SECOND;
/// Marks that are not wanted; the oldest are forgotten.
const MAX_REFUSED: usize = 8_192;

#[derive(Debug, Default)]
struct Wanted {
    /// Peers that offer it and were not asked yet.
    offerers: VecDeque<NodeId>,
    /// Who was asked, and when.
    asked: Option<(NodeId, u64)>,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Asking {
    open: BTreeMap<Mark, Wanted>,
    /// Those of them that nobody is asked for at the moment.
    idle: BTreeSet<Mark>,
    /// How many each peer is asked for.
    busy: BTreeMap<NodeId, usize>,
    /// How many of these each peer offered first.
    first: BTreeMap<NodeId, usize>,
    owner: BTreeMap<Mark, NodeId>,
    refused: BTreeSet<Mark>,
    refused_order: VecDeque<Mark>,
    /// Nobody was asked earlier who has not answered.
    oldest: Option<u64>,
}

impl Asking {
    /// Not to be asked for again.
    pub(super) fn refuse(&mut self, mark: Mark) {
        self.close(&mark);
        if self.refused.insert(mark) {
            self.refused_order.push_back(mark);
        }
        while self.refused_order.len() > MAX_REFUSED {
            let oldest = self.refused_order.pop_front();
            oldest.map(|mark| self.refused.remove(&mark));
        }
    }

    pub(super) fn is_refused(&self, mark: &Mark) -> bool {
        self.refused.contains(mark)
    }

    /// It is here, or nobody has it.
    pub(super) fn close(&mut self, mark: &Mark) {
        self.idle.remove(mark);
        if let Some((asked, _)) = self.open.remove(mark).and_then(|wanted| wanted.asked) {
            lower(&mut self.busy, &asked);
        }
        if let Some(peer) = self.owner.remove(mark) {
            lower(&mut self.first, &peer);
        }
    }

    /// A peer has it. False: there is no room to remember that.
    pub(super) fn offered(&mut self, mark: Mark, peer: NodeId) -> bool {
        if self.refused.contains(&mark) {
            return true;
        }
        if let Some(wanted) = self.open.get_mut(&mark) {
            let known =
                wanted.offerers.contains(&peer) || wanted.asked.is_some_and(|(asked, _)| asked == peer);
            if !known && wanted.offerers.len() < MAX_OFFERERS {
                wanted.offerers.push_back(peer);
            }
            return true;
        }
        let count = self.first.get(&peer).copied().unwrap_or_default();
        if self.open.len() >= MAX_OPEN || count >= MAX_OPEN_PER_PEER {
            return false;
        }
        self.first.insert(peer, count + 1);
        self.owner.insert(mark, peer);
        self.open.insert(mark, Wanted { offerers: VecDeque::from([peer]), asked: None });
        self.idle.insert(mark);
        true
    }

    /// Whom to ask for what now.
    pub(super) fn next(&mut self, now: Now) -> BTreeMap<NodeId, Vec<Mark>> {
        let mut wants: BTreeMap<NodeId, Vec<Mark>> = BTreeMap::new();
        self.oldest = self.oldest.or(Some(now.mono));
        for mark in &self.idle {
            let Some(wanted) = self.open.get_mut(mark) else { continue };
            let free = |peer: &&NodeId| self.busy.get(peer).copied().unwrap_or_default() < MAX_ASKED;
            let Some(peer) = wanted.offerers.iter().find(free).copied() else { continue };
            wanted.offerers.retain(|other| *other != peer);
            wanted.asked = Some((peer, now.mono));
            *self.busy.entry(peer).or_default() += 1;
            wants.entry(peer).or_default().push(*mark);
        }
        for mark in wants.values().flatten() {
            self.idle.remove(mark);
        }
        wants
    }

    /// Whether anybody was asked and has not answered.
    pub(super) fn is_waiting(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Those that have not answered in time are not waited for; what nobody else offers is forgotten.
    pub(super) fn give_up_old(&mut self, now: Now) {
        if self.oldest.is_none_or(|oldest| now.mono < oldest + PATIENCE) {
            return;
        }
        self.give_up(|_, at| now.mono >= at + PATIENCE);
        self.oldest = self.open.values().filter_map(|wanted| wanted.asked).map(|(_, at)| at).min();
    }

    /// A peer has gone; true if somebody else is to be asked now.
    pub(super) fn forget_peer(&mut self, peer: &NodeId) -> bool {
        for wanted in self.open.values_mut() {
            wanted.offerers.retain(|other| other != peer);
        }
        self.give_up(|asked, _| asked == *peer)
    }

    fn give_up(&mut self, gone: impl Fn(NodeId, u64) -> bool) -> bool {
        let mut any = false;
        for (mark, wanted) in &mut self.open {
            if let Some((peer, _)) = wanted.asked.take_if(|(peer, at)| gone(*peer, *at)) {
                lower(&mut self.busy, &peer);
                self.idle.insert(*mark);
                any = true;
            }
        }
        let nobody = |mark: &&Mark| self.open.get(*mark).is_none_or(|wanted| wanted.offerers.is_empty());
        let closed: Vec<Mark> = self.idle.iter().filter(nobody).copied().collect();
        closed.iter().for_each(|mark| self.close(mark));
        any
    }
}

fn lower(counts: &mut BTreeMap<NodeId, usize>, peer: &NodeId) {
    if let Some(count) = counts.get_mut(peer) {
        *count -= 1;
        if *count == 0 {
            counts.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn mark(number: u64) -> Mark {
        number.to_be_bytes()
    }

    fn at(mono: u64) -> Now {
        Now { mono, wall: 0 }
    }

    #[test]
    fn each_is_asked_of_one_peer_and_of_the_next_if_that_does_not_answer() {
        let mut asking = Asking::default();
        asking.offered(mark(1), node(1));
        assert_eq!(asking.next(at(0)), BTreeMap::from([(node(1), vec![mark(1)])]));
        asking.offered(mark(1), node(2));
        assert!(asking.next(at(1)).is_empty(), "asked already");
        asking.give_up_old(at(PATIENCE));
        assert_eq!(asking.next(at(PATIENCE)), BTreeMap::from([(node(2), vec![mark(1)])]));
        asking.forget_peer(&node(2));
        assert!(asking.open.is_empty() && asking.first.is_empty(), "nobody has it");
        asking.offered(mark(1), node(1));
        asking.refuse(mark(1));
        asking.offered(mark(1), node(1));
        assert!(asking.open.is_empty(), "not wanted");
    }

    #[test]
    fn a_peer_is_asked_for_few_at_a_time_and_a_flood_of_offers_is_bounded() {
        let mut asking = Asking::default();
        let taken = (0..10_000).filter(|number| asking.offered(mark(*number), node(1))).count();
        assert_eq!(taken, MAX_OPEN_PER_PEER);
        assert!(asking.offered(mark(20_000), node(2)), "another has room");
        let wants = asking.next(at(0));
        assert_eq!((wants[&node(1)].len(), wants[&node(2)].len()), (MAX_ASKED, 1));
        (0..20_000).for_each(|number| asking.refuse(mark(number)));
        assert_eq!((asking.refused.len(), asking.refused_order.len()), (MAX_REFUSED, MAX_REFUSED));
    }
}
