//! Accounts: one entry per local user, keyed by its user key. *Pure.*

use crosstalk_overlay::enrol::ServerAt;

use super::directory::Listing;
use super::roster::Edit;
use crate::Tree;
use crate::codec::Stored;

/// Salted keys of one hash function (RFC 5802 §3).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ScramKeys {
    /// Salt.
    #[prost(bytes = "vec", tag = "1")]
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    #[prost(uint32, tag = "2")]
    pub iterations: u32,
    /// H(ClientKey).
    #[prost(bytes = "vec", tag = "3")]
    pub stored_key: Vec<u8>,
    /// ServerKey.
    #[prost(bytes = "vec", tag = "4")]
    pub server_key: Vec<u8>,
}

/// A local account.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Account {
    /// Login name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Domain that the login name is typed with.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// Nickname shown to others.
    #[prost(string, tag = "3")]
    pub nickname: String,
    /// Not shown to neighbours.
    #[prost(bool, tag = "4")]
    pub hidden: bool,
    /// DeviceCert, signed bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub device_cert: Vec<u8>,
    /// NameCert, signed bytes; empty without one.
    #[prost(bytes = "vec", tag = "6")]
    pub name_cert: Vec<u8>,
    /// For SCRAM-SHA-1.
    #[prost(message, required, tag = "7")]
    pub sha1: ScramKeys,
    /// For SCRAM-SHA-256 and PLAIN.
    #[prost(message, required, tag = "8")]
    pub sha256: ScramKeys,
    /// User key sealed under the password.
    #[prost(bytes = "vec", tag = "9")]
    pub sealed_by_password: Vec<u8>,
    /// User key sealed under the recovery code.
    #[prost(bytes = "vec", tag = "10")]
    pub sealed_by_recovery: Vec<u8>,
    /// Unix milliseconds.
    #[prost(uint64, tag = "11")]
    pub created: u64,
    /// When the last session ended, unix milliseconds; 0 if none ever did.
    #[prost(uint64, tag = "12")]
    pub last_logout: u64,
    /// The password was changed without opening the user key, which is sealed under an earlier one.
    #[prost(bool, tag = "13")]
    pub seal_is_older: bool,
    /// Version of the contact list (RFC 6121 §2.6), ascending.
    #[prost(uint64, tag = "14")]
    pub roster_version: u64,
    /// Envelope epoch of this user's device: a restored store opens a new one.
    #[prost(uint64, tag = "15")]
    pub epoch: u64,
    /// Less of XEP-0174 than the node's settings allow: 0 as they say, 1 nothing is announced, 2 nothing at all. Absent
    /// in what was stored before there was a choice.
    #[prost(uint32, tag = "16")]
    pub link: u32,
    /// What the machines of the user's other devices are called, at most 16.
    #[prost(message, repeated, tag = "17")]
    pub devices: Vec<DeviceName>,
    /// The server of the user's domain; absent for who has none.
    #[prost(message, optional, tag = "18")]
    pub server: Option<HomeServer>,
    /// A new password that the server does not know yet.
    #[prost(message, optional, tag = "19")]
    pub held_password: Option<HeldPassword>,
    /// What the directory of the domain may show; absent: nothing, and nothing was ever said about it.
    #[prost(message, optional, tag = "61")]
    pub listing: Option<Listing>,
    /// When the nickname was chosen, and by which device; absent: as it was at first.
    #[prost(message, optional, tag = "62")]
    pub nickname_edit: Option<Edit>,
    /// The same of the vCard.
    #[prost(message, optional, tag = "63")]
    pub vcard_edit: Option<Edit>,
    /// Lowest version of the contact list since which a client can be told what has changed: older ones were given before the store was
    /// put back, and may have been given twice.
    #[prost(uint64, tag = "64")]
    pub roster_from: u64,
}

/// A new password on its way to the server; what lets its user in there, and opens nothing by itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct HeldPassword {
    /// When it was changed, Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// The password, stretched.
    #[prost(bytes = "vec", tag = "2")]
    pub secret: Vec<u8>,
    /// The user key's word that this device has changed it then.
    #[prost(bytes = "vec", tag = "3")]
    pub permit: Vec<u8>,
    /// The changes that it was made after, one of which the server may have; empty if nothing is known of them.
    #[prost(uint64, repeated, tag = "4")]
    pub follows: Vec<u64>,
}

impl std::fmt::Debug for HeldPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldPassword(of {})", self.at)
    }
}

/// Where the server of a user's domain is, and when both had the same.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HomeServer {
    /// Its node.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// Multiaddresses.
    #[prost(string, repeated, tag = "2")]
    pub places: Vec<String>,
    /// When the last sync ended, unix milliseconds; 0: none did.
    #[prost(uint64, tag = "3")]
    pub synced: u64,
    /// Version of the contact list of which the server has everything.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// Hybrid logical clock, milliseconds: earlier edits the server has.
    #[prost(uint64, tag = "5")]
    pub clock: u64,
    /// Digest of what both had.
    #[prost(bytes = "vec", tag = "6")]
    pub root: Vec<u8>,
    /// It has a way to addresses outside the overlay.
    #[prost(bool, tag = "7")]
    pub upstream: bool,
    /// The change of the password that counts there, 0: none ever; absent: it has not said.
    #[prost(uint64, optional, tag = "8")]
    pub password: Option<u64>,
    /// Whether it has a directory that the user may search.
    #[prost(enumeration = "crosstalk_overlay::enrol::Directory", tag = "61")]
    pub directory: i32,
    /// The domain's other servers, ascending by node id: asked while this one is away.
    #[prost(message, repeated, tag = "91")]
    pub others: Vec<ServerAt>,
}

/// What the machine of a device is called.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceName {
    /// Public device key.
    #[prost(bytes = "vec", tag = "1")]
    pub device: Vec<u8>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
}

impl Stored for Account {
    const TREE: Tree = Tree::Account;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    /// Bytes as they were written before there was `link`: still read, and still written for the default.
    #[test]
    fn golden_bytes() {
        let keys = ScramKeys { salt: vec![1], iterations: 2, stored_key: vec![3], server_key: vec![4] };
        let account = Account {
            name: "anna".to_owned(),
            domain: "id.internal".to_owned(),
            nickname: "Anna".to_owned(),
            hidden: true,
            sha1: keys.clone(),
            sha256: keys,
            epoch: 1,
            ..Account::default()
        };
        let old = b"\x01\x0a\x04anna\x12\x0bid.internal\x1a\x04Anna\x20\x01\
            \x3a\x0b\x0a\x01\x01\x10\x02\x1a\x01\x03\x22\x01\x04\x42\x0b\x0a\x01\x01\x10\x02\x1a\x01\x03\x22\x01\x04\x78\x01";
        assert_eq!(decode::<Account>(old), Ok(account.clone()));
        assert_eq!(encode(&account), old);
        let listens = Account { link: 1, ..account };
        let new = [&old[..], b"\x80\x01\x01"].concat();
        assert_eq!(encode(&listens), new);
        assert_eq!(decode::<Account>(&new), Ok(listens.clone()));
        let held = HeldPassword { at: 1, secret: vec![2], permit: vec![3], follows: Vec::new() };
        let holds = Account { held_password: Some(held.clone()), ..listens.clone() };
        let newer = [&new[..], b"\x9a\x01\x08\x08\x01\x12\x01\x02\x1a\x01\x03"].concat();
        assert_eq!(encode(&holds), newer);
        assert_eq!(decode::<Account>(&newer), Ok(holds.clone()));
        // Changes of passwords follow each other, and it is known which counts at the server.
        let home = HomeServer { password: Some(5), ..listens.server.clone().unwrap_or_default() };
        let held = HeldPassword { follows: vec![5, 7], ..held };
        let follows = Account { held_password: Some(held.clone()), ..listens };
        let newest = [&new[..], b"\x9a\x01\x0c\x08\x01\x12\x01\x02\x1a\x01\x03\x22\x02\x05\x07"].concat();
        assert_eq!(encode(&follows), newest);
        assert_eq!(decode::<Account>(&newest), Ok(follows));
        assert!(prost::Message::encode_to_vec(&home).ends_with(b"\x40\x05"));
        // It has others beside it.
        let other = ServerAt { node: vec![6], places: vec!["/a".into()] };
        let others = HomeServer { others: vec![other], ..home };
        let others_bytes = prost::Message::encode_to_vec(&others);
        assert!(others_bytes.ends_with(b"\x40\x05\xda\x05\x07\x0a\x01\x06\x12\x02/a"));
        assert_eq!(prost::Message::decode(&others_bytes[..]), Ok(others));
        let listing = Listing { shown: 2, nickname: "A".into(), full_name: "B".into(), edit: None };
        let at = |millis| Some(Edit { millis, ..Edit::default() });
        let listed = Account { listing: Some(listing), nickname_edit: at(1), vcard_edit: at(2), ..holds };
        let newest =
            [&newer[..], b"\xea\x03\x08\x08\x02\x12\x01A\x1a\x01B\xf2\x03\x02\x08\x01\xfa\x03\x02\x08\x02"]
                .concat();
        assert_eq!(encode(&listed), newest);
        assert_eq!(decode::<Account>(&newest), Ok(listed.clone()));
        let restored = Account { roster_from: 3, ..listed };
        let restored_bytes = [&newest[..], b"\x80\x04\x03"].concat();
        assert_eq!(encode(&restored), restored_bytes);
        assert_eq!(decode::<Account>(&restored_bytes), Ok(restored));
    }
}
