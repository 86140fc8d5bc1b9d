//! A user key says: this device is mine. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, later, payload,
};
use crate::id::{DeviceId, UserId};
use crate::keys::{Domain, UserKey};
use crate::time::DAY;

/// Signed by the user key; proves which user a device speaks for, also after its end (DESIGN.md §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCert {
    /// Whose device it is, and who signs.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Unix milliseconds.
    pub issued: u64,
    /// Unix milliseconds, at most 400 days after `issued`.
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
    #[prost(uint64, tag = "4")]
    issued: u64,
    #[prost(uint64, tag = "5")]
    expires: u64,
}

impl Record for DeviceCert {
    const DOMAIN: Domain = Domain::DeviceCert;
    const MAX_SIZE: usize = 384 + FRAMING;
    const MAX_LIFE: u64 = 400 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            issued: fields.issued,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            issued: self.issued,
            expires: self.expires,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::User(self.user)
    }

    fn span(&self) -> Span {
        Span { from: self.issued, until: Some(self.expires), end_counts: false }
    }
}

impl DeviceCert {
    /// Certifies `device` for 400 days from `wall`.
    pub fn issue(user: &UserKey, device: DeviceId, wall: u64) -> Result<Verified<Self>, Refusal> {
        let cert =
            Self { user: user.id(), device, issued: wall, expires: wall.saturating_add(Self::MAX_LIFE) };
        Verified::sign(cert, user, None)
    }

    /// Merge law: of two certificates for the same user and device, the later issued, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |cert| cert.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{NoCertificates, Refusal};
    use super::*;

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&Person::new(1).cert, &NoCertificates);
    }

    #[test]
    fn nobody_else_certifies_my_device() {
        let (me, other) = (Person::new(1), Person::new(2));
        let forged = DeviceCert { user: me.id(), device: other.device.id(), issued: NOW, expires: NOW + 1 };
        let refusal = Verified::sign(forged, &other.user, None).expect_err("not the user");
        assert_eq!(refusal, Refusal::WrongSigner { kind: "device-cert" });
    }

    #[test]
    fn proves_identity_after_its_end_but_may_not_claim_more_than_400_days() {
        let me = Person::new(1);
        assert!(check_at::<DeviceCert>(me.cert.bytes(), &NoCertificates, NOW + 500 * DAY).is_ok());
        let long = DeviceCert { expires: NOW + 401 * DAY, ..(*me.cert).clone() };
        let long = Verified::sign(long, &me.user, None).expect("signs");
        let refusal = check::<DeviceCert>(long.bytes(), &NoCertificates).expect_err("too long");
        assert_eq!(refusal, Refusal::LivesTooLong { kind: "device-cert" });
    }

    #[test]
    fn a_certificate_from_the_future_is_refused() {
        let me = Person::new(1);
        let refusal =
            check_at::<DeviceCert>(me.cert.bytes(), &NoCertificates, NOW - 3 * DAY).expect_err("future");
        assert_eq!(refusal, Refusal::TooFarAhead { kind: "device-cert" });
    }
}
