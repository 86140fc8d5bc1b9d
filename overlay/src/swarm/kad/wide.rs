//! Keys that somebody has surrounded. Node ids cost nothing, so as many as one likes can be made that lie closer to a key than
//! any honest node does: these would then be its holders. But then they lie denser there than nodes lie anywhere, and how
//! dense that is, a node sees around itself. Where the eight nodes closest to a key lie within a third of what that leads
//! one to expect, what came of a query does not count as its end: values go to, and are asked of, all nodes out to twice the
//! distance that eight honest ones take up; mail goes to those of the outer part first.
//!
//! By chance alone it looks like that to one query in sixty, which then costs some forty questions. Of nodes of one network two
//! are asked before those of others, so it takes more than thirty identities in fifteen networks to hide a key still; or to
//! crowd around all nodes that look for it.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::kad::{GetClosestPeersError, GetRecordError, PeerInfo, QueryResult};

use super::super::address;
use super::Parts;
use super::query::Tables;
use super::shape::COPIES;
use super::table::Table;
use crate::dht::{self, Position, Query};
use crate::id::NodeId;

/// Nodes that have to answer: thirty of somebody's, and some honest ones.
pub(super) const WIDTH: usize = 40;
/// How much denser than around ourselves is suspicious.
const DENSER: u64 = 3;

/// How far the eight nodes reach that are closest to us. Nothing: there are not so many.
fn reach(table: &Table) -> Option<u64> {
    let here = table.position()?;
    let mut distances: Vec<u64> =
        table.members().filter_map(|(peer, _)| Some(here.distance(&place(peer)?).magnitude())).collect();
    distances.sort_unstable();
    distances.get(COPIES.get() - 1).copied()
}

fn place(peer: &PeerId) -> Option<Position> {
    address::node(peer).map(|node| Position::of_node(&node))
}

/// Whether the nodes that a query of libp2p-kad ended with crowd around its key.
pub(super) fn is_crowded(query: &Query, result: &QueryResult, table: &Table) -> bool {
    let closest: Vec<&PeerId> = match result {
        QueryResult::GetClosestPeers(Ok(closest)) => closest.peers.iter().map(|info| &info.peer_id).collect(),
        QueryResult::GetClosestPeers(Err(GetClosestPeersError::Timeout { peers, .. })) => {
            peers.iter().map(|info| &info.peer_id).collect()
        }
        QueryResult::GetRecord(Err(GetRecordError::NotFound { closest_peers, .. })) => {
            closest_peers.iter().collect()
        }
        _ => return false,
    };
    query.key().is_some_and(|key| are_crowded(&key.position(), closest, table))
}

/// Whether these nodes, which are the closest to a place, crowd around it.
pub(super) fn are_crowded<'a>(
    at: &Position,
    closest: impl IntoIterator<Item = &'a PeerId>,
    table: &Table,
) -> bool {
    let mut distances: Vec<u64> =
        closest.into_iter().filter_map(|peer| Some(at.distance(&place(peer)?).magnitude())).collect();
    distances.sort_unstable();
    let (Some(expected), Some(found)) = (reach(table), distances.get(COPIES.get() - 1)) else { return false };
    found.saturating_mul(DENSER) < expected
}

/// How far out to go.
pub(super) fn radius(parts: &mut Parts) -> u64 {
    let reaches = [dht::Table::Lan, dht::Table::Wan].map(|kind| reach(parts.table(kind)));
    reaches.into_iter().flatten().max().unwrap_or(u64::MAX).saturating_mul(2)
}

/// Those first of whom nobody can be many: from a quarter of the radius on outwards, then the others.
pub(super) fn from_outside(
    at: &Position,
    nodes: BTreeMap<dht::Table, Vec<PeerInfo>>,
    radius: u64,
) -> Vec<(NodeId, Vec<String>)> {
    let mut known: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for PeerInfo { peer_id, addrs } in nodes.into_values().flatten() {
        if let Some(node) = address::node(&peer_id) {
            known.entry(node).or_default().extend(addrs.iter().map(ToString::to_string));
        }
    }
    let mut nodes: Vec<(NodeId, Vec<String>)> = known.into_iter().collect();
    nodes.sort_by_key(|(node, _)| {
        let distance = at.distance(&Position::of_node(node));
        (distance.magnitude() < radius / 4, distance)
    });
    nodes
}
