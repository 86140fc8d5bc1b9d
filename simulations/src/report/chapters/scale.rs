//! The hash table from a thousand nodes up: hops beside the logarithm, latency, load and its tail, storage, a billion users.

use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Shape, Table};
use super::modelled;
use crate::scale::{Assumed, Estimate, Figures, Sessions, Setting, Spread, bits_per_hop, estimate};
use crosstalk_overlay::dht::BUCKET;

/// Sizes, of which as many are modelled as there is time for.
const SIZES: [u32; 8] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000];
/// A size takes so many times as long as the one before it, at most.
const LONGER: u32 = 5;
const HOUR: u64 = 3_600_000;

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let mut runs: Vec<Figures> = Vec::new();
    for nodes in SIZES {
        let before = pace.spent();
        let Some(run) =
            modelled(Setting { lookups: 5_000, ..Setting::new(nodes, HOUR, Sessions::PUBLISHED) }, pace)
        else {
            chapter.cut = runs.len() < 2;
            break;
        };
        runs.push(run);
        if (pace.spent() - before) * LONGER > pace.left() {
            break;
        }
    }
    chapter.title = "The hash table as it grows".to_owned();
    chapter.text = text();
    chapter.tables.push(lookups(&runs));
    chapter.tables.push(duties(&runs));
    chapter.plots = plots(&runs);
    chapter.published = PUBLISHED.to_vec();
    if let Some(estimate) = estimate(&runs, Assumed::of(1e9)) {
        chapter.tables.push(billion(&estimate));
        chapter.tables.push(assumed(&estimate.assumed));
    }
}

fn text() -> Vec<String> {
    vec![
        "A model, not a measurement: nodes with real routing tables, which look up, put, replicate and hold mail by the rules and \
         constants of the overlay. An hour of virtual time is counted after a quarter of an hour to settle. Nodes come and go: \
         half of all sessions end within two hours, a few last for days, and a node is here half of its time (ProbeLab, RFM 2, \
         2022; Weibull shape as in Stutzbach and Rejaie, IMC 2006). Round trips are 80 ms for half of all pairs; a question \
         takes four, as a connection is made for it. Left out: liars, and connections that are still open."
            .to_owned(),
        format!(
            "The predicted hops are computed, not fitted: with {BUCKET} nodes in a bucket a hop adds {:.2} bits of the target, so \
             {:.3} hops come on top with each doubling of the network (Stutzbach and Rejaie, INFOCOM 2006; Cai and Devroye, arXiv \
             1402.1191).",
            bits_per_hop(BUCKET),
            1.0 / bits_per_hop(BUCKET),
        ),
    ]
}

fn lookups(runs: &[Figures]) -> Table {
    let row = |run: &Figures| {
        vec![
            run.here.to_string(),
            format!("{:.2}", run.hops.mean),
            format!("{:.2}", run.predicted_hops),
            format!("{:.1}", (run.hops.mean / run.predicted_hops - 1.0) * 100.0),
            format!("{:.1}", run.asked.mean),
            format!("{:.3}", run.success * 100.0),
            format!("{:.2}", run.first.median / 1e3),
            format!("{:.2}", run.first.p99 / 1e3),
            format!("{:.1}", run.stale * 100.0),
            format!("{:.2}", run.found_at_once * 100.0),
            format!("{:.2}", run.found_in_an_hour * 100.0),
        ]
    };
    Table {
        name: "lookups",
        caption: "Look-ups of a record, and letters for people who were away and came back".to_owned(),
        columns: vec![
            "nodes here",
            "hops, mean",
            "hops predicted",
            "off, %",
            "nodes asked, mean",
            "found, %",
            "until found, median, s",
            "until found, p99, s",
            "table entries gone, %",
            "letters found at once, %",
            "letters found within an hour, %",
        ],
        rows: runs.iter().map(row).collect(),
    }
}

fn duties(runs: &[Figures]) -> Table {
    let row = |run: &Figures| {
        vec![
            run.here.to_string(),
            format!("{:.2}", run.load.median),
            format!("{:.2}", run.load.p99),
            format!("{:.2}", run.load.max),
            format!("{:.0}", run.peak.max),
            format!("{:.0}", run.bytes),
            format!("{:.0}", run.entries.mean),
            format!("{:.1}", run.held.mean),
            format!("{:.0}", run.held.p99),
            format!("{:.0}", run.held.max),
            format!("{:.1}", run.record_upkeep),
            format!("{:.1}", run.letter_upkeep),
        ]
    };
    Table {
        name: "duties",
        caption: "What a node does for the others: questions, and values if there is one for each node that is here. The 5,000 \
                  look-ups of the sample are among the questions: few nodes answer more of them each."
            .to_owned(),
        columns: vec![
            "nodes here",
            "questions a minute, median",
            "questions a minute, p99",
            "questions a minute, most",
            "questions in the busiest minute of any node",
            "bytes a second, both ways, mean",
            "nodes in a table, mean",
            "values held, mean",
            "values held, p99",
            "values held, most",
            "questions an hour to keep a record",
            "questions an hour to keep a letter",
        ],
        rows: runs.iter().map(row).collect(),
    }
}

fn plots(runs: &[Figures]) -> Vec<Plot> {
    let nodes = || Axis::logarithmic("nodes that are here");
    let line = |label: &str, shape, of: &dyn Fn(&Figures) -> f64| Line {
        label: label.to_owned(),
        points: runs.iter().map(|run| (f64::from(run.here), of(run))).collect(),
        shape,
    };
    let tail = |of: fn(&Figures) -> &Spread| {
        vec![
            line("median node", Shape::Joined, &|run| of(run).median),
            line("99th percentile", Shape::Joined, &|run| of(run).p99),
            line("busiest node", Shape::Joined, &|run| of(run).max),
        ]
    };
    let cumulative = |run: &Figures| Line {
        label: format!("{} nodes", run.here),
        points: run
            .curve
            .iter()
            .zip(0_u8..)
            .map(|(millis, share)| (millis / 1e3, f64::from(share)))
            .collect(),
        shape: Shape::Plain,
    };
    vec![
        Plot {
            name: "hops",
            caption: "Hops until the closest node is known: the model beside the prediction".to_owned(),
            x: nodes(),
            y: Axis::linear("hops"),
            lines: vec![
                line("model, with churn", Shape::Joined, &|run| run.hops.mean),
                line("computed: the logarithm", Shape::Dashed, &|run| run.predicted_hops),
            ],
        },
        Plot {
            name: "latency",
            caption: "How many look-ups have found the record after how long".to_owned(),
            x: Axis::logarithmic("seconds"),
            y: Axis::linear("look-ups, %"),
            lines: runs.iter().rev().step_by(2).map(cumulative).collect(),
        },
        Plot {
            name: "load",
            caption: "Questions that a node answers in a minute, with the look-ups of the sample".to_owned(),
            x: nodes(),
            y: Axis::logarithmic("questions a minute"),
            lines: tail(|run| &run.load),
        },
        Plot {
            name: "storage",
            caption: "Values at a node, if there is one for each node that is here, with the copies that the overlay makes"
                .to_owned(),
            x: nodes(),
            y: Axis::linear("values"),
            lines: tail(|run| &run.held),
        },
    ]
}

fn billion(estimate: &Estimate) -> Table {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("hops of a look-up, by the line through the runs above", format!("{:.1}", estimate.hops)),
        row("hops of a look-up, computed without them", format!("{:.1}", estimate.predicted_hops)),
        row("nodes that a look-up asks", format!("{:.0}", estimate.asked)),
        row("questions of a client in an hour", format!("{:.0}", estimate.asks)),
        row("bytes a second of a client", format!("{:.0}", estimate.client_bytes)),
        row("wake-ups a second of a client, by the table", format!("{:.2}", estimate.client_wakes)),
        row("questions that a server answers in an hour", format!("{:.0}", estimate.answers)),
        row("bytes a second of a server", format!("{:.0}", estimate.server_bytes)),
        row("wake-ups a second of a server, by the table", format!("{:.1}", estimate.server_wakes)),
        row("disk of a server, MB", format!("{:.1}", estimate.disk / 1e6)),
        row("values that a server holds", format!("{:.0}", estimate.held)),
        row("the same, % of the bound of its store", format!("{:.0}", estimate.held_share * 100.0)),
        row("nodes in a routing table", format!("{:.0}", estimate.entries)),
        row("memory of a routing table, kB", format!("{:.0}", estimate.table_bytes / 1e3)),
    ];
    if let Some((hops, asked)) = estimate.checked {
        let check = "check: lines through the smaller sizes miss the largest by, %";
        rows.push(row(check, format!("{:.1} (hops), {:.1} (nodes asked)", hops * 100.0, asked * 100.0)));
    }
    Table {
        name: "billion",
        caption: "What a node costs among a billion users: the lines a + b · log2(nodes) through the runs, continued, and products"
            .to_owned(),
        columns: vec!["what", "value"],
        rows,
    }
}

fn assumed(assumed: &Assumed) -> Table {
    let row = |what: &str, value: f64| vec![what.to_owned(), format!("{value}")];
    Table {
        name: "assumed",
        caption: "What is assumed for it".to_owned(),
        columns: vec!["what", "value"],
        rows: vec![
            row("users", assumed.users),
            row("share of them online at a time", assumed.online),
            row("hours of a session", assumed.session),
            row("servers of the table per user", assumed.servers),
            row("contacts away for all of a session", assumed.contacts_away),
            row(
                "looks for each of them in an hour (dht/pace.rs)",
                (assumed.looks_per_contact * 100.0).round() / 100.0,
            ),
            row("publications of presence in an hour (dht/pace.rs)", assumed.publications),
            row("looks for mail in an hour (core/mailbox/places.rs)", assumed.mail_checks),
            row("letters in an hour to people who are away", assumed.letters),
            row("hours that a letter waits", assumed.letter_waits),
            row("bytes of a question and its answer, with its connection", assumed.question),
            row("wake-ups of a question at either end", assumed.wakes),
            row("values of a user", assumed.values),
            row("bytes of a record", assumed.record),
            row("bytes of a letter", assumed.letter),
            row("bytes of an entry of a routing table", assumed.entry),
            row("values that a store holds at most (node/src/run.rs)", assumed.bound),
        ],
    }
}

const PUBLISHED: [Published; 4] = [
    Published {
        system: "BitTorrent Mainline DHT, millions of nodes",
        what: "look-up latency",
        figure: "median 100 to 200 ms with changed clients that keep connections open; others seconds",
        source: "Jimenez, Osmani, Knutsson, Sub-Second Lookups on a Large-Scale Kademlia-Based Overlay, P2P 2011",
        read: true,
    },
    Published {
        system: "Azureus DHT, a million nodes a day",
        what: "look-up latency",
        figure: "a changed look-up is ten times as fast in the median",
        source: "Falkner, Piatek, John, Krishnamurthy, Anderson, Profiling a Million User DHT, IMC 2007",
        read: true,
    },
    Published {
        system: "IPFS",
        what: "look-ups from Europe",
        figure: "80 % within 500 ms; publications had a median of six to seven seconds in 2023",
        source: "Trautwein, Design and Evaluation of IPFS, talk at IETF 118; paper: SIGCOMM 2022",
        read: false,
    },
    Published {
        system: "IPFS",
        what: "sessions of nodes",
        figure: "half of the new ones leave within two hours",
        source: "ProbeLab, RFM 2, Uptime and Churn, 2022",
        read: true,
    },
];
