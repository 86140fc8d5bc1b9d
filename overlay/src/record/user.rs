//! What the world may know about a user: devices with their sealing keys, and names. *Pure.*

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    Certificates, Context, DeviceCert, DeviceInfo, NameCert, Refusal, Unverified, VERSION, Verified,
    key_field, payload,
};
use crate::id::{AuthorityId, DeviceId, UserId};

/// Devices of one user at most.
pub const MAX_DEVICES: usize = 16;
/// Names of one user at most.
pub const MAX_NAMES: usize = 4;
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
/// go, beyond [`MAX_NAMES`] the names with the oldest: up to these limits the law is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    user: UserId,
    devices: BTreeMap<DeviceId, DevicePart>,
    names: BTreeMap<AuthorityId, Verified<NameCert>>,
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
        let mut record = Self { user, devices: BTreeMap::new(), names: BTreeMap::new() };
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
    if fields.devices.is_empty() || fields.devices.len() > MAX_DEVICES {
        return Err(Refusal::Malformed { kind: KIND, what: "list of devices" });
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
        assert!(full.encode().len() + 16 * 7 * 40 <= MAX_USER_RECORD, "{}", full.encode().len());
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

    fn parts() -> impl Strategy<Value = Vec<(u8, u64, Option<u64>)>> {
        prop::collection::vec((10..13u8, 0..3u64, prop::option::of(0..3u64)), 1..4)
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
                let records = parts.iter().map(|(device, millis, name)| record(&me, *device, *millis, *name));
                records.reduce(|a, b| merge(&a, &b)).expect("at least one")
            });
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }
    }
}
