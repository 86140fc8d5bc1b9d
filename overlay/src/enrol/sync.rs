//! What a laptop and its user's server say to each other so that both have the same of the user: which statements each
//! lacks is found by comparing digests, so that bytes are near what changed (`PROTOCOL.md` §13). *Pure.*
//!
//! The server keeps what the user's devices have signed, and hands it on as it came: it cannot say anything for them.

use crate::id::{DeviceId, UserId};
use crate::keys::{DeviceKey, Domain, Signs as _, verify};

/// Buckets that the statements of a user are divided into, by the first byte of their marks.
pub const BUCKETS: usize = 256;
/// Bytes of a mark: one says which bucket, the rest is of a hash.
pub const MARK: usize = 8;
/// Bytes of what one question or answer carries, about; one statement may take it beyond.
pub const PAGE: usize = 48 * 1_024;
/// Bytes of one statement at most, so that it fits beside what else there is.
pub const MAX_STATEMENT: usize = 60 * 1_024;
/// Marks asked for at once.
pub const MAX_FETCH: usize = 1_024;

/// Something that a device says of its user's account: one contact, one blocked address, one contact record,
/// or what the directory may show.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Statement {
    /// What is said, as the devices of a user tell each other (§11).
    #[prost(bytes = "vec", tag = "1")]
    pub said: Vec<u8>,
    /// The device that says so.
    #[prost(bytes = "vec", tag = "2")]
    pub device: Vec<u8>,
    /// Its signature over the user and `said`.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

impl Statement {
    /// Signs what a device of `user` says.
    pub fn sign(user: &UserId, said: Vec<u8>, key: &DeviceKey) -> Self {
        let signature = key.sign(Domain::Statement, &signed(user, &said)).to_vec();
        Self { said, device: key.id().as_bytes().to_vec(), signature }
    }

    /// Whether that device has said it of that user. Whose device it is says its certificate.
    pub fn is_by(&self, user: &UserId, device: &DeviceId) -> bool {
        self.device == device.as_bytes()
            && verify(device.as_bytes(), Domain::Statement, &signed(user, &self.said), &self.signature)
    }
}

fn signed(user: &UserId, said: &[u8]) -> Vec<u8> {
    [user.as_bytes(), said].concat()
}

/// A device of a user has come: what it has, and the proof that it is one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Begin {
    /// The certified address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Public user key.
    #[prost(bytes = "vec", tag = "2")]
    pub user: Vec<u8>,
    /// The device's signed DeviceCert.
    #[prost(bytes = "vec", tag = "3")]
    pub certificate: Vec<u8>,
    /// Its signed NodeBinding: it is on the node that asks.
    #[prost(bytes = "vec", tag = "4")]
    pub binding: Vec<u8>,
    /// Start of the SHA-256 of the user record that it has.
    #[prost(bytes = "vec", tag = "5")]
    pub record: Vec<u8>,
    /// Digest of all its marks.
    #[prost(bytes = "vec", tag = "6")]
    pub root: Vec<u8>,
    /// Serial of the certificate of its name.
    #[prost(uint64, tag = "7")]
    pub serial: u64,
    /// Digest of the server's addresses that it knows.
    #[prost(bytes = "vec", tag = "8")]
    pub places: Vec<u8>,
    /// The key of the domain that counts there.
    #[prost(bytes = "vec", tag = "9")]
    pub authority: Vec<u8>,
    /// The highest serial of what it has of the domain's introductions of others.
    #[prost(uint64, tag = "60")]
    pub introduced: u64,
    /// Digest of the marks of others' presence that it was told last; empty: it wants none.
    #[prost(bytes = "vec", tag = "72")]
    pub looked: Vec<u8>,
    /// Digest of the domain's servers beside this one that it knows ([`super::Servers::digest`]); empty: it knows none.
    #[prost(bytes = "vec", tag = "91")]
    pub servers: Vec<u8>,
}

/// See [`Begin`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Begun {
    /// To be said in what follows; counts until the server starts again.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The user record that the server has; empty if it has none or the same.
    #[prost(bytes = "vec", tag = "2")]
    pub record: Vec<u8>,
    /// Whether the server has another user record, or none.
    #[prost(bool, tag = "3")]
    pub other_record: bool,
    /// A newer signed NameCert; empty: there is none.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
    /// A digest of each bucket; empty if nothing differs.
    #[prost(bytes = "vec", tag = "5")]
    pub buckets: Vec<u8>,
    /// Where the server is, multiaddresses; empty if the laptop knows.
    #[prost(string, repeated, tag = "6")]
    pub places: Vec<String>,
    /// Signed rotations that led to the domain's key; empty if the laptop knows it.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub rotations: Vec<Vec<u8>>,
    /// The server has a way to addresses outside the overlay (§14).
    #[prost(bool, tag = "8")]
    pub upstream: bool,
    /// Something that the user brought along from another server waits to be collected.
    #[prost(bool, tag = "9")]
    pub brought: bool,
    /// Signed introductions of other domains, with higher serials than the laptop has, ascending.
    #[prost(bytes = "vec", repeated, tag = "60")]
    pub introductions: Vec<Vec<u8>>,
    /// Whether the server has a directory (§15).
    #[prost(enumeration = "super::Directory", tag = "61")]
    pub directory: i32,
    /// The change of the password that counts, [`super::PasswordOf`]; 0: it was never changed; none: this server does not say.
    #[prost(uint64, optional, tag = "71")]
    pub password: Option<u64>,
    /// The server keeps what devices show ([`super::Look`]).
    #[prost(bool, tag = "72")]
    pub looks: bool,
    /// Marks of what those show whom the user may see, the newest [`super::MAX_LOOKED`]; empty if there is nothing, or nothing new.
    #[prost(bytes = "vec", tag = "73")]
    pub looked: Vec<u8>,
    /// The domain's servers beside this one, in place of those that the laptop knows; absent: it knows them.
    #[prost(message, optional, tag = "91")]
    pub servers: Option<super::Servers>,
}

/// Domains that one domain may introduce, with those taken back lately: all fit into one answer.
pub const MAX_INTRODUCTIONS: usize = 64;
/// Bytes of all of them.
pub const INTRODUCTIONS: usize = 16 * 1_024;

/// Which marks are there?
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Compare {
    /// Of [`Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Buckets, one byte each.
    #[prost(bytes = "vec", tag = "2")]
    pub buckets: Vec<u8>,
}

/// See [`Compare`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Compared {
    /// Of so many of the buckets, from the first; of the others it has to be asked again.
    #[prost(uint32, tag = "1")]
    pub buckets: u32,
    /// Marks, concatenated.
    #[prost(bytes = "vec", tag = "2")]
    pub marks: Vec<u8>,
}

/// What do these marks stand for?
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Fetch {
    /// Of [`Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Marks, concatenated, at most [`MAX_FETCH`].
    #[prost(bytes = "vec", tag = "2")]
    pub marks: Vec<u8>,
}

/// What devices of the user have said.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Statements {
    /// For so many of the marks, from the first; the others have to be asked for again.
    #[prost(uint32, tag = "1")]
    pub marks: u32,
    /// What was said.
    #[prost(message, repeated, tag = "2")]
    pub statements: Vec<Statement>,
    /// Signed DeviceCerts of who said it.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub certificates: Vec<Vec<u8>>,
    /// Of what was told, so many things were not taken, as there is no room.
    #[prost(uint32, tag = "4")]
    pub full: u32,
    /// So many were not, as they were made more than 48 h ahead of the server's clock.
    #[prost(uint32, tag = "5")]
    pub ahead: u32,
    /// So many were not, as the server does not understand them.
    #[prost(uint32, tag = "6")]
    pub unread: u32,
}

/// What the server lacks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Tell {
    /// Of [`Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// By the device that tells.
    #[prost(message, repeated, tag = "2")]
    pub statements: Vec<Statement>,
    /// A user record; empty: none.
    #[prost(bytes = "vec", tag = "3")]
    pub record: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_by_one_device_about_one_user() {
        let (key, other) = (DeviceKey::from_seed([1; 32]), DeviceKey::from_seed([2; 32]));
        let (user, stranger) = (UserId::from_bytes([3; 32]), UserId::from_bytes([4; 32]));
        let statement = Statement::sign(&user, b"bob is a contact".to_vec(), &key);
        assert!(statement.is_by(&user, &key.id()));
        assert!(!statement.is_by(&stranger, &key.id()) && !statement.is_by(&user, &other.id()));
        let altered = Statement { said: b"eve is a contact".to_vec(), ..statement };
        assert!(!altered.is_by(&user, &key.id()));
    }
}
