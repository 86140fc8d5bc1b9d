//! The hash table as the core sees it: keys, questions and answers. *Pure.*

use sha2::{Digest as _, Sha256};

use crate::id::{NodeId, UserId};

/// Where something stands in the hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The place of a user's mailbox. No value stands there: the nodes closest to it hold what waits for the user.
    pub fn mailbox(user: &UserId) -> Self {
        let hash = Sha256::new_with_prefix(b"crosstalk/1/dht/mailbox\0").chain_update(user.as_bytes());
        Self(hash.finalize().into())
    }
}

/// What the core wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The nodes that are closest to a key.
    Closest(Key),
}

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nodes with their addresses, the closest first.
    Nodes(Vec<(NodeId, Vec<String>)>),
    /// Nobody answered.
    Failed,
}
