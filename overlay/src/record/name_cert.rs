//! An authority says: this address belongs to that user. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, later, payload,
    text_field,
};
use crate::id::{AuthorityId, UserId};
use crate::keys::{AuthorityKey, Domain};
use crate::time::{DAY, TrustedTime};

/// Bytes of an address at most: two parts of 255 bytes and an at sign.
const MAX_ADDRESS: usize = 511;

/// Signed by the authority that it names. Whether that authority may speak for the domain is decided by the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCert {
    /// A bare JID (RFC 6122), in the form that the authority prepared.
    pub address: String,
    /// Who has the address.
    pub user: UserId,
    /// Who says so, and who signs.
    pub authority: AuthorityId,
    /// Grows with each certificate that the authority issues for the address.
    pub serial: u64,
    /// Unix milliseconds.
    pub issued: u64,
    /// Unix milliseconds, at most 400 days after `issued`.
    pub expires: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(bytes = "vec", tag = "3")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    authority: Vec<u8>,
    #[prost(uint64, tag = "5")]
    serial: u64,
    #[prost(uint64, tag = "6")]
    issued: u64,
    #[prost(uint64, tag = "7")]
    expires: u64,
}

/// The domain of a bare JID, or nothing if it is none.
pub fn domain_of(address: &str) -> Option<&str> {
    let (local, domain) = address.split_once('@')?;
    let plain = |part: &str| {
        (1..=255).contains(&part.len())
            && !part.contains(|c: char| c == '@' || c == '/' || c.is_control() || c.is_whitespace())
    };
    (plain(local) && plain(domain)).then_some(domain)
}

impl Record for NameCert {
    const DOMAIN: Domain = Domain::NameCert;
    const MAX_SIZE: usize = 896 + FRAMING;
    const MAX_LIFE: u64 = 400 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let address = text_field(fields.address, MAX_ADDRESS, kind, "address")?;
        if domain_of(&address).is_none_or(|domain| domain == crate::id::XID_DOMAIN) {
            return Err(Refusal::Malformed { kind, what: "address" });
        }
        Ok(Self {
            address,
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            authority: AuthorityId::from_bytes(key_field(&fields.authority, kind, "authority")?),
            serial: fields.serial,
            issued: fields.issued,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            address: self.address.clone(),
            user: self.user.as_bytes().to_vec(),
            authority: self.authority.as_bytes().to_vec(),
            serial: self.serial,
            issued: self.issued,
            expires: self.expires,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Authority(self.authority)
    }

    fn span(&self) -> Span {
        Span { from: self.issued, until: Some(self.expires), end_counts: false }
    }
}

impl NameCert {
    /// Gives `address` to `user` for 400 days from `wall`.
    pub fn issue(
        authority: &AuthorityKey,
        address: &str,
        user: UserId,
        serial: u64,
        wall: u64,
    ) -> Result<Verified<Self>, Refusal> {
        if domain_of(address).is_none_or(|domain| domain == crate::id::XID_DOMAIN) {
            return Err(Refusal::Malformed { kind: kind_name::<Self>(), what: "address" });
        }
        let cert = Self {
            address: address.to_owned(),
            user,
            authority: authority.id(),
            serial,
            issued: wall,
            expires: wall.saturating_add(Self::MAX_LIFE),
        };
        Verified::sign(cert, authority, None)
    }

    /// The domain that the address is in.
    pub fn domain(&self) -> &str {
        domain_of(&self.address).unwrap_or_default()
    }

    /// Whether it is still valid; a clock that is not credible cannot end it.
    pub fn is_valid(&self, time: TrustedTime) -> bool {
        !time.credible || time.millis < self.expires
    }

    /// Merge law: of two certificates by the same authority for the same address or user, the higher serial, then the
    /// greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |cert| cert.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoCertificates;
    use super::super::testing::*;
    use super::*;

    fn cert() -> Verified<NameCert> {
        NameCert::issue(&authority(), "alice@school.example", Person::new(1).id(), 3, NOW).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&cert(), &NoCertificates);
    }

    #[test]
    fn an_authority_names_bare_addresses_and_no_xids() {
        for bad in ["alice", "@x", "a@", "a@b/c", "a@b@c", "a b@c", "a@id.internal"] {
            assert!(NameCert::issue(&authority(), bad, Person::new(1).id(), 1, NOW).is_err(), "{bad}");
        }
        assert_eq!(cert().domain(), "school.example");
    }

    #[test]
    fn validity_ends_with_the_certificate_for_a_credible_clock_only() {
        let end = cert().expires;
        assert!(cert().is_valid(TrustedTime::certain(end - 1)));
        assert!(!cert().is_valid(TrustedTime::certain(end)));
        assert!(cert().is_valid(TrustedTime { credible: false, ..TrustedTime::certain(end) }));
    }
}
