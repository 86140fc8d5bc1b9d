//! Subscriptions and presence between users here and contacts outside. The server keeps how they stand, since it is there when a
//! contact says something; what is changed here counts at once, and is told to it by a letter. *Pure.*

use crosstalk_overlay::enrol::OutsideContact;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::Subscription;
use crosstalk_storage::tree::roster::RosterItem;
use crosstalk_storage::tree::upstream::{Contact, OutsideState, State, of_contact};
use crosstalk_storage::{Tree, encode};
use jid::{BareJid, Jid};

use super::letters::no_way;
use super::{PRESENCE, SEEN, subscription};
use crate::core::contacts::new_item;
use crate::core::router::Route;
use crate::core::session::SessionId;
use crate::core::{Core, Origin};
use crate::xmpp::{Kind, Stanza, StanzaError, Type};

/// Requests shown to a client that comes.
const REQUESTS_SHOWN: usize = 100;

impl Core {
    /// How a user stands with an address outside.
    fn outside_contact(&self, user: &UserId, address: &str) -> Contact {
        let way = self.upstream.ways.get(user);
        way.and_then(|way| way.contacts.get(address)).copied().unwrap_or_default()
    }

    /// The same, for a contact list; nothing if it is not about somebody outside.
    pub(in crate::core) fn outside_subscription(&self, user: UserId, address: &str) -> Option<Subscription> {
        let Contact { to, from, ask, pending_in, .. } =
            *self.upstream.ways.get(&user)?.contacts.get(address)?;
        Some(Subscription { to, from, ask, pending_in })
    }

    /// A client's word about the subscription with somebody outside.
    pub(in crate::core) fn subscription_outside(
        &mut self,
        id: SessionId,
        user: UserId,
        to: &BareJid,
        stanza: &Stanza,
    ) {
        match self.say_of_contact(user, to, stanza.type_, true) {
            Ok(()) => {
                self.dirty.insert(id);
            }
            Err(error) => self.bounce(Origin::Session(id), stanza, &error),
        }
    }

    /// A user says something about a subscription with somebody outside; whether it is `shown` what it makes of the contact.
    fn say_of_contact(
        &mut self,
        user: UserId,
        to: &BareJid,
        type_: Type,
        shown: bool,
    ) -> Result<(), StanzaError> {
        if !self.has_way(&user) {
            return Err(no_way());
        }
        if let Some(error) = self.store_error() {
            return Err(error);
        }
        let before = self.outside_contact(&user, to.as_str());
        let Some(after) = subscription::outbound(before, type_) else {
            let approved = type_ == Type::Subscribed;
            return match type_ {
                Type::Subscribed | Type::Unsubscribed if !before.from => {
                    self.approve_name_in_advance(user, to, approved)
                }
                _ => Ok(()),
            };
        };
        if matches!(type_, Type::Subscribe | Type::Subscribed) {
            self.ensure_contact(user, to, None)?;
        }
        let own = self.accounts.get(&user).map(|account| Jid::from(account.jid.clone()));
        let mut letter = Stanza::new(Kind::Presence, type_);
        (letter.from, letter.to) = (own, Some(to.clone().into()));
        self.write_letter(user, &letter)?;
        self.contact_stands(user, to, before, after, shown);
        match type_ {
            Type::Subscribe | Type::Subscribed => self.want_contact(user, to),
            _ => Ok(()),
        }
    }

    /// Ends both directions with a contact that is removed from the list.
    ///
    /// # Errors
    /// When the contact cannot be told.
    pub(in crate::core) fn end_outside(
        &mut self,
        user: UserId,
        item: &RosterItem,
    ) -> Result<(), StanzaError> {
        let known = self.upstream.ways.get(&user).is_some_and(|way| way.contacts.contains_key(&item.jid));
        let Ok(to) = BareJid::new(&item.jid) else { return Ok(()) };
        if !known || !self.has_way(&user) {
            return Ok(());
        }
        self.say_of_contact(user, &to, Type::Unsubscribe, false)?;
        self.say_of_contact(user, &to, Type::Unsubscribed, false)
    }

    fn contact_stands(
        &mut self,
        user: UserId,
        contact: &BareJid,
        before: Contact,
        after: Contact,
        shown: bool,
    ) {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        let after = Contact { version: 0, ..after };
        way.contacts.insert(contact.to_string(), after);
        let key = of_contact(user.as_bytes(), contact.as_str());
        let state = OutsideState { state: Some(State::Contact(after)) };
        match subscription::is_none(&after) {
            true => {
                way.contacts.remove(contact.as_str());
                self.writes.delete(Tree::Outside, key);
            }
            false => self.writes.put(Tree::Outside, key, encode(&state)),
        }
        if shown && (before.to, before.from, before.ask) != (after.to, after.from, after.ask) {
            self.push_outside(user, contact, &after);
        }
        if before.to && !after.to {
            self.contact_outside_is_gone(user, contact);
        }
    }

    /// The contact list says how the contact stands. Whoever is seen, or sees, is listed (RFC 6121 §3.1.6), unless removed here.
    fn push_outside(&mut self, user: UserId, contact: &BareJid, after: &Contact) {
        let Some(account) = self.accounts.get(&user) else { return };
        let item = match account.roster.items.get(contact.as_str()) {
            Some(item) if item.removed => return,
            Some(item) => item.clone(),
            None if after.to || after.from || after.ask => new_item(contact, None),
            None => return,
        };
        if self.put_contact(user, item).is_err() {
            self.count("contact list changes that could not be saved");
        }
    }

    /// The server says how contacts stand.
    pub(super) fn contacts_changed(&mut self, user: UserId, contacts: Vec<OutsideContact>) {
        for OutsideContact { address, to, from, ask, pending_in, version } in contacts {
            if let Some(way) = self.upstream.ways.get_mut(&user) {
                way.come.version = way.come.version.max(version);
            }
            let Ok(contact) = BareJid::new(&address) else { continue };
            let outside = self.route(&contact.clone().into()) == Route::Outside;
            // What is said here and not there yet comes back with a later version.
            if !outside || self.has_word_for(&user, &contact) {
                continue;
            }
            let before = self.outside_contact(&user, &address);
            let after = Contact { to, from, ask, pending_in, version: 0 };
            if (Contact { version: 0, ..before }) != after {
                self.contact_stands(user, &contact, before, after, true);
                self.tell_of_contact(user, &contact, before, after);
            }
        }
    }

    /// Whether a word about the subscription with a contact waits for the server.
    fn has_word_for(&self, user: &UserId, contact: &BareJid) -> bool {
        let Some(way) = self.upstream.ways.get(user) else { return false };
        let about = |stanza: Stanza| {
            stanza.kind == Kind::Presence && stanza.to.is_some_and(|to| to.to_bare() == *contact)
        };
        way.letters.values().any(|letter| Stanza::read(&letter.stanza).is_ok_and(about))
    }

    /// Tells clients what a contact must have said, by what it changed.
    fn tell_of_contact(&mut self, user: UserId, contact: &BareJid, before: Contact, after: Contact) {
        if self.accounts.get(&user).is_some_and(|account| account.blocks(&contact.clone().into())) {
            return self.count("subscriptions of blocked addresses");
        }
        let known = self.accounts.get(&user).and_then(|account| account.roster.get(contact.as_str()));
        let approved = known.is_some_and(|item| item.approved);
        if after.pending_in && !before.pending_in {
            if approved {
                if self.say_of_contact(user, contact, Type::Subscribed, true).is_err() {
                    self.count("grants that could not be sent");
                }
            } else {
                self.tell(user, contact, Type::Subscribe);
            }
        }
        if after.to && !before.to {
            self.tell(user, contact, Type::Subscribed);
        }
        if (before.to || before.ask) && !(after.to || after.ask) {
            self.tell(user, contact, Type::Unsubscribed);
        }
        if before.from && !after.from {
            self.tell(user, contact, Type::Unsubscribe);
        }
    }

    /// Requests from outside that nobody has answered, for a client that comes.
    pub(in crate::core) fn requests_outside(&self, user: &UserId) -> Vec<Stanza> {
        let Some(way) = self.upstream.ways.get(user) else { return Vec::new() };
        let pending = way.contacts.iter().filter(|(_, contact)| contact.pending_in).take(REQUESTS_SHOWN);
        let stanza = |(address, _): (&String, &Contact)| {
            Some(Stanza {
                from: Some(Jid::new(address).ok()?),
                ..Stanza::new(Kind::Presence, Type::Subscribe)
            })
        };
        pending.filter_map(stanza).collect()
    }

    /// Presence of contacts outside, as the server last said.
    pub(in crate::core) fn presences_outside(&self, user: &UserId) -> Vec<Stanza> {
        self.upstream.ways.get(user).map(|way| way.seen.values().cloned().collect()).unwrap_or_default()
    }

    /// Contacts outside of whom it is not known that they are there, each said to be gone.
    pub(in crate::core) fn unseen_outside(&self, user: &UserId) -> Vec<Stanza> {
        let Some(way) = self.upstream.ways.get(user) else { return Vec::new() };
        let unseen =
            way.contacts.iter().filter(|(_, contact)| contact.to).filter(|(address, _)| {
                !way.seen.keys().any(|from| from.to_bare().as_str() == address.as_str())
            });
        let gone = |(address, _): (&String, &Contact)| {
            let from = Some(Jid::new(address).ok()?);
            Some(Stanza { from, ..Stanza::new(Kind::Presence, Type::Unavailable) })
        };
        unseen.filter_map(gone).collect()
    }

    /// Somebody outside shows itself, or takes that back.
    pub(super) fn presence_from_outside(&mut self, user: UserId, presence: Stanza) {
        let Some(from) = presence.from.clone() else { return };
        let shown = self.outside_contact(&user, from.to_bare().as_str()).to;
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        let whole = presence.to.as_ref().is_none_or(|to| to.resource().is_none());
        match presence.type_ {
            Type::Available if whole && !shown => {
                return self.count("presence of people outside nobody here subscribed to");
            }
            Type::Available if whole && way.seen.len() < SEEN => {
                drop(way.seen.insert(from, presence.clone()))
            }
            Type::Unavailable => drop(way.seen.remove(&from)),
            _ => {}
        }
        self.presence_for_local(user, presence);
    }

    /// Nobody knows any longer how people outside are.
    pub(super) fn nobody_outside_is_seen(&mut self, user: UserId) {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        way.told.clear();
        let seen = std::mem::take(&mut way.seen);
        self.take_back(user, seen.into_values());
    }

    fn contact_outside_is_gone(&mut self, user: UserId, contact: &BareJid) {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        let (gone, seen) =
            std::mem::take(&mut way.seen).into_iter().partition(|(from, _)| from.to_bare() == *contact);
        way.seen = seen;
        let gone: std::collections::BTreeMap<Jid, Stanza> = gone;
        self.take_back(user, gone.into_values());
    }

    fn take_back(&mut self, user: UserId, presences: impl IntoIterator<Item = Stanza>) {
        let Some(account) = self.accounts.get(&user) else { return };
        let to = Some(Jid::from(account.jid.clone()));
        for presence in presences {
            let gone = Stanza { type_: Type::Unavailable, payload: Vec::new(), to: to.clone(), ..presence };
            self.presence_for_local(user, gone);
        }
    }

    /// The sessions of a user have changed: the server is told what the contacts outside may see.
    pub(in crate::core) fn show_outside(&mut self, user: UserId) {
        if self.upstream.ways.get(&user).is_some_and(|way| way.session.is_some()) {
            self.stir_soon(user);
        }
    }

    /// What the server does not know yet of the sessions here goes with the next question.
    pub(super) fn say_presence(&mut self, user: UserId) {
        let ids = self.sessions_of(user, |session| session.presence.is_some());
        let here = ids.iter().filter_map(|id| {
            let session = self.session(*id)?;
            let presence = Stanza { to: None, id: None, ..session.presence.clone()? };
            let presence = Stanza { from: Some(session.jid.clone().into()), ..presence };
            Some((session.jid.resource().as_str().to_owned(), presence))
        });
        let here: Vec<(String, Stanza)> = here.collect();
        let Some(account) = self.accounts.get(&user) else { return };
        let own = account.jid.clone();
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        if way.fresh {
            way.told.clear();
        }
        let gone: Vec<String> = way
            .told
            .keys()
            .filter(|told| here.iter().all(|(resource, _)| resource != *told))
            .cloned()
            .collect();
        let mut said = Vec::new();
        for resource in gone {
            way.told.remove(&resource);
            let mut stanza = Stanza::new(Kind::Presence, Type::Unavailable);
            stanza.from = own.with_resource_str(&resource).ok().map(Jid::from);
            said.push(stanza.to_bytes());
        }
        for (resource, presence) in here {
            let bytes = presence.to_bytes();
            if bytes.len() <= PRESENCE && way.told.get(&resource) != Some(&bytes) {
                way.told.insert(resource, bytes.clone());
                said.push(bytes);
            }
        }
        way.live_bytes += said.iter().map(Vec::len).sum::<usize>();
        // Before what the same sessions say to somebody.
        said.into_iter().rev().for_each(|bytes| way.live.push_front(bytes));
    }

    /// Presence of a local user for one address outside.
    pub(in crate::core) fn directed_outside(&mut self, user: UserId, presence: &Stanza) {
        if self.say_outside(user, presence).is_err() {
            self.count("directed presence for which there was no way");
        }
    }
}
