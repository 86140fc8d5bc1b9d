//! The model beside real swarms of the same size: what it can be trusted with. *Pure.*

use serde::Serialize;

use super::{Figures, HOUR, Manner, Replication, Sessions, Setting};

/// Look-ups of a crowd of real swarms (`overlay/tests/swarm_crowd.rs`), or of nodes in network namespaces (`simulations/bench/crowd`).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Nodes in the process.
    pub nodes: u32,
    /// Whether half of them were being replaced.
    pub churn: bool,
    /// The share of look-ups that found the record.
    pub success: f64,
    /// Hops to the first node that had it, on average, without those look-ups whose asker held it; nothing if only their
    /// range was written down.
    pub hops: Option<f64>,
    /// Nodes asked.
    pub asked: f64,
    /// Where that is written down.
    pub source: &'static str,
}

/// One size beside the model.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The real swarms.
    pub measured: Measured,
    /// The model of the same.
    pub success: f64,
    /// The same as [`Measured::hops`].
    pub hops: f64,
    /// Nodes asked.
    pub asked: f64,
}

/// What the crowds of `simulations/test crowd` and `simulations/bench/crowd` did.
pub const CROWDS: &[Measured] = &[
    crowd(24, false, Some(1.0), 8.4, "CROWD=24, 24 look-ups, development build, 23 November 2026"),
    crowd(24, true, Some(1.04), 8.6, "the same run, 200 look-ups"),
    crowd(200, false, None, 11.0, "ARCHITECTURE.md, Measured: one to three hops, 200 look-ups"),
    crowd(200, true, None, 11.0, "the same, 200 look-ups"),
    crowd(50, false, Some(1.04), 8.8, MEASURED_APART),
    crowd(50, true, Some(1.00), 10.9, MEASURED_APART),
];

/// Where the figures of nodes in namespaces come from, which a report replaces by those of its own machine.
pub const MEASURED_APART: &str =
    "simulations/bench/crowd, 50 nodes in namespaces, 200 look-ups, 23 November 2026";

const fn crowd(nodes: u32, churn: bool, hops: Option<f64>, asked: f64, source: &'static str) -> Measured {
    Measured { nodes, churn, success: 1.0, hops, asked, source }
}

/// What the model leaves out of a crowd, or does otherwise.
pub const DIFFERENCES: &[&str] = &[
    "the crowd's nodes share one process and two cores: its times are those of the processor, the model's those of a network, so times are not compared",
    "who is replaced in the crowd never comes back, and the newcomer knows three nodes; in the model everybody comes back and knows eight",
    "in the crowd a node that holds the record itself is asked too, and counts as no hop; the model always asks others",
    "nodes in namespaces have processes and TCP of their own, know each other nearly all; where half of them are replaced that is within a minute and a half, so nothing is replicated in between, and the model takes three hours; their bytes are those of everything on the cable, in the second and third minute of their life, the model's those of questions of the hash table in the long run",
    "the crowd's hours are shortened to seconds, its connections and its 0.4 s for contradiction are not: a dead node is noticed sooner by the clock that counts",
];

/// The model of that crowd. Half of its nodes are replaced within three hours, which is a session of which half last as long;
/// a quarter is away meanwhile.
pub fn setting(measured: &Measured) -> Setting {
    let sessions = match measured.churn {
        true => Sessions { shape: 1.0, median: 3.0 * HOUR as f64, availability: 0.75 },
        false => Sessions::STEADY,
    };
    Setting {
        records: measured.nodes,
        lookups: 2_000,
        letters: 200,
        round_trip: 2.0,
        manner: Manner::Walk,
        refresh: HOUR,
        replication: Replication { replicate: HOUR, ..Replication::default() },
        ..Setting::new(measured.nodes, 3 * HOUR, sessions)
    }
}

/// The crowd beside its model.
pub fn compare(measured: Measured, figures: &Figures) -> Compared {
    Compared { measured, success: figures.success, hops: figures.first_hops.mean, asked: figures.asked.mean }
}
