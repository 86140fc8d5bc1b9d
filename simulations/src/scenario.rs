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
mod server_away_for_a_month;
mod shrink;
mod spam_storm;
mod stolen_laptop;
mod stranger_attacks;
mod three_nodes;
mod two_laptops;
mod village_with_one_courier;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crosstalk_overlay::verified::remembering;

use crate::errors::{catching, logged_error};
use crate::world::World;
use crate::world::dice::Dice;
use crate::world::incidents::{Incidents, Numbers};
use crate::world::meter::Figures;
use crate::world::sabotage::Sabotage;
use crate::world::story::{Checked, Lines, Story, Violation};

pub use shrink::{Shrunk, shrink};

/// Makes the lot of a mixed seed another one than its run's first.
const MIX: u64 = 0x006d_6978_6564;

/// A scenario.
pub struct Scenario {
    /// Its name, as on the command line.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    /// Of [mixed] runs so many in 1,000 are of this one: long ones are rare.
    share: u64,
    run: fn(&mut World) -> Checked,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "two_laptops",
        about: "two nodes on a link talk while cables, disks, processes and clients fail",
        share: 300,
        run: two_laptops::run,
    },
    Scenario {
        name: "three_nodes_two_devices",
        about: "one person is live on two nodes: both receive, each sees what the other sends",
        share: 150,
        run: three_nodes::run,
    },
    Scenario {
        name: "stranger_attacks",
        about: "a third peer sends garbage, replays, forgeries and floods while two people talk",
        share: 100,
        run: stranger_attacks::run,
    },
    Scenario {
        name: "village_with_one_courier",
        about: "two villages without a line, and one person with a laptop who goes to and fro",
        share: 25,
        run: village_with_one_courier::run,
    },
    Scenario {
        name: "school_day",
        about: "a class talks, closes lids, is in two places, goes home and comes back",
        share: 5,
        run: school_day::run,
    },
    Scenario {
        name: "school_day_of_fifty",
        about: "the same with fifty pupils",
        share: 0,
        run: school_day::run_with_fifty,
    },
    Scenario {
        name: "flash_crowd_after_a_cut",
        about: "two halves of a crowd meet at once after hours without each other",
        share: 15,
        run: flash_crowd_after_a_cut::run,
    },
    Scenario {
        name: "radio_with_40_percent_loss",
        about: "a slow radio channel that loses two packets of five, evenly or in bursts",
        share: 80,
        run: radio_with_40_percent_loss::run,
    },
    Scenario {
        name: "lid_closed_and_opened",
        about: "laptops that are closed for seconds or days while somebody writes to them",
        share: 70,
        run: lid_closed_and_opened::run,
    },
    Scenario {
        name: "clock_in_1970",
        about: "clocks that have forgotten the time, and are set right late or never",
        share: 85,
        run: clock_in_1970::run,
    },
    Scenario {
        name: "power_cuts_every_minute",
        about: "each laptop loses its power about once a minute",
        share: 80,
        run: power_cuts_every_minute::run,
    },
    Scenario {
        name: "spam_storm",
        about: "strangers write and ask without end, until those whom they write to block them",
        share: 40,
        run: spam_storm::run,
    },
    Scenario {
        name: "stolen_laptop",
        about: "a thief writes with a stolen laptop, until those are told whom it meets",
        share: 40,
        run: stolen_laptop::run,
    },
    Scenario {
        name: "request_refused",
        about: "a request is left open, refused, put again and granted, while both are there",
        share: 40,
        run: request_refused::run,
    },
    Scenario {
        name: "server_away_for_a_month",
        about: "a school goes on without its server, and settles everything when it is back",
        share: 10,
        run: server_away_for_a_month::run,
    },
    Scenario {
        name: "camp",
        about: "people walk about a field that their radios reach a part of",
        share: 10,
        run: camp::run,
    },
];

impl Scenario {
    /// Whether it takes so long that it is never drawn among mixed ones.
    pub fn is_large(&self) -> bool {
        self.share == 0
    }
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The scenario that a seed has among mixed ones.
pub fn mixed(seed: u64) -> &'static Scenario {
    let all = ALL.iter().map(|scenario| scenario.share).sum();
    let mut lot = Dice::new(seed ^ MIX).below(all);
    let drawn = ALL.iter().find(|scenario| {
        let drawn = lot < scenario.share;
        lot = lot.saturating_sub(scenario.share);
        drawn
    });
    drawn.unwrap_or(&ALL[0])
}

/// A run in which every promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Virtual milliseconds.
    pub lasted: u64,
    /// Machines in it.
    pub nodes: u64,
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
    /// Its scenario.
    pub scenario: &'static str,
    /// Its seed.
    pub seed: u64,
    /// What was planned and had begun by then: faults, messages, edits.
    pub incidents: Numbers,
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
    let tried = attempt(scenario, seed, sabotage, None, None, || true);
    told(scenario, seed, sabotage, tried, || true)
}

/// The same. Nothing, if by then `goes_on` said no, which is asked every few virtual seconds.
pub fn run_while(
    scenario: &Scenario,
    seed: u64,
    goes_on: impl Fn() -> bool + Clone + 'static,
) -> Option<Result<Kept, Box<Broken>>> {
    let tried = attempt(scenario, seed, None, None, None, goes_on.clone());
    (!tried.stopped).then(|| told(scenario, seed, None, tried, goes_on))
}

/// If it broke a promise it is run once more, with its story.
fn told(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
    tried: Tried,
    goes_on: impl Fn() -> bool + 'static,
) -> Result<Kept, Box<Broken>> {
    tried.result.map_err(|violation| {
        let story = attempt(scenario, seed, sabotage, None, Some(Lines::default()), goes_on).story;
        let (scenario, incidents) = (scenario.name, tried.incidents);
        Box::new(Broken { scenario, seed, incidents, violation, story })
    })
}

/// Runs a scenario for a seed and measures it, which changes nothing in it. Nothing, if by then `goes_on` said no, which is asked
/// every few virtual seconds. If a promise was not kept, what was measured until then is there all the same.
pub fn measure(
    scenario: &Scenario,
    seed: u64,
    goes_on: impl Fn() -> bool + 'static,
) -> Option<(Result<Kept, Violation>, Figures)> {
    let mut world = World::new(seed, Story::new(None), None, Incidents::only(None));
    world.measure();
    world.go_on_while(goes_on);
    let tried = play(scenario, world, None);
    let figures = tried.figures.filter(|_| !tried.stopped)?;
    Some((tried.result, figures))
}

/// Runs a scenario for a seed, with these of its incidents or all, and tells its story, a line for everything that happened
/// until the end, or until `goes_on` said no, which is asked every few virtual seconds.
pub fn tell(
    scenario: &Scenario,
    seed: u64,
    only: Option<&Numbers>,
    goes_on: impl Fn() -> bool + 'static,
) -> Told {
    let tried = attempt(scenario, seed, None, only, Some(Lines::default()), goes_on);
    let Tried { result, stopped, planned, story, .. } = tried;
    Told { result, stopped, planned, story }
}

/// The story of a run.
#[derive(Debug)]
pub struct Told {
    /// What it came to.
    pub result: Result<Kept, Violation>,
    /// It was stopped before its end.
    pub stopped: bool,
    /// How many incidents it has planned; they are numbered from 0.
    pub planned: usize,
    /// A line for everything that happened.
    pub story: Vec<String>,
}

/// What a run came to.
struct Tried {
    result: Result<Kept, Violation>,
    stopped: bool,
    incidents: Numbers,
    planned: usize,
    story: Vec<String>,
    /// Nothing if nobody measured.
    figures: Option<Figures>,
}

fn attempt(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
    only: Option<&Numbers>,
    lines: Option<Lines>,
    goes_on: impl Fn() -> bool + 'static,
) -> Tried {
    let mut world = World::new(seed, Story::new(lines.clone()), sabotage, Incidents::only(only.cloned()));
    world.go_on_while(goes_on);
    play(scenario, world, lines)
}

fn play(scenario: &Scenario, mut world: World, lines: Option<Lines>) -> Tried {
    drop(logged_error());
    // Fifty laptops verify the same record: in one process once is enough, as the answer cannot be another.
    let result = remembering(|| catching(|| catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut world)))));
    let result = match result {
        Ok(Ok(())) => Ok(Kept {
            lasted: world.time,
            nodes: world.hosts.len() as u64,
            events: world.story.events(),
            messages: world.book.messages(),
            trace: world.story.hash(),
        }),
        Ok(Err(violation)) => Err(violation),
        Err(panic) => Err(Violation { at: world.time, what: format!("a panic: {}", text_of(&*panic)) }),
    };
    let (incidents, planned) = (world.incidents.begun(world.time), world.incidents.planned());
    let story = lines.map(|lines| lines.take()).unwrap_or_default();
    Tried { result, stopped: world.stopped, incidents, planned, story, figures: world.figures() }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
