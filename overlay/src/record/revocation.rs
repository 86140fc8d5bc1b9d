//! A device, a name or a whole user is void. Remembered past the certificate's end, in a bounded set. *Pure.*

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    FRAMING, Record, Refusal, Signer, Span, VERSION, Verified, key_field, kind_name, payload, text_field,
};
use crate::id::{AuthorityId, DeviceId, UserId};
use crate::keys::Domain;

/// Revocations that are remembered at most; beyond that the latest ones are not taken in.
pub const MAX_REVOCATIONS: usize = 4_096;

/// What is void.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// A device of a user.
    Device(UserId, DeviceId),
    /// An address, as given to a user.
    Name(String, UserId),
    /// The user key was stolen: it and all that it ever certified is void, and the user's address with it.
    User(UserId),
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevokedBy {
    /// The user whose device or key it is; a user cannot revoke a name.
    User,
    /// An authority. The caller decides whether it is one to listen to.
    Authority(AuthorityId),
}

/// Signed by the user key or by an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is void.
    pub what: Revoked,
    /// Who says so, and who signs.
    pub by: RevokedBy,
    /// Since when, Unix milliseconds.
    pub since: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    /// Set for a device.
    #[prost(bytes = "vec", tag = "3")]
    device: Vec<u8>,
    /// Set for a name.
    #[prost(string, tag = "4")]
    address: String,
    /// Empty when the user says it.
    #[prost(bytes = "vec", tag = "5")]
    authority: Vec<u8>,
    #[prost(uint64, tag = "6")]
    since: u64,
    /// Set for the user key itself, with neither device, address nor authority.
    #[prost(bool, tag = "7")]
    compromised: bool,
}

impl Record for Revocation {
    const DOMAIN: Domain = Domain::Revocation;
    const MAX_SIZE: usize = 896 + FRAMING;
    const MAX_LIFE: u64 = 0;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let user = UserId::from_bytes(key_field(&fields.user, kind, "user")?);
        let what = if fields.compromised {
            if !(fields.device.is_empty() && fields.address.is_empty() && fields.authority.is_empty()) {
                return Err(Refusal::Malformed { kind, what: "compromised key" });
            }
            Revoked::User(user)
        } else if fields.address.is_empty() {
            Revoked::Device(user, DeviceId::from_bytes(key_field(&fields.device, kind, "device")?))
        } else {
            Revoked::Name(text_field(fields.address, 511, kind, "address")?, user)
        };
        let by = if fields.authority.is_empty() {
            RevokedBy::User
        } else {
            RevokedBy::Authority(AuthorityId::from_bytes(key_field(&fields.authority, kind, "authority")?))
        };
        if matches!((&what, by), (Revoked::Name(..), RevokedBy::User)) {
            return Err(Refusal::WrongSigner { kind });
        }
        Ok(Self { what, by, since: fields.since })
    }

    fn to_payload(&self) -> Vec<u8> {
        let (user, device, address) = match &self.what {
            Revoked::Device(user, device) => (user, device.as_bytes().to_vec(), String::new()),
            Revoked::Name(address, user) => (user, Vec::new(), address.clone()),
            Revoked::User(user) => (user, Vec::new(), String::new()),
        };
        let authority = match &self.by {
            RevokedBy::User => Vec::new(),
            RevokedBy::Authority(authority) => authority.as_bytes().to_vec(),
        };
        Payload {
            version: VERSION,
            user: user.as_bytes().to_vec(),
            device,
            address,
            authority,
            since: self.since,
            compromised: matches!(self.what, Revoked::User(_)),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        match (&self.by, &self.what) {
            (RevokedBy::Authority(authority), _) => Signer::Authority(*authority),
            (RevokedBy::User, Revoked::Device(user, _) | Revoked::Name(_, user) | Revoked::User(user)) => {
                Signer::User(*user)
            }
        }
    }

    /// That a key is void is the last word that it is believed.
    fn outlives_its_key(&self) -> bool {
        matches!(self.what, Revoked::User(_))
    }

    fn span(&self) -> Span {
        Span { from: self.since, until: None, end_counts: false }
    }
}

impl Revocation {
    /// Of two about the same thing by the same signer the earlier `since` counts, then the smaller bytes.
    pub fn merge(one: Verified<Self>, other: Verified<Self>) -> Verified<Self> {
        if (one.since, one.bytes()) <= (other.since, other.bytes()) { one } else { other }
    }

    /// Whose device, name or key it is.
    pub fn user(&self) -> UserId {
        match &self.what {
            Revoked::Device(user, _) | Revoked::Name(_, user) | Revoked::User(user) => *user,
        }
    }
}

/// A bounded set of verified revocations.
///
/// Merge law: union; of two about the same thing by the same signer the earlier `since`, then the smaller bytes.
/// The law holds until the set is full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSet {
    all: BTreeMap<(Revoked, RevokedBy), Verified<Revocation>>,
}

impl RevocationSet {
    /// Takes one in; tells whether the set changed. A full set takes in nothing that it does not have already.
    pub fn insert(&mut self, revocation: Verified<Revocation>) -> bool {
        let key = (revocation.what.clone(), revocation.by);
        match self.all.get(&key) {
            Some(known) if (known.since, known.bytes()) <= (revocation.since, revocation.bytes()) => {
                return false;
            }
            None if self.all.len() >= MAX_REVOCATIONS => return false,
            Some(_) | None => {}
        }
        self.all.insert(key, revocation);
        true
    }

    /// Takes in all of another set.
    pub fn merge(&mut self, other: &Self) {
        for revocation in other.all.values() {
            self.insert(revocation.clone());
        }
    }

    /// Whether anybody who may has revoked the device, or the user key that certified it is void.
    pub fn is_device_revoked(&self, user: &UserId, device: &DeviceId) -> bool {
        self.is_compromised(user) || self.has(Revoked::Device(*user, *device))
    }

    /// Whether the user has said that its key is in other hands: whatever that signs is refused.
    pub fn is_compromised(&self, user: &UserId) -> bool {
        self.all.contains_key(&(Revoked::User(*user), RevokedBy::User))
    }

    /// Whether the address was taken from the user by `authority`.
    pub fn is_name_revoked(&self, address: &str, user: &UserId, authority: &AuthorityId) -> bool {
        let what = Revoked::Name(address.to_owned(), *user);
        self.all.contains_key(&(what, RevokedBy::Authority(*authority)))
    }

    /// Whether one more finds no room.
    pub fn is_full(&self) -> bool {
        self.all.len() >= MAX_REVOCATIONS
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Forgets one, to make room.
    pub fn remove(&mut self, revocation: &Revocation) {
        self.all.remove(&(revocation.what.clone(), revocation.by));
    }

    /// All of them, in the order of what they are about.
    pub fn iter(&self) -> impl Iterator<Item = &Verified<Revocation>> {
        self.all.values()
    }

    fn has(&self, what: Revoked) -> bool {
        let from = (what.clone(), RevokedBy::User);
        self.all.range(from..).next().is_some_and(|((found, _), _)| *found == what)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::NoCertificates;
    use super::super::testing::*;
    use super::super::{DeviceCert, DeviceInfo, SealingPublic, Unverified};
    use super::*;
    use crate::keys::Signs as _;
    use crate::time::{DAY, Hlc};

    fn by_user(person: &Person, device: u8, since: u64) -> Verified<Revocation> {
        let what = Revoked::Device(person.id(), DeviceId::from_bytes([device; 32]));
        Verified::sign(Revocation { what, by: RevokedBy::User, since }, &person.user, None).expect("signs")
    }

    #[test]
    fn verifies_unaltered_only() {
        survives_only_unaltered(&by_user(&Person::new(1), 7, NOW), &NoCertificates);
        let by = RevokedBy::Authority(authority().id());
        let what = Revoked::Name("alice@school.example".into(), Person::new(1).id());
        let name = Verified::sign(Revocation { what, by, since: NOW }, &authority(), None).expect("signs");
        survives_only_unaltered(&name, &NoCertificates);
    }

    #[test]
    fn a_user_revokes_own_devices_only_and_no_names() {
        let (me, other) = (Person::new(1), Person::new(2));
        let what = Revoked::Device(me.id(), me.device.id());
        assert!(
            Verified::sign(Revocation { what, by: RevokedBy::User, since: NOW }, &other.user, None).is_err()
        );
        let what = Revoked::Name("alice@school.example".into(), me.id());
        let name = Revocation { what, by: RevokedBy::User, since: NOW };
        assert!(Revocation::from_payload(&name.to_payload()).is_err());
    }

    #[test]
    fn only_its_owner_says_that_a_key_is_compromised_and_of_nothing_else_in_one_breath() {
        let (me, other) = (Person::new(1), Person::new(2));
        let stolen = Revocation { what: Revoked::User(me.id()), by: RevokedBy::User, since: NOW };
        survives_only_unaltered(
            &Verified::sign(stolen.clone(), &me.user, None).expect("signs"),
            &NoCertificates,
        );
        assert!(Verified::sign(stolen.clone(), &other.user, None).is_err());
        let by = RevokedBy::Authority(authority().id());
        assert!(Revocation::from_payload(&Revocation { by, ..stolen.clone() }.to_payload()).is_err());
        let mut mixed = stolen.to_payload();
        // Field 3, the device, beside the mark.
        mixed.extend([0x1a, 32]);
        mixed.extend([7; 32]);
        assert!(Revocation::from_payload(&mixed).is_err());
    }

    #[test]
    fn a_compromised_key_and_all_that_it_certified_says_nothing_more() {
        let me = Person::new(1);
        let mut set = RevocationSet::default();
        let stolen = Revocation { what: Revoked::User(me.id()), by: RevokedBy::User, since: NOW };
        let stolen = Verified::sign(stolen, &me.user, None).expect("signs");
        let old = by_user(&me, 7, NOW);
        let judge = |set: &RevocationSet| {
            let context = context(&NoCertificates, set, NOW);
            let cert = DeviceCert::issue(&me.user, DeviceId::from_bytes(me.device.public()), NOW + 1);
            let cert = Unverified::<DeviceCert>::parse(cert.expect("signs").bytes());
            let device = Unverified::<Revocation>::parse(old.bytes());
            let again = Unverified::<Revocation>::parse(stolen.bytes());
            (
                cert.and_then(|cert| cert.verify(&context)).is_ok(),
                device.and_then(|device| device.verify(&context)).is_ok(),
                again.and_then(|again| again.verify(&context)).is_ok(),
            )
        };
        assert_eq!(judge(&set), (true, true, true));
        assert!(set.insert(stolen.clone()));
        assert!(set.is_device_revoked(&me.id(), &me.device.id()) && set.is_compromised(&me.id()));
        assert!(!set.is_compromised(&Person::new(2).id()));
        assert_eq!(judge(&set), (false, false, true), "but for the word that it is so");
    }

    #[test]
    fn a_revoked_device_says_nothing_more() {
        let me = Person::new(1);
        let info = DeviceInfo {
            user: me.id(),
            device: me.device.id(),
            sealing: vec![SealingPublic { public: [1; 32], created: 5 }],
            epoch: 1,
            at: Hlc { millis: NOW, counter: 0 },
            expires: NOW + DAY,
            mailboxes: Vec::new(),
        };
        let info = Verified::sign(info, &me.device, None).expect("signs");
        let mut set = RevocationSet::default();
        let what = Revoked::Device(me.id(), me.device.id());
        let revocation = Revocation { what, by: RevokedBy::User, since: NOW };
        set.insert(Verified::sign(revocation, &me.user, None).expect("signs"));
        let refusal = Unverified::<DeviceInfo>::parse(info.bytes())
            .and_then(|info| info.verify(&context(&me.cert, &set, NOW)))
            .expect_err("revoked");
        assert_eq!(refusal, Refusal::Revoked { kind: "device-info" });
    }

    fn set(entries: &[(u8, u64)]) -> RevocationSet {
        let me = Person::new(1);
        let mut set = RevocationSet::default();
        for (device, since) in entries {
            set.insert(by_user(&me, *device, NOW + since));
        }
        set
    }

    fn union(a: &RevocationSet, b: &RevocationSet) -> RevocationSet {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn merge_is_commutative_associative_idempotent(
            a in prop::collection::vec((0..4u8, 0..3u64), 0..5),
            b in prop::collection::vec((0..4u8, 0..3u64), 0..5),
            c in prop::collection::vec((0..4u8, 0..3u64), 0..5),
        ) {
            let (a, b, c) = (set(&a), set(&b), set(&c));
            prop_assert_eq!(union(&a, &b), union(&b, &a));
            prop_assert_eq!(union(&union(&a, &b), &c), union(&a, &union(&b, &c)));
            prop_assert_eq!(union(&a, &a), a);
        }
    }
}
