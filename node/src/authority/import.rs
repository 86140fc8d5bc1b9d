//! Users that come from another server (XEP-0227): taken in with what that kept of their passwords, let in at their first
//! login, and given what they brought along (`overlay/PROTOCOL.md` §12, §13).

use std::collections::BTreeSet;

use crosstalk_overlay::enrol::{
    Admitted, Answer as Said, Brought, BroughtContact, Collect, Collected, Salted, Scheme, TOKEN, Why,
    token_mark,
};
use crosstalk_overlay::id::{NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::record::domain_of;
use crosstalk_storage::tree::authority::{
    BroughtPage, Member, MemberState, StoredInvitation, Verifier, brought_by, brought_page, read_brought_page,
};
use crosstalk_storage::tree::upstream::{Contact, OutsideState, Queue, State, of_contact, of_user};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Answer;
use super::counter::Stop;
use super::database::Change;
use super::derived;
use super::office::{Office, OfficeError};
use super::opaque::{Account, Registration, Server};
use crate::accounts::names;
use crate::upstream::book;

/// Users that are taken in at once.
pub const AT_ONCE: usize = 64;
/// Contacts of one user, and blocked addresses.
pub const CONTACTS: usize = 5_000;
/// Blocked addresses of one user.
pub const BLOCKED: usize = 1_000;
/// Bytes of a vCard: more does not fit an answer.
pub const VCARD: usize = 40 * 1_024;
/// Bytes of a page, but for one thing that is larger.
const PAGE: usize = 32 * 1_024;
/// Pages of one user.
const PAGES: usize = 128;
/// How long an invitation counts that a right password gave, milliseconds.
const ADMITTED: u64 = 10 * 60 * 1_000;

/// A user as another server had it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedUser {
    /// The name before the `@`.
    pub name: String,
    /// What was kept of the password; nothing: the user needs an invitation.
    pub verifier: Option<ImportedVerifier>,
    /// May not log in.
    pub disabled: bool,
    /// The contact list, and unanswered requests.
    pub contacts: Vec<ImportedContact>,
    /// Blocked addresses.
    pub blocked: Vec<String>,
    /// Shown to others; empty: none.
    pub nickname: String,
    /// A vCard as XML; empty: none.
    pub vcard: String,
}

impl std::fmt::Debug for ImportedUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImportedUser({}, {} contacts)", self.name, self.contacts.len())
    }
}

/// What a server of SCRAM kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedVerifier {
    /// A [`Scheme`].
    pub scheme: i32,
    /// Salt.
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    pub rounds: u32,
    /// StoredKey.
    pub stored_key: Vec<u8>,
    /// ServerKey.
    pub server_key: Vec<u8>,
}

impl From<ImportedVerifier> for Verifier {
    fn from(from: ImportedVerifier) -> Self {
        let ImportedVerifier { scheme, salt, rounds, stored_key, server_key } = from;
        Self { scheme, salt, rounds, stored_key, server_key }
    }
}

impl From<Verifier> for ImportedVerifier {
    fn from(from: Verifier) -> Self {
        let Verifier { scheme, salt, rounds, stored_key, server_key } = from;
        Self { scheme, salt, rounds, stored_key, server_key }
    }
}

/// A contact as RFC 6121 has it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedContact {
    /// Bare address.
    pub address: String,
    /// Name; empty: none.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// The user sees the contact.
    pub to: bool,
    /// The contact sees the user.
    pub from: bool,
    /// The user has asked.
    pub ask: bool,
    /// The contact has asked.
    pub pending_in: bool,
    /// In the contact list.
    pub listed: bool,
}

impl From<ImportedContact> for BroughtContact {
    fn from(from: ImportedContact) -> Self {
        let ImportedContact { address, name, groups, to, from, ask, pending_in, listed } = from;
        Self { address, name, groups, to, from, ask, pending_in, listed }
    }
}

/// What became of users that were to be taken in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportView {
    /// New users.
    pub added: Vec<String>,
    /// Of them, those who have to be invited, as nothing is known of their passwords.
    pub to_invite: Vec<String>,
    /// There were users of these names already, who stay as they are.
    pub existed: Vec<String>,
    /// Those who cannot be taken in, and why.
    pub refused: Vec<(String, String)>,
}

impl Office {
    /// Takes users in, all in one commit; without `really` says what would become of them.
    pub(super) fn import(&mut self, users: Vec<ImportedUser>, really: bool) -> Result<Answer, OfficeError> {
        if users.len() > AT_ONCE {
            return Err(OfficeError::Refused(format!("at most {AT_ONCE} users are taken in at once")));
        }
        let (mut view, mut change) = (ImportView::default(), Change::default());
        let mut seen = BTreeSet::new();
        for user in users {
            let name = match self.importable(&user) {
                Ok(name) => name,
                Err(why) => {
                    view.refused.push((user.name, why));
                    continue;
                }
            };
            if !seen.insert(name.clone()) || self.database.member(&name)?.is_some() {
                view.existed.push(name);
                continue;
            }
            let verifier = user.verifier.clone().map(Verifier::from);
            if verifier.is_none() && !user.disabled {
                view.to_invite.push(name.clone());
            }
            let state = if user.disabled { MemberState::Disabled } else { MemberState::New };
            let member =
                Member { created: self.now().wall, state: state.into(), verifier, ..Member::default() };
            for (number, page) in (1..).zip(pages(user)) {
                change = change.upstream(brought_page(&name, number), Some(&BroughtPage { page }));
            }
            change = change.member(&name, member).and_told(self.line("user imported", &name));
            view.added.push(name);
        }
        if really && !view.added.is_empty() {
            self.database.commit(change)?;
        }
        Ok(Answer::Imported(view))
    }

    /// The name in its normal form.
    fn importable(&self, user: &ImportedUser) -> Result<String, String> {
        let name = names::account_name(&user.name).map_err(|why| why.to_string())?;
        if domain_of(&self.address(&name)).is_none() {
            return Err("the name is too long: 255 bytes at most".to_owned());
        }
        if user.contacts.len() > CONTACTS || user.blocked.len() > BLOCKED || user.vcard.len() > VCARD {
            return Err("there is more of this user than fits".to_owned());
        }
        match &user.verifier {
            Some(verifier) if !derived::is_usable(&verifier.clone().into()) => {
                Err("what is kept of the password is not of SCRAM: leave it out, and invite the user"
                    .to_owned())
            }
            _ => Ok(name),
        }
    }

    /// How the secret of a login is made of the password, where it is not the password itself.
    pub(super) fn salted(member: &Member) -> Option<Salted> {
        match (&member.verifier, member.state()) {
            (Some(kept), MemberState::New) => {
                Some(Salted { scheme: kept.scheme, salt: kept.salt.clone(), rounds: kept.rounds })
            }
            (_, MemberState::Enrolled) if member.stretched => {
                Some(Salted { scheme: Scheme::Stretched.into(), ..Salted::default() })
            }
            _ => None,
        }
    }

    /// The OPAQUE record of a user; over the secret of what another server kept it is made when it is first asked for.
    pub(super) fn record_of(&self, name: &str, member: Member) -> Result<Vec<u8>, Stop> {
        let Some(verifier) = member.verifier.clone().filter(|_| member.password.is_empty()) else {
            return Ok(member.password);
        };
        if member.state() != MemberState::New {
            return Ok(Vec::new());
        }
        let (address, authority) = (self.address(name), self.identity()?);
        let secret = derived::secret_of(&verifier);
        let begun = Registration::with(&secret, self.random().map_err(OfficeError::from)?)?;
        let response = self.opaque.respond(&begun.request, &address)?;
        let account = Account { address: &address, authority: &authority };
        let (upload, _) = begun.finish(&secret, &response, account)?;
        let password = Server::record(&upload)?;
        let member = Member { password: password.clone(), ..member };
        self.database.commit(Change::default().member(name, member)).map_err(OfficeError::from)?;
        Ok(password)
    }

    /// Somebody has proved the secret of an imported user who has no key yet: with the ClientKey, too, an invitation.
    pub(super) fn admit(&self, name: &str, member: &Member, client_key: &[u8]) -> Result<Said, Stop> {
        let proves = |kept: &Verifier| derived::is_client_key(kept, client_key);
        if !member.verifier.as_ref().is_some_and(proves) {
            return Err(Stop::Why(Why::Password));
        }
        let now = self.now().wall;
        let token: Zeroizing<[u8; TOKEN]> = Zeroizing::new(self.random().map_err(OfficeError::from)?);
        let invitation = StoredInvitation {
            name: name.to_owned(),
            expires: now.saturating_add(ADMITTED),
            used: Vec::new(),
        };
        let mut change = Change::told(self.line("user admitted", name));
        for mark in self.surplus_invitations(name, now)? {
            change = change.invitation(mark, None);
        }
        let change = change.invitation(token_mark(token.as_slice()), Some(invitation));
        self.database.commit(change).map_err(OfficeError::from)?;
        Ok(Said::Admitted(Admitted { token: token.to_vec() }))
    }

    /// A user has a key now: those outside stand with it as they did.
    pub(super) fn with_outside(&self, name: &str, user: &UserId, change: Change) -> Result<Change, Stop> {
        let mut version = 0;
        let mut change = change;
        for (_, page) in self.brought(name)? {
            for contact in page.contacts.iter().filter(|contact| self.is_outside(&contact.address)) {
                let stands = contact.to || contact.from || contact.ask || contact.pending_in;
                if !stands || version >= book::CONTACTS as u64 {
                    continue;
                }
                version += 1;
                let BroughtContact { to, from, ask, pending_in, .. } = *contact;
                let state = State::Contact(Contact { to, from, ask, pending_in, version });
                let key = of_contact(user.as_bytes(), &contact.address);
                change = change.upstream(key, Some(&OutsideState { state: Some(state) }));
            }
        }
        if version > 0 {
            // Small enough for any reader of numbers, and never 0.
            let id = u64::from_be_bytes(self.random().map_err(OfficeError::from)?) >> 1 | 1;
            let state = State::Queue(Queue { id, last: 0, version });
            change = change.upstream(of_user(user.as_bytes()), Some(&OutsideState { state: Some(state) }));
        }
        Ok(change)
    }

    fn is_outside(&self, address: &str) -> bool {
        domain_of(address).is_some_and(|domain| domain != self.domain && domain != XID_DOMAIN)
    }

    fn brought(&self, name: &str) -> Result<Vec<(u64, Brought)>, Stop> {
        let pages = self.database.all_upstream::<BroughtPage>(&brought_by(name), PAGES)?;
        let page = |(key, page): (Vec<u8>, BroughtPage)| Some((read_brought_page(name, &key)?, page.page));
        Ok(pages.into_iter().filter_map(page).collect())
    }

    /// What somebody brought along is not for whoever has the name next.
    pub(super) fn without_brought(&self, name: &str, change: Change) -> Result<Change, OfficeError> {
        let pages = self.database.all_upstream::<BroughtPage>(&brought_by(name), PAGES)?;
        Ok(pages.into_iter().fold(change, |change, (key, _)| change.upstream::<BroughtPage>(key, None)))
    }

    /// Whether something waits for the user's laptop.
    pub(super) fn has_brought(&self, name: &str) -> Result<bool, Stop> {
        Ok(!self.database.all_upstream::<BroughtPage>(&brought_by(name), 1)?.is_empty())
    }

    /// The next page for a laptop, which has those before it on its disk.
    pub(super) fn collect(&mut self, node: NodeId, ask: Collect) -> Result<Said, Stop> {
        let (_, _, name) = self.lists.user_of(&self.database, node, ask.session, self.now().wall)?;
        let (had, waiting): (Vec<_>, Vec<_>) =
            self.brought(&name)?.into_iter().partition(|(number, _)| *number <= ask.taken);
        if !had.is_empty() {
            let mut change = Change::default();
            for (number, _) in had {
                change = change.upstream::<BroughtPage>(brought_page(&name, number), None);
            }
            self.database.commit(change).map_err(OfficeError::from)?;
        }
        let next = waiting.into_iter().next();
        Ok(Said::Collected(
            next.map_or_else(Collected::default, |(number, page)| Collected { number, page: Some(page) }),
        ))
    }
}

/// What a user brings along, in pages that fit an answer.
fn pages(user: ImportedUser) -> Vec<Brought> {
    let ImportedUser { contacts, blocked, nickname, vcard, .. } = user;
    let (mut pages, mut page, mut bytes) = (Vec::new(), Brought { nickname, ..Brought::default() }, 0);
    let mut room = |size: usize, page: &mut Brought| {
        if bytes > 0 && bytes + size > PAGE {
            pages.push(std::mem::take(page));
            bytes = 0;
        }
        bytes += size + 4;
    };
    for contact in contacts.into_iter().map(BroughtContact::from) {
        room(contact.encoded_len(), &mut page);
        page.contacts.push(contact);
    }
    for address in blocked {
        room(address.len(), &mut page);
        page.blocked.push(address);
    }
    if !vcard.is_empty() {
        room(vcard.len(), &mut page);
        page.vcard = vcard.into_bytes();
    }
    pages.push(page);
    pages.retain(|page| *page != Brought::default());
    pages.truncate(PAGES);
    pages
}
