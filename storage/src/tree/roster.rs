//! Contact lists: one entry per contact, keyed by local user and bare JID. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A contact, or the tombstone of one. Its subscription is not here: it is derived from contact records.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RosterItem {
    /// Bare JID as the client knows it.
    #[prost(string, tag = "1")]
    pub jid: String,
    /// Name given by the user.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Groups.
    #[prost(string, repeated, tag = "3")]
    pub groups: Vec<String>,
    /// The contact's user key, once its address is known to belong to it.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub user: Option<Vec<u8>>,
    /// Subscription requests are granted before they come (RFC 6121 §3.4).
    #[prost(bool, tag = "5")]
    pub approved: bool,
    /// Removed; kept for roster versioning and for merging.
    #[prost(bool, tag = "6")]
    pub removed: bool,
    /// Version of the contact list that this entry was last changed in.
    #[prost(uint64, tag = "7")]
    pub version: u64,
    /// Hybrid logical clock of the last edit: milliseconds.
    #[prost(uint64, tag = "8")]
    pub edited_millis: u64,
    /// Hybrid logical clock of the last edit: counter.
    #[prost(uint32, tag = "9")]
    pub edited_counter: u32,
    /// Device of the last edit.
    #[prost(bytes = "vec", tag = "10")]
    pub edited_by: Vec<u8>,
}

impl Stored for RosterItem {
    const TREE: Tree = Tree::Roster;
    const VERSION: u8 = 1;
}

/// Key of a contact.
pub fn key(user: &[u8; 32], jid: &str) -> Vec<u8> {
    [&user[..], jid.as_bytes()].concat()
}
