//! What the world may know about a user: devices with their sealing keys, and names. *Pure.*

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    Certificates, Context, DeviceCert, DeviceInfo, NameCert, Refusal, Revocation, Revoked, RevokedBy,
    Unverified, VERSION, Verified, key_field, payload,
};
use crate::id::{AuthorityId, DeviceId, UserId};

/// Devices of one user at most.
pub const MAX_DEVICES: usize = 16;
/// Names of one user at most.
pub const MAX_NAMES: usize = 4;
/// Revoked devices that a user's record tells of at most.
pub const MAX_REVOKED: usize = 16;
/// Bytes of an encoded user record at most.
pub const MAX_USER_RECORD: usize = 32 * 1_024;

const KIND: &str = "user-record";

/// What is known of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePart {
    /// By the user key.
    pub cert: Verified<DeviceCert>,
    /// By the device.
    pub info: Verified<DeviceInfo>,
}

/// A user record is made of verified parts and cannot be made otherwise; it has no signature of its own.
///
/// Merge law: part by part as the parts' own laws say. Beyond [`MAX_DEVICES`] the devices with the oldest certificates
/// go, beyond [`MAX_NAMES`] the names with the oldest, beyond [`MAX_REVOKED`] the revocations that were made first: up to
/// these limits the law is exact. A device that the user has revoked is in no record that says so; where the user key is
/// void, nothing else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    user: UserId,
    devices: BTreeMap<DeviceId, DevicePart>,
    names: BTreeMap<AuthorityId, Verified<NameCert>>,
    revoked: BTreeMap<DeviceId, Verified<Revocation>>,
    /// The user key is void: of a user with this there is nothing else.
    compromised: Option<Verified<Revocation>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    devices: Vec<DeviceField>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    names: Vec<Vec<u8>>,
    /// Signed by the user key.
    #[prost(bytes = "vec", repeated, tag = "5")]
    revoked: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeviceField {
    #[prost(bytes = "vec", tag = "1")]
    cert: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    info: Vec<u8>,
}

impl UserRecord {
    /// The record of a user with one device and perhaps a name. Nothing if the parts are about different users or
    /// devices.
    pub fn new(
        cert: Verified<DeviceCert>,
        info: Verified<DeviceInfo>,
        name: Option<Verified<NameCert>>,
    ) -> Option<Self> {
        let user = cert.user;
        let fits = info.user == user
            && info.device == cert.device
            && name.as_ref().is_none_or(|name| name.user == user);
        let names = name.into_iter().map(|name| (name.authority, name)).collect();
        fits.then(|| Self {
            user,
            devices: BTreeMap::from([(cert.device, DevicePart { cert, info })]),
            names,
            revoked: BTreeMap::new(),
            compromised: None,
        })
    }

    /// Whose record the bytes claim to be, so that known parts can be looked up. Not to be believed.
    pub fn claimed_user(bytes: &[u8]) -> Option<UserId> {
        UserId::from_slice(&parse(bytes).ok()?.user)
    }

    /// Verifies every part. A part that does not count makes the whole record not count, except that revoked and
    /// expired devices are left out. Parts that `known` holds already, byte for byte, are not verified again.
    pub fn verify_knowing(
        bytes: &[u8],
        known: Option<&Self>,
        context: &Context<'_>,
    ) -> Result<Self, Refusal> {
        let fields = parse(bytes)?;
        let user = UserId::from_bytes(key_field(&fields.user, KIND, "user")?);
        let known = known.filter(|known| known.user == user);
        let (devices, names, revoked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut record = Self { user, devices, names, revoked, compromised: None };
        for revocation in revoked_by(&fields.revoked, &user, known, context)? {
            record.add_revocation(revocation);
        }
        for field in &fields.devices {
            match device(field, &user, known, context) {
                Ok(part) => drop(record.devices.insert(part.cert.device, part)),
                Err(Refusal::Revoked { .. } | Refusal::Expired { .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        for bytes in &fields.names {
            let name = name(bytes, known, context)?;
            if name.user != user {
                return Err(Refusal::WrongSigner { kind: KIND });
            }
            record.names.insert(name.authority, name);
        }
        record.drop_revoked();
        Ok(record)
    }

    /// [`Self::verify_knowing`] nothing.
    pub fn verify(bytes: &[u8], context: &Context<'_>) -> Result<Self, Refusal> {
        Self::verify_knowing(bytes, None, context)
    }

    /// The bytes for the wire and the store.
    pub fn encode(&self) -> Vec<u8> {
        let devices = self
            .devices
            .values()
            .map(|part| DeviceField { cert: part.cert.bytes().to_vec(), info: part.info.bytes().to_vec() });
        Payload {
            version: VERSION,
            user: self.user.as_bytes().to_vec(),
            devices: devices.collect(),
            names: self.names.values().map(|name| name.bytes().to_vec()).collect(),
            revoked: self.revocations().map(|revoked| revoked.bytes().to_vec()).collect(),
        }
        .encode_to_vec()
    }

    /// Whose record it is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The devices, by id.
    pub fn devices(&self) -> &BTreeMap<DeviceId, DevicePart> {
        &self.devices
    }

    /// The names, by authority.
    pub fn names(&self) -> &BTreeMap<AuthorityId, Verified<NameCert>> {
        &self.names
    }

    /// The revocations by the user itself.
    pub fn revocations(&self) -> impl Iterator<Item = &Verified<Revocation>> {
        self.revoked.values().chain(&self.compromised)
    }

    /// That the user key is void, if the user has said so.
    pub fn compromised(&self) -> Option<&Verified<Revocation>> {
        self.compromised.as_ref()
    }

    /// Takes in that the user has revoked a device of its own, or its key; tells whether anything changed. Of anything else
    /// revoked, or by anybody else, nothing is kept: whoever reads this record can't know whether that counts.
    pub fn add_revocation(&mut self, revocation: Verified<Revocation>) -> bool {
        if revocation.user() != self.user || revocation.by != RevokedBy::User {
            return false;
        }
        let before = self.clone();
        match &revocation.what {
            Revoked::Device(_, device) => {
                let device = *device;
                let merged = match self.revoked.remove(&device) {
                    Some(mine) => Revocation::merge(mine, revocation),
                    None => revocation,
                };
                self.revoked.insert(device, merged);
            }
            Revoked::User(_) => {
                self.compromised = Some(match self.compromised.take() {
                    Some(mine) => Revocation::merge(mine, revocation),
                    None => revocation,
                });
            }
            Revoked::Name(..) => return false,
        }
        self.drop_revoked();
        *self != before
    }

    fn drop_revoked(&mut self) {
        if self.compromised.is_some() {
            self.devices.clear();
            self.names.clear();
            self.revoked.clear();
        }
        while self.revoked.len() > MAX_REVOKED {
            let first =
                self.revoked.iter().min_by_key(|(id, revoked)| (revoked.since, **id)).map(|(id, _)| *id);
            first.map(|id| self.revoked.remove(&id));
        }
        self.devices.retain(|id, _| !self.revoked.contains_key(id));
    }

    /// Takes in another record of the same user; tells whether anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        if other.user != self.user {
            return false;
        }
        let before = self.clone();
        for (id, theirs) in &other.devices {
            let merged = match self.devices.remove(id) {
                Some(mine) => DevicePart {
                    cert: DeviceCert::merge(mine.cert, theirs.cert.clone()),
                    info: DeviceInfo::merge(mine.info, theirs.info.clone()),
                },
                None => theirs.clone(),
            };
            self.devices.insert(*id, merged);
        }
        for (authority, theirs) in &other.names {
            let merged = match self.names.remove(authority) {
                Some(mine) => NameCert::merge(mine, theirs.clone()),
                None => theirs.clone(),
            };
            self.names.insert(*authority, merged);
        }
        for revoked in other.revocations() {
            self.add_revocation(revoked.clone());
        }
        self.drop_revoked();
        self.trim();
        *self != before
    }

    /// Forgets a device, because it was revoked.
    pub fn remove_device(&mut self, device: &DeviceId) -> bool {
        self.devices.remove(device).is_some()
    }

    fn trim(&mut self) {
        while self.devices.len() > MAX_DEVICES {
            let oldest =
                self.devices.iter().min_by_key(|(id, part)| (part.cert.issued, **id)).map(|(id, _)| *id);
            oldest.map(|id| self.devices.remove(&id));
        }
        while self.names.len() > MAX_NAMES {
            let oldest = self.names.iter().min_by_key(|(id, name)| (name.issued, **id)).map(|(id, _)| *id);
            oldest.map(|id| self.names.remove(&id));
        }
    }
}

impl Certificates for UserRecord {
    fn certificate(&self, device: &DeviceId) -> Option<&Verified<DeviceCert>> {
        self.devices.get(device).map(|part| &part.cert)
    }
}

fn parse(bytes: &[u8]) -> Result<Payload, Refusal> {
    if bytes.len() > MAX_USER_RECORD {
        return Err(Refusal::TooLarge { kind: KIND, size: bytes.len(), max: MAX_USER_RECORD });
    }
    let fields: Payload = payload(bytes, KIND, |fields: &Payload| fields.version)?;
    // Somebody whose only device is lost has none until there is another.
    let nothing = fields.devices.is_empty() && fields.revoked.is_empty();
    if nothing || fields.devices.len() > MAX_DEVICES {
        return Err(Refusal::Malformed { kind: KIND, what: "list of devices" });
    }
    if fields.revoked.len() > MAX_REVOKED {
        return Err(Refusal::Malformed { kind: KIND, what: "list of revocations" });
    }
    if fields.names.len() > MAX_NAMES {
        return Err(Refusal::Malformed { kind: KIND, what: "list of names" });
    }
    Ok(fields)
}

fn device(
    field: &DeviceField,
    user: &UserId,
    known: Option<&UserRecord>,
    context: &Context<'_>,
) -> Result<DevicePart, Refusal> {
    let mut known = known.iter().flat_map(|record| record.devices.values());
    if let Some(part) = known
        .find(|part| part.cert.bytes() == field.cert.as_slice() && part.info.bytes() == field.info.as_slice())
    {
        return Ok(part.clone());
    }
    let cert = Unverified::<DeviceCert>::parse(&field.cert)?.verify(context)?;
    let info =
        Unverified::<DeviceInfo>::parse(&field.info)?.verify(&Context { certificates: &cert, ..*context })?;
    if cert.user != *user {
        return Err(Refusal::WrongSigner { kind: KIND });
    }
    Ok(DevicePart { cert, info })
}

fn name(
    bytes: &[u8],
    known: Option<&UserRecord>,
    context: &Context<'_>,
) -> Result<Verified<NameCert>, Refusal> {
    let mut known = known.iter().flat_map(|record| record.names.values());
    match known.find(|name| name.bytes() == bytes) {
        Some(name) => Ok(name.clone()),
        None => Unverified::<NameCert>::parse(bytes)?.verify(context),
    }
}

/// Only those of the user's own devices, or of the key itself, by the user key.
fn revoked_by(
    fields: &[Vec<u8>],
    user: &UserId,
    known: Option<&UserRecord>,
    context: &Context<'_>,
) -> Result<Vec<Verified<Revocation>>, Refusal> {
    let mut all = Vec::new();
    for bytes in fields {
        let same = |known: &&Verified<Revocation>| known.bytes() == bytes.as_slice();
        let revocation = match known.and_then(|known| known.revocations().find(same)) {
            Some(known) => known.clone(),
            None => Unverified::<Revocation>::parse(bytes)?.verify(context)?,
        };
        let own = matches!(revocation.what, Revoked::Device(..) | Revoked::User(_));
        if !own || revocation.user() != *user || revocation.by != RevokedBy::User {
            return Err(Refusal::WrongSigner { kind: KIND });
        }
        all.push(revocation);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::*;
    use super::super::{NoCertificates, RevocationSet, SealingPublic};
    use super::*;
    use crate::keys::{AuthorityKey, DeviceKey};
    use crate::time::{DAY, Hlc};

    fn record(person: &Person, device: u8, millis: u64, name: Option<u64>) -> UserRecord {
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
        let name = name.map(|serial| {
            NameCert::issue(&authority(), "anna@x.example", person.id(), serial, NOW).expect("signs")
        });
        UserRecord::new(cert, info, name).expect("fits")
    }

    fn verify(bytes: &[u8]) -> Result<UserRecord, Refusal> {
        UserRecord::verify(bytes, &context(&NoCertificates, &RevocationSet::default(), NOW))
    }

    #[test]
    fn reads_back_what_was_written() {
        let mut record = record(&Person::new(1), 10, 0, Some(1));
        record.merge(&self::record(&Person::new(1), 11, 0, None));
        assert_eq!(verify(&record.encode()), Ok(record));
    }

    #[test]
    fn a_part_of_somebody_else_spoils_it() {
        let (me, other) = (Person::new(1), Person::new(2));
        let mut mixed = record(&me, 10, 0, None);
        mixed.devices.extend(record(&other, 11, 0, None).devices);
        assert_eq!(verify(&mixed.encode()), Err(Refusal::WrongSigner { kind: KIND }));
        let mut named = record(&me, 10, 0, None);
        named.names = record(&other, 11, 0, Some(1)).names;
        assert_eq!(verify(&named.encode()), Err(Refusal::WrongSigner { kind: KIND }));
    }

    #[test]
    fn seventeen_devices_are_refused_and_merge_keeps_sixteen() {
        let me = Person::new(1);
        let mut many = record(&me, 1, 0, None);
        for device in 2..=17 {
            many.devices.extend(record(&me, device, 0, None).devices);
        }
        assert!(verify(&many.encode()).is_err());
        let mut merged = record(&me, 1, 0, None);
        merged.merge(&many);
        assert_eq!(merged.devices.len(), MAX_DEVICES);
        assert!(merged.encode().len() <= MAX_USER_RECORD);
    }

    #[test]
    fn a_full_record_fits_its_limit() {
        let me = Person::new(1);
        let mut full = record(&me, 1, 0, None);
        for device in 2..=16 {
            full.devices.extend(record(&me, device, 0, None).devices);
        }
        for seed in 0..4 {
            let authority = AuthorityKey::from_seed([seed; 32]);
            let address = format!("{}@{}", "a".repeat(255), "b".repeat(255));
            let name = NameCert::issue(&authority, &address, me.id(), 1, NOW).expect("signs");
            full.names.insert(name.authority, name);
        }
        for device in 100..100 + MAX_REVOKED {
            full.add_revocation(void(&me, device as u8, NOW));
        }
        assert!(full.encode().len() + 16 * 7 * 40 <= MAX_USER_RECORD, "{}", full.encode().len());
    }

    fn void(person: &Person, device: u8, since: u64) -> Verified<Revocation> {
        let device = DeviceKey::from_seed([device; 32]).id();
        let what = Revoked::Device(person.id(), device);
        Verified::sign(Revocation { what, by: RevokedBy::User, since }, &person.user, None).expect("signs")
    }

    #[test]
    fn a_device_that_its_user_revoked_is_in_no_record_that_says_so() {
        let me = Person::new(1);
        let mut mine = record(&me, 10, 0, None);
        mine.merge(&record(&me, 11, 0, None));
        assert!(mine.add_revocation(void(&me, 11, NOW)));
        assert!(!mine.add_revocation(void(&me, 11, NOW)), "known");
        assert_eq!(mine.devices.keys().collect::<Vec<_>>(), vec![&DeviceKey::from_seed([10; 32]).id()]);
        mine.merge(&record(&me, 11, 5, None));
        assert_eq!(mine.devices.len(), 1, "nor does it come back");
        assert_eq!(verify(&mine.encode()), Ok(mine.clone()));
        // Whoever leaves the revocation in, and the device too, fools nobody.
        let mut both = mine.clone();
        both.devices.extend(record(&me, 11, 0, None).devices);
        assert_eq!(verify(&both.encode()), Ok(mine));
        let mut strange = record(&me, 10, 0, None);
        assert!(!strange.add_revocation(void(&Person::new(2), 10, NOW)));
        strange.revoked.insert(me.device.id(), void(&Person::new(2), 10, NOW));
        assert_eq!(verify(&strange.encode()), Err(Refusal::WrongSigner { kind: KIND }));
    }

    #[test]
    fn of_a_user_whose_key_is_void_nothing_else_is_left_and_nothing_comes_back() {
        let me = Person::new(1);
        let stolen = |since| {
            let what = Revocation { what: Revoked::User(me.id()), by: RevokedBy::User, since };
            Verified::sign(what, &me.user, None).expect("signs")
        };
        let mut whole = record(&me, 10, 0, Some(1));
        whole.add_revocation(void(&me, 11, NOW));
        let mut ended = whole.clone();
        assert!(ended.add_revocation(stolen(NOW + 1)) && !ended.add_revocation(stolen(NOW + 2)));
        assert!(ended.devices.is_empty() && ended.names.is_empty() && ended.revoked.is_empty());
        assert_eq!(ended.revocations().map(|one| one.since).collect::<Vec<_>>(), [NOW + 1]);
        assert_eq!(verify(&ended.encode()), Ok(ended.clone()));
        let mut both = whole.clone();
        assert!(both.merge(&ended));
        assert_eq!(both, ended);
        assert!(!both.merge(&whole), "whoever has the key still signs in vain");
        // Nor does it help to send the rest along.
        let mut mixed = whole;
        mixed.compromised = ended.compromised.clone();
        assert_eq!(verify(&mixed.encode()), Ok(ended));
    }

    #[test]
    fn of_too_many_revocations_the_latest_stay() {
        let me = Person::new(1);
        let mut mine = record(&me, 1, 0, None);
        for device in 100..120 {
            mine.add_revocation(void(&me, device, NOW + u64::from(device)));
        }
        let kept: Vec<u64> = mine.revocations().map(|revocation| revocation.since - NOW).collect();
        assert_eq!((kept.len(), kept.iter().min()), (MAX_REVOKED, Some(&104)));
        assert!(verify(&mine.encode()).is_ok());
        mine.revoked.insert(me.device.id(), void(&me, 99, NOW));
        assert!(verify(&mine.encode()).is_err(), "one more than allowed");
    }

    #[test]
    fn known_parts_need_no_second_look() {
        let record = record(&Person::new(1), 10, 0, Some(1));
        let late = NOW + 30 * DAY;
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, late);
        let known = UserRecord::verify_knowing(&record.encode(), Some(&record), &context).expect("verifies");
        assert_eq!(known, record);
        let strange = UserRecord::verify(&record.encode(), &context).expect("verifies");
        assert!(strange.devices.is_empty(), "the device information has expired");
    }

    /// A device, when it was said, the serial of a name, and a device that is revoked.
    type Part = (u8, u64, Option<u64>, Option<u8>);

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let part = (10..13u8, 0..3u64, prop::option::of(0..3u64), prop::option::of(10..13u8));
        prop::collection::vec(part, 1..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn merge_is_commutative_associative_idempotent(all in prop::array::uniform3(parts())) {
            let me = Person::new(1);
            let merge = |a: &UserRecord, b: &UserRecord| {
                let mut both = a.clone();
                both.merge(b);
                both
            };
            let [a, b, c] = all.map(|parts| {
                let records = parts.iter().map(|(device, millis, name, lost)| {
                    let mut record = record(&me, *device, *millis, *name);
                    lost.map(|lost| record.add_revocation(void(&me, lost, NOW + millis)));
                    record
                });
                records.reduce(|a, b| merge(&a, &b)).expect("at least one")
            });
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }
    }
}
