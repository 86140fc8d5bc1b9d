//! The distributed hash table, as far as it needs no network: what stands where, what counts, what a node holds. *Pure.*
//!
//! | file | owns |
//! | --- | --- |
//! | `key` | the key of each kind of value; where keys and nodes lie in the table |
//! | `value` | values: verified against their key, merged, encoded |
//! | `store` | what this node holds for others, bounded |
//!
//! Two tables exist side by side: one among private addresses, one among public ones. A query goes to both.

mod key;
mod store;
mod value;

pub use key::{Distance, Key, Position};
pub use store::{Change, Put, Store, StoreLimits};
#[cfg(all(test, feature = "swarm"))]
pub(crate) use value::testing;
pub use value::{MAX_NAME_LIFE, MAX_VALUE, Refused, Value};

use crate::id::NodeId;

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `/crosstalk/lan/kad/1`: private and link-local addresses.
    Lan,
    /// `/crosstalk/kad/1`: public addresses.
    Wan,
}

/// What is asked of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The values at a key.
    Get(Key),
    /// The nodes that are closest to a key.
    Closest(Key),
    /// The nodes that are closest to where a node lies: that one itself, if it is there.
    Node(NodeId),
    /// Put a value at its key.
    Put {
        /// Where.
        key: Key,
        /// An encoded [`Value`].
        value: Vec<u8>,
        /// When our own copy may be forgotten at the latest, Unix milliseconds.
        expires_wall: u64,
    },
}

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Distinct values that were found, at most 8 of each table. The swarm has verified them, without knowing what the
    /// core knows of revocations: verify them again with [`Value::verify`].
    Values(Vec<Vec<u8>>),
    /// Nodes, the closest first, with multiaddresses.
    Nodes(Vec<(NodeId, Vec<String>)>),
    /// As many other nodes said that they hold the value now.
    Stored(usize),
    /// Not asked: too many queries wait, or the value is not one that belongs at its key.
    Failed,
}

/// How a query went, in both tables together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Requests sent.
    pub asked: u32,
    /// Requests answered.
    pub answered: u32,
    /// Requests that failed.
    pub failed: u32,
    /// Milliseconds until the answer.
    pub millis: u64,
}
