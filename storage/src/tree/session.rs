//! Resumable sessions (XEP-0198), keyed by stream management id. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// What a session needs to be resumed after a restart. Its unacknowledged held messages are inbox entries that name it.
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
    /// Other stanzas that its client has not acknowledged and could not get again, oldest first; at most 128 KiB.
    #[prost(message, repeated, tag = "11")]
    pub unacked: Vec<UnackedStanza>,
    /// Its requests that others have not answered, oldest first; at most 100.
    #[prost(message, repeated, tag = "12")]
    pub asked: Vec<AskedRequest>,
    /// People of XEP-0174 that its client shows in "Nearby": instance names.
    #[prost(string, repeated, tag = "13")]
    pub link_neighbours: Vec<String>,
}

/// A stanza on its way to a client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnackedStanza {
    /// Its number among those sent to the client.
    #[prost(uint32, tag = "1")]
    pub sequence: u32,
    /// As it is written.
    #[prost(bytes = "vec", tag = "2")]
    pub stanza: Vec<u8>,
}

/// An IQ request of a client that was acknowledged and is not answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AskedRequest {
    /// The client's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The address that it asked.
    #[prost(string, tag = "2")]
    pub to: String,
}

impl Stored for StoredSession {
    const TREE: Tree = Tree::Session;
    const VERSION: u8 = 1;
}
