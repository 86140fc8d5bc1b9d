//! A device says: I live on that node. Shown to peers on a live link only. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, later, payload,
};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::Domain;
use crate::time::DAY;

/// Signed by the device key. Together with the handshake, which proves the node, it makes a user live on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBinding {
    /// Whose device it is.
    pub user: UserId,
    /// The device, which signs.
    pub device: DeviceId,
    /// Where it lives.
    pub node: NodeId,
    /// Unix milliseconds.
    pub issued: u64,
    /// Unix milliseconds, at most 7 days after `issued`.
    pub expires: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    device: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    node: Vec<u8>,
    #[prost(uint64, tag = "5")]
    issued: u64,
    #[prost(uint64, tag = "6")]
    expires: u64,
}

impl Record for NodeBinding {
    const DOMAIN: Domain = Domain::NodeBinding;
    const MAX_SIZE: usize = 384 + FRAMING;
    const MAX_LIFE: u64 = 7 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            node: NodeId::from_bytes(key_field(&fields.node, kind, "node")?),
            issued: fields.issued,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            node: self.node.as_bytes().to_vec(),
            issued: self.issued,
            expires: self.expires,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.issued, until: Some(self.expires), end_counts: true }
    }
}

impl NodeBinding {
    /// Merge law: of two by the same device, the later issued, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |binding| binding.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn binding(person: &Person, node: u8) -> Verified<NodeBinding> {
        let binding = NodeBinding {
            user: person.id(),
            device: person.device.id(),
            node: NodeId::from_bytes([node; 32]),
            issued: NOW,
            expires: NOW + 7 * DAY,
        };
        Verified::sign(binding, &person.device, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        survives_only_unaltered(&binding(&me, 9), &me.cert);
    }

    #[test]
    fn nobody_else_moves_my_device() {
        let (me, other) = (Person::new(1), Person::new(2));
        let forged = NodeBinding { device: other.device.id(), ..(*binding(&me, 9)).clone() };
        let forged = Verified::sign(forged, &other.device, None).expect("signs");
        assert!(check::<NodeBinding>(forged.bytes(), &other.cert).is_err());
    }
}
