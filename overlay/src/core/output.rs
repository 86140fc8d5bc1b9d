//! What comes out of the core, and its answers. *Pure.*

use super::state::{
    CachedUserRecord, InboundSequence, KnownAudience, KnownAuthority, OutboundSequence, OutboxEntry,
    OwnAudience, Provenance, Seen, StoredMail, StoredToken, TokenPlace,
};
use super::{JoinFailure, Joined, Live, Lookup, NoAnswer};
use crate::dht::Query;
use crate::envelope::Content;
use crate::id::{AuthorityId, DeviceId, MessageId, NewsId, NodeId, UserId};
use crate::record::{LinkPresence, PresenceRecord, RefusalCode, RevocationSet, Verified};
use crate::time::TrustedTime;

/// Names a delivery until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// A message that arrived, verified, in order, for the first time.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// For [`crate::core::Overlay::settle`]; later messages of the same pair of devices wait for it.
    pub ticket: Ticket,
    /// Who sent it.
    pub from: UserId,
    /// The user of this node that it is for.
    pub to: UserId,
    /// Its id.
    pub message: MessageId,
    /// What it says.
    pub content: Content,
    /// When it was sent, Unix milliseconds by the sender's clock.
    pub sent: u64,
}

/// Whether a user can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nothing is known.
    Unknown,
    /// A record is known.
    Known,
    /// A device is on a connected, proven node, or on one of the link that is connected when needed.
    Live,
}

/// How far a name is to be believed (DESIGN.md §3.5). What was verified out of band is the node's own mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A pinned authority gave the name.
    Certified {
        /// Unix milliseconds.
        until: u64,
        /// Whether that is still to come.
        valid: bool,
    },
    /// Self-certified: the key is the name.
    Key,
}

/// The name that a user has by a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedName {
    /// A bare JID.
    pub address: String,
    /// Who gave it.
    pub authority: AuthorityId,
    /// Whether that authority is pinned for the domain; if not, the name is a claim.
    pub pinned: bool,
    /// How the domain's authority is known, if `authority` is the one that is known.
    pub how: Option<Provenance>,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The proven node.
    pub node: NodeId,
    /// Its address on the first link.
    pub address: String,
    /// Whether it dialled.
    pub inbound: bool,
    /// Whether it is on the link.
    pub near: bool,
    /// Monotonic milliseconds since when.
    pub since: u64,
    /// What its program calls itself, at most 128 bytes; empty before its Hello.
    pub agent: String,
    /// The users that are proven to be there.
    pub users: Vec<UserId>,
    /// Monotonic milliseconds when anything was last heard of it.
    pub last_heard: u64,
}

/// What the node has to do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send a frame.
    Send {
        /// To this connected peer.
        node: NodeId,
        /// An encoded [`crate::wire::Frame`].
        frame: Vec<u8>,
        /// Whether it promises what the writes before it must have committed first.
        durable: bool,
    },
    /// Send a datagram, once, to where a peer is or was connected. It may be lost.
    Datagram {
        /// The address of that connection, as [`PeerEvent::Connected`](super::PeerEvent::Connected) told it: its host counts.
        address: String,
        /// The peer's UDP port.
        port: u16,
        /// Of [`crate::probe::SIZE`].
        bytes: Vec<u8>,
    },
    /// Try to connect.
    Dial {
        /// The node that has to prove itself there.
        node: NodeId,
        /// Multiaddresses, newest first.
        addresses: Vec<String>,
    },
    /// Close all links to a peer.
    Close {
        /// The peer.
        node: NodeId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Ask the hash table; [`PeerEvent::Answer`](super::PeerEvent::Answer) follows.
    Query {
        /// For the answer.
        id: u64,
        /// What.
        query: Query,
    },
    /// Values of the hash table are judged by this from now on.
    Judge {
        /// The trusted time.
        time: TrustedTime,
        /// All that is void.
        revocations: Box<RevocationSet>,
    },
    /// Tell everybody on the link, by way of neighbours who tell it on.
    Publish {
        /// A signed [`crate::record::Revocation`].
        news: Vec<u8>,
    },
    /// Whether [`PeerEvent::News`](super::PeerEvent::News) are to be told on.
    Judged {
        /// Who brought them.
        node: NodeId,
        /// Which.
        id: NewsId,
        /// What is to become of them.
        verdict: Verdict,
    },
    /// The hash table has found somebody to ask, or so many more that what was not found may be found now.
    TableGrew,
    /// A look-up has ended.
    LookedUp {
        /// Its number.
        ticket: u64,
        /// What came of it.
        lookup: Lookup,
    },
    /// A join has ended.
    Joined {
        /// Its number.
        ticket: u64,
        /// What was given, or why not.
        joined: Result<Joined, JoinFailure>,
    },
    /// Another node asks this one as the server of a domain: [`super::Overlay::answer_enrolment`].
    Enrolment {
        /// Who asks; this node itself if a user here does.
        node: NodeId,
        /// For the answer.
        request: u64,
        /// An encoded [`crate::enrol::Ask`].
        ask: Vec<u8>,
    },
    /// What came of [`super::Overlay::ask_server`].
    Enrolled {
        /// Its number.
        ticket: u64,
        /// Who answered, and an encoded [`crate::enrol::Answer`].
        answer: Result<(NodeId, Vec<u8>), NoAnswer>,
    },
    /// A session with a server begins that is looked out for ([`super::Overlay::set_server`]).
    ServerMet(NodeId),
    /// The session with such a server is over, and not because nobody needed it.
    ServerLost(NodeId),
    /// Such a server has something from outside for users of this node.
    Upstream(NodeId),
    /// Keep something, in the same commit as everything else of this batch.
    Write(Write),
    /// A message arrived: store it or hand it over, then settle.
    Deliver(Delivery),
    /// A live stanza arrived.
    Live(Live),
    /// A live stanza that was accepted could not be sent after all: its recipient's node did not connect in time.
    LiveFailed(Live),
    /// A contact's presence arrived: verified, and newer than what was there.
    Presence {
        /// The user of this node who may see it.
        to: UserId,
        /// Whose it is.
        from: UserId,
        /// The record.
        record: Verified<PresenceRecord>,
        /// Whether its device has just said it; else it was found in the hash table, and is as old as it says.
        live: bool,
    },
    /// A device of a user came: on a proven live node, or on one of the link that others hear. May be told twice.
    Reachable {
        /// The user.
        user: UserId,
    },
    /// A device of a user went: its last known presence is now unknown.
    Unreachable {
        /// The user.
        user: UserId,
        /// The device.
        device: DeviceId,
    },
    /// What a neighbour shows on the link: new, changed or renewed. It holds until [`Output::LinkAbsence`].
    LinkPresence(Verified<LinkPresence>),
    /// A neighbour's device left the link or hides. Told for each that was shown.
    LinkAbsence {
        /// The user.
        user: UserId,
        /// The device.
        device: DeviceId,
    },
    /// What became of a message. Told once for each.
    Settled {
        /// The message.
        message: MessageId,
        /// Who sent it.
        from: UserId,
        /// To whom.
        to: UserId,
        /// What.
        outcome: Outcome,
        /// What it said, so that its sender can be told which one it was.
        content: Content,
    },
    /// A user's sealing key is a week old: make a new one. Told again each day until it is there.
    SealingKeyDue {
        /// The user.
        user: UserId,
    },
    /// Nothing can come any more that was sealed to this key: erase it.
    SealingKeyErase {
        /// The user.
        user: UserId,
        /// The public key.
        public: [u8; 32],
    },
    /// This node's device of a user was revoked: nobody takes anything from it any more, and it has to end.
    Revoked {
        /// The user.
        user: UserId,
    },
    /// Something that a person should know.
    Alarm(Alarm),
}

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put under its number.
    PutOutbox(OutboxEntry),
    /// Delete by number.
    DeleteOutbox(u64),
    /// Put under its pair of devices.
    PutOutbound(OutboundSequence),
    /// Put under its pair of devices.
    PutInbound(InboundSequence),
    /// Delete a pair of devices, and its slots of [`Seen`] below `slots`.
    ForgetInbound {
        /// The sending device.
        sender: DeviceId,
        /// The receiving device, one of ours.
        recipient: DeviceId,
        /// One more than the highest slot.
        slots: u32,
    },
    /// Put under its pair of devices and slot.
    PutSeen(Seen),
    /// Put under its user.
    PutRecord(CachedUserRecord),
    /// Delete by user.
    DeleteRecord(UserId),
    /// Put under its device.
    PutOwnAudience(OwnAudience),
    /// Delete by device.
    DeleteOwnAudience(DeviceId),
    /// Put under whose device, the device, and the user of ours.
    PutAudience(KnownAudience),
    /// Delete by the same.
    DeleteAudience((UserId, DeviceId, UserId)),
    /// Put under its domain.
    PutAuthority(KnownAuthority),
    /// Forget the authority of a domain.
    DeleteAuthority(String),
    /// Put a signed revocation; the key is its hash or its bytes.
    PutRevocation(Vec<u8>),
    /// Delete by the same bytes.
    DeleteRevocation(Vec<u8>),
    /// Put the one time floor, Unix milliseconds.
    PutTimeFloor(u64),
    /// Put under its number.
    PutMail(StoredMail),
    /// Delete by number.
    DeleteMail(u64),
    /// Put under its place.
    PutToken(StoredToken),
    /// Delete by place.
    DeleteToken(TokenPlace),
}

/// What becomes of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Verified and new: told on.
    Accept,
    /// Known, of nobody known here, or too much: not told on, and nobody's fault.
    Ignore,
    /// An honest node never tells this.
    Reject,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A device of the recipient holds it.
    Delivered,
    /// It will not arrive.
    Failed(FailReason),
}

/// Why a message will not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// Every device of the recipient refused it.
    #[error("refused: {0}")]
    Refused(RefusalCode),
    /// No device of the recipient took it in time.
    #[error("the recipient was not reachable in time")]
    Expired,
    /// The recipient has said that its key was stolen.
    #[error("the key of this address was stolen: ask whoever it was for a new address, face to face")]
    Compromised,
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// Somebody shows a certificate by another authority than the one known for the domain.
    #[error(
        "a second authority {claimed} claims the domain {domain}, known is {known}, which goes on to count unless it is said \
         otherwise: ask whoever runs the domain; `crosstalk domain show {domain}` has both keys, and `crosstalk domain trust \
         {domain} KEY` says which is right"
    )]
    SecondAuthority {
        /// The domain.
        domain: String,
        /// The authority known for it.
        known: AuthorityId,
        /// The other one.
        claimed: AuthorityId,
    },
    /// Nobody who counts introduces a domain any more: its names are claims from now on.
    #[error(
        "the domain {domain} is not introduced any more: names under it are not believed from now on; if you know its key to be \
         {key}, run `crosstalk domain trust {domain} KEY` with the whole key (`crosstalk domain show {domain}`)"
    )]
    NotIntroduced {
        /// The domain.
        domain: String,
        /// The key that is known for it.
        key: AuthorityId,
    },
    /// The key of a domain was handed over, as the one that was known says.
    #[error(
        "the key of the domain {domain} is {to} from now on, says the one before it, {from}: nothing is to be done"
    )]
    Rotated {
        /// The domain.
        domain: String,
        /// The key that was known.
        from: AuthorityId,
        /// The key that counts now.
        to: AuthorityId,
    },
    /// Two keys are said to follow the one that is known: somebody else has that, too.
    #[error(
        "the key {known} of the domain {domain} is in other hands: it says that {one} follows, and that {other} does; no name \
         by either is believed: ask whoever runs the domain, and enrol again with the invitation that you get"
    )]
    Disputed {
        /// The domain.
        domain: String,
        /// The last key that nobody disputes.
        known: AuthorityId,
        /// One that is said to follow it.
        one: AuthorityId,
        /// The other one.
        other: AuthorityId,
    },
    /// The authority gave an address to another user than before.
    #[error("{address} now belongs to another user, certified by its authority: compare keys if in doubt")]
    NameMoved {
        /// The address.
        address: String,
        /// Who had it.
        from: UserId,
        /// Who has it now.
        to: UserId,
    },
    /// A name of one of our users was taken back.
    #[error(
        "the name {address} was taken back by its authority: contacts see the user's own address; ask whoever runs the domain"
    )]
    NameRevoked {
        /// The address.
        address: String,
    },
    /// Somebody whom the node knows says that the own user key was stolen: that address is nobody's any more.
    #[error(
        "the key of the address {xid}@id.internal was stolen, says its owner: nothing from it is believed any more; ask for the new address \
         face to face, for whoever has the key may say to be that person",
        xid = .user.xid()
    )]
    Compromised {
        /// Whose it was.
        user: UserId,
    },
    /// The local clock is not believed (any more).
    #[error("the clock of this computer is wrong or not set: set it; nothing expires until then")]
    ClockNotCredible,
    /// The local clock is believed again.
    #[error("the clock of this computer is believed again")]
    ClockCredible,
}
