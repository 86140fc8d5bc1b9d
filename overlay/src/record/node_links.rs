//! A node says which nodes it hears directly: who is named by several is on the link. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload,
};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::Domain;
use crate::time::{HOUR, Hlc};

/// Nodes in one statement at most; of more connections the ones with the smallest ids are told.
pub const MAX_LINKS: usize = 64;

/// The first eight bytes of a node's id, by which it is named where a collision does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePrefix(pub [u8; 8]);

impl NodePrefix {
    /// Of this node.
    pub fn of(node: &NodeId) -> Self {
        Self(node.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

/// Signed by a device that a [`super::NodeBinding`] binds to the node; travels on link streams only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLinks {
    /// Whose device signs.
    pub user: UserId,
    /// The device, which signs.
    pub device: DeviceId,
    /// The node that hears.
    pub node: NodeId,
    /// When it was made.
    pub at: Hlc,
    /// Unix milliseconds, at most one hour after `at`.
    pub expires: u64,
    /// Whom it hears: sorted, none twice, at most [`MAX_LINKS`].
    pub hears: Vec<NodePrefix>,
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
    #[prost(message, optional, tag = "5")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "6")]
    expires: u64,
    /// Eight bytes each, one after another.
    #[prost(bytes = "vec", tag = "7")]
    hears: Vec<u8>,
}

impl Record for NodeLinks {
    const DOMAIN: Domain = Domain::NodeLinks;
    const MAX_SIZE: usize = 896 - FRAMING;
    const MAX_LIFE: u64 = HOUR;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let (hears, rest) = fields.hears.as_chunks::<8>();
        let sorted = hears.windows(2).all(|pair| pair[0] < pair[1]);
        if !rest.is_empty() || hears.len() > MAX_LINKS || !sorted {
            return Err(Refusal::Malformed { kind, what: "list of nodes" });
        }
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            node: NodeId::from_bytes(key_field(&fields.node, kind, "node")?),
            at: hlc_field(fields.at, kind, "at")?,
            expires: fields.expires,
            hears: hears.iter().map(|bytes| NodePrefix(*bytes)).collect(),
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            node: self.node.as_bytes().to_vec(),
            at: Some(self.at.into()),
            expires: self.expires,
            hears: self.hears.iter().flat_map(|prefix| prefix.0).collect(),
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

impl NodeLinks {
    /// Merge law: of two about the same node, the later clock reading, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |links| links.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn links(person: &Person, hears: Vec<NodePrefix>) -> Verified<NodeLinks> {
        let links = NodeLinks {
            user: person.id(),
            device: person.device.id(),
            node: NodeId::from_bytes([9; 32]),
            at: Hlc { millis: NOW, counter: 3 },
            expires: NOW + HOUR,
            hears,
        };
        Verified::sign(links, &person.device, None).expect("signs")
    }

    fn prefixes(count: u8) -> Vec<NodePrefix> {
        (0..count).map(|index| NodePrefix([index; 8])).collect()
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        survives_only_unaltered(&links(&me, prefixes(3)), &me.cert);
    }

    #[test]
    fn the_list_is_bounded_sorted_and_has_none_twice() {
        let me = Person::new(1);
        let full = links(&me, prefixes(MAX_LINKS as u8));
        assert_eq!(check::<NodeLinks>(full.bytes(), &me.cert).expect("full").hears.len(), MAX_LINKS);
        let malformed = Refusal::Malformed { kind: "node-links", what: "list of nodes" };
        let (mut turned, mut twice) = (prefixes(2), prefixes(2));
        turned.reverse();
        twice[1] = twice[0];
        for hears in [turned, twice] {
            let refusal = check::<NodeLinks>(links(&me, hears).bytes(), &me.cert).expect_err("order");
            assert_eq!(refusal, malformed);
        }
    }
}
