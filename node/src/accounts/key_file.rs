//! The bytes of a key file. *Pure.*
//!
//! Layout, version 1: `CTKEY` (5), version (1), kind (1), body, SHA-256 of all before (32). Body of a user's file: user
//! id (32), seed of the device key (32), number of sealing keys (1), each with its time (8, big-endian) and seed (32).
//! Body of the files of node, authority and enrolment: seed (32).

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{DeviceKey, SealingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::core::settings::DeviceKeys;

/// Sealing keys that one file holds: a new one a week, kept for the life of a message, makes six.
pub const MAX_SEALING: usize = 64;
/// Largest key file, bytes.
pub const MAX_SIZE: usize = HEAD + 65 + MAX_SEALING * SEALING + DIGEST;

const MAGIC: &[u8; 5] = b"CTKEY";
const VERSION: u8 = 1;
const HEAD: usize = 7;
const DIGEST: usize = 32;
const SEALING: usize = 40;

/// Whose private keys a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The device and sealing keys of one user.
    User,
    /// The node's.
    Node,
    /// The authority's.
    Authority,
    /// What passwords are registered with.
    Enrolment,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::User => b'U',
            Self::Node => b'N',
            Self::Authority => b'A',
            Self::Enrolment => b'E',
        }
    }
}

/// Why bytes are no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Written by a newer program.
    #[error("it was written by a newer version of crosstalk (format {0}): use that version")]
    Newer(u8),
    /// Changed or cut off.
    #[error("it is damaged: put it back from a back-up")]
    Damaged,
}

/// The file of the node or the authority.
pub fn encode_seed(kind: Kind, seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = start(kind, 32);
    bytes.extend_from_slice(seed);
    finish(bytes)
}

/// Reads the file of the node or the authority.
///
/// # Errors
/// When the bytes are damaged, of another kind or newer.
pub fn decode_seed(kind: Kind, bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, FormatError> {
    let body = body(kind, bytes)?;
    body.try_into().map(Zeroizing::new).map_err(|_| FormatError::Damaged)
}

/// The file of a user: the device key and the newest [`MAX_SEALING`] sealing keys.
pub fn encode_user(user: UserId, keys: &DeviceKeys) -> Zeroizing<Vec<u8>> {
    let kept = &keys.sealing[keys.sealing.len().saturating_sub(MAX_SEALING)..];
    let mut bytes = start(Kind::User, 65 + kept.len() * SEALING);
    bytes.extend_from_slice(user.as_bytes());
    bytes.extend_from_slice(keys.device.seed().as_slice());
    bytes.push(u8::try_from(kept.len()).unwrap_or(u8::MAX));
    for key in kept {
        bytes.extend_from_slice(&key.created.to_be_bytes());
        bytes.extend_from_slice(key.seed().as_slice());
    }
    finish(bytes)
}

/// Reads the file of a user.
///
/// # Errors
/// When the bytes are damaged, of another kind or newer.
pub fn decode_user(bytes: &[u8]) -> Result<(UserId, DeviceKeys), FormatError> {
    let mut body = body(Kind::User, bytes)?;
    let user = UserId::from_bytes(take(&mut body)?);
    let device = DeviceKey::from_seed(*Zeroizing::new(take(&mut body)?));
    let [count] = take(&mut body)?;
    let mut sealing = Vec::with_capacity(usize::from(count).min(MAX_SEALING));
    for _ in 0..count {
        let created = u64::from_be_bytes(take(&mut body)?);
        sealing.push(SealingKey::from_seed(*Zeroizing::new(take(&mut body)?), created));
    }
    if !body.is_empty() || sealing.len() > MAX_SEALING {
        return Err(FormatError::Damaged);
    }
    Ok((user, DeviceKeys { device, sealing }))
}

fn start(kind: Kind, body: usize) -> Zeroizing<Vec<u8>> {
    // Exact capacity: growing would leave a copy of the secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD + body + DIGEST));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, kind.byte()]);
    bytes
}

fn finish(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let digest = Sha256::digest(bytes.as_slice());
    bytes.extend_from_slice(&digest);
    bytes
}

fn body(kind: Kind, bytes: &[u8]) -> Result<&[u8], FormatError> {
    match bytes.strip_prefix(MAGIC) {
        Some([VERSION, ..]) => {}
        Some([newer, ..]) if *newer > VERSION => return Err(FormatError::Newer(*newer)),
        Some(_) | None => return Err(FormatError::Damaged),
    }
    let (signed, digest) = bytes.split_last_chunk::<DIGEST>().ok_or(FormatError::Damaged)?;
    let whole = signed.get(6) == Some(&kind.byte()) && Sha256::digest(signed).as_slice() == digest;
    signed.get(HEAD..).filter(|_| whole).ok_or(FormatError::Damaged)
}

fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let (taken, rest) = body.split_first_chunk::<N>().ok_or(FormatError::Damaged)?;
    *body = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> DeviceKeys {
        DeviceKeys {
            device: DeviceKey::from_seed([2; 32]),
            sealing: vec![SealingKey::from_seed([3; 32], 1_000), SealingKey::from_seed([4; 32], 2_000)],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn version_one_stays_readable() {
        let bytes = encode_user(UserId::from_bytes([1; 32]), &keys());
        assert_eq!(hex(&bytes), include_str!("golden/user-key-file-1.hex").trim());
        let node = encode_seed(Kind::Node, &[5; 32]);
        assert_eq!(hex(&node), include_str!("golden/node-key-file-1.hex").trim());
    }

    #[test]
    fn a_file_gives_back_what_it_holds() {
        let user = UserId::from_bytes([1; 32]);
        let (read, got) = decode_user(&encode_user(user, &keys())).expect("readable");
        assert_eq!((read, got.device.id()), (user, keys().device.id()));
        let sealing =
            |keys: &DeviceKeys| keys.sealing.iter().map(|k| (k.created, k.public())).collect::<Vec<_>>();
        assert_eq!(sealing(&got), sealing(&keys()));
        assert_eq!(decode_seed(Kind::Node, &encode_seed(Kind::Node, &[5; 32])).as_deref(), Ok(&[5; 32]));
    }

    #[test]
    fn kinds_and_versions_are_told_apart() {
        let mut bytes = encode_seed(Kind::Node, &[5; 32]);
        assert_eq!(decode_seed(Kind::Authority, &bytes).err(), Some(FormatError::Damaged));
        bytes[5] = 2;
        assert_eq!(decode_seed(Kind::Node, &bytes).err(), Some(FormatError::Newer(2)));
    }

    #[test]
    fn only_the_newest_sealing_keys_fit() {
        let sealing = (0..70).map(|n| SealingKey::from_seed([n; 32], u64::from(n))).collect();
        let keys = DeviceKeys { device: DeviceKey::from_seed([2; 32]), sealing };
        let bytes = encode_user(UserId::from_bytes([1; 32]), &keys);
        assert_eq!(bytes.len(), MAX_SIZE);
        let (_, got) = decode_user(&bytes).expect("readable");
        assert_eq!((got.sealing.len(), got.sealing[0].created), (MAX_SEALING, 6));
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode_user(UserId::from_bytes([1; 32]), &keys());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode_user(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_a_file_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_user(&bytes).is_err());
            prop_assert!(decode_seed(Kind::Node, &bytes).is_err());
        }
    }
}
