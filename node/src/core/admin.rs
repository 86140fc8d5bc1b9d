//! Commands of the CLI and of the account service, and what they get back. *Pure.*
//!
//! The running node answers them over its Unix socket; when none runs, the CLI drives a [`super::Core`] of its own
//! over the opened store, so there is one way for each command.

use crosstalk_overlay::core::Server;
use crosstalk_overlay::id::{AuthorityId, UserId};
use crosstalk_storage::tree::account::HeldPassword;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

use super::devices::{DeviceView, JoinedAccount, OfferView};
use super::directory::{ListingView, Show};
use super::domains::{DomainCommand, KnownDomainView};
pub use super::enrol::NewAccount;
use super::enrol::{Home, NamedAccount};
use super::io::Credentials;
use super::lookup::LookupView;
use super::password::{DuePassword, PasswordHome};
use super::requests::RequestView;
use super::settings::LinkMode;

mod view;

pub use view::{AccountView, ContactView, FramesView, LinkView, OutboxView, PeerView, StatusView};

/// A user key as it is sealed. `Debug` shows its size.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// What can be asked of a node.
#[derive(Debug)]
pub enum Command {
    /// Add an account whose keys are made and on disk.
    AddAccount(Box<NewAccount>),
    /// Add the account of a user of another node's domain, and believe that domain's authority.
    AddEnrolled {
        /// As for [`Self::AddAccount`].
        account: Box<NewAccount>,
        /// The server; its authority is pinned.
        home: Home,
    },
    /// Give an account without a name one under another node's domain, and believe that domain's authority.
    NameAccount {
        /// What changes.
        account: Box<NamedAccount>,
        /// The server; its authority is pinned.
        home: Home,
    },
    /// The server of an account's domain is another one from now on: the former one is lost, with its node.
    ChangeServer {
        /// Public user key.
        user: UserId,
        /// The server; its key must be the one that is believed, or follow it.
        home: Home,
    },
    /// Ask the server of a domain.
    AskServer {
        /// Which.
        server: Server,
        /// An encoded [`crosstalk_overlay::enrol::Ask`].
        ask: Vec<u8>,
    },
    /// Answer laptops as the server of a domain from now on.
    Serve {
        /// Which.
        domain: String,
        /// Its key.
        authority: AuthorityId,
    },
    /// Signed revocations by this node's authority.
    AddRevocations(Vec<Vec<u8>>),
    /// A signed rotation of a domain's key.
    AddRotation(Vec<u8>),
    /// Something about domains of others.
    Domain(DomainCommand),
    /// Where this node can be reached from other networks.
    Places,
    /// All accounts.
    ListAccounts,
    /// One account, by login name or address.
    ShowAccount(String),
    /// New password: new credentials, and the user key sealed anew when it could be opened.
    SetPassword {
        /// Login name or address.
        account: String,
        /// Made from the new password.
        credentials: Credentials,
        /// The user key sealed under the new password; `None` leaves it under an earlier one.
        sealed: Option<Sealed>,
        /// For the server of the user's domain.
        held: Option<HeldPassword>,
    },
    /// What a changed password of an account is registered with at its server.
    PasswordHome(String),
    /// Answered when there is a changed password that a server can be told of.
    AwaitPassword,
    /// The server knows the password of that time.
    PasswordTold {
        /// Whose.
        user: UserId,
        /// Unix milliseconds.
        at: u64,
    },
    /// Show a recovery code to the first client that logs in to an account and is available. It is kept in memory only.
    ShowRecovery {
        /// Login name or address.
        account: String,
        /// The code.
        recovery: Secret,
    },
    /// The user's key as it is sealed, to open it with a password or the recovery code.
    SealedKeys(String),
    /// Show or hide an account from neighbours, or change its nickname.
    SetProfile {
        /// Login name or address.
        account: String,
        /// New nickname.
        nickname: Option<String>,
        /// Whether neighbours on the link see it.
        visible: Option<bool>,
    },
    /// Choose how much of XEP-0174 an account uses, of what the node's settings allow.
    SetLink {
        /// Login name or address.
        account: String,
        /// At most this.
        mode: LinkMode,
    },
    /// What the directory of the domain shows of an account, and what it may show from now on.
    Listing {
        /// Login name or address.
        account: String,
        /// Nothing: stays as it is.
        show: Option<Show>,
    },
    /// A renewed certificate of a device (signed by the user key) or of a name (signed by the authority).
    Renew {
        /// Whose.
        user: UserId,
        /// New DeviceCert.
        device_cert: Option<Vec<u8>>,
        /// New NameCert.
        name_cert: Option<Vec<u8>>,
    },
    /// Remove an account and all it holds.
    RemoveAccount(String),
    /// What the node is doing.
    Status,
    /// Connected and known peers.
    Peers,
    /// What waits to be delivered, at most 1,000 entries.
    Outbox,
    /// How an address is found in the hash table.
    Lookup(String),
    /// Requests that are not answered yet, of all accounts.
    Requests,
    /// Accept or refuse somebody's request.
    AnswerRequest {
        /// Login name or address of who is asked.
        account: String,
        /// Who asks.
        jid: String,
        /// Whether the other may see the account's presence.
        accept: bool,
    },
    /// Contact list of an account.
    Contacts(String),
    /// Add a contact and ask to see its presence.
    AddContact {
        /// Login name or address.
        account: String,
        /// The contact's bare JID.
        jid: String,
        /// Name in the contact list.
        name: Option<String>,
    },
    /// Remove a contact and both subscriptions.
    RemoveContact {
        /// Login name or address.
        account: String,
        /// The contact's bare JID.
        jid: String,
    },
    /// Keep a contact that another device has removed: ends the conflict.
    KeepContact {
        /// Login name or address.
        account: String,
        /// The contact's bare JID.
        jid: String,
    },
    /// Make a code by which another node becomes a device of an account.
    OfferDevice(String),
    /// Ask the node that made a code for its account.
    Join(Secret),
    /// The devices of an account.
    Devices(String),
    /// A device is void: a revocation that the user key has signed.
    RevokeDevice {
        /// Login name or address.
        account: String,
        /// The signed revocation.
        revocation: Vec<u8>,
    },
    /// A user key was stolen: a revocation that it has signed ends the account.
    EndAccount {
        /// Login name or address.
        account: String,
        /// The signed revocation.
        revocation: Vec<u8>,
    },
}

impl Command {
    /// Whether the answer stands for a change, and has to wait for its commit.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::AddAccount(_)
            | Self::SetPassword { .. }
            | Self::PasswordTold { .. }
            | Self::SetProfile { .. }
            | Self::SetLink { .. }
            | Self::Listing { .. }
            | Self::Renew { .. }
            | Self::RemoveAccount(_)
            | Self::AnswerRequest { .. }
            | Self::AddContact { .. }
            | Self::RemoveContact { .. }
            | Self::KeepContact { .. }
            | Self::RevokeDevice { .. }
            | Self::EndAccount { .. }
            | Self::AddEnrolled { .. }
            | Self::NameAccount { .. }
            | Self::ChangeServer { .. }
            | Self::Serve { .. }
            | Self::AddRotation(_)
            | Self::AddRevocations(_) => true,
            Self::Domain(command) => command.changes(),
            Self::ListAccounts
            | Self::ShowAccount(_)
            | Self::ShowRecovery { .. }
            | Self::SealedKeys(_)
            | Self::PasswordHome(_)
            | Self::AwaitPassword
            | Self::Status
            | Self::Peers
            | Self::Outbox
            | Self::Lookup(_)
            | Self::Requests
            | Self::Contacts(_)
            | Self::OfferDevice(_)
            | Self::Join(_)
            | Self::Devices(_)
            | Self::AskServer { .. }
            | Self::Places => false,
        }
    }
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "error", content = "what")]
pub enum Refused {
    /// The login name is taken.
    #[error(
        "the account name {0} is taken on this node: choose another, or change its password with `crosstalk account password {0}`"
    )]
    NameTaken(String),
    /// There is no such account.
    #[error("there is no account {0} on this node: `crosstalk account list` shows those that are")]
    NoAccount(String),
    /// There is no such contact.
    #[error("{0} is not in this contact list")]
    NoContact(String),
    /// Nobody with that address asks.
    #[error("{0} has no unanswered request here: `crosstalk requests` shows who has")]
    NoRequest(String),
    /// Not an address.
    #[error("{0} is no address: type NAME@DOMAIN")]
    BadAddress(String),
    /// Joining as a device did not work.
    #[error("{0}")]
    NotJoined(String),
    /// Enrolling did not work.
    #[error("{0}")]
    NotEnrolled(String),
    /// A certificate does not fit the account.
    #[error("this certificate does not fit the account: {0}")]
    BadCertificate(String),
    /// A domain of others does not go so.
    #[error("{0}")]
    Domain(String),
    /// A limit is reached.
    #[error("{0}")]
    Full(String),
    /// The store cannot write.
    #[error("nothing can be saved now: {0}")]
    Store(String),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done and durable.
    Done,
    /// Refused, nothing changed.
    Refused(Refused),
    /// An account.
    Account(AccountView),
    /// Accounts.
    Accounts(Vec<AccountView>),
    /// Sealed user key: under the password, under the recovery code.
    SealedKeys {
        /// Whose.
        account: AccountView,
        /// Public user key.
        user: [u8; 32],
        /// Sealed under the password.
        by_password: Sealed,
        /// Sealed under the recovery code.
        by_recovery: Sealed,
    },
    /// What a changed password is registered with; nothing for who has no server.
    PasswordHome(Option<Box<PasswordHome>>),
    /// A changed password that a server can be told of.
    DuePassword(Box<DuePassword>),
    /// Status.
    Status(Box<StatusView>),
    /// Peers.
    Peers(Vec<PeerView>),
    /// Waiting messages.
    Outbox(Vec<OutboxView>),
    /// A look-up that has ended.
    Lookup(Box<LookupView>),
    /// Unanswered requests.
    Requests(Vec<RequestView>),
    /// Contacts.
    Contacts(Vec<ContactView>),
    /// A code for a further device.
    Offered(OfferView),
    /// What the node that made a code gave.
    Joined(Box<JoinedAccount>),
    /// Devices.
    Devices(Vec<DeviceView>),
    /// The server of a domain has answered.
    ServerSaid {
        /// Its node.
        node: [u8; 32],
        /// An encoded [`crosstalk_overlay::enrol::Answer`].
        answer: Vec<u8>,
    },
    /// Multiaddresses.
    Places(Vec<String>),
    /// What the directory shows of an account.
    Listing(Box<ListingView>),
    /// Domains whose key is known.
    Domains(Vec<KnownDomainView>),
}
