//! Who was seen by multicast DNS: a bounded table between the unbounded, unauthenticated network and the core (*pure*).
//!
//! The core hears of changes only, joined per node and at a limited rate, so that a flood of forged answers costs a
//! known amount of memory and time and delays real neighbours by little.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::NodeId;

/// Most nodes known at a time. When full, newcomers are refused and counted.
pub const MAX_SIGHTED: usize = 1024;
/// Most addresses kept of one node. More are refused and counted.
pub const MAX_ADDRESSES: usize = 8;
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
    /// Nodes with something to report, each at most once.
    changed: VecDeque<NodeId>,
    /// Reports made, in units of 1/PER_SECOND s behind the clock (a leaky bucket).
    bucket: Bucket,
    refused: u64,
}

#[derive(Debug, Default)]
struct Entry {
    now: BTreeSet<String>,
    told: BTreeSet<String>,
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
    /// `node` was heard of at `address`.
    pub(super) fn seen(&mut self, node: NodeId, address: String) {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= MAX_SIGHTED {
            self.refused += 1;
            return;
        }
        let entry = self.nodes.entry(node).or_default();
        if entry.now.len() >= MAX_ADDRESSES && !entry.now.contains(&address) {
            self.refused += 1;
            return;
        }
        if entry.now.insert(address) {
            self.mark(node);
        }
    }

    /// `address` of `node` is no longer confirmed.
    pub(super) fn gone(&mut self, node: NodeId, address: &str) {
        if self.nodes.get_mut(&node).is_some_and(|entry| entry.now.remove(address)) {
            self.mark(node);
        }
    }

    /// Reports again every node that has an address for which `which` is true: it may be reachable anew.
    pub(super) fn again(&mut self, which: impl Fn(&str) -> bool) {
        let nodes: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, entry)| entry.now.iter().any(|address| which(address)))
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            if let Some(entry) = self.nodes.get_mut(&node) {
                entry.again = true;
            }
            self.mark(node);
        }
    }

    /// Forgets all confirmations: each node is reported gone unless it is seen again.
    pub(super) fn clear(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            if let Some(entry) = self.nodes.get_mut(&node) {
                entry.now.clear();
            }
            self.mark(node);
        }
    }

    /// How many nodes and addresses found no room so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The next report that the rate allows.
    pub(super) fn poll(&mut self, now: u64) -> Option<Sighting> {
        while let Some(node) = self.changed.front().copied() {
            let entry = self.nodes.entry(node).or_default();
            let gone: Vec<String> = entry.told.difference(&entry.now).cloned().collect();
            let news = !entry.now.is_empty() && (entry.again || !entry.now.is_subset(&entry.told));
            if gone.is_empty() && !news {
                self.settle(node);
                continue;
            }
            if !self.bucket.take(now) {
                return None;
            }
            if !gone.is_empty() {
                entry.told.retain(|address| entry.now.contains(address));
                return Some(Sighting::Gone(node, gone));
            }
            entry.again = false;
            entry.told.clone_from(&entry.now);
            return Some(Sighting::Seen(node, entry.now.iter().cloned().collect()));
        }
        None
    }

    /// When `poll` will have something; `None` when only a call can bring news.
    pub(super) fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        (!self.changed.is_empty()).then(|| (self.bucket.ready_at(), "sightings held back by the rate limit"))
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
        sightings.gone(node(1), "a");
        assert_eq!(drain(&mut sightings, 0), [Sighting::Gone(node(1), vec!["a".into()])]);
    }

    #[test]
    fn seen_and_gone_at_once_is_nothing() {
        let mut sightings = Sightings::default();
        sightings.seen(node(1), "a".into());
        sightings.gone(node(1), "a");
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
        sightings.gone(node(2), "b");
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
            steps in proptest::collection::vec((0u16..4, 0u8..3, 0u8..5), 0..80),
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
                    2 => { truth.entry(id).or_default().remove(&address); sightings.gone(id, &address); }
                    3 => sightings.again(|_| true),
                    _ => if let Some(report) = sightings.poll(0) { apply(report) },
                }
            }
            drain(&mut sightings, 1_000_000).into_iter().for_each(apply);
            truth.retain(|_, addresses| !addresses.is_empty());
            prop_assert_eq!(told, truth);
            prop_assert_eq!(sightings.poll_timeout(), None);
        }
    }
}
