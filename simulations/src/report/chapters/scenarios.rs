//! Scenarios: each for as many seeds as there is time for, and what was broken.

use super::super::{Axis, Chapter, Line, Pace, Plot, Runs, Shape, Table};

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    let all = &lived.scenarios;
    chapter.cut = lived.cut;
    let sum = |of: fn(&Runs) -> u64| all.iter().map(of).sum::<u64>();
    let violations = sum(|runs| runs.violations);
    chapter.title = "Scenarios".to_owned();
    chapter.text = vec![format!(
        "Whole nodes with scripted clients on virtual time, over links, disks and processes that fail; after each step it is checked \
         that every promise is kept. {} runs, {:.1} hours of virtual time, {} messages, {violations} broken promises. The chapters \
         that follow read what was measured in these runs.",
        sum(|runs| runs.count),
        sum(|runs| runs.lasted) as f64 / 3_600_000.0,
        sum(|runs| runs.messages),
    )];
    for runs in all {
        for (what, seed) in &runs.broken {
            let name = runs.scenario.name;
            chapter.text.push(format!(
                "Broken in {name}: {what}. Its story: crosstalk-simulate --scenario {name} --seed {seed} --story"
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
            points: all.iter().zip(1_u8..).map(|(runs, row)| (f64::from(row), runs.faster())).collect(),
            shape: Shape::Joined,
        }],
    });
}

fn table(all: &[Runs]) -> Table {
    let row = |(runs, number): (&Runs, u8)| {
        vec![
            number.to_string(),
            runs.scenario.name.to_owned(),
            runs.scenario.about.to_owned(),
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
            "row",
            "scenario",
            "what it tries",
            "runs",
            "virtual hours",
            "times as fast as real time",
            "messages",
            "events",
            "broken promises",
        ],
        rows: all.iter().zip(1..).map(row).collect(),
    }
}
