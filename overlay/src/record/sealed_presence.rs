//! Where a device is and what its user shows, sealed for the user's contacts: stands in the hash table. *Pure.*
//!
//! Whoever holds it can verify it and knows when it ends, but neither whose it is nor what it says.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload as AeadPayload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use prost::Message as _;
use rand_core::CryptoRng;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload,
};
use crate::id::{DeviceId, NodeId, PresenceId, UserId};
use crate::keys::{AudienceKey, Domain, PresenceKey};
use crate::seal::{SealError, TAG_SIZE};
use crate::time::{DAY, Hlc};

/// The smallest size class of the plaintext; each next one is twice as large.
const MIN_CLASS: usize = 512;
/// The largest.
const MAX_CLASS: usize = 4_096;
/// Bytes of encoded [`Whereabouts`] at most: the largest size class without the length in front.
pub const MAX_WHEREABOUTS: usize = MAX_CLASS - 4;
const MAX_CIPHERTEXT: usize = MAX_CLASS + TAG_SIZE;
/// Addresses at most, and bytes of each.
const MAX_ADDRESSES: usize = 8;
const MAX_ADDRESS: usize = 256;

/// Signed by a presence key, which only contacts can attribute.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPresence {
    /// The key that signs, and that it is found by.
    pub presence: PresenceId,
    /// The day of `at`: Unix milliseconds / 86,400,000. Each day has another key in the table.
    pub day: u64,
    /// When it was made.
    pub at: Hlc,
    /// Unix milliseconds, at most 24 hours after `at`.
    pub expires: u64,
    nonce: [u8; 24],
    /// Padded, so that its size tells little.
    ciphertext: Vec<u8>,
}

impl fmt::Debug for SealedPresence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPresence({} day {}, {} bytes)", self.presence, self.day, self.ciphertext.len())
    }
}

/// What contacts read. It was written by somebody who has the presence key; what it says of a user counts only by the
/// signatures inside of `presence`.
#[derive(Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Whose presence it is.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The node of that device.
    pub node: NodeId,
    /// Multiaddresses of that node: at most 8, of 256 bytes.
    pub addresses: Vec<String>,
    /// A signed [`super::PresenceRecord`] of that device.
    pub presence: Vec<u8>,
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whereabouts({} on {}, {} addresses)", self.device, self.node, self.addresses.len())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    presence: Vec<u8>,
    #[prost(uint64, tag = "3")]
    day: u64,
    #[prost(message, optional, tag = "4")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "5")]
    expires: u64,
    #[prost(bytes = "vec", tag = "6")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    ciphertext: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Plaintext {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    device: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    node: Vec<u8>,
    #[prost(string, repeated, tag = "5")]
    addresses: Vec<String>,
    #[prost(bytes = "vec", tag = "6")]
    presence: Vec<u8>,
}

impl Record for SealedPresence {
    const DOMAIN: Domain = Domain::SealedPresence;
    const MAX_SIZE: usize = MAX_CIPHERTEXT + 112 + FRAMING;
    const MAX_LIFE: u64 = DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let at = hlc_field(fields.at, kind, "at")?;
        // Else one presence key could stand at any number of places at once.
        if fields.day != at.millis / DAY {
            return Err(Refusal::Malformed { kind, what: "day" });
        }
        let class = fields.ciphertext.len().saturating_sub(TAG_SIZE);
        if !(MIN_CLASS..=MAX_CLASS).contains(&class) || !class.is_power_of_two() {
            return Err(Refusal::Malformed { kind, what: "ciphertext" });
        }
        Ok(Self {
            presence: PresenceId::from_bytes(key_field(&fields.presence, kind, "presence key")?),
            day: fields.day,
            at,
            expires: fields.expires,
            nonce: fields.nonce.try_into().map_err(|_| Refusal::Malformed { kind, what: "nonce" })?,
            ciphertext: fields.ciphertext,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            presence: self.presence.as_bytes().to_vec(),
            day: self.day,
            at: Some(self.at.into()),
            expires: self.expires,
            nonce: self.nonce.to_vec(),
            ciphertext: self.ciphertext.clone(),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Presence(self.presence)
    }

    fn span(&self) -> Span {
        Span { from: self.at.millis, until: Some(self.expires), end_counts: true }
    }
}

impl SealedPresence {
    /// Seals `whereabouts` for those who have `audience`, and signs that. Refused if it is larger than
    /// [`MAX_WHEREABOUTS`].
    pub fn seal(
        whereabouts: &Whereabouts,
        audience: &AudienceKey,
        key: &PresenceKey,
        (at, expires): (Hlc, u64),
        rng: &mut impl CryptoRng,
    ) -> Result<Verified<Self>, Refusal> {
        let kind = kind_name::<Self>();
        let plaintext = whereabouts.encode();
        let size = plaintext.len();
        let padded = pad(&plaintext).ok_or(Refusal::TooLarge { kind, size, max: MAX_WHEREABOUTS })?;
        let (presence, day) = (key.id(), at.millis / DAY);
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let sealing = AeadPayload { msg: &padded, aad: &bound(&presence, day) };
        let ciphertext = cipher(audience)
            .encrypt(&XNonce::from(nonce), sealing)
            .map_err(|_| Refusal::Malformed { kind, what: "plaintext" })?;
        Verified::sign(Self { presence, day, at, expires, nonce, ciphertext }, key, None)
    }

    /// What it says, for those who have the audience key that it was sealed with.
    pub fn open(&self, audience: &AudienceKey) -> Result<Whereabouts, SealError> {
        let sealed = AeadPayload { msg: &self.ciphertext, aad: &bound(&self.presence, self.day) };
        let padded =
            cipher(audience).decrypt(&XNonce::from(self.nonce), sealed).map_err(|_| SealError::Open)?;
        unpad(&padded).and_then(Whereabouts::decode).ok_or(SealError::Open)
    }

    /// Merge law: of two by the same presence key, the later clock reading, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |presence| presence.at)
    }
}

impl Whereabouts {
    fn encode(&self) -> Vec<u8> {
        Plaintext {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            node: self.node.as_bytes().to_vec(),
            addresses: self.addresses.clone(),
            presence: self.presence.clone(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = Plaintext::decode(bytes).ok().filter(|fields| fields.version == VERSION)?;
        let fit = fields.addresses.len() <= MAX_ADDRESSES
            && fields.addresses.iter().all(|address| address.len() <= MAX_ADDRESS);
        Some(Self {
            user: UserId::from_slice(&fields.user)?,
            device: DeviceId::from_slice(&fields.device)?,
            node: NodeId::from_slice(&fields.node)?,
            addresses: fit.then_some(fields.addresses)?,
            presence: fields.presence,
        })
    }
}

fn cipher(audience: &AudienceKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(**audience.seed()))
}

/// What is bound but not hidden: presence key ‖ day.
fn bound(presence: &PresenceId, day: u64) -> [u8; 40] {
    let mut aad = [0; 40];
    aad[..32].copy_from_slice(presence.as_bytes());
    aad[32..].copy_from_slice(&day.to_be_bytes());
    aad
}

/// Length (4 bytes, big-endian) ‖ bytes ‖ zeros up to a size class.
fn pad(bytes: &[u8]) -> Option<Vec<u8>> {
    let class = (bytes.len() + 4).next_power_of_two().max(MIN_CLASS);
    let length = u32::try_from(bytes.len()).ok().filter(|_| class <= MAX_CLASS)?;
    let mut padded = Vec::with_capacity(class);
    padded.extend_from_slice(&length.to_be_bytes());
    padded.extend_from_slice(bytes);
    padded.resize(class, 0);
    Some(padded)
}

fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_first_chunk::<4>()?;
    let (bytes, zeros) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    zeros.iter().all(|byte| *byte == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::super::testing::*;
    use super::super::{NoCertificates, RevocationSet, Unverified};
    use super::*;
    use crate::time::HOUR;

    fn whereabouts(size: usize) -> Whereabouts {
        let me = Person::new(1);
        Whereabouts {
            user: me.id(),
            device: me.device.id(),
            node: NodeId::from_bytes([9; 32]),
            addresses: vec!["/ip4/198.51.100.7/tcp/14774".into()],
            presence: vec![7; size],
        }
    }

    fn audience(seed: u8) -> AudienceKey {
        AudienceKey::from_seed([seed; 32])
    }

    fn sealed_at(size: usize, millis: u64, life: u64) -> Verified<SealedPresence> {
        let mut rng = ChaCha20Rng::from_seed([size as u8; 32]);
        let key = PresenceKey::from_seed([3; 32]);
        let times = (Hlc { millis, counter: 0 }, millis + life);
        SealedPresence::seal(&whereabouts(size), &audience(1), &key, times, &mut rng).expect("seals")
    }

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&sealed_at(40, NOW, HOUR), &NoCertificates);
    }

    #[test]
    fn only_the_audience_reads_it() {
        let sealed = sealed_at(40, NOW, HOUR);
        assert_eq!(sealed.open(&audience(1)), Ok(whereabouts(40)));
        assert_eq!(sealed.open(&audience(2)), Err(SealError::Open));
    }

    #[test]
    fn it_is_bound_to_its_key_and_its_day() {
        let sealed = sealed_at(40, NOW, HOUR);
        let moved = SealedPresence { day: sealed.day + 1, ..(*sealed).clone() };
        assert_eq!(moved.open(&audience(1)), Err(SealError::Open));
        let other = SealedPresence { presence: PresenceKey::from_seed([4; 32]).id(), ..(*sealed).clone() };
        assert_eq!(other.open(&audience(1)), Err(SealError::Open));
    }

    #[test]
    fn its_size_is_a_class() {
        for (size, class) in [(0, 512), (300, 512), (400, 1_024), (1_500, 2_048), (3_900, 4_096)] {
            assert_eq!(sealed_at(size, NOW, HOUR).ciphertext.len(), class + TAG_SIZE, "{size}");
        }
        let times = (Hlc { millis: NOW, counter: 0 }, NOW + HOUR);
        let mut rng = ChaCha20Rng::from_seed([0; 32]);
        let key = PresenceKey::from_seed([3; 32]);
        let refusal = SealedPresence::seal(&whereabouts(4_096), &audience(1), &key, times, &mut rng);
        assert!(matches!(refusal, Err(Refusal::TooLarge { max: MAX_WHEREABOUTS, .. })), "{refusal:?}");
    }

    #[test]
    fn a_day_that_is_not_its_own_is_refused() {
        let key = PresenceKey::from_seed([3; 32]);
        let moved = SealedPresence { day: 7, ..(*sealed_at(1, NOW, HOUR)).clone() };
        let moved = Verified::sign(moved, &key, None).expect("signs");
        let refusal = check::<SealedPresence>(moved.bytes(), &NoCertificates).expect_err("another day");
        assert_eq!(refusal, Refusal::Malformed { kind: "sealed-presence", what: "day" });
    }

    #[test]
    fn it_lives_a_day_at_most() {
        assert!(check::<SealedPresence>(sealed_at(1, NOW, DAY).bytes(), &NoCertificates).is_ok());
        let long = sealed_at(1, NOW, DAY + 1);
        let refusal = check::<SealedPresence>(long.bytes(), &NoCertificates).expect_err("long");
        assert_eq!(refusal, Refusal::LivesTooLong { kind: "sealed-presence" });
    }

    #[test]
    fn what_it_says_is_not_printed() {
        let text = format!("{:?} {:?}", sealed_at(40, NOW, HOUR), whereabouts(40));
        assert!(!text.contains("198.51") && !text.contains("7, 7"), "{text}");
    }

    proptest! {
        #[test]
        fn padding_comes_off_again(bytes in prop::collection::vec(any::<u8>(), 0..4_200)) {
            match pad(&bytes) {
                Some(padded) => prop_assert_eq!(unpad(&padded), Some(&bytes[..])),
                None => prop_assert!(bytes.len() > MAX_WHEREABOUTS),
            }
        }

        #[test]
        fn any_plaintext_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = unpad(&bytes).and_then(Whereabouts::decode);
        }

        #[test]
        fn merge_is_commutative_associative_idempotent(all in prop::array::uniform3((0..3u64, 0..2usize))) {
            let [a, b, c] = all.map(|(millis, size)| sealed_at(size, NOW + millis, HOUR));
            let merge = |a: &Verified<SealedPresence>, b: &Verified<SealedPresence>| {
                SealedPresence::merge(a.clone(), b.clone())
            };
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }
    }

    #[test]
    fn the_largest_fits_its_limit() {
        let largest = sealed_at(3_900, u64::MAX >> 20, DAY);
        assert!(largest.bytes().len() <= SealedPresence::MAX_SIZE, "{}", largest.bytes().len());
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, u64::MAX >> 20);
        assert!(
            Unverified::<SealedPresence>::parse(largest.bytes()).and_then(|it| it.verify(&context)).is_ok()
        );
    }
}
