//! What stands in the hash table: verified against its key, merged, encoded. *Pure.*

use prost::Message as _;

use super::Key;
use crate::record::{
    Context, DeviceCert, DeviceInfo, NameCert, Record, Refusal, SealedPresence, Unverified, UserRecord,
    VERSION, Verified, payload,
};
use crate::time::{DAY, TrustedTime};

/// Bytes of an encoded value at most.
pub const MAX_VALUE: usize = 36 * 1_024;
/// Milliseconds that a name is held without being put again.
pub const MAX_NAME_LIFE: u64 = 30 * DAY;
/// Milliseconds that the word counts that a user key is void: as long as anything that it could have certified before.
const COMPROMISED_LIFE: u64 = DeviceCert::MAX_LIFE;

const KIND: &str = "dht-value";

/// A verified value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Devices and names of a user. Held until its last DeviceInfo ends; that the user key is void, for 400 days.
    User(UserRecord),
    /// Who has an address. Held for as long as the certificate lives, but 30 days at most.
    Name(Verified<NameCert>),
    /// Presence that only contacts can read. Held until it ends.
    Presence(Verified<SealedPresence>),
}

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not count.
    #[error(transparent)]
    Record(#[from] Refusal),
    /// It belongs at another key.
    #[error("the value belongs at another key: drop it and distrust whoever sent it")]
    OtherKey,
    /// Its time is over.
    #[error("the value has ended: ask its owner for a new one")]
    Ended,
    /// The putting peer has put as much as one may in an hour.
    #[error("that peer has put too many values within an hour: it may try again later")]
    TooMany,
    /// The store is full of what is nearer to this node.
    #[error("the store is full of values that are nearer to this node: put it elsewhere")]
    Full,
}

impl Refused {
    /// Whether an honest peer never causes it.
    pub fn is_offence(&self) -> bool {
        match self {
            Self::Record(refusal) => refusal.is_offence(),
            Self::OtherKey => true,
            Self::Ended | Self::TooMany | Self::Full => false,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Kind", tags = "2, 3, 4")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(bytes, tag = "2")]
    User(Vec<u8>),
    #[prost(bytes, tag = "3")]
    Name(Vec<u8>),
    #[prost(bytes, tag = "4")]
    Presence(Vec<u8>),
}

impl Value {
    /// Verifies every signature and that the value belongs at `key`.
    pub fn verify(key: &Key, bytes: &[u8], context: &Context<'_>) -> Result<Self, Refused> {
        let value = Self::read(bytes, context)?;
        if value.key() == *key { Ok(value) } else { Err(Refused::OtherKey) }
    }

    /// Verifies every signature; the value says itself where it belongs.
    pub fn read(bytes: &[u8], context: &Context<'_>) -> Result<Self, Refused> {
        if bytes.len() > MAX_VALUE {
            return Err(Refusal::TooLarge { kind: KIND, size: bytes.len(), max: MAX_VALUE }.into());
        }
        let fields: Payload = payload(bytes, KIND, |fields: &Payload| fields.version)?;
        let value = match fields.kind.ok_or(Refusal::Malformed { kind: KIND, what: "kind" })? {
            Kind::User(bytes) => Self::User(UserRecord::verify(&bytes, context)?),
            Kind::Name(bytes) => Self::Name(valid_name(&bytes, context)?),
            Kind::Presence(bytes) => Self::Presence(Unverified::parse(&bytes)?.verify(context)?),
        };
        if value.has_ended(context.time) { Err(Refused::Ended) } else { Ok(value) }
    }

    /// The bytes for the wire and the store.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::User(record) => Kind::User(record.encode()),
            Self::Name(cert) => Kind::Name(cert.bytes().to_vec()),
            Self::Presence(presence) => Kind::Presence(presence.bytes().to_vec()),
        };
        Payload { version: VERSION, kind: Some(kind) }.encode_to_vec()
    }

    /// Where it belongs.
    pub fn key(&self) -> Key {
        match self {
            Self::User(record) => Key::user(&record.user()),
            Self::Name(cert) => Key::name(&cert.authority, &cert.address),
            Self::Presence(presence) => Key::presence(&presence.presence, presence.day),
        }
    }

    /// When its word ends, Unix milliseconds.
    pub fn ends(&self) -> u64 {
        match self {
            Self::User(record) => {
                let said = record.devices().values().map(|part| part.info.expires);
                let void = record.compromised().map(|void| void.since.saturating_add(COMPROMISED_LIFE));
                said.chain(void).max().unwrap_or_default()
            }
            Self::Name(cert) => cert.expires,
            Self::Presence(presence) => presence.expires,
        }
    }

    /// Until when a node holds it that was given it at `now`, Unix milliseconds.
    pub fn held_until(&self, now: u64) -> u64 {
        self.ends().min(now.saturating_add(self.longest()))
    }

    /// Milliseconds that a node holds it at most without being given it again.
    pub fn longest(&self) -> u64 {
        match self {
            Self::User(_) => DeviceInfo::MAX_LIFE,
            Self::Name(_) => MAX_NAME_LIFE,
            Self::Presence(_) => SealedPresence::MAX_LIFE,
        }
    }

    /// Whether its word has ended; a clock that is not credible can't say so. Records count for [`crate::time::MAX_SKEW`]
    /// longer, for what was written by another clock; the table only gives away what has not ended.
    fn has_ended(&self, time: TrustedTime) -> bool {
        time.credible && self.ends() <= time.millis
    }

    /// Of two values at the same key: user records part by part, else the law of the kind. `None` if they are of
    /// different keys.
    pub fn merge(self, other: Self) -> Option<Self> {
        if self.key() != other.key() {
            return None;
        }
        match (self, other) {
            (Self::User(mut mine), Self::User(theirs)) => {
                mine.merge(&theirs);
                Some(Self::User(mine))
            }
            (Self::Name(mine), Self::Name(theirs)) => Some(Self::Name(NameCert::merge(mine, theirs))),
            (Self::Presence(mine), Self::Presence(theirs)) => {
                Some(Self::Presence(SealedPresence::merge(mine, theirs)))
            }
            (Self::User(_) | Self::Name(_) | Self::Presence(_), _) => None,
        }
    }
}

fn valid_name(bytes: &[u8], context: &Context<'_>) -> Result<Verified<NameCert>, Refusal> {
    let cert = Unverified::<NameCert>::parse(bytes)?.verify(context)?;
    let revocations = context.revocations;
    if revocations.is_name_revoked(&cert.address, &cert.user, &cert.authority)
        || revocations.is_compromised(&cert.user)
    {
        return Err(Refusal::Revoked { kind: KIND });
    }
    Ok(cert)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Values of each kind.

    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::id::NodeId;
    use crate::keys::{AudienceKey, AuthorityKey, DeviceKey, PresenceKey};
    use crate::record::testing::{NOW, Person, authority};
    use crate::record::{DeviceCert, MAX_DECLARED, MAX_SEALING_KEYS, SealingPublic, Whereabouts};
    use crate::time::{HOUR, Hlc};

    /// A user record with one device that says as much as it may, and for some devices a long name.
    pub(crate) fn large_user(person: u8, device: u8) -> Value {
        let person = Person::new(person);
        let name = (device < 4).then(|| {
            let authority = AuthorityKey::from_seed([0x70 | device; 32]);
            let address = format!("{}@school.example", "a".repeat(250));
            NameCert::issue(&authority, &address, person.id(), u64::MAX, NOW).expect("signs")
        });
        let device = DeviceKey::from_seed([device; 32]);
        let cert = DeviceCert::issue(&person.user, device.id(), NOW).expect("signs");
        let info = DeviceInfo {
            user: person.id(),
            device: device.id(),
            sealing: vec![SealingPublic { public: [1; 32], created: u64::MAX }; MAX_SEALING_KEYS],
            epoch: u64::MAX,
            at: Hlc { millis: NOW, counter: u32::MAX },
            expires: NOW + 7 * DAY,
            mailboxes: vec![NodeId::from_bytes([2; 32]); MAX_DECLARED],
        };
        let info = Verified::sign(info, &device, None).expect("signs");
        Value::User(UserRecord::new(cert, info, name).expect("fits"))
    }

    /// A user record with one device.
    pub(crate) fn user(person: u8, device: u8, millis: u64) -> Value {
        let person = Person::new(person);
        let device = DeviceKey::from_seed([device; 32]);
        let cert = DeviceCert::issue(&person.user, device.id(), NOW).expect("signs");
        let info = DeviceInfo {
            user: person.id(),
            device: device.id(),
            sealing: vec![SealingPublic { public: [1; 32], created: 5 }],
            epoch: 1,
            at: Hlc { millis: NOW + millis, counter: 0 },
            expires: NOW + millis + 7 * DAY,
            mailboxes: Vec::new(),
        };
        let info = Verified::sign(info, &device, None).expect("signs");
        Value::User(UserRecord::new(cert, info, None).expect("fits"))
    }

    pub(crate) fn name(person: u8, serial: u64) -> Value {
        let user = Person::new(person).id();
        Value::Name(NameCert::issue(&authority(), "anna@x.example", user, serial, NOW).expect("signs"))
    }

    pub(crate) fn presence(seed: u8, millis: u64, size: usize) -> Value {
        let whereabouts = Whereabouts {
            user: Person::new(1).id(),
            device: Person::new(1).device.id(),
            node: NodeId::from_bytes([9; 32]),
            addresses: vec![],
            presence: vec![7; size],
        };
        let (audience, key) = (AudienceKey::from_seed([1; 32]), PresenceKey::from_seed([seed; 32]));
        let times = (Hlc { millis: NOW + millis, counter: 0 }, NOW + millis + HOUR);
        let mut rng = ChaCha20Rng::from_seed([size as u8; 32]);
        let sealed = SealedPresence::seal(&whereabouts, &audience, &key, times, &mut rng);
        Value::Presence(sealed.expect("seals"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::*;
    use super::*;
    use crate::record::testing::{NOW, context};
    use crate::record::{NoCertificates, RevocationSet};
    use crate::time::HOUR;

    fn verify_at(key: &Key, bytes: &[u8], millis: u64) -> Result<Value, Refused> {
        Value::verify(key, bytes, &context(&NoCertificates, &RevocationSet::default(), millis))
    }

    #[test]
    fn each_kind_reads_back_at_its_own_key_only() {
        let all = [user(1, 2, 0), name(1, 1), presence(3, 0, 10)];
        for value in &all {
            for other in &all {
                let read = verify_at(&other.key(), &value.encode(), NOW);
                let expected = if value == other { Ok(value.clone()) } else { Err(Refused::OtherKey) };
                assert_eq!(read, expected);
            }
        }
    }

    #[test]
    fn a_foreign_key_is_an_offence() {
        assert!(Refused::OtherKey.is_offence() && !Refused::Full.is_offence());
    }

    #[test]
    fn what_has_ended_is_not_taken() {
        for value in [user(1, 2, 0), name(1, 1), presence(3, 0, 10)] {
            let bytes = value.encode();
            assert!(verify_at(&value.key(), &bytes, value.ends() - 1).is_ok());
            assert_eq!(verify_at(&value.key(), &bytes, value.ends()), Err(Refused::Ended));
            let unsure = Context {
                time: TrustedTime { credible: false, ..TrustedTime::certain(value.ends()) },
                certificates: &NoCertificates,
                revocations: &RevocationSet::default(),
                enforce_end: true,
            };
            assert!(Value::verify(&value.key(), &bytes, &unsure).is_ok());
        }
    }

    #[test]
    fn it_is_held_until_it_ends_but_not_for_ever() {
        assert_eq!(user(1, 2, 0).held_until(NOW), NOW + 7 * DAY);
        assert_eq!(user(1, 2, DAY).held_until(NOW), NOW + 7 * DAY);
        assert_eq!(name(1, 1).held_until(NOW), NOW + 30 * DAY);
        assert_eq!(name(1, 1).held_until(NOW + 399 * DAY), NOW + 400 * DAY);
        assert_eq!(presence(3, 0, 1).held_until(NOW), NOW + HOUR);
    }

    #[test]
    fn oversize_unknown_and_empty_values_are_refused() {
        let key = name(1, 1).key();
        assert!(matches!(
            verify_at(&key, &vec![0; MAX_VALUE + 1], NOW),
            Err(Refused::Record(Refusal::TooLarge { max: MAX_VALUE, .. }))
        ));
        let empty = Payload { version: VERSION, kind: None }.encode_to_vec();
        assert!(matches!(verify_at(&key, &empty, NOW), Err(Refused::Record(Refusal::Malformed { .. }))));
        let later = Payload { version: 2, kind: None }.encode_to_vec();
        assert!(matches!(verify_at(&key, &later, NOW), Err(Refused::Record(Refusal::Version { .. }))));
    }

    #[test]
    fn the_largest_user_record_fits() {
        let all = (0..16).map(|device| large_user(1, device));
        let all = all.reduce(|a, b| a.merge(b).expect("one user")).expect("sixteen");
        assert!(all.encode().len() > 16 * 1_024, "{} bytes", all.encode().len());
        assert_eq!(verify_at(&all.key(), &all.encode(), NOW), Ok(all));
    }

    #[test]
    fn values_of_different_keys_do_not_merge() {
        assert_eq!(user(1, 2, 0).merge(user(2, 2, 0)), None);
        assert_eq!(user(1, 2, 0).merge(name(1, 1)), None);
        assert_eq!(presence(3, 0, 1).merge(presence(3, DAY, 1)), None, "of another day");
    }

    #[test]
    fn records_of_a_user_merge_device_by_device() {
        let Some(Value::User(both)) = user(1, 2, 0).merge(user(1, 3, 0)) else { panic!("users") };
        assert_eq!(both.devices().len(), 2);
    }

    /// Values at one key.
    fn values() -> impl Strategy<Value = [Value; 3]> {
        prop_oneof![
            prop::array::uniform3((2..4u8, 0..3u64)).prop_map(|all| all.map(|(d, at)| user(1, d, at))),
            prop::array::uniform3((1..3u8, 0..3u64)).prop_map(|all| all.map(|(p, serial)| name(p, serial))),
            prop::array::uniform3((0..3u64, 0..2usize)).prop_map(|all| all.map(|(at, n)| presence(3, at, n))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn merge_is_commutative_associative_idempotent([a, b, c] in values()) {
            let merge = |a: &Value, b: &Value| a.clone().merge(b.clone()).expect("one key");
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a.clone());
            let merged = merge(&a, &b);
            prop_assert_eq!(verify_at(&a.key(), &merged.encode(), NOW), Ok(merged));
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(verify_at(&name(1, 1).key(), &bytes, NOW).is_err());
        }

        #[test]
        fn no_altered_byte_gets_through(index: prop::sample::Index, flip in 1..=255u8) {
            for value in [user(1, 2, 0), name(1, 1), presence(3, 0, 10)] {
                let mut bytes = value.encode();
                let index = index.index(bytes.len());
                bytes[index] ^= flip;
                if let Ok(altered) = verify_at(&value.key(), &bytes, NOW) {
                    // Only what no signature covers may change: unknown fields, or a whole part left out.
                    prop_assert!(value.clone().merge(altered) == Some(value));
                }
            }
        }
    }
}
