//! Passwords that a server knows by something that was derived from them: those it was given by another server, and those
//! that were changed while it was away (`PROTOCOL.md` §12). *Pure.*
//!
//! In both cases OPAQUE runs over the derived secret in place of the password, so that who listens or pretends to be the
//! server gets nothing to try passwords against.

use crate::id::{AuthorityId, DeviceId, UserId};
use crate::keys::{Domain, Signs as _, UserKey, verify};

/// How the secret of a login is made of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Scheme {
    /// Not understood.
    Unknown = 0,
    /// The keys of SCRAM-SHA-1 (RFC 5802).
    ScramSha1 = 1,
    /// Of SCRAM-SHA-256 (RFC 7677).
    ScramSha256 = 2,
    /// Of SCRAM-SHA-512.
    ScramSha512 = 3,
    /// Argon2id, with a salt that both know.
    Stretched = 4,
}

/// Rounds of PBKDF2 that a laptop does for a server at most.
pub const MOST_ROUNDS: u32 = 2_000_000;
/// Bytes of a salt at most.
pub const MAX_SALT: usize = 256;

/// Log in with a secret derived like this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Salted {
    /// A [`Scheme`].
    #[prost(enumeration = "Scheme", tag = "1")]
    pub scheme: i32,
    /// For SCRAM.
    #[prost(bytes = "vec", tag = "2")]
    pub salt: Vec<u8>,
    /// For SCRAM: rounds.
    #[prost(uint32, tag = "3")]
    pub rounds: u32,
}

/// The password was right, and there is no user key yet: an invitation of some minutes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Admitted {
    /// As in [`super::Register`].
    #[prost(bytes = "vec", tag = "1")]
    pub token: Vec<u8>,
}

/// A device has a new password of its user's: the first message of OPAQUE's registration over the stretched one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Change {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// OPAQUE's RegistrationRequest.
    #[prost(bytes = "vec", tag = "2")]
    pub request: Vec<u8>,
}

/// Its last message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Changed {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// OPAQUE's RegistrationRecord.
    #[prost(bytes = "vec", tag = "2")]
    pub upload: Vec<u8>,
    /// The user key, sealed under the password and then under OPAQUE's export key.
    #[prost(bytes = "vec", tag = "3")]
    pub sealed: Vec<u8>,
    /// When the user changed it; Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub at: u64,
    /// [`permit`] by the user key.
    #[prost(bytes = "vec", tag = "5")]
    pub permit: Vec<u8>,
}

/// The password that counts at the server is the one of that time.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct PasswordOf {
    /// Unix milliseconds, as in [`Changed`]; of two changes the later one counts.
    #[prost(uint64, tag = "1")]
    pub at: u64,
}

/// The user key's word that one of its devices has a new password of this time: a stolen device alone changes none.
pub fn permit(key: &UserKey, authority: &AuthorityId, address: &str, device: &DeviceId, at: u64) -> [u8; 64] {
    key.sign(Domain::PasswordChange, &permitted(authority, address, device, at))
}

/// Whether that is the word of `user`.
pub fn permits(
    user: &UserId,
    authority: &AuthorityId,
    address: &str,
    (device, at): (&DeviceId, u64),
    signature: &[u8],
) -> bool {
    verify(user.as_bytes(), Domain::PasswordChange, &permitted(authority, address, device, at), signature)
}

fn permitted(authority: &AuthorityId, address: &str, device: &DeviceId, at: u64) -> Vec<u8> {
    [authority.as_bytes(), device.as_bytes(), &at.to_be_bytes()[..], address.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_for_one_device_address_and_time() {
        let (key, authority) = (UserKey::from_seed([1; 32]), AuthorityId::from_bytes([2; 32]));
        let (one, other) = (DeviceId::from_bytes([3; 32]), DeviceId::from_bytes([4; 32]));
        let signature = permit(&key, &authority, "a@b", &one, 7);
        assert!(permits(&key.id(), &authority, "a@b", (&one, 7), &signature));
        assert!(!permits(&key.id(), &authority, "a@b", (&other, 7), &signature));
        assert!(!permits(&key.id(), &authority, "a@b", (&one, 8), &signature));
        assert!(!permits(&key.id(), &authority, "c@b", (&one, 7), &signature));
        assert!(!permits(&UserKey::from_seed([5; 32]).id(), &authority, "a@b", (&one, 7), &signature));
    }
}
