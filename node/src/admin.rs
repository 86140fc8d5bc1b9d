//! Requests of the command line to a node, over the Unix socket in its data directory.
//!
//! One JSON object a line each way, at most [`MAX_REQUEST`] bytes in and [`MAX_RESPONSE`] out. Only the owner of the
//! data directory can connect (mode 0600), so secrets may travel here; they never stand in arguments.

pub mod client;
pub mod compromised;
pub mod devices;
pub(crate) mod domains;
pub mod enrol;
pub mod login;
pub mod news;
pub mod password;
pub mod reach;
pub mod registration;
pub mod renewal;
pub mod server;
pub mod service;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::authority;
use crate::bypass::BypassView;
use crate::core::admin::{AccountView, Reply};
use crate::core::directory::Show;
use crate::core::settings::LinkMode;
use crate::link::LinkReport;

pub use crate::secret::Secret;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "crosstalk.sock";
/// Longest request line, bytes: some users that are imported, with their contact lists.
pub const MAX_REQUEST: usize = 2 * 1024 * 1024;
/// Longest response line, bytes: some thousand contacts or accounts.
pub const MAX_RESPONSE: u64 = 16 * 1024 * 1024;

/// What opens a user's sealed key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opener {
    /// The password under which it was sealed.
    Password(Secret),
    /// The recovery code.
    Recovery(Secret),
}

/// What the command line asks of a node. An `account` is a login name or an address.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// Make an account.
    AddAccount {
        /// Login name.
        name: String,
        /// Password; `None` has one made.
        password: Option<Secret>,
        /// Nickname; `None` takes the name.
        nickname: Option<String>,
    },
    /// All accounts.
    ListAccounts,
    /// One account.
    ShowAccount {
        /// Which.
        account: String,
    },
    /// Change a password.
    SetPassword {
        /// Whose.
        account: String,
        /// The new one; `None` has one made.
        password: Option<Secret>,
        /// Opens the user key, so that it can be sealed under the new password too.
        opener: Option<Opener>,
    },
    /// Change nickname or visibility.
    SetProfile {
        /// Whose.
        account: String,
        /// New nickname.
        nickname: Option<String>,
        /// Shown to neighbours?
        visible: Option<bool>,
    },
    /// The user key of an account was stolen: end its address, and make it another.
    Compromised {
        /// Whose.
        account: String,
        /// Opens the key, to sign with it for the last time.
        opener: Opener,
    },
    /// Choose how much of XEP-0174 an account uses.
    SetLink {
        /// Whose.
        account: String,
        /// At most this, of what the settings allow.
        mode: LinkMode,
    },
    /// What the directory of the domain shows of an account, and what it may show from now on.
    Listing {
        /// Whose.
        account: String,
        /// Nothing: stays as it is.
        show: Option<Show>,
    },
    /// Remove an account with all it holds.
    RemoveAccount {
        /// Which.
        account: String,
    },
    /// What the node is doing.
    Status,
    /// What multicast DNS costs the link.
    Link,
    /// How others reach this node from beyond the link.
    Reach,
    /// What has gone to other nodes.
    Carried,
    /// What the bypass gateway does.
    Bypass,
    /// Other nodes.
    Peers,
    /// Messages that wait.
    Outbox,
    /// How somebody is found in the hash table.
    Lookup {
        /// Address or XID.
        address: String,
    },
    /// Requests that are not answered yet.
    Requests,
    /// Accept or refuse a request.
    AnswerRequest {
        /// Of whom it is asked.
        account: String,
        /// Who asks.
        jid: String,
        /// Accept?
        accept: bool,
    },
    /// A contact list.
    Contacts {
        /// Whose.
        account: String,
    },
    /// Add a contact.
    AddContact {
        /// To whose list.
        account: String,
        /// The contact's address.
        jid: String,
        /// Name in the list.
        name: Option<String>,
    },
    /// Remove a contact.
    RemoveContact {
        /// From whose list.
        account: String,
        /// The contact's address.
        jid: String,
    },
    /// Keep a contact that another device has removed.
    KeepContact {
        /// In whose list.
        account: String,
        /// The contact's address.
        jid: String,
    },
    /// Make a code for a further device.
    AddDevice {
        /// Of which account.
        account: String,
        /// Its password.
        password: Secret,
    },
    /// Become a device of the account behind a code.
    JoinDevice {
        /// The code.
        code: Secret,
        /// The account's password.
        password: Secret,
        /// Login name here; `None` takes that of the other device.
        name: Option<String>,
    },
    /// Write the whole node to a new file.
    BackUp {
        /// Absolute.
        path: PathBuf,
    },
    /// Something for the server of a domain that this node is.
    Authority(authority::Question),
    /// Become the laptop of a user of a domain.
    Enrol {
        /// Invitation, or address.
        to: Secret,
        /// Where the server is, if that is not in the invitation and not on the link: `NODE-ID@/ip4/ADDRESS/tcp/PORT`.
        server: Option<String>,
        /// The password: to be the user's from now on, or as it is.
        password: Secret,
        /// The account of this laptop that is to get the name; `None`: a further one.
        account: Option<String>,
    },
    /// Domains whose key is known.
    Domains,
    /// Say which key speaks for a domain.
    TrustDomain {
        /// Which.
        domain: String,
        /// The key, hexadecimal.
        key: String,
    },
    /// Ask the web server of a domain for its key.
    FetchDomain {
        /// Which.
        domain: String,
    },
    /// Forget the key of a domain.
    ForgetDomain {
        /// Which.
        domain: String,
    },
    /// The devices of an account.
    Devices {
        /// Which.
        account: String,
    },
    /// A device is void from now on.
    RevokeDevice {
        /// Of which account.
        account: String,
        /// Its name, or the beginning of its key.
        device: String,
        /// The account's password.
        password: Secret,
    },
}

/// What a node answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// What the core said.
    Reply(Reply),
    /// An account was made.
    Added {
        /// The account.
        account: AccountView,
        /// Its password, if it was made here.
        password: Option<Secret>,
        /// The recovery code, shown this once.
        recovery: Secret,
    },
    /// The node is in the file.
    BackedUp {
        /// How many things.
        entries: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// What the server of a domain says.
    Authority(authority::Answer),
    /// This node is a laptop of a user of a domain now.
    Enrolled {
        /// The account.
        account: AccountView,
        /// The recovery code, shown this once; nothing if the user has one from an earlier laptop.
        recovery: Option<Secret>,
        /// It was one already, and has that server from now on.
        again: bool,
    },
    /// A password was changed.
    PasswordSet {
        /// The password, if it was made here.
        password: Option<Secret>,
        /// Whether the user key is sealed under the new password now.
        resealed: bool,
        /// Whether the user has a server, which takes the new password as soon as it is met if the key is.
        server: bool,
    },
    /// What multicast DNS costs the link; `None` where it is off or no node runs.
    Link(Option<Box<LinkReport>>),
    /// How others reach this node from beyond the link; `None` without the hash table, or when no node runs.
    Reach(Option<Box<reach::ReachView>>),
    /// What went to other nodes since the start; `None` when no node runs.
    Carried(Option<reach::CarriedView>),
    /// What the bypass gateway does; `None` where it is off or no node runs.
    Bypass(Option<Box<BypassView>>),
    /// It could not be done: why, and what to do.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn secrets_are_not_printed() {
        let request = Request::AddAccount {
            name: "juliet".into(),
            password: Some(Secret::from(Zeroizing::new("wherefore".to_owned()))),
            nickname: None,
        };
        assert!(!format!("{request:?}").contains("wherefore"));
        let line = serde_json::to_string(&request).expect("json");
        assert!(line.contains("wherefore") && line.contains("add-account"), "{line}");
        assert!(serde_json::from_str::<Request>(&line).is_ok());
    }
}
