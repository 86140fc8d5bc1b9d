//! An authority says: from now on this other key speaks for the domain. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, payload, text_field,
};
use crate::id::AuthorityId;
use crate::keys::{AuthorityKey, Domain, Signs as _, verify};
use crate::record::domain_of;

/// Signed by the old key over the consent of the new one: so whoever believes either knows that the other is of the same
/// authority. What a reader makes of several is decided by [`crate::authority::Chain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The domain that it is about; a key may speak for several.
    pub domain: String,
    /// The key that spoke for it until now, and signs.
    pub old: AuthorityId,
    /// The key that speaks for it from now on.
    pub new: AuthorityId,
    /// Since when, Unix milliseconds: nothing that the old key issues later counts.
    pub since: u64,
    /// The new key's signature over all of the above.
    pub consent: [u8; 64],
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(bytes = "vec", tag = "3")]
    old: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    new: Vec<u8>,
    #[prost(uint64, tag = "5")]
    since: u64,
    /// 64 bytes; none in what the new key signs.
    #[prost(bytes = "vec", tag = "6")]
    consent: Vec<u8>,
}

impl Record for Rotation {
    const DOMAIN: Domain = Domain::Rotation;
    const MAX_SIZE: usize = 512 + FRAMING;
    const MAX_LIFE: u64 = 0;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let domain = text_field(fields.domain, 255, kind, "domain")?;
        check(&domain)?;
        let rotation = Self {
            domain,
            old: AuthorityId::from_bytes(key_field(&fields.old, kind, "old key")?),
            new: AuthorityId::from_bytes(key_field(&fields.new, kind, "new key")?),
            since: fields.since,
            consent: fields
                .consent
                .try_into()
                .map_err(|_| Refusal::Malformed { kind, what: "consent of the new key" })?,
        };
        if rotation.old == rotation.new {
            return Err(Refusal::Malformed { kind, what: "new key" });
        }
        Ok(rotation)
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload { consent: self.consent.to_vec(), ..self.terms() }.encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Authority(self.old)
    }

    fn span(&self) -> Span {
        Span { from: self.since, until: None, end_counts: false }
    }

    fn is_agreed(&self) -> bool {
        let terms = self.terms().encode_to_vec();
        verify(self.new.as_bytes(), Domain::RotationConsent, &terms, &self.consent)
    }
}

fn check(domain: &str) -> Result<(), Refusal> {
    let fits = domain_of(&format!("a@{domain}")).is_some_and(|_| domain != crate::id::XID_DOMAIN);
    if fits { Ok(()) } else { Err(Refusal::Malformed { kind: kind_name::<Rotation>(), what: "domain" }) }
}

impl Rotation {
    /// Hands a domain over from one key to another; Unix milliseconds.
    ///
    /// # Errors
    /// When the domain is none.
    pub fn issue(
        old: &AuthorityKey,
        new: &AuthorityKey,
        domain: &str,
        since: u64,
    ) -> Result<Verified<Self>, Refusal> {
        check(domain)?;
        let rotation =
            Self { domain: domain.to_owned(), old: old.id(), new: new.id(), since, consent: [0; 64] };
        let consent = new.sign(Domain::RotationConsent, &rotation.terms().encode_to_vec());
        Verified::sign(Self { consent, ..rotation }, old, None)
    }

    fn terms(&self) -> Payload {
        Payload {
            version: VERSION,
            domain: self.domain.clone(),
            old: self.old.as_bytes().to_vec(),
            new: self.new.as_bytes().to_vec(),
            since: self.since,
            consent: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoCertificates;
    use super::super::testing::*;
    use super::*;

    fn key(byte: u8) -> AuthorityKey {
        AuthorityKey::from_seed([byte; 32])
    }

    #[test]
    fn verifies_unaltered_only() {
        let rotation = Rotation::issue(&key(1), &key(2), "school.example", NOW).expect("signs");
        survives_only_unaltered(&rotation, &NoCertificates);
    }

    #[test]
    fn no_key_follows_that_did_not_agree_to_that() {
        let good = Rotation::issue(&key(1), &key(2), "school.example", NOW).expect("signs");
        let other = Rotation::issue(&key(3), &key(4), "school.example", NOW).expect("signs");
        let elsewhere = Rotation { new: key(4).id(), ..Rotation::clone(&good) };
        let of_another = Rotation { consent: other.consent, ..Rotation::clone(&good) };
        let of_another_domain = Rotation { domain: "office.example".into(), ..Rotation::clone(&good) };
        for forged in [elsewhere, of_another, of_another_domain] {
            let forged = Verified::sign(forged, &key(1), None).expect("signs");
            let refusal = check_record(forged.bytes()).expect_err("no consent");
            assert_eq!(refusal, Refusal::Signature { kind: "rotation" });
        }
        let to_itself = Rotation::issue(&key(1), &key(1), "school.example", NOW).expect("signs");
        assert!(check_record(to_itself.bytes()).is_err());
        for domain in ["", "a b", "a@b", "id.internal"] {
            assert!(Rotation::issue(&key(1), &key(2), domain, NOW).is_err(), "{domain}");
        }
    }

    fn check_record(bytes: &[u8]) -> Result<Verified<Rotation>, Refusal> {
        super::super::testing::check::<Rotation>(bytes, &NoCertificates)
    }
}
