//! Measured runs of scenarios, which several chapters read: made once, within the time of the chapter that asks first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::now;
use crate::interrupt::Interrupt;
use crate::scenario::{self, ALL, Scenario};
use crate::world::Traffic;
use crate::world::meter::{Figures, Shown};

/// Trips that are kept of a scenario; further runs are made and their trips left out, so that memory is bounded.
const MOST_TRIPS: usize = 500_000;

/// All runs that there was time for.
#[derive(Default)]
pub struct Lived {
    /// By scenario, in the order of the list; those that were not run at all are left out.
    pub scenarios: Vec<Runs>,
    /// There was no time for some scenario.
    pub cut: bool,
}

/// Runs of one scenario.
pub struct Runs {
    /// Which.
    pub scenario: &'static Scenario,
    /// How many.
    pub count: u64,
    /// Virtual milliseconds.
    pub lasted: u64,
    /// Numbered messages that were sent.
    pub messages: u64,
    /// Things that happened.
    pub events: u64,
    /// Real time.
    pub took: Duration,
    /// What was broken, and the first seed that showed it.
    pub broken: BTreeMap<String, u64>,
    /// Runs in which something was.
    pub violations: u64,
    /// What was measured in all of them.
    pub figures: Figures,
    /// Real time of the longest.
    longest: Duration,
}

impl Runs {
    fn new(scenario: &'static Scenario) -> Self {
        Self {
            scenario,
            count: 0,
            lasted: 0,
            messages: 0,
            events: 0,
            took: Duration::ZERO,
            broken: BTreeMap::new(),
            violations: 0,
            figures: Figures::default(),
            longest: Duration::ZERO,
        }
    }

    /// Virtual time over real time.
    pub fn faster(&self) -> f64 {
        self.lasted as f64 / 1_000.0 / self.took.as_secs_f64().max(1e-6)
    }

    /// Hours that nodes were awake, all together.
    pub fn node_hours(&self) -> f64 {
        (self.figures.awake as f64 / 3_600_000.0).max(1e-9)
    }

    /// Messages that came, at each client that they were for.
    pub fn came(&self) -> u64 {
        self.figures.trips.iter().filter(|trip| trip.got.is_some()).count() as u64
    }

    /// Messages that came in an hour of a node.
    pub fn load(&self) -> f64 {
        self.came() as f64 / self.node_hours()
    }

    /// All that went between its nodes.
    pub fn sent(&self) -> Traffic {
        let mut all = Traffic::default();
        self.figures.traffic.values().for_each(|traffic| all += *traffic);
        all
    }

    fn add(
        &mut self,
        seed: u64,
        took: Duration,
        result: Result<scenario::Kept, crate::world::Violation>,
        figures: Figures,
    ) {
        self.took += took;
        self.longest = self.longest.max(took);
        self.count += 1;
        match result {
            Ok(kept) => {
                self.lasted += kept.lasted;
                self.messages += kept.messages;
                self.events += kept.events;
            }
            Err(violation) => {
                self.violations += 1;
                self.lasted += violation.at;
                self.broken.entry(violation.what).or_insert(seed);
            }
        }
        merge(&mut self.figures, figures);
    }
}

fn merge(all: &mut Figures, one: Figures) {
    let Figures {
        trips,
        repeated,
        refused,
        shown,
        traffic,
        wakes,
        timers,
        awake,
        commits,
        written,
        stored,
        nodes,
    } = one;
    if all.trips.len() < MOST_TRIPS {
        all.trips.extend(trips);
    }
    all.repeated += repeated;
    all.refused += refused;
    let Shown { looks, ghosts, missing, ghosts_lasted, missing_lasted } = shown;
    all.shown.looks += looks;
    all.shown.ghosts += ghosts;
    all.shown.missing += missing;
    if all.shown.ghosts_lasted.len() + all.shown.missing_lasted.len() < MOST_TRIPS {
        all.shown.ghosts_lasted.extend(ghosts_lasted);
        all.shown.missing_lasted.extend(missing_lasted);
    }
    for (kind, more) in traffic {
        *all.traffic.entry(kind).or_default() += more;
    }
    all.wakes += wakes;
    all.timers += timers;
    all.awake += awake;
    all.commits += commits;
    all.written += written;
    all.stored += stored;
    all.nodes += nodes;
}

/// Runs scenarios for so long, each for a seed by turns, so that all have been run when the time is over. The largest, which is
/// never drawn among mixed ones, is run once, at the end of the first turn. `tick` is called now and then.
pub(super) fn live(share: Duration, interrupt: &Interrupt, tick: impl Fn() + Clone + 'static) -> Lived {
    let begin = now();
    let left = move || share.saturating_sub(begin.elapsed());
    let mut all: Vec<Runs> = ALL.iter().map(Runs::new).collect();
    for seed in 0.. {
        let (large, usual): (Vec<_>, Vec<_>) = all.iter_mut().partition(|runs| runs.scenario.is_large());
        let turn = usual.into_iter().chain(large.into_iter().filter(|_| seed == 0));
        let mut any = false;
        for runs in turn {
            if interrupt.is_asked() || left().is_zero() || runs.longest > left() {
                continue;
            }
            let (asked, tick) = (interrupt.clone(), tick.clone());
            let goes_on = move || {
                tick();
                !asked.is_asked() && !left().is_zero()
            };
            let before = now();
            if let Some((result, figures)) = scenario::measure(runs.scenario, seed, goes_on) {
                runs.add(seed, before.elapsed(), result, figures);
                any = true;
            }
        }
        if !any {
            break;
        }
    }
    all.retain(|runs| runs.count > 0);
    Lived { cut: all.len() < ALL.len(), scenarios: all }
}

/// The value that so many percent of these stay below; nothing of nothing.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

/// The same as it stands in a table, with so many digits; a dash for nothing.
pub(super) fn cell(sorted: &[f64], percent: usize, digits: usize) -> String {
    percentile(sorted, percent).map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// A mark for each scenario, from left to right.
pub(super) fn marks<'a>(
    runs: impl Iterator<Item = &'a Runs>,
    place: impl Fn(&Runs) -> (f64, f64),
) -> Vec<(f64, f64)> {
    let mut marks: Vec<(f64, f64)> = runs.map(place).collect();
    marks.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    marks
}

/// In order.
pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// How many percent are at most so great: a curve with no more points than can be seen.
pub(super) fn curve(sorted: &[f64]) -> Vec<(f64, f64)> {
    let last = sorted.len().saturating_sub(1);
    (0..=200_u8)
        .filter_map(|step| Some((*sorted.get(last * usize::from(step) / 200)?, f64::from(step) / 2.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_curves_of_many_of_one_and_of_none() {
        let many = sorted((0..1_000).rev().map(f64::from));
        assert_eq!(
            [0, 50, 99, 100].map(|percent| percentile(&many, percent)),
            [0.0, 500.0, 990.0, 999.0].map(Some)
        );
        assert_eq!((curve(&many).len(), curve(&many)[200]), (201, (999.0, 100.0)));
        assert_eq!((percentile(&[7.0], 50), percentile(&[], 50)), (Some(7.0), None));
        assert!(curve(&[]).is_empty() && curve(&[7.0])[0] == (7.0, 0.0));
    }

    /// Whoever measures changes nothing; nothing comes before it could have come; what has no time left is no run.
    #[test]
    fn a_measured_run_is_the_same_run() {
        let scenario = scenario::find("village_with_one_courier").expect("it is in the list");
        let plain = scenario::run(scenario, 3, None).map_err(|broken| broken.violation);
        let (measured, figures) = scenario::measure(scenario, 3, || true).expect("nobody stopped it");
        assert_eq!(plain, measured);
        assert!(!figures.trips.is_empty() && figures.wakes > figures.timers && figures.commits > 10);
        for trip in &figures.trips {
            let (possible, got) = (trip.possible.expect("a way"), trip.got.expect("it came"));
            assert!(trip.sent <= possible && possible <= got, "{trip:?}");
        }
        assert!(
            figures.trips.iter().any(|trip| trip.possible > Some(trip.sent + 3_600_000)),
            "the courier takes hours"
        );
        assert!(figures.shown.ghosts < figures.shown.looks / 10, "{:?}", figures.shown);
        assert!(scenario::measure(scenario, 3, || false).is_none());
    }
}
