//! Keys that somebody has surrounded. Node ids cost nothing, so as many as one likes can be made that lie closer to a key than
//! any honest node does: these would then be its holders. But then they lie denser there than nodes lie anywhere, and how
//! dense that is, a node sees around itself. Where the eight nodes closest to a key lie within a third of what that leads
//! one to expect, what came of a query does not count as its end: values go to, and are asked of, all nodes out to twice the
//! distance that eight honest ones take up; mail goes to those of the outer part and to the closest by turns.
//!
//! By chance alone it looks like that to one query in sixty, which then costs some forty questions. Of nodes of one network two
//! are asked before those of others, so it takes more than thirty identities in fifteen networks to hide a key still; or to
//! crowd around all nodes that look for it.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::kad::{self, GetClosestPeersError, GetRecordError, PeerInfo, QueryResult};

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

/// How far the eight nodes reach that are closest to us. Nothing: there are not so many, or we have not looked. Those that are
/// in the table lie farther away as long as it fills, and every key would look crowded.
fn reach(table: &Table) -> Option<u64> {
    let known = table.members().map(|(peer, _)| peer);
    let known = farthest(&table.position()?, known).unwrap_or(u64::MAX);
    table.reach.map(|looked| looked.min(known))
}

/// How far away the eighth of the nodes is, the closest first.
fn farthest<'a>(from: &Position, nodes: impl IntoIterator<Item = &'a PeerId>) -> Option<u64> {
    let mut distances: Vec<u64> =
        nodes.into_iter().filter_map(|peer| Some(from.distance(&place(peer)?).magnitude())).collect();
    distances.sort_unstable();
    distances.get(COPIES.get() - 1).copied()
}

/// What looking for ourselves has shown, if that is what has come to its end: how far the eight nodes reach that are closest.
pub(super) fn looked(event: &kad::Event, local: &PeerId) -> Option<Option<u64>> {
    let kad::Event::OutboundQueryProgressed { result: QueryResult::GetClosestPeers(result), .. } = event
    else {
        return None;
    };
    let (key, peers) = match result {
        Ok(found) => (&found.key, &found.peers),
        Err(GetClosestPeersError::Timeout { key, peers }) => (key, peers),
    };
    let here = place(local).filter(|_| *key == local.to_bytes())?;
    Some(farthest(&here, peers.iter().map(|info| &info.peer_id)))
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
    let (Some(expected), Some(found)) = (reach(table), farthest(at, closest)) else { return false };
    found.saturating_mul(DENSER) < expected
}

/// How far out to go.
pub(super) fn radius(parts: &mut Parts) -> u64 {
    let reaches = [dht::Table::Lan, dht::Table::Wan].map(|kind| reach(parts.table(kind)));
    reaches.into_iter().flatten().max().unwrap_or(u64::MAX).saturating_mul(2)
}

/// By turns those of whom nobody can be many, from a quarter of the radius on outwards, and those that are closest: who does
/// not find them crowded, as it sees less of them, has to come to some of the same.
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
    nodes.sort_by_key(|(node, _)| at.distance(&Position::of_node(node)));
    let is_inside = |(node, _): &(NodeId, _)| at.distance(&Position::of_node(node)).magnitude() < radius / 4;
    let (inside, outside): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_inside);
    let places = outside.into_iter().enumerate().map(|(place, node)| (2 * place, node));
    let mut places: Vec<_> =
        places.chain(inside.into_iter().enumerate().map(|(place, node)| (2 * place + 1, node))).collect();
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::ed25519_from_bytes([seed; 32]).expect("a key").public().to_peer_id()
    }

    #[test]
    fn outer_and_inner_nodes_take_turns() {
        let at = Position::of_node(&NodeId::from_bytes([7; 32]));
        let peers: Vec<PeerId> = (1..=9).map(peer).collect();
        let mut distances: Vec<u64> =
            peers.iter().map(|peer| at.distance(&place(peer).expect("Ed25519")).magnitude()).collect();
        distances.sort_unstable();
        let info = |peer: &PeerId| PeerInfo { peer_id: *peer, addrs: Vec::new() };
        let nodes = BTreeMap::from([(dht::Table::Wan, peers.iter().map(info).collect())]);
        // Three are inside.
        let found = from_outside(&at, nodes, distances[3].saturating_mul(4));
        let ranks: Vec<usize> = found
            .iter()
            .map(|(node, _)| at.distance(&Position::of_node(node)).magnitude())
            .map(|distance| distances.iter().position(|other| *other == distance).expect("known"))
            .collect();
        assert_eq!(ranks, [3, 0, 4, 1, 5, 2, 6, 7, 8]);
    }
}
