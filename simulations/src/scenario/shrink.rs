//! Finds a short story for a broken promise: the fewest incidents of a run with which it is still broken. *Pure.*

use super::{Broken, Lines, Numbers, Scenario, attempt};
use crate::world::sabotage::Sabotage;

/// A broken promise with few incidents.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The run that is left.
    pub broken: Broken,
    /// Incidents that it had at first.
    pub before: usize,
    /// Runs that were tried.
    pub runs: usize,
}

/// Leaves incidents out of a run as long as the same promise is broken, in at most so many runs: by halves, quarters and so on
/// down to single ones (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). `go_on` is
/// asked before each.
pub fn shrink(
    scenario: &Scenario,
    broken: &Broken,
    sabotage: Option<Sabotage>,
    most: usize,
    mut go_on: impl FnMut(usize) -> bool,
) -> Shrunk {
    let kind = broken.violation.kind();
    let mut runs = 0;
    let mut left: Vec<usize> = broken.incidents.iter().copied().collect();
    let mut part = left.len();
    while part > 0 && runs < most && go_on(runs) {
        let mut from = 0;
        let mut shorter = false;
        while from < left.len() && runs < most && go_on(runs) {
            let to = (from + part).min(left.len());
            let only: Numbers = left[..from].iter().chain(&left[to..]).copied().collect();
            runs += 1;
            let tried = attempt(scenario, broken.seed, sabotage, Some(&only), None, || true);
            match tried.result {
                Err(violation) if violation.kind() == kind => {
                    // What comes after the end was of no account either.
                    left = tried.incidents.into_iter().collect();
                    shorter = true;
                }
                _ => from = to,
            }
        }
        part = if shorter && part == 1 { 1 } else { part / 2 };
    }
    let only: Numbers = left.into_iter().collect();
    let told = attempt(scenario, broken.seed, sabotage, Some(&only), Some(Lines::default()), || true);
    let violation = told.result.err().unwrap_or_else(|| broken.violation.clone());
    let told = Broken { incidents: only, violation, story: told.story, ..*broken };
    Shrunk { broken: told, before: broken.incidents.len(), runs }
}
