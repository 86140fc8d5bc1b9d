//! The directory of a user's domain: who agrees to be found in it, and questions to the server on behalf of clients
//! (`overlay/PROTOCOL.md` §15). *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::core::{NoAnswer, Server};
use crosstalk_overlay::enrol::{
    Answer, Ask, Directory, MAX_PEOPLE, MAX_SEARCH, People, Person, Refused as No, Search, Why,
};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::time::SECOND;
use crosstalk_storage::tree::directory::Shown;
use jid::BareJid;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::admin::{Refused, Reply};
use super::session::SessionId;
use super::sync::own;
use super::sync::server::Stands;
use super::{Core, Timer};
use crate::features::search::{Shape, result};
use crate::xmpp::{Condition, Stanza, StanzaError};

/// What stands before the domain in the address of its directory.
const DIRECTORY: &str = "directory.";
/// Questions that wait, of all users.
const WAITING: usize = 32;
/// And of one.
const OWN: usize = 4;
/// How long a client waits for an answer.
const PATIENCE: u64 = 10 * SECOND;
/// Numbers of these questions; those of all others are smaller.
const FIRST_TICKET: u64 = 7 << 61;

/// Questions of clients that wait for a server.
#[derive(Debug, Default)]
pub(super) struct Searches {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// The one that was put; the others wait.
    asked: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    user: UserId,
    /// The request, without what is searched for.
    iq: Stanza,
    shape: Shape,
    text: String,
    /// Monotonic milliseconds.
    until: u64,
    /// By the number of which pass the server was asked.
    asked: Option<u64>,
    /// The server had forgotten this device: it was asked for once more.
    again: bool,
}

/// What an account shows in the directory of its domain, and would show, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingView {
    /// The account's address.
    pub address: String,
    /// The domain, if it has a directory as far as is known here.
    pub directory: Option<String>,
    /// `off`, `nickname` or `full-name`.
    pub shown: Show,
    /// What would be shown as nickname.
    pub nickname: String,
    /// And as full name.
    pub full_name: String,
    /// The server does not know of the last change yet.
    pub held: bool,
}

impl ListingView {
    /// What others see of the user then.
    pub fn seen(&self, show: Show) -> String {
        let all = [&self.address, &self.nickname, &self.full_name];
        let parts = match show {
            Show::Off => return "nothing".to_owned(),
            Show::Nickname => &all[..2],
            Show::FullName => &all[..],
        };
        let parts: Vec<&str> =
            parts.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }
}

/// How much the directory may show of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// Nothing: the user does not stand in it.
    Off,
    /// Address and nickname.
    Nickname,
    /// And the full name of the vCard.
    FullName,
}

impl Show {
    /// As it is written by people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Nickname => "nickname",
            Self::FullName => "full-name",
        }
    }

    /// What somebody wrote.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Nickname, Self::FullName].into_iter().find(|show| show.as_str() == name)
    }
}

impl From<Show> for Shown {
    fn from(show: Show) -> Self {
        match show {
            Show::Off => Self::Nothing,
            Show::Nickname => Self::Nickname,
            Show::FullName => Self::FullName,
        }
    }
}

impl From<Shown> for Show {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Nothing => Self::Off,
            Shown::Nickname => Self::Nickname,
            Shown::FullName => Self::FullName,
        }
    }
}

impl Core {
    /// A server says whether it has a directory. What it keeps from now on is told with the next pass.
    pub(super) fn directory_heard(&mut self, user: UserId, directory: Directory) {
        let home = self.accounts.get_mut(&user).and_then(|account| account.stored.server.as_mut());
        let Some(home) = home.filter(|home| home.directory() != directory) else { return };
        home.set_directory(directory);
        self.save_account(&user);
        self.tell_server_soon(user);
    }

    /// The address of the directory that an account may search.
    pub(crate) fn directory_of(&self, user: &UserId) -> Option<String> {
        let stored = &self.accounts.get(user)?.stored;
        let has = stored.server.as_ref()?.directory() == Directory::Yes;
        has.then(|| format!("{DIRECTORY}{}", stored.domain))
    }

    /// Whether that is the address of a directory that somebody here may search.
    pub(crate) fn is_directory(&self, domain: &str) -> bool {
        let is_it = |account: &Account| self.directory_of(&account.user).is_some_and(|own| own == domain);
        domain.starts_with(DIRECTORY) && self.accounts.iter().any(is_it)
    }

    /// What an account shows in the directory.
    pub(crate) fn listing_view(&self, user: &UserId) -> Option<ListingView> {
        let account = self.accounts.get(user)?;
        let stored = &account.stored;
        let said = stored.listing.clone().unwrap_or_default();
        let would = own::listing(account, Shown::FullName);
        let home = stored.server.as_ref();
        let told = home.map_or(0, |home| home.clock);
        Some(ListingView {
            address: account.jid.to_string(),
            directory: self.directory_of(user).map(|_| stored.domain.clone()),
            shown: said.shown().into(),
            nickname: would.nickname,
            full_name: would.full_name,
            held: home.is_some() && said.edit.is_some_and(|edit| edit.millis > told),
        })
    }

    /// Changes that.
    ///
    /// # Errors
    /// When there is no directory to stand in; to leave one is always possible.
    pub(crate) fn show_in_directory(&mut self, user: UserId, show: Show) -> Result<(), String> {
        let view = self.listing_view(&user).ok_or("there is no such account any more")?;
        if show != Show::Off && view.directory.is_none() {
            return Err(format!(
                "there is no directory for {}: only users of a domain whose server has one can stand in it (whoever runs the \
                 server sets `directory` in its settings); a laptop learns of it when it meets the server",
                view.address
            ));
        }
        self.set_shown(user, show.into());
        Ok(())
    }

    /// The same for the command line: how it stands, or a change.
    pub(super) fn listing(&mut self, name: &str, show: Option<Show>) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        if let Some(show) = show {
            self.saveable()?;
            self.show_in_directory(user, show).map_err(Refused::Domain)?;
        }
        let view = self.listing_view(&user).ok_or_else(|| Refused::NoAccount(name.to_owned()))?;
        Ok(Reply::Listing(Box::new(view)))
    }

    /// A client searches; its answer follows.
    ///
    /// # Errors
    /// When the server cannot be asked now.
    pub(crate) fn search_directory(
        &mut self,
        (id, user): (SessionId, UserId),
        iq: &Stanza,
        (shape, text): (Shape, String),
    ) -> Result<(), StanzaError> {
        if text.len() > MAX_SEARCH {
            return Err(StanzaError::new(
                Condition::NotAcceptable,
                "that is too long: say some words of the name",
            ));
        }
        if self.server_stands(&user) == Stands::Away {
            return Err(self.away(&user));
        }
        let own = self.searches.waiting.values().filter(|waiting| waiting.user == user).count();
        if self.searches.waiting.len() >= WAITING || own >= OWN {
            self.count("searches that found too many waiting");
            let text = "too many searches wait on this node: search again in a moment";
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        self.note_request_outside(id, iq, user);
        let ticket = FIRST_TICKET + self.searches.next;
        self.searches.next += 1;
        let until = self.now.mono + PATIENCE;
        let waiting = Waiting { user, iq: iq.error_base(), shape, text, until, asked: None, again: false };
        self.searches.waiting.insert(ticket, waiting);
        self.next_search();
        Ok(())
    }

    /// Puts the first question whose server can be asked; one at a time.
    pub(super) fn next_search(&mut self) {
        self.cancel_timer(Timer::Search);
        if let Some(until) = self.searches.waiting.values().map(|waiting| waiting.until).min() {
            self.set_timer(until.saturating_sub(self.now.mono), Timer::Search);
        }
        if self.searches.asked.is_some() {
            return;
        }
        let ready = self.searches.waiting.iter().find_map(|(ticket, waiting)| {
            let Stands::Ready(session) = self.server_stands(&waiting.user) else { return None };
            let (node, places) = self.server_of(&waiting.user)?;
            let ask = Search { session, text: waiting.text.clone() };
            Some((*ticket, Server::At(node, places), ask))
        });
        if let Some((ticket, server, ask)) = ready {
            self.searches.asked = Some(ticket);
            if let Some(waiting) = self.searches.waiting.get_mut(&ticket) {
                waiting.asked = Some(ask.session);
            }
            self.overlay.ask_server(ticket, server, Ask::Search(ask).to_bytes(), self.now);
        }
    }

    /// Those that have waited long enough.
    pub(super) fn searches_over(&mut self) {
        let now = self.now.mono;
        let over: Vec<u64> = self
            .searches
            .waiting
            .iter()
            .filter(|(_, one)| one.until <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in over {
            self.searches.asked = self.searches.asked.filter(|asked| *asked != ticket);
            if let Some(Waiting { user, iq, asked, .. }) = self.searches.waiting.remove(&ticket) {
                self.search_failed(user, &iq, &self.away(&user));
                self.look_again_for_server(user, asked);
            }
        }
        self.next_search();
    }

    /// An answer to such a question; false if the question was another's.
    pub(super) fn directory_said(
        &mut self,
        ticket: u64,
        answer: &Result<(NodeId, Vec<u8>), NoAnswer>,
    ) -> bool {
        if ticket < FIRST_TICKET {
            return false;
        }
        self.searches.asked = self.searches.asked.filter(|asked| *asked != ticket);
        if let Some(waiting) = self.searches.waiting.remove(&ticket) {
            let said = answer.as_ref().ok().and_then(|(_, bytes)| Answer::from_bytes(bytes));
            self.searched(ticket, waiting, said);
        }
        self.next_search();
        true
    }

    fn searched(&mut self, ticket: u64, mut waiting: Waiting, answer: Option<Answer>) {
        let user = waiting.user;
        match answer {
            Some(Answer::People(People { people })) => {
                let people = people.into_iter().filter(|person| self.is_person(&user, person));
                let people: Vec<Person> = people.take(MAX_PEOPLE).collect();
                let found = waiting.iq.result(Some(result(waiting.shape, &people)));
                self.answered_outside(user, found);
            }
            // Another pass has begun, and the server knows this device by its number.
            Some(Answer::Refused(no)) if no.why() == Why::Forgotten && !waiting.again => {
                waiting.again = true;
                self.look_again_for_server(user, waiting.asked.take());
                self.searches.waiting.insert(ticket, waiting);
            }
            Some(Answer::Refused(no)) => self.search_failed(user, &waiting.iq, &why(&no)),
            _ => {
                self.search_failed(user, &waiting.iq, &self.away(&user));
                self.look_again_for_server(user, waiting.asked);
            }
        }
    }

    /// A server speaks for its own domain only, and nothing that it says is shown that could be taken for something else.
    fn is_person(&self, user: &UserId, person: &Person) -> bool {
        let is_clean = |text: &String| crosstalk_link_local::clean::nickname(text) == *text;
        let jid = BareJid::new(&person.address).ok().filter(|jid| jid.node().is_some());
        let domain = self.accounts.get(user).map(|account| account.stored.domain.as_str());
        jid.is_some_and(|jid| Some(jid.domain().as_str()) == domain)
            && is_clean(&person.nickname)
            && is_clean(&person.full_name)
    }

    fn search_failed(&mut self, user: UserId, iq: &Stanza, error: &StanzaError) {
        if let Some(answer) = iq.error(error) {
            self.answered_outside(user, answer);
        }
    }

    fn away(&self, user: &UserId) -> StanzaError {
        let domain = self.accounts.get(user).map(|account| account.stored.domain.clone()).unwrap_or_default();
        let text =
            format!("the server of {domain}, which has the directory, is away: search again when it is back");
        StanzaError::new(Condition::RemoteServerTimeout, text)
    }
}

/// What the client is told of a refusal.
fn why(no: &No) -> StanzaError {
    match no.why() {
        Why::Forgotten => StanzaError::new(
            Condition::RemoteServerTimeout,
            "the server of the domain has just begun anew: search again in a moment",
        ),
        Why::TooShort => StanzaError::new(
            Condition::NotAcceptable,
            "that is too short: say at least two letters of a name",
        ),
        Why::TooMany => StanzaError::new(
            Condition::NotAcceptable,
            format!("more than {MAX_PEOPLE} people have such a name: say more of it"),
        ),
        Why::Slowly => StanzaError::new(
            Condition::ResourceConstraint,
            format!("you have searched a lot: search again in {} s", no.wait.div_ceil(SECOND)),
        ),
        Why::NoDirectory => StanzaError::new(
            Condition::ServiceUnavailable,
            "the server of the domain has no directory any more",
        ),
        Why::Trouble => {
            StanzaError::new(Condition::RemoteServerTimeout, "the server cannot read its directory now")
        }
        _ => StanzaError::new(Condition::Forbidden, "the server of the domain does not let you search"),
    }
}
