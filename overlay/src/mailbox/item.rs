//! One item of a mailbox: a sealed message, or sealed receipts. Its bytes are its name. *Pure.*

use prost::Message as _;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};

use crate::envelope::{Envelope, EnvelopeError, MAX_ENVELOPE, header, pad, unpad};
use crate::id::{DeviceId, ItemId, MessageId};
use crate::keys::SealingKey;
use crate::record::{Receipt, Record, Refusal};
use crate::seal::{open, seal};

/// Bytes of an encoded item at most.
pub const MAX_ITEM: usize = MAX_ENVELOPE;
/// Receipts in one item at most.
pub const MAX_RECEIPTS: usize = 128;

const INFO: &[u8] = b"crosstalk/1/sealed-receipts";
const KIND: &str = "item";

/// What is sealed inside an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message: see [`Envelope::open`].
    Envelope,
    /// Signed [`Receipt`]s.
    Receipts,
}

/// What a mailbox holds: the outer part that its holder sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is inside.
    pub kind: Kind,
    /// For whom, and the sealed bytes.
    pub envelope: Envelope,
}

/// Field 7 of the outer part.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct KindField {
    #[prost(uint32, tag = "7")]
    kind: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReceiptsPayload {
    #[prost(bytes = "vec", repeated, tag = "1")]
    receipts: Vec<Vec<u8>>,
}

impl Item {
    /// Seals signed receipts for a device. Refused if they are more than [`MAX_RECEIPTS`].
    pub fn seal_receipts(
        id: MessageId,
        recipient: DeviceId,
        key: [u8; 32],
        receipts: Vec<Vec<u8>>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, EnvelopeError> {
        let too_large =
            Refusal::TooLarge { kind: KIND, size: receipts.len(), max: MAX_RECEIPTS * Receipt::MAX_SIZE };
        if receipts.len() > MAX_RECEIPTS {
            return Err(too_large.into());
        }
        let plaintext = pad(&ReceiptsPayload { receipts }.encode_to_vec()).ok_or(too_large)?;
        let sealed = seal(&key, INFO, &header(&id, &recipient, &key), &plaintext, rng)?;
        Ok(Self { kind: Kind::Receipts, envelope: Envelope { id, recipient, key, sealed } })
    }

    /// The signed receipts inside, each still to be verified.
    pub fn open_receipts(&self, key: &SealingKey) -> Result<Vec<Vec<u8>>, EnvelopeError> {
        let envelope = &self.envelope;
        let aad = header(&envelope.id, &envelope.recipient, &envelope.key);
        let padded = open(key, INFO, &aad, &envelope.sealed)?;
        let malformed = Refusal::Malformed { kind: KIND, what: "list of receipts" };
        let bytes = unpad(&padded).ok_or_else(|| malformed.clone())?;
        let receipts = ReceiptsPayload::decode(bytes).map_err(|_| malformed.clone())?.receipts;
        let fits = |receipt: &Vec<u8>| receipt.len() <= Receipt::MAX_SIZE;
        if receipts.len() > MAX_RECEIPTS || !receipts.iter().all(fits) {
            return Err(malformed.into());
        }
        Ok(receipts)
    }

    /// The bytes for the wire and for the store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.envelope.encode();
        let kind = match self.kind {
            Kind::Envelope => 0,
            Kind::Receipts => 1,
        };
        bytes.extend(KindField { kind }.encode_to_vec());
        bytes
    }

    /// Reads [`Self::encode`]; checks sizes and the kind only.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_ITEM {
            return Err(Refusal::TooLarge { kind: KIND, size: bytes.len(), max: MAX_ITEM });
        }
        let malformed = Refusal::Malformed { kind: KIND, what: "kind" };
        let kind = match KindField::decode(bytes).map_err(|_| malformed.clone())?.kind {
            0 => Kind::Envelope,
            1 => Kind::Receipts,
            _ => return Err(malformed),
        };
        Ok(Self { kind, envelope: Envelope::decode(bytes)? })
    }
}

/// The name of an item of these bytes.
pub fn item_id(bytes: &[u8]) -> ItemId {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    ItemId::from_bytes(std::array::from_fn(|index| hash[index]))
}
