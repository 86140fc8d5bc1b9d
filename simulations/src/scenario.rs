//! Scenarios by name, and how one is run for a seed: fast first; when a promise is broken, again with its story.

mod camp;
mod cast;
mod clock_in_1970;
mod flash_crowd_after_a_cut;
mod lid_closed_and_opened;
mod power_cuts_every_minute;
mod radio_with_40_percent_loss;
mod request_refused;
mod school_day;
mod stranger_attacks;
mod three_nodes;
mod two_laptops;
mod village_with_one_courier;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::errors::{catching, logged_error};
use crate::world::World;
use crate::world::sabotage::Sabotage;
use crate::world::story::{Checked, Lines, Story, Violation};

/// A scenario.
pub struct Scenario {
    /// Its name, as on the command line.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    run: fn(&mut World) -> Checked,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "two_laptops",
        about: "two nodes on a link talk while cables, disks, processes and clients fail",
        run: two_laptops::run,
    },
    Scenario {
        name: "three_nodes_two_devices",
        about: "one person is live on two nodes: both receive, each sees what the other sends",
        run: three_nodes::run,
    },
    Scenario {
        name: "stranger_attacks",
        about: "a third peer sends garbage, replays, forgeries and floods while two people talk",
        run: stranger_attacks::run,
    },
    Scenario {
        name: "village_with_one_courier",
        about: "two villages without a line, and one person with a laptop who goes to and fro",
        run: village_with_one_courier::run,
    },
    Scenario {
        name: "school_day",
        about: "a class talks, closes lids, is in two places, goes home and comes back",
        run: school_day::run,
    },
    Scenario {
        name: "school_day_of_fifty",
        about: "the same with fifty pupils",
        run: school_day::run_with_fifty,
    },
    Scenario {
        name: "flash_crowd_after_a_cut",
        about: "two halves of a crowd meet at once after hours without each other",
        run: flash_crowd_after_a_cut::run,
    },
    Scenario {
        name: "radio_with_40_percent_loss",
        about: "a slow radio channel that loses two packets of five, evenly or in bursts",
        run: radio_with_40_percent_loss::run,
    },
    Scenario {
        name: "lid_closed_and_opened",
        about: "laptops that are closed for seconds or days while somebody writes to them",
        run: lid_closed_and_opened::run,
    },
    Scenario {
        name: "clock_in_1970",
        about: "clocks that have forgotten the time, and are set right late or never",
        run: clock_in_1970::run,
    },
    Scenario {
        name: "power_cuts_every_minute",
        about: "each laptop loses its power about once a minute",
        run: power_cuts_every_minute::run,
    },
    Scenario {
        name: "request_refused",
        about: "a request is left open, refused, put again and granted, while both are there",
        run: request_refused::run,
    },
    Scenario {
        name: "camp",
        about: "people walk about a field that their radios reach a part of",
        run: camp::run,
    },
];

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// A run in which every promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Virtual milliseconds.
    pub lasted: u64,
    /// Things that happened.
    pub events: u64,
    /// Numbered messages that were sent.
    pub messages: u64,
    /// Hash of everything that happened: the same for the same seed.
    pub trace: u64,
}

/// A run in which one was not.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Its seed.
    pub seed: u64,
    /// Which promise.
    pub violation: Violation,
    /// Everything that happened until then, a line each.
    pub story: Vec<String>,
}

/// Runs a scenario for a seed.
///
/// # Errors
/// [`Broken`] with the story, for which the same is run once more.
pub fn run(scenario: &Scenario, seed: u64, sabotage: Option<Sabotage>) -> Result<Kept, Box<Broken>> {
    let (result, _) = attempt(scenario, seed, sabotage, None);
    result.map_err(|violation| {
        let (_, story) = tell(scenario, seed, sabotage);
        Box::new(Broken { seed, violation, story })
    })
}

/// Runs a scenario for a seed and tells its story, a line for everything that happened.
pub fn tell(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
) -> (Result<Kept, Violation>, Vec<String>) {
    let lines = Lines::default();
    attempt(scenario, seed, sabotage, Some(lines))
}

fn attempt(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
    lines: Option<Lines>,
) -> (Result<Kept, Violation>, Vec<String>) {
    let mut world = World::new(seed, Story::new(lines.clone()), sabotage);
    drop(logged_error());
    let result = catching(|| catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut world))));
    let result = match result {
        Ok(Ok(())) => Ok(Kept {
            lasted: world.time,
            events: world.story.events(),
            messages: world.book.messages(),
            trace: world.story.hash(),
        }),
        Ok(Err(violation)) => Err(violation),
        Err(panic) => Err(Violation { at: world.time, what: format!("a panic: {}", text_of(&*panic)) }),
    };
    (result, lines.map(|lines| lines.take()).unwrap_or_default())
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
