//! What is known about where others reach this node directly: addresses that somebody has seen or the router has promised, what
//! others found when they tried them, and when to have them tried again. It is told the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::time::Instant;

/// A round of tries that failed for a confirmed address is repeated after so long before it counts.
const DOUBT: Duration = Duration::from_secs(60);
/// After a change of the network, what is said then settles; and an interface that comes and goes does not cost a round each time.
const SETTLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(60);
/// Addresses that failed, as are remembered.
const MAX_FAILED: usize = 8;
/// A node that is not reachable asks again after so many times the pause of one that is.
const RARELY: u32 = 6;

/// What others found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody has had time to try.
    Unknown,
    /// It is reached at one of its addresses.
    Direct,
    /// It is not.
    Unreachable,
}

/// What is to be told to the swarm.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Confirmed(Multiaddr),
    Lost(Multiaddr),
}

/// See the file's head.
pub(super) struct Nat {
    patience: Duration,
    retest: Duration,
    confirmed: BTreeMap<Multiaddr, Confirmed>,
    failed: BTreeSet<Multiaddr>,
    /// Since when peers beyond the link are known.
    beyond: Option<Instant>,
    next_round: Option<Instant>,
    last_round: Option<Instant>,
}

struct Confirmed {
    /// Unix milliseconds.
    since: u64,
    /// As the settings have it: nobody is asked.
    sure: bool,
    doubted: bool,
}

impl Nat {
    pub(super) fn new(patience: Duration, retest: Duration) -> Self {
        Self {
            patience,
            retest,
            confirmed: BTreeMap::new(),
            failed: BTreeSet::new(),
            beyond: None,
            next_round: None,
            last_round: None,
        }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let waited = self.beyond.is_some_and(|since| since + self.patience <= now);
        match (self.confirmed.is_empty(), self.failed.is_empty()) {
            (false, _) => Verdict::Direct,
            (true, false) => Verdict::Unreachable,
            (true, true) if waited => Verdict::Unreachable,
            (true, true) => Verdict::Unknown,
        }
    }

    /// The settings say that others reach this address.
    pub(super) fn is_sure(&mut self, address: &Multiaddr, wall: u64) -> Option<Change> {
        let sure = Confirmed { since: wall, sure: true, doubted: false };
        let new = self.confirmed.insert(address.clone(), sure).is_none();
        new.then(|| Change::Confirmed(address.clone()))
    }

    /// Whether nobody has to be asked about an address.
    pub(super) fn is_settled(&self, address: &Multiaddr) -> bool {
        self.confirmed.get(address).is_some_and(|known| known.sure)
    }

    /// There is somebody beyond the link. Connections there are short, so one counts until the network is another.
    pub(super) fn met(&mut self, now: Instant) {
        self.beyond.get_or_insert(now);
    }

    /// Somebody has come in from beyond the link.
    pub(super) fn visited(&mut self, now: Instant) {
        if let (false, Some(next)) = (self.confirmed.is_empty(), self.next_round)
            && self.confirmed.values().all(|confirmed| !confirmed.doubted)
        {
            self.next_round = Some(next.max(now + self.retest));
        }
    }

    /// What somebody found who has tried.
    pub(super) fn tried(
        &mut self,
        address: &Multiaddr,
        reached: bool,
        wall: u64,
        now: Instant,
    ) -> Option<Change> {
        let pause = if reached || !self.confirmed.is_empty() { self.retest } else { self.retest * RARELY };
        self.next_round = Some(now + pause);
        if reached {
            self.failed.remove(address);
            let known = self.confirmed.get_mut(address);
            if let Some(known) = known {
                known.doubted = false;
                return None;
            }
            let confirmed = Confirmed { since: wall, sure: false, doubted: false };
            self.confirmed.insert(address.clone(), confirmed);
            return Some(Change::Confirmed(address.clone()));
        }
        if let Some(known) = self.confirmed.get_mut(address) {
            if known.sure {
                return None;
            }
            if !std::mem::replace(&mut known.doubted, true) {
                self.next_round = Some(now + DOUBT.min(self.retest));
                return None;
            }
        }
        self.failed.insert(address.clone());
        if self.failed.len() > MAX_FAILED {
            self.failed.pop_first();
        }
        self.confirmed.remove(address).map(|_| Change::Lost(address.clone()))
    }

    /// An address is no more.
    pub(super) fn gone(&mut self, address: &Multiaddr) -> Option<Change> {
        self.failed.remove(address);
        self.confirmed.remove(address).map(|_| Change::Lost(address.clone()))
    }

    /// The network is another. What failed may succeed now, and the other way round.
    pub(super) fn network_changed(&mut self, now: Instant) {
        self.failed.clear();
        if self.beyond.take().is_none() {
            return;
        }
        let earliest = self.last_round.map_or(now, |last| last + PAUSE);
        self.next_round = Some(earliest.max(now + SETTLE));
    }

    /// Whether a new round is due; asked once for each.
    pub(super) fn take_round(&mut self, now: Instant) -> bool {
        let due = self.next_round.is_some_and(|next| next <= now);
        if due {
            (self.last_round, self.next_round) = (Some(now), Some(now + self.retest));
        }
        due
    }

    /// When something changes by itself.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let patience = self.beyond.map(|since| since + self.patience).filter(|at| *at > now);
        patience.into_iter().chain(self.next_round).min()
    }

    /// Where others reach this node, and since when (Unix milliseconds).
    pub(super) fn confirmed(&self) -> impl Iterator<Item = (&Multiaddr, u64)> {
        self.confirmed.iter().map(|(address, known)| (address, known.since))
    }

    /// Where they have tried in vain.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.failed.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().expect("an address")
    }

    fn nat() -> Nat {
        Nat::new(Duration::from_secs(60), HOUR)
    }

    #[test]
    fn without_anybody_beyond_nothing_is_known() {
        let (nat, now) = (nat(), Instant::now());
        assert_eq!(nat.verdict(now + 100 * HOUR), Verdict::Unknown);
        assert_eq!(nat.next_due(now), None, "and nothing wakes it");
    }

    #[test]
    fn with_peers_beyond_and_no_confirmed_address_it_is_unreachable_after_a_while() {
        let (mut nat, now) = (nat(), Instant::now());
        nat.met(now);
        assert_eq!(nat.verdict(now), Verdict::Unknown);
        let due = nat.next_due(now).expect("due");
        nat.met(due);
        assert_eq!(nat.verdict(due), Verdict::Unreachable);
        nat.network_changed(due);
        assert_eq!(nat.verdict(due), Verdict::Unknown);
    }

    #[test]
    fn one_reached_address_is_enough() {
        let (mut nat, now) = (nat(), Instant::now());
        assert_eq!(nat.tried(&address(1), false, 5, now), None, "it never counted");
        assert_eq!(nat.verdict(now), Verdict::Unreachable);
        assert_eq!(nat.tried(&address(2), true, 6, now), Some(Change::Confirmed(address(2))));
        assert_eq!(nat.verdict(now), Verdict::Direct);
        assert_eq!(nat.confirmed().collect::<Vec<_>>(), [(&address(2), 6)]);
    }

    #[test]
    fn a_confirmed_address_is_lost_when_it_failed_twice() {
        let (mut nat, mut now) = (nat(), Instant::now());
        nat.tried(&address(1), true, 5, now);
        now += HOUR;
        assert!(nat.take_round(now) && !nat.take_round(now));
        assert_eq!(nat.tried(&address(1), false, 6, now), None);
        assert_eq!(nat.verdict(now), Verdict::Direct);
        assert!(nat.take_round(now + DOUBT));
        assert_eq!(nat.tried(&address(1), false, 7, now + DOUBT), Some(Change::Lost(address(1))));
        assert_eq!(nat.verdict(now), Verdict::Unreachable);
    }

    #[test]
    fn who_is_visited_does_not_ask() {
        let (mut nat, now) = (nat(), Instant::now());
        nat.tried(&address(1), true, 5, now);
        nat.visited(now + HOUR / 2);
        assert!(!nat.take_round(now + HOUR));
        assert!(nat.take_round(now + HOUR * 3 / 2));
    }

    #[test]
    fn what_the_settings_say_is_not_doubted() {
        let (mut nat, now) = (nat(), Instant::now());
        assert!(nat.is_sure(&address(1), 5).is_some());
        for _ in 0..3 {
            assert_eq!(nat.tried(&address(1), false, 6, now), None);
        }
        assert_eq!(nat.verdict(now), Verdict::Direct);
        assert_eq!(nat.gone(&address(1)), Some(Change::Lost(address(1))));
    }

    #[test]
    fn another_network_begins_anew() {
        let (mut nat, now) = (nat(), Instant::now());
        nat.network_changed(now);
        assert_eq!(nat.next_due(now), None, "nobody is known who could be asked");
        nat.met(now);
        nat.tried(&address(1), false, 5, now);
        nat.network_changed(now);
        assert_eq!(nat.verdict(now), Verdict::Unknown);
        assert!(nat.take_round(now + SETTLE));
        nat.met(now);
        nat.network_changed(now + SETTLE);
        assert!(!nat.take_round(now + 2 * SETTLE) && nat.take_round(now + SETTLE + PAUSE));
    }
}
