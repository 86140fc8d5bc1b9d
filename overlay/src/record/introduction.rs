//! An authority says which key speaks for another domain, so that who believes the one need not guess the other. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, domain_of, key_field, kind_name, payload,
    text_field,
};
use crate::id::{AuthorityId, XID_DOMAIN};
use crate::keys::{AuthorityKey, Domain};
use crate::time::DAY;

/// Signed by the authority of `by`. Whether that one counts is decided by the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The domain that introduces.
    pub by: String,
    /// Its key, which signs.
    pub authority: AuthorityId,
    /// The domain that is introduced.
    pub domain: String,
    /// The key that speaks for it; nothing: what was said before is taken back.
    pub key: Option<AuthorityId>,
    /// Grows with each that the introducing domain makes, about whichever domain.
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
    by: String,
    #[prost(bytes = "vec", tag = "3")]
    authority: Vec<u8>,
    #[prost(string, tag = "4")]
    domain: String,
    /// 32 bytes, or none.
    #[prost(bytes = "vec", tag = "5")]
    key: Vec<u8>,
    #[prost(uint64, tag = "6")]
    serial: u64,
    #[prost(uint64, tag = "7")]
    issued: u64,
    #[prost(uint64, tag = "8")]
    expires: u64,
}

impl Record for Introduction {
    const DOMAIN: Domain = Domain::Introduction;
    const MAX_SIZE: usize = 640 + FRAMING;
    const MAX_LIFE: u64 = 400 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let (by, domain) =
            (text_field(fields.by, 255, kind, "by")?, text_field(fields.domain, 255, kind, "domain")?);
        check(&by, &domain)?;
        let key = match fields.key.is_empty() {
            true => None,
            false => Some(AuthorityId::from_bytes(key_field(&fields.key, kind, "key")?)),
        };
        Ok(Self {
            by,
            authority: AuthorityId::from_bytes(key_field(&fields.authority, kind, "authority")?),
            domain,
            key,
            serial: fields.serial,
            issued: fields.issued,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            by: self.by.clone(),
            authority: self.authority.as_bytes().to_vec(),
            domain: self.domain.clone(),
            key: self.key.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
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
        Span { from: self.issued, until: Some(self.expires), end_counts: true }
    }
}

/// Both are domains, and not the same one.
fn check(by: &str, domain: &str) -> Result<(), Refusal> {
    let fits = |one: &str| domain_of(&format!("a@{one}")).is_some_and(|_| one != XID_DOMAIN);
    match fits(by) && fits(domain) && by != domain {
        true => Ok(()),
        false => Err(Refusal::Malformed { kind: kind_name::<Introduction>(), what: "domain" }),
    }
}

impl Introduction {
    /// Says for 400 days, by the authority of the domain `by`, that `key` speaks for `domain`; without a key, that what was
    /// said before counts no more. Unix milliseconds.
    ///
    /// # Errors
    /// When either is no domain, or both are the same.
    pub fn issue(
        authority: &AuthorityKey,
        by: &str,
        (domain, key): (&str, Option<AuthorityId>),
        serial: u64,
        wall: u64,
    ) -> Result<Verified<Self>, Refusal> {
        check(by, domain)?;
        let expires = wall.saturating_add(Self::MAX_LIFE);
        let (by, domain, authority_id) = (by.to_owned(), domain.to_owned(), authority.id());
        let said = Self { by, authority: authority_id, domain, key, serial, issued: wall, expires };
        Verified::sign(said, authority, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoCertificates;
    use super::super::testing::*;
    use super::*;

    fn issue(by: &str, domain: &str) -> Result<Verified<Introduction>, Refusal> {
        let key = AuthorityKey::from_seed([8; 32]).id();
        Introduction::issue(&authority(), by, (domain, Some(key)), 3, NOW)
    }

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&issue("school.example", "office.example").expect("signs"), &NoCertificates);
        let back = Introduction::issue(&authority(), "a.example", ("b.example", None), 3, NOW);
        survives_only_unaltered(&back.expect("signs"), &NoCertificates);
    }

    #[test]
    fn a_domain_introduces_others() {
        for (by, domain) in
            [("a", "a"), ("", "a"), ("a", ""), ("a", "b c"), ("a", "id.internal"), ("a@b", "c")]
        {
            assert!(issue(by, domain).is_err(), "{by} {domain}");
        }
        let long = "d".repeat(255);
        assert!(issue(&long, &format!("e{}", &long[1..])).is_ok());
    }

    #[test]
    fn its_end_counts() {
        let said = issue("a.example", "b.example").expect("signs");
        let judged = |now: u64| {
            let revocations = super::super::RevocationSet::default();
            let time = crate::time::TrustedTime::certain(now);
            let context = super::super::Context {
                time,
                certificates: &NoCertificates,
                revocations: &revocations,
                enforce_end: true,
            };
            super::super::Unverified::<Introduction>::parse(said.bytes())?.verify(&context)
        };
        assert!(judged(said.expires + 2 * DAY).is_ok());
        assert_eq!(
            judged(said.expires + 2 * DAY + 1).map(drop),
            Err(Refusal::Expired { kind: "introduction" })
        );
    }
}
