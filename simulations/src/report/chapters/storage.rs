//! What nodes write to their disks, and keep there.

use super::super::lived::marks;
use super::super::{Axis, Chapter, Line, Pace, Plot, Runs, Shape, Table};

/// Flushes that a message needs at least: its sender's node has to have it before it says so, its reader's before it takes over.
const LEAST: f64 = 2.0;

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Storage".to_owned();
    chapter.text = vec![
        "Writes to disks, each of which is flushed, and the bytes of keys and values in them. The bound: whoever acknowledges a \
         message has it on disk, so two flushes for a message, one at each end; fewer only where several messages share one, which \
         happens when a node is busy. What comes on top: the entry's end at both sides, acknowledgements of clients (XEP-0198), \
         changes of status, people who were met. In the end each node keeps its accounts, keys, contacts and whom it has met; what \
         was delivered is gone from it."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let (figures, hours) = (&runs.figures, runs.node_hours());
        let messages = runs.came().max(1) as f64;
        vec![
            runs.scenario.name.to_owned(),
            format!("{:.1}", figures.commits as f64 / hours),
            format!("{:.1}", figures.written as f64 / hours / 1e3),
            format!("{:.1}", figures.commits as f64 / messages),
            format!("{:.2}", figures.written as f64 / messages / 1e3),
            format!("{:.1}", figures.stored as f64 / figures.nodes.max(1) as f64 / 1e3),
        ]
    };
    Table {
        name: "writes",
        caption: "What is written, and what is kept".to_owned(),
        columns: vec![
            "scenario",
            "flushes in an hour of a node",
            "kB written in an hour of a node",
            "flushes in all for a message that came",
            "kB written in all for a message that came",
            "kB kept by a node in the end",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let talked = all.iter().filter(|runs| runs.came() > 0);
    let points = marks(talked, |runs| (runs.load(), runs.figures.commits as f64 / runs.node_hours()));
    let bound = points.iter().map(|(messages, _)| (*messages, messages * LEAST)).collect();
    Plot {
        name: "flushes",
        caption: "Flushes of a disk beside how much is written, each scenario a mark; the dashed line is two a message".to_owned(),
        x: Axis::logarithmic("messages in an hour of a node"),
        y: Axis::logarithmic("flushes in an hour of a node"),
        lines: vec![
            Line { label: "flushes".to_owned(), points, shape: Shape::Marks },
            Line { label: "least: two a message".to_owned(), points: bound, shape: Shape::Dashed },
        ],
    }
}
