//! What everybody on the link may see of a user: the signed twin of an XEP-0174 TXT record. *Pure.*

use prost::Message as _;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload, text_field,
};
use crate::id::{DeviceId, UserId};
use crate::keys::Domain;
use crate::time::{Hlc, MINUTE};

/// Bytes of the instance name: a DNS label (RFC 6763 §4.1.1).
const MAX_INSTANCE: usize = 63;
/// Bytes of a nickname or status.
const MAX_TEXT: usize = 1_024;
/// Bytes of a show value; the longest one of RFC 6121 §4.7.2.1 has four.
const MAX_SHOW: usize = 16;

/// What a user shows on the link.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct LinkStatus {
    /// XEP-0174 service instance name, at most 63 bytes.
    pub instance: String,
    /// XEP-0172 nickname, at most 1,024 bytes.
    pub nickname: String,
    /// RFC 6121 §4.7.2.1 show, empty for plainly available.
    pub show: String,
    /// Status text, at most 1,024 bytes.
    pub status: String,
}

impl std::fmt::Debug for LinkStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkStatus(show {:?})", self.show)
    }
}

/// Signed by the device key; travels on link streams only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPresence {
    /// Who it is about.
    pub user: UserId,
    /// The device, which signs.
    pub device: DeviceId,
    /// What is shown.
    pub status: LinkStatus,
    /// When it was made.
    pub at: Hlc,
    /// Unix milliseconds, at most 2 minutes after `at`. The reader counts that life from the arrival by its own clock.
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
    #[prost(string, tag = "4")]
    instance: String,
    #[prost(string, tag = "5")]
    nickname: String,
    #[prost(string, tag = "6")]
    show: String,
    #[prost(string, tag = "7")]
    status: String,
    #[prost(message, optional, tag = "8")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "9")]
    expires: u64,
}

impl Record for LinkPresence {
    const DOMAIN: Domain = Domain::LinkPresence;
    const MAX_SIZE: usize = 4 * 1_024 - FRAMING;
    const MAX_LIFE: u64 = 2 * MINUTE;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            status: LinkStatus {
                instance: text_field(fields.instance, MAX_INSTANCE, kind, "instance")?,
                nickname: text_field(fields.nickname, MAX_TEXT, kind, "nickname")?,
                show: text_field(fields.show, MAX_SHOW, kind, "show")?,
                status: text_field(fields.status, MAX_TEXT, kind, "status")?,
            },
            at: hlc_field(fields.at, kind, "at")?,
            expires: fields.expires,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            instance: self.status.instance.clone(),
            nickname: self.status.nickname.clone(),
            show: self.status.show.clone(),
            status: self.status.status.clone(),
            at: Some(self.at.into()),
            expires: self.expires,
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

impl LinkStatus {
    /// Cuts what is longer than a record may carry, at character boundaries.
    pub fn fit(mut self) -> Self {
        for (text, max) in [
            (&mut self.instance, MAX_INSTANCE),
            (&mut self.nickname, MAX_TEXT),
            (&mut self.show, MAX_SHOW),
            (&mut self.status, MAX_TEXT),
        ] {
            let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        self
    }
}

impl LinkPresence {
    /// Milliseconds that it counts after its arrival.
    pub fn life(&self) -> u64 {
        self.expires.saturating_sub(self.at.millis)
    }

    /// Merge law: of two by the same device, the later clock reading, then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |presence| presence.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn presence(person: &Person, life: u64) -> Verified<LinkPresence> {
        let status = LinkStatus {
            instance: "anna@laptop".into(),
            nickname: "Anna".into(),
            show: "away".into(),
            status: "tea".into(),
        };
        let at = Hlc { millis: NOW, counter: 0 };
        let presence =
            LinkPresence { user: person.id(), device: person.device.id(), status, at, expires: NOW + life };
        Verified::sign(presence, &person.device, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        survives_only_unaltered(&presence(&me, 2 * MINUTE), &me.cert);
    }

    #[test]
    fn lives_two_minutes_at_most() {
        let me = Person::new(1);
        let refusal =
            check::<LinkPresence>(presence(&me, 2 * MINUTE + 1).bytes(), &me.cert).expect_err("long");
        assert_eq!(refusal, Refusal::LivesTooLong { kind: "link-presence" });
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let long =
            LinkStatus { instance: "é".repeat(40), status: "x".repeat(5_000), ..LinkStatus::default() }.fit();
        assert_eq!((long.instance.len(), long.status.len()), (62, 1_024));
    }

    #[test]
    fn the_words_of_a_status_are_not_printed() {
        let text = format!("{:?}", presence(&Person::new(1), 1));
        assert!(!text.contains("tea") && !text.contains("Anna"), "{text}");
    }
}
