//! Owns the latency histogram: logarithmic buckets of constant size, *pure*.

/// Buckets per power of two; the relative error of a percentile is at most 1/64.
const SUB: u64 = 64;
const SUB_BITS: u32 = 6;
/// Powers of two above the exact range that a `u64` can reach.
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB as usize;

/// Counts of values in nanoseconds, from 0 to `u64::MAX`, in about 30 KiB whatever the number of values.
///
/// Values below 64 are exact; above, a bucket is 1/64 of its power of two wide.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one value in nanoseconds.
    pub fn record(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(value)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// How many values were recorded.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The largest recorded value, exact; 0 when empty.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `part_per_mille` of 1000 recorded values do not exceed: the upper edge of its bucket, never
    /// above the exact maximum; 0 when empty.
    #[must_use]
    pub fn per_mille(&self, part_per_mille: u64) -> u64 {
        let rank = (self.total * part_per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    let sub = (value >> shift) - SUB;
    ((u64::from(shift) + 1) * SUB + sub) as usize
}

fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let shift = (bucket / SUB - 1) as u32;
    let lower = u128::from(SUB + bucket % SUB) << shift;
    let edge = lower + (1u128 << shift) - 1;
    u64::try_from(edge).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_answers_zero() {
        let histogram = Histogram::default();
        assert!(histogram.is_empty());
        assert_eq!((histogram.per_mille(500), histogram.per_mille(1000), histogram.max()), (0, 0, 0));
    }

    #[test]
    fn percentiles_of_one_to_a_hundred() {
        let mut histogram = Histogram::default();
        (1..=60).for_each(|value| histogram.record(value));
        assert_eq!(histogram.per_mille(500), 30);
        assert_eq!(histogram.per_mille(950), 57);
        assert_eq!(histogram.per_mille(1000), 60);
        assert_eq!(histogram.len(), 60);
    }

    #[test]
    fn the_ends_of_the_range_have_buckets() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_edge(BUCKETS - 1), u64::MAX);
        assert_eq!(bucket_of(63), 63);
        assert_eq!(bucket_of(64), 64);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_the_error_is_small(value: u64) {
            let edge = upper_edge(bucket_of(value));
            prop_assert!(edge >= value);
            prop_assert!(edge - value <= value / SUB);
        }

        #[test]
        fn percentiles_agree_with_sorting(mut values in proptest::collection::vec(0u64..10_000_000_000, 1..300), part in 1u64..=1000) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * part).div_ceil(1000) as usize;
            let exact = values[rank - 1];
            let found = histogram.per_mille(part);
            prop_assert!(found >= exact && found - exact <= exact / SUB);
        }
    }
}
