//! Letters on their way out: their order, and how many are whose. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::UserId;

/// Letters on their way out, of all users and of one.
pub(super) const ALL: usize = 20_000;
const OF_USER: usize = 2_000;

/// See the file's head. What they say is in the database.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    letters: BTreeMap<u64, UserId>,
    of: BTreeMap<UserId, usize>,
    last: u64,
}

impl Outgoing {
    /// A letter that stands at this number already.
    pub(super) fn load(&mut self, number: u64, user: UserId) {
        self.last = self.last.max(number);
        self.letters.insert(number, user);
        *self.of.entry(user).or_default() += 1;
    }

    /// Whether one letter more of a user may wait.
    pub(super) fn has_room(&self, user: &UserId) -> bool {
        self.letters.len() < ALL && self.of.get(user).is_none_or(|count| *count < OF_USER)
    }

    /// One letter more; its number.
    pub(super) fn add(&mut self, user: UserId) -> u64 {
        self.load(self.last + 1, user);
        self.last
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    /// The first letters behind one.
    pub(super) fn behind(&self, number: u64, most: usize) -> Vec<u64> {
        self.letters.range(number + 1..).take(most).map(|(number, _)| *number).collect()
    }

    /// The letters up to one.
    pub(super) fn up_to(&self, number: u64) -> Vec<u64> {
        self.letters.range(..=number).map(|(number, _)| *number).collect()
    }

    /// The letters up to one are out; how many that were.
    pub(super) fn done(&mut self, number: u64) -> usize {
        let left = self.letters.split_off(&(number + 1));
        let gone = std::mem::replace(&mut self.letters, left);
        let count = gone.len();
        self.forget(gone);
        count
    }

    /// Takes back those behind one: the change that takes them in was not made.
    pub(super) fn take_back(&mut self, number: u64) {
        let gone = self.letters.split_off(&(number + 1));
        self.forget(gone);
    }

    fn forget(&mut self, gone: BTreeMap<u64, UserId>) {
        for user in gone.into_values() {
            if let Some(count) = self.of.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    self.of.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_share_and_numbers_are_not_used_twice() {
        let [one, other] = [1, 2].map(|byte| UserId::from_bytes([byte; 32]));
        let mut out = Outgoing::default();
        out.load(7, other);
        while out.has_room(&one) {
            out.add(one);
        }
        assert_eq!((out.len(), out.last()), (OF_USER + 1, 7 + OF_USER as u64));
        assert!(out.has_room(&other));
        out.take_back(out.last() - 1);
        assert!(out.has_room(&one));
        assert_eq!(out.add(one), 8 + OF_USER as u64, "the number of what was not kept may have been seen");
        assert_eq!(out.done(out.last()), OF_USER + 1);
        assert!(out.len() == 0 && out.of.is_empty() && out.has_room(&one));
        assert_eq!(out.behind(0, 10), Vec::<u64>::new());
    }
}
