//! What the core wants to find again after a restart: the shapes that storage keeps. *Pure.*
//!
//! Every shape is a Protobuf message with a version; storage keeps the encoded bytes under the key that `key()` gives.

use std::cmp::Ordering;
use std::fmt;

use crate::id::{DeviceId, UserId};

/// The version that every stored shape carries now.
pub const STATE_VERSION: u32 = 1;

/// A message that waits for receipts: one per recipient user. Deleted when nothing is waited for any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct OutboxEntry {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The key; later messages have greater numbers.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// 16 bytes: the message id.
    #[prost(bytes = "vec", tag = "3")]
    pub message: Vec<u8>,
    /// 32 bytes: the sending user.
    #[prost(bytes = "vec", tag = "4")]
    pub from: Vec<u8>,
    /// 32 bytes: the recipient user.
    #[prost(bytes = "vec", tag = "5")]
    pub to: Vec<u8>,
    /// An encoded [`crate::envelope::Content`].
    #[prost(bytes = "vec", tag = "6")]
    pub content: Vec<u8>,
    /// When the user sent it, Unix milliseconds.
    #[prost(uint64, tag = "7")]
    pub created: u64,
    /// When it is given up, Unix milliseconds.
    #[prost(uint64, tag = "8")]
    pub expires: u64,
    /// Whether the outcome was reported; what is left are copies for further devices.
    #[prost(bool, tag = "9")]
    pub settled: bool,
    /// One per recipient device that is known.
    #[prost(message, repeated, tag = "10")]
    pub copies: Vec<OutboxCopy>,
}

impl fmt::Debug for OutboxEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutboxEntry({}, {} bytes, {:?})", self.number, self.content.len(), self.copies)
    }
}

/// How far an entry has come with one recipient device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OutboxCopy {
    /// 32 bytes: the recipient device.
    #[prost(bytes = "vec", tag = "1")]
    pub device: Vec<u8>,
    /// The sender's epoch when the place was given.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The place in the order between the two devices; 0 until it is first sent.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// How far it has come.
    #[prost(enumeration = "CopyState", tag = "4")]
    pub state: i32,
    /// The refusal code, when refused.
    #[prost(uint32, tag = "5")]
    pub code: u32,
    /// 32 bytes each: nodes that hold it for the device.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub holders: Vec<Vec<u8>>,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CopyState {
    /// Never sent.
    Waiting = 0,
    /// Has a place in the order; sent, perhaps more than once.
    Sent = 1,
    /// Receipted.
    Held = 2,
    /// Refused by the recipient device.
    Refused = 3,
}

/// How many envelopes one of our devices has addressed to another device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OutboundSequence {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: our device.
    #[prost(bytes = "vec", tag = "2")]
    pub sender: Vec<u8>,
    /// 32 bytes: the other device.
    #[prost(bytes = "vec", tag = "3")]
    pub recipient: Vec<u8>,
    /// Our device's epoch.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// The last place given.
    #[prost(uint64, tag = "5")]
    pub seq: u64,
}

/// What one of our devices has taken from another device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InboundSequence {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: the other device.
    #[prost(bytes = "vec", tag = "2")]
    pub sender: Vec<u8>,
    /// 32 bytes: our device.
    #[prost(bytes = "vec", tag = "3")]
    pub recipient: Vec<u8>,
    /// The sender's epoch.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// Everything up to here was taken, except `holes`.
    #[prost(uint64, tag = "5")]
    pub cumulative: u64,
    /// Places that were passed without their message; one that comes late is still delivered.
    #[prost(uint64, repeated, tag = "6")]
    pub holes: Vec<u64>,
    /// Places that were refused, so that a repeat gets the same answer.
    #[prost(message, repeated, tag = "7")]
    pub refused: Vec<RefusedPlace>,
    /// Slot of the next [`Seen`].
    #[prost(uint32, tag = "8")]
    pub next_slot: u32,
}

/// A place whose message was refused.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RefusedPlace {
    /// The place.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// [`crate::record::RefusalCode::to_wire`].
    #[prost(uint32, tag = "2")]
    pub code: u32,
}

/// A message id taken from one device: one slot of a ring of 1,024.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Seen {
    /// 32 bytes: the other device.
    #[prost(bytes = "vec", tag = "1")]
    pub sender: Vec<u8>,
    /// 32 bytes: our device.
    #[prost(bytes = "vec", tag = "2")]
    pub recipient: Vec<u8>,
    /// Below 1,024.
    #[prost(uint32, tag = "3")]
    pub slot: u32,
    /// 16 bytes: the message id.
    #[prost(bytes = "vec", tag = "4")]
    pub message: Vec<u8>,
}

/// The newest record of a user that was seen.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct CachedUserRecord {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: the user.
    #[prost(bytes = "vec", tag = "2")]
    pub user: Vec<u8>,
    /// An encoded [`crate::record::UserRecord`], at most 32 KiB; verified again when loaded.
    #[prost(bytes = "vec", tag = "3")]
    pub record: Vec<u8>,
    /// When it last changed, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub seen: u64,
}

impl fmt::Debug for CachedUserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedUserRecord({} bytes)", self.record.len())
    }
}

/// An authority whose key for a domain is known.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KnownAuthority {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The domain: the key.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// 32 bytes: the authority's public key.
    #[prost(bytes = "vec", tag = "3")]
    pub authority: Vec<u8>,
    /// How it became known.
    #[prost(enumeration = "Provenance", tag = "4")]
    pub how: i32,
    /// Since when, Unix milliseconds.
    #[prost(uint64, tag = "5")]
    pub since: u64,
    /// Signed rotations of that key, of those before and of those after it.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub rotations: Vec<Vec<u8>>,
    /// Signed introductions of this domain by others.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub introductions: Vec<Vec<u8>>,
    /// The highest serial of what this domain's authority has introduced, as far as it was taken in.
    #[prost(uint64, tag = "8")]
    pub introduced_until: u64,
}

/// The pair of keys that one of our devices gives to its user's contacts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct OwnAudience {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: the device, which is the key.
    #[prost(bytes = "vec", tag = "2")]
    pub device: Vec<u8>,
    /// 32 secret bytes: the seed of the presence key.
    #[prost(bytes = "vec", tag = "3")]
    pub presence: Vec<u8>,
    /// 32 secret bytes: the audience key.
    #[prost(bytes = "vec", tag = "4")]
    pub key: Vec<u8>,
    /// When the pair was made: a clock reading's milliseconds …
    #[prost(uint64, tag = "5")]
    pub millis: u64,
    /// … and counter.
    #[prost(uint32, tag = "7")]
    pub counter: u32,
    /// The users it was given to, 32 bytes each, concatenated.
    #[prost(bytes = "vec", tag = "6")]
    pub told: Vec<u8>,
}

/// The pair of keys that a device of somebody has given to one of our users.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct KnownAudience {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: whose device.
    #[prost(bytes = "vec", tag = "2")]
    pub user: Vec<u8>,
    /// 32 bytes: the device.
    #[prost(bytes = "vec", tag = "3")]
    pub device: Vec<u8>,
    /// 32 bytes: the user of ours. The key is user, device and this.
    #[prost(bytes = "vec", tag = "4")]
    pub to: Vec<u8>,
    /// 32 bytes: the public presence key.
    #[prost(bytes = "vec", tag = "5")]
    pub presence: Vec<u8>,
    /// 32 secret bytes: the audience key.
    #[prost(bytes = "vec", tag = "6")]
    pub key: Vec<u8>,
    /// When the pair was made: a clock reading's milliseconds …
    #[prost(uint64, tag = "7")]
    pub millis: u64,
    /// … and counter.
    #[prost(uint32, tag = "8")]
    pub counter: u32,
}

impl fmt::Debug for OwnAudience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnAudience(given to {})", self.told.len() / 32)
    }
}

impl fmt::Debug for KnownAudience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownAudience")
    }
}

/// An item that this node holds for somebody. Deleted when its owner has it, or when it has expired.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct StoredMail {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The key; later items have greater numbers.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// 32 bytes: the user whose mailbox it is.
    #[prost(bytes = "vec", tag = "3")]
    pub mailbox: Vec<u8>,
    /// An encoded [`crate::mailbox::Item`], as it came.
    #[prost(bytes = "vec", tag = "4")]
    pub item: Vec<u8>,
    /// When it is given up, Unix milliseconds.
    #[prost(uint64, tag = "5")]
    pub expires: u64,
    /// The work that was paid for it: replicas carry it.
    #[prost(uint64, tag = "6")]
    pub nonce: u64,
    /// The signed [`crate::record::Token`] that stood for work, if any.
    #[prost(bytes = "vec", tag = "7")]
    pub token: Vec<u8>,
}

impl fmt::Debug for StoredMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredMail({}, {} bytes)", self.number, self.item.len())
    }
}

/// A token that a user of ours may use, or that was used here. Deleted when it is used, or has ended.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct StoredToken {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 bytes: the user whose mailbox it is for.
    #[prost(bytes = "vec", tag = "2")]
    pub mailbox: Vec<u8>,
    /// 16 bytes: its serial number.
    #[prost(bytes = "vec", tag = "3")]
    pub serial: Vec<u8>,
    /// 32 bytes: the user of ours who may use it; empty for one that was used here.
    #[prost(bytes = "vec", tag = "4")]
    pub to: Vec<u8>,
    /// When it ends, Unix milliseconds.
    #[prost(uint64, tag = "5")]
    pub expires: u64,
    /// The signed [`crate::record::Token`]; empty for one that was used here.
    #[prost(bytes = "vec", tag = "6")]
    pub token: Vec<u8>,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredToken(used here {})", self.to.is_empty())
    }
}

/// Where a token is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPlace {
    /// Whose mailbox it is for.
    pub mailbox: UserId,
    /// Its serial number.
    pub serial: [u8; 16],
    /// The user of ours who may use it; none: it was used here.
    pub to: Option<UserId>,
}

impl TokenPlace {
    /// The key in the store: mailbox, serial number, user.
    pub fn to_bytes(&self) -> Vec<u8> {
        let to = self.to.map(|to| to.as_bytes().to_vec()).unwrap_or_default();
        [&self.mailbox.as_bytes()[..], &self.serial, &to].concat()
    }
}

/// How an authority became known. All but the first count as pinned. Ordered by how far each is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Provenance {
    /// Met in somebody's certificate and never confirmed.
    FirstSight = 0,
    /// An authority that is pinned introduced it.
    Introduced = 1,
    /// This node was enrolled with it.
    Enrolled = 2,
    /// This node is that authority.
    Own = 3,
    /// The web server of the domain says so, by the web's certificates.
    WellKnown = 4,
    /// A person at this node says so.
    ByHand = 5,
}

impl Provenance {
    fn weight(self) -> u8 {
        match self {
            Self::FirstSight => 0,
            Self::WellKnown => 1,
            Self::Introduced => 2,
            Self::ByHand => 3,
            Self::Enrolled => 4,
            Self::Own => 5,
        }
    }

    /// Whether another key that is known so takes the place of one that is known like `before`. What has been seen or fetched
    /// once is not replaced by what is seen or fetched later.
    pub(super) fn replaces(self, before: Self) -> bool {
        self > before || self == before && self >= Self::Introduced
    }
}

impl PartialOrd for Provenance {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Provenance {
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight().cmp(&other.weight())
    }
}

/// A key of two devices, as storage sorts them: sender, then recipient.
fn pair(sender: &[u8], recipient: &[u8]) -> Option<(DeviceId, DeviceId)> {
    Some((DeviceId::from_slice(sender)?, DeviceId::from_slice(recipient)?))
}

impl OutboundSequence {
    /// The two devices, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<(DeviceId, DeviceId)> {
        pair(&self.sender, &self.recipient)
    }
}

impl InboundSequence {
    /// The two devices, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<(DeviceId, DeviceId)> {
        pair(&self.sender, &self.recipient)
    }
}

impl Seen {
    /// The two devices and the slot, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<(DeviceId, DeviceId, u32)> {
        pair(&self.sender, &self.recipient).map(|(sender, recipient)| (sender, recipient, self.slot))
    }
}

impl CachedUserRecord {
    /// The user, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<UserId> {
        UserId::from_slice(&self.user)
    }
}

impl StoredToken {
    /// Where it is stored, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<TokenPlace> {
        let to = match self.to.is_empty() {
            true => None,
            false => Some(UserId::from_slice(&self.to)?),
        };
        let (mailbox, serial) = (UserId::from_slice(&self.mailbox)?, self.serial.as_slice().try_into().ok()?);
        Some(TokenPlace { mailbox, serial, to })
    }
}

impl OwnAudience {
    /// The device, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<DeviceId> {
        DeviceId::from_slice(&self.device)
    }
}

impl KnownAudience {
    /// Whose device, the device, and the user of ours, or nothing if the stored bytes are damaged.
    pub fn key(&self) -> Option<(UserId, DeviceId, UserId)> {
        Some((
            UserId::from_slice(&self.user)?,
            DeviceId::from_slice(&self.device)?,
            UserId::from_slice(&self.to)?,
        ))
    }
}
