//! The owner of a mailbox says: whoever has this may put something in without work, once at each holder. *Pure.*

use prost::Message as _;

use super::{FRAMING, Record, Refusal, Signer, Span, VERSION, id_field, key_field, kind_name, payload};
use crate::id::{DeviceId, UserId};
use crate::keys::Domain;
use crate::time::DAY;

/// Signed by a device of the owner, with its certificate attached, and given to contacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Different for each token of a mailbox.
    pub serial: [u8; 16],
    /// Whose mailbox.
    pub mailbox: UserId,
    /// The device that signs.
    pub device: DeviceId,
    /// Unix milliseconds.
    pub issued: u64,
    /// Unix milliseconds, at most 90 days after `issued`.
    pub expires: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    serial: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    mailbox: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    device: Vec<u8>,
    #[prost(uint64, tag = "5")]
    issued: u64,
    #[prost(uint64, tag = "6")]
    expires: u64,
}

impl Record for Token {
    const DOMAIN: Domain = Domain::Token;
    const MAX_SIZE: usize = 896 + FRAMING;
    const MAX_LIFE: u64 = 90 * DAY;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        Ok(Self {
            serial: id_field(&fields.serial, kind, "serial")?,
            mailbox: UserId::from_bytes(key_field(&fields.mailbox, kind, "mailbox")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            issued: fields.issued,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            serial: self.serial.to_vec(),
            mailbox: self.mailbox.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            issued: self.issued,
            expires: self.expires,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.mailbox, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.issued, until: Some(self.expires), end_counts: true }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{NoCertificates, Refusal, Verified};
    use super::*;

    fn token(person: &Person) -> Token {
        let (mailbox, device) = (person.id(), person.device.id());
        Token { serial: [5; 16], mailbox, device, issued: NOW, expires: NOW + 90 * DAY }
    }

    #[test]
    fn verifies_unaltered_only_and_brings_its_certificate() {
        let me = Person::new(1);
        let token = Verified::sign(token(&me), &me.device, Some(&me.cert)).expect("signs");
        survives_only_unaltered(&token, &NoCertificates);
    }

    #[test]
    fn nobody_else_opens_my_mailbox_and_nobody_for_longer_than_90_days() {
        let (me, other) = (Person::new(1), Person::new(2));
        let forged = Token { device: other.device.id(), ..token(&me) };
        let forged = Verified::sign(forged, &other.device, Some(&other.cert)).expect("signs");
        let refusal = check::<Token>(forged.bytes(), &NoCertificates).expect_err("other user");
        assert_eq!(refusal, Refusal::WrongSigner { kind: "token" });
        let long = Token { expires: NOW + 91 * DAY, ..token(&me) };
        let long = Verified::sign(long, &me.device, Some(&me.cert)).expect("signs");
        let refusal = check::<Token>(long.bytes(), &NoCertificates).expect_err("too long");
        assert_eq!(refusal, Refusal::LivesTooLong { kind: "token" });
    }
}
