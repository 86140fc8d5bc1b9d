//! What the hash table is told at its start.

use std::time::Duration;

use super::Networks;
use crate::dht::{self, Key, StoreLimits};
use crate::swarm::ReachConfig;

/// Whether others ask this node in the public table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DhtMode {
    /// As soon as an external address is confirmed.
    #[default]
    Auto,
    /// Never: about a tenth of the traffic.
    Client,
    /// Always: for nodes that others can reach for certain.
    Server,
}

/// What the hash table has to know.
#[derive(Debug, Clone)]
pub struct DhtConfig {
    /// Whether others ask this node in the public table. They always do in the private one.
    pub mode: DhtMode,
    /// Networks that count as public or private against what their addresses say.
    pub networks: Networks,
    /// What each of the two stores holds at most.
    pub store: StoreLimits,
    /// A value that nobody has put for so long is put again, to the nodes that are then closest. Default 1 hour.
    pub replicate: Duration,
    /// How often a node looks for new nodes, and whether the known ones are there. Default 15 minutes.
    pub refresh: Duration,
    /// What the disk held: table, key, value and its end (Unix milliseconds). Verified again.
    pub restored: Vec<(dht::Table, Key, Vec<u8>, u64)>,
    /// How others reach this node from beyond the link.
    pub reach: ReachConfig,
    /// Whether the tables sleep on a link until something speaks of a wider network; see `sleep`. Default false.
    pub asleep: bool,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            mode: DhtMode::Auto,
            networks: Networks::default(),
            store: StoreLimits::default(),
            replicate: Duration::from_secs(60 * 60),
            refresh: Duration::from_secs(15 * 60),
            restored: Vec::new(),
            reach: ReachConfig::default(),
            asleep: false,
        }
    }
}
