//! How fast one user may read the directory, so that nobody copies it: a store of people who may be shown, which fills again
//! slowly. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::time::SECOND;

/// What a user may spend at once: a question costs one, and each person who is shown one.
const AT_ONCE: u64 = 300;
/// Milliseconds until one more.
const EACH: u64 = 6 * SECOND;
/// Users who are remembered; of more the one goes whose store is full again first.
const REMEMBERED: usize = 8_192;

/// What users have spent; forgotten at a restart.
#[derive(Debug, Default)]
pub(in crate::authority) struct Pace {
    /// When each has everything again, monotonic milliseconds.
    full: BTreeMap<UserId, u64>,
}

impl Pace {
    /// How long the user has to wait, milliseconds; nothing: it may ask.
    pub(super) fn wait(&self, user: &UserId, now: u64) -> Option<u64> {
        let full = self.full.get(user).copied().unwrap_or_default();
        let due = full.saturating_sub((AT_ONCE - 1) * EACH);
        (due > now).then(|| due - now)
    }

    /// The user was shown so many people.
    pub(super) fn spent(&mut self, user: UserId, people: usize, now: u64) {
        self.full.retain(|_, full| *full > now);
        if self.full.len() >= REMEMBERED && !self.full.contains_key(&user) {
            let first = self.full.iter().min_by_key(|(_, full)| **full).map(|(user, _)| *user);
            first.map(|user| self.full.remove(&user));
        }
        let cost = u64::try_from(people).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(EACH);
        let full = self.full.entry(user).or_default();
        *full = (*full).max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_copies_is_slowed_and_nobody_else() {
        let (mut pace, copier, other) =
            (Pace::default(), UserId::from_bytes([1; 32]), UserId::from_bytes([2; 32]));
        let (mut now, mut shown) = (7, 0_u64);
        let end = now + 60 * 60 * SECOND;
        while now < end {
            match pace.wait(&copier, now) {
                Some(wait) => now += wait,
                None => {
                    pace.spent(copier, 50, now);
                    shown += 50;
                }
            }
        }
        // An hour: what there was at once, and one in six seconds.
        assert!((800..=1_000).contains(&shown), "{shown}");
        assert_eq!(pace.wait(&other, now), None);
    }

    #[test]
    fn a_question_now_and_then_never_waits() {
        let (mut pace, user) = (Pace::default(), UserId::from_bytes([1; 32]));
        for minute in 0..200 {
            assert_eq!(pace.wait(&user, minute * 60 * SECOND), None);
            pace.spent(user, 8, minute * 60 * SECOND);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = Pace::default();
        for number in 0..REMEMBERED + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            pace.spent(UserId::from_bytes(id), number, 0);
        }
        assert_eq!(pace.full.len(), REMEMBERED);
    }
}
