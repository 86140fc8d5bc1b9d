//! A device and a node say together: the one lives on the other. Shown to peers on a live link only. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, later, payload,
};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::{Domain, NodeKey, Signs as _, verify};
use crate::time::DAY;

/// Signed by the device key over the node's consent: without it, anybody could put people of his on the nodes of others,
/// where they would be shown, and take the places of those who are there. Together with the handshake, which proves the
/// node, it makes a user live on a link.
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
    /// The node's signature over all of the above.
    pub consent: [u8; 64],
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
    /// 64 bytes; none in what the node signs.
    #[prost(bytes = "vec", tag = "7")]
    consent: Vec<u8>,
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
            consent: fields
                .consent
                .try_into()
                .map_err(|_| Refusal::Malformed { kind, what: "consent of the node" })?,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload { consent: self.consent.to_vec(), ..self.terms() }.encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.issued, until: Some(self.expires), end_counts: true }
    }

    fn is_agreed(&self) -> bool {
        let terms = self.terms().encode_to_vec();
        verify(self.node.as_bytes(), Domain::NodeConsent, &terms, &self.consent)
    }
}

impl NodeBinding {
    /// With the consent of the node, for the device to sign. Unix milliseconds; of one that ends when it is issued it is
    /// the end.
    pub fn agreed(user: UserId, device: DeviceId, node: &NodeKey, issued: u64, expires: u64) -> Self {
        let binding = Self { user, device, node: node.id(), issued, expires, consent: [0; 64] };
        let consent = node.sign(Domain::NodeConsent, &binding.terms().encode_to_vec());
        Self { consent, ..binding }
    }

    fn terms(&self) -> Payload {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            node: self.node.as_bytes().to_vec(),
            issued: self.issued,
            expires: self.expires,
            consent: Vec::new(),
        }
    }

    /// Merge law: of two by the same device, the later issued, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |binding| binding.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn agreed(person: &Person, node: u8) -> NodeBinding {
        let node = NodeKey::from_seed([node; 32]);
        NodeBinding::agreed(person.id(), person.device.id(), &node, NOW, NOW + 7 * DAY)
    }

    fn binding(person: &Person, node: u8) -> Verified<NodeBinding> {
        Verified::sign(agreed(person, node), &person.device, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        survives_only_unaltered(&binding(&me, 9), &me.cert);
    }

    #[test]
    fn no_device_is_on_a_node_that_did_not_agree_to_that() {
        let (me, other) = (Person::new(1), Person::new(2));
        let node = NodeKey::from_seed([9; 32]).id();
        let elsewhere = NodeBinding { node, ..agreed(&me, 8) };
        let of_another = NodeBinding { consent: agreed(&other, 9).consent, ..agreed(&me, 9) };
        let later = NodeBinding { issued: NOW + 1, ..agreed(&me, 9) };
        for forged in [elsewhere, of_another, later] {
            let forged = Verified::sign(forged, &me.device, None).expect("signs");
            let refusal = check::<NodeBinding>(forged.bytes(), &me.cert).expect_err("no consent");
            assert_eq!(refusal, Refusal::Signature { kind: "node-binding" });
        }
    }

    #[test]
    fn nobody_else_moves_my_device() {
        let (me, other) = (Person::new(1), Person::new(2));
        let forged = NodeBinding { device: other.device.id(), ..(*binding(&me, 9)).clone() };
        let forged = Verified::sign(forged, &other.device, None).expect("signs");
        assert!(check::<NodeBinding>(forged.bytes(), &other.cert).is_err());
    }
}
