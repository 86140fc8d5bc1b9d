//! The distributed hash table, as far as it needs no network: what stands where, what counts, what a node holds. *Pure.*
//!
//! | file | owns |
//! | --- | --- |
//! | `key` | the key of each kind of value; where keys and nodes lie in the table |
//! | `value` | values: verified against their key, merged, encoded |
//! | `store` | what this node holds for others, bounded |
//! | `pace` | how often where people are is told and asked |
//!
//! Two tables exist side by side: one among private addresses, one among public ones. A query goes to both.

mod key;
mod pace;
mod store;
mod value;

pub use key::{Distance, Key, Position};
pub use pace::{CONTACT, PRESENCE_AGAIN, Pace, RECIPIENT};
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

/// Copies of a value, and nodes that a look-up ends with.
pub const COPIES: usize = 8;
/// Nodes asked at a time by a look-up.
pub const PARALLEL: usize = 4;
/// Nodes of a bucket.
pub const BUCKET: usize = 8;

/// What is asked of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The values at a key.
    Get(Key),
    /// The same, node by node and with [`Trace::path`]: for a person who wants to see the way.
    Walk(Key),
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

impl Query {
    /// Around which key, if it is about one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get(key) | Self::Walk(key) | Self::Closest(key) | Self::Put { key, .. } => Some(key),
            Self::Node(_) => None,
        }
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Requests sent.
    pub asked: u32,
    /// Requests answered.
    pub answered: u32,
    /// Requests that failed.
    pub failed: u32,
    /// Milliseconds until the answer.
    pub millis: u64,
    /// Of a [`Query::Walk`]: each node that was asked, in this order.
    pub path: Vec<Asked>,
}

impl Trace {
    /// How far it was to the first value that counts: 1 if a node that was known gave it, one more for each that had to be
    /// named by another. Nothing if none came from another node.
    pub fn hops(&self) -> Option<u32> {
        let good = self.path.iter().filter(|asked| asked.reply == Reply::Good);
        good.min_by_key(|asked| asked.millis).map(|asked| asked.hops)
    }
}

/// A node that was asked on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub node: NodeId,
    /// Who named it; nobody: it stood in a table of this node.
    pub told_by: Option<NodeId>,
    /// 1 for those that stood in a table, one more than who named it for the others.
    pub hops: u32,
    /// When its answer came, milliseconds after the beginning.
    pub millis: u64,
    /// What it said.
    pub reply: Reply,
}

/// What a node said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value that counts.
    Good,
    /// A value that does not.
    Bad,
    /// So many nodes that are closer, and no value.
    Closer(usize),
    /// No answer, or none before others had answered.
    Nothing,
}
