//! What users may see of each other, in memory where this process alone changes the database: a look costs what has changed since the
//! last one, not what there is. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::id::UserId;

use crate::core::sync::entry::Mark;

/// Pairs of who sees and who is seen that are remembered; of more those who looked longest ago are forgotten, and read again.
const PAIRS: usize = 65_536;

/// What a device showed: the mark of that, and when it was said.
pub(super) type Sign = (Mark, u64);

/// What one user may see.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// As the user was called, and how often its own statements had changed.
    of: (String, u64),
    signs: BTreeMap<UserId, Vec<Sign>>,
    /// Those of whom it is not known any more.
    stale: BTreeSet<UserId>,
    used: u64,
}

/// All that are remembered.
#[derive(Debug, Default)]
pub(super) struct Sights {
    sights: BTreeMap<UserId, Sight>,
    /// By whom it is seen.
    seers: BTreeMap<UserId, BTreeSet<UserId>>,
    pairs: usize,
    uses: u64,
}

impl Sights {
    /// Whom of those who may show themselves to a user it has to be looked for: all but those of whom nothing has changed.
    pub(super) fn unknown(
        &mut self,
        user: &UserId,
        of: (&str, u64),
        grants: &BTreeSet<UserId>,
    ) -> BTreeSet<UserId> {
        let known = self.sights.get(user).is_some_and(|sight| sight.of.0 == of.0);
        if !known {
            self.forget(user);
        }
        self.uses += 1;
        let sight = self.sights.entry(*user).or_default();
        sight.used = self.uses;
        if !known || sight.of.1 != of.1 {
            sight.of = (of.0.to_owned(), of.1);
            let others = || grants.iter().filter(|other| *other != user);
            let gone: Vec<UserId> =
                sight.signs.keys().filter(|other| !grants.contains(other)).copied().collect();
            for other in others() {
                if !sight.signs.contains_key(other) {
                    sight.signs.insert(*other, Vec::new());
                    sight.stale.insert(*other);
                    self.seers.entry(*other).or_default().insert(*user);
                    self.pairs += 1;
                }
            }
            for other in gone {
                sight.signs.remove(&other);
                sight.stale.remove(&other);
                self.pairs -= 1;
                unsee(&mut self.seers, &other, user);
            }
        }
        let stale = sight.stale.clone();
        self.make_room(user);
        stale
    }

    /// What those show now who were unknown.
    pub(super) fn learn(&mut self, user: &UserId, signs: BTreeMap<UserId, Vec<Sign>>) {
        let Some(sight) = self.sights.get_mut(user) else { return };
        for (other, signs) in signs {
            sight.stale.remove(&other);
            if let Some(known) = sight.signs.get_mut(&other) {
                *known = signs;
            }
        }
    }

    /// All that a user may see, and of whom it is.
    pub(super) fn signs(&self, user: &UserId) -> impl Iterator<Item = (UserId, Sign)> {
        let signs = self.sights.get(user).into_iter().flat_map(|sight| &sight.signs);
        signs.flat_map(|(other, signs)| signs.iter().map(|sign| (*other, *sign)))
    }

    /// What a user shows, or to whom, may have changed.
    pub(super) fn changed(&mut self, user: &UserId) {
        for seer in self.seers.get(user).into_iter().flatten() {
            if let Some(sight) = self.sights.get_mut(seer) {
                sight.stale.insert(*user);
            }
        }
    }

    fn make_room(&mut self, user: &UserId) {
        while self.pairs > PAIRS {
            let others = self.sights.iter().filter(|(other, _)| *other != user);
            let Some(oldest) = others.min_by_key(|(_, sight)| sight.used).map(|(other, _)| *other) else {
                return;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, user: &UserId) {
        for (other, _) in self.sights.remove(user).unwrap_or_default().signs {
            self.pairs -= 1;
            unsee(&mut self.seers, &other, user);
        }
    }
}

fn unsee(seers: &mut BTreeMap<UserId, BTreeSet<UserId>>, other: &UserId, user: &UserId) {
    if let Some(all) = seers.get_mut(other) {
        all.remove(user);
        if all.is_empty() {
            seers.remove(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> UserId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        UserId::from_bytes(bytes)
    }

    fn all(numbers: &[usize]) -> BTreeSet<UserId> {
        numbers.iter().map(|number| user(*number)).collect()
    }

    fn looks(sights: &mut Sights, changes: u64, grants: &[usize]) -> BTreeSet<UserId> {
        let unknown = sights.unknown(&user(0), ("a@b", changes), &all(grants));
        let signs = unknown.iter().map(|other| (*other, vec![([1; 8], 1)])).collect();
        sights.learn(&user(0), signs);
        unknown
    }

    #[test]
    fn only_what_has_changed_is_looked_for() {
        let mut sights = Sights::default();
        assert_eq!(looks(&mut sights, 1, &[0, 1, 2]), all(&[1, 2]), "not for itself");
        assert_eq!(looks(&mut sights, 1, &[0, 1, 2]), all(&[]));
        sights.changed(&user(2));
        sights.changed(&user(9));
        assert_eq!(looks(&mut sights, 1, &[0, 1, 2]), all(&[2]));
        assert_eq!(looks(&mut sights, 2, &[2, 3]), all(&[3]), "another grant, and one less");
        assert_eq!(sights.signs(&user(0)).map(|(other, _)| other).collect::<BTreeSet<_>>(), all(&[2, 3]));
        sights.changed(&user(1));
        assert_eq!(looks(&mut sights, 2, &[2, 3]), all(&[]));
        let renamed = sights.unknown(&user(0), ("c@b", 2), &all(&[2, 3]));
        assert_eq!(renamed, all(&[2, 3]), "by another name it may be blocked");
    }

    #[test]
    fn who_looked_longest_ago_is_forgotten_and_read_again() {
        let mut sights = Sights::default();
        let most: BTreeSet<UserId> = (1_000..1_000 + PAIRS / 4).map(user).collect();
        for number in 0..5 {
            sights.unknown(&user(number), ("a@b", 1), &most);
            sights.learn(&user(number), most.iter().map(|other| (*other, Vec::new())).collect());
        }
        assert_eq!(sights.pairs, PAIRS);
        assert!(sights.unknown(&user(4), ("a@b", 1), &most).is_empty());
        assert_eq!(sights.unknown(&user(0), ("a@b", 1), &most).len(), most.len());
        sights.forget(&user(0));
        (1..5).for_each(|number| sights.forget(&user(number)));
        assert!((sights.pairs, sights.seers.len()) == (0, 0), "nothing stays behind");
    }
}
