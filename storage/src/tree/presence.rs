//! Signed presence records: own, and the last of each contact with its age, keyed by user and device. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A presence record exactly as it was signed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredPresence {
    /// Signed bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub record: Vec<u8>,
    /// When it was made or came, unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub seen: u64,
}

impl Stored for StoredPresence {
    const TREE: Tree = Tree::Presence;
    const VERSION: u8 = 1;
}

/// Key of a record.
pub fn key(user: &[u8; 32], device: &[u8; 32]) -> Vec<u8> {
    [&user[..], &device[..]].concat()
}
