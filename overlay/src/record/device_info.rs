//! A device says: these are my sealing keys. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload,
};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::Domain;
use crate::time::{DAY, Hlc};

/// Sealing keys that one device publishes at most.
pub const MAX_SEALING_KEYS: usize = 8;
/// Nodes that one device names as its mailboxes at most.
pub const MAX_DECLARED: usize = 4;

/// A published sealing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealingPublic {
    /// X25519 public key.
    pub public: [u8; 32],
    /// Unix milliseconds; the newest is sealed to.
    pub created: u64,
}

/// Signed by the device key; unchanged by logins, so that a stranger learns nothing of where or whether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Whose device it is.
    pub user: UserId,
    /// The device, which signs.
    pub device: DeviceId,
    /// At least one, at most [`MAX_SEALING_KEYS`].
    pub sealing: Vec<SealingPublic>,
    /// Grows when the device's store was restored or its clock had been wrong; counts before `at`.
    pub epoch: u64,
    /// When it was made.
    pub at: Hlc,
    /// Unix milliseconds, at most 7 days after `at`.
    pub expires: u64,
    /// Nodes that hold what waits for the user, at most [`MAX_DECLARED`]. None: those closest in the hash table do.
    pub mailboxes: Vec<NodeId>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    device: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    sealing: Vec<SealingField>,
    #[prost(uint64, tag = "5")]
    epoch: u64,
    #[prost(message, optional, tag = "6")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "7")]
    expires: u64,
    #[prost(bytes = "vec", repeated, tag = "8")]
    mailboxes: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SealingField {
    #[prost(bytes = "vec", tag = "1")]
    public: Vec<u8>,
    #[prost(uint64, tag = "2")]
    created: u64,
}

impl Record for DeviceInfo {
    const DOMAIN: Domain = Domain::DeviceInfo;
    const MAX_SIZE: usize = 896 + FRAMING;
    const MAX_LIFE: u64 = 7 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        if fields.sealing.is_empty() || fields.sealing.len() > MAX_SEALING_KEYS {
            return Err(Refusal::Malformed { kind, what: "list of sealing keys" });
        }
        if fields.mailboxes.len() > MAX_DECLARED {
            return Err(Refusal::Malformed { kind, what: "list of mailboxes" });
        }
        let mailboxes =
            fields.mailboxes.iter().map(|node| key_field(node, kind, "mailbox").map(NodeId::from_bytes));
        let mailboxes = mailboxes.collect::<Result<_, Refusal>>()?;
        let sealing = fields
            .sealing
            .iter()
            .map(|field| {
                let public = key_field(&field.public, kind, "sealing key")?;
                Ok(SealingPublic { public, created: field.created })
            })
            .collect::<Result<_, Refusal>>()?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            sealing,
            epoch: fields.epoch,
            at: hlc_field(fields.at, kind, "at")?,
            expires: fields.expires,
            mailboxes,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        let sealing = self.sealing.iter();
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            sealing: sealing
                .map(|key| SealingField { public: key.public.to_vec(), created: key.created })
                .collect(),
            epoch: self.epoch,
            at: Some(self.at.into()),
            expires: self.expires,
            mailboxes: self.mailboxes.iter().map(|node| node.as_bytes().to_vec()).collect(),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.at.millis, until: Some(self.expires), end_counts: true }
    }
}

impl DeviceInfo {
    /// The key to seal to.
    pub fn newest(&self) -> Option<&SealingPublic> {
        self.sealing.iter().max_by_key(|key| (key.created, key.public))
    }

    /// Merge law: of two by the same device, the later epoch, then clock reading, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |info| (info.epoch, info.at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{NoCertificates, Refusal};
    use super::*;

    fn info(person: &Person, epoch: u64, millis: u64) -> Verified<DeviceInfo> {
        let info = DeviceInfo {
            user: person.id(),
            device: person.device.id(),
            sealing: vec![
                SealingPublic { public: [1; 32], created: 5 },
                SealingPublic { public: [2; 32], created: 9 },
            ],
            epoch,
            at: Hlc { millis, counter: 1 },
            expires: millis + 7 * DAY,
            mailboxes: Vec::new(),
        };
        Verified::sign(info, &person.device, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        let info = info(&me, 1, NOW);
        survives_only_unaltered(&info, &me.cert);
        assert_eq!(info.newest().map(|key| key.created), Some(9));
    }

    #[test]
    fn needs_the_certificate_of_its_own_user() {
        let (me, other) = (Person::new(1), Person::new(2));
        let refusal = check::<DeviceInfo>(info(&me, 1, NOW).bytes(), &NoCertificates).expect_err("unknown");
        assert_eq!(refusal, Refusal::NoCertificate { kind: "device-info" });
        let claimed = DeviceInfo { user: other.id(), ..(*info(&me, 1, NOW)).clone() };
        let claimed = Verified::sign(claimed, &me.device, None).expect("signs");
        let refusal = check::<DeviceInfo>(claimed.bytes(), &me.cert).expect_err("other user");
        assert_eq!(refusal, Refusal::WrongSigner { kind: "device-info" });
    }

    #[test]
    fn expires_after_a_week_and_two_days_of_skew() {
        let me = Person::new(1);
        let info = info(&me, 1, NOW);
        assert!(check_at::<DeviceInfo>(info.bytes(), &me.cert, NOW + 9 * DAY).is_ok());
        let refusal = check_at::<DeviceInfo>(info.bytes(), &me.cert, NOW + 9 * DAY + 1).expect_err("old");
        assert_eq!(refusal, Refusal::Expired { kind: "device-info" });
    }

    #[test]
    fn a_new_epoch_beats_a_later_clock() {
        let me = Person::new(1);
        let (old, new) = (info(&me, 1, NOW + DAY), info(&me, 2, NOW));
        assert_eq!(DeviceInfo::merge(old.clone(), new.clone()), new);
        assert_eq!(DeviceInfo::merge(new.clone(), old), new);
    }
}
