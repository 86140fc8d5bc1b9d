//! Block lists (XEP-0191), keyed by local user and JID. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A blocked address.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Blocked {
    /// Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}

impl Stored for Blocked {
    const TREE: Tree = Tree::Block;
    const VERSION: u8 = 1;
}

/// Key of a blocked address.
pub fn key(user: &[u8; 32], jid: &str) -> Vec<u8> {
    [&user[..], jid.as_bytes()].concat()
}
