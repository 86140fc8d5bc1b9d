//! The Protobuf shapes of frames, as `overlay/PROTOCOL.md` numbers them. *Pure.*

use super::UserFrame;
use crate::id::ItemId;
use crate::mailbox::Offer;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FramePayload {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 25, 27, 28, 31, 32, 33, 37"
    )]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Hello(HelloField),
    #[prost(message, tag = "2")]
    Records(RecordsField),
    #[prost(message, tag = "3")]
    LinkPresences(LinkPresencesField),
    #[prost(message, tag = "4")]
    LinkAbsence(LinkAbsenceField),
    #[prost(message, tag = "5")]
    Presence(PresenceField),
    #[prost(bytes, tag = "6")]
    Envelope(Vec<u8>),
    #[prost(bytes, tag = "7")]
    Receipt(Vec<u8>),
    #[prost(message, tag = "8")]
    Live(LiveField),
    #[prost(message, tag = "9")]
    Heartbeat(HeartbeatField),
    #[prost(message, tag = "10")]
    Goodbye(GoodbyeField),
    /// Eight bytes each, one after another.
    #[prost(bytes, tag = "11")]
    Have(Vec<u8>),
    /// The same.
    #[prost(bytes, tag = "12")]
    Want(Vec<u8>),
    #[prost(message, tag = "13")]
    Relayed(RelayedField),
    #[prost(message, tag = "14")]
    Deposit(DepositField),
    #[prost(message, tag = "15")]
    DepositAnswer(DepositAnswerField),
    /// A signed access.
    #[prost(bytes, tag = "16")]
    List(Vec<u8>),
    #[prost(message, tag = "17")]
    Listing(ListingField),
    /// Sixteen bytes each, one after another.
    #[prost(bytes, tag = "18")]
    Fetch(Vec<u8>),
    #[prost(message, tag = "19")]
    Mail(MailField),
    /// The same as to fetch.
    #[prost(bytes, tag = "20")]
    Discard(Vec<u8>),
    #[prost(message, tag = "21")]
    Join(JoinField),
    #[prost(message, tag = "22")]
    JoinAnswer(JoinAnswerField),
    #[prost(message, tag = "25")]
    WantTokens(WantTokensField),
    /// Sixteen bytes each, one after another: scope and digest.
    #[prost(bytes, tag = "27")]
    Revoked(Vec<u8>),
    #[prost(message, tag = "28")]
    Revocations(RevocationsField),
    #[prost(message, tag = "31")]
    Enrol(EnrolField),
    #[prost(message, tag = "32")]
    EnrolAnswer(EnrolField),
    #[prost(message, tag = "37")]
    Rotations(MailField),
    #[prost(message, tag = "33")]
    Upstream(UpstreamField),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UpstreamField {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EnrolField {
    #[prost(uint64, tag = "1")]
    pub(super) request: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) offer: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) proof: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinAnswerField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) offer: Vec<u8>,
    /// Empty: nothing is given.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HelloField {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(uint32, tag = "2")]
    pub(super) min_version: u32,
    #[prost(string, tag = "3")]
    pub(super) agent: String,
    #[prost(uint64, tag = "4")]
    pub(super) wall: u64,
    #[prost(fixed64, tag = "5")]
    pub(super) session: u64,
    #[prost(uint32, tag = "6")]
    pub(super) probe_port: u32,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) probe_secret: Vec<u8>,
    #[prost(bool, tag = "8")]
    pub(super) unsure: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WantTokensField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) from: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) to: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecordsField {
    #[prost(message, repeated, tag = "1")]
    pub(super) users: Vec<UserField>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UserField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) record: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) binding: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinkPresencesField {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) records: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinkAbsenceField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) user: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) device: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub(super) gone: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PresenceField {
    /// The watchers, 32 bytes each, one after another.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) to: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) record: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LiveField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) from: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) from_resource: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) to: Vec<u8>,
    #[prost(string, tag = "4")]
    pub(super) to_resource: String,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) xml: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HeartbeatField {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GoodbyeField {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayedField {
    #[prost(message, repeated, tag = "1")]
    pub(super) users: Vec<UserField>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) links: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) presences: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DepositField {
    #[prost(uint64, tag = "1")]
    pub(super) request: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) mailbox: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) item: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) expires: u64,
    #[prost(uint64, tag = "5")]
    pub(super) nonce: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) token: Vec<u8>,
    #[prost(bool, tag = "7")]
    pub(super) replica: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct DepositAnswerField {
    #[prost(uint64, tag = "1")]
    pub(super) request: u64,
    #[prost(uint32, tag = "2")]
    pub(super) outcome: u32,
    #[prost(uint32, tag = "3")]
    pub(super) bits: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListingField {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<ListedField>,
    #[prost(bool, tag = "2")]
    pub(super) more: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListedField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) size: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RevocationsField {
    #[prost(message, repeated, tag = "1")]
    pub(super) lists: Vec<RevokedListField>,
    #[prost(bool, tag = "2")]
    pub(super) answer: bool,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) records: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RevokedListField {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) scope: Vec<u8>,
    /// Eight bytes each, one after another.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) have: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MailField {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) items: Vec<Vec<u8>>,
}

pub(super) fn deposit_field(request: u64, offer: Offer) -> DepositField {
    let Offer { mailbox, item, expires, nonce, token, replica } = offer;
    DepositField { request, mailbox: mailbox.as_bytes().to_vec(), item, expires, nonce, token, replica }
}

pub(super) fn concatenated(items: &[ItemId]) -> Vec<u8> {
    items.iter().flat_map(|id| id.as_bytes().iter().copied()).collect()
}

pub(super) fn user_fields(users: Vec<UserFrame>) -> Vec<UserField> {
    users.into_iter().map(|UserFrame { record, binding }| UserField { record, binding }).collect()
}
