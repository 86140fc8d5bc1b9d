//! Block lists (XEP-0191), keyed by local user and JID. *Pure.*

use crate::Tree;
use crate::codec::Stored;
use crate::tree::roster::Edit;

/// A blocked address.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Blocked {
    /// Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub since: u64,
    /// When it was blocked or unblocked; absent in what was stored before there were several devices.
    #[prost(message, optional, tag = "2")]
    pub edit: Option<Edit>,
    /// Unblocked again; kept for merging.
    #[prost(bool, tag = "3")]
    pub lifted: bool,
}

impl Stored for Blocked {
    const TREE: Tree = Tree::Block;
    const VERSION: u8 = 1;
}

/// Key of a blocked address.
pub fn key(user: &[u8; 32], jid: &str) -> Vec<u8> {
    [&user[..], jid.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    /// Bytes as they were written before there were several devices: still read; and as they are now.
    #[test]
    fn golden_bytes() {
        let old = b"\x01\x08\x05";
        let blocked = Blocked { since: 5, ..Blocked::default() };
        assert_eq!(decode::<Blocked>(old), Ok(blocked.clone()));
        assert_eq!(encode(&blocked), old);
        let lifted = Blocked { edit: Some(Edit { millis: 6, ..Edit::default() }), lifted: true, ..blocked };
        let new = [&old[..], b"\x12\x02\x08\x06\x18\x01"].concat();
        assert_eq!(encode(&lifted), new);
        assert_eq!(decode::<Blocked>(&new), Ok(lifted));
    }
}
