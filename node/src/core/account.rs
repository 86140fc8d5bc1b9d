//! Local accounts in memory, and how they are found by address. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::id::{DeviceId, UserId, XID_DOMAIN};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::tree::account::{Account as Stored, ScramKeys as StoredKeys};
use crosstalk_storage::tree::block::Blocked;
use jid::{BareJid, Jid};

use super::io::{Credentials, LoginChange, ScramKeys};
use super::roster::Roster;
use super::session::SessionId;
use super::settings::LinkMode;

/// Unblocked addresses that are remembered, so that other devices of the user learn of it.
pub(super) const LIFTED: usize = 200;
/// Those that the user's server has not been told of are remembered beyond that, up to this.
const UNTOLD: usize = 1_000;

/// A message held for an account until one of its clients has acknowledged it.
pub(crate) struct Held {
    /// The stanza as it is delivered, without delay stamp.
    pub(crate) stanza: Vec<u8>,
    pub(crate) message: [u8; 16],
    /// Unix milliseconds.
    pub(crate) arrived: u64,
    /// The session that it was handed to.
    pub(crate) session: Option<SessionId>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} bytes for {:?})", self.stanza.len(), self.session)
    }
}

/// What a held message takes beside its stanza: so is the number of those held by a node bounded by their bytes.
const ENTRY_BYTES: usize = 512;

/// Messages held for an account, by number, with the bytes that they take.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    entries: BTreeMap<u64, Held>,
    /// Those that no session has.
    waiting: BTreeSet<u64>,
    bytes: usize,
}

impl Inbox {
    /// Holds a message. Returns the bytes that it takes.
    pub(crate) fn insert(&mut self, number: u64, held: Held) -> usize {
        let bytes = Self::bytes_of(&held);
        self.bytes += bytes;
        if held.session.is_none() {
            self.waiting.insert(number);
        }
        self.entries.insert(number, held);
        bytes
    }

    /// Bytes that a message takes.
    pub(crate) fn bytes_of(held: &Held) -> usize {
        ENTRY_BYTES + held.stanza.len()
    }

    /// Takes a message out. Returns the bytes that it took.
    pub(crate) fn remove(&mut self, number: u64) -> Option<usize> {
        let bytes = Self::bytes_of(&self.entries.remove(&number)?);
        self.waiting.remove(&number);
        self.bytes -= bytes;
        Some(bytes)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Held> {
        self.entries.get(&number)
    }

    /// Notes which session has a message, if any.
    pub(crate) fn assign(&mut self, number: u64, session: Option<SessionId>) {
        let Some(held) = self.entries.get_mut(&number) else { return };
        held.session = session;
        match session {
            Some(_) => self.waiting.remove(&number),
            None => self.waiting.insert(number),
        };
    }

    /// The oldest message that no session has.
    pub(crate) fn first_waiting(&self) -> Option<u64> {
        self.waiting.first().copied()
    }

    /// How many messages no session has.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Messages by number, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Held)> {
        self.entries.iter().map(|(number, held)| (*number, held))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that all messages take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A local account.
pub(crate) struct Account {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// The address that others see.
    pub(crate) jid: BareJid,
    pub(crate) stored: Stored,
    pub(crate) roster: Roster,
    /// Blocked addresses.
    pub(crate) blocked: BTreeSet<String>,
    /// The same with their clocks, and those that were unblocked.
    pub(crate) blocks: BTreeMap<String, Blocked>,
    pub(crate) sessions: BTreeSet<SessionId>,
    pub(crate) inbox: Inbox,
    /// `<vCard/>` as bytes.
    pub(crate) vcard: Option<Vec<u8>>,
    /// Neighbours that this account removed from "Nearby", until they leave.
    pub(crate) dismissed: BTreeSet<Who>,
}

/// Neither sealed keys nor the vCard.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({}, {} held, {} sessions)", self.user, self.inbox.len(), self.sessions.len())
    }
}

/// By what an address is blocked: as it is, by its bare form, or by its domain.
pub(crate) fn block_forms(jid: &Jid) -> [String; 3] {
    [jid.as_str(), jid.to_bare().as_str(), jid.domain().as_str()].map(str::to_owned)
}

impl Account {
    /// Whether XEP-0191 keeps `other` from this account, and this account from `other`.
    pub(crate) fn blocks(&self, other: &Jid) -> bool {
        if self.blocked.is_empty() || is_on(Mutant::BlocksForgotten) {
            return false;
        }
        block_forms(other).iter().any(|form| self.blocked.contains(form))
    }

    /// Blocks or unblocks an address.
    pub(crate) fn set_block(&mut self, jid: &str, blocked: Blocked) {
        match blocked.lifted {
            true => drop(self.blocked.remove(jid)),
            false => drop(self.blocked.insert(jid.to_owned())),
        }
        self.blocks.insert(jid.to_owned(), blocked);
    }

    /// The unblocked address that was so for longest, of more than are remembered: taken out, to be deleted.
    pub(crate) fn surplus_lifted(&mut self) -> Option<String> {
        let lifted = || self.blocks.iter().filter(|(_, blocked)| blocked.lifted);
        let count = lifted().count();
        if count <= LIFTED {
            return None;
        }
        // What the user's server does not know yet it would undo.
        let told = self.stored.server.as_ref().map_or(u64::MAX, |home| home.clock);
        let is_told = |blocked: &Blocked| blocked.edit.as_ref().is_none_or(|edit| edit.millis <= told);
        let goes = lifted().filter(|(_, blocked)| is_told(blocked) || count > UNTOLD);
        let (jid, _) = goes.min_by_key(|(_, blocked)| blocked.edit.clone())?;
        let jid = jid.clone();
        self.blocks.remove(&jid);
        Some(jid)
    }

    /// How much of XEP-0174 the account uses; the node's settings may allow less. Who is hidden from neighbours is not
    /// announced.
    pub(crate) fn link_mode(&self) -> LinkMode {
        match (self.stored.link, self.stored.hidden) {
            (0, false) => LinkMode::Announce,
            (0 | 1, _) => LinkMode::Listen,
            _ => LinkMode::Off,
        }
    }

    /// Chooses it.
    pub(crate) fn set_link_mode(&mut self, mode: LinkMode) {
        self.stored.link = match mode {
            LinkMode::Announce => 0,
            LinkMode::Listen => 1,
            LinkMode::Off => 2,
        };
    }

    /// The self-certified address.
    pub(crate) fn xid_jid(&self) -> String {
        format!("{}@{XID_DOMAIN}", self.user.xid())
    }

    /// The address that is typed to log in.
    pub(crate) fn login(&self) -> String {
        format!("{}@{}", self.stored.name, self.stored.domain)
    }

    /// What SASL needs to know.
    pub(crate) fn login_change(&self) -> LoginChange {
        let (name, domain) = (self.stored.name.clone(), self.stored.domain.clone());
        let (sha1, sha256) = (from_stored(&self.stored.sha1), from_stored(&self.stored.sha256));
        LoginChange::Put { name, domain, credentials: Credentials { user: self.user, sha1, sha256 } }
    }

    /// Addresses under which it is reached.
    fn addresses(&self) -> [String; 3] {
        [self.jid.to_string(), self.xid_jid(), self.login()]
    }
}

/// The address that others see: the login address on a node with a domain, else the XID.
pub(crate) fn address(user: &UserId, stored: &Stored) -> Option<BareJid> {
    let address = match stored.domain.as_str() {
        XID_DOMAIN => format!("{}@{XID_DOMAIN}", user.xid()),
        domain => format!("{}@{domain}", stored.name),
    };
    BareJid::new(&address).ok()
}

fn from_stored(keys: &StoredKeys) -> ScramKeys {
    ScramKeys {
        salt: keys.salt.clone(),
        iterations: keys.iterations,
        stored_key: keys.stored_key.clone(),
        server_key: keys.server_key.clone(),
    }
}

/// The stored shape of salted keys.
pub(crate) fn to_stored(keys: &ScramKeys) -> StoredKeys {
    StoredKeys {
        salt: keys.salt.clone(),
        iterations: keys.iterations,
        stored_key: keys.stored_key.clone(),
        server_key: keys.server_key.clone(),
    }
}

/// All local accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_user: BTreeMap<UserId, Account>,
    by_address: BTreeMap<String, UserId>,
}

impl Accounts {
    pub(crate) fn insert(&mut self, account: Account) {
        for address in account.addresses() {
            self.by_address.insert(address, account.user);
        }
        self.by_user.insert(account.user, account);
    }

    pub(crate) fn remove(&mut self, user: &UserId) -> Option<Account> {
        let account = self.by_user.remove(user)?;
        for address in account.addresses() {
            self.by_address.remove(&address);
        }
        Some(account)
    }

    pub(crate) fn get(&self, user: &UserId) -> Option<&Account> {
        self.by_user.get(user)
    }

    pub(crate) fn get_mut(&mut self, user: &UserId) -> Option<&mut Account> {
        self.by_user.get_mut(user)
    }

    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
    }

    /// The account that a bare address reaches.
    pub(crate) fn by_address(&self, bare: &str) -> Option<UserId> {
        self.by_address.get(bare).copied()
    }

    /// The account that the CLI means by a login name, or by any of its addresses.
    pub(crate) fn by_name(&self, name: &str) -> Option<UserId> {
        let named =
            || self.by_user.values().find(|account| account.stored.name == name).map(|account| account.user);
        self.by_address(name).or_else(named)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.by_user.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_user.len()
    }
}
