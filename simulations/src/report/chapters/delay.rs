//! How long messages take, beside the least that was possible, and beside the paper's figure.

use super::super::lived::{cell, curve, sorted};
use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Runs, Shape, Table};
use super::seconds;
use crate::world::meter::Trip;

/// What is drawn: those in which people carry what they write.
const CARRIED: [&str; 3] = ["village_with_one_courier", "school_day", "flash_crowd_after_a_cut"];

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Delay".to_owned();
    chapter.text = vec![
        "From the moment in which somebody writes a message to the moment in which a client shows it. Where people are apart, most \
         of it is the way: a courier who needs two hours is not overtaken. The dashed lines are the least delay that was possible, \
         computed from who could reach whom (see Delivery): in the village it is the courier's travel. Virtual time: a frame takes \
         1 to 5 ms on a cable, a disk up to 4 ms, a processor nothing; what processors need is measured by the side-by-side \
         benchmark."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
    chapter.published.push(Published {
        system: "CrossTalk, the paper",
        what: "delay that a gateway adds, 520 clients",
        figure: "below 15 ms for every pair of networks, on a Pentium 4 of 3.2 GHz with 1 GB",
        source: "the paper's evaluation; its Table 1: time in the server 5.6 ms (AIM), 8.6 (Jabber), 229.1 (MSN), 7.5 (Yahoo)",
        read: true,
    });
}

fn delays(runs: &Runs, of: fn(&Trip) -> Option<u64>) -> Vec<f64> {
    let trips = runs.figures.trips.iter().filter(|trip| trip.got.is_some());
    sorted(trips.filter_map(|trip| Some(seconds(of(trip)?.saturating_sub(trip.sent)))))
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let (took, least) = (delays(runs, |trip| trip.got), delays(runs, |trip| trip.possible));
        let mut row = vec![runs.scenario.name.to_owned(), took.len().to_string()];
        for percent in [50, 95, 99] {
            row.extend([cell(&took, percent, 2), cell(&least, percent, 2)]);
        }
        row
    };
    Table {
        name: "delays",
        caption: "Delay of messages, and the least that was possible, seconds".to_owned(),
        columns: vec![
            "scenario",
            "messages",
            "median",
            "least median",
            "95th percentile",
            "least 95th",
            "99th percentile",
            "least 99th",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let both = |runs: &Runs| {
        let name = runs.scenario.name.replace('_', " ");
        let line = |label: String, values: &[f64], shape| Line {
            label,
            points: curve(values).into_iter().map(|(delay, share)| (delay.max(0.001), share)).collect(),
            shape,
        };
        [
            line(name.clone(), &delays(runs, |trip| trip.got), Shape::Plain),
            line(format!("{name}: least possible"), &delays(runs, |trip| trip.possible), Shape::Dashed),
        ]
    };
    Plot {
        name: "delays",
        caption: "How many messages came within how long, and within how long they could have come; what takes less than a \
                  millisecond stands at one"
            .to_owned(),
        x: Axis::logarithmic("seconds"),
        y: Axis::linear("messages, %"),
        lines: all.iter().filter(|runs| CARRIED.contains(&runs.scenario.name)).flat_map(both).collect(),
    }
}
