//! The model beside real swarms of the same size, and what differs.

use serde::Deserialize;

use super::super::{Chapter, Pace, Table};
use super::modelled;
use crate::scale::{CROWDS, Compared, DIFFERENCES, Figures, MEASURED_APART, Measured, calibrated, compare};

/// The file that `simulations/bench/crowd` writes.
const FILE: &str = "crowd.json";

/// What it has measured: whole nodes, each in a network namespace.
#[derive(Deserialize)]
struct Crowd {
    machine: String,
    binary: String,
    nodes: u32,
    #[serde(flatten)]
    found: Found,
    /// Nothing in files of before.
    churn: Option<Churn>,
    joining_kb: Spread,
    idle_bytes_a_second: Spread,
    memory_mib: Spread,
}

/// Look-ups.
#[derive(Deserialize)]
struct Found {
    lookups: u32,
    held_here: u32,
    success: f64,
    hops: Option<Spread>,
    asked: Spread,
    unanswered: f64,
    millis: Spread,
}

/// Look-ups while nodes are killed and others take their places.
#[derive(Deserialize)]
struct Churn {
    replaced: u32,
    seconds: u32,
    #[serde(flatten)]
    found: Found,
}

#[derive(Deserialize)]
struct Spread {
    mean: f64,
    median: f64,
    p99: f64,
    max: f64,
}

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    chapter.title = "The model beside real swarms".to_owned();
    chapter.text = vec![
        "Whole nodes in one process, over a network in its memory (simulations/test crowd), and in network namespaces, each a process \
         of its own (simulations/bench/crowd), beside the model of as many. Where there is churn, half of the nodes are replaced \
         within three hours. What differs:"
            .to_owned(),
    ];
    chapter.text.extend(DIFFERENCES.iter().map(|line| format!("– {line}.")));
    let apart = match pace.measured::<Crowd>(FILE) {
        Ok(apart) => apart,
        Err(why) => {
            chapter.text.push(format!("What was measured cannot be read: {why}"));
            None
        }
    };
    // What was measured here stands for what was measured before.
    let crowds = CROWDS.iter().filter(|crowd| crowd.source != MEASURED_APART || apart.is_none());
    let mut rows = Vec::new();
    for crowd in crowds {
        let Some(figures) = modelled(calibrated(crowd), pace) else {
            chapter.cut = true;
            break;
        };
        rows.push(row(&compare(*crowd, &figures)));
    }
    if let Some(apart) = apart {
        let crowd = measured(&apart);
        match modelled(calibrated(&crowd), pace) {
            Some(figures) => {
                rows.push(row(&compare(crowd, &figures)));
                chapter.text.push(described(&apart));
                chapter.tables.push(costs(&apart, &figures));
            }
            None => chapter.cut = true,
        }
        if let Some(churn) = &apart.churn {
            let crowd = Measured { churn: true, ..measured_by(apart.nodes, &churn.found) };
            chapter.text.push(churned(churn));
            match modelled(calibrated(&crowd), pace) {
                Some(figures) => rows.push(row(&compare(crowd, &figures))),
                None => chapter.cut = true,
            }
        }
    } else {
        chapter.text.push(format!(
            "Not measured on this machine: simulations/bench/crowd writes {FILE} in five minutes."
        ));
    }
    chapter.tables.insert(
        0,
        Table {
            name: "crowds",
            caption: "Look-ups that show their path".to_owned(),
            columns: vec![
                "nodes",
                "churn",
                "found, real, %",
                "found, model, %",
                "hops, real",
                "hops, model",
                "nodes asked, real",
                "nodes asked, model",
                "difference of nodes asked, %",
                "real figures from",
            ],
            rows,
        },
    );
}

fn measured(crowd: &Crowd) -> Measured {
    measured_by(crowd.nodes, &crowd.found)
}

fn measured_by(nodes: u32, found: &Found) -> Measured {
    Measured {
        nodes,
        churn: false,
        success: found.success,
        hops: found.hops.as_ref().map(|hops| hops.mean),
        asked: found.asked.mean,
        source: "crowd.json: nodes in network namespaces",
    }
}

fn churned(churn: &Churn) -> String {
    let found = &churn.found;
    format!(
        "While {} of them were killed and replaced within {} s: {} look-ups for all who were there at first, the dead too; {:.2} nodes in \
         a look-up did not answer, and it took {:.0} ms in the median, {:.0} at the 99th percentile.",
        churn.replaced, churn.seconds, found.lookups, found.unanswered, found.millis.median, found.millis.p99,
    )
}

fn described(crowd: &Crowd) -> String {
    let Found { lookups, held_here, unanswered, .. } = &crowd.found;
    format!(
        "{} nodes in network namespaces ({}, {}): {lookups} look-ups, of which {held_here} asked a node that held the record itself; \
         {unanswered:.2} nodes in a look-up did not answer.",
        crowd.nodes, crowd.binary, crowd.machine,
    )
}

fn row(crowd: &Compared) -> Vec<String> {
    let measured = &crowd.measured;
    vec![
        measured.nodes.to_string(),
        if measured.churn { "yes" } else { "no" }.to_owned(),
        format!("{:.1}", measured.success * 100.0),
        format!("{:.1}", crowd.success * 100.0),
        measured.hops.map_or_else(|| "1 to 3".to_owned(), |hops| format!("{hops:.2}")),
        format!("{:.2}", crowd.hops),
        format!("{:.1}", measured.asked),
        format!("{:.1}", crowd.asked),
        format!("{:.0}", (crowd.asked / measured.asked.max(1e-9) - 1.0) * 100.0),
        measured.source.to_owned(),
    ]
}

fn costs(crowd: &Crowd, model: &Figures) -> Table {
    let row = |what: &str, real: &Spread, model: Option<String>| {
        let value = |value: f64| format!("{value:.1}");
        let mut row =
            vec![what.to_owned(), value(real.mean), value(real.median), value(real.p99), value(real.max)];
        row.push(model.unwrap_or_else(|| "–".to_owned()));
        row
    };
    let bytes = Some(format!("{:.0}: questions of the hash table only", model.bytes));
    let first = Some(format!(
        "{:.0} median, {:.0} p99: round trips drawn, processors free",
        model.first.median, model.first.p99
    ));
    Table {
        name: "costs",
        caption: "What a node in a namespace costs, beside the model where it has such a figure".to_owned(),
        columns: vec!["what", "mean", "median", "99th percentile", "most", "model"],
        rows: vec![
            row("look-up, until it is over, ms", &crowd.found.millis, first),
            row("joining, kB both ways until all was settled", &crowd.joining_kb, None),
            row("idle, bytes a second both ways, with all headers", &crowd.idle_bytes_a_second, bytes),
            row("memory, MiB resident", &crowd.memory_mib, None),
        ],
    }
}
