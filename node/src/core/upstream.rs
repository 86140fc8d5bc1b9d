//! The way of users here to addresses outside the overlay, by the server of their domain: what is written waits on disk until
//! the server has it, what comes is acknowledged once it is on disk here (`overlay/PROTOCOL.md` §14). The server's side is
//! [`crate::upstream`]. *Pure.*
//!
//! | file | does |
//! | --- | --- |
//! | `exchange` | questions to the server and its answers |
//! | `letters` | messages, requests and answers, both ways |
//! | `contacts` | subscriptions and presence, both ways |
//! | [`subscription`] | the states of RFC 6121, for both sides |

mod contacts;
mod exchange;
mod letters;
pub mod subscription;

use std::collections::{BTreeMap, VecDeque};

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::upstream::{
    Come, Contact, HeldStanza, OutsideState, State, of_contact, of_user, queued,
};
use crosstalk_storage::{Tree, encode};
use jid::Jid;
use serde::{Deserialize, Serialize};

use super::{Core, Timer};
use crate::xmpp::Stanza;

/// Letters of one user that wait for the server, and their bytes.
const LETTERS: usize = 2_000;
const BYTES: usize = 4 << 20;
/// Of all users here.
const ALL_LETTERS: usize = 20_000;
/// Stanzas of one user for now or never that wait for the next question, and their bytes.
const LIVE: usize = 256;
const LIVE_BYTES: usize = 256 << 10;
/// Bytes of the presence of one session that is told outside.
pub const PRESENCE: usize = 4 * 1_024;
/// Sessions of contacts outside that one user is shown.
const SEEN: usize = 6_000;

/// The ways of all users here.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    ways: BTreeMap<UserId, Way>,
    asked: BTreeMap<u64, Asked>,
    tickets: u64,
}

/// A question that is under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    user: UserId,
    session: u64,
    /// It tells everything, and asks for everything.
    fresh: bool,
}

/// One user's.
#[derive(Debug, Default)]
struct Way {
    /// Of the last sync, while the server answers.
    session: Option<u64>,
    /// Whether the server is connected to the outside.
    up: bool,
    letters: BTreeMap<u64, HeldStanza>,
    bytes: usize,
    next: u64,
    come: Come,
    contacts: BTreeMap<String, Contact>,
    /// Presence of contacts outside, by full address.
    seen: BTreeMap<Jid, Stanza>,
    live: VecDeque<Vec<u8>>,
    live_bytes: usize,
    /// What the server was told of the sessions here.
    told: BTreeMap<String, Vec<u8>>,
    /// It is to be told everything, and tells everything.
    fresh: bool,
    asking: bool,
    /// The last letter of the last question.
    tried: u64,
    /// Something came up since that question.
    again: bool,
    /// Questions in which the server took none of the letters.
    vain: u32,
    /// When it is asked next: monotonic milliseconds.
    due: u64,
}

/// How the way to the outside stands, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideView {
    /// `up`, or `down`: the server, or its link to the outside.
    pub state: String,
    /// Messages that the server has not taken yet.
    pub held: usize,
}

impl Core {
    /// What was stored of a user who has a way, and of none who has not.
    pub(super) fn load_upstream(
        &mut self,
        letters: Vec<(UserId, u64, HeldStanza)>,
        states: Vec<(Vec<u8>, OutsideState)>,
    ) {
        for (user, number, letter) in letters {
            if !self.accounts.contains(&user) {
                self.writes.delete(Tree::Upstream, queued(user.as_bytes(), number));
                continue;
            }
            let way = self.upstream.ways.entry(user).or_default();
            way.next = way.next.max(number);
            way.bytes += letter.stanza.len();
            way.letters.insert(number, letter);
        }
        for (key, OutsideState { state }) in states {
            let user =
                key.get(1..33).and_then(UserId::from_slice).filter(|user| self.accounts.contains(user));
            let Some(user) = user else {
                self.writes.delete(Tree::Outside, key);
                continue;
            };
            let way = self.upstream.ways.entry(user).or_default();
            match state {
                Some(State::Come(come)) => {
                    way.next = way.next.max(come.sent);
                    way.come = come;
                }
                Some(State::Contact(contact)) => {
                    if let Ok(address) = std::str::from_utf8(&key[33..]) {
                        way.contacts.insert(address.to_owned(), contact);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a user has a way to the outside, up or not.
    pub(super) fn has_way(&self, user: &UserId) -> bool {
        let home = self.accounts.get(user).and_then(|account| account.stored.server.as_ref());
        home.is_some_and(|home| home.upstream)
    }

    /// Letters that wait here for servers.
    pub(super) fn letters_waiting(&self) -> usize {
        self.upstream.ways.values().map(|way| way.letters.len()).sum()
    }

    /// Contacts outside that are known here.
    pub(super) fn outside_contacts(&self) -> usize {
        self.upstream.ways.values().map(|way| way.contacts.len() + 1).sum()
    }

    /// How a user's way stands.
    pub(super) fn outside_view(&self, user: &UserId) -> Option<OutsideView> {
        let way = self.upstream.ways.get(user).filter(|_| self.has_way(user))?;
        let up = way.up && way.session.is_some();
        Some(OutsideView { state: if up { "up" } else { "down" }.to_owned(), held: way.letters.len() })
    }

    /// The account is removed.
    pub(super) fn forget_way(&mut self, user: &UserId) {
        let Some(way) = self.upstream.ways.remove(user) else { return };
        for number in way.letters.keys() {
            self.writes.delete(Tree::Upstream, queued(user.as_bytes(), *number));
        }
        for address in way.contacts.keys() {
            self.writes.delete(Tree::Outside, of_contact(user.as_bytes(), address));
        }
        self.writes.delete(Tree::Outside, of_user(user.as_bytes()));
    }

    fn save_come(&mut self, user: &UserId) {
        let Some(way) = self.upstream.ways.get(user) else { return };
        let state = OutsideState { state: Some(State::Come(way.come)) };
        self.writes.put(Tree::Outside, of_user(user.as_bytes()), encode(&state));
    }

    fn plan_exchange(&mut self) {
        self.cancel_timer(Timer::Upstream);
        let waiting = self.upstream.ways.values().filter(|way| way.session.is_some() && !way.asking);
        if let Some(due) = waiting.map(|way| way.due).min().filter(|due| *due < u64::MAX) {
            self.set_timer(due.saturating_sub(self.now.mono), Timer::Upstream);
        }
    }
}
