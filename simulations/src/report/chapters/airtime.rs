//! What nodes put on the air: how much, for what, and what the least would be.

use std::collections::BTreeMap;

use super::super::lived::marks;
use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Runs, Shape, Table};
use crate::world::Traffic;

/// Bits a second of multicast on the slowest Wi-Fi, which all have to understand (802.11b, 1 Mbit/s).
const SLOWEST: f64 = 1e6;
/// Its long preamble and header, seconds (802.11b, 192 µs).
const PREAMBLE: f64 = 192e-6;
/// Bytes of an announcement with all headers, as the world counts one.
const ANNOUNCEMENT: f64 = 532.0;
/// Announcements of a node in an hour: libp2p-mdns asks once a minute, and each who hears it answers.
const ASKED: f64 = 60.0;
/// Bytes of a packet with headers and the acknowledgement that it brings about, as the world counts them.
const PACKET: f64 = 132.0;
/// Bytes of a message of two words as an element, which has to go somehow.
const STANZA: f64 = 200.0;

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Airtime".to_owned();
    let announcement = ANNOUNCEMENT * 8.0 / SLOWEST + PREAMBLE;
    chapter.text = vec![
        format!(
            "Packets and bytes between nodes with all headers and TCP's acknowledgements, what is sent again on a bad channel too; \
             what all hear is counted once. The share of a channel is that of 1 Mbit/s, at which the slowest Wi-Fi sends multicast. \
             The bound for being seen: one announcement takes {:.1} ms of such a channel; of each node one a minute is {:.3} % of it.",
            announcement * 1e3,
            announcement * ASKED / 3_600.0 * 100.0,
        ),
        format!(
            "The bound for a message: its {STANZA:.0} bytes in one packet, and one packet back that says it is safe, {:.0} bytes in all. \
             What comes on top is sealing and signing (certificates of the sender's device, signature, receipt), and sending again \
             where the link was lost.",
            STANZA + 2.0 * PACKET,
        ),
        "Announcements of XEP-0174 are not in it: nobody on a simulated link speaks it. On real sockets, both together, idle, a link \
         of 10, 25 and 50 nodes hears 68, 176 and 358 bytes a second by multicast, libpurple's 775, 4,660 and 24,510 \
         (simulations/bench/link-airtime)."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.tables.push(kinds(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
    chapter.published = PUBLISHED.to_vec();
}

/// Nodes that were awake at a time, on average.
fn awake(runs: &Runs) -> f64 {
    runs.node_hours() / (runs.lasted as f64 / 3_600_000.0).max(1e-9)
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let (total, hours) = (runs.sent(), runs.node_hours());
        let messages = runs.figures.traffic.get("messages and receipts").copied().unwrap_or_default();
        let each = messages.bytes as f64 / runs.came().max(1) as f64;
        vec![
            runs.scenario.name.to_owned(),
            format!("{:.1}", awake(runs)),
            format!("{:.0}", total.packets as f64 / hours),
            format!("{:.1}", total.bytes as f64 / hours / 1e3),
            format!("{:.3}", total.bytes as f64 / hours * awake(runs) / 3_600.0 * 8.0 / SLOWEST * 100.0),
            format!("{each:.0}"),
            format!("{:.1}", each / (STANZA + 2.0 * PACKET)),
        ]
    };
    Table {
        name: "scenarios",
        caption: "What is sent".to_owned(),
        columns: vec![
            "scenario",
            "nodes awake at a time",
            "packets in an hour of a node",
            "kB in an hour of a node",
            "share of a channel of 1 Mbit/s, all nodes, %",
            "bytes of frames for a message that came",
            "times the least",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn kinds(all: &[Runs]) -> Table {
    let mut sums: BTreeMap<&str, Traffic> = BTreeMap::new();
    for (kind, traffic) in all.iter().flat_map(|runs| &runs.figures.traffic) {
        *sums.entry(kind).or_default() += *traffic;
    }
    let hours: f64 = all.iter().map(Runs::node_hours).sum::<f64>().max(1e-9);
    let bytes: u64 = sums.values().map(|traffic| traffic.bytes).sum();
    let row = |(kind, traffic): (&&str, &Traffic)| {
        vec![
            (*kind).to_owned(),
            format!("{:.1}", traffic.packets as f64 / hours),
            format!("{:.2}", traffic.bytes as f64 / hours / 1e3),
            format!("{:.1}", traffic.bytes as f64 * 100.0 / bytes.max(1) as f64),
        ]
    };
    Table {
        name: "kinds",
        caption: "What it is for, over all scenarios".to_owned(),
        columns: vec!["what", "packets in an hour of a node", "kB in an hour of a node", "share, %"],
        rows: sums.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let points =
        marks(all.iter(), |runs| (awake(runs), runs.sent().bytes as f64 / runs.node_hours() / 3_600.0));
    let bound = points.iter().map(|(nodes, _)| (*nodes, ANNOUNCEMENT * ASKED / 3_600.0)).collect();
    Plot {
        name: "bytes",
        caption:
            "Bytes that a node sends, each scenario a mark; the dashed line is one announcement a minute, \
                  which whoever is alone need not make"
                .to_owned(),
        x: Axis::logarithmic("nodes awake at a time"),
        y: Axis::logarithmic("bytes a second of a node"),
        lines: vec![
            Line { label: "all that is sent".to_owned(), points, shape: Shape::Marks },
            Line { label: "least: to be seen".to_owned(), points: bound, shape: Shape::Dashed },
        ],
    }
}

const PUBLISHED: [Published; 3] = [
    Published {
        system: "OLPC XO, mesh of 802.11s",
        what: "laptops in one room that it carries",
        figure: "less than 30",
        source: "lists.laptop.org, devel, August 2010, message 29557",
        read: false,
    },
    Published {
        system: "IPFS (go-ipfs 0.4)",
        what: "traffic of an idle node",
        figure: "58 GB in a week, which is 96 kB a second",
        source: "github.com/ipfs/kubo/issues/2917",
        read: true,
    },
    Published {
        system: "LXMF (Reticulum)",
        what: "overhead of a message",
        figure: "111 bytes",
        source: "github.com/markqvist/LXMF, README",
        read: true,
    },
];
