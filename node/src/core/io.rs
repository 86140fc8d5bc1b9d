//! Everything that can happen to the core, and everything that it can ask for: two closed enums. *Pure.*

use crosstalk_overlay::core::{PeerEvent, Verdict};
use crosstalk_overlay::dht::{Key, Query, Table};
use crosstalk_overlay::id::{NewsId, NodeId, UserId};
use crosstalk_overlay::keys::SealingKey;
use crosstalk_overlay::record::RevocationSet;
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::WriteSet;
use zeroize::Zeroizing;

use crate::xmpp::{Element, StreamError};

use super::admin::{Command, Reply};
use super::link::io::{LinkCommand, LinkEvent};

/// A client connection, numbered by the shell; never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How a client's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed its stream: it does not want to resume (XEP-0198 §5).
    Closed,
    /// The connection was lost or cut by us; a resumable session waits.
    Lost,
}

/// What happens to the core.
#[derive(Debug)]
pub enum Input {
    /// A client proved that it is `user`; its stream was restarted after SASL.
    Authenticated {
        /// The connection.
        conn: ConnId,
        /// Who it is.
        user: UserId,
    },
    /// Elements of an authenticated stream, in order.
    Elements {
        /// The connection.
        conn: ConnId,
        /// Stanzas and stream-level elements as they came.
        elements: Vec<Element>,
    },
    /// An authenticated stream is gone.
    Ended {
        /// The connection.
        conn: ConnId,
        /// How.
        how: Ending,
    },
    /// The overlay's swarm reports.
    Peer(PeerEvent),
    /// What this node holds of the hash table has changed.
    Held {
        /// In which table.
        table: Table,
        /// Where.
        key: Key,
        /// The value and when it ends (unix milliseconds); `None`: it is gone.
        value: Option<(Vec<u8>, u64)>,
    },
    /// Nodes of the hash table that are there, with their multiaddresses.
    Members(Vec<(NodeId, Vec<String>)>),
    /// Something happened on the link by XEP-0174.
    Link(LinkEvent),
    /// A batch and all batches before it are durable.
    Committed {
        /// Number of the batch, as in [`Output::Commit`].
        batch: u64,
    },
    /// The store cannot write (`Some`, with what a person can do) or can write again (`None`).
    StoreTrouble(Option<String>),
    /// A command of the CLI or of the shell's account service.
    Admin {
        /// Number that comes back in [`Output::Answer`].
        request: u64,
        /// What to do.
        command: Box<Command>,
    },
    /// A new sealing key that was asked for by [`Output::SealingKeyDue`] and is on disk now.
    SealingKey {
        /// Whose.
        user: UserId,
        /// The key.
        key: SealingKey,
    },
    /// Credentials that were asked for by [`Output::NewPassword`].
    Credentials {
        /// Its number.
        ticket: u64,
        /// Made from the password; `None` if that is not acceptable.
        credentials: Option<Credentials>,
    },
    /// What the server task of this node answers to [`Output::Enrolment`].
    EnrolmentAnswer {
        /// Who asked.
        node: NodeId,
        /// Its number.
        request: u64,
        /// An encoded [`crosstalk_overlay::enrol::Answer`]; empty: not the server that was looked for.
        answer: Vec<u8>,
    },
    /// What the authority of this node has revoked, signed.
    Voids(Vec<Vec<u8>>),
    /// What the authority of this node says of other domains, signed, in the order of the serials.
    Introduced(Vec<Vec<u8>>),
    /// The server task of this node has something from outside for users of a node.
    UpstreamNews {
        /// Which.
        node: NodeId,
    },
    /// The time of [`super::Core::poll_timeout`] has come.
    Timeout,
    /// The node is about to stop in order: other nodes are told.
    Stopping,
}

/// What the core asks the shell to do, in this order. `Debug` shows neither bytes nor passwords.
pub enum Output {
    /// Bytes for a client.
    Client {
        /// The connection.
        conn: ConnId,
        /// Whole stanzas or stream-level elements.
        data: Vec<u8>,
    },
    /// End a client's stream, with an error or in peace, after what was written before.
    CloseClient {
        /// The connection.
        conn: ConnId,
        /// Why, if something is wrong.
        error: Option<StreamError>,
    },
    /// Make this durable; answer with [`Input::Committed`].
    Commit {
        /// Number, ascending.
        batch: u64,
        /// Changes, atomic.
        writes: WriteSet,
    },
    /// A frame for a peer.
    Frame {
        /// The peer.
        node: NodeId,
        /// Encoded frame.
        frame: Vec<u8>,
    },
    /// A datagram for where a peer is or was connected.
    Datagram {
        /// The address of that connection.
        address: String,
        /// The peer's UDP port.
        port: u16,
        /// Few.
        bytes: Vec<u8>,
    },
    /// Connect to a peer.
    Dial {
        /// The peer.
        node: NodeId,
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// Ask the hash table; an answer follows as an [`Input::Peer`].
    Query {
        /// Its number.
        id: u64,
        /// What.
        query: Query,
    },
    /// Judge values of the hash table by this from now on.
    Judge {
        /// The trusted time.
        time: TrustedTime,
        /// All that is void.
        revocations: Box<RevocationSet>,
    },
    /// Tell everybody on the link.
    Publish {
        /// A signed revocation.
        news: Vec<u8>,
    },
    /// Whether news that a peer brought are told on.
    Judged {
        /// The peer.
        node: NodeId,
        /// Which news.
        id: NewsId,
        /// What becomes of them.
        verdict: Verdict,
    },
    /// Disconnect a peer.
    ClosePeer {
        /// The peer.
        node: NodeId,
        /// For the log.
        reason: &'static str,
    },
    /// Something for multicast DNS or a link-local stream (XEP-0174).
    Link(LinkCommand),
    /// Accounts that may log in, or no longer may: for SASL, which happens before the core.
    Login(LoginChange),
    /// Make a sealing key, write it to the user's key file, then [`Input::SealingKey`].
    SealingKeyDue {
        /// Whose.
        user: UserId,
    },
    /// Erase an outlived sealing key from the user's key file.
    SealingKeyErase {
        /// Whose.
        user: UserId,
        /// Which.
        public: [u8; 32],
    },
    /// Erase the key file of a user whose account is gone.
    EraseKeys {
        /// Whose.
        user: UserId,
    },
    /// Make credentials from a password that a client chose in band (XEP-0077), then [`Input::Credentials`].
    NewPassword {
        /// Number that comes back.
        ticket: u64,
        /// Whose.
        user: UserId,
        /// The password.
        password: Zeroizing<String>,
    },
    /// Answer to [`Input::Admin`].
    Answer {
        /// Its number.
        request: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// A laptop asks this node as the server of a domain; [`Input::EnrolmentAnswer`] follows.
    Enrolment {
        /// Who asks.
        node: NodeId,
        /// For the answer.
        request: u64,
        /// An encoded [`crosstalk_overlay::enrol::Ask`].
        ask: Vec<u8>,
        /// Where this node is now, multiaddresses.
        places: Vec<String>,
    },
    /// Something that the person who runs the node should read.
    Notice(String),
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client { conn, data } => write!(f, "Client({}, {} bytes)", conn.0, data.len()),
            Self::CloseClient { conn, error } => {
                let condition = error.as_ref().map(|error| error.condition);
                write!(f, "CloseClient({}, {condition:?})", conn.0)
            }
            Self::Commit { batch, .. } => write!(f, "Commit({batch})"),
            Self::Frame { node, frame } => write!(f, "Frame({node}, {} bytes)", frame.len()),
            Self::Datagram { bytes, .. } => write!(f, "Datagram({} bytes)", bytes.len()),
            Self::Dial { node, addresses } => write!(f, "Dial({node}, {} addresses)", addresses.len()),
            Self::Query { id, .. } => write!(f, "Query({id})"),
            Self::Judge { revocations, .. } => write!(f, "Judge({} revocations)", revocations.len()),
            Self::Publish { news } => write!(f, "Publish({} bytes)", news.len()),
            Self::Judged { node, id, verdict } => write!(f, "Judged({node}, {id}, {verdict:?})"),
            Self::ClosePeer { node, reason } => write!(f, "ClosePeer({node}, {reason})"),
            Self::Login(LoginChange::Put { .. }) => f.write_str("Login(put)"),
            Self::Login(LoginChange::Remove { .. }) => f.write_str("Login(remove)"),
            Self::SealingKeyDue { user } => write!(f, "SealingKeyDue({user})"),
            Self::SealingKeyErase { user, .. } => write!(f, "SealingKeyErase({user})"),
            Self::EraseKeys { user } => write!(f, "EraseKeys({user})"),
            Self::NewPassword { ticket, user, .. } => write!(f, "NewPassword({ticket}, {user})"),
            Self::Answer { request, .. } => write!(f, "Answer({request})"),
            Self::Enrolment { node, request, .. } => write!(f, "Enrolment({node}, {request})"),
            Self::Link(command) => write!(f, "Link({command:?})"),
            Self::Notice(text) => write!(f, "Notice({} bytes)", text.len()),
        }
    }
}

/// A change of who may log in.
#[derive(Clone, Debug)]
pub enum LoginChange {
    /// This account may log in.
    Put {
        /// Login name: the localpart that the person types.
        name: String,
        /// Domain that it is typed with.
        domain: String,
        /// How it is proved.
        credentials: Credentials,
    },
    /// This account may no longer log in.
    Remove {
        /// Login name.
        name: String,
        /// Domain.
        domain: String,
    },
}

/// What a node keeps to check a password without knowing it (RFC 5802 §3, RFC 7677).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who logs in with them.
    pub user: UserId,
    /// For SCRAM-SHA-1.
    pub sha1: ScramKeys,
    /// For SCRAM-SHA-256 and for PLAIN.
    pub sha256: ScramKeys,
}

/// Salted keys of one hash function.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Salt, 16 bytes or more.
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// ServerKey.
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramKeys({} rounds)", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::account::Held;

    const SECRET: &str = "wherefore";

    /// Bodies and passwords, as text or as numbers of their bytes.
    #[test]
    fn contents_are_not_printed() {
        let (conn, user, node) = (ConnId(1), UserId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let bytes = || SECRET.as_bytes().to_vec();
        let body = Element::new("body", "jabber:client").attr("a", SECRET).text(SECRET);
        let numbers = format!("{:?}", bytes());
        let printed = [
            format!("{:?}", Output::Client { conn, data: bytes() }),
            format!("{:?}", Output::Frame { node, frame: bytes() }),
            format!("{:?}", Output::NewPassword { ticket: 1, user, password: SECRET.to_owned().into() }),
            format!("{:?}", Output::Notice(SECRET.to_owned())),
            format!("{:?}", Input::Elements { conn, elements: vec![body] }),
            format!("{:?}", super::super::admin::Sealed(bytes())),
            format!("{:?}", Held { stanza: bytes(), message: [0; 16], arrived: 0, session: None }),
        ];
        for text in printed {
            assert!(!text.contains(SECRET) && !text.contains(numbers.trim_matches(['[', ']'])), "{text}");
        }
    }
}
