//! What the core is told at its start: identity, limits, what was stored. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::{AuthorityId, NodeId, UserId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey};
use crosstalk_storage::Contents;

/// Keys of one local user on this node, read from its key file.
#[derive(Debug)]
pub struct DeviceKeys {
    /// The device key.
    pub device: DeviceKey,
    /// Sealing keys, newest last.
    pub sealing: Vec<SealingKey>,
}

/// Settings that the core obeys. The defaults are those of the program.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domain whose server this node is, and its key.
    pub serves: Option<(String, AuthorityId)>,
    /// How the key of the domain that this node serves was handed over, signed.
    pub rotations: Vec<Vec<u8>>,
    /// What that authority has revoked.
    pub revoked: Vec<Vec<u8>>,
    /// What it says of other domains.
    pub introductions: Vec<Vec<u8>>,
    /// The node's own domain and its authority key, if it has one.
    pub domain: Option<(String, AuthorityId)>,
    /// How long a lost XEP-0198 session waits to be resumed, milliseconds.
    pub resume_timeout: u64,
    /// Stanzas that a session may leave unacknowledged before it is given up.
    pub unacked_limit: usize,
    /// Bytes of them.
    pub unacked_bytes: usize,
    /// Messages kept for an account whose clients are away.
    pub inbox_limit: usize,
    /// Bytes of messages kept for an account whose clients are away.
    pub inbox_bytes: usize,
    /// Bytes of messages kept for all accounts.
    pub held_bytes: usize,
    /// Contacts of an account.
    pub roster_limit: usize,
    /// Unanswered requests of people who are not in the contact list.
    pub request_limit: usize,
    /// Sessions of an account, with those that wait to be resumed.
    pub session_limit: usize,
    /// Accounts of the node.
    pub account_limit: usize,
    /// Neighbours shown in "Nearby" of one client.
    pub nearby_limit: usize,
    /// Whether accounts are shown to neighbours at all.
    pub visible: bool,
    /// Whether accounts of this node see each other in "Nearby". `None`: only on a node without a domain of its own,
    /// since an institution's hundreds of accounts are not each other's neighbours.
    pub local_nearby: Option<bool>,
    /// How long a change of low value (last presence seen) may wait for the next commit, milliseconds.
    pub lazy_commit: u64,
    /// How long a client without XEP-0198 may take to answer the ping that proves it got a message, milliseconds.
    pub ping_timeout: u64,
    /// Whether people of this node can be found in the hash table, and their contacts told where they are.
    pub publish: bool,
    /// Bytes of envelopes held for people of other nodes who are away. 0: none are held.
    pub mail_bytes: usize,
    /// Bits of work that a stranger pays here for room, and that people here pay elsewhere before they are asked for more.
    pub mail_bits: u32,
    /// How often is looked for nodes that have to hold an envelope as others are gone, milliseconds.
    pub repair: u64,
    /// Where mail for people of this node waits, with addresses that are known. Empty: wherever the hash table says.
    pub mailboxes: Vec<(NodeId, Vec<String>)>,
    /// Peers connected at once.
    pub max_peers: usize,
    /// What the node does by XEP-0174; each account may do less.
    pub link_mode: LinkMode,
    /// Port of the listener for link-local streams. `None`: there is none, and `link_mode` is off.
    pub link_port: Option<u16>,
    /// Name of this machine, as others see it in `nickname@machine`.
    pub machine: String,
}

/// How much of XEP-0174 (link-local messaging) is used. Ordered: each does what those before it do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum LinkMode {
    /// Nothing is looked for, nothing is said.
    Off,
    /// People on the link are shown; nobody there is told of users of this node, so nobody can be written to either.
    Listen,
    /// Users who are available are announced.
    #[default]
    Announce,
}

/// How a node takes part in the hash table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableMode {
    /// Others ask it once it can be reached from outside.
    Auto,
    /// Others never ask it.
    Client,
    /// Others always ask it.
    Server,
    /// Not at all.
    #[default]
    Off,
}

/// Who may search the directory of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryMode {
    /// Nobody: there is none.
    #[default]
    Off,
    /// Every user of the domain.
    Members,
}

/// Whether a node relays for others that nobody reaches directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayMode {
    /// Once it can be reached from outside.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serves: None,
            rotations: Vec::new(),
            revoked: Vec::new(),
            introductions: Vec::new(),
            domain: None,
            resume_timeout: 600_000,
            // A list of contacts, and the presence of all devices of its contacts that a node keeps.
            unacked_limit: 16_000,
            unacked_bytes: 12 << 20,
            inbox_limit: 2_000,
            inbox_bytes: 2 << 20,
            held_bytes: 64 << 20,
            roster_limit: 5_000,
            request_limit: 200,
            session_limit: 16,
            account_limit: 2_000,
            nearby_limit: 200,
            visible: true,
            local_nearby: None,
            lazy_commit: 60_000,
            ping_timeout: 60_000,
            publish: true,
            mail_bytes: 8 << 20,
            mail_bits: 18,
            repair: 3_600_000,
            mailboxes: Vec::new(),
            max_peers: 64,
            link_mode: LinkMode::Announce,
            link_port: None,
            machine: "host".to_owned(),
        }
    }
}

/// Everything that a core starts from.
#[derive(Debug)]
pub struct Setup {
    /// This node's key.
    pub node: NodeKey,
    /// Seed of all randomness.
    pub seed: [u8; 32],
    /// Settings.
    pub settings: Settings,
    /// What the store held.
    pub contents: Contents,
    /// Keys of the local users.
    pub keys: BTreeMap<UserId, DeviceKeys>,
    /// Build date, unix milliseconds: the lowest time that is believed.
    pub built: u64,
}

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A stored value cannot be read.
    #[error(
        "the store holds a {tree} entry that cannot be read ({why}): run `crosstalk doctor`, or restore a back-up"
    )]
    Unreadable {
        /// Name of the tree.
        tree: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key file of an account is missing.
    #[error(
        "the key file of {account} is missing: put keys/{xid}.keys back from a back-up, or remove the account"
    )]
    KeysMissing {
        /// Login name.
        account: String,
        /// File name stem.
        xid: String,
    },
}
