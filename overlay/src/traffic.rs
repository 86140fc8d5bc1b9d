//! What was sent and heard in the last minute (*pure*).

use std::collections::VecDeque;

/// Seconds that a [`Window`] covers.
const WINDOW: u64 = 60;

/// Packets, or frames, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Bytes of all.
    pub bytes: u64,
}

impl Count {
    /// One more.
    pub fn add(&mut self, bytes: u64) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Counts of `KINDS` kinds over the last 60 seconds. Holds at most one entry for each of them.
#[derive(Clone, Debug)]
pub struct Window<const KINDS: usize> {
    seconds: VecDeque<(u64, [Count; KINDS])>,
}

impl<const KINDS: usize> Default for Window<KINDS> {
    fn default() -> Self {
        Self { seconds: VecDeque::new() }
    }
}

impl<const KINDS: usize> Window<KINDS> {
    /// Counts one of a kind at `mono`, milliseconds of the monotonic clock; a kind that there is not is not counted.
    pub fn count(&mut self, kind: usize, bytes: u64, mono: u64) {
        let second = mono / 1_000;
        if self.seconds.back().is_none_or(|(last, _)| *last < second) {
            self.seconds.push_back((second, [Count::default(); KINDS]));
        }
        while self.seconds.front().is_some_and(|(first, _)| first + WINDOW <= second) {
            self.seconds.pop_front();
        }
        let count = self.seconds.back_mut().and_then(|(_, counts)| counts.get_mut(kind));
        if let Some(count) = count {
            count.add(bytes);
        }
    }

    /// What was counted in the 60 s before `mono`.
    pub fn last_minute(&self, mono: u64) -> [Count; KINDS] {
        let oldest = (mono / 1_000).saturating_sub(WINDOW - 1);
        let mut sums = [Count::default(); KINDS];
        for (_, counts) in self.seconds.iter().filter(|(second, _)| *second >= oldest) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                sum.packets = sum.packets.saturating_add(count.packets);
                sum.bytes = sum.bytes.saturating_add(count.bytes);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_counted_and_no_more_is_kept() {
        let mut window = Window::<2>::default();
        for mono in (0..300_000).step_by(500) {
            window.count(0, 10, mono);
            window.count(1, 1, mono);
            window.count(2, 1, mono);
        }
        assert_eq!(window.seconds.len(), 60);
        let [first, second] = window.last_minute(299_999);
        assert_eq!(
            (first, second),
            (Count { packets: 120, bytes: 1_200 }, Count { packets: 120, bytes: 120 })
        );
        assert_eq!(window.last_minute(329_999)[0].packets, 60, "half of it is older");
        assert_eq!(window.last_minute(400_000)[0], Count::default());
    }
}
