//! Liveness probes: datagrams by which a node shows that it is there while TCP waits to send again. Their bytes. *Pure.*
//!
//! Two nodes that have exchanged Hellos have a key that nobody else has: each has told the other a random secret under
//! Noise. Only who has it can ask or answer; an answer repeats the number of the question, which is never used twice.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::id::NodeId;

/// Bytes of every probe, asking or answering: an answer is no larger than what it answers.
pub const SIZE: usize = 33;
/// Bytes of an authenticator: a forger's chance is 2^-128 a try.
const MAC: usize = 16;

/// A secret of one session, random.
pub type Secret = [u8; 16];
/// Names a key on the wire; says nothing of it.
pub type Tag = [u8; 8];

/// What a node says in its Hello: where it takes probes, and its half of what the key is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Its UDP port.
    pub port: u16,
    /// New for each session.
    pub secret: Secret,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer(port {})", self.port)
    }
}

/// Asks, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Are you there?
    Ask,
    /// Yes.
    Answer,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether it asks.
    pub kind: Kind,
    /// The number of the question, from 1, ascending.
    pub number: u64,
}

/// What two nodes share for one session.
pub struct Key {
    secret: Zeroizing<[u8; 32]>,
    tag: Tag,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", crate::id::hex(&self.tag))
    }
}

impl Key {
    /// From both nodes and both secrets; the same at both ends.
    pub fn agree(one: (&NodeId, &Secret), other: (&NodeId, &Secret)) -> Self {
        let (low, high) = if one.0 < other.0 { (one, other) } else { (other, one) };
        let mut hash = Sha256::new_with_prefix(b"crosstalk/1/probe\0");
        for part in [low.0.as_bytes().as_slice(), high.0.as_bytes(), low.1, high.1] {
            hash.update(part);
        }
        let secret = Zeroizing::new(hash.finalize().into());
        let tag = first(Sha256::new_with_prefix(b"crosstalk/1/probe-tag\0").chain_update(*secret));
        Self { secret, tag }
    }

    /// Its name.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// A datagram from `sender`.
    pub fn seal(&self, sender: &NodeId, probe: Probe) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&self.tag);
        bytes[8..16].copy_from_slice(&probe.number.to_be_bytes());
        bytes[16] = match probe.kind {
            Kind::Ask => 1,
            Kind::Answer => 2,
        };
        let mac = self.mac(sender, &bytes[..SIZE - MAC]);
        bytes[SIZE - MAC..].copy_from_slice(&mac);
        bytes
    }

    /// Reads a datagram from `sender`; `None` if it was made by anybody else, or is none.
    pub fn open(&self, sender: &NodeId, bytes: &[u8]) -> Option<Probe> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let (said, mac) = bytes.split_at(SIZE - MAC);
        // Compared without a branch: how long it takes tells nothing.
        let differ = self.mac(sender, said).iter().zip(mac).fold(0, |differ, (a, b)| differ | (a ^ b));
        if differ != 0 || said[..8] != self.tag {
            return None;
        }
        let kind = match said[16] {
            1 => Kind::Ask,
            2 => Kind::Answer,
            _ => return None,
        };
        let number = said[8..16].try_into().map(u64::from_be_bytes).ok()?;
        Some(Probe { kind, number })
    }

    /// Of fixed length and cut in half, so that nothing can be appended to what is hashed.
    fn mac(&self, sender: &NodeId, said: &[u8]) -> [u8; MAC] {
        let hash = Sha256::new_with_prefix(b"crosstalk/1/probe-mac\0").chain_update(*self.secret);
        first(hash.chain_update(sender.as_bytes()).chain_update(said))
    }
}

fn first<const N: usize>(hash: Sha256) -> [u8; N] {
    let hash: [u8; 32] = hash.finalize().into();
    *hash.first_chunk().unwrap_or(&[0; N])
}

/// The key that a datagram says it was made with; `None` if it is no probe.
pub fn tag_of(bytes: &[u8]) -> Option<Tag> {
    bytes.first_chunk().copied().filter(|_| bytes.len() == SIZE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn key(one: u8, other: u8) -> Key {
        Key::agree((&node(1), &[one; 16]), (&node(2), &[other; 16]))
    }

    #[test]
    fn both_ends_have_the_same_key_and_nobody_else_has() {
        let (here, there) = (key(7, 8), Key::agree((&node(2), &[8; 16]), (&node(1), &[7; 16])));
        let probe = Probe { kind: Kind::Ask, number: 3 };
        let bytes = here.seal(&node(1), probe);
        assert_eq!((tag_of(&bytes), there.open(&node(1), &bytes)), (Some(there.tag()), Some(probe)));
        assert_eq!(there.open(&node(2), &bytes), None, "sent back it is nobody's");
        for other in [key(7, 9), key(9, 8), key(8, 7)] {
            assert_eq!(other.open(&node(1), &bytes), None);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let offer = Offer { port: 9, secret: [0xab; 16] };
        let text = format!("{offer:?} {:?}", key(7, 8)).to_lowercase();
        assert!(!text.contains("ab, ab") && !text.contains("171") && !text.contains("abab"), "{text}");
    }

    proptest! {
        #[test]
        fn what_was_changed_is_nobodys(number: u64, asks: bool, at in 0..SIZE, flip in 1..=255u8) {
            let kind = if asks { Kind::Ask } else { Kind::Answer };
            let mut bytes = key(1, 2).seal(&node(1), Probe { kind, number });
            prop_assert_eq!(key(1, 2).open(&node(1), &bytes), Some(Probe { kind, number }));
            bytes[at] ^= flip;
            prop_assert_eq!(key(1, 2).open(&node(1), &bytes), None);
            prop_assert_eq!(key(1, 2).open(&node(1), &bytes[..at]), None);
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(key(1, 2).open(&node(1), &bytes), None);
            prop_assert_eq!(tag_of(&bytes).is_some(), bytes.len() == SIZE);
        }
    }
}
