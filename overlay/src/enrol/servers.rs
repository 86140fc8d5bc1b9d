//! The other servers of a domain, as one of them tells its laptops: any answers for the domain while they share a database
//! (`PROTOCOL.md` §13). *Pure.*

use std::collections::BTreeMap;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::id::NodeId;

/// Servers beside the one that answers.
pub const MAX_SERVERS: usize = 8;
/// Addresses of one.
pub const MAX_PLACES: usize = 8;
/// Bytes of one address.
pub const MAX_PLACE: usize = 128;

/// Where a server of a domain is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct ServerAt {
    /// Its node id.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// Multiaddresses, at most [`MAX_PLACES`].
    #[prost(string, repeated, tag = "2")]
    pub places: Vec<String>,
}

/// Servers beside the one that answers, at most [`MAX_SERVERS`], ascending by node id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Servers {
    /// Each once.
    #[prost(message, repeated, tag = "1")]
    pub servers: Vec<ServerAt>,
}

impl ServerAt {
    /// Of what is known of a server as much as is told and remembered.
    pub fn new(node: NodeId, places: Vec<String>) -> Self {
        Self { node: node.as_bytes().to_vec(), places: bounded_places(places) }
    }

    /// Its node id, if it is one.
    pub fn id(&self) -> Option<NodeId> {
        NodeId::from_slice(&self.node)
    }
}

impl Servers {
    /// Of a list as much as counts, beside one server: in order, each once; and how many were left out.
    pub fn beside(server: &NodeId, list: Vec<ServerAt>) -> (Self, usize) {
        let all = list.len();
        let mut known = BTreeMap::new();
        for one in list {
            if let Some(node) = one.id().filter(|node| node != server)
                && (known.len() < MAX_SERVERS || known.contains_key(&node))
            {
                known.entry(node).or_insert_with(|| ServerAt::new(node, one.places));
            }
        }
        let left_out = all - known.len();
        (Self { servers: known.into_values().collect() }, left_out)
    }

    /// By which a server sees that a laptop knows the list; empty for an empty one.
    pub fn digest(&self) -> Vec<u8> {
        match self.servers.is_empty() {
            true => Vec::new(),
            false => Sha256::digest(self.encode_to_vec())[..8].to_vec(),
        }
    }
}

/// Of the addresses of a server as many as are remembered.
pub fn bounded_places(places: Vec<String>) -> Vec<String> {
    places.into_iter().filter(|place| place.len() <= MAX_PLACE).take(MAX_PLACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_in_order_and_each_stands_there_once() {
        let node = |byte: u8| NodeId::from_bytes([byte; 32]);
        let at = |byte: u8, places: usize| ServerAt {
            node: vec![byte; 32],
            places: (0..places).map(|place| "x".repeat(120 + place)).collect(),
        };
        let short = ServerAt { node: vec![7; 31], ..ServerAt::default() };
        let list = vec![at(3, 12), at(1, 1), at(2, 0), short, at(3, 1)];
        let (servers, left_out) = Servers::beside(&node(1), list);
        let told: Vec<_> = servers.servers.iter().map(|one| (one.node[0], one.places.len())).collect();
        assert_eq!((told, left_out), (vec![(2, 0), (3, MAX_PLACES)], 3));
        assert!(servers.servers[1].places.iter().all(|place| place.len() <= MAX_PLACE));
        let (servers, left_out) = Servers::beside(&node(0), (1..=20).map(|byte| at(byte, 9)).collect());
        assert_eq!((servers.servers.len(), left_out), (MAX_SERVERS, 12));
        assert!(servers.encoded_len() <= 10_000, "it fits beside the rest of an answer");
        // The longest list is the same however often it is bounded.
        assert_eq!(Servers::beside(&node(0), servers.servers.clone()), (servers.clone(), 0));
        assert_ne!(servers.digest(), Servers::beside(&node(1), servers.servers).0.digest());
        assert_eq!(Servers::default().digest(), Vec::<u8>::new());
    }
}
