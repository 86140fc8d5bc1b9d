//! What is modelled: how many nodes, how long, and by which rules of the overlay. *Pure.*

use crosstalk_overlay::dht::COPIES;

use super::{HOUR, MINUTE, Sessions};

/// What is modelled.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Servers of the table that are here at a time, on average.
    pub nodes: u32,
    /// Milliseconds of virtual time that are counted, after a quarter of it to settle.
    pub lasts: u64,
    /// The same seed is the same run.
    pub seed: u64,
    /// When nodes come and go.
    pub sessions: Sessions,
    /// Records in the sample, …
    pub records: u32,
    /// … look-ups of them, …
    pub lookups: u32,
    /// … and letters for people who are away.
    pub letters: u32,
    /// What keeps records alive.
    pub replication: Replication,
    /// Half of all pairs of nodes have a shorter round trip, milliseconds.
    pub round_trip: f64,
    /// How nodes are asked.
    pub manner: Manner,
    /// A node looks around so often, by turns near itself and anywhere (`swarm/kad/upkeep.rs`). Milliseconds.
    pub refresh: u64,
}

impl Setting {
    /// So many nodes, for so many milliseconds, as the overlay is, with round trips of 80 ms for half of all pairs.
    pub fn new(nodes: u32, lasts: u64, sessions: Sessions) -> Self {
        Self {
            nodes,
            lasts,
            seed: 0,
            sessions,
            records: 500,
            lookups: 20_000,
            letters: 2_000,
            replication: Replication::default(),
            round_trip: 80.0,
            manner: Manner::Get,
            refresh: 15 * MINUTE,
        }
    }
}

/// How a look-up asks nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As libp2p-kad: more at a time when nobody closer is named, and 10 s for a node that is gone.
    Get,
    /// As a look-up that shows its path (`swarm/kad/walk.rs`): always four at a time, and 1.5 s.
    Walk,
}

/// What keeps records alive. The default is what the overlay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Copies of a record, and nodes that a look-up ends with.
    pub copies: usize,
    /// A holder puts a record again if nobody did for so long (`swarm/kad/config.rs`). Milliseconds.
    pub replicate: u64,
    /// The owner puts it again (`core/publish.rs`). Milliseconds.
    pub republish: u64,
}

impl Default for Replication {
    fn default() -> Self {
        Self { copies: COPIES, replicate: HOUR, republish: 12 * HOUR }
    }
}
