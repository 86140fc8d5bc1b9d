//! A device says to a holder: I am here to get my mail. *Pure.*

use prost::Message as _;

use super::{FRAMING, Record, Refusal, Signer, Span, VERSION, key_field, kind_name, payload};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::Domain;
use crate::time::MINUTE;

/// Signed by the device, with its certificate attached, for one session with one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxAccess {
    /// Whose mailbox.
    pub user: UserId,
    /// The device whose items are wanted, which signs.
    pub device: DeviceId,
    /// The node that is asked.
    pub holder: NodeId,
    /// The session number of that node's Hello: nobody can say it again on another session.
    pub session: u64,
    /// When it was made, Unix milliseconds.
    pub at: u64,
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
    holder: Vec<u8>,
    #[prost(fixed64, tag = "5")]
    session: u64,
    #[prost(uint64, tag = "6")]
    at: u64,
}

impl Record for MailboxAccess {
    const DOMAIN: Domain = Domain::MailboxAccess;
    const MAX_SIZE: usize = 896 + FRAMING;
    const MAX_LIFE: u64 = 10 * MINUTE;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            holder: NodeId::from_bytes(key_field(&fields.holder, kind, "holder")?),
            session: fields.session,
            at: fields.at,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            holder: self.holder.as_bytes().to_vec(),
            session: self.session,
            at: self.at,
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.user, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.at, until: Some(self.at.saturating_add(Self::MAX_LIFE)), end_counts: true }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{NoCertificates, Refusal, Verified};
    use super::*;
    use crate::time::{DAY, HOUR};

    fn access(person: &Person) -> MailboxAccess {
        let (user, device) = (person.id(), person.device.id());
        MailboxAccess { user, device, holder: NodeId::from_bytes([9; 32]), session: 7, at: NOW }
    }

    #[test]
    fn verifies_unaltered_only_and_brings_its_certificate() {
        let me = Person::new(1);
        let access = Verified::sign(access(&me), &me.device, Some(&me.cert)).expect("signs");
        survives_only_unaltered(&access, &NoCertificates);
        let refusal = check_at::<MailboxAccess>(access.bytes(), &me.cert, NOW + 2 * DAY + HOUR);
        assert_eq!(refusal, Err(Refusal::Expired { kind: "mailbox-access" }));
    }

    #[test]
    fn nobody_else_gets_my_mail() {
        let (me, other) = (Person::new(1), Person::new(2));
        let forged = MailboxAccess { device: other.device.id(), ..access(&me) };
        let forged = Verified::sign(forged, &other.device, Some(&other.cert)).expect("signs");
        let refusal = check::<MailboxAccess>(forged.bytes(), &NoCertificates).expect_err("other user");
        assert_eq!(refusal, Refusal::WrongSigner { kind: "mailbox-access" });
    }
}
