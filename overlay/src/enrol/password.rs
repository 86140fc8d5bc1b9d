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
    /// When the user changed it, as the laptop's clock said; Unix milliseconds. No two changes that follow each other have the same.
    #[prost(uint64, tag = "4")]
    pub at: u64,
    /// [`permit`] by the user key.
    #[prost(bytes = "vec", tag = "5")]
    pub permit: Vec<u8>,
    /// The changes that it was made after: the one of which the device knew that it counts at the server (0: the password was
    /// never changed), and its own since, of which it does not know. Empty: it knew nothing; then the clocks decide.
    #[prost(uint64, repeated, tag = "71")]
    pub follows: Vec<u64>,
}

/// Changes that one may have been made after: those of a laptop that the server has not answered.
pub const MOST_FOLLOWED: usize = 64;

/// The password that counts at the server is the one of that time.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct PasswordOf {
    /// As in [`Changed`].
    #[prost(uint64, tag = "1")]
    pub at: u64,
}

/// The user key's word that one of its devices has a new password of this time, made after these: a stolen device alone
/// changes none.
pub fn permit(
    key: &UserKey,
    authority: &AuthorityId,
    address: &str,
    device: &DeviceId,
    (at, follows): (u64, &[u64]),
) -> [u8; 64] {
    key.sign(Domain::PasswordChange, &permitted(authority, address, device, at, follows))
}

/// Whether that is the word of `user`.
pub fn permits(
    user: &UserId,
    authority: &AuthorityId,
    address: &str,
    device: &DeviceId,
    (at, follows): (u64, &[u64]),
    signature: &[u8],
) -> bool {
    let permitted = permitted(authority, address, device, at, follows);
    verify(user.as_bytes(), Domain::PasswordChange, &permitted, signature)
}

/// No address has the zero byte that stands before what is followed.
fn permitted(authority: &AuthorityId, address: &str, device: &DeviceId, at: u64, follows: &[u64]) -> Vec<u8> {
    let mut bytes =
        [authority.as_bytes(), device.as_bytes(), &at.to_be_bytes()[..], address.as_bytes()].concat();
    if !follows.is_empty() {
        bytes.push(0);
        bytes.extend(follows.iter().flat_map(|change| change.to_be_bytes()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_for_one_device_address_time_and_past() {
        let (key, authority) = (UserKey::from_seed([1; 32]), AuthorityId::from_bytes([2; 32]));
        let (one, other) = (DeviceId::from_bytes([3; 32]), DeviceId::from_bytes([4; 32]));
        let signature = permit(&key, &authority, "a@b", &one, (7, &[0, 5]));
        let permits = |by: &UserKey, address: &str, device: &DeviceId, at: u64, follows: &[u64]| {
            permits(&by.id(), &authority, address, device, (at, follows), &signature)
        };
        assert!(permits(&key, "a@b", &one, 7, &[0, 5]));
        assert!(!permits(&key, "a@b", &other, 7, &[0, 5]));
        assert!(!permits(&key, "a@b", &one, 8, &[0, 5]));
        assert!(!permits(&key, "a@b", &one, 7, &[0, 6]) && !permits(&key, "a@b", &one, 7, &[]));
        assert!(!permits(&key, "c@b", &one, 7, &[0, 5]));
        assert!(!permits(&UserKey::from_seed([5; 32]), "a@b", &one, 7, &[0, 5]));
    }
}
