//! What goes into the core. *Pure.*

use std::fmt;

use super::limits::Limits;
use super::state::{
    CachedUserRecord, InboundSequence, KnownAudience, KnownAuthority, OutboundSequence, OutboxEntry,
    OwnAudience, Seen, StoredMail, StoredToken,
};
use crate::dht::{Answer, Trace};
use crate::envelope::Content;
use crate::id::{MessageId, NewsId, NodeId, UserId};
use crate::keys::{DeviceKey, NodeKey, SealingKey};
use crate::record::RefusalCode;

/// What a core is made of.
#[derive(Debug)]
pub struct Setup {
    /// This node's key: its public half is the node's id.
    pub node: NodeKey,
    /// All randomness comes from it; 32 fresh random bytes at each start.
    pub seed: [u8; 32],
    /// The bounds.
    pub limits: Limits,
    /// What the store held.
    pub restored: Restored,
    /// When the program was built, Unix milliseconds: the clock is later than that.
    pub built: u64,
    /// Whether users of this node can be found in the hash table, and their contacts told where they are.
    pub publishes: bool,
}

/// What the store held. Everything in it is checked again.
#[derive(Debug, Default)]
pub struct Restored {
    /// Messages that wait.
    pub outbox: Vec<OutboxEntry>,
    /// Places given.
    pub outbound: Vec<OutboundSequence>,
    /// Places taken.
    pub inbound: Vec<InboundSequence>,
    /// Message ids taken.
    pub seen: Vec<Seen>,
    /// Records of users.
    pub records: Vec<CachedUserRecord>,
    /// Authorities known.
    pub authorities: Vec<KnownAuthority>,
    /// What our devices give their contacts.
    pub own_audiences: Vec<OwnAudience>,
    /// What devices of contacts have given us.
    pub audiences: Vec<KnownAudience>,
    /// Signed revocations.
    pub revocations: Vec<Vec<u8>>,
    /// The latest time that was certain, Unix milliseconds.
    pub time_floor: u64,
    /// What is held for others.
    pub mail: Vec<StoredMail>,
    /// Tokens, to be used and used here.
    pub tokens: Vec<StoredToken>,
}

/// A user of this node, and so a device.
#[derive(Debug)]
pub struct LocalUser {
    /// Who.
    pub user: UserId,
    /// The device key of this user on this node.
    pub device: DeviceKey,
    /// The signed [`crate::record::DeviceCert`] of that device.
    pub cert: Vec<u8>,
    /// Sealing keys, the newest of which is published. None: [`crate::core::Output::SealingKeyDue`]
    /// follows.
    pub sealing: Vec<SealingKey>,
    /// The signed [`crate::record::NameCert`], if the user has a name.
    pub name: Option<Vec<u8>>,
    /// Grows each time the store was restored from something older.
    pub epoch: u64,
}

/// What the swarm saw.
#[derive(Clone)]
pub enum PeerEvent {
    /// A node may be reachable there. A hint, not a proof.
    Discovered {
        /// The node that is said to be there.
        node: NodeId,
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// These addresses are no longer announced.
    Expired {
        /// The node.
        node: NodeId,
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// A link stands and the handshake proved the node. A second link to the same node changes nothing.
    Connected {
        /// The proven node.
        node: NodeId,
        /// Its address on this link.
        address: String,
        /// Whether it dialled.
        inbound: bool,
        /// Whether that address is on the link: link-local, or in a network that an interface of this machine is in.
        near: bool,
    },
    /// The last link to the node is gone, or a dial failed.
    Disconnected {
        /// The node.
        node: NodeId,
    },
    /// So many nodes are in the tables of the hash table.
    Table {
        /// None: there is nobody to ask.
        nodes: usize,
    },
    /// Where this node can be reached from beyond the link. A new list replaces the old one.
    Addresses(Vec<String>),
    /// What came of an [`crate::core::Output::Query`].
    Answer {
        /// Its number.
        id: u64,
        /// Unverified.
        answer: Answer,
        /// How it went.
        trace: Trace,
    },
    /// A neighbour published something on the link, or tells it on; [`crate::core::Output::Judged`] follows.
    News {
        /// Who brought it.
        node: NodeId,
        /// Its name.
        id: NewsId,
        /// A signed [`crate::record::Revocation`], unverified.
        news: Vec<u8>,
    },
    /// On which UDP port this node takes datagrams; none if it can't. Said in a Hello to peers on the link.
    ProbePort(Option<u16>),
    /// A datagram arrived there, from anybody.
    Datagram(Vec<u8>),
    /// A frame arrived.
    Frame {
        /// From whom.
        node: NodeId,
        /// An encoded [`crate::wire::Frame`].
        frame: Vec<u8>,
    },
}

impl fmt::Debug for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovered { node, addresses } => {
                write!(f, "Discovered({node}, {} addresses)", addresses.len())
            }
            Self::Expired { node, addresses } => write!(f, "Expired({node}, {} addresses)", addresses.len()),
            Self::Connected { node, inbound, near, .. } => {
                write!(f, "Connected({node}, inbound {inbound}, near {near})")
            }
            Self::Disconnected { node } => write!(f, "Disconnected({node})"),
            Self::Table { nodes } => write!(f, "Table({nodes} nodes)"),
            Self::Addresses(addresses) => write!(f, "Addresses({})", addresses.len()),
            Self::Answer { id, answer, .. } => write!(f, "Answer({id}, {answer:?})"),
            Self::News { node, id, .. } => write!(f, "News({node}, {id})"),
            Self::ProbePort(port) => write!(f, "ProbePort({port:?})"),
            Self::Datagram(bytes) => write!(f, "Datagram({} bytes)", bytes.len()),
            Self::Frame { node, frame } => write!(f, "Frame({node}, {} bytes)", frame.len()),
        }
    }
}

/// A durable message to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The same for the same message: a second one with this id and recipient is ignored while the first waits.
    pub id: MessageId,
    /// A user of this node.
    pub from: UserId,
    /// To whom; the sender itself for what its other devices are to get.
    pub to: UserId,
    /// What.
    pub content: Content,
    /// When to give up, Unix milliseconds; 30 days from now if not said.
    pub expires: Option<u64>,
}

/// A stanza that is for now or never.
#[derive(Clone, PartialEq, Eq)]
pub struct Live {
    /// From whom.
    pub from: UserId,
    /// Resourcepart of the sender.
    pub from_resource: String,
    /// To whom.
    pub to: UserId,
    /// Resourcepart that it is addressed to; empty for all.
    pub to_resource: String,
    /// The stanza.
    pub xml: Vec<u8>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({} to {}, {} bytes)", self.from, self.to, self.xml.len())
    }
}

/// Why a message was not accepted. Nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboxFull {
    /// The user's part of the outbox is full.
    #[error(
        "too many messages of this user wait for their recipients: wait until some have left, or cancel some"
    )]
    User,
    /// The outbox is full.
    #[error("too many messages of all users wait for their recipients: wait until some have left")]
    Node,
    /// The outbox has too many bytes.
    #[error("the waiting messages take too much memory: wait until some have left")]
    Bytes,
    /// The message is larger than an envelope.
    #[error("the message is larger than 254 KiB: send it as a file")]
    TooLarge,
}

/// Why a live stanza did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No device of the recipient is on the link, or the sender is not a user of this node.
    #[error("no device of the recipient is connected now")]
    NotLive,
    /// The recipient is on several nodes, and none is known to have a session of this name.
    #[error("no connected device of the recipient is known to have this session")]
    NoSession,
    /// Larger than a frame.
    #[error("the stanza is larger than 256 KiB")]
    TooLarge,
    /// The recipient's nodes were sent as much as [`Limits::live_bytes_per_peer`](super::Limits) allows.
    #[error("too much is on its way to the recipient's node: try again in a second")]
    Busy,
}

/// What the node did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is stored, or was handed over, in the batch that this input belongs to.
    Held,
    /// It is not taken and must not be sent again.
    Refused(RefusalCode),
}
