//! Which scenario catches which deliberate bug, and after how many seeds: the proof that the simulations see.

use crosstalk_overlay::mutant::{self, ALL, Mutant};

use crate::scenario::{self, Scenario};

/// A bug, and where it has to be seen.
#[derive(Clone, Copy)]
pub struct Case {
    /// Which.
    pub mutant: Mutant,
    /// What it does.
    pub about: &'static str,
    /// Where it is looked for.
    pub scenario: &'static Scenario,
}

/// How a bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// With so many seeds, the last of which caught it.
    pub seeds: u64,
    /// The promise that was broken.
    pub what: String,
}

/// All bugs.
pub fn cases() -> impl Iterator<Item = Case> {
    ALL.iter().filter_map(|(mutant, about)| {
        let scenario = scenario::find(scenario_for(*mutant))?;
        Some(Case { mutant: *mutant, about: about.trim(), scenario })
    })
}

/// The cheapest scenario in which it matters.
fn scenario_for(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::SkipSignature | Mutant::UnprovenLive => "stranger_attacks",
        Mutant::CarbonsForgotten
        | Mutant::CopiesForgotten
        | Mutant::LastMergeWins
        | Mutant::NeighbourTwice => "three_nodes_two_devices",
        Mutant::BlocksForgotten => "spam_storm",
        Mutant::LostBelieved => "stolen_laptop",
        Mutant::OldWord | Mutant::NoFade | Mutant::NeighboursStay => "camp",
        Mutant::UnsureCounts => "clock_in_1970",
        Mutant::PermissionForgotten => "request_refused",
        Mutant::NoCourier => "village_with_one_courier",
        Mutant::RenewalForgotten | Mutant::ServerGivenUp | Mutant::HeldUntold | Mutant::RevokedServed => {
            "server_away_for_a_month"
        }
        _ => "two_laptops",
    }
}

/// Runs seeds from `first` until the bug is caught, `most` at most. None: it went unseen.
pub fn hunt(case: &Case, first: u64, most: u64) -> Option<Caught> {
    let caught = |seed| mutant::with(Some(case.mutant), || scenario::run(case.scenario, seed, None)).err();
    (0..most).find_map(|tried| {
        let broken = caught(first + tried)?;
        Some(Caught { seeds: tried + 1, what: broken.violation.what })
    })
}
