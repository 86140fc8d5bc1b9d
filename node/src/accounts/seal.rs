//! A user key as it rests: sealed under a password or a recovery code. *Pure.*
//!
//! Layout, version 1: version (1), memory in KiB (4), passes (4), lanes (1), salt (16), nonce (24), sealed seed (32)
//! with its tag (16); numbers big-endian. Key = Argon2id(secret, salt), cipher = XChaCha20-Poly1305; everything
//! before the nonce and the user id are authenticated with it, so that a sealed key cannot be given to another user.
//!
//! Version 2 covers one of version 1 under a key that nobody guesses: version (1), nonce (24), all of version 1 sealed, with
//! its tag (16). Key = SHA-256(`crosstalk/1/covered-user-key` ‖ 0x00 ‖ secret), authenticated with the user id.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::UserKey;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Random bytes that a sealing uses: salt and nonce.
pub const RANDOM: usize = SALT + NONCE;

const VERSION: u8 = 1;
const SALT: usize = 16;
/// Bytes of a nonce.
pub const NONCE: usize = 24;
const HEAD: usize = 1 + 4 + 4 + 1 + SALT;
const LENGTH: usize = HEAD + NONCE + 32 + 16;
const TAG: &[u8] = b"crosstalk/1/sealed-user-key";
const COVERED: u8 = 2;
const COVER_TAG: &[u8] = b"crosstalk/1/covered-user-key";

/// What an attempt to guess the secret costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u8,
}

impl Cost {
    /// For what people choose: 46 MiB, one pass (OWASP, as strong as 19 MiB and two), so that a machine with 256 MB can
    /// do it beside its work. Above 32 MiB glibc takes the memory from the kernel and gives it back; below, version
    /// 2.36 never uses an aligned block again (its bug 14581) and each account left 19 MiB behind.
    pub const PASSWORD: Self = Self { memory: 46 * 1024, passes: 1, lanes: 1 };
    /// For 140 random bits, which nobody guesses: stretching would add nothing.
    pub const RECOVERY: Self = Self { memory: 256, passes: 1, lanes: 1 };
    /// Most that is spent on a sealed key that somebody else may have written.
    const MOST: Self = Self { memory: 256 * 1024, passes: 16, lanes: 4 };

    fn is_bearable(self) -> bool {
        self.memory <= Self::MOST.memory && self.passes <= Self::MOST.passes && self.lanes <= Self::MOST.lanes
    }
}

/// Why a key cannot be sealed or opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another password, another user, or changed bytes: it cannot be told which.
    #[error("this password or recovery code does not open the user key")]
    WrongSecret,
    /// Not a sealed key of a version that this program knows.
    #[error("the sealed user key is damaged or comes from a newer version of crosstalk")]
    Unreadable,
    /// Argon2 could not run.
    #[error("not enough memory to derive a key: {0} KiB are needed")]
    Memory(u32),
}

/// Seals a user key under a secret. Takes as long as `cost` says.
///
/// # Errors
/// When the memory cannot be had.
pub fn seal(key: &UserKey, secret: &[u8], cost: Cost, random: &[u8; RANDOM]) -> Result<Vec<u8>, SealError> {
    let mut sealed = Vec::with_capacity(LENGTH);
    sealed.push(VERSION);
    sealed.extend_from_slice(&cost.memory.to_be_bytes());
    sealed.extend_from_slice(&cost.passes.to_be_bytes());
    sealed.push(cost.lanes);
    sealed.extend_from_slice(random);
    let cipher = cipher(secret, &sealed[HEAD - SALT..HEAD], cost)?;
    let nonce = XNonce::try_from(&sealed[HEAD..]).map_err(|_| SealError::Unreadable)?;
    let seed = key.seed();
    let aad = associated(key.id(), &sealed[..HEAD]);
    let payload = Payload { msg: seed.as_slice(), aad: &aad };
    sealed.extend_from_slice(&cipher.encrypt(&nonce, payload).map_err(|_| SealError::Unreadable)?);
    Ok(sealed)
}

/// Opens the sealed key of `user`. Takes as long as the sealing took.
///
/// # Errors
/// When the secret is wrong or the bytes are not what [`seal`] made.
pub fn open(user: UserId, sealed: &[u8], secret: &[u8]) -> Result<UserKey, SealError> {
    let cost = cost_of(sealed).ok_or(SealError::Unreadable)?;
    let (head, rest) = sealed.split_at(HEAD);
    let (nonce, sealed) = rest.split_at(NONCE);
    let cipher = cipher(secret, &head[HEAD - SALT..], cost)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| SealError::Unreadable)?;
    let aad = associated(user, head);
    let opened =
        cipher.decrypt(&nonce, Payload { msg: sealed, aad: &aad }).map_err(|_| SealError::WrongSecret)?;
    let opened = Zeroizing::new(opened);
    let mut seed: [u8; 32] = opened.as_slice().try_into().map_err(|_| SealError::Unreadable)?;
    let key = UserKey::from_seed(seed);
    seed.zeroize();
    if key.id() == user { Ok(key) } else { Err(SealError::WrongSecret) }
}

/// Covers a sealed key of `user` once more, under 64 random bytes. `random` is used here only.
///
/// # Errors
/// When it is none.
pub fn cover(user: UserId, sealed: &[u8], secret: &[u8], random: &[u8; NONCE]) -> Result<Vec<u8>, SealError> {
    let payload = Payload { msg: sealed, aad: user.as_bytes() };
    let nonce = XNonce::from(*random);
    let covered = cover_cipher(secret)?.encrypt(&nonce, payload).map_err(|_| SealError::Unreadable)?;
    Ok([&[COVERED][..], random, &covered].concat())
}

/// What [`cover`] has covered; nothing if it is sealed once only.
///
/// # Errors
/// When the secret is another.
pub fn uncovered(user: UserId, covered: &[u8], secret: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
    let Some(rest) = covered.strip_prefix(&[COVERED]) else { return Ok(None) };
    let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(SealError::Unreadable)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| SealError::Unreadable)?;
    let payload = Payload { msg: sealed, aad: user.as_bytes() };
    cover_cipher(secret)?.decrypt(&nonce, payload).map(Some).map_err(|_| SealError::WrongSecret)
}

fn cover_cipher(secret: &[u8]) -> Result<XChaCha20Poly1305, SealError> {
    let digest = Sha256::new_with_prefix(COVER_TAG).chain_update([0]).chain_update(secret).finalize();
    let key = Zeroizing::new(<[u8; 32]>::from(digest));
    XChaCha20Poly1305::new_from_slice(key.as_slice()).map_err(|_| SealError::Unreadable)
}

fn cost_of(sealed: &[u8]) -> Option<Cost> {
    if sealed.len() != LENGTH || sealed[0] != VERSION {
        return None;
    }
    let number = |at: usize| sealed[at..at + 4].try_into().ok().map(u32::from_be_bytes);
    Some(Cost { memory: number(1)?, passes: number(5)?, lanes: sealed[9] }).filter(|cost| cost.is_bearable())
}

fn cipher(secret: &[u8], salt: &[u8], cost: Cost) -> Result<XChaCha20Poly1305, SealError> {
    let params = Params::new(cost.memory, cost.passes, u32::from(cost.lanes), Some(32))
        .map_err(|_| SealError::Unreadable)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(secret, salt, key.as_mut_slice())
        .map_err(|_| SealError::Memory(cost.memory))?;
    XChaCha20Poly1305::new_from_slice(key.as_slice()).map_err(|_| SealError::Unreadable)
}

fn associated(user: UserId, head: &[u8]) -> Vec<u8> {
    [TAG, &[0], user.as_bytes(), head].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHEAP: Cost = Cost { memory: 64, passes: 1, lanes: 1 };

    fn sealed() -> (UserKey, Vec<u8>) {
        let key = UserKey::from_seed([7; 32]);
        let sealed = seal(&key, b"romeo", CHEAP, &[9; RANDOM]).expect("sealed");
        (key, sealed)
    }

    #[test]
    fn the_same_secret_opens_and_no_other() {
        let (key, sealed) = sealed();
        assert_eq!(open(key.id(), &sealed, b"romeo").expect("opened").id(), key.id());
        assert_eq!(open(key.id(), &sealed, b"Romeo").err(), Some(SealError::WrongSecret));
        let other = UserKey::from_seed([8; 32]).id();
        assert_eq!(open(other, &sealed, b"romeo").err(), Some(SealError::WrongSecret));
    }

    /// Also by who comes later: golden bytes.
    #[test]
    fn a_covered_key_opens_with_both_secrets() {
        let (key, sealed) = sealed();
        let covered = cover(key.id(), &sealed, &[5; 64], &[6; NONCE]).expect("covered");
        assert_eq!(uncovered(key.id(), &covered, &[5; 64]), Ok(Some(sealed.clone())));
        assert_eq!(uncovered(key.id(), &covered, &[4; 64]), Err(SealError::WrongSecret));
        assert_eq!(
            uncovered(UserKey::from_seed([8; 32]).id(), &covered, &[5; 64]),
            Err(SealError::WrongSecret)
        );
        assert_eq!(uncovered(key.id(), &sealed, &[5; 64]), Ok(None));
        assert_eq!(covered.len(), 139);
        // Made by the Python that reads the vectors.
        let golden =
            "02060606060606060606060606060606060606060606060606c319ddb4cf4eec5e99d7d992e623d21820ab8f2dec01";
        let made = cover(key.id(), b"sealed", &[5; 64], &[6; NONCE]).expect("covered");
        assert_eq!(crate::core::hex(&made), golden);
    }

    #[test]
    fn version_one_stays_readable() {
        let golden = include_str!("golden/sealed-user-key-1.hex").trim();
        let (key, sealed) = sealed();
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        assert!(open(key.id(), &sealed, b"romeo").is_ok());
    }

    #[test]
    fn a_sealed_key_cannot_ask_for_all_memory() {
        let (key, mut sealed) = sealed();
        sealed[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(open(key.id(), &sealed, b"romeo").err(), Some(SealError::Unreadable));
    }

    #[test]
    #[ignore = "prints a measurement"]
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    fn measure() {
        for cost in [Cost::PASSWORD, Cost::RECOVERY] {
            let start = std::time::Instant::now();
            seal(&UserKey::from_seed([7; 32]), b"romeo", cost, &[9; RANDOM]).expect("sealed");
            eprintln!("{cost:?}: {:?}", start.elapsed());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_changed_bit_never_opens(at in 10usize..LENGTH, bit in 0u8..8) {
            let (key, mut sealed) = sealed();
            sealed[at] ^= 1 << bit;
            prop_assert!(open(key.id(), &sealed, b"romeo").is_err());
        }

        #[test]
        fn any_bytes_are_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..LENGTH)) {
            prop_assert!(open(UserId::from_bytes([1; 32]), &bytes, b"").is_err());
        }
    }
}
