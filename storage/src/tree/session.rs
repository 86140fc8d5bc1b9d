//! Resumable sessions (XEP-0198), keyed by stream management id. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// What a session needs to be resumed after a restart. Its unacknowledged messages are inbox entries that name it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredSession {
    /// Local user.
    #[prost(bytes = "vec", tag = "1")]
    pub user: Vec<u8>,
    /// Resource.
    #[prost(string, tag = "2")]
    pub resource: String,
    /// Stanzas handled from the client.
    #[prost(uint32, tag = "3")]
    pub inbound: u32,
    /// Stanzas sent to the client.
    #[prost(uint32, tag = "4")]
    pub outbound: u32,
    /// Last presence stanza; empty if the session is not available.
    #[prost(bytes = "vec", tag = "5")]
    pub presence: Vec<u8>,
    /// Asked for the contact list.
    #[prost(bool, tag = "6")]
    pub interested: bool,
    /// Carbons enabled (XEP-0280).
    #[prost(bool, tag = "7")]
    pub carbons: bool,
    /// Asked for the block list (XEP-0191).
    #[prost(bool, tag = "8")]
    pub blocklist: bool,
    /// Neighbours that its client shows in "Nearby": user keys.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub neighbours: Vec<Vec<u8>>,
    /// Version of the contact list that its client has for certain.
    #[prost(uint64, tag = "10")]
    pub roster_known: u64,
}

impl Stored for StoredSession {
    const TREE: Tree = Tree::Session;
    const VERSION: u8 = 1;
}
