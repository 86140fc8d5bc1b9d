//! Sealing to a device's public key: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305. *Pure.*

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal_with_rng,
};
use rand_core::CryptoRng;

use crate::keys::SealingKey;

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Bytes that sealing adds to the plaintext: the authentication tag.
pub const TAG_SIZE: usize = 16;

/// Sealing or opening failed. Which step failed is not told, so that nobody learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The public key cannot be sealed to.
    #[error("the sealing key of the recipient is not usable: fetch its record again")]
    Key,
    /// Wrong key, wrong context, or altered on the way.
    #[error("the sealed bytes do not open with this key: ask the sender to seal them again")]
    Open,
}

/// What [`seal`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The encapsulated key.
    pub enc: [u8; 32],
    /// Plaintext length plus [`TAG_SIZE`].
    pub ciphertext: Vec<u8>,
}

/// The public key of 32 secret bytes.
pub(crate) fn public_of(seed: &[u8; 32]) -> [u8; 32] {
    // Any 32 bytes are a private X25519 key; the zero key, which nobody opens with, stands for the impossible case.
    Private::from_bytes(seed).map_or([0; 32], |key| X25519HkdfSha256::sk_to_pk(&key).to_bytes().into())
}

/// Seals `plaintext` so that only the holder of `to` opens it. `info` names the use, `aad` is bound but not hidden.
pub fn seal(
    to: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Sealed, SealError> {
    let to = Public::from_bytes(to).map_err(|_| SealError::Key)?;
    let (enc, ciphertext) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        info,
        plaintext,
        aad,
        rng,
    )
    .map_err(|_| SealError::Key)?;
    Ok(Sealed { enc: enc.to_bytes().into(), ciphertext })
}

/// Opens what was sealed to `key` with the same `info` and `aad`.
pub fn open(key: &SealingKey, info: &[u8], aad: &[u8], sealed: &Sealed) -> Result<Vec<u8>, SealError> {
    let private = Private::from_bytes(&key.seed()[..]).map_err(|_| SealError::Open)?;
    let enc = Encapped::from_bytes(&sealed.enc).map_err(|_| SealError::Open)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &enc,
        info,
        &sealed.ciphertext,
        aad,
    )
    .map_err(|_| SealError::Open)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn sealed() -> (SealingKey, Sealed) {
        let key = SealingKey::from_seed([5; 32], 0);
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let sealed = seal(&key.public(), b"info", b"aad", b"plaintext", &mut rng).expect("seals");
        (key, sealed)
    }

    #[test]
    fn opens_with_the_right_key_and_context_only() {
        let (key, sealed) = sealed();
        assert_eq!(open(&key, b"info", b"aad", &sealed).as_deref(), Ok(&b"plaintext"[..]));
        let other = SealingKey::from_seed([6; 32], 0);
        assert_eq!(open(&other, b"info", b"aad", &sealed), Err(SealError::Open));
        assert_eq!(open(&key, b"info2", b"aad", &sealed), Err(SealError::Open));
        assert_eq!(open(&key, b"info", b"aad2", &sealed), Err(SealError::Open));
    }

    #[test]
    fn an_altered_byte_is_noticed() {
        let (key, sealed) = sealed();
        for index in 0..sealed.ciphertext.len() {
            let mut altered = sealed.clone();
            altered.ciphertext[index] ^= 1;
            assert_eq!(open(&key, b"info", b"aad", &altered), Err(SealError::Open), "byte {index}");
        }
    }

    #[test]
    fn a_key_of_small_order_is_not_sealed_to() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        assert_eq!(seal(&[0; 32], b"", b"", b"x", &mut rng), Err(SealError::Key));
    }
}
