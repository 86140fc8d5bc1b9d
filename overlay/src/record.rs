//! Signed statements. An [`Unverified`] one becomes [`Verified`] here and nowhere else. *Pure.*
//!
//! On the wire every record is a [`SignedRecord`]: payload bytes, the signer's public key, its Ed25519 signature over
//! `domain string ‖ 0x00 ‖ payload`, and for some kinds the signer's [`DeviceCert`]. The bytes are checked as
//! received and never encoded again, so a verified record can be stored and forwarded as it came.
//!
//! | kind | signed by | bytes | life | merge: of two, … wins |
//! | --- | --- | --- | --- | --- |
//! | [`DeviceCert`] | user | 512 | 400 days | the later issued, then the greater bytes |
//! | [`NameCert`] | authority | 1 KiB | 400 days | the higher serial, then the greater bytes |
//! | [`Revocation`] | user or authority | 1 KiB | past the certificate's end | the earlier since, then the smaller bytes |
//! | [`Introduction`] | authority | 768 | 400 days | the higher serial of one domain ([`crate::core`]) |
//! | [`Rotation`] | old and new authority key | 640 | none | both are kept ([`crate::authority::Chain`]) |
//! | [`DeviceInfo`] | device | 1 KiB | 7 days | the later epoch, clock reading, then bytes |
//! | [`NodeBinding`] | device and node | 512 | 7 days | the later issued, then the greater bytes |
//! | [`NodeLinks`] | node | 1,280 | 1 hour | the later clock reading, then bytes |
//! | [`LinkPresence`] | device | 4 KiB | 2 minutes | the later clock reading, then bytes |
//! | [`PresenceRecord`] | device | 16 KiB | 30 minutes | the later clock reading, then bytes |
//! | [`SealedPresence`] | presence key | 4.25 KiB | 24 hours | the later clock reading, then bytes |
//! | [`ContactRecord`] | device | 1 KiB | until superseded | the later clock reading, device, then bytes |
//! | [`Receipt`] | device | 512 | an event, not merged | – |
//! | [`MailboxAccess`] | device | 1 KiB | 10 minutes, one session | – |
//! | [`Token`] | device | 1 KiB | 90 days | – |

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use prost::Message as _;

use crate::id::{AuthorityId, DeviceId, NodeId, PresenceId, UserId};
use crate::keys::{Domain, Signs, verify};
use crate::mutant::{Mutant, is_on};
use crate::time::TrustedTime;

mod contact;
mod device_cert;
mod device_info;
mod field;
mod introduction;
mod link_presence;
mod mailbox_access;
mod name_cert;
mod node_binding;
mod node_links;
mod presence;
mod receipt;
mod refusal;
mod revocation;
mod rotation;
mod sealed_presence;
mod token;
mod user;

pub use contact::{ContactRecord, Says, Side, Slots, Subscription, subscription};
pub use device_cert::DeviceCert;
pub use device_info::{DeviceInfo, MAX_DECLARED, MAX_SEALING_KEYS, SealingPublic};
pub(crate) use field::{HlcField, hlc_field, id_field, key_field, payload, text_field};
pub use introduction::Introduction;
pub use link_presence::{LinkPresence, LinkStatus};
pub use mailbox_access::MailboxAccess;
pub use name_cert::{NameCert, domain_of};
pub use node_binding::NodeBinding;
pub use node_links::{MAX_LINKS, NodeLinks, NodePrefix};
pub use presence::{MAX_SESSIONS, PresenceRecord, PresenceSession};
pub use receipt::{Receipt, ReceiptOutcome, RefusalCode};
pub use refusal::Refusal;
pub use revocation::{MAX_REVOCATIONS, Revocation, RevocationSet, Revoked, RevokedBy};
pub use rotation::Rotation;
pub use sealed_presence::{MAX_WHEREABOUTS, SealedPresence, Whereabouts};
pub use token::Token;
pub use user::{DevicePart, MAX_DEVICES, MAX_NAMES, MAX_REVOKED, MAX_USER_RECORD, UserRecord};

/// The version that every payload of this program carries.
pub const VERSION: u32 = 1;

/// Bytes that a [`SignedRecord`] adds to a payload and an attached certificate, at most.
const FRAMING: usize = 128;

/// The one wire shape of a signed record.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct SignedRecord {
    /// What is signed, without the domain string.
    #[prost(bytes = "vec", tag = "1")]
    pub payload: Vec<u8>,
    /// 64 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
    /// 32 bytes: the public key that made the signature.
    #[prost(bytes = "vec", tag = "3")]
    pub signer: Vec<u8>,
    /// A [`DeviceCert`] of the signer, for kinds whose reader may not know the signer. Empty otherwise.
    #[prost(bytes = "vec", tag = "4")]
    pub certificate: Vec<u8>,
}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedRecord({} bytes)", self.payload.len())
    }
}

/// Who has to have signed a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The user key.
    User(UserId),
    /// An authority.
    Authority(AuthorityId),
    /// A node.
    Node(NodeId),
    /// A device that this user certified.
    Device(UserId, DeviceId),
    /// A presence key, which says nothing of its owner.
    Presence(PresenceId),
}

impl Signer {
    fn key(&self) -> &[u8; 32] {
        match self {
            Self::User(user) => user.as_bytes(),
            Self::Authority(authority) => authority.as_bytes(),
            Self::Node(node) => node.as_bytes(),
            Self::Device(_, device) => device.as_bytes(),
            Self::Presence(presence) => presence.as_bytes(),
        }
    }
}

/// From when to when a record speaks, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was made.
    pub from: u64,
    /// When it ends, if it ends by itself.
    pub until: Option<u64>,
    /// Whether the end makes it worthless. An expired certificate still proves who somebody is (DESIGN.md §3.3).
    pub end_counts: bool,
}

/// A kind of record.
pub trait Record: Sized {
    /// What its signature is for.
    const DOMAIN: Domain;
    /// Bytes of the whole signed record, at most.
    const MAX_SIZE: usize;
    /// Milliseconds from its making to its end, at most.
    const MAX_LIFE: u64;

    /// Parses and checks everything that needs no key and no clock.
    fn from_payload(payload: &[u8]) -> Result<Self, Refusal>;
    /// The bytes that are signed.
    fn to_payload(&self) -> Vec<u8>;
    /// Who has to have signed it.
    fn signer(&self) -> Signer;
    /// From when to when it speaks.
    fn span(&self) -> Span;
    /// Whether whoever else has a say in it has agreed, by a signature in the payload.
    fn is_agreed(&self) -> bool {
        true
    }
    /// Whether it counts also where the user key that has signed it is void.
    fn outlives_its_key(&self) -> bool {
        false
    }
}

/// The last part of the domain string, for messages.
pub(crate) fn kind_name<T: Record>() -> &'static str {
    T::DOMAIN.tag().rsplit('/').next().unwrap_or_default()
}

/// Where certificates that are already verified can be looked up.
pub trait Certificates {
    /// The verified certificate of a device, if known.
    fn certificate(&self, device: &DeviceId) -> Option<&Verified<DeviceCert>>;
}

/// Knows no certificate.
#[derive(Clone, Copy, Debug)]
pub struct NoCertificates;

impl Certificates for NoCertificates {
    fn certificate(&self, _: &DeviceId) -> Option<&Verified<DeviceCert>> {
        None
    }
}

impl Certificates for Verified<DeviceCert> {
    fn certificate(&self, device: &DeviceId) -> Option<&Verified<DeviceCert>> {
        (self.device == *device).then_some(self)
    }
}

/// What a record is verified against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time to judge by.
    pub time: TrustedTime,
    /// Certificates known already.
    pub certificates: &'a dyn Certificates,
    /// What has been revoked.
    pub revocations: &'a RevocationSet,
    /// Whether an end that counts is looked at. Not for what comes out of the own store: an expired user record still
    /// says which devices an undelivered message is for.
    pub enforce_end: bool,
}

/// A record as it arrived: parsed, of legal size and shape, and not to be believed.
#[derive(Clone)]
pub struct Unverified<T> {
    value: T,
    signed: SignedRecord,
    bytes: Arc<[u8]>,
}

impl<T: Record> Unverified<T> {
    /// Parses `bytes`; checks size and shape only.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<T>();
        if bytes.len() > T::MAX_SIZE {
            return Err(Refusal::TooLarge { kind, size: bytes.len(), max: T::MAX_SIZE });
        }
        let signed =
            SignedRecord::decode(bytes).map_err(|_| Refusal::Malformed { kind, what: "signed record" })?;
        if signed.encoded_len() != bytes.len() {
            // Whoever passed it on has put something in that nobody signed.
            return Err(Refusal::Malformed { kind, what: "signed record" });
        }
        let value = T::from_payload(&signed.payload)?;
        Ok(Self { value, signed, bytes: bytes.into() })
    }

    /// The one place where a record becomes [`Verified`]: signer, signature, life and revocation are checked.
    pub fn verify(self, context: &Context<'_>) -> Result<Verified<T>, Refusal> {
        let kind = kind_name::<T>();
        let signer = self.value.signer();
        if self.signed.signer != signer.key() {
            return Err(Refusal::WrongSigner { kind });
        }
        check_span::<T>(&self.value.span(), context)?;
        match &signer {
            Signer::Device(user, device) => self.check_device(user, device, context)?,
            Signer::User(user)
                if !self.value.outlives_its_key() && context.revocations.is_compromised(user) =>
            {
                return Err(Refusal::Revoked { kind });
            }
            Signer::User(_) | Signer::Authority(_) | Signer::Node(_) | Signer::Presence(_) => {}
        }
        let signed = verify(signer.key(), T::DOMAIN, &self.signed.payload, &self.signed.signature);
        if !(signed || is_on(Mutant::SkipSignature)) || !self.value.is_agreed() {
            return Err(Refusal::Signature { kind });
        }
        Ok(Verified { value: self.value, bytes: self.bytes })
    }

    fn check_device(&self, user: &UserId, device: &DeviceId, context: &Context<'_>) -> Result<(), Refusal> {
        let kind = kind_name::<T>();
        let attached;
        let certificate = match context.certificates.certificate(device) {
            Some(known) => known,
            None if self.signed.certificate.is_empty() => return Err(Refusal::NoCertificate { kind }),
            None => {
                attached = Unverified::<DeviceCert>::parse(&self.signed.certificate)?.verify(context)?;
                &attached
            }
        };
        if certificate.user != *user || certificate.device != *device {
            return Err(Refusal::WrongSigner { kind });
        }
        if context.revocations.is_device_revoked(user, device) {
            return Err(Refusal::Revoked { kind });
        }
        Ok(())
    }
}

impl<T: Record> Unverified<T> {
    /// The certificate that came attached, for a caller that wants to keep it once the record is verified.
    pub fn attached_certificate(&self) -> &[u8] {
        &self.signed.certificate
    }

    /// What it claims: for finding what is needed to verify it, for nothing else.
    pub fn claim(&self) -> &T {
        &self.value
    }
}

fn check_span<T: Record>(span: &Span, context: &Context<'_>) -> Result<(), Refusal> {
    let kind = kind_name::<T>();
    if context.time.is_too_far_ahead(span.from) {
        return Err(Refusal::TooFarAhead { kind });
    }
    let Some(until) = span.until else { return Ok(()) };
    if until.saturating_sub(span.from) > T::MAX_LIFE {
        return Err(Refusal::LivesTooLong { kind });
    }
    if span.end_counts && context.enforce_end && context.time.is_past(until) {
        return Err(Refusal::Expired { kind });
    }
    Ok(())
}

/// A record whose signature, signer and life have been checked, with the exact bytes that were signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    bytes: Arc<[u8]>,
}

impl<T> Verified<T> {
    /// The whole signed record as it was received or made: to be stored and forwarded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Record> Verified<T> {
    /// Signs a statement of one's own. Refused if `key` is not the one that has to sign it, or if it is too large.
    /// `certificate` travels along for kinds whose reader may not know the signing device.
    pub fn sign(
        value: T,
        key: &impl Signs,
        certificate: Option<&Verified<DeviceCert>>,
    ) -> Result<Self, Refusal> {
        let kind = kind_name::<T>();
        if key.public() != *value.signer().key() {
            return Err(Refusal::WrongSigner { kind });
        }
        let payload = value.to_payload();
        let signed = SignedRecord {
            signature: key.sign(T::DOMAIN, &payload).to_vec(),
            signer: key.public().to_vec(),
            certificate: certificate.map(|certificate| certificate.bytes().to_vec()).unwrap_or_default(),
            payload,
        };
        let bytes: Arc<[u8]> = signed.encode_to_vec().into();
        if bytes.len() > T::MAX_SIZE {
            return Err(Refusal::TooLarge { kind, size: bytes.len(), max: T::MAX_SIZE });
        }
        Ok(Self { value, bytes })
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({:?})", self.value)
    }
}

/// Of two verified records about the same thing, the one with the greater key; equal keys are decided by the bytes.
pub(crate) fn later<T, K: Ord>(a: Verified<T>, b: Verified<T>, key: impl Fn(&T) -> K) -> Verified<T> {
    let a_wins = (key(&a), a.bytes()) >= (key(&b), b.bytes());
    if a_wins { a } else { b }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A user with a device, for the tests of the record kinds.

    use super::*;
    use crate::keys::{AuthorityKey, DeviceKey, UserKey};
    use crate::time::DAY;

    /// The wall clock of these tests.
    pub(crate) const NOW: u64 = 20_000 * DAY;

    pub(crate) struct Person {
        pub(crate) user: UserKey,
        pub(crate) device: DeviceKey,
        pub(crate) cert: Verified<DeviceCert>,
    }

    impl Person {
        pub(crate) fn new(seed: u8) -> Self {
            let (user, device) = (UserKey::from_seed([seed; 32]), DeviceKey::from_seed([seed ^ 0x80; 32]));
            let cert = DeviceCert::issue(&user, device.id(), NOW).expect("signs");
            Self { user, device, cert }
        }

        pub(crate) fn id(&self) -> UserId {
            self.user.id()
        }
    }

    pub(crate) fn authority() -> AuthorityKey {
        AuthorityKey::from_seed([0x61; 32])
    }

    pub(crate) fn context<'a>(
        certificates: &'a dyn Certificates,
        revocations: &'a RevocationSet,
        millis: u64,
    ) -> Context<'a> {
        Context { time: TrustedTime::certain(millis), certificates, revocations, enforce_end: true }
    }

    /// Parses and verifies at [`NOW`], knowing one certificate.
    pub(crate) fn check<T: Record>(bytes: &[u8], known: &dyn Certificates) -> Result<Verified<T>, Refusal> {
        check_at(bytes, known, NOW)
    }

    pub(crate) fn check_at<T: Record>(
        bytes: &[u8],
        known: &dyn Certificates,
        millis: u64,
    ) -> Result<Verified<T>, Refusal> {
        let revocations = RevocationSet::default();
        Unverified::<T>::parse(bytes)?.verify(&context(known, &revocations, millis))
    }

    /// Asserts that a good record verifies, reads back the same, and that no altered byte gets through.
    pub(crate) fn survives_only_unaltered<T: Record + PartialEq + fmt::Debug>(
        good: &Verified<T>,
        known: &dyn Certificates,
    ) {
        assert_eq!(check::<T>(good.bytes(), known).as_ref(), Ok(good));
        for index in 0..good.bytes().len() {
            let mut bytes = good.bytes().to_vec();
            bytes[index] ^= 0x10;
            if let Ok(altered) = check::<T>(&bytes, known) {
                // Only bytes outside the signature's reach may change, never the statement.
                assert_eq!(*altered, **good, "byte {index}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::*;
    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(check::<DeviceCert>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<NameCert>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<Revocation>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<DeviceInfo>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<NodeBinding>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<NodeLinks>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<LinkPresence>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<PresenceRecord>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<SealedPresence>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<ContactRecord>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<Receipt>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<MailboxAccess>(&bytes, &NoCertificates).is_err());
            prop_assert!(check::<Token>(&bytes, &NoCertificates).is_err());
            prop_assert!(UserRecord::verify(&bytes, &context(&NoCertificates, &RevocationSet::default(), NOW)).is_err());
        }
    }

    #[test]
    fn an_oversize_record_is_refused_before_it_is_parsed() {
        let bytes = vec![0; DeviceCert::MAX_SIZE + 1];
        let refusal = check::<DeviceCert>(&bytes, &NoCertificates).expect_err("too large");
        assert!(matches!(refusal, Refusal::TooLarge { kind: "device-cert", .. }), "{refusal}");
        assert!(refusal.is_offence());
    }
}
