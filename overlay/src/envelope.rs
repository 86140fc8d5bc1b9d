//! A message on its way to one device: an outer part that anybody may see, an inner part sealed for that device. *Pure.*
//!
//! The inner part is a signed record (domain `envelope`) by the sending device, with its certificate attached, and
//! names the recipient device and the sealing key that it was sealed to, so that a recipient cannot pass it on as if
//! it had been sent to somebody else. Before sealing it is padded to a size class.

use std::fmt;

use prost::Message as _;
use rand_core::CryptoRng;

use crate::id::{DeviceId, MessageId, UserId};
use crate::keys::{DeviceKey, Domain, SealingKey};
use crate::record::{
    Context, DeviceCert, Record, Refusal, Signer, Span, Unverified, VERSION, Verified, id_field, key_field,
    kind_name, payload,
};
use crate::seal::{SealError, Sealed, TAG_SIZE, open, seal};

mod content;

pub use content::{Content, MAX_TOKENS};

/// The largest padded plaintext, and so the largest size class.
pub const MAX_PLAINTEXT: usize = 256 * 1_024;
/// The smallest size class; each next one is twice as large.
pub const MIN_CLASS: usize = 256;
/// Bytes of an encoded [`Content`] at most: what is left of [`MAX_PLAINTEXT`] after certificate and signature.
pub const MAX_CONTENT: usize = MAX_PLAINTEXT - 2 * 1_024;
/// Bytes of the sender's own record that an envelope may bring; whoever has a longer one is looked up.
pub const MAX_CARD: usize = 4 * 1_024;
/// Bytes of an encoded outer part at most.
pub const MAX_ENVELOPE: usize = MAX_PLAINTEXT + TAG_SIZE + 256;

const INFO: &[u8] = b"crosstalk/1/envelope";

/// The outer part: what carriers see.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// New at each sealing; receipts name it.
    pub id: MessageId,
    /// The device that can open it.
    pub recipient: DeviceId,
    /// The public sealing key that it was sealed to.
    pub key: [u8; 32],
    /// Encapsulated key and padded ciphertext.
    pub sealed: Sealed,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} to {}, {} bytes)", self.id, self.recipient, self.sealed.ciphertext.len())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct OuterPayload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    recipient: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    enc: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    ciphertext: Vec<u8>,
}

/// The inner part: who sends what, and where it stands in the order between two devices. Signed by `sender`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Who sends it.
    pub user: UserId,
    /// The sending device, which signs.
    pub sender: DeviceId,
    /// The device that it is for.
    pub recipient: DeviceId,
    /// The public sealing key that it was sealed to.
    pub key: [u8; 32],
    /// The same for the same message, however often it is sealed.
    pub message: MessageId,
    /// Grows when the sender's store was restored; sequence numbers start anew with it.
    pub epoch: u64,
    /// Place in the order from `sender` to `recipient`, from 1.
    pub seq: u64,
    /// The lowest place that the sender still wants a receipt for: earlier gaps will never be filled.
    pub first: u64,
    /// When the user sent it, Unix milliseconds by the sender's clock.
    pub sent: u64,
    /// What it says.
    pub content: Content,
    /// The sending user's record, at most [`MAX_CARD`] bytes, for a device that may not know it; empty otherwise. It proves
    /// itself, or does not count.
    pub card: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InnerPayload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    sender: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    recipient: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    message: Vec<u8>,
    #[prost(uint64, tag = "7")]
    epoch: u64,
    #[prost(uint64, tag = "8")]
    seq: u64,
    #[prost(uint64, tag = "9")]
    first: u64,
    #[prost(uint64, tag = "10")]
    sent: u64,
    #[prost(bytes = "vec", tag = "11")]
    content: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    card: Vec<u8>,
}

impl Record for Inner {
    const DOMAIN: Domain = Domain::Envelope;
    const MAX_SIZE: usize = MAX_PLAINTEXT;
    const MAX_LIFE: u64 = 0;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: InnerPayload = payload(bytes, kind, |fields: &InnerPayload| fields.version)?;
        if fields.seq == 0 || fields.first == 0 || fields.first > fields.seq {
            return Err(Refusal::Malformed { kind, what: "sequence" });
        }
        if fields.card.len() > MAX_CARD {
            return Err(Refusal::Malformed { kind, what: "card" });
        }
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            sender: DeviceId::from_bytes(key_field(&fields.sender, kind, "sender")?),
            recipient: DeviceId::from_bytes(key_field(&fields.recipient, kind, "recipient")?),
            key: key_field(&fields.key, kind, "key")?,
            message: MessageId::from_bytes(id_field(&fields.message, kind, "message")?),
            epoch: fields.epoch,
            seq: fields.seq,
            first: fields.first,
            sent: fields.sent,
            content: Content::decode(&fields.content)?,
            card: fields.card,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        InnerPayload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            sender: self.sender.as_bytes().to_vec(),
            recipient: self.recipient.as_bytes().to_vec(),
            key: self.key.to_vec(),
            message: self.message.as_bytes().to_vec(),
            epoch: self.epoch,
            seq: self.seq,
            first: self.first,
            sent: self.sent,
            content: self.content.encode(),
            card: self.card.clone(),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.sender)
    }

    fn span(&self) -> Span {
        // A message from a wrong clock is still a message: its time is shown, not judged.
        Span { from: 0, until: None, end_counts: false }
    }
}

/// Why an envelope gave no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Sealed to another key, or altered: answer that it cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The inner part does not count: drop it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Envelope {
    /// Signs `inner` and seals it to `inner.key` for `inner.recipient`.
    pub fn seal(
        id: MessageId,
        inner: Inner,
        device: &DeviceKey,
        certificate: &Verified<DeviceCert>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, EnvelopeError> {
        let (recipient, key) = (inner.recipient, inner.key);
        let signed = Verified::sign(inner, device, Some(certificate))?;
        let plaintext = pad(signed.bytes()).ok_or(Refusal::TooLarge {
            kind: kind_name::<Inner>(),
            size: signed.bytes().len(),
            max: MAX_PLAINTEXT,
        })?;
        let sealed = seal(&key, INFO, &header(&id, &recipient, &key), &plaintext, rng)?;
        Ok(Self { id, recipient, key, sealed })
    }

    /// Opens it, verifies the sender's certificate and signature, and checks that it was meant for this device.
    pub fn open(&self, key: &SealingKey, context: &Context<'_>) -> Result<Verified<Inner>, EnvelopeError> {
        let kind = kind_name::<Inner>();
        let padded = open(key, INFO, &header(&self.id, &self.recipient, &self.key), &self.sealed)?;
        let bytes = unpad(&padded).ok_or(Refusal::Malformed { kind, what: "padding" })?;
        let inner = Unverified::<Inner>::parse(bytes)?.verify(context)?;
        if inner.recipient != self.recipient || inner.key != self.key {
            return Err(Refusal::WrongSigner { kind }.into());
        }
        Ok(inner)
    }

    /// The bytes for the wire.
    pub fn encode(&self) -> Vec<u8> {
        OuterPayload {
            version: VERSION,
            id: self.id.as_bytes().to_vec(),
            recipient: self.recipient.as_bytes().to_vec(),
            key: self.key.to_vec(),
            enc: self.sealed.enc.to_vec(),
            ciphertext: self.sealed.ciphertext.clone(),
        }
        .encode_to_vec()
    }

    /// Reads [`Self::encode`]; checks sizes only.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Inner>();
        if bytes.len() > MAX_ENVELOPE {
            return Err(Refusal::TooLarge { kind, size: bytes.len(), max: MAX_ENVELOPE });
        }
        let fields: OuterPayload = payload(bytes, kind, |fields: &OuterPayload| fields.version)?;
        let class = fields.ciphertext.len().saturating_sub(TAG_SIZE);
        if !class.is_power_of_two() || !(MIN_CLASS..=MAX_PLAINTEXT).contains(&class) {
            return Err(Refusal::Malformed { kind, what: "size class" });
        }
        Ok(Self {
            id: MessageId::from_bytes(id_field(&fields.id, kind, "id")?),
            recipient: DeviceId::from_bytes(key_field(&fields.recipient, kind, "recipient")?),
            key: key_field(&fields.key, kind, "key")?,
            sealed: Sealed { enc: key_field(&fields.enc, kind, "enc")?, ciphertext: fields.ciphertext },
        })
    }
}

/// What the seal binds but does not hide.
pub(crate) fn header(id: &MessageId, recipient: &DeviceId, key: &[u8; 32]) -> Vec<u8> {
    [&id.as_bytes()[..], recipient.as_bytes(), key].concat()
}

/// Length as four big-endian bytes, the bytes, zeros up to the next power of two.
pub(crate) fn pad(bytes: &[u8]) -> Option<Vec<u8>> {
    let class = (bytes.len() + 4).next_power_of_two().max(MIN_CLASS);
    if class > MAX_PLAINTEXT {
        return None;
    }
    let mut padded = Vec::with_capacity(class);
    padded.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
    padded.extend_from_slice(bytes);
    padded.resize(class, 0);
    Some(padded)
}

pub(crate) fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::record::testing::*;
    use crate::record::{NoCertificates, RevocationSet};

    fn inner(from: &Person, to: &Person, key: &SealingKey, content: Content) -> Inner {
        Inner {
            user: from.id(),
            sender: from.device.id(),
            recipient: to.device.id(),
            key: key.public(),
            message: MessageId::from_bytes([4; 16]),
            epoch: 1,
            seq: 2,
            first: 1,
            sent: NOW,
            content,
            card: Vec::new(),
        }
    }

    fn stanza(size: usize) -> Content {
        Content::Stanza { from_resource: "a".into(), to_resource: String::new(), xml: vec![b'x'; size] }
    }

    fn sealed(from: &Person, inner: Inner) -> Result<Envelope, EnvelopeError> {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        Envelope::seal(MessageId::from_bytes([8; 16]), inner, &from.device, &from.cert, &mut rng)
    }

    fn opened(envelope: &Envelope, key: &SealingKey) -> Result<Verified<Inner>, EnvelopeError> {
        envelope.open(key, &context(&NoCertificates, &RevocationSet::default(), NOW))
    }

    #[test]
    fn travels_and_opens() {
        let (anna, ben, key) = (Person::new(1), Person::new(2), SealingKey::from_seed([9; 32], NOW));
        let inner = inner(&anna, &ben, &key, stanza(200));
        let envelope = sealed(&anna, inner.clone()).expect("seals");
        let arrived = Envelope::decode(&envelope.encode()).expect("decodes");
        assert_eq!(arrived, envelope);
        assert_eq!(*opened(&arrived, &key).expect("opens"), inner);
        assert_eq!(envelope.sealed.ciphertext.len(), 1_024 + TAG_SIZE, "padded to its class");
    }

    #[test]
    fn a_recipient_cannot_pass_it_on_as_its_own_mail() {
        let (anna, ben, carl) = (Person::new(1), Person::new(2), Person::new(3));
        let (ben_key, carl_key) = (SealingKey::from_seed([9; 32], NOW), SealingKey::from_seed([10; 32], NOW));
        let to_ben = Verified::sign(inner(&anna, &ben, &ben_key, stanza(9)), &anna.device, Some(&anna.cert));
        let padded = pad(to_ben.expect("signs").bytes()).expect("small");
        let (id, recipient) = (MessageId::from_bytes([8; 16]), carl.device.id());
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let header = header(&id, &recipient, &carl_key.public());
        let resealed = seal(&carl_key.public(), INFO, &header, &padded, &mut rng).expect("seals");
        let envelope = Envelope { id, recipient, key: carl_key.public(), sealed: resealed };
        let error = opened(&envelope, &carl_key).expect_err("not for carl");
        assert_eq!(error, EnvelopeError::Refused(Refusal::WrongSigner { kind: "envelope" }));
    }

    #[test]
    fn the_outer_part_is_bound() {
        let (anna, ben, key) = (Person::new(1), Person::new(2), SealingKey::from_seed([9; 32], NOW));
        let envelope = sealed(&anna, inner(&anna, &ben, &key, stanza(9))).expect("seals");
        let renamed = Envelope { id: MessageId::from_bytes([0; 16]), ..envelope };
        assert_eq!(opened(&renamed, &key), Err(SealError::Open.into()));
    }

    #[test]
    fn the_largest_content_fits_and_no_larger() {
        let (anna, ben, key) = (Person::new(1), Person::new(2), SealingKey::from_seed([9; 32], NOW));
        let framing = stanza(MAX_CONTENT - 64).encode().len() - (MAX_CONTENT - 64);
        let largest = stanza(MAX_CONTENT - framing);
        assert_eq!(largest.encode().len(), MAX_CONTENT);
        let envelope = sealed(&anna, inner(&anna, &ben, &key, largest)).expect("seals");
        assert!(envelope.encode().len() <= MAX_ENVELOPE);
        assert!(opened(&envelope, &key).is_ok());
        assert!(sealed(&anna, inner(&anna, &ben, &key, stanza(MAX_PLAINTEXT))).is_err());
    }

    #[test]
    fn words_are_not_printed() {
        let content = Content::Stanza {
            from_resource: String::new(),
            to_resource: String::new(),
            xml: b"secret".to_vec(),
        };
        assert_eq!(format!("{content:?}"), "Stanza(6 bytes)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Content::decode(&bytes);
            prop_assert!(Envelope::decode(&bytes).is_err());
            let _ = unpad(&bytes);
        }

        #[test]
        fn padding_comes_off_again(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let padded = pad(&bytes).expect("small");
            prop_assert!(padded.len().is_power_of_two());
            prop_assert_eq!(unpad(&padded), Some(&bytes[..]));
        }
    }
}
