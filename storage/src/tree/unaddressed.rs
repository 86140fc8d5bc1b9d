//! Messages for names of which nobody here knows yet who has them, keyed by sending user and number. *Pure.*

use std::fmt;

use crate::Tree;
use crate::codec::Stored;

/// A message that waits for its address.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Unaddressed {
    /// The name, as a bare JID.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The stanza as the client sent it, with `from` and `to`.
    #[prost(bytes = "vec", tag = "2")]
    pub stanza: Vec<u8>,
    /// Message id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub message: Vec<u8>,
    /// When it was sent, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub since: u64,
}

impl fmt::Debug for Unaddressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unaddressed({} bytes since {})", self.stanza.len(), self.since)
    }
}

impl Stored for Unaddressed {
    const TREE: Tree = Tree::Unaddressed;
    const VERSION: u8 = 1;
}

/// Key of such a message; later ones have greater numbers.
pub fn key(user: &[u8; 32], number: u64) -> Vec<u8> {
    [&user[..], &number.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn golden_bytes() {
        let waiting = Unaddressed { name: "a@b".to_owned(), stanza: vec![60], message: vec![7], since: 5 };
        let bytes = b"\x01\x0a\x03a@b\x12\x01\x3c\x1a\x01\x07\x20\x05";
        assert_eq!(encode(&waiting), bytes);
        assert_eq!(decode::<Unaddressed>(bytes), Ok(waiting));
        assert_eq!(key(&[1; 32], 258)[32..], [0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
