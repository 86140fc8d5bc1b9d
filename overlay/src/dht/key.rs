//! Keys of the hash table, and the distance between keys and nodes. *Pure.*

use std::fmt;

use sha2::{Digest, Sha256};

use crate::id::{AuthorityId, NodeId, PresenceId, UserId, hex};

const USER: &[u8] = b"crosstalk/1/dht/user";
const NAME: &[u8] = b"crosstalk/1/dht/name";
const PRESENCE: &[u8] = b"crosstalk/1/dht/presence";
const MAILBOX: &[u8] = b"crosstalk/1/dht/mailbox";

/// What an Ed25519 peer id of libp2p has before the 32 bytes of the key: identity multihash of 36 bytes, key type 1,
/// data of 32 bytes.
const PEER_ID: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Where something stands: SHA-256 over a tag, a zero byte, and what it is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Where the record of a user stands.
    pub fn user(user: &UserId) -> Self {
        Self::of(USER, &[user.as_bytes()])
    }

    /// Where the certificate stands that gives `address` (a bare JID as the authority prepared it) to a user.
    pub fn name(authority: &AuthorityId, address: &str) -> Self {
        Self::of(NAME, &[authority.as_bytes(), address.as_bytes()])
    }

    /// Where the sealed presence of a day stands (Unix milliseconds / 86,400,000).
    pub fn presence(presence: &PresenceId, day: u64) -> Self {
        Self::of(PRESENCE, &[presence.as_bytes(), &day.to_be_bytes()])
    }

    /// The nodes closest to this key hold a user's mail if the user has named no others. No value stands there.
    pub fn mailbox(user: &UserId) -> Self {
        Self::of(MAILBOX, &[user.as_bytes()])
    }

    fn of(tag: &[u8], parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(tag);
        hash.update([0]);
        parts.iter().for_each(|part| hash.update(part));
        Self(hash.finalize().into())
    }

    /// Takes the bytes as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Takes the bytes if there are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, as they go over the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The whole key, hexadecimal.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Where the key lies.
    pub fn position(&self) -> Position {
        Position(Sha256::digest(self.0).into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex(&self.0[..4]))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Where a key or a node lies in the table: the SHA-256 of the key, or of the bytes of the node's libp2p peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position([u8; 32]);

/// How far two positions are apart: the exclusive or of both, read as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 32]);

impl Position {
    /// Where a node lies.
    pub fn of_node(node: &NodeId) -> Self {
        let mut hash = Sha256::new();
        hash.update(PEER_ID);
        hash.update(node.as_bytes());
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How far it is to another one; [`Distance::magnitude`] of what is random is uniform.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut distance = self.0;
        distance.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine ^= theirs);
        Distance(distance)
    }
}

impl Distance {
    /// Its first 8 bytes: for comparing how dense nodes lie.
    pub fn magnitude(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_kinds_differ() {
        let bytes = [7; 32];
        let keys = [
            Key::user(&UserId::from_bytes(bytes)),
            Key::mailbox(&UserId::from_bytes(bytes)),
            Key::name(&AuthorityId::from_bytes(bytes), ""),
            Key::name(&AuthorityId::from_bytes(bytes), "a@x"),
            Key::presence(&PresenceId::from_bytes(bytes), 1),
            Key::presence(&PresenceId::from_bytes(bytes), 2),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != key), "{index}");
        }
    }

    #[test]
    fn distance_is_symmetric_and_zero_to_oneself() {
        let [a, b] = [1, 2].map(|seed| Position::of_node(&NodeId::from_bytes([seed; 32])));
        assert_eq!(a.distance(&b), b.distance(&a));
        assert_eq!(a.distance(&a), Distance([0; 32]));
        assert!(a.distance(&b) > a.distance(&a));
    }
}
