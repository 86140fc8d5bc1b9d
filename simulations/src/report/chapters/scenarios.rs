//! Scenarios: each for as many seeds as there is time for, and what was broken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Shape, Table};
use super::may_go_on;
use crate::scenario::{self, ALL, Scenario};

#[derive(Default)]
struct Runs {
    count: u64,
    lasted: u64,
    messages: u64,
    events: u64,
    took: Duration,
    /// What was broken, and the first seed that showed it.
    broken: BTreeMap<String, u64>,
    violations: u64,
}

impl Runs {
    /// Virtual time over real time.
    fn faster(&self) -> f64 {
        self.lasted as f64 / 1_000.0 / self.took.as_secs_f64().max(1e-6)
    }
}

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let mut all: Vec<(&Scenario, Runs)> = ALL.iter().map(|scenario| (scenario, Runs::default())).collect();
    // A seed of each by turns, so that all have been run when the time is over.
    for seed in 0.. {
        for (scenario, runs) in &mut all {
            if !may_go_on(pace) {
                break;
            }
            one(scenario, seed, runs, pace);
        }
        if !may_go_on(pace) {
            break;
        }
    }
    all.retain(|(_, runs)| runs.count > 0);
    chapter.cut = all.len() < ALL.len();
    describe(chapter, &all);
}

fn one(scenario: &Scenario, seed: u64, runs: &mut Runs, pace: &Pace<'_>) {
    let before = pace.spent();
    let result = scenario::run(scenario, seed, None);
    runs.took += pace.spent().saturating_sub(before);
    runs.count += 1;
    match result {
        Ok(kept) => {
            runs.lasted += kept.lasted;
            runs.messages += kept.messages;
            runs.events += kept.events;
        }
        Err(broken) => {
            runs.violations += 1;
            runs.lasted += broken.violation.at;
            runs.broken.entry(broken.violation.what.clone()).or_insert(broken.seed);
        }
    }
}

fn describe(chapter: &mut Chapter, all: &[(&Scenario, Runs)]) {
    let sum = |of: fn(&Runs) -> u64| all.iter().map(|(_, runs)| of(runs)).sum::<u64>();
    let violations = sum(|runs| runs.violations);
    chapter.title = "Scenarios".to_owned();
    chapter.text = vec![format!(
        "Whole nodes with scripted clients on virtual time, over links, disks and processes that fail; after each step it is checked \
         that every promise is kept. {} runs, {:.1} hours of virtual time, {} messages, {violations} broken promises.",
        sum(|runs| runs.count),
        sum(|runs| runs.lasted) as f64 / 3_600_000.0,
        sum(|runs| runs.messages),
    )];
    for (scenario, runs) in all {
        for (what, seed) in &runs.broken {
            chapter.text.push(format!(
                "Broken in {}: {what}. Its story: crosstalk-simulate --scenario {} --seed {seed} --story",
                scenario.name, scenario.name
            ));
        }
    }
    chapter.tables.push(table(all));
    chapter.plots.push(Plot {
        name: "speed",
        caption: "Virtual time over real time, on one core; the scenarios in the order of the table"
            .to_owned(),
        x: Axis::linear("scenario, number of the row"),
        y: Axis::logarithmic("times as fast as real time"),
        lines: vec![Line {
            label: "speed".to_owned(),
            points: all.iter().zip(1_u8..).map(|((_, runs), row)| (f64::from(row), runs.faster())).collect(),
            shape: Shape::Joined,
        }],
    });
    chapter.published.push(Published {
        system: "CrossTalk, the paper",
        what: "load that it was tried with (Table 1)",
        figure: "520 clients; 15 ms",
        source: "see simulations/bench/side-by-side for the same load on this program, and ARCHITECTURE.md, Measured",
    });
}

fn table(all: &[(&Scenario, Runs)]) -> Table {
    let row = |(scenario, runs): &(&Scenario, Runs)| {
        vec![
            scenario.name.to_owned(),
            scenario.about.to_owned(),
            runs.count.to_string(),
            format!("{:.1}", runs.lasted as f64 / 3_600_000.0),
            format!("{:.0}", runs.faster()),
            runs.messages.to_string(),
            runs.events.to_string(),
            runs.violations.to_string(),
        ]
    };
    Table {
        name: "runs",
        caption: "Runs of each scenario, a seed after the other from 0".to_owned(),
        columns: vec![
            "scenario",
            "what it tries",
            "runs",
            "virtual hours",
            "times as fast as real time",
            "messages",
            "events",
            "broken promises",
        ],
        rows: all.iter().map(row).collect(),
    }
}
