//! What a running node tells of itself: accounts, status, peers, outbox, contacts. *Pure.*

use serde::{Deserialize, Serialize};

use crate::core::enrol::NameView;
use crate::core::settings::LinkMode;
use crate::core::sync::server::ServerView;

/// An account, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// Login name.
    pub name: String,
    /// Address that is typed to log in.
    pub login: String,
    /// Address that others see.
    pub jid: String,
    /// Self-certified address (XEP-0516).
    pub xid: String,
    /// Nickname.
    pub nickname: String,
    /// Whether neighbours on the link see it.
    pub visible: bool,
    /// How much of XEP-0174 it uses, of what the node's settings allow.
    #[serde(default)]
    pub link: LinkMode,
    /// Sessions now.
    pub sessions: usize,
    /// Messages that wait for its clients.
    pub waiting: usize,
    /// Unix milliseconds.
    pub created: u64,
    /// When the device certificate ends, unix milliseconds.
    pub device_until: u64,
    /// When the name certificate ends, unix milliseconds.
    pub name_until: Option<u64>,
}

/// Frames sent to other nodes in the last minute. Bytes are those of the frames, without encryption and TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramesView {
    /// Frames that only say that the node is there.
    pub heartbeats: u64,
    /// Their bytes.
    pub heartbeat_bytes: u64,
    /// All others.
    pub others: u64,
    /// Their bytes.
    pub other_bytes: u64,
}

/// What the node is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the program.
    pub version: String,
    /// This node's id.
    pub node: String,
    /// Own domain.
    pub domain: Option<String>,
    /// What accounts here are certified as.
    #[serde(default)]
    pub names: Vec<NameView>,
    /// How the servers of their domains stand.
    #[serde(default)]
    pub servers: Vec<ServerView>,
    /// Domains of which two keys are said to follow the one that is known: no name by either is believed.
    #[serde(default)]
    pub disputed: Vec<String>,
    /// Milliseconds since start.
    pub uptime: u64,
    /// Accounts.
    pub accounts: usize,
    /// Sessions, with those that wait to be resumed.
    pub sessions: usize,
    /// Sessions that wait to be resumed.
    pub detached: usize,
    /// Connected peers.
    pub peers: usize,
    /// Neighbours shown in "Nearby".
    pub neighbours: usize,
    /// People and streams of XEP-0174.
    #[serde(default)]
    pub link: LinkView,
    /// What went to other nodes in the last minute.
    #[serde(default)]
    pub frames: FramesView,
    /// Undelivered messages.
    pub outbox: usize,
    /// Messages that wait for local clients.
    pub inbox: usize,
    /// Whether the clock is believed.
    pub clock_credible: bool,
    /// What the store says when it cannot write.
    pub store_trouble: Option<String>,
    /// Things refused and dropped, by reason.
    pub counters: std::collections::BTreeMap<String, u64>,
    /// Entries per tree with the limit.
    pub trees: std::collections::BTreeMap<String, (u64, u64)>,
}

/// What the gateway to XEP-0174 is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// What the node's settings come to.
    pub mode: LinkMode,
    /// Instances of others that are seen, those of nodes included.
    pub people: usize,
    /// Of them, those shown as known by XEP-0174 only.
    pub shown: usize,
    /// Our users' instances: announced, or on the way.
    pub announced: Vec<String>,
    /// Available users beyond those that a node announces.
    pub beyond: usize,
    /// Open streams.
    pub streams: usize,
    /// Messages that the other host has not confirmed.
    pub waiting: usize,
}

/// Somebody or something near: another node, or a person on the link without one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// Node id, or the instance of somebody without a node (XEP-0174).
    pub node: String,
    /// `link` for somebody known by XEP-0174 only; nothing for a node.
    #[serde(default)]
    pub tier: Option<String>,
    /// Connected now.
    pub connected: bool,
    /// Address of the connection, or the newest known.
    pub address: Option<String>,
    /// Users proven there: address and nickname.
    pub users: Vec<String>,
}

/// An undelivered message. Never its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutboxView {
    /// Message id.
    pub id: String,
    /// Sender.
    pub from: String,
    /// Recipient.
    pub to: String,
    /// Unix milliseconds.
    pub queued: u64,
    /// Unix milliseconds.
    pub expires: u64,
    /// What it waits for.
    pub waits: String,
    /// Other nodes that hold it for the recipient: of the recipient's devices, those of the one with the fewest.
    #[serde(default)]
    pub held: usize,
}

/// A contact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContactView {
    /// Address.
    pub jid: String,
    /// Name.
    pub name: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// RFC 6121 subscription.
    pub subscription: String,
    /// Whether a request of ours is unanswered.
    pub ask: bool,
    /// Whether a request of theirs is unanswered.
    pub pending_in: bool,
    /// Tier (certified, verified, key, link, local), and behind it by whose word.
    pub tier: String,
    /// What does not fit, and what to do: whose the address is now, by its authority, if not the contact's; where it was
    /// removed while it was added or changed elsewhere.
    #[serde(default)]
    pub conflict: Option<String>,
    /// Online now.
    pub online: bool,
    /// When it was last seen, unix milliseconds.
    pub last_seen: Option<u64>,
}
