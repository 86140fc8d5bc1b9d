//! How fast stanzas go through the door: of each user, of each sender outside and its domain, and of all. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::time::SECOND;
use jid::Jid;

/// Stanzas a second, and at once: of one user, and of all; each way.
const OF_USER: (u64, u64) = (20, 400);
const OF_ALL: (u64, u64) = (500, 5_000);
/// The same of one bare address outside, and of all of one domain there.
const OF_SENDER: (u64, u64) = (10, 200);
const OF_DOMAIN: (u64, u64) = (100, 1_000);

/// How many stanzas may still come.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// As if each stanza took its time: monotonic milliseconds, shifted by what may come at once.
    spent: u64,
}

impl Bucket {
    fn has_room(&self, (rate, burst): (u64, u64), now: u64) -> bool {
        self.spent.max(now) + SECOND / rate <= now + burst * SECOND / rate
    }

    fn take(&mut self, (rate, _): (u64, u64), now: u64) {
        self.spent = self.spent.max(now) + SECOND / rate;
    }
}

/// The rates of one direction.
#[derive(Debug, Default)]
pub(super) struct Rates {
    all: Bucket,
    users: BTreeMap<UserId, Bucket>,
    /// By bare address and by domain; as many as stanzas are taken between two calls of [`Rates::forget`], and twice.
    senders: BTreeMap<String, Bucket>,
}

impl Rates {
    /// Takes one stanza of a user; false if there were too many.
    pub(super) fn takes(&mut self, user: &UserId, now: u64) -> bool {
        let mut own = self.users.get(user).copied().unwrap_or_default();
        if !self.all.has_room(OF_ALL, now) || !own.has_room(OF_USER, now) {
            return false;
        }
        self.all.take(OF_ALL, now);
        own.take(OF_USER, now);
        self.users.insert(*user, own);
        true
    }

    /// Takes one stanza for a user from somebody outside; false if there were too many. Who is too fast uses up nothing of
    /// others.
    pub(super) fn takes_from(&mut self, from: &Jid, user: &UserId, now: u64) -> bool {
        let each =
            [(from.to_bare().as_str().to_owned(), OF_SENDER), (format!("@{}", from.domain()), OF_DOMAIN)];
        let of = |key: &str| self.senders.get(key).copied().unwrap_or_default();
        if each.iter().any(|(key, rate)| !of(key).has_room(*rate, now)) || !self.takes(user, now) {
            return false;
        }
        for (key, rate) in each {
            self.senders.entry(key).or_default().take(rate, now);
        }
        true
    }

    /// Forgets who has not been fast.
    pub(super) fn forget(&mut self, now: u64) {
        self.users.retain(|_, bucket| bucket.spent > now);
        self.senders.retain(|_, bucket| bucket.spent > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_fast_leaves_room_for_others() {
        let (mut rates, user) = (Rates::default(), UserId::from_bytes([1; 32]));
        let mut takes = |from: &str, now| rates.takes_from(&Jid::new(from).expect("an address"), &user, now);
        let flood = (0..1_000).filter(|n| takes(&format!("mallory@x.example/{n}"), 0)).count();
        assert_eq!(flood, 200);
        assert!(takes("romeo@x.example", 0), "of the same domain");
        assert!(takes("x.example", 0), "a domain is no sender of it");
        assert!(!takes("mallory@x.example", 0));
        assert!(takes("mallory@x.example", 100) && !takes("mallory@x.example", 100));
        rates.forget(1_000_000);
        assert!(rates.senders.is_empty() && rates.users.is_empty());
    }
}
