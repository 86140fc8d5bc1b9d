//! A device tells a user's contacts which sessions are there. *Pure.*

use std::fmt;

use prost::Message as _;

use super::{
    FRAMING, HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name,
    later, payload, text_field,
};
use crate::id::{DeviceId, UserId};
use crate::keys::Domain;
use crate::time::{Hlc, MINUTE};

/// Sessions of one device in one record, at most.
pub const MAX_SESSIONS: usize = 16;
/// Bytes of a resourcepart (RFC 7622 §3.4).
const MAX_RESOURCE: usize = 1_023;

/// One available session.
#[derive(Clone, PartialEq, Eq)]
pub struct PresenceSession {
    /// Resourcepart, at most 1,023 bytes.
    pub resource: String,
    /// RFC 6121 §4.7.2.3, −128 to 127.
    pub priority: i32,
    /// Available since, Unix milliseconds.
    pub since: u64,
    /// The presence stanza. The overlay never looks inside.
    pub payload: Vec<u8>,
}

impl fmt::Debug for PresenceSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresenceSession(priority {}, {} bytes)", self.priority, self.payload.len())
    }
}

/// Signed by the device key; the newest of each device counts. No sessions: the user is offline there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRecord {
    /// Who it is about.
    pub user: UserId,
    /// The device, which signs.
    pub device: DeviceId,
    /// When it was made.
    pub at: Hlc,
    /// Unix milliseconds, at most 30 minutes after `at`.
    pub expires: u64,
    /// At most [`MAX_SESSIONS`].
    pub sessions: Vec<PresenceSession>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    device: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    at: Option<HlcField>,
    #[prost(uint64, tag = "5")]
    expires: u64,
    #[prost(message, repeated, tag = "6")]
    sessions: Vec<SessionField>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionField {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(sint32, tag = "2")]
    priority: i32,
    #[prost(uint64, tag = "3")]
    since: u64,
    #[prost(bytes = "vec", tag = "4")]
    payload: Vec<u8>,
}

impl Record for PresenceRecord {
    const DOMAIN: Domain = Domain::Presence;
    const MAX_SIZE: usize = 16 * 1_024;
    const MAX_LIFE: u64 = 30 * MINUTE;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        if fields.sessions.len() > MAX_SESSIONS {
            return Err(Refusal::Malformed { kind, what: "list of sessions" });
        }
        let sessions = fields.sessions.into_iter().map(session).collect::<Result<_, _>>()?;
        Ok(Self {
            user: UserId::from_bytes(key_field(&fields.user, kind, "user")?),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            at: hlc_field(fields.at, kind, "at")?,
            expires: fields.expires,
            sessions,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        let sessions = self.sessions.iter().map(|session| SessionField {
            resource: session.resource.clone(),
            priority: session.priority,
            since: session.since,
            payload: session.payload.clone(),
        });
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            at: Some(self.at.into()),
            expires: self.expires,
            sessions: sessions.collect(),
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

fn session(field: SessionField) -> Result<PresenceSession, Refusal> {
    let kind = kind_name::<PresenceRecord>();
    if !(-128..=127).contains(&field.priority) {
        return Err(Refusal::Malformed { kind, what: "priority" });
    }
    Ok(PresenceSession {
        resource: text_field(field.resource, MAX_RESOURCE, kind, "resource")?,
        priority: field.priority,
        since: field.since,
        payload: field.payload,
    })
}

impl PresenceRecord {
    /// Keeps of `sessions` what one record can carry: the highest priorities first.
    pub fn fit(mut sessions: Vec<PresenceSession>) -> Vec<PresenceSession> {
        sessions.sort_by(|a, b| (b.priority, a.since, &a.resource).cmp(&(a.priority, b.since, &b.resource)));
        let mut left = Self::MAX_SIZE - 2 * FRAMING;
        sessions.retain(|session| {
            let size = session.resource.len() + session.payload.len() + 32;
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        });
        sessions.truncate(MAX_SESSIONS);
        sessions
    }

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
    use proptest::prelude::*;

    use super::super::testing::*;
    use super::*;

    fn session(resource: &str, priority: i32, size: usize) -> PresenceSession {
        PresenceSession { resource: resource.into(), priority, since: NOW, payload: vec![b'x'; size] }
    }

    fn presence(person: &Person, millis: u64, sessions: Vec<PresenceSession>) -> Verified<PresenceRecord> {
        let at = Hlc { millis, counter: 0 };
        let (user, device) = (person.id(), person.device.id());
        let record = PresenceRecord { user, device, at, expires: millis + 30 * MINUTE, sessions };
        Verified::sign(record, &person.device, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        let me = Person::new(1);
        survives_only_unaltered(&presence(&me, NOW, vec![session("desk", -3, 40)]), &me.cert);
    }

    #[test]
    fn what_does_not_fit_is_left_out_lowest_priority_first() {
        let me = Person::new(1);
        let sessions: Vec<_> = (0..40).map(|index| session(&format!("r{index}"), index, 900)).collect();
        let kept = PresenceRecord::fit(sessions);
        assert_eq!(kept.len(), 16);
        assert_eq!(kept[0].priority, 39);
        presence(&me, NOW, kept);
        let kept = PresenceRecord::fit(vec![session("big", 5, 20_000), session("small", 1, 10)]);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn seventeen_sessions_are_refused() {
        let me = Person::new(1);
        let many = presence(&me, NOW, (0..17).map(|index| session(&format!("r{index}"), 0, 1)).collect());
        assert!(check::<PresenceRecord>(many.bytes(), &me.cert).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn merge_is_commutative_associative_idempotent(times in prop::array::uniform3((0..3u64, 0..2i32))) {
            let me = Person::new(1);
            let [a, b, c] =
                times.map(|(millis, priority)| presence(&me, NOW + millis, vec![session("r", priority, 1)]));
            let merge = |a: &Verified<PresenceRecord>, b: &Verified<PresenceRecord>| PresenceRecord::merge(a.clone(), b.clone());
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }
    }
}
