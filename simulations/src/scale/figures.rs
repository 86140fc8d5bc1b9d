//! What a run of the model came to. *Pure.*

use serde::Serialize;

/// Figures of one run. Times in milliseconds; a look-up is one of a record that its owner has put.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Nodes in all.
    pub nodes: u32,
    /// Those that were here at the end.
    pub here: u32,
    /// Virtual time that was counted.
    pub hours: f64,
    /// Look-ups that were tried.
    pub lookups: u64,
    /// The share of them that found the record.
    pub success: f64,
    /// Nodes that had to be asked one after the other to hear of the closest.
    pub hops: Spread,
    /// How many that should be, by the logarithm ([`super::hops`]).
    pub predicted_hops: f64,
    /// The same as `hops`, to hear of the first node that had the record.
    pub first_hops: Spread,
    /// Nodes asked in a look-up.
    pub asked: Spread,
    /// Nodes asked until a get ends, 0.4 s after the first value.
    pub asked_by_get: Spread,
    /// Those of them that did not answer.
    pub silent: Spread,
    /// Until the record was there.
    pub first: Spread,
    /// The same: what 0, 1, … 100 % of all stayed below.
    pub curve: Vec<f64>,
    /// Until the look-up was over.
    pub whole: Spread,
    /// The share of entries in routing tables that name somebody who has gone.
    pub stale: f64,
    /// Letters for people who were away and came back.
    pub letters: u64,
    /// The share that was found at the first look.
    pub found_at_once: f64,
    /// The share that was found within an hour of it, or before they left again.
    pub found_in_an_hour: f64,
    /// Copies of a record on nodes that are here.
    pub record_copies: Spread,
    /// Copies of a letter that waits, on nodes that are here.
    pub letter_copies: Spread,
    /// Questions that a node answers in a minute; what is spread here is the nodes.
    pub load: Spread,
    /// The same in the busiest minute of each node.
    pub peak: Spread,
    /// Bytes a second that a node sends and receives for questions that it asks and answers, on average.
    pub bytes: f64,
    /// Nodes in a routing table.
    pub entries: Spread,
    /// Values at a node, if there is one for each node that is here.
    pub held: Spread,
    /// The share of questions by nodes that look around, come, and keep copies; the rest are the look-ups themselves.
    pub upkeep: f64,
    /// Questions that one record costs in an hour.
    pub record_upkeep: f64,
    /// Questions that one letter costs in an hour for which it waits.
    pub letter_upkeep: f64,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// The average.
    pub mean: f64,
    /// Half are at most this.
    pub median: f64,
    /// All but one in a hundred are at most this.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| {
            values.get((values.len() * share / 100).min(values.len().saturating_sub(1))).copied()
        };
        Self {
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
            median: at(50).unwrap_or(0.0),
            p99: at(99).unwrap_or(0.0),
            max: values.last().copied().unwrap_or(0.0),
        }
    }
}

/// What 0, 1, … 100 % of these stay below; nothing of nothing.
pub(super) fn curve(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    (0..=100).filter_map(|share| sorted.get(last * share / 100).copied()).collect()
}

/// The line `mean = a + b · log₂(nodes here)` through several sizes (least squares), and by how much, relative to the
/// model, it is off at the worst of them. With fewer than two sizes there is none.
pub fn line(runs: &[Figures], of: fn(&Figures) -> &Spread) -> Option<(f64, f64, f64)> {
    let points: Vec<(f64, f64)> = runs.iter().map(|run| (f64::from(run.here).log2(), of(run).mean)).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let width = points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
    if points.len() < 2 || width == 0.0 {
        return None;
    }
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / width;
    let base = y - slope * x;
    let off = points.iter().map(|(x, y)| ((base + slope * x) / y - 1.0).abs()).fold(0.0, f64::max);
    Some((base, slope, off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_what_is_off_it() {
        let run = |here: u32, mean: f64| Figures {
            here,
            hops: Spread { mean, ..Spread::default() },
            ..Figures::default()
        };
        let hops: fn(&Figures) -> &Spread = |run| &run.hops;
        let (base, slope, off) = line(&[run(1 << 10, 3.0), run(1 << 20, 5.0)], hops).expect("a line");
        assert!((base - 1.0).abs() < 1e-9 && (slope - 0.2).abs() < 1e-9 && off < 1e-9);
        let (.., off) =
            line(&[run(1 << 10, 3.0), run(1 << 15, 5.0), run(1 << 20, 5.0)], hops).expect("a line");
        assert!(off > 0.1, "{off}");
        assert!(line(&[run(1 << 10, 3.0)], hops).is_none());
    }

    #[test]
    fn spreads_say_what_most_see_and_what_the_worst_see() {
        let spread = Spread::of((1..=100).map(f64::from).collect());
        assert_eq!((spread.mean, spread.median, spread.p99, spread.max), (50.5, 51.0, 100.0, 100.0));
        assert_eq!(Spread::of(Vec::new()).max, 0.0);
    }
}
