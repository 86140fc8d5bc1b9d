//! The paper's load on this program, Prosody and ejabberd, one server and two, as `simulations/bench/side-by-side` measured it last.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Shape, Table};

/// The file that the benchmark writes.
const FILE: &str = "side-by-side.json";
/// Delay that the paper's gateway added at most, milliseconds.
const PAPER: f64 = 15.0;

#[derive(Deserialize)]
struct Measured {
    machine: String,
    clients: u32,
    message_bytes: u32,
    seconds: u32,
    rows: Vec<Row>,
}

/// A run, flat as the benchmark writes it.
#[derive(Deserialize)]
struct Row {
    server: String,
    #[serde(default)]
    version: String,
    setup: String,
    mode: String,
    run: String,
    #[serde(default)]
    confined: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(rename = "messages.latency.p50_us", default)]
    p50: Option<f64>,
    #[serde(rename = "messages.latency.p95_us", default)]
    p95: Option<f64>,
    #[serde(rename = "messages.latency.p99_us", default)]
    p99: Option<f64>,
    #[serde(rename = "messages.latency.max_us", default)]
    max: Option<f64>,
    #[serde(rename = "messages.delivered_per_second", default)]
    delivered: Option<f64>,
    #[serde(rename = "messages.lost", default)]
    lost: Option<u64>,
    #[serde(rename = "messages.bounced", default)]
    bounced: Option<u64>,
    #[serde(rename = "messages.withheld", default)]
    withheld: Option<u64>,
    #[serde(rename = "messages.server_cpu_us", default)]
    cpu: Option<f64>,
    #[serde(rename = "messages.other_cpu_percent", default)]
    others: Option<f64>,
    #[serde(default)]
    highest_mib: Option<f64>,
}

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    chapter.title = "Side by side with Prosody and ejabberd".to_owned();
    chapter.published = PUBLISHED.to_vec();
    match pace.measured::<Measured>(FILE) {
        Ok(Some(measured)) => show(chapter, &measured),
        Ok(None) => chapter.text.push(format!(
            "Not measured here yet: simulations/bench/side-by-side --paper writes {FILE} in a quarter of an hour, and this chapter shows it. \
             Figures of an earlier run stand in ARCHITECTURE.md, Measured."
        )),
        Err(why) => {
            chapter.cut = true;
            chapter.text.push(format!("What was measured cannot be read: {why}"));
        }
    }
}

fn show(chapter: &mut Chapter, measured: &Measured) {
    let confined: Vec<&str> = measured.rows.iter().filter_map(|row| row.confined.as_deref()).collect();
    let confined = confined.iter().enumerate().filter(|(index, it)| !confined[..*index].contains(it));
    chapter.text = vec![
        format!(
            "{}. {} clients, each sends a message of {} characters a second to one other client ({} a second in all), then to 20 others \
             ({} a second), for {} s. The paper leaves open which of the two it means. Servers are confined to: {}; the load program has \
             a CPU of its own.",
            measured.machine,
            measured.clients,
            measured.message_bytes,
            measured.clients,
            measured.clients * 20,
            measured.seconds,
            confined.map(|(_, it)| *it).collect::<Vec<_>>().join("; "),
        ),
        "Delay counts from when a message was due to when its reader has it, so a server that falls behind cannot hide it; what the \
         load program adds itself stands in the rows without a server. One: all clients on one server. Two: half of the clients on \
         each of two that federate, every message crosses. Two Prosodys and two ejabberds speak by server dialback without TLS and \
         acknowledge nothing to each other; two CrossTalk nodes seal each message for its reader, sign it, and have it on both disks. \
         plain: as clients without XEP-0198 use it; sm: with it, where a CrossTalk node has each message on disk before it says so."
            .to_owned(),
    ];
    chapter.text.extend(measured.rows.iter().filter_map(|row| {
        row.error.as_ref().map(|why| format!("Failed: {} {} {}: {why}", row.server, row.setup, row.run))
    }));
    chapter.tables.push(table(measured));
    chapter.plots.push(plot(measured));
}

fn paced(measured: &Measured) -> impl Iterator<Item = &Row> {
    measured.rows.iter().filter(|row| row.p99.is_some() && row.run.contains("a second"))
}

fn table(measured: &Measured) -> Table {
    let millis = |us: Option<f64>| us.map_or("–".to_owned(), |us| format!("{:.2}", us / 1e3));
    let one = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}"));
    let count = |value: Option<u64>| value.map_or("–".to_owned(), |value| value.to_string());
    let row = |row: &Row| {
        vec![
            format!("{} {}", row.server, row.version).trim().to_owned(),
            row.setup.clone(),
            row.mode.clone(),
            row.run.clone(),
            millis(row.p50),
            millis(row.p95),
            millis(row.p99),
            millis(row.max),
            row.delivered.map_or("–".to_owned(), |delivered| format!("{delivered:.0}")),
            count(row.lost),
            count(row.bounced),
            count(row.withheld),
            one(row.cpu),
            one(row.highest_mib),
            one(row.others),
        ]
    };
    Table {
        name: "loads",
        caption: "Added delay in milliseconds; CPU in microseconds for each message that came, of all servers together; memory of the \
                  larger server at its highest; well above 0 % of other programs' CPU a run is disturbed"
            .to_owned(),
        columns: vec![
            "server",
            "how many",
            "mode",
            "load",
            "p50",
            "p95",
            "p99",
            "max",
            "came a second",
            "lost",
            "refused",
            "not sent: full",
            "CPU, µs",
            "memory, MiB",
            "other CPU, %",
        ],
        rows: paced(measured).map(row).collect(),
    }
}

/// The 50th, 95th and 99th percentile and the maximum of the gentler load, by server and setup.
fn plot(measured: &Measured) -> Plot {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for row in paced(measured).filter(|row| row.run == "one a second to 1" && row.mode == "plain") {
        let label = if row.version.is_empty() {
            row.server.clone()
        } else {
            format!("{}, {}", row.server, row.setup)
        };
        let values = [row.p50, row.p95, row.p99, row.max].into_iter().zip([50.0, 95.0, 99.0, 100.0]);
        let points = values.filter_map(|(us, percent)| Some((percent, us? / 1e3))).collect();
        lines.insert(label.clone(), Line { label, points, shape: Shape::Joined });
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    lines.push(Line {
        label: "the paper: 15 ms".to_owned(),
        points: vec![(50.0, PAPER), (100.0, PAPER)],
        shape: Shape::Dashed,
    });
    Plot {
        name: "delay",
        caption: format!(
            "Added delay at {} messages a second, clients without XEP-0198: median, 95th, 99th percentile, maximum",
            measured.clients
        ),
        x: Axis::linear("percentile"),
        y: Axis::logarithmic("milliseconds"),
        lines,
    }
}

const PUBLISHED: [Published; 2] = [
    Published {
        system: "CrossTalk, the paper",
        what: "delay that its gateway adds, 520 clients that send a message of 150 characters a second to 20 others",
        figure: "below 15 ms for every pair of networks",
        source: "the paper's evaluation, on a Pentium 4 of 3.2 GHz with 1 GB",
        read: true,
    },
    Published {
        system: "AIM, Jabber, MSN, Yahoo",
        what: "time of a message in the server, average",
        figure: "5.6, 8.6, 229.1, 7.5 ms",
        source: "the paper's Table 1: difference of a message's round trip (101.6, 86.6, 283.5, 82.5 ms) and the network's (96.0, 78.0, 54.5, 75.0 ms), \
                 100 times an hour for a day; these services are gone, so this is quoted",
        read: true,
    },
];
