//! The clocks: what time it is here, what order things happened in, and which time can be believed. *Pure.*

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::mutant::{Mutant, is_on};

/// One second in milliseconds.
pub const SECOND: u64 = 1_000;
/// One minute in milliseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// One hour in milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// One day in milliseconds.
pub const DAY: u64 = 24 * HOUR;

/// How far two clocks may differ before one of them is not believed: 48 hours.
pub const MAX_SKEW: u64 = 48 * HOUR;

/// A clock that says a later time is not asked: Unix milliseconds, in the year 2248.
const LATEST: u64 = 1 << 43;

/// Peers' clocks that are remembered at most; as many as there can be connections.
const MAX_PEER_CLOCKS: usize = 256;

/// The two clocks at the moment of an input, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Since some fixed moment before the start; never runs backwards.
    pub mono: u64,
    /// Unix time as the local clock says; may jump.
    pub wall: u64,
}

/// A hybrid logical clock's reading: later statements of one writer compare greater, whatever the wall clock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Unix time in milliseconds, or a little later than that.
    pub millis: u64,
    /// Orders readings of the same millisecond.
    pub counter: u32,
}

/// A remote reading lies more than [`MAX_SKEW`] ahead of the local clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the remote clock reading is {ahead_ms} ms ahead, more than 48 h: ignore it and compare the clocks")]
pub struct TooFarAhead {
    /// How far ahead, in milliseconds.
    pub ahead_ms: u64,
}

/// Makes [`Hlc`] readings that grow strictly.
#[derive(Clone, Copy, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock whose next reading is greater than `past`.
    pub fn starting_after(past: Hlc) -> Self {
        Self { last: past }
    }

    /// The latest reading, given or observed.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// A new reading, greater than every earlier one and every one observed.
    pub fn tick(&mut self, wall: u64) -> Hlc {
        self.last = if wall > self.last.millis {
            Hlc { millis: wall, counter: 0 }
        } else if let Some(counter) = self.last.counter.checked_add(1) {
            Hlc { counter, ..self.last }
        } else {
            Hlc { millis: self.last.millis.saturating_add(1), counter: 0 }
        };
        self.last
    }

    /// Makes later readings greater than `remote`, unless that lies more than [`MAX_SKEW`] ahead of `wall`.
    pub fn observe(&mut self, remote: Hlc, wall: u64) -> Result<(), TooFarAhead> {
        let ahead_ms = remote.millis.saturating_sub(wall);
        if ahead_ms > MAX_SKEW {
            return Err(TooFarAhead { ahead_ms });
        }
        self.last = self.last.max(remote);
        Ok(())
    }
}

/// The time that certificates and expiries are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedTime {
    /// Unix time in milliseconds.
    pub millis: u64,
    /// Whether anything may be dropped because it has ended.
    pub credible: bool,
    /// The latest time that it may be: `millis` if that is credible, else what the local clock or most peers' say,
    /// whichever is later; the year 2248 where nobody knows.
    pub latest: u64,
}

impl TrustedTime {
    /// A time that is certain.
    pub fn certain(millis: u64) -> Self {
        Self { millis, credible: true, latest: millis }
    }

    /// Whether a thing that ends at `expires` has certainly ended: only a credible clock can say so, and it may
    /// itself be wrong by [`MAX_SKEW`].
    pub fn is_past(&self, expires: u64) -> bool {
        self.credible && expires.saturating_add(MAX_SKEW) < self.millis
    }

    /// Whether `at` lies so far ahead, of the local clock and of most peers', that its writer's clock must be wrong.
    pub fn is_too_far_ahead(&self, at: u64) -> bool {
        at > self.latest.saturating_add(MAX_SKEW)
    }
}

/// Decides which time to believe: never below a floor, and compared with what the peers' clocks say.
#[derive(Clone, Debug, Default)]
pub struct TrustedClock {
    built: u64,
    floor: u64,
    peers: BTreeMap<NodeId, PeerClock>,
}

#[derive(Clone, Copy, Debug)]
struct PeerClock {
    /// What it says at our monotonic zero.
    base: u64,
    /// Whether its own node believes it.
    sure: bool,
}

impl TrustedClock {
    /// The floor is the later of the build date and what was persisted, both Unix time in milliseconds.
    pub fn new(built: u64, persisted: u64) -> Self {
        Self { built, floor: built.max(persisted), peers: BTreeMap::new() }
    }

    /// The time that this clock never runs below, Unix milliseconds.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Raises the floor to a time that a pinned authority signed, or that was credible and is about to be persisted.
    pub fn raise_floor(&mut self, time: u64) {
        self.floor = self.floor.max(time);
    }

    /// Remembers what a peer's clock said in its Hello. Beyond 256 peers, further ones are not asked, and neither is a
    /// clock that says a time before the build date or after the year 2248. One that its own node does not believe (not
    /// `sure`) counts only where nobody is sure, so that laptops whose clocks have forgotten the time outvote nobody.
    pub fn observe_peer(&mut self, peer: NodeId, wall: u64, sure: bool, now: Now) {
        if !(self.built..=LATEST).contains(&wall) {
            return;
        }
        if self.peers.len() < MAX_PEER_CLOCKS || self.peers.contains_key(&peer) {
            let sure = sure || is_on(Mutant::UnsureCounts);
            self.peers.insert(peer, PeerClock { base: wall.saturating_sub(now.mono), sure });
        }
    }

    /// Forgets the clock of a peer that is not connected any more.
    pub fn forget_peer(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Whether the local clock can be believed: not below the floor, and not more than 48 h away from most peers' that are
    /// sure of theirs.
    pub fn credible(&self, now: Now) -> bool {
        let walls = self.walls(true, now);
        let away = walls.iter().filter(|wall| wall.abs_diff(now.wall) > MAX_SKEW).count();
        now.wall >= self.floor && 2 * away <= walls.len()
    }

    /// The time to judge by: the local clock if credible, else the median of the peers', never below the floor.
    pub fn trusted(&self, now: Now) -> TrustedTime {
        if self.credible(now) {
            return TrustedTime::certain(now.wall);
        }
        let millis = self.median(now).unwrap_or(now.wall).max(self.floor);
        let somebody_knows = now.wall >= self.floor || self.peers.values().any(|peer| peer.sure);
        let latest = if somebody_knows { millis.max(now.wall) } else { LATEST };
        TrustedTime { millis, credible: false, latest }
    }

    fn walls(&self, sure: bool, now: Now) -> Vec<u64> {
        let those = self.peers.values().filter(|peer| peer.sure == sure);
        those.map(|peer| peer.base.saturating_add(now.mono)).collect()
    }

    fn median(&self, now: Now) -> Option<u64> {
        let sure = self.walls(true, now);
        let mut walls = if sure.is_empty() { self.walls(false, now) } else { sure };
        walls.sort_unstable();
        walls.get(walls.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    proptest! {
        #[test]
        fn readings_grow_whatever_the_wall_clock_does(walls in prop::collection::vec(0..10u64, 1..50)) {
            let mut clock = HlcClock::default();
            let readings: Vec<Hlc> = walls.into_iter().map(|wall| clock.tick(wall)).collect();
            prop_assert!(readings.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn a_reading_follows_what_was_observed(remote in 0..MAX_SKEW, counter: u32, wall in 0..1_000u64) {
            let mut clock = HlcClock::default();
            let remote = Hlc { millis: remote, counter };
            clock.observe(remote, wall).expect("within 48 h");
            prop_assert!(clock.tick(wall) > remote);
        }
    }

    #[test]
    fn a_reading_from_the_far_future_is_not_observed() {
        let mut clock = HlcClock::default();
        let remote = Hlc { millis: MAX_SKEW + 11, counter: 0 };
        assert_eq!(clock.observe(remote, 10), Err(TooFarAhead { ahead_ms: MAX_SKEW + 1 }));
        assert_eq!(clock.tick(10).millis, 10);
    }

    #[test]
    fn the_counter_does_not_wrap() {
        let mut clock = HlcClock::starting_after(Hlc { millis: 9, counter: u32::MAX });
        assert_eq!(clock.tick(3), Hlc { millis: 10, counter: 0 });
    }

    #[test]
    fn clocks_that_nobody_believes_outvote_nobody() {
        let mut clock = TrustedClock::new(100 * DAY, 0);
        let now = Now { mono: 0, wall: 200 * DAY };
        for byte in 1..4 {
            clock.observe_peer(node(byte), 100 * DAY, false, now);
        }
        assert!(clock.credible(now), "three that have forgotten the time");
        clock.observe_peer(node(4), 300 * DAY, true, now);
        assert!(!clock.credible(now));
        assert_eq!(clock.trusted(now).millis, 300 * DAY, "the one who is sure");
        clock.forget_peer(&node(4));
        let forgotten = clock.trusted(Now { mono: 0, wall: DAY });
        assert_eq!(forgotten.millis, 100 * DAY, "better than nothing");
        assert!(!forgotten.is_too_far_ahead(300 * DAY), "nobody here knows");
    }

    #[test]
    fn a_clock_below_the_floor_is_not_credible() {
        let clock = TrustedClock::new(5 * DAY, 7 * DAY);
        let early = clock.trusted(Now { mono: 0, wall: DAY });
        assert_eq!(
            early,
            TrustedTime { millis: 7 * DAY, credible: false, latest: LATEST },
            "nobody knows better"
        );
        assert!(!early.is_past(0), "nothing is dropped by a clock that is not credible");
        assert!(clock.trusted(Now { mono: 0, wall: 8 * DAY }).credible);
    }

    #[test]
    fn most_peers_can_overrule_the_local_clock() {
        let mut clock = TrustedClock::new(0, 0);
        let now = Now { mono: 1_000, wall: 100 * DAY };
        for (byte, day) in [(1, 200), (2, 201), (3, 100)] {
            clock.observe_peer(node(byte), day * DAY, true, now);
        }
        let later = Now { mono: now.mono + HOUR, wall: now.wall + HOUR };
        let latest = 200 * DAY + HOUR;
        assert_eq!(clock.trusted(later), TrustedTime { millis: latest, credible: false, latest });
        clock.forget_peer(&node(1));
        assert!(clock.trusted(later).credible, "one of two is not most");
    }

    #[test]
    fn what_is_ahead_of_the_own_clock_and_of_most_peers_is_never_believed() {
        for (own, peer) in [(100, 200), (200, 100)] {
            let mut clock = TrustedClock::new(DAY, 0);
            let now = Now { mono: 0, wall: own * DAY };
            clock.observe_peer(node(1), peer * DAY, true, now);
            let time = clock.trusted(now);
            assert!(!time.credible && !time.is_too_far_ahead(202 * DAY), "either may be right");
            assert!(time.is_too_far_ahead(202 * DAY + 1));
        }
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_not_asked() {
        let mut clock = TrustedClock::new(10 * DAY, 0);
        let now = Now { mono: 5, wall: 20 * DAY };
        for wall in [0, 10 * DAY - 1, LATEST + 1, u64::MAX] {
            clock.observe_peer(node(1), wall, true, now);
            assert_eq!(clock.trusted(now), TrustedTime::certain(20 * DAY), "{wall}");
        }
        clock.observe_peer(node(1), LATEST, true, now);
        assert!(!clock.credible(now));
    }
}
