//! What the hash table has this node hold, keyed by table and key, and nodes to come back by. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A value of the hash table; verified again when loaded.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeldValue {
    /// As it was put.
    #[prost(bytes = "vec", tag = "1")]
    pub value: Vec<u8>,
    /// When it ends, unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub ends: u64,
}

/// A node of the hash table that was there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KnownNode {
    /// Multiaddresses.
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
    /// When it was there, unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub seen: u64,
}

impl Stored for HeldValue {
    const TREE: Tree = Tree::Table;
    const VERSION: u8 = 1;
}

impl Stored for KnownNode {
    const TREE: Tree = Tree::Node;
    const VERSION: u8 = 1;
}

/// Key of a value: the number of the table, then the value's key.
pub fn key(table: u8, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![table];
    bytes.extend_from_slice(key);
    bytes
}
