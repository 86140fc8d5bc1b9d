//! How fast a client may send, and how often somebody may guess a password. *Pure.*

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A token bucket for bytes. Overdrawing it is allowed once; then reading pauses, so that nothing is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u32,
    burst: u32,
    /// Bytes that may still come, negative when overdrawn, as of `at`.
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket of `burst` bytes that gains `rate` bytes a second. Times are since any fixed moment.
    pub(crate) fn new(rate: u32, burst: u32, now: Duration) -> Self {
        Self { rate, burst, level: f64::from(burst), at: now }
    }

    /// Takes what was read; says how long to pause before the next read.
    pub(crate) fn take(&mut self, bytes: usize, now: Duration) -> Option<Duration> {
        let gained = now.saturating_sub(self.at).as_secs_f64() * f64::from(self.rate);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.level = (self.level + gained).min(f64::from(self.burst)) - f64::from(bytes);
        self.at = now;
        (self.level < 0.0).then(|| Duration::from_secs_f64(-self.level / f64::from(self.rate.max(1))))
    }
}

/// Failed logins, for a delay that grows with each: per address and account, so that nobody is locked out by what
/// others do elsewhere.
#[derive(Debug, Default)]
pub(super) struct Failures {
    table: BTreeMap<(IpAddr, String), (u32, Duration)>,
}

impl Failures {
    /// Entries; the one that failed longest ago makes room.
    const MAX: usize = 1024;
    /// After this long without another failure, one is forgotten.
    const MEMORY: Duration = Duration::from_secs(15 * 60);
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(8);
    /// On the machine itself all share one address: guessing must be slow, but nobody's login may be.
    const LONGEST_LOCAL: Duration = Duration::from_secs(1);

    /// How long an attempt has to wait before it is looked at.
    pub(super) fn delay(&self, from: IpAddr, account: &str, now: Duration) -> Duration {
        match self.table.get(&key(from, account)) {
            Some((count, last)) if now.saturating_sub(*last) < Self::MEMORY => {
                let longest = if from.is_loopback() { Self::LONGEST_LOCAL } else { Self::LONGEST };
                Self::FIRST.saturating_mul(1 << (count - 1).min(16)).min(longest)
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    pub(super) fn failed(&mut self, from: IpAddr, account: &str, now: Duration) {
        let key = key(from, account);
        if !self.table.contains_key(&key) && self.table.len() >= Self::MAX {
            self.make_room(now);
        }
        let entry = self.table.entry(key).or_insert((0, now));
        if now.saturating_sub(entry.1) >= Self::MEMORY {
            entry.0 = 0;
        }
        *entry = (entry.0.saturating_add(1), now);
    }

    pub(super) fn succeeded(&mut self, from: IpAddr, account: &str) {
        self.table.remove(&key(from, account));
    }

    fn make_room(&mut self, now: Duration) {
        self.table.retain(|_, (_, last)| now.saturating_sub(*last) < Self::MEMORY);
        if self.table.len() >= Self::MAX
            && let Some(oldest) =
                self.table.iter().min_by_key(|(_, (_, last))| *last).map(|(key, _)| key.clone())
        {
            self.table.remove(&oldest);
        }
    }
}

/// One person holds a whole /64 of IPv6 addresses.
fn key(from: IpAddr, account: &str) -> (IpAddr, String) {
    let network = match from {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into())
        }
        IpAddr::V6(_) | IpAddr::V4(_) => from,
    };
    (network, account.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_bucket_pauses_for_what_is_overdrawn() {
        let mut bucket = Bucket::new(100, 1000, seconds(0));
        assert_eq!(bucket.take(1000, seconds(0)), None);
        assert_eq!(bucket.take(50, seconds(0)), Some(Duration::from_millis(500)));
        assert_eq!(bucket.take(50, seconds(1)), None);
        assert_eq!(
            bucket.take(1001, seconds(1000)),
            Some(Duration::from_millis(10)),
            "no more than a burst is saved"
        );
    }

    #[test]
    fn delays_grow_to_a_limit_for_that_address_and_account_alone() {
        let mut failures = Failures::default();
        let delays: Vec<_> = (0..12)
            .map(|_| {
                failures.failed(FAR, "alice", seconds(1));
                failures.failed(NEAR, "alice", seconds(1));
                (failures.delay(FAR, "alice", seconds(1)), failures.delay(NEAR, "alice", seconds(1)))
            })
            .collect();
        assert!(delays.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(
            (delays[0].0, delays[11]),
            (Failures::FIRST, (Failures::LONGEST, Failures::LONGEST_LOCAL))
        );
        assert_eq!(failures.delay(FAR, "bob", seconds(1)), Duration::ZERO);
        assert_eq!(failures.delay(FAR, "alice", seconds(1000)), Duration::ZERO, "forgotten");
        failures.succeeded(NEAR, "alice");
        assert_eq!(failures.delay(NEAR, "alice", seconds(1)), Duration::ZERO);
        assert_eq!(failures.delay(FAR, "alice", seconds(1)), Failures::LONGEST);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut failures = Failures::default();
        for n in 0..2000_u64 {
            failures.failed(FAR, &n.to_string(), Duration::from_millis(n));
        }
        assert_eq!(failures.table.len(), Failures::MAX);
        assert!(failures.delay(FAR, "1999", seconds(2)) > Duration::ZERO);
    }
}
