//! What goes between users of a domain and addresses outside the overlay: stanzas that are held, how far they have come, and
//! who sees whom. On a laptop for its own users, at the server for all of the domain. *Pure.*

use std::fmt;

use crate::Tree;
use crate::codec::Stored;

/// A stanza that is held until the other side has it.
///
/// Keys: on a laptop [`queued`], for the server. At the server [`queued`], for the user's devices, and [`outgoing`], for the
/// component link.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct HeldStanza {
    /// When it was written, or came from outside; Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// The stanza in `jabber:client`, with `from` and `to`.
    #[prost(bytes = "vec", tag = "2")]
    pub stanza: Vec<u8>,
    /// At the server, for the user's devices: the one that sent it and needs no copy. Empty: it came from outside.
    #[prost(bytes = "vec", tag = "3")]
    pub by: Vec<u8>,
    /// At the server, from outside: whoever wrote it was no contact of the user then.
    #[prost(bool, tag = "4")]
    pub stranger: bool,
}

impl fmt::Debug for HeldStanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldStanza({} bytes of {})", self.stanza.len(), self.at)
    }
}

impl Stored for HeldStanza {
    const TREE: Tree = Tree::Upstream;
    const VERSION: u8 = 1;
}

/// Something of a user that is no stanza. One shape for all, so that each key says by itself what it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OutsideState {
    /// What.
    #[prost(oneof = "State", tags = "1, 2, 3, 4")]
    pub state: Option<State>,
}

/// See [`OutsideState`].
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum State {
    /// At [`of_user`], on a laptop: what has come.
    #[prost(message, tag = "1")]
    Come(Come),
    /// At [`of_contact`]: how the user stands with somebody.
    #[prost(message, tag = "2")]
    Contact(Contact),
    /// At [`of_user`], at the server: its queue for the user.
    #[prost(message, tag = "3")]
    Queue(Queue),
    /// At [`of_device`], at the server: how far a device is.
    #[prost(message, tag = "4")]
    Device(Device),
}

/// How far what comes from the server has come.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Come {
    /// The server's queue.
    #[prost(uint64, tag = "1")]
    pub queue: u64,
    /// Letters up to this one are delivered or held here.
    #[prost(uint64, tag = "2")]
    pub letter: u64,
    /// Contacts up to this version are known.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The last letter that was written here: a number is never used twice.
    #[prost(uint64, tag = "4")]
    pub sent: u64,
}

/// RFC 6121 §2.1.2.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Contact {
    /// The user sees the contact.
    #[prost(bool, tag = "1")]
    pub to: bool,
    /// The contact sees the user.
    #[prost(bool, tag = "2")]
    pub from: bool,
    /// The user has asked.
    #[prost(bool, tag = "3")]
    pub ask: bool,
    /// The contact has asked.
    #[prost(bool, tag = "4")]
    pub pending_in: bool,
    /// Version of the user's contacts that it was last changed in; 0 on a laptop.
    #[prost(uint64, tag = "5")]
    pub version: u64,
}

/// The server's queue for one user.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Queue {
    /// Random, so that numbers of a lost database are not taken for those of the next.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The last letter that was queued.
    #[prost(uint64, tag = "2")]
    pub last: u64,
    /// The last version of a contact.
    #[prost(uint64, tag = "3")]
    pub version: u64,
}

/// How far a device of a user is.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Device {
    /// Its letters up to this one are here.
    #[prost(uint64, tag = "1")]
    pub taken: u64,
    /// Letters up to this one are there.
    #[prost(uint64, tag = "2")]
    pub come: u64,
    /// When it was heard, within a day; Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub heard: u64,
}

impl Stored for OutsideState {
    const TREE: Tree = Tree::Outside;
    const VERSION: u8 = 1;
}

const OUTGOING: u8 = b'o';
const QUEUED: u8 = b'q';
const USER: u8 = b'u';
const CONTACT: u8 = b'c';
const DEVICE: u8 = b'd';

/// Key of a stanza queued for a user's devices, or by a user; later ones have greater numbers.
pub fn queued(user: &[u8; 32], number: u64) -> Vec<u8> {
    [&queue_of(user)[..], &number.to_be_bytes()].concat()
}

/// What the keys of [`queued`] for one user begin with.
pub fn queue_of(user: &[u8; 32]) -> Vec<u8> {
    [&[QUEUED][..], user].concat()
}

/// User and number of a key of [`queued`].
pub fn read_queued(key: &[u8]) -> Option<([u8; 32], u64)> {
    let rest = key.strip_prefix(&[QUEUED])?;
    let (user, number) = rest.split_at_checked(32)?;
    Some((user.try_into().ok()?, u64::from_be_bytes(number.try_into().ok()?)))
}

/// Key of a stanza for the component link.
pub fn outgoing(number: u64) -> Vec<u8> {
    [&[OUTGOING][..], &number.to_be_bytes()].concat()
}

/// What the keys of [`outgoing`] begin with.
pub const ALL_OUTGOING: &[u8] = &[OUTGOING];

/// Number of a key of [`outgoing`].
pub fn read_outgoing(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(ALL_OUTGOING)?.try_into().ok()?))
}

/// Key of what there is once for a user.
pub fn of_user(user: &[u8; 32]) -> Vec<u8> {
    [&[USER][..], user].concat()
}

/// Key of a contact.
pub fn of_contact(user: &[u8; 32], address: &str) -> Vec<u8> {
    [&contacts_of(user)[..], address.as_bytes()].concat()
}

/// What the keys of [`of_contact`] of one user begin with.
pub fn contacts_of(user: &[u8; 32]) -> Vec<u8> {
    [&[CONTACT][..], user].concat()
}

/// Key of a device.
pub fn of_device(user: &[u8; 32], device: &[u8; 32]) -> Vec<u8> {
    [&devices_of(user)[..], device].concat()
}

/// What the keys of [`of_device`] of one user begin with.
pub fn devices_of(user: &[u8; 32]) -> Vec<u8> {
    [&[DEVICE][..], user].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn golden_bytes() {
        let held = HeldStanza { at: 5, stanza: vec![60], by: vec![7], ..HeldStanza::default() };
        assert_eq!(encode(&held), b"\x01\x08\x05\x12\x01\x3c\x1a\x01\x07");
        assert_eq!(decode(&encode(&held)), Ok(held));
        let held = HeldStanza { at: 5, stanza: vec![60], stranger: true, ..HeldStanza::default() };
        assert_eq!(encode(&held), b"\x01\x08\x05\x12\x01\x3c\x20\x01");
        assert_eq!(decode(&encode(&held)), Ok(held));
        let state = |state| OutsideState { state: Some(state) };
        let come = state(State::Come(Come { queue: 1, letter: 2, version: 3, sent: 4 }));
        assert_eq!(encode(&come), b"\x01\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04");
        let contact = Contact { to: true, from: true, ask: true, pending_in: true, version: 5 };
        let contact = state(State::Contact(contact));
        assert_eq!(encode(&contact), b"\x01\x12\x0a\x08\x01\x10\x01\x18\x01\x20\x01\x28\x05");
        let queue = state(State::Queue(Queue { id: 1, last: 2, version: 3 }));
        assert_eq!(encode(&queue), b"\x01\x1a\x06\x08\x01\x10\x02\x18\x03");
        let device = state(State::Device(Device { taken: 1, come: 2, heard: 3 }));
        assert_eq!(encode(&device), b"\x01\x22\x06\x08\x01\x10\x02\x18\x03");
        for each in [come, contact, queue, device] {
            assert_eq!(decode(&encode(&each)), Ok(each));
        }
    }

    #[test]
    fn keys_are_read_back_and_sort_by_number() {
        let user = [7; 32];
        assert_eq!(read_queued(&queued(&user, 300)), Some((user, 300)));
        assert_eq!(read_outgoing(&outgoing(300)), Some(300));
        assert!(queued(&user, 255) < queued(&user, 256) && queued(&user, 1).starts_with(&queue_of(&user)));
        for other in [outgoing(1), of_user(&user), of_contact(&user, "a@b"), of_device(&user, &user)] {
            assert_eq!(read_queued(&other), None);
        }
        assert_eq!(read_outgoing(&queued(&user, 1)), None);
    }
}
