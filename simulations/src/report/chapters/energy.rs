//! What nodes cost a battery, as far as a simulation knows: how often they wake up, and how many packets they send.

use super::super::lived::marks;
use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Runs, Shape, Table};
use super::rough;

/// Wake-ups that a message needs at least: one of its sender's node, one of its reader's.
const LEAST: f64 = 2.0;

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Energy, by what causes it".to_owned();
    chapter.text = vec![
        "A radio that sends and a processor that is woken are what a battery pays for; joules are not simulated. Counted is each time \
         that a node's event loop begins to do something: a frame, a client, a disk that has written, its own timer. Hours are those \
         in which a node is awake: a closed lid costs nothing and counts nothing."
            .to_owned(),
        "The bound: a message needs two wake-ups, one at its sender's node and one at its reader's, and being seen needs one packet a \
         minute. What comes on top are disks that write before anything is promised, receipts, clients that change their status every \
         half minute (these do, so that more can go wrong), and heartbeats by which silence is noticed."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
    chapter.published = PUBLISHED.to_vec();
}

fn packets(runs: &Runs) -> f64 {
    runs.sent().packets as f64
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let (figures, hours) = (&runs.figures, runs.node_hours());
        let messages = runs.came().max(1) as f64;
        vec![
            runs.scenario.name.to_owned(),
            rough(hours),
            rough(messages / hours),
            format!("{:.2}", figures.wakes as f64 / hours / 3_600.0),
            format!("{:.2}", figures.timers as f64 / hours / 3_600.0),
            format!("{:.2}", packets(runs) / hours / 3_600.0),
            rough(figures.wakes as f64 / messages / LEAST),
        ]
    };
    Table {
        name: "wakes",
        caption: "Wake-ups and packets".to_owned(),
        columns: vec![
            "scenario",
            "node-hours awake",
            "messages in an hour of a node",
            "wake-ups a second of a node",
            "of these by its timer",
            "packets a second of a node",
            "wake-ups in all, times the least for its messages",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let points = |of: &dyn Fn(&Runs) -> f64| {
        let talked = all.iter().filter(|runs| runs.came() > 0);
        marks(talked, |runs| (runs.load(), of(runs) / runs.node_hours() / 3_600.0))
    };
    let bound =
        points(&|_| 0.0).into_iter().map(|(messages, _)| (messages, messages * LEAST / 3_600.0)).collect();
    Plot {
        name: "wakes",
        caption: "Wake-ups and packets beside how much is written, each scenario a mark; the dashed line is two wake-ups a message"
            .to_owned(),
        x: Axis::logarithmic("messages in an hour of a node"),
        y: Axis::logarithmic("a second, of a node"),
        lines: vec![
            Line { label: "wake-ups".to_owned(), points: points(&|runs| runs.figures.wakes as f64), shape: Shape::Marks },
            Line { label: "packets".to_owned(), points: points(&packets), shape: Shape::Marks },
            Line { label: "least: wake-ups".to_owned(), points: bound, shape: Shape::Dashed },
        ],
    }
}

const PUBLISHED: [Published; 2] = [
    Published {
        system: "Status (Waku) on a phone",
        what: "what drains the battery",
        figure: "98 % is the radio on LTE, not the processor",
        source: "github.com/status-im/status-app/issues/21045",
        read: true,
    },
    Published {
        system: "A phone's radio (3G)",
        what: "a packet that wakes the radio keeps it awake",
        figure: "60 % of the energy of a transfer of 50 kB is spent in the 12 s after it",
        source: "Balasubramanian, Balasubramanian, Venkataramani, Energy Consumption in Mobile Phones, IMC 2009",
        read: false,
    },
];
