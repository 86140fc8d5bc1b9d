//! The keys of one authority: the one that a reader has pinned, those that it was handed over to, those that it was taken
//! over from. *Pure.*
//!
//! Merge law: the set of rotations decides, not the order in which they came. A key is followed as long as exactly one is
//! said to come after it; where two are, somebody else has that key too, and neither is followed.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::AuthorityId;
use crate::record::{NameCert, Rotation, Verified};
use crate::time::MAX_SKEW;

/// Rotations of one domain that are kept, and followed.
pub const MAX_ROTATIONS: usize = 16;

/// Why a rotation is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStep {
    /// Neither of its keys is one of the authority's.
    #[error("it is between keys that are not known for that domain")]
    Foreign,
    /// It leads back to a key that was left.
    #[error("it leads back to a key that was left")]
    Loops,
    /// There are as many as may be.
    #[error("the domain has had as many keys as are followed: enrol again")]
    TooLong,
}

/// The keys of one authority, as one reader knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    base: AuthorityId,
    steps: Vec<Verified<Rotation>>,
    current: AuthorityId,
    /// Two keys that are both said to follow the current one.
    disputed: Option<[AuthorityId; 2]>,
    /// The last one first.
    former: Vec<AuthorityId>,
}

impl Chain {
    /// One key, and nothing said of others.
    pub fn of(base: AuthorityId) -> Self {
        Self { base, steps: Vec::new(), current: base, disputed: None, former: Vec::new() }
    }

    /// One key with what is said of others, in whatever order; what leads nowhere is left out.
    pub fn with(base: AuthorityId, steps: &[Verified<Rotation>]) -> Self {
        let mut chain = Self::of(base);
        // Those that lead to the base are found from there back.
        for _ in 0..=steps.len() {
            for step in steps {
                let _ = chain.insert(step.clone());
            }
        }
        chain
    }

    /// The key that was pinned.
    pub fn base(&self) -> AuthorityId {
        self.base
    }

    /// The key that speaks now.
    pub fn current(&self) -> AuthorityId {
        self.current
    }

    /// The first of all keys that are known.
    pub fn first(&self) -> AuthorityId {
        let mut first = self.current;
        while let Some(step) = self.steps.iter().find(|step| step.new == first) {
            first = step.old;
        }
        first
    }

    /// Two keys that are both said to follow the current one: it was stolen, and nobody but a person can say whose is which.
    pub fn disputed(&self) -> Option<[AuthorityId; 2]> {
        self.disputed
    }

    /// Whether it is the present key or a former one.
    pub fn holds(&self, key: &AuthorityId) -> bool {
        self.current == *key || self.former.contains(key)
    }

    /// The present key and the former ones, the present one first.
    pub fn keys(&self) -> impl Iterator<Item = AuthorityId> {
        std::iter::once(self.current).chain(self.former.iter().copied())
    }

    /// How many times the domain was handed over since that key got it; nothing if it is none of its keys.
    pub fn age(&self, key: &AuthorityId) -> Option<usize> {
        self.keys().position(|one| one == *key)
    }

    /// Whether what one key says with one serial is later than what another says with another: the later key counts, whatever
    /// the serials are, since whoever has a key that was left can choose any; of one key the higher serial.
    pub fn is_later(&self, one: (AuthorityId, u64), other: (AuthorityId, u64)) -> bool {
        let place = |(key, serial)| (Reverse(self.age(&key).unwrap_or(usize::MAX)), serial);
        place(one) > place(other)
    }

    /// All rotations, in the order in which a reader of the first key can follow them.
    pub fn steps(&self) -> &[Verified<Rotation>] {
        &self.steps
    }

    /// Whether a certificate by one of these keys counts.
    pub fn vouches(&self, cert: &NameCert) -> bool {
        self.counts(&cert.authority, cert.issued)
    }

    /// Whether what a key has issued then, Unix milliseconds, counts: what a former one issued after it had been left does not.
    pub fn counts(&self, key: &AuthorityId, issued: u64) -> bool {
        let left = self.left(*key);
        self.holds(key) && left.is_none_or(|since| issued <= since.saturating_add(MAX_SKEW))
    }

    /// When a key was left: no later than any key that came after it, since whoever has one can invent others before it.
    fn left(&self, mut key: AuthorityId) -> Option<u64> {
        let mut left: Option<u64> = None;
        for _ in &self.steps {
            let mut after = self.steps.iter().filter(|step| step.old == key);
            // Where two follow, one of them is a thief's: what either says is the limit.
            let Some(step) = after.by_ref().max_by_key(|step| step.since) else { break };
            left = Some(left.map_or(step.since, |left| left.min(step.since)));
            key = step.new;
        }
        left
    }

    /// The keys from the pinned one on.
    fn ahead(&self) -> BTreeSet<AuthorityId> {
        let mut ahead = BTreeSet::from([self.base]);
        for _ in &self.steps {
            ahead.extend(
                self.steps
                    .iter()
                    .filter(|step| ahead.contains(&step.old))
                    .map(|step| step.new)
                    .collect::<Vec<_>>(),
            );
        }
        ahead
    }

    /// Takes in a verified rotation of this domain; true if it was new. It counts only from or to a key of this authority.
    ///
    /// # Errors
    /// See [`BadStep`]; nothing has changed then.
    pub fn insert(&mut self, step: Verified<Rotation>) -> Result<bool, BadStep> {
        let is_same = |known: &Verified<Rotation>| known.old == step.old && known.new == step.new;
        if self.steps.iter().any(is_same) {
            return Ok(false);
        }
        let (from, to) = (self.holds(&step.old), self.holds(&step.new));
        let after = self.steps.iter().filter(|known| known.old == step.old).count();
        match (from, to) {
            (false, false) => return Err(BadStep::Foreign),
            (true, true) => return Err(BadStep::Loops),
            // That it was stolen is known already; who has it could go on for ever.
            (true, false) if after >= 2 => return Ok(false),
            // A key has one before it.
            (false, true) if self.steps.iter().any(|known| known.new == step.new) => {
                return Err(BadStep::Foreign);
            }
            (true, false) | (false, true) => {}
        }
        let forks = from && after == 1;
        if self.steps.len() >= MAX_ROTATIONS && !forks {
            // What lies before the pinned key makes room for what comes after it.
            let ahead = self.ahead();
            let behind = self.steps.iter().position(|step| !ahead.contains(&step.old)).filter(|_| from);
            self.steps.remove(behind.ok_or(BadStep::TooLong)?);
        }
        self.steps.push(step);
        self.follow();
        Ok(true)
    }

    /// What the rotations come to. Those behind a fork are forgotten: they say nothing any more, and would take the room.
    fn follow(&mut self) {
        let (mut current, mut path) = (self.base, BTreeSet::from([self.base]));
        self.disputed = None;
        loop {
            let next: BTreeSet<AuthorityId> =
                self.steps.iter().filter(|step| step.old == current).map(|step| step.new).collect();
            match next.iter().copied().collect::<Vec<_>>().as_slice() {
                [one] if path.insert(*one) => current = *one,
                [one, other, ..] => {
                    self.disputed = Some([*one, *other]);
                    break;
                }
                _ => break,
            }
        }
        self.current = current;
        // How far each former key lies back.
        let mut behind = BTreeMap::from([(current, 0_usize)]);
        let mut open = vec![current];
        while let Some(key) = open.pop() {
            let back = behind.get(&key).map_or(0, |back| back + 1);
            for step in self.steps.iter().filter(|step| step.new == key) {
                if let Entry::Vacant(place) = behind.entry(step.old) {
                    place.insert(back);
                    open.push(step.old);
                }
            }
        }
        self.former = behind.keys().copied().filter(|key| *key != current).collect();
        self.former.sort_by_key(|key| behind.get(key).copied());
        let back = |key: &AuthorityId| behind.get(key).copied();
        self.steps.retain(|step| back(&step.old).is_some());
        self.steps.sort_by(|a, b| {
            let order = |step: &Verified<Rotation>| (Reverse(back(&step.old)), step.since);
            order(a).cmp(&order(b)).then_with(|| a.bytes().cmp(b.bytes()))
        });
    }

    /// The same authority as it is known to somebody who has pinned another of its keys; nothing if that is none of them.
    pub fn pinned_at(&self, key: AuthorityId) -> Option<Self> {
        let among = self.holds(&key) || self.disputed.is_some_and(|both| both.contains(&key));
        among.then(|| Self::with(key, &self.steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;
    use crate::keys::AuthorityKey;
    use crate::time::DAY;

    const NOW: u64 = 20_000 * DAY;
    const DOMAIN: &str = "school.example";

    fn key(byte: u8) -> AuthorityKey {
        AuthorityKey::from_seed([byte; 32])
    }

    fn id(byte: u8) -> AuthorityId {
        key(byte).id()
    }

    fn step(old: u8, new: u8) -> Verified<Rotation> {
        Rotation::issue(&key(old), &key(new), DOMAIN, NOW + u64::from(old) * DAY).expect("signs")
    }

    fn chain(base: u8, steps: &[(u8, u8)]) -> Chain {
        let mut chain = Chain::of(id(base));
        for (old, new) in steps {
            assert_eq!(chain.insert(step(*old, *new)), Ok(true), "{old} {new}");
        }
        chain
    }

    fn by(authority: u8, issued: u64) -> NameCert {
        let user = UserId::from_bytes([1; 32]);
        NameCert::clone(
            &NameCert::issue(&key(authority), "a@school.example", user, 1, issued).expect("signs"),
        )
    }

    #[test]
    fn a_pinned_key_is_followed_and_former_ones_count_until_they_were_left() {
        let chain = chain(1, &[(1, 2), (2, 3)]);
        assert_eq!((chain.current(), chain.base(), chain.first()), (id(3), id(1), id(1)));
        assert!([1, 2, 3].iter().all(|one| chain.holds(&id(*one))) && !chain.holds(&id(4)));
        assert!(chain.vouches(&by(1, NOW)) && chain.vouches(&by(3, NOW + 100 * DAY)));
        // Two days more, as clocks differ.
        assert!(chain.vouches(&by(1, NOW + 3 * DAY)) && !chain.vouches(&by(1, NOW + 3 * DAY + 1)));
        assert!(!chain.vouches(&by(4, NOW)));
    }

    /// Whoever has a key that was left can invent one before it, and say that it was left just now.
    #[test]
    fn a_key_that_was_left_gets_nothing_by_inventing_others_before_it() {
        let mut chain = chain(1, &[(1, 2)]);
        assert_eq!(chain.insert(step(90, 1)), Ok(true));
        assert!(chain.vouches(&by(90, NOW + 3 * DAY)) && !chain.vouches(&by(90, NOW + 3 * DAY + 1)));
        assert_eq!(chain.insert(step(91, 1)), Err(BadStep::Foreign));
        // However many there are, what comes after the pinned key has room.
        for before in 91..(90 + MAX_ROTATIONS as u8 - 1) {
            assert_eq!(chain.insert(step(before, before - 1)), Ok(true));
        }
        assert_eq!(chain.insert(step(200, 104)), Err(BadStep::TooLong));
        assert_eq!(chain.insert(step(2, 3)), Ok(true));
        assert_eq!((chain.current(), chain.steps().len()), (id(3), MAX_ROTATIONS));
    }

    /// Where two keys follow one, that one goes on to be a key that was left.
    #[test]
    fn a_fork_gives_the_key_before_it_no_more_time() {
        let chain = chain(1, &[(1, 2), (1, 3)]);
        assert!(chain.disputed().is_some() && chain.current() == id(1));
        assert!(chain.vouches(&by(1, NOW + 3 * DAY)) && !chain.vouches(&by(1, NOW + 3 * DAY + 1)));
    }

    /// Who pins a later key is told by that key itself which it has taken over from.
    #[test]
    fn a_later_key_knows_its_former_ones() {
        let chain = chain(3, &[(2, 3), (1, 2)]);
        assert_eq!((chain.current(), chain.first()), (id(3), id(1)));
        assert!(chain.holds(&id(1)));
        assert_eq!(chain, super::tests::chain(1, &[(1, 2), (2, 3)]).pinned_at(id(3)).expect("known"));
    }

    /// Whatever the clocks said: who has pinned the first key can follow from the first step on.
    #[test]
    fn steps_stand_in_the_order_of_the_keys() {
        let at =
            |old: u8, new: u8, at: u64| Rotation::issue(&key(old), &key(new), DOMAIN, at).expect("signs");
        let mut chain = Chain::of(id(1));
        for step in [at(1, 2, NOW), at(2, 3, NOW - DAY), at(3, 4, NOW - DAY)] {
            assert_eq!(chain.insert(step), Ok(true));
        }
        let mut reader = Chain::of(id(1));
        for step in chain.steps() {
            assert_eq!(reader.insert(step.clone()), Ok(true));
        }
        assert_eq!((reader.current(), &reader), (id(4), &chain));
    }

    #[test]
    fn a_later_key_comes_before_a_higher_serial() {
        let chain = chain(1, &[(1, 2), (2, 3)]);
        assert_eq!([3, 2, 1, 9].map(|key| chain.age(&id(key))), [Some(0), Some(1), Some(2), None]);
        assert!(chain.is_later((id(3), 1), (id(2), 9)) && !chain.is_later((id(2), 9), (id(3), 1)));
        assert!(chain.is_later((id(2), 1), (id(1), 9)) && chain.is_later((id(1), 0), (id(9), 9)));
        assert!(chain.is_later((id(2), 2), (id(2), 1)) && !chain.is_later((id(2), 2), (id(2), 2)));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let mut chain = chain(1, &[(1, 2)]);
        assert_eq!(chain.insert(step(7, 8)), Err(BadStep::Foreign));
        assert_eq!(chain.insert(step(2, 1)), Err(BadStep::Loops));
        assert_eq!(chain.insert(step(1, 2)), Ok(false), "known");
        for old in 2..=16 {
            assert_eq!(chain.insert(step(old, old + 1)), Ok(true));
        }
        assert_eq!(chain.insert(step(17, 18)), Err(BadStep::TooLong));
        assert_eq!(chain.current(), id(17));
        // That a key was stolen is heard also then.
        assert_eq!(chain.insert(step(3, 40)), Ok(true));
        assert_eq!((chain.current(), chain.disputed().is_some()), (id(3), true));
    }

    #[test]
    fn of_two_that_follow_neither_does_in_whatever_order_they_come() {
        let mut ends = BTreeSet::new();
        for order in [[(1, 2), (2, 3), (2, 4)], [(1, 2), (2, 4), (2, 3)]] {
            let chain = chain(1, &order);
            assert_eq!(chain.current(), id(2));
            let mut both = [id(3), id(4)];
            both.sort();
            assert_eq!(chain.disputed(), Some(both));
            assert!(!chain.vouches(&by(3, NOW)) && !chain.vouches(&by(4, NOW)));
            assert!(chain.vouches(&by(1, NOW)) && chain.vouches(&by(2, NOW)));
            ends.insert(chain.steps().iter().map(|step| step.bytes().to_vec()).collect::<Vec<_>>());
        }
        assert_eq!(ends.len(), 1, "the same in any order");
    }

    /// A thief who has followed with many keys of its own does not keep the owner's word from being heard.
    #[test]
    fn behind_a_fork_nothing_is_kept() {
        let mut chain = chain(1, &[(1, 50), (50, 51), (51, 52)]);
        assert_eq!(chain.current(), id(52));
        assert_eq!(chain.insert(step(1, 2)), Ok(true));
        assert_eq!((chain.current(), chain.steps().len()), (id(1), 2));
        assert_eq!(chain.insert(step(1, 60)), Ok(false), "two say enough");
        // A person enrols again, with the key of whoever runs the domain.
        let again = chain.pinned_at(id(2)).expect("one of both");
        assert_eq!((again.current(), again.disputed()), (id(2), None));
        assert!(again.holds(&id(1)));
        assert_eq!(chain.pinned_at(id(9)), None);
    }
}
