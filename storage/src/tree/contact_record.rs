//! Signed contact records: the newest statement of each side for each direction, keyed by local user, other user
//! and slot. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A contact record exactly as it was signed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredContactRecord {
    /// Signed bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub record: Vec<u8>,
    /// Address under which the other user was known when the record came.
    #[prost(string, tag = "2")]
    pub address: String,
}

impl Stored for StoredContactRecord {
    const TREE: Tree = Tree::ContactRecord;
    const VERSION: u8 = 1;
}

/// Key of a record; `slot` says who made which statement.
pub fn key(local: &[u8; 32], other: &[u8; 32], slot: u8) -> Vec<u8> {
    let mut key = [&local[..], &other[..]].concat();
    key.push(slot);
    key
}
