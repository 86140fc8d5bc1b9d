//! Owns the schedule of a fixed rate: when message n is due, and how many are due by now; *pure*.

const NANOS: u128 = 1_000_000_000;

/// A fixed rate from a start on. Message n is due at `start + n / rate`, whatever happened to those before it, so
/// that a stalled server cannot slow its own measurement down ("coordinated omission").
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: u64,
    per_second: u32,
    issued: u64,
}

impl Schedule {
    /// A schedule of `per_second` messages from `start` (nanoseconds); a rate of 0 is taken as 1.
    #[must_use]
    pub fn new(start: u64, per_second: u32) -> Self {
        Self { start, per_second: per_second.max(1), issued: 0 }
    }

    /// When the next message is due, in nanoseconds.
    #[must_use]
    pub fn next_due(&self) -> u64 {
        let offset = u128::from(self.issued) * NANOS / u128::from(self.per_second);
        self.start.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// Takes the next message if it is due at `now`: its number from 0 and its due time.
    pub fn take(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        let number = self.issued;
        self.issued += 1;
        Some((number, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stall_is_made_up_with_the_scheduled_times() {
        let mut schedule = Schedule::new(1000, 1_000_000);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1000), Some((0, 1000)));
        let late: Vec<_> = std::iter::from_fn(|| schedule.take(5000)).collect();
        assert_eq!(late, [(1, 2000), (2, 3000), (3, 4000), (4, 5000)]);
        assert_eq!(schedule.next_due(), 6000);
    }

    proptest! {
        #[test]
        fn exactly_the_rate_over_any_time(rate in 1u32..2_000_000, seconds in 1u64..5) {
            let rate = rate % 20_000 + 1;
            let mut schedule = Schedule::new(0, rate);
            let last = seconds * 1_000_000_000 - 1;
            let count = std::iter::from_fn(|| schedule.take(last)).count() as u64;
            prop_assert_eq!(count, u64::from(rate) * seconds);
        }

        #[test]
        fn steps_are_even(rate in 1u32..1_000_000) {
            let mut schedule = Schedule::new(0, rate);
            let period = 1_000_000_000 / u64::from(rate);
            let mut before = 0;
            for (number, due) in std::iter::from_fn(|| schedule.take(u64::MAX)).take(500) {
                prop_assert!(number == 0 || (period..=period + 1).contains(&(due - before)));
                before = due;
            }
        }
    }
}
