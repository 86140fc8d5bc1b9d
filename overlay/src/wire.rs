//! Frames: what two connected nodes say to each other, and its bytes. *Pure.*
//!
//! A frame is one Protobuf message of at most [`MAX_FRAME`] bytes. A reader skips kinds that it does not know.

use std::fmt;

use prost::Message as _;

use crate::enrol::{MAX_ANSWER, MAX_ASK};
use crate::envelope::{Envelope, MAX_ENVELOPE};
use crate::id::{DeviceId, ItemId, UserId};
use crate::join::{JoinAnswer, MAX_JOINED, OfferId};
use crate::mailbox::{Answer, MAX_ITEM, Offer};
use crate::probe;
use crate::record::{LinkPresence, MailboxAccess, Receipt, Record};

mod read;
mod revoked;
mod shape;

use read::{deposit, hello, items, listing, live, marks, offer_id, presence, relayed, user, users};
pub use revoked::{Revocations, RevokedDigest, RevokedList};
use shape::{
    DepositAnswerField, EnrolField, FramePayload, GoodbyeField, HeartbeatField, HelloField, JoinAnswerField,
    JoinField, Kind, LinkAbsenceField, LinkPresencesField, ListedField, ListingField, LiveField, MailField,
    PresenceField, RecordsField, RelayedField, UpstreamField, WantTokensField, concatenated, deposit_field,
    user_fields,
};

/// The version that this program speaks.
pub const WIRE_VERSION: u32 = 1;
/// The oldest version that this program understands.
pub const MIN_WIRE_VERSION: u32 = 1;
/// Bytes of a frame at most.
pub const MAX_FRAME: usize = 320 * 1_024;
/// Bytes of a live stanza at most.
pub const MAX_LIVE: usize = 256 * 1_024;
/// Users in one [`Frame::Records`] at most.
pub const MAX_RECORDS: usize = 256;
/// Statements in one [`Frame::LinkPresences`] at most.
pub const MAX_LINK_PRESENCES: usize = 256;
/// Watchers in one [`Frame::Presence`] at most.
pub const MAX_WATCHERS: usize = 512;
/// Marks in one [`Frame::Have`] or [`Frame::Want`] at most.
pub const MAX_MARKS: usize = 4_096;
/// Statements in one [`Frame::Relayed`] at most, of each kind.
pub const MAX_RELAYED: usize = 256;
/// Scopes in one [`Frame::Revoked`] or [`Frame::Revocations`] at most.
pub const MAX_SCOPES: usize = 4_096;
/// Signed rotations in one [`Frame::Rotations`] at most.
pub const MAX_ROTATIONS: usize = 32;
/// Signed revocations in one [`Frame::Revocations`] at most.
pub const MAX_REVOCATIONS: usize = 256;
/// Items in one [`Frame::Listing`], or named in one [`Frame::Fetch`] or [`Frame::Discard`], at most.
pub const MAX_LISTED: usize = 1_024;
/// Items in one [`Frame::Mail`] at most.
pub const MAX_MAIL: usize = 64;
/// Bytes of a mailbox frame's items at most, unless it is one alone.
pub const MAIL_BYTES: usize = 256 * 1_024;
/// Bytes of what a program calls itself.
const MAX_AGENT: usize = 128;
/// Bytes of a reason.
const MAX_REASON: usize = 256;
/// Bytes of a resourcepart (RFC 7622 §3.4).
const MAX_RESOURCE: usize = 1_023;

/// What two connected nodes say to each other.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame on a session, from both sides.
    Hello(Hello),
    /// Users of the sending node: record and proof that they are there.
    Records(Vec<UserFrame>),
    /// Signed [`LinkPresence`] records.
    LinkPresences(Vec<Vec<u8>>),
    /// A device hides; or has left the node altogether.
    LinkAbsence {
        /// The user.
        user: UserId,
        /// The device.
        device: DeviceId,
        /// Whether it has left the node.
        gone: bool,
    },
    /// A signed [`crate::record::PresenceRecord`] for those who may see it.
    Presence {
        /// Users of the receiving node.
        to: Vec<UserId>,
        /// The record.
        record: Vec<u8>,
    },
    /// A sealed message.
    Envelope(Envelope),
    /// A signed [`Receipt`].
    Receipt(Vec<u8>),
    /// A stanza for now or never.
    Live(crate::core::Live),
    /// I am still here.
    Heartbeat,
    /// I am about to close, and why.
    Goodbye {
        /// At most 256 bytes.
        reason: String,
    },
    /// Statements of others that the sender could relay.
    Have(Vec<Mark>),
    /// Those of them that the sender wants.
    Want(Vec<Mark>),
    /// Signed statements about nodes that need not be the sender.
    Relayed(Relayed),
    /// Hold this for somebody.
    Deposit {
        /// For the answer.
        request: u64,
        /// What.
        offer: Offer,
    },
    /// What became of a deposit.
    DepositAnswer {
        /// Which.
        request: u64,
        /// What.
        answer: Answer,
    },
    /// What do you hold for me? A signed [`MailboxAccess`].
    List(Vec<u8>),
    /// What is held for users of the reader.
    Listing {
        /// Names and bytes of items, oldest first.
        entries: Vec<Listed>,
        /// Whether there are more, which are listed when these were discarded and it is asked again.
        more: bool,
    },
    /// Send these.
    Fetch(Vec<ItemId>),
    /// Those of them that are there: encoded [`crate::mailbox::Item`]s, in one frame.
    Mail(Vec<Vec<u8>>),
    /// These have arrived, or are not wanted.
    Discard(Vec<ItemId>),
    /// A user of the sending node has hardly a token left for the mailbox of one of the receiving node.
    WantTokens {
        /// Who asks.
        from: UserId,
        /// Whose mailbox.
        to: UserId,
    },
    /// What the sender knows to be void, by digest.
    Revoked(Vec<RevokedDigest>),
    /// What is void: which the sender knows, and some themselves.
    Revocations(Revocations),
    /// Signed rotations of keys of authorities, in the order in which they can be followed.
    Rotations(Vec<Vec<u8>>),
    /// The sender has the code of an offer: it wants what was offered.
    Join {
        /// Which.
        offer: OfferId,
        /// [`crate::join::JoinCode::proof`].
        proof: [u8; 32],
    },
    /// What comes of that.
    JoinAnswer {
        /// Which.
        offer: OfferId,
        /// What.
        answer: JoinAnswer,
    },
    /// A question to the server of a domain.
    Enrol {
        /// For the answer.
        request: u64,
        /// An encoded [`crate::enrol::Ask`].
        ask: Vec<u8>,
    },
    /// Its answer.
    EnrolAnswer {
        /// To which question.
        request: u64,
        /// An encoded [`crate::enrol::Answer`]; empty: the sender is no server.
        answer: Vec<u8>,
    },
    /// From the server of a user's domain: something from outside waits for users of the reader.
    Upstream,
    /// A kind of a later version: skip it.
    Unknown,
}

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version that the sender speaks.
    pub version: u32,
    /// The oldest version that it understands.
    pub min_version: u32,
    /// What its program calls itself, at most 128 bytes.
    pub agent: String,
    /// Its clock, Unix milliseconds.
    pub wall: u64,
    /// It does not believe that clock itself.
    pub unsure: bool,
    /// New for each session: another value than before says that the sender has forgotten the session.
    pub session: u64,
    /// How it can be probed; said to peers on the link only.
    pub probe: Option<probe::Offer>,
}

/// An item that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: ItemId,
    /// Bytes.
    pub size: u32,
}

/// Names a statement: the first eight bytes of the SHA-256 of its bytes.
pub type Mark = [u8; 8];

/// Signed statements, each to be verified by whoever gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Users, each with the node that it is on.
    pub users: Vec<UserFrame>,
    /// Signed [`crate::record::NodeLinks`].
    pub links: Vec<Vec<u8>>,
    /// Signed [`LinkPresence`]s; one whose life is zero says that nothing is shown any more.
    pub presences: Vec<Vec<u8>>,
}

impl Relayed {
    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.users.len() + self.links.len() + self.presences.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A user, with the node that it is on: in [`Frame::Records`] the sending one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFrame {
    /// An encoded [`crate::record::UserRecord`].
    pub record: Vec<u8>,
    /// The signed [`crate::record::NodeBinding`] of the user's device on that node.
    pub binding: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello(hello) => write!(f, "{hello:?}"),
            Self::Records(users) => write!(f, "Records({})", users.len()),
            Self::LinkPresences(all) => write!(f, "LinkPresences({})", all.len()),
            Self::LinkAbsence { user, gone, .. } => write!(f, "LinkAbsence({user}, gone {gone})"),
            Self::Presence { to, record } => {
                write!(f, "Presence({} watchers, {} bytes)", to.len(), record.len())
            }
            Self::Envelope(envelope) => write!(f, "{envelope:?}"),
            Self::Receipt(_) => write!(f, "Receipt"),
            Self::Live(live) => write!(f, "{live:?}"),
            Self::Heartbeat => write!(f, "Heartbeat"),
            Self::Goodbye { .. } => write!(f, "Goodbye"),
            Self::Have(marks) => write!(f, "Have({})", marks.len()),
            Self::Want(marks) => write!(f, "Want({})", marks.len()),
            Self::Relayed(relayed) => write!(f, "Relayed({})", relayed.len()),
            Self::Deposit { offer, .. } => write!(f, "Deposit({offer:?})"),
            Self::DepositAnswer { answer, .. } => write!(f, "DepositAnswer({answer:?})"),
            Self::List(_) => write!(f, "List"),
            Self::Listing { entries, .. } => write!(f, "Listing({})", entries.len()),
            Self::Fetch(items) => write!(f, "Fetch({})", items.len()),
            Self::Mail(items) => write!(f, "Mail({})", items.len()),
            Self::Discard(items) => write!(f, "Discard({})", items.len()),
            Self::WantTokens { from, to } => write!(f, "WantTokens({from} of {to})"),
            Self::Revoked(digests) => write!(f, "Revoked({})", digests.len()),
            Self::Rotations(all) => write!(f, "Rotations({})", all.len()),
            Self::Revocations(told) => {
                write!(f, "Revocations({} lists, {} records)", told.lists.len(), told.records.len())
            }
            Self::Join { .. } => write!(f, "Join"),
            Self::JoinAnswer { .. } => write!(f, "JoinAnswer"),
            Self::Enrol { request, .. } => write!(f, "Enrol({request})"),
            Self::EnrolAnswer { request, .. } => write!(f, "EnrolAnswer({request})"),
            Self::Upstream => f.write_str("Upstream"),
            Self::Unknown => write!(f, "Unknown"),
        }
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Larger than [`MAX_FRAME`].
    #[error("a frame of {size} bytes, 327680 allowed: close the peer if it goes on")]
    TooLarge {
        /// Bytes it has.
        size: usize,
    },
    /// Not a Protobuf message of this shape.
    #[error("bytes that are no frame: close the peer if it goes on")]
    Malformed,
    /// A field that is missing, of wrong length or beyond its limit.
    #[error(
        "a frame whose {what} is missing, of wrong length or beyond its limit: close the peer if it goes on"
    )]
    Field {
        /// Which.
        what: &'static str,
    },
}

/// The bytes of a frame; none for [`Frame::Unknown`].
pub fn encode(frame: &Frame) -> Vec<u8> {
    FramePayload { kind: to_wire(frame) }.encode_to_vec()
}

/// Reads a frame. Never panics; memory is bounded by the size of the input.
pub fn decode(bytes: &[u8]) -> Result<Frame, WireError> {
    if bytes.len() > MAX_FRAME {
        return Err(WireError::TooLarge { size: bytes.len() });
    }
    match FramePayload::decode(bytes).map_err(|_| WireError::Malformed)?.kind {
        Some(kind) => from_wire(kind),
        None => Ok(Frame::Unknown),
    }
}

fn to_wire(frame: &Frame) -> Option<Kind> {
    Some(match frame.clone() {
        Frame::Hello(hello) => Kind::Hello(hello_field(hello)),
        Frame::Records(users) => Kind::Records(RecordsField { users: user_fields(users) }),
        Frame::LinkPresences(records) => Kind::LinkPresences(LinkPresencesField { records }),
        Frame::LinkAbsence { user, device, gone } => Kind::LinkAbsence(LinkAbsenceField {
            user: user.as_bytes().to_vec(),
            device: device.as_bytes().to_vec(),
            gone,
        }),
        Frame::Presence { to, record } => {
            let to = to.iter().flat_map(|user| user.as_bytes().iter().copied()).collect();
            Kind::Presence(PresenceField { to, record })
        }
        Frame::Envelope(envelope) => Kind::Envelope(envelope.encode()),
        Frame::Receipt(receipt) => Kind::Receipt(receipt),
        Frame::Live(live) => Kind::Live(LiveField {
            from: live.from.as_bytes().to_vec(),
            from_resource: live.from_resource,
            to: live.to.as_bytes().to_vec(),
            to_resource: live.to_resource,
            xml: live.xml,
        }),
        Frame::Heartbeat => Kind::Heartbeat(HeartbeatField {}),
        Frame::Goodbye { reason } => Kind::Goodbye(GoodbyeField { reason }),
        Frame::Have(marks) => Kind::Have(marks.concat()),
        Frame::Want(marks) => Kind::Want(marks.concat()),
        Frame::Relayed(Relayed { users, links, presences }) => {
            Kind::Relayed(RelayedField { users: user_fields(users), links, presences })
        }
        Frame::Deposit { request, offer } => Kind::Deposit(deposit_field(request, offer)),
        Frame::DepositAnswer { request, answer } => {
            let (outcome, bits) = answer.to_wire();
            Kind::DepositAnswer(DepositAnswerField { request, outcome, bits })
        }
        Frame::List(access) => Kind::List(access),
        Frame::Listing { entries, more } => {
            let entries = entries.iter();
            let field =
                |listed: &Listed| ListedField { id: listed.id.as_bytes().to_vec(), size: listed.size };
            Kind::Listing(ListingField { entries: entries.map(field).collect(), more })
        }
        Frame::Fetch(items) => Kind::Fetch(concatenated(&items)),
        Frame::Mail(items) => Kind::Mail(MailField { items }),
        Frame::Discard(items) => Kind::Discard(concatenated(&items)),
        Frame::WantTokens { from, to } => {
            Kind::WantTokens(WantTokensField { from: from.as_bytes().to_vec(), to: to.as_bytes().to_vec() })
        }
        Frame::Revoked(digests) => Kind::Revoked(revoked::concatenated(&digests)),
        Frame::Revocations(told) => Kind::Revocations(revoked::field(told)),
        Frame::Rotations(records) => Kind::Rotations(MailField { items: records }),
        Frame::Join { offer, proof } => {
            Kind::Join(JoinField { offer: offer.to_vec(), proof: proof.to_vec() })
        }
        Frame::JoinAnswer { offer, answer } => {
            let sealed = if let JoinAnswer::Given(sealed) = answer { sealed } else { Vec::new() };
            Kind::JoinAnswer(JoinAnswerField { offer: offer.to_vec(), sealed })
        }
        Frame::Enrol { request, ask } => Kind::Enrol(EnrolField { request, content: ask }),
        Frame::EnrolAnswer { request, answer } => Kind::EnrolAnswer(EnrolField { request, content: answer }),
        Frame::Upstream => Kind::Upstream(UpstreamField {}),
        Frame::Unknown => return None,
    })
}

fn hello_field(hello: Hello) -> HelloField {
    let Hello { version, min_version, agent, wall, unsure, session, probe } = hello;
    let probe_port = probe.map_or(0, |probe| probe.port.into());
    let probe_secret = probe.map(|probe| probe.secret.to_vec()).unwrap_or_default();
    HelloField { version, min_version, agent, wall, session, probe_port, probe_secret, unsure }
}

fn from_wire(kind: Kind) -> Result<Frame, WireError> {
    Ok(match kind {
        Kind::Hello(field) => Frame::Hello(hello(field)?),
        Kind::Records(field) => Frame::Records(users(field.users, MAX_RECORDS)?),
        Kind::LinkPresences(field) => {
            at_most(field.records.len(), MAX_LINK_PRESENCES, "list of link presences")?;
            all_at_most(&field.records, LinkPresence::MAX_SIZE, "link presence")?;
            Frame::LinkPresences(field.records)
        }
        Kind::LinkAbsence(field) => Frame::LinkAbsence {
            user: user(&field.user)?,
            device: DeviceId::from_slice(&field.device).ok_or(WireError::Field { what: "device" })?,
            gone: field.gone,
        },
        Kind::Presence(field) => presence(field)?,
        Kind::Envelope(bytes) => {
            at_most(bytes.len(), MAX_ENVELOPE, "envelope")?;
            Frame::Envelope(Envelope::decode(&bytes).map_err(|_| WireError::Field { what: "envelope" })?)
        }
        Kind::Receipt(bytes) => {
            at_most(bytes.len(), Receipt::MAX_SIZE, "receipt")?;
            Frame::Receipt(bytes)
        }
        Kind::Live(field) => Frame::Live(live(field)?),
        Kind::Heartbeat(_) => Frame::Heartbeat,
        Kind::Goodbye(field) => Frame::Goodbye { reason: text(field.reason, MAX_REASON, "reason")? },
        Kind::Have(bytes) => Frame::Have(marks(&bytes)?),
        Kind::Want(bytes) => Frame::Want(marks(&bytes)?),
        Kind::Relayed(field) => Frame::Relayed(relayed(field)?),
        Kind::Deposit(field) => deposit(field)?,
        Kind::DepositAnswer(DepositAnswerField { request, outcome, bits }) => {
            Frame::DepositAnswer { request, answer: Answer::from_wire(outcome, bits) }
        }
        Kind::List(access) => {
            at_most(access.len(), MailboxAccess::MAX_SIZE, "mailbox access")?;
            Frame::List(access)
        }
        Kind::Listing(field) => listing(field)?,
        Kind::Fetch(bytes) => Frame::Fetch(items(&bytes)?),
        Kind::Mail(field) => {
            at_most(field.items.len(), MAX_MAIL, "list of items")?;
            all_at_most(&field.items, MAX_ITEM, "item")?;
            Frame::Mail(field.items)
        }
        Kind::Discard(bytes) => Frame::Discard(items(&bytes)?),
        Kind::WantTokens(field) => Frame::WantTokens { from: user(&field.from)?, to: user(&field.to)? },
        Kind::Revoked(bytes) => Frame::Revoked(revoked::digests(&bytes)?),
        Kind::Revocations(field) => Frame::Revocations(revoked::told(field)?),
        Kind::Rotations(field) => {
            at_most(field.items.len(), MAX_ROTATIONS, "list of rotations")?;
            all_at_most(&field.items, crate::record::Rotation::MAX_SIZE, "rotation")?;
            Frame::Rotations(field.items)
        }
        Kind::Join(JoinField { offer, proof }) => {
            let proof = proof.as_slice().try_into().map_err(|_| WireError::Field { what: "proof" })?;
            Frame::Join { offer: offer_id(&offer)?, proof }
        }
        Kind::JoinAnswer(JoinAnswerField { offer, sealed }) => {
            at_most(sealed.len(), MAX_JOINED, "account")?;
            let answer = if sealed.is_empty() { JoinAnswer::Denied } else { JoinAnswer::Given(sealed) };
            Frame::JoinAnswer { offer: offer_id(&offer)?, answer }
        }
        Kind::Enrol(EnrolField { request, content: ask }) => {
            at_most(ask.len(), MAX_ASK, "question")?;
            Frame::Enrol { request, ask }
        }
        Kind::EnrolAnswer(EnrolField { request, content: answer }) => {
            at_most(answer.len(), MAX_ANSWER, "answer")?;
            Frame::EnrolAnswer { request, answer }
        }
        Kind::Upstream(_) => Frame::Upstream,
    })
}

fn text(text: String, max: usize, what: &'static str) -> Result<String, WireError> {
    at_most(text.len(), max, what).map(|()| text)
}

fn at_most(size: usize, max: usize, what: &'static str) -> Result<(), WireError> {
    if size > max { Err(WireError::Field { what }) } else { Ok(()) }
}

fn all_at_most(list: &[Vec<u8>], max: usize, what: &'static str) -> Result<(), WireError> {
    list.iter().try_for_each(|bytes| at_most(bytes.len(), max, what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::MessageId;
    use crate::record::Token;
    use crate::seal::Sealed;

    fn user_id() -> impl Strategy<Value = UserId> {
        any::<[u8; 32]>().prop_map(UserId::from_bytes)
    }

    fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> + Clone {
        prop::collection::vec(any::<u8>(), 0..max)
    }

    fn envelope() -> impl Strategy<Value = Frame> {
        (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), 0..4u32).prop_map(
            |(id, recipient, key, enc, class)| {
                Frame::Envelope(Envelope {
                    id: MessageId::from_bytes(id),
                    recipient: DeviceId::from_bytes(recipient),
                    key,
                    sealed: Sealed { enc, ciphertext: vec![7; (256 << class) + 16] },
                })
            },
        )
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let probe = prop::option::of((1..=u16::MAX, any::<probe::Secret>()));
        let hello = (any::<[u32; 2]>(), ".{0,9}", any::<[u64; 2]>(), any::<bool>(), probe).prop_map(
            |([version, min_version], agent, [wall, session], unsure, probe)| {
                let probe = probe.map(|(port, secret)| probe::Offer { port, secret });
                Frame::Hello(Hello { version, min_version, agent, wall, unsure, session, probe })
            },
        );
        let user = (bytes(40), bytes(40)).prop_map(|(record, binding)| UserFrame { record, binding });
        let live = (user_id(), ".{0,9}", user_id(), ".{0,9}", bytes(60)).prop_map(
            |(from, from_resource, to, to_resource, xml)| {
                Frame::Live(crate::core::Live { from, from_resource, to, to_resource, xml })
            },
        );
        let users = prop::collection::vec(user, 0..4);
        let marks = prop::collection::vec(any::<[u8; 8]>(), 0..9);
        let many = || prop::collection::vec(bytes(40), 0..4);
        let relayed = (users.clone(), many(), many())
            .prop_map(|(users, links, presences)| Frame::Relayed(Relayed { users, links, presences }));
        let items = || prop::collection::vec(any::<[u8; 16]>().prop_map(ItemId::from_bytes), 0..5);
        let deposit = (any::<[u64; 3]>(), user_id(), bytes(300), bytes(90), any::<bool>()).prop_map(
            |([request, expires, nonce], mailbox, item, token, replica)| {
                let offer = Offer { mailbox, item, expires, nonce, token, replica };
                Frame::Deposit { request, offer }
            },
        );
        let answer = (any::<u64>(), 1..6u32, any::<u32>()).prop_map(|(request, outcome, bits)| {
            Frame::DepositAnswer { request, answer: Answer::from_wire(outcome, bits) }
        });
        let listing = (items(), any::<u32>(), any::<bool>()).prop_map(|(items, size, more)| Frame::Listing {
            entries: items.into_iter().map(|id| Listed { id, size }).collect(),
            more,
        });
        let mail = prop_oneof![
            deposit,
            answer,
            bytes(90).prop_map(Frame::List),
            listing,
            items().prop_map(Frame::Fetch),
            many().prop_map(Frame::Mail),
            items().prop_map(Frame::Discard),
            any::<([u8; 8], [u8; 32])>().prop_map(|(offer, proof)| Frame::Join { offer, proof }),
            (any::<[u8; 8]>(), prop::collection::vec(any::<u8>(), 1..90)).prop_map(|(offer, sealed)| {
                Frame::JoinAnswer { offer, answer: JoinAnswer::Given(sealed) }
            }),
            (any::<u64>(), bytes(90)).prop_map(|(request, ask)| Frame::Enrol { request, ask }),
            (any::<u64>(), bytes(90)).prop_map(|(request, answer)| Frame::EnrolAnswer { request, answer }),
            Just(Frame::Upstream),
        ];
        let rotations = many().prop_map(Frame::Rotations);
        let digests = prop::collection::vec(any::<[[u8; 8]; 2]>(), 0..5);
        let digests = digests.prop_map(|all| {
            Frame::Revoked(all.into_iter().map(|[scope, digest]| RevokedDigest { scope, digest }).collect())
        });
        let list = (any::<[u8; 8]>(), marks.clone()).prop_map(|(scope, have)| RevokedList { scope, have });
        let told = (prop::collection::vec(list, 0..3), any::<bool>(), many())
            .prop_map(|(lists, answer, records)| Frame::Revocations(Revocations { lists, answer, records }));
        prop_oneof![
            hello,
            mail,
            digests,
            rotations,
            told,
            users.prop_map(Frame::Records),
            marks.clone().prop_map(Frame::Have),
            marks.prop_map(Frame::Want),
            relayed,
            prop::collection::vec(bytes(40), 0..4).prop_map(Frame::LinkPresences),
            (user_id(), any::<[u8; 32]>(), any::<bool>()).prop_map(|(user, device, gone)| {
                Frame::LinkAbsence { user, device: DeviceId::from_bytes(device), gone }
            }),
            (prop::collection::vec(user_id(), 1..5), bytes(90))
                .prop_map(|(to, record)| Frame::Presence { to, record }),
            envelope(),
            bytes(200).prop_map(Frame::Receipt),
            live,
            Just(Frame::Heartbeat),
            ".{0,20}".prop_map(|reason| Frame::Goodbye { reason }),
            Just(Frame::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_reads_back(frame in frame()) {
            prop_assert_eq!(decode(&encode(&frame)), Ok(frame));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in bytes(2_000)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_frame_is_read_or_refused(frame in frame(), at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            let mut bytes = encode(&frame);
            if !bytes.is_empty() {
                let index = at.index(bytes.len());
                bytes[index] = to;
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn oversize_is_refused() {
        assert_eq!(decode(&vec![0; MAX_FRAME + 1]), Err(WireError::TooLarge { size: MAX_FRAME + 1 }));
        let many =
            Frame::Records(vec![UserFrame { record: Vec::new(), binding: Vec::new() }; MAX_RECORDS + 1]);
        assert_eq!(decode(&encode(&many)), Err(WireError::Field { what: "list of records" }));
        let long = Frame::Goodbye { reason: "x".repeat(257) };
        assert_eq!(decode(&encode(&long)), Err(WireError::Field { what: "reason" }));
        let nobody = Frame::Presence { to: Vec::new(), record: Vec::new() };
        assert_eq!(decode(&encode(&nobody)), Err(WireError::Field { what: "list of watchers" }));
        let marks = Frame::Have(vec![[0; 8]; MAX_MARKS + 1]);
        assert_eq!(decode(&encode(&marks)), Err(WireError::Field { what: "list of marks" }));
        let links = Relayed { links: vec![Vec::new(); MAX_RELAYED + 1], ..Relayed::default() };
        let refused = decode(&encode(&Frame::Relayed(links)));
        assert_eq!(refused, Err(WireError::Field { what: "list of node links" }));
        let entries = vec![Listed { id: ItemId::from_bytes([0; 16]), size: 1 }; MAX_LISTED + 1];
        let too_many = Err(WireError::Field { what: "list of items" });
        assert_eq!(decode(&encode(&Frame::Listing { entries, more: false })), too_many);
        let ids = vec![ItemId::from_bytes([0; 16]); MAX_LISTED + 1];
        assert_eq!(decode(&encode(&Frame::Fetch(ids.clone()))), too_many);
        assert_eq!(decode(&encode(&Frame::Discard(ids))), too_many);
        assert_eq!(decode(&encode(&Frame::Mail(vec![Vec::new(); MAX_MAIL + 1]))), too_many);
        assert_eq!(
            decode(&encode(&Frame::Mail(vec![vec![0; MAX_ITEM + 1]]))),
            Err(WireError::Field { what: "item" })
        );
        let digest = RevokedDigest { scope: [0; 8], digest: [0; 8] };
        let refused = decode(&encode(&Frame::Revoked(vec![digest; MAX_SCOPES + 1])));
        assert_eq!(refused, Err(WireError::Field { what: "list of digests" }));
        let told = Revocations { records: vec![Vec::new(); MAX_REVOCATIONS + 1], ..Revocations::default() };
        let refused = decode(&encode(&Frame::Revocations(told)));
        assert_eq!(refused, Err(WireError::Field { what: "list of revocations" }));
        let list = RevokedList { scope: [0; 8], have: vec![[0; 8]; MAX_MARKS / 2 + 1] };
        let told = Revocations { lists: vec![list.clone(), list], ..Revocations::default() };
        assert_eq!(
            decode(&encode(&Frame::Revocations(told))),
            Err(WireError::Field { what: "list of marks" })
        );
        let unpadded = [0x32, 3, 8, 1, 0];
        assert!(decode(&unpadded).is_err());
    }

    #[test]
    fn half_of_a_way_to_be_probed_is_none() {
        let hello = |probe_port, probe_secret| {
            let (version, min_version, agent) = (1, 1, String::new());
            let (wall, session, unsure) = (0, 1, false);
            hello(HelloField { version, min_version, agent, wall, session, probe_port, probe_secret, unsure })
        };
        let wrong = Err(WireError::Field { what: "way to be probed" });
        for (port, secret) in [(7, vec![]), (0, vec![1; 16]), (7, vec![1; 15]), (65_536, vec![1; 16])] {
            assert_eq!(hello(port, secret), wrong);
        }
        assert_eq!(hello(0, Vec::new()).map(|hello| hello.probe), Ok(None));
        let offer = probe::Offer { port: 7, secret: [1; 16] };
        assert_eq!(hello(7, vec![1; 16]).map(|hello| hello.probe), Ok(Some(offer)));
    }

    #[test]
    fn a_kind_of_a_later_version_is_skipped() {
        // Field 99, three bytes long.
        assert_eq!(decode(&[0x9a, 0x06, 3, 1, 2, 3]), Ok(Frame::Unknown));
    }

    #[test]
    fn the_largest_envelope_fits_a_frame() {
        const { assert!(MAX_ENVELOPE + 16 <= MAX_FRAME) };
        const { assert!(MAX_LIVE + 3 * 1_024 <= MAX_FRAME) };
        const { assert!(MAX_ITEM + Token::MAX_SIZE + 256 <= MAX_FRAME) };
        const { assert!(MAIL_BYTES + MAX_MAIL * 8 <= MAX_FRAME) };
    }
}
