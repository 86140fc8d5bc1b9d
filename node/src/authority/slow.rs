//! How guessing is slowed, so that nobody can lock out somebody else. *Pure.*
//!
//! A *peer* that fails waits: five tries at once, then 1, 2, 4 … s, 15 minutes at most. That holds for that node only.
//! A *name* at which many fail, whoever they are, costs work before each try: from ten failures on 16 bits, one more for
//! each doubling, 24 at most (about a minute of a weak laptop); no try is ever refused for it. Its failures count half
//! after each ten minutes. What is counted is forgotten at a restart, and a success clears both.

use std::collections::BTreeMap;

use crosstalk_overlay::enrol::{CHALLENGE, MOST_WORK, is_worked};
use crosstalk_overlay::id::NodeId;

/// Failures of a peer before it waits.
const FREE: u32 = 5;
/// Longest wait, milliseconds.
const LONGEST: u64 = 15 * 60 * 1_000;
/// After so long without a failure a peer begins anew.
const FORGIVEN: u64 = 60 * 60 * 1_000;
/// Failures at a name before it costs work.
const CHEAP: u32 = 10;
/// Work of the first try that costs any, zero bits.
const FIRST_WORK: u32 = 16;
/// The failures at a name count half after this.
const HALVED: u64 = 10 * 60 * 1_000;
/// Peers and names that are remembered; of more the one that failed longest ago is forgotten.
const REMEMBERED: usize = 8_192;

/// What is said to a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Try,
    /// Not yet.
    Wait(u64),
    /// Not without work.
    Work {
        /// Zero bits.
        bits: u32,
        /// What they are computed over; counts once.
        challenge: [u8; CHALLENGE],
    },
}

#[derive(Debug, Default)]
struct Peer {
    failures: u32,
    last: u64,
    challenge: Option<(String, [u8; CHALLENGE])>,
}

#[derive(Debug, Default)]
struct Name {
    failures: u32,
    since: u64,
}

/// Who has failed, and at what.
#[derive(Debug, Default)]
pub struct Slow {
    peers: BTreeMap<NodeId, Peer>,
    names: BTreeMap<String, Name>,
}

impl Slow {
    /// A try of `peer` at `name`. It counts as a failure until it has succeeded. `fresh` is random.
    pub fn begin(
        &mut self,
        peer: NodeId,
        name: &str,
        nonce: u64,
        fresh: [u8; CHALLENGE],
        now: u64,
    ) -> Verdict {
        let bits = self.bits(name, now);
        forget_one(&mut self.peers, |peer| peer.last, &peer);
        let known = self.peers.entry(peer).or_default();
        if now >= known.last.saturating_add(FORGIVEN) {
            known.failures = 0;
        }
        let due = known.last.saturating_add(wait(known.failures));
        if due > now {
            return Verdict::Wait(due - now);
        }
        if bits > 0 {
            let given = known.challenge.take().filter(|(of, _)| of == name).map(|(_, given)| given);
            if given.is_none_or(|given| !is_worked(&given, nonce, bits)) {
                known.challenge = Some((name.to_owned(), fresh));
                return Verdict::Work { bits, challenge: fresh };
            }
        }
        (known.failures, known.last) = (known.failures.saturating_add(1), now);
        forget_one(&mut self.names, |name| name.since, &name.to_owned());
        let known = self.names.entry(name.to_owned()).or_default();
        (known.failures, known.since) = (known.failures.saturating_add(1), now);
        Verdict::Try
    }

    /// The try was right.
    pub fn succeeded(&mut self, peer: &NodeId, name: &str) {
        self.peers.remove(peer);
        self.names.remove(name);
    }

    fn bits(&mut self, name: &str, now: u64) -> u32 {
        let Some(known) = self.names.get_mut(name) else { return 0 };
        let halvings = u32::try_from(now.saturating_sub(known.since) / HALVED).unwrap_or(u32::MAX);
        if halvings > 0 {
            known.failures = known.failures.checked_shr(halvings).unwrap_or(0);
            known.since = now;
        }
        match known.failures {
            ..CHEAP => 0,
            failures => (FIRST_WORK + (failures / CHEAP).ilog2()).min(MOST_WORK),
        }
    }
}

fn wait(failures: u32) -> u64 {
    match failures.checked_sub(FREE) {
        None => 0,
        Some(more) => 1_000_u64.checked_shl(more.min(20)).unwrap_or(LONGEST).min(LONGEST),
    }
}

fn forget_one<K: Ord + Clone, V>(all: &mut BTreeMap<K, V>, age: impl Fn(&V) -> u64, newcomer: &K) {
    if all.len() < REMEMBERED || all.contains_key(newcomer) {
        return;
    }
    let oldest = all.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone());
    oldest.map(|key| all.remove(&key));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_overlay::enrol::work;

    const ALICE: &str = "alice";

    fn peer(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn begin(slow: &mut Slow, who: u32, now: u64) -> Verdict {
        slow.begin(peer(who), ALICE, 0, [7; CHALLENGE], now)
    }

    #[test]
    fn a_peer_that_fails_waits_longer_and_longer_and_others_do_not() {
        let mut slow = Slow::default();
        for _ in 0..5 {
            assert_eq!(begin(&mut slow, 1, 1_000_000), Verdict::Try);
        }
        assert_eq!(begin(&mut slow, 1, 1_000_000), Verdict::Wait(1_000));
        assert_eq!(begin(&mut slow, 1, 1_000_400), Verdict::Wait(600));
        assert_eq!(begin(&mut slow, 1, 1_001_000), Verdict::Try);
        assert_eq!(begin(&mut slow, 1, 1_001_000), Verdict::Wait(2_000));
        assert_eq!(begin(&mut slow, 2, 1_001_000), Verdict::Try);
        assert_eq!(begin(&mut slow, 1, 1_001_000 + FORGIVEN), Verdict::Try);
        assert_eq!(wait(u32::MAX), LONGEST);
    }

    /// Many peers at one name: whoever has the password gets in all the same, after some work.
    #[test]
    fn many_failures_at_a_name_cost_work_and_lock_nobody_out() {
        let mut slow = Slow::default();
        for who in 0..10 {
            assert_eq!(begin(&mut slow, who, 1_000), Verdict::Try);
        }
        let Verdict::Work { bits, challenge } = begin(&mut slow, 99, 1_000) else { panic!("no work") };
        assert_eq!((bits, challenge), (16, [7; CHALLENGE]));
        let nonce = work(&challenge, bits).expect("found");
        assert_eq!(slow.begin(peer(99), ALICE, nonce, [8; CHALLENGE], 1_000), Verdict::Try);
        // It counts once, and for who did it.
        assert!(matches!(slow.begin(peer(99), ALICE, nonce, [8; CHALLENGE], 1_000), Verdict::Work { .. }));
        assert_eq!(slow.begin(peer(1), "bob", 0, [8; CHALLENGE], 1_000), Verdict::Try);
        slow.succeeded(&peer(99), ALICE);
        assert_eq!(begin(&mut slow, 99, 1_000), Verdict::Try);
    }

    #[test]
    fn work_is_bounded_and_falls_with_time() {
        let mut slow = Slow::default();
        slow.names.insert(ALICE.into(), Name { failures: u32::MAX, since: 0 });
        assert!(matches!(begin(&mut slow, 1, 1), Verdict::Work { bits: MOST_WORK, .. }));
        slow.names.insert(ALICE.into(), Name { failures: 20, since: 0 });
        assert!(matches!(begin(&mut slow, 1, 1), Verdict::Work { bits: 17, .. }));
        assert!(matches!(begin(&mut slow, 1, HALVED), Verdict::Work { bits: 16, .. }));
        assert_eq!(begin(&mut slow, 1, 3 * HALVED), Verdict::Try);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut slow = Slow::default();
        for who in 0..u32::try_from(REMEMBERED).expect("few") + 100 {
            slow.begin(peer(who), &format!("name {who}"), 0, [7; CHALLENGE], u64::from(who));
        }
        assert_eq!((slow.peers.len(), slow.names.len()), (REMEMBERED, REMEMBERED));
    }
}
