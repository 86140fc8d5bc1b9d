//! A device says of one envelope: I hold it durably, I refuse it, or I cannot open it. *Pure.*

use prost::Message as _;

use super::{FRAMING, Record, Refusal, Signer, Span, VERSION, id_field, key_field, kind_name, payload};
use crate::id::{DeviceId, MessageId, UserId};
use crate::keys::Domain;

/// Why a message was not taken. A blocked sender is not told: it gets a plain receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum RefusalCode {
    /// The recipient has no account there.
    #[error("the recipient has no account there")]
    NoSuchUser,
    /// The recipient's store is full.
    #[error("the recipient's store is full: try again later")]
    Full,
    /// Larger than the recipient takes.
    #[error("the message is larger than the recipient takes")]
    TooLarge,
    /// The recipient's node does not take such a message.
    #[error("the recipient's node does not take such a message")]
    Policy,
}

impl RefusalCode {
    /// The number on the wire and in the store.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::NoSuchUser => 1,
            Self::Full => 2,
            Self::TooLarge => 3,
            Self::Policy => 4,
        }
    }

    /// Reads [`Self::to_wire`]; a code of a later version counts as [`Self::Policy`].
    pub fn from_wire(code: u32) -> Self {
        match code {
            1 => Self::NoSuchUser,
            2 => Self::Full,
            3 => Self::TooLarge,
            _ => Self::Policy,
        }
    }
}

/// What became of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// It is held durably (or was before).
    Held,
    /// It was not taken, and will not be.
    Refused(RefusalCode),
    /// It does not open: refresh the recipient's record and seal again.
    CannotOpen,
}

/// Signed by the recipient device. Idempotent, and never itself receipted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The envelope that it answers.
    pub envelope: MessageId,
    /// The message inside; all zero for [`ReceiptOutcome::CannotOpen`].
    pub message: MessageId,
    /// The device that sent it; all zero for [`ReceiptOutcome::CannotOpen`].
    pub sender: DeviceId,
    /// The user whose device answers.
    pub user: UserId,
    /// The device that answers, which signs.
    pub recipient: DeviceId,
    /// What became of it.
    pub outcome: ReceiptOutcome,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    envelope: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    message: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    sender: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    recipient: Vec<u8>,
    /// 1 held, 2 refused, 3 cannot open.
    #[prost(uint32, tag = "7")]
    outcome: u32,
    #[prost(uint32, tag = "8")]
    code: u32,
}

impl Record for Receipt {
    const DOMAIN: Domain = Domain::Receipt;
    const MAX_SIZE: usize = 384 + FRAMING;
    const MAX_LIFE: u64 = 0;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let outcome = match fields.outcome {
            1 => ReceiptOutcome::Held,
            2 => ReceiptOutcome::Refused(RefusalCode::from_wire(fields.code)),
            3 => ReceiptOutcome::CannotOpen,
            _ => return Err(Refusal::Malformed { kind, what: "outcome" }),
        };
        Ok(Self {
            envelope: MessageId::from_bytes(id_field(&fields.envelope, kind, "envelope")?),
            message: MessageId::from_bytes(id_field(&fields.message, kind, "message")?),
            sender: DeviceId::from_bytes(key_field(&fields.sender, kind, "sender")?),
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            recipient: DeviceId::from_bytes(key_field(&fields.recipient, kind, "recipient")?),
            outcome,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        let (outcome, code) = match self.outcome {
            ReceiptOutcome::Held => (1, 0),
            ReceiptOutcome::Refused(code) => (2, code.to_wire()),
            ReceiptOutcome::CannotOpen => (3, 0),
        };
        Payload {
            version: VERSION,
            envelope: self.envelope.as_bytes().to_vec(),
            message: self.message.as_bytes().to_vec(),
            sender: self.sender.as_bytes().to_vec(),
            user: self.user.as_bytes().to_vec(),
            recipient: self.recipient.as_bytes().to_vec(),
            outcome,
            code,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.recipient)
    }

    fn span(&self) -> Span {
        Span { from: 0, until: None, end_counts: false }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verified;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn every_outcome_verifies_unaltered_only() {
        let me = Person::new(1);
        let mut outcomes = vec![ReceiptOutcome::Held, ReceiptOutcome::CannotOpen];
        outcomes.extend((1..=4).map(|code| ReceiptOutcome::Refused(RefusalCode::from_wire(code))));
        for outcome in outcomes {
            let receipt = Receipt {
                envelope: MessageId::from_bytes([1; 16]),
                message: MessageId::from_bytes([2; 16]),
                sender: DeviceId::from_bytes([3; 32]),
                user: me.id(),
                recipient: me.device.id(),
                outcome,
            };
            survives_only_unaltered(&Verified::sign(receipt, &me.device, None).expect("signs"), &me.cert);
        }
    }
}
