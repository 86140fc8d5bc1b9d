//! Private keys: the only types that sign or open. Each is erased when dropped and never printed. *Pure.*

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::id::{AuthorityId, DeviceId, NodeId, PresenceId, UserId};
use crate::verified::remembered;

/// What a signature is for. A signature made for one kind is worth nothing for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// [`crate::record::DeviceCert`]
    DeviceCert,
    /// [`crate::record::NameCert`]
    NameCert,
    /// [`crate::record::Revocation`]
    Revocation,
    /// [`crate::record::DeviceInfo`]
    DeviceInfo,
    /// [`crate::record::NodeBinding`]
    NodeBinding,
    /// What the node says in a [`crate::record::NodeBinding`].
    NodeConsent,
    /// [`crate::record::NodeLinks`]
    NodeLinks,
    /// [`crate::record::LinkPresence`]
    LinkPresence,
    /// [`crate::record::PresenceRecord`]
    Presence,
    /// [`crate::record::SealedPresence`]
    SealedPresence,
    /// [`crate::record::ContactRecord`]
    Contact,
    /// [`crate::record::Receipt`]
    Receipt,
    /// [`crate::envelope::Inner`]
    Envelope,
    /// [`crate::record::MailboxAccess`]
    MailboxAccess,
    /// [`crate::record::Token`]
    Token,
    /// [`crate::enrol::consent`]
    EnrolConsent,
    /// [`crate::enrol::Statement`]
    Statement,
    /// [`crate::record::Rotation`]
    Rotation,
    /// What the new key says in a [`crate::record::Rotation`].
    RotationConsent,
    /// [`crate::record::Introduction`]
    Introduction,
    /// [`crate::enrol::permit`]
    PasswordChange,
}

impl Domain {
    /// Every domain, in the order of the protocol document.
    pub const ALL: [Self; 21] = [
        Self::DeviceCert,
        Self::NameCert,
        Self::Revocation,
        Self::DeviceInfo,
        Self::NodeBinding,
        Self::NodeConsent,
        Self::NodeLinks,
        Self::LinkPresence,
        Self::Presence,
        Self::SealedPresence,
        Self::Contact,
        Self::Receipt,
        Self::Envelope,
        Self::MailboxAccess,
        Self::Token,
        Self::EnrolConsent,
        Self::Statement,
        Self::Rotation,
        Self::RotationConsent,
        Self::Introduction,
        Self::PasswordChange,
    ];

    /// The string that starts what is signed; a zero byte follows it.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::DeviceCert => "crosstalk/1/device-cert",
            Self::NameCert => "crosstalk/1/name-cert",
            Self::Revocation => "crosstalk/1/revocation",
            Self::DeviceInfo => "crosstalk/1/device-info",
            Self::NodeBinding => "crosstalk/1/node-binding",
            Self::NodeConsent => "crosstalk/1/node-consent",
            Self::NodeLinks => "crosstalk/1/node-links",
            Self::LinkPresence => "crosstalk/1/link-presence",
            Self::Presence => "crosstalk/1/presence",
            Self::SealedPresence => "crosstalk/1/sealed-presence",
            Self::Contact => "crosstalk/1/contact",
            Self::Receipt => "crosstalk/1/receipt",
            Self::Envelope => "crosstalk/1/envelope",
            Self::MailboxAccess => "crosstalk/1/mailbox-access",
            Self::Token => "crosstalk/1/token",
            Self::EnrolConsent => "crosstalk/1/enrol-consent",
            Self::Statement => "crosstalk/1/statement",
            Self::Rotation => "crosstalk/1/rotation",
            Self::RotationConsent => "crosstalk/1/rotation-consent",
            Self::Introduction => "crosstalk/1/introduction",
            Self::PasswordChange => "crosstalk/1/password-change",
        }
    }

    fn message(self, payload: &[u8]) -> Vec<u8> {
        let tag = self.tag().as_bytes();
        let mut message = Vec::with_capacity(tag.len() + 1 + payload.len());
        message.extend_from_slice(tag);
        message.push(0);
        message.extend_from_slice(payload);
        message
    }
}

/// Whether `signature` over `payload` in `domain` was made by the holder of `public`. Strict: keys and signatures
/// of small order or in non-canonical form do not count.
pub(crate) fn verify(public: &[u8; 32], domain: Domain, payload: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    let message = domain.message(payload);
    remembered(&[public, &signature.to_bytes(), &message], || {
        VerifyingKey::from_bytes(public).is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
    })
}

mod sealed {
    pub trait Sealed {}
}

/// A private Ed25519 key of one of the five kinds.
pub trait Signs: sealed::Sealed {
    /// The public key.
    fn public(&self) -> [u8; 32];
    /// The 64-byte signature over `payload` for one kind of record.
    fn sign(&self, domain: Domain, payload: &[u8]) -> [u8; 64];
}

macro_rules! signing_key {
    ($(#[$doc:meta])* $name:ident, $id:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// The key of these 32 secret bytes.
            pub fn from_seed(seed: [u8; 32]) -> Self {
                Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
            }

            /// The 32 secret bytes: for the key file only.
            pub fn seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// Its public name.
            pub fn id(&self) -> $id {
                $id::from_bytes(self.public())
            }
        }

        impl sealed::Sealed for $name {}

        impl Signs for $name {
            fn public(&self) -> [u8; 32] {
                self.0.verifying_key().to_bytes()
            }

            fn sign(&self, domain: Domain, payload: &[u8]) -> [u8; 64] {
                self.0.sign(&domain.message(payload)).to_bytes()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.id())
            }
        }
    };
}

signing_key! {
    /// A user's key: certifies and revokes that user's devices. Stored sealed and opened for that only.
    UserKey, UserId
}
signing_key! {
    /// A device's key: signs its records, receipts and envelopes.
    DeviceKey, DeviceId
}
signing_key! {
    /// A node's key: libp2p proves it in the handshake of every link.
    NodeKey, NodeId
}
signing_key! {
    /// An authority's key: gives names under one domain.
    AuthorityKey, AuthorityId
}
signing_key! {
    /// Signs what one device puts into the hash table for its user's contacts. A new one, with a new [`AudienceKey`], when
    /// somebody may no longer read it.
    PresenceKey, PresenceId
}

/// The 32 secret bytes that one device seals its presence with. Its user's contacts have them too.
#[derive(Clone, PartialEq, Eq)]
pub struct AudienceKey(Zeroizing<[u8; 32]>);

impl AudienceKey {
    /// The key of these 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The 32 secret bytes: for the store, for contacts, for sealing and opening.
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }
}

impl fmt::Debug for AudienceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AudienceKey")
    }
}

/// A device's X25519 key, which others seal envelopes to. A device has several, the newest is used.
#[derive(Clone)]
pub struct SealingKey {
    seed: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    /// When it was made, Unix milliseconds; decides which one is newest, when the next is due and when it is erased.
    pub created: u64,
}

impl SealingKey {
    /// The key of these 32 secret bytes.
    pub fn from_seed(seed: [u8; 32], created: u64) -> Self {
        let seed = Zeroizing::new(seed);
        let public = crate::seal::public_of(&seed);
        Self { seed, public, created }
    }

    /// The 32 secret bytes: for the key file and for opening only.
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}…)", crate::id::hex(&self.public[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_domain_only() {
        let key = DeviceKey::from_seed([7; 32]);
        for made_for in Domain::ALL {
            let signature = key.sign(made_for, b"payload");
            for checked_for in Domain::ALL {
                let good = verify(&key.public(), checked_for, b"payload", &signature);
                assert_eq!(good, made_for == checked_for, "{made_for:?} {checked_for:?}");
            }
        }
    }

    #[test]
    fn other_payloads_keys_and_lengths_fail() {
        let key = UserKey::from_seed([7; 32]);
        let signature = key.sign(Domain::Receipt, b"payload");
        assert!(!verify(&key.public(), Domain::Receipt, b"payloae", &signature));
        assert!(!verify(&UserKey::from_seed([8; 32]).public(), Domain::Receipt, b"payload", &signature));
        assert!(!verify(&key.public(), Domain::Receipt, b"payload", &signature[..63]));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&identity, Domain::Receipt, b"anything", &signature));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = "4242";
        let texts = [
            format!("{:?}", UserKey::from_seed([0x42; 32])),
            format!("{:?}", DeviceKey::from_seed([0x42; 32])),
            format!("{:?}", SealingKey::from_seed([0x42; 32], 0)),
            format!("{:?}", PresenceKey::from_seed([0x42; 32])),
            format!("{:?}", AudienceKey::from_seed([0x42; 32])),
        ];
        assert!(texts.iter().all(|text| !text.contains(secret)), "{texts:?}");
    }
}
