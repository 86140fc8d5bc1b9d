//! Messages held for local users until one of their clients has acknowledged them, keyed by user and number. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A held message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InboxEntry {
    /// The stanza as it is delivered, without delay stamp.
    #[prost(bytes = "vec", tag = "1")]
    pub stanza: Vec<u8>,
    /// Message id, 16 bytes: the XEP-0359 stanza id.
    #[prost(bytes = "vec", tag = "2")]
    pub message: Vec<u8>,
    /// When it arrived here, unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub arrived: u64,
    /// XEP-0198 session that it was handed to; empty if none.
    #[prost(bytes = "vec", tag = "4")]
    pub session: Vec<u8>,
    /// Its number in that session.
    #[prost(uint32, tag = "5")]
    pub sequence: u32,
}

impl Stored for InboxEntry {
    const TREE: Tree = Tree::Inbox;
    const VERSION: u8 = 1;
}

/// Key of a held message.
pub fn key(user: &[u8; 32], number: u64) -> Vec<u8> {
    [&user[..], &number.to_be_bytes()[..]].concat()
}
