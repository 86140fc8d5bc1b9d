//! How many hops a look-up should take: computed from the shape of the tables, with nothing fitted to the model. *Pure.*
//!
//! After Stutzbach and Rejaie, "Improving Lookup Performance over a Widely-Deployed DHT" (INFOCOM 2006), Cai and Devroye, "The
//! Analysis of Kademlia for Random IDs" (arXiv 1402.1191), and Salah, Roos and Strufe (arXiv 1408.3079), who count the bits of
//! the target that a hop adds. A node has k random ones of those that share one bit more with the target than it does; the
//! closest of these shares j bits more still with a probability that k draws give; so hops grow with the logarithm of the
//! number of nodes. Left out: that several are asked at a time, that all 20 named are candidates, and that nodes have gone.

/// Bits beyond which no two of k nodes agree by chance, for any network that people could make.
const BITS: u32 = 64;

/// Bits of the target that one hop adds, on average, where there are many nodes: one for the bucket, and those that the closest
/// of `bucket` random nodes shares.
pub fn bits_per_hop(bucket: usize) -> f64 {
    1.0 + (1..BITS).map(|bits| best_shares(bucket, bits)).sum::<f64>()
}

/// Hops until the closest of `nodes` nodes is known, with `bucket` nodes in a bucket; as [`super::Figures::hops`] counts them.
pub fn hops(nodes: f64, bucket: usize) -> f64 {
    // First the smallest region: from[i] is for a region of nodes / 2^i nodes.
    let regions = (0..BITS).take_while(|bits| nodes / 2_f64.powi(bits.cast_signed()) > 1.0 / 1_024.0).count();
    let mut from = vec![0.0; regions + BITS as usize + 2];
    for region in (0..regions).rev() {
        let there = nodes / 2_f64.powi(i32::try_from(region).unwrap_or(i32::MAX));
        let further: f64 = (0..BITS)
            .map(|bits| {
                let exactly = best_shares(bucket, bits) - best_shares(bucket, bits + 1);
                exactly * from[region + 1 + bits as usize]
            })
            .sum();
        let (nobody, more) = (none_of(there), more_than(bucket, there));
        from[region] = 1.0 - nobody + more * further;
    }
    // The one who asks shares j bits with the target by chance, and looks into the bucket behind these.
    // Where nobody is nearer than itself, it still asks one: the closest that it knows.
    let first = |bits: i32, hops: f64| (hops + none_of(nodes / 2_f64.powi(bits))) / 2_f64.powi(bits);
    from.iter().skip(1).zip(1_i32..).map(|(hops, bits)| first(bits, *hops)).sum()
}

/// The probability that the closest of `count` random nodes shares at least so many bits with the target.
fn best_shares(count: usize, bits: u32) -> f64 {
    1.0 - (1.0 - 0.5_f64.powi(bits.cast_signed())).powf(count as f64)
}

/// The probability that there is nobody where so many are expected (Poisson).
fn none_of(expected: f64) -> f64 {
    (-expected).exp()
}

/// The probability that there are more than `bucket` where so many are expected (Poisson).
fn more_than(bucket: usize, expected: f64) -> f64 {
    let mut term = none_of(expected);
    let mut at_most = term;
    for count in 1..=bucket {
        term *= expected / count as f64;
        at_most += term;
    }
    (1.0 - at_most).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_in_a_bucket_gains_two_bits_and_eight_gain_four_and_a_half() {
        // The closest of one shares j bits with probability 2^-j: one on average, and one for the bucket.
        assert!((bits_per_hop(1) - 2.0).abs() < 1e-9);
        // Harmonic number of 8 over ln 2, less a half that whole bits take, and one for the bucket; within the ripple of the sum.
        let harmonic: f64 = (1..=8).map(|number| 1.0 / f64::from(number)).sum();
        let about = harmonic / std::f64::consts::LN_2 - 0.5 + 1.0;
        assert!((bits_per_hop(8) - about).abs() < 0.01, "{} {about}", bits_per_hop(8));
    }

    #[test]
    fn few_nodes_are_all_known_and_many_take_the_logarithm() {
        assert!((hops(8.0, 20) - 1.0).abs() < 0.05, "{}", hops(8.0, 20));
        let slope = (hops(1e12, 8) - hops(1e6, 8)) / (1e6_f64).log2();
        assert!((slope * bits_per_hop(8) - 1.0).abs() < 0.01, "{slope}");
        assert!(hops(1e6, 20) < hops(1e6, 8) && hops(1e3, 8) < hops(1e4, 8));
    }
}
