//! Names that nobody here has met, of domains whose authority is known: who has one is asked of the hash table, by turns;
//! what was said to it waits on disk until that is known. A contact listed by such a name is a wish to see its presence.
//! *Pure.*

use std::collections::BTreeMap;
use std::fmt;

use crosstalk_overlay::core::{Lookup, Outgoing, Target, Unreachable};
use crosstalk_overlay::id::{MessageId, UserId};
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, SECOND};
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::roster::RosterItem;
use crosstalk_storage::tree::unaddressed::{Unaddressed, key};
use jid::{BareJid, Jid};

use crate::features::delay;
use crate::xmpp::{Condition, Stanza, StanzaError, Type};

use super::admin::OutboxView;
use super::contacts::new_item;
use super::message::{Arrival, Delivered, content_of, is_durable, is_only_chat_state};
use super::remote::{NOTICEABLE, unreachable};
use super::room::full;
use super::router::Route;
use super::session::SessionId;
use super::{Core, Origin, Timer};

/// The look-ups of this file, of which there is one at a time; those that a person watches have lower numbers.
pub(super) const TICKET: u64 = u64::MAX;
/// What waits for names: messages of an account, and their bytes.
const MAX_WAITING: usize = 500;
const MAX_BYTES: usize = 2 << 20;
/// How long, as for any other message that is on its way.
const LIFE: u64 = 30 * DAY;
/// So many answered look-ups without a value, and whoever wrote to the name is told.
const IN_VAIN: u32 = 3;
/// The first pause between look-ups; each next one is twice as long, up to the last.
const FIRST_PAUSE: u64 = 20 * SECOND;
const LAST_PAUSE: u64 = 6 * HOUR;
/// The pause where it is known who has the name, and there was no room in the outbox for all of it.
const AGAIN: u64 = MINUTE;

/// A message that waits.
pub(super) struct Waiting {
    name: String,
    stanza: Vec<u8>,
    message: [u8; 16],
    since: u64,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({} bytes since {})", self.stanza.len(), self.since)
    }
}

/// A name that is looked for.
#[derive(Debug, Default)]
struct Sought {
    /// When it is looked for next, monotonic milliseconds.
    due: u64,
    /// Look-ups since somebody wrote to it, or since there were new nodes to ask.
    asked: u32,
    /// Those that nodes have answered, and none with a value.
    in_vain: u32,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Names {
    waiting: BTreeMap<(UserId, u64), Waiting>,
    sought: BTreeMap<String, Sought>,
    /// The name that is being looked for.
    asked: Option<String>,
    next: u64,
}

impl Names {
    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Messages of an account, and their bytes.
    fn load_of(&self, user: &UserId) -> (usize, usize) {
        let of_user = self.of_user(user).map(|(_, waiting)| waiting.stanza.len());
        of_user.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    fn of_user(&self, user: &UserId) -> impl Iterator<Item = (u64, &Waiting)> {
        self.waiting.range((*user, 0)..=(*user, u64::MAX)).map(|((_, number), waiting)| (*number, waiting))
    }

    fn for_name(&self, name: &str) -> Vec<(UserId, u64)> {
        self.waiting.iter().filter(|(_, waiting)| waiting.name == name).map(|(place, _)| *place).collect()
    }
}

impl Core {
    /// What waited when the node stopped waits again; contacts of whom only a name is known are looked for.
    pub(super) fn load_names(&mut self, waiting: Vec<(UserId, u64, Unaddressed)>) {
        for (user, number, Unaddressed { name, stanza, message, since }) in waiting {
            let message = message.try_into().unwrap_or_default();
            self.names.next = self.names.next.max(number + 1);
            if self.accounts.contains(&user) {
                self.names.waiting.insert((user, number), Waiting { name, stanza, message, since });
            } else {
                self.writes.delete(Tree::Unaddressed, key(user.as_bytes(), number));
            }
        }
        self.seek_names();
    }

    /// All names that are wanted are looked for now: there is somebody new to ask, or an authority.
    pub(super) fn seek_names(&mut self) {
        let listed = self.accounts.iter().flat_map(|account| account.roster.listed());
        let listed = listed.filter(|item| item.user.is_none() && self.is_name(&item.jid));
        let listed = listed.map(|item| item.jid.clone());
        let waited_for = self.names.waiting.values().map(|waiting| waiting.name.clone());
        let wanted: Vec<String> = listed.chain(waited_for).collect();
        let due = self.now.mono;
        for name in wanted {
            let sought = self.names.sought.entry(name).or_default();
            (sought.due, sought.asked) = (due, 0);
        }
        self.arm_names();
    }

    /// A key counts for a domain that did not before: names under it are looked for, or known already.
    pub(super) fn domains_changed(&mut self) {
        self.seek_names();
        let sought: Vec<String> = self.names.sought.keys().cloned().collect();
        for name in sought {
            self.name_is_known(&name);
        }
    }

    /// Whether somebody may have this address whom nobody here has met.
    pub(super) fn is_name(&self, bare: &str) -> bool {
        BareJid::new(bare).is_ok_and(|bare| matches!(self.route(&bare.into()), Route::Name(_)))
    }

    /// Looks for a name, unless it is looked for already.
    pub(super) fn seek_name(&mut self, name: &BareJid) {
        let due = self.now.mono;
        self.names.sought.entry(name.to_string()).or_insert(Sought { due, ..Sought::default() });
        self.arm_names();
    }

    /// Does not look for a name any more that nobody here wants.
    pub(super) fn forget_name(&mut self, name: &str) {
        if !self.is_wanted(name) {
            self.names.sought.remove(name);
        }
    }

    fn arm_names(&mut self) {
        self.cancel_timer(Timer::Names);
        let now = self.now;
        let look = self.names.sought.values().map(|sought| sought.due).min();
        let look = look.filter(|_| self.names.asked.is_none() && self.overlay.has_table());
        let ends = self.names.waiting.values().map(|waiting| waiting.since.saturating_add(LIFE)).min();
        let ends = ends.map(|ends| now.mono.saturating_add(ends.saturating_sub(now.wall)));
        if let Some(when) = look.into_iter().chain(ends).min() {
            self.set_timer(when.saturating_sub(now.mono), Timer::Names);
        }
    }

    /// Gives up what has waited too long, and looks for the next name.
    pub(super) fn names_due(&mut self) {
        let old = |waiting: &Waiting| waiting.since.saturating_add(LIFE) <= self.now.wall;
        let ended: Vec<_> =
            self.names.waiting.iter().filter(|(_, waiting)| old(waiting)).map(|(place, _)| *place).collect();
        let text = "nobody with this name was found for thirty days";
        let error = StanzaError::new(Condition::RemoteServerTimeout, text);
        for place in ended {
            let name = self.names.waiting.get(&place).map(|waiting| waiting.name.clone());
            self.name_failed(place, &error);
            name.into_iter().for_each(|name| self.forget_name(&name));
        }
        if self.names.asked.is_none() && self.overlay.has_table() {
            self.ask_for_next();
        }
        self.arm_names();
    }

    fn ask_for_next(&mut self) {
        let now = self.now.mono;
        let first = self.names.sought.iter().filter(|(_, sought)| sought.due <= now);
        let Some(name) = first.min_by_key(|(_, sought)| sought.due).map(|(name, _)| name.clone()) else {
            return;
        };
        self.overlay.look_up(TICKET, &Target::Name(name.clone()), self.now);
        self.names.asked = Some(name);
    }

    fn is_wanted(&self, name: &str) -> bool {
        let lists = |account: &super::account::Account| {
            account.roster.get(name).is_some_and(|item| item.user.is_none())
        };
        self.names.waiting.values().any(|waiting| waiting.name == name) || self.accounts.iter().any(lists)
    }

    /// A look-up of this file has ended.
    pub(super) fn name_looked_up(&mut self, lookup: &Lookup) {
        let Some(name) = self.names.asked.take() else { return };
        let now = self.now.mono;
        if self.name_is_known(&name) {
            if let Some(sought) = self.names.sought.get_mut(&name) {
                // There was no room for all of it.
                sought.due = now + AGAIN;
            }
        } else if let Some(sought) = self.names.sought.get_mut(&name) {
            sought.due = now + (FIRST_PAUSE << sought.asked.min(12)).min(LAST_PAUSE);
            sought.asked = sought.asked.saturating_add(1);
            if lookup.steps.iter().any(|step| step.trace.answered > 0) {
                sought.in_vain = sought.in_vain.saturating_add(1);
            }
            if sought.in_vain >= IN_VAIN {
                self.nobody_has(&name);
            }
        }
        self.arm_names();
    }

    /// Who wrote to a name that nobody has published is told.
    fn nobody_has(&mut self, name: &str) {
        let text = format!("nobody is known by the name {name} now: is it spelt like this?");
        let error = StanzaError::new(Condition::ItemNotFound, text);
        self.names.for_name(name).into_iter().for_each(|place| self.name_failed(place, &error));
        self.forget_name(name);
    }

    fn name_failed(&mut self, place: (UserId, u64), error: &StanzaError) {
        let Some(waiting) = self.take_waiting(place) else { return };
        if let Some(news) = Stanza::read(&waiting.stanza).ok().and_then(|stanza| stanza.error(error)) {
            let number = self.news_number();
            self.tell_news(place.0, number, &news);
        }
    }

    fn take_waiting(&mut self, place: (UserId, u64)) -> Option<Waiting> {
        self.writes.delete(Tree::Unaddressed, key(place.0.as_bytes(), place.1));
        self.names.waiting.remove(&place)
    }

    /// Does what waited for a name, if it is known by now who has it. Returns whether it is.
    pub(super) fn name_is_known(&mut self, name: &str) -> bool {
        let Some(other) = self.overlay.user_by_name(name) else { return false };
        for place in self.names.for_name(name) {
            if !self.send_waiting(place, other) {
                break;
            }
        }
        let lists = |account: &&super::account::Account| account.roster.get(name).is_some();
        let listing: Vec<UserId> = self.accounts.iter().filter(lists).map(|account| account.user).collect();
        listing.into_iter().for_each(|account| self.resolve_contact(account, name, other));
        self.forget_name(name);
        true
    }

    /// Somebody has this address; what waits for it as a name does so no longer.
    pub(super) fn name_is_met(&mut self, to: &Jid) {
        let name = to.to_bare();
        if self.names.sought.contains_key(name.as_str()) {
            self.name_is_known(name.as_str());
        }
    }

    /// Somebody was met whose name others may have waited for.
    pub(super) fn named_was_met(&mut self, other: &UserId) {
        let name = self.overlay.name_of(other).and_then(|name| Jid::new(&name.address).ok());
        name.into_iter().for_each(|name| self.name_is_met(&name));
    }

    /// Sends one message that waited. False: it waits on, as there is no room for it.
    fn send_waiting(&mut self, place: (UserId, u64), other: UserId) -> bool {
        let Some(waiting) = self.names.waiting.get(&place) else { return true };
        let (message, since) = (waiting.message, waiting.since);
        let Ok(mut stanza) = Stanza::read(&waiting.stanza) else {
            self.count("messages for names that could not be read");
            self.take_waiting(place);
            return true;
        };
        let (from, to) = (place.0, stanza.to.clone());
        if self.now.wall.saturating_sub(since) > NOTICEABLE {
            delay::stamp(&mut stanza, &self.domain(), since);
        }
        if self.accounts.contains(&other) {
            let arrival = Arrival { message, promised: true, sent: None };
            match self.deliver_message(other, stanza, arrival) {
                Delivered::Refused(error) => self.name_failed(place, &error),
                Delivered::Taken | Delivered::Dropped => drop(self.take_waiting(place)),
            }
            return true;
        }
        let id = MessageId::from_bytes(message);
        let (content, expires) = (content_of(&stanza), Some(since.saturating_add(LIFE)));
        if self.overlay.send(Outgoing { id, from, to: other, content, expires }, self.now).is_err() {
            return false;
        }
        self.take_waiting(place);
        if let Some(to) = to {
            self.copy_to_own_devices(from, message, &to, &stanza);
        }
        true
    }

    /// A message of a local user to a name. Returns whether it was taken.
    pub(super) fn message_to_name(
        &mut self,
        origin: Origin,
        from: UserId,
        name: &BareJid,
        message: &Stanza,
        arrival: Arrival,
    ) -> bool {
        if !is_durable(message) {
            if !is_only_chat_state(message) {
                self.bounce(origin, message, &unreachable(message.kind, Unreachable::NotLive));
            }
            return false;
        }
        if !self.has_room(Tree::Unaddressed, 1) {
            self.bounce(origin, message, &full("messages for names that nobody here has met"));
            return false;
        }
        let stanza = message.to_bytes();
        let (count, bytes) = self.names.load_of(&from);
        if count >= MAX_WAITING || bytes + stanza.len() > MAX_BYTES {
            let text = "too many messages wait for names of which nobody knows who has them";
            self.bounce(origin, message, &StanzaError::new(Condition::ResourceConstraint, text));
            return false;
        }
        let (name, since) = (name.to_string(), self.now.wall);
        let stored = Unaddressed {
            name: name.clone(),
            stanza: stanza.clone(),
            message: arrival.message.to_vec(),
            since,
        };
        let is_first = self.names.for_name(&name).is_empty();
        let number = self.names.next;
        self.names.next += 1;
        self.writes.put(Tree::Unaddressed, key(from.as_bytes(), number), encode(&stored));
        let waiting = Waiting { name: name.clone(), stanza, message: arrival.message, since };
        self.names.waiting.insert((from, number), waiting);
        if is_first {
            // Whoever writes wants to know soon.
            let due = self.now.mono;
            self.names.sought.insert(name, Sought { due, ..Sought::default() });
        }
        self.arm_names();
        true
    }

    /// A client's word about the subscription with somebody of whom only the name is known.
    pub(super) fn subscription_to_name(
        &mut self,
        id: SessionId,
        user: UserId,
        name: &BareJid,
        stanza: &Stanza,
    ) {
        let done = match stanza.type_ {
            Type::Subscribe => self.wish_for(user, name),
            Type::Subscribed | Type::Unsubscribed => {
                self.approve_name_in_advance(user, name, stanza.type_ == Type::Subscribed)
            }
            _ => {
                let text = "nobody with this name was found yet: remove the contact to take the request back";
                Err(StanzaError::new(Condition::NotAllowed, text))
            }
        };
        match done {
            Ok(()) => {
                self.dirty.insert(id);
            }
            Err(error) => self.bounce(Origin::Session(id), stanza, &error),
        }
    }

    fn wish_for(&mut self, user: UserId, name: &BareJid) -> Result<(), StanzaError> {
        let item = self.listed_by_name(user, name).unwrap_or_else(|| new_item(name, None));
        self.put_wanted(user, item)?;
        self.seek_name(name);
        Ok(())
    }

    fn listed_by_name(&self, user: UserId, name: &BareJid) -> Option<RosterItem> {
        self.accounts.get(&user)?.roster.get(name.as_str()).cloned()
    }

    pub(super) fn approve_name_in_advance(
        &mut self,
        user: UserId,
        name: &BareJid,
        approved: bool,
    ) -> Result<(), StanzaError> {
        match self.listed_by_name(user, name) {
            Some(item) if item.approved == approved => Ok(()),
            None if !approved => Ok(()),
            listed => {
                let item = listed.unwrap_or_else(|| new_item(name, None));
                self.put_contact(user, RosterItem { approved, ..item })
            }
        }
    }

    /// What waits for names, for `crosstalk outbox`.
    pub(super) fn unaddressed_views(&self) -> impl Iterator<Item = OutboxView> {
        self.names.waiting.iter().filter_map(|((from, _), waiting)| {
            Some(OutboxView {
                id: MessageId::from_bytes(waiting.message).to_hex(),
                from: self.accounts.get(from)?.login(),
                to: waiting.name.clone(),
                queued: waiting.since,
                expires: waiting.since.saturating_add(LIFE),
                waits: "somebody with this name to be found".to_owned(),
                held: 0,
            })
        })
    }

    /// The account is removed, with what it has said.
    pub(super) fn forget_waiting(&mut self, user: &UserId) {
        let numbers: Vec<u64> = self.names.of_user(user).map(|(number, _)| number).collect();
        for number in numbers {
            self.take_waiting((*user, number));
        }
    }
}
