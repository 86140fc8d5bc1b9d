//! Who was seen by multicast DNS: a bounded table between the unbounded, unauthenticated network and the core (*pure*).
//!
//! The core hears of changes only, joined per node and at a limited rate, so that a flood of forged answers costs a
//! known amount of memory and time and delays real neighbours by little.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::NodeId;

/// Most nodes known at a time. When full, newcomers are refused and counted.
pub const MAX_SIGHTED: usize = 1024;
/// Of these, nodes that were only hinted at: a flood by one family leaves room for those heard by the other.
const MAX_HINTED: usize = MAX_SIGHTED / 2;
/// Most addresses kept of one node. More are refused and counted.
pub const MAX_ADDRESSES: usize = 8;
/// How long an address counts that nobody confirms by another multicast, in ms.
pub(super) const LIFE: u64 = 20 * 60 * 1000;
/// A hint of a node that is known but not connected is reported again after so long, in ms.
const REMIND: u64 = 10 * 1000;
/// Reports that may come at once, and how many are added per second.
const BURST: u64 = 256;
const PER_SECOND: u64 = 64;

/// What changed about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sighting {
    /// The node has a new address, or is worth trying again; all its addresses.
    Seen(NodeId, Vec<String>),
    /// These addresses of the node are no longer confirmed.
    Gone(NodeId, Vec<String>),
}

/// See the file's head. Times are milliseconds of a monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    nodes: BTreeMap<NodeId, Entry>,
    /// How many of them were only hinted at.
    hinted: usize,
    /// Nodes with something to report, each at most once.
    changed: VecDeque<NodeId>,
    /// Reports made, in units of 1/PER_SECOND s behind the clock (a leaky bucket).
    bucket: Bucket,
    refused: u64,
    /// Nothing ends earlier.
    next_end: Option<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Each with its end; without one, libp2p-mdns tells of it.
    now: BTreeMap<String, Option<u64>>,
    told: BTreeSet<String>,
    told_at: u64,
    /// libp2p-mdns has not told of it.
    only_hinted: bool,
    again: bool,
    queued: bool,
}

#[derive(Debug, Default)]
struct Bucket {
    /// The time up to which reports are paid for, in ms.
    paid: u64,
}

impl Bucket {
    const COST: u64 = 1000 / PER_SECOND;

    /// When the next report may be made.
    fn ready_at(&self) -> u64 {
        (self.paid + Self::COST).saturating_sub(BURST * Self::COST)
    }

    fn take(&mut self, now: u64) -> bool {
        let ready = self.ready_at() <= now;
        if ready {
            self.paid = self.paid.max(now) + Self::COST;
        }
        ready
    }
}

impl Sightings {
    /// `node` was heard of at `address`; counts until it is `gone`.
    pub(super) fn seen(&mut self, node: NodeId, address: String) {
        let Some(entry) = self.room(node, &address, false) else { return };
        let was_hinted = std::mem::take(&mut entry.only_hinted);
        let known = entry.now.insert(address, None).is_some();
        self.hinted -= usize::from(was_hinted);
        if !known {
            self.mark(node);
        }
    }

    /// `node` was heard of at `address`; counts for [`LIFE`]. One that is not `connected` is worth another try.
    pub(super) fn hinted(&mut self, node: NodeId, address: String, connected: bool, now: u64) {
        let end = now + LIFE;
        let Some(entry) = self.room(node, &address, true) else { return };
        let known = entry.now.insert(address, Some(end)).is_some();
        entry.again |= known && !connected && now >= entry.told_at + REMIND;
        if !known || entry.again {
            self.mark(node);
        }
        self.ends_at(end);
    }

    /// The entry of `node`, if it has or gets room for `address`.
    fn room(&mut self, node: NodeId, address: &str, only_hinted: bool) -> Option<&mut Entry> {
        let new = !self.nodes.contains_key(&node);
        let full = self.nodes.len() >= MAX_SIGHTED || only_hinted && self.hinted >= MAX_HINTED;
        if new && full {
            self.refused += 1;
            return None;
        }
        self.hinted += usize::from(new && only_hinted);
        let entry = self.nodes.entry(node).or_insert_with(|| Entry { only_hinted, ..Entry::default() });
        if entry.now.len() >= MAX_ADDRESSES && !entry.now.contains_key(address) {
            self.refused += 1;
            return None;
        }
        Some(entry)
    }

    /// `address` of `node` is no longer confirmed. That of a `connected` node is kept for [`LIFE`]: it may be needed
    /// when the connection breaks, and multicast may just be bad.
    pub(super) fn gone(&mut self, node: NodeId, address: &str, connected: bool, now: u64) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        if connected {
            let Some(end) = entry.now.get_mut(address) else { return };
            *end = Some(now + LIFE);
            self.ends_at(now + LIFE);
        } else if entry.now.remove(address).is_some() {
            self.mark(node);
        }
    }

    /// No address for which `which` is true is reached any more.
    pub(super) fn lost(&mut self, which: impl Fn(&str) -> bool) {
        self.keep(|_, address, _| !which(address));
    }

    /// Ends what was not confirmed in time, except of nodes that are connected.
    pub(super) fn expire(&mut self, now: u64, connected: impl Fn(&NodeId) -> bool) {
        if self.next_end.is_none_or(|end| now < end) {
            return;
        }
        self.keep(|node, _, end| {
            if end.is_some_and(|end| end <= now) && connected(node) {
                *end = Some(now + LIFE);
            }
            end.is_none_or(|end| now < end)
        });
        self.next_end = self.nodes.values().flat_map(|entry| entry.now.values().flatten()).min().copied();
    }

    fn ends_at(&mut self, end: u64) {
        self.next_end = Some(self.next_end.map_or(end, |first| first.min(end)));
    }

    fn keep(&mut self, mut which: impl FnMut(&NodeId, &str, &mut Option<u64>) -> bool) {
        let mut changed = Vec::new();
        for (node, entry) in &mut self.nodes {
            let before = entry.now.len();
            entry.now.retain(|address, end| which(node, address, end));
            if entry.now.len() < before {
                changed.push(*node);
            }
        }
        changed.into_iter().for_each(|node| self.mark(node));
    }

    /// Reports again every node that has an address for which `which` is true: it may be reachable anew.
    pub(super) fn again(&mut self, which: impl Fn(&str) -> bool) {
        let nodes: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, entry)| entry.now.keys().any(|address| which(address)))
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            if let Some(entry) = self.nodes.get_mut(&node) {
                entry.again = true;
            }
            self.mark(node);
        }
    }

    /// Forgets what libp2p-mdns has told: it is reported gone unless it is seen again.
    pub(super) fn clear(&mut self) {
        self.keep(|_, _, end| end.is_some());
    }

    /// How many nodes and addresses found no room so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The next report that the rate allows.
    pub(super) fn poll(&mut self, now: u64) -> Option<Sighting> {
        while let Some(node) = self.changed.front().copied() {
            let entry = self.nodes.entry(node).or_default();
            let is_gone = |address: &&String| !entry.now.contains_key(*address);
            let gone: Vec<String> = entry.told.iter().filter(is_gone).cloned().collect();
            let is_new = entry.now.keys().any(|address| !entry.told.contains(address));
            let news = !entry.now.is_empty() && (entry.again || is_new);
            if gone.is_empty() && !news {
                self.settle(node);
                continue;
            }
            if !self.bucket.take(now) {
                return None;
            }
            if !gone.is_empty() {
                entry.told.retain(|address| entry.now.contains_key(address));
                return Some(Sighting::Gone(node, gone));
            }
            entry.again = false;
            entry.told = entry.now.keys().cloned().collect();
            entry.told_at = now;
            return Some(Sighting::Seen(node, entry.now.keys().cloned().collect()));
        }
        None
    }

    /// When `poll` will have something; `None` when only a call can bring news.
    pub(super) fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        let held_back = (self.bucket.ready_at(), "sightings held back by the rate limit");
        let held_back = (!self.changed.is_empty()).then_some(held_back);
        let end = self.next_end.map(|end| (end, "an address that was not confirmed for too long"));
        held_back.into_iter().chain(end).min()
    }

    fn mark(&mut self, node: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&node)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.changed.push_back(node);
        }
    }

    /// Nothing is left to report of the node at the front.
    fn settle(&mut self, node: NodeId) {
        self.changed.pop_front();
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.queued = false;
            if entry.now.is_empty() {
                self.hinted -= usize::from(entry.only_hinted);
                self.nodes.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: u16) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn drain(sightings: &mut Sightings, now: u64) -> Vec<Sighting> {
        std::iter::from_fn(|| sightings.poll(now)).collect()
    }

    #[test]
    fn changes_are_joined() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        sightings.seen(node(1), "b".into());
        sightings.seen(node(1), "a".into());
        let all = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(drain(&mut sightings, 0), [Sighting::Seen(node(1), all)]);
        sightings.seen(node(1), "b".into());
        assert_eq!(drain(&mut sightings, 0), []);
        sightings.gone(node(1), "a", false, 0);
        assert_eq!(drain(&mut sightings, 0), [Sighting::Gone(node(1), vec!["a".into()])]);
    }

    #[test]
    fn seen_and_gone_at_once_is_nothing() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        sightings.gone(node(1), "a", false, 0);
        assert_eq!(drain(&mut sightings, 0), []);
        assert!(sightings.nodes.is_empty());
    }

    #[test]
    fn again_reports_what_is_known() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        sightings.seen(node(2), "b".into());
        drain(&mut sightings, 0);
        sightings.again(|address| address == "b");
        assert_eq!(drain(&mut sightings, 0), [Sighting::Seen(node(2), vec!["b".into()])]);
        sightings.again(|_| true);
        sightings.gone(node(2), "b", false, 0);
        let reports = drain(&mut sightings, 0);
        assert_eq!(reports.len(), 2, "one again, one gone, none without address: {reports:?}");
    }

    #[test]
    fn clear_takes_back_what_is_not_seen_again() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        sightings.seen(node(2), "b".into());
        drain(&mut sightings, 0);
        sightings.clear();
        sightings.seen(node(2), "b".into());
        assert_eq!(drain(&mut sightings, 0), [Sighting::Gone(node(1), vec!["a".into()])]);
        assert_eq!(sightings.nodes.len(), 1);
    }

    #[test]
    fn hints_end_unless_confirmed_or_connected() {
        let mut sightings = Sightings::default();
        for number in 1..=3 {
            sightings.hinted(node(number), "a".into(), false, 0);
        }
        sightings.seen(node(4), "a".into());
        drain(&mut sightings, 0);
        sightings.hinted(node(2), "a".into(), true, 1000);
        assert_eq!(sightings.poll_timeout().map(|(at, _)| at), Some(LIFE));
        sightings.expire(LIFE - 1, |_| false);
        assert_eq!(drain(&mut sightings, LIFE), []);
        let third = |id: &NodeId| *id == node(3);
        sightings.expire(LIFE, third);
        assert_eq!(drain(&mut sightings, LIFE), [Sighting::Gone(node(1), vec!["a".into()])]);
        sightings.expire(LIFE + 1000, third);
        assert_eq!(drain(&mut sightings, LIFE), [Sighting::Gone(node(2), vec!["a".into()])]);
        sightings.expire(2 * LIFE, |_| false);
        assert_eq!(drain(&mut sightings, 2 * LIFE), [Sighting::Gone(node(3), vec!["a".into()])]);
        assert_eq!(sightings.poll_timeout(), None, "what libp2p-mdns tells has no end here");
    }

    #[test]
    fn a_hint_of_somebody_not_connected_is_a_reason_to_try_again() {
        let mut sightings = Sightings::default();
        let seen = [Sighting::Seen(node(1), vec!["a".into()])];
        sightings.hinted(node(1), "a".into(), false, 0);
        assert_eq!(drain(&mut sightings, 0), seen);
        sightings.hinted(node(1), "a".into(), false, REMIND - 1);
        sightings.hinted(node(1), "a".into(), true, REMIND);
        assert_eq!(drain(&mut sightings, REMIND), []);
        sightings.hinted(node(1), "a".into(), false, REMIND);
        assert_eq!(drain(&mut sightings, REMIND), seen);
    }

    #[test]
    fn an_address_of_a_connected_node_outlives_its_multicast() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        drain(&mut sightings, 0);
        sightings.gone(node(1), "a", true, 5);
        assert_eq!(drain(&mut sightings, 5), []);
        sightings.expire(5 + LIFE, |_| false);
        assert_eq!(drain(&mut sightings, 5), [Sighting::Gone(node(1), vec!["a".into()])]);
    }

    #[test]
    fn what_is_lost_with_its_interface_is_gone() {
        let mut sightings = Sightings::default();
        sightings.hinted(node(1), "a".into(), false, 0);
        sightings.hinted(node(1), "b".into(), false, 0);
        drain(&mut sightings, 0);
        sightings.lost(|address| address == "b");
        assert_eq!(drain(&mut sightings, 0), [Sighting::Gone(node(1), vec!["b".into()])]);
    }

    #[test]
    fn a_flood_of_hints_leaves_room_for_who_is_seen() {
        let mut sightings = Sightings::default();
        for number in 0..2000 {
            sightings.hinted(node(number), "a".into(), false, 0);
        }
        assert_eq!(sightings.nodes.len(), MAX_HINTED);
        sightings.seen(node(5000), "b".into());
        assert!(sightings.nodes.contains_key(&node(5000)));
        sightings.seen(node(1), "b".into());
        sightings.hinted(node(5001), "a".into(), false, 0);
        assert!(sightings.nodes.contains_key(&node(5001)), "one of those hinted at was seen");
        sightings.expire(LIFE, |_| false);
        for second in 0..30 {
            drain(&mut sightings, LIFE + 1000 * second);
        }
        assert_eq!((sightings.nodes.len(), sightings.hinted), (2, 0), "those seen are left");
        sightings.hinted(node(3), "a".into(), false, 0);
        assert_eq!(sightings.nodes.len(), 3, "and there is room again");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut sightings = Sightings::default();
        for number in 0..5000 {
            sightings.seen(node(number), "a".into());
        }
        for number in 0..100 {
            sightings.seen(node(1), format!("x{number}"));
        }
        assert_eq!(sightings.nodes.len(), MAX_SIGHTED);
        assert_eq!(sightings.nodes[&node(1)].now.len(), MAX_ADDRESSES);
        assert_eq!(sightings.refused(), 5000 - 1024 + 93);
        let first = drain(&mut sightings, 0).len() as u64;
        assert_eq!(first, BURST);
        assert!(sightings.poll_timeout().is_some());
        let second = drain(&mut sightings, 1000).len() as u64;
        assert!((PER_SECOND..PER_SECOND + 8).contains(&second), "{second}");
    }

    proptest! {
        #[test]
        fn reports_add_up_to_the_truth(
            steps in proptest::collection::vec((0u16..4, 0u8..3, 0u8..6), 0..80),
        ) {
            let mut sightings = Sightings::default();
            let mut truth = BTreeMap::<NodeId, BTreeSet<String>>::new();
            let mut told = BTreeMap::<NodeId, BTreeSet<String>>::new();
            let mut apply = |report: Sighting| match report {
                Sighting::Seen(id, addresses) => { told.insert(id, addresses.into_iter().collect()); }
                Sighting::Gone(id, addresses) => {
                    let known = told.get_mut(&id).expect("told before");
                    for address in addresses { assert!(known.remove(&address)); }
                    if known.is_empty() { told.remove(&id); }
                }
            };
            for (id, address, action) in steps {
                let (id, address) = (node(id), format!("{address}"));
                match action {
                    0 | 1 => { truth.entry(id).or_default().insert(address.clone()); sightings.seen(id, address); }
                    2 => { truth.entry(id).or_default().remove(&address); sightings.gone(id, &address, false, 0); }
                    3 => sightings.again(|_| true),
                    4 => { truth.entry(id).or_default().insert(address.clone()); sightings.hinted(id, address, false, 0); }
                    _ => if let Some(report) = sightings.poll(0) { apply(report) },
                }
            }
            drain(&mut sightings, 1_000_000).into_iter().for_each(apply);
            truth.retain(|_, addresses| !addresses.is_empty());
            prop_assert_eq!(told, truth);
            prop_assert!(sightings.changed.is_empty());
        }
    }
}
