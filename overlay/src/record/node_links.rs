//! A node says which nodes it hears directly: who is named by several is on the link. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload,
};
use crate::id::NodeId;
use crate::keys::Domain;
use crate::time::{HOUR, Hlc};

/// Nodes in one statement at most; of more connections the ones with the smallest ids are told.
pub const MAX_LINKS: usize = 64;

/// The first sixteen bytes of a node's id. To find a key that shares them with the node of another takes 2^128 tries,
/// two keys of one's own that do 2^64; with eight bytes it would be 2^64, and 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePrefix(pub [u8; 16]);

impl NodePrefix {
    /// Of this node.
    pub fn of(node: &NodeId) -> Self {
        Self(node.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

/// Signed by the node, so nobody speaks for another's; travels on link streams only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLinks {
    /// The node that hears, which signs.
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
    node: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "4")]
    expires: u64,
    /// Sixteen bytes each, one after another.
    #[prost(bytes = "vec", tag = "5")]
    hears: Vec<u8>,
}

impl Record for NodeLinks {
    const DOMAIN: Domain = Domain::NodeLinks;
    const MAX_SIZE: usize = 1_152 + FRAMING;
    const MAX_LIFE: u64 = HOUR;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let (hears, rest) = fields.hears.as_chunks::<16>();
        let sorted = hears.windows(2).all(|pair| pair[0] < pair[1]);
        if !rest.is_empty() || hears.len() > MAX_LINKS || !sorted {
            return Err(Refusal::Malformed { kind, what: "list of nodes" });
        }
        Ok(Self {
            node: NodeId::from_bytes(key_field(&fields.node, kind, "node")?),
            at: hlc_field(fields.at, kind, "at")?,
            expires: fields.expires,
            hears: hears.iter().map(|bytes| NodePrefix(*bytes)).collect(),
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            node: self.node.as_bytes().to_vec(),
            at: Some(self.at.into()),
            expires: self.expires,
            hears: self.hears.iter().flat_map(|prefix| prefix.0).collect(),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Node(self.node)
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
    use super::super::{NoCertificates, SignedRecord};
    use super::*;
    use crate::keys::{NodeKey, Signs as _};

    fn links(key: &NodeKey, hears: Vec<NodePrefix>) -> Verified<NodeLinks> {
        let at = Hlc { millis: NOW, counter: u32::MAX };
        let links = NodeLinks { node: key.id(), at, expires: NOW + HOUR, hears };
        Verified::sign(links, key, None).expect("signs")
    }

    fn prefixes(count: u8) -> Vec<NodePrefix> {
        (0..count).map(|index| NodePrefix([index; 16])).collect()
    }

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&links(&NodeKey::from_seed([9; 32]), prefixes(3)), &NoCertificates);
    }

    #[test]
    fn no_other_key_speaks_for_a_node() {
        let (node, liar) = (NodeKey::from_seed([9; 32]), NodeKey::from_seed([8; 32]));
        let claimed = NodeLinks { node: node.id(), ..(*links(&liar, prefixes(3))).clone() };
        assert!(Verified::sign(claimed.clone(), &liar, None).is_err());
        let honest = SignedRecord::decode(links(&liar, prefixes(3)).bytes()).expect("a record");
        let (payload, signature) =
            (claimed.to_payload(), liar.sign(Domain::NodeLinks, &claimed.to_payload()));
        for (signer, refusal) in [
            (liar.id(), Refusal::WrongSigner { kind: "node-links" }),
            (node.id(), Refusal::Signature { kind: "node-links" }),
        ] {
            let (payload, signature) = (payload.clone(), signature.to_vec());
            let forged =
                SignedRecord { payload, signature, signer: signer.as_bytes().to_vec(), ..honest.clone() };
            let checked = check::<NodeLinks>(&forged.encode_to_vec(), &NoCertificates);
            assert_eq!(checked.expect_err("forged"), refusal);
        }
    }

    #[test]
    fn the_list_is_bounded_sorted_and_has_none_twice() {
        let key = NodeKey::from_seed([9; 32]);
        let full = links(&key, prefixes(MAX_LINKS as u8));
        let checked = check::<NodeLinks>(full.bytes(), &NoCertificates).expect("full");
        assert_eq!(checked.hears.len(), MAX_LINKS);
        let malformed = Refusal::Malformed { kind: "node-links", what: "list of nodes" };
        let (mut turned, mut twice) = (prefixes(2), prefixes(2));
        turned.reverse();
        twice[1] = twice[0];
        for hears in [turned, twice, prefixes(MAX_LINKS as u8 + 1)] {
            let refusal = check::<NodeLinks>(links(&key, hears).bytes(), &NoCertificates).expect_err("order");
            assert_eq!(refusal, malformed);
        }
    }
}
