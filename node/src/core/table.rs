//! What the swarm's hash table keeps on disk: values it holds for others, and nodes to come back by. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::dht::{Key, Table};
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::tree::table::{HeldValue, KnownNode, key};
use crosstalk_storage::{Contents, Tree, decode, encode};

use super::Core;
use super::load::unreadable;
use super::settings::LoadError;

/// Nodes that are remembered; the one not seen for longest goes.
const MAX_NODES: usize = 64;
/// With fewer than so many the next one is written at once.
const FEW: usize = 3;

/// When which node was there, unix milliseconds.
pub(super) type Nodes = BTreeMap<NodeId, u64>;

/// What the store held, for the swarm to begin with.
#[derive(Debug, Default)]
pub struct Memory {
    /// Values: table, key, value, and when it ends (unix milliseconds).
    pub values: Vec<(Table, Key, Vec<u8>, u64)>,
    /// Addresses of nodes, with their peer ids: those seen last first.
    pub addresses: Vec<String>,
}

fn number(table: Table) -> u8 {
    match table {
        Table::Lan => 1,
        Table::Wan => 2,
    }
}

/// Reads what was kept. `peer_id`: the libp2p peer id of a node, as text.
///
/// # Errors
/// When a stored value cannot be read.
pub fn read(contents: &Contents, peer_id: impl Fn(&NodeId) -> Option<String>) -> Result<Memory, LoadError> {
    let mut memory = Memory::default();
    for (place, value) in contents.tree(Tree::Table) {
        let held: HeldValue = decode(value).map_err(|why| unreadable(Tree::Table, why.to_string()))?;
        let table = match place.first() {
            Some(1) => Table::Lan,
            Some(2) => Table::Wan,
            Some(_) | None => continue,
        };
        if let Some(key) = place.get(1..).and_then(Key::from_slice) {
            memory.values.push((table, key, held.value, held.ends));
        }
    }
    let mut nodes = Vec::new();
    for (node, value) in contents.tree(Tree::Node) {
        let known: KnownNode = decode(value).map_err(|why| unreadable(Tree::Node, why.to_string()))?;
        let peer = NodeId::from_slice(node).and_then(|node| peer_id(&node));
        nodes.extend(peer.map(|peer| (known.seen, peer, known.addresses)));
    }
    nodes.sort_by_key(|(seen, ..)| std::cmp::Reverse(*seen));
    let of = |(_, peer, addresses): (u64, String, Vec<String>)| {
        addresses.into_iter().map(move |address| format!("{address}/p2p/{peer}"))
    };
    memory.addresses = nodes.into_iter().flat_map(of).collect();
    Ok(memory)
}

impl Core {
    pub(super) fn load_nodes(&mut self, contents: &Contents) {
        for (node, value) in contents.tree(Tree::Node) {
            let known = decode::<KnownNode>(value).ok().map(|known| known.seen);
            if let (Some(node), Some(seen)) = (NodeId::from_slice(node), known) {
                self.nodes.insert(node, seen);
            }
        }
    }

    /// A value came, changed, or is gone.
    pub(super) fn held(&mut self, table: Table, place: Key, value: Option<(Vec<u8>, u64)>) {
        let place = key(number(table), place.as_bytes());
        match value {
            Some((value, ends)) => self.put_lazily(Tree::Table, place, encode(&HeldValue { value, ends })),
            None => self.delete_lazily(Tree::Table, place),
        }
    }

    /// These nodes are there.
    pub(super) fn members(&mut self, nodes: Vec<(NodeId, Vec<String>)>) {
        let seen = self.now.wall;
        for (node, addresses) in nodes {
            let (key, value) = (node.as_bytes().to_vec(), encode(&KnownNode { addresses, seen }));
            // The first ones are the way back in after a power cut.
            match self.nodes.len() < FEW {
                true => self.writes.put(Tree::Node, key, value),
                false => self.put_lazily(Tree::Node, key, value),
            }
            self.nodes.insert(node, seen);
        }
        while self.nodes.len() > MAX_NODES {
            let oldest = self.nodes.iter().min_by_key(|(_, seen)| **seen).map(|(node, _)| *node);
            let Some(oldest) = oldest else { return };
            self.nodes.remove(&oldest);
            self.delete_lazily(Tree::Node, oldest.as_bytes().to_vec());
        }
    }
}
