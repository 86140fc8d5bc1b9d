//! Subscriptions (RFC 6121 §3 and appendix A) on signed contact records: a client's stanza becomes a record, a record
//! becomes the stanza and the roster push of the other side. *Pure.*

use crosstalk_overlay::core::{Outgoing, Unreachable};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::{MessageId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{ContactRecord, Says, Subscription, Verified};
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::contact_record::{StoredContactRecord, key};
use crosstalk_storage::tree::roster::RosterItem;
use jid::{BareJid, Jid};
use rand_core::Rng;

use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type};

use super::contacts::new_item;
use super::message::unreachable_name;
use super::remote::unreachable;
use super::roster::user_of;
use super::router::{Route, is_link_domain};
use super::session::SessionId;
use super::{Core, Origin, room};

/// Unanswered requests shown to a client that comes; the others follow when some were answered.
const REQUESTS_SHOWN: usize = 100;
/// What others say is told the user's other devices while fewer messages of the user wait here.
const OUTBOX_FOR_OTHERS: usize = 200;

impl Core {
    pub(super) fn subscription_from_client(&mut self, id: SessionId, stanza: Stanza) {
        let Some(user) = self.session(id).map(|session| session.user) else { return };
        let Some(to) = stanza.to.as_ref().map(Jid::to_bare) else { return };
        if self.accounts.get(&user).is_some_and(|account| account.blocks(&Jid::from(to.clone()))) {
            return self.bounce(Origin::Session(id), &stanza, &crate::features::blocking::blocked_by_you());
        }
        if is_link_domain(to.domain().as_str()) {
            return self.link_subscription(id, user, &to, &stanza);
        }
        if let Route::Name(name) = self.route(&to.clone().into()) {
            return self.subscription_to_name(id, user, &name, &stanza);
        }
        if self.route(&to.clone().into()) == Route::Outside {
            return self.subscription_outside(id, user, &to, &stanza);
        }
        let result = match self.contact_at(user, &to) {
            Ok(other) => self.say_as_wanted(user, other, &to, stanza.type_),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                self.dirty.insert(id);
            }
            Err(error) => self.bounce(Origin::Session(id), &stanza, &error),
        }
    }

    /// Somebody of the link is added as a client adds anybody: granted at once, since there is nobody to ask.
    fn link_subscription(&mut self, id: SessionId, user: UserId, to: &BareJid, stanza: &Stanza) {
        if stanza.type_ != Type::Subscribe {
            return;
        }
        let known = self.accounts.get(&user).and_then(|account| account.roster.get(to.as_str())).cloned();
        let added = match known {
            Some(_) => Ok(()),
            None => self.set_contact(user, to, self.link_nickname(to), Vec::new()),
        };
        match added {
            Ok(()) => {
                self.dirty.insert(id);
                self.tell(user, to, Type::Subscribed);
            }
            Err(error) => self.bounce(Origin::Session(id), stanza, &error),
        }
    }

    /// The user that an address means.
    ///
    /// # Errors
    /// What the client is told when it means nobody who is known.
    pub(super) fn contact_at(&self, user: UserId, bare: &BareJid) -> Result<UserId, StanzaError> {
        match self.route(&Jid::from(bare.clone())) {
            Route::Local(other) | Route::Overlay(other) if other != user => Ok(other),
            Route::Local(_) | Route::Overlay(_) => {
                Err(StanzaError::new(Condition::NotAllowed, "you always see your own presence"))
            }
            Route::Link(_) => {
                let text = "people of the link are seen by whoever lists them: there is nothing to ask for";
                Err(StanzaError::new(Condition::NotAllowed, text))
            }
            Route::Here => {
                Err(StanzaError::new(Condition::FeatureNotImplemented, "this node publishes no presence"))
            }
            Route::Name(_) => Err(unreachable(Kind::Presence, Unreachable::NotLive)),
            Route::Outside => Err(unreachable_name(Condition::RemoteServerNotFound)),
            Route::Refuse(condition) => Err(unreachable_name(condition)),
        }
    }

    /// A person asks, or lets see: whoever does that wants the contact.
    fn say_as_wanted(
        &mut self,
        user: UserId,
        other: UserId,
        to: &BareJid,
        type_: Type,
    ) -> Result<(), StanzaError> {
        let before = self.subscription_between(user, other);
        self.say(user, other, to, type_)?;
        let changed = self.subscription_between(user, other) != before;
        match changed && matches!(type_, Type::Subscribe | Type::Subscribed) {
            true => self.want_contact(user, to),
            false => Ok(()),
        }
    }

    /// A local user makes a statement about a subscription.
    pub(super) fn say(
        &mut self,
        user: UserId,
        other: UserId,
        bare: &BareJid,
        type_: Type,
    ) -> Result<(), StanzaError> {
        self.state(user, other, bare, type_, true)
    }

    /// The same; whether it is `shown` what it makes of the contact.
    fn state(
        &mut self,
        user: UserId,
        other: UserId,
        bare: &BareJid,
        type_: Type,
        shown: bool,
    ) -> Result<(), StanzaError> {
        if let Some(error) = self.store_error() {
            return Err(error);
        }
        if type_ == Type::Subscribe && !self.has_room_for_relation(&user, &other) {
            return Err(room::full("contacts"));
        }
        let before = self.subscription_between(user, other);
        let says = match type_ {
            Type::Subscribe if before.to => return Ok(()),
            Type::Subscribe => Says::Request,
            Type::Unsubscribe if !before.to && !before.ask => return Ok(()),
            Type::Unsubscribe => Says::Withdraw,
            Type::Subscribed if before.from => return Ok(()),
            Type::Subscribed if !before.pending_in => {
                return self.approve_in_advance(user, other, bare, true);
            }
            Type::Subscribed => Says::Grant,
            Type::Unsubscribed => {
                self.approve_in_advance(user, other, bare, false)?;
                if !before.from && !before.pending_in {
                    return Ok(());
                }
                Says::Refuse
            }
            _ => return Err(Condition::BadRequest.into()),
        };
        if matches!(says, Says::Request | Says::Grant) {
            let address =
                self.address_for(user, &other).map_or_else(|| bare.clone(), |address| address.to_bare());
            self.ensure_contact(user, &address, Some(other))?;
        }
        let last = self.overlay.sign_contact(&user, &other, says.side(), says, self.now);
        let Some(record) = last else {
            return Err(StanzaError::new(
                Condition::InternalServerError,
                "this account has no device key here",
            ));
        };
        // What cannot be told is not so: a full outbox changes nothing.
        if !self.accounts.contains(&other) {
            self.send_record(user, other, record.clone())?;
        }
        self.record_said(user, other, &record, before, shown);
        self.sync_record(user, record.bytes());
        if self.accounts.contains(&other) {
            self.send_record(user, other, record)?;
        }
        Ok(())
    }

    /// RFC 6121 §3.4: a request that has not come yet is granted already, or no longer.
    fn approve_in_advance(
        &mut self,
        user: UserId,
        other: UserId,
        bare: &BareJid,
        approved: bool,
    ) -> Result<(), StanzaError> {
        let address = self.canonical(user, bare);
        let known =
            self.accounts.get(&user).and_then(|account| account.roster.get(address.as_str())).cloned();
        let item = match known {
            Some(item) if item.approved == approved => return Ok(()),
            Some(item) => item,
            None if approved => {
                RosterItem { name: self.nickname_of(&other), ..new_item(&address, Some(other)) }
            }
            None => return Ok(()),
        };
        self.put_contact(user, RosterItem { approved, ..item })
    }

    pub(super) fn record_said(
        &mut self,
        user: UserId,
        other: UserId,
        record: &Verified<ContactRecord>,
        before: Subscription,
        shown: bool,
    ) {
        self.store_record(user, other, record);
        let after = self.subscription_between(user, other);
        if shown && before != after {
            self.push_contact_of(user, other);
        }
        if before.from != after.from {
            self.watchers_changed.insert(user);
            // Whoever may see it now on this node is shown it when the grant arrives there.
            if !after.from {
                self.own_presence_shown_to(user, other, false);
            }
        }
        if before.to && !after.to {
            self.presence_taken_back(user, other);
        }
    }

    pub(super) fn send_record(
        &mut self,
        user: UserId,
        other: UserId,
        record: Verified<ContactRecord>,
    ) -> Result<(), StanzaError> {
        if self.accounts.contains(&other) {
            // To the other's devices elsewhere it goes from here too.
            self.sync_record(other, record.bytes());
            self.record_for_local(other, record);
            return Ok(());
        }
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let content = Content::Contact(record.bytes().to_vec());
        let outgoing =
            Outgoing { id: MessageId::from_bytes(id), from: user, to: other, content, expires: None };
        let sent = self.overlay.send(outgoing, self.now);
        sent.map_err(|full| StanzaError::new(Condition::ResourceConstraint, full.to_string()))
    }

    /// A record of somebody else for an account of this node, verified. The user's other devices are told it: whoever made it may
    /// not have known of them. Nobody fills the user's outbox by that: what is not told is found by digests.
    pub(super) fn record_from_elsewhere(&mut self, user: UserId, record: Verified<ContactRecord>) {
        let (other, bytes) = (record.from, record.bytes().to_vec());
        let before = self.subscription_between(user, other);
        self.record_for_local(user, record);
        let changed = self.subscription_between(user, other) != before;
        if changed && self.overlay.outbox_of(&user) < OUTBOX_FOR_OTHERS {
            self.sync_record(user, &bytes);
        }
    }

    /// The same, whoever brought it.
    pub(super) fn record_for_local(&mut self, user: UserId, record: Verified<ContactRecord>) {
        let other = record.from;
        let Some(address) = self.address_for(user, &other) else { return };
        // Who is blocked may end what was between the two, so that both sides agree, but not be heard.
        let blocked = self.is_blocked(user, &other);
        if blocked && matches!(record.says, Says::Request | Says::Grant) {
            return self.count("contact records from blocked addresses");
        }
        let before = self.subscription_between(user, other);
        if !self.store_record(user, other, &record) {
            return self.answer_again(user, other, &record);
        }
        let after = self.subscription_between(user, other);
        let bare = address.to_bare();
        match record.says {
            Says::Request => self.requested(user, other, &bare, before, after),
            Says::Withdraw | Says::Refuse if blocked => {}
            Says::Withdraw if before.from || before.pending_in => self.tell(user, &bare, Type::Unsubscribe),
            Says::Grant if after.to && !before.to => self.tell(user, &bare, Type::Subscribed),
            Says::Refuse if before.to || before.ask => self.tell(user, &bare, Type::Unsubscribed),
            Says::Withdraw | Says::Grant | Says::Refuse => {}
        }
        if (before.to, before.from, before.ask) != (after.to, after.from, after.ask) {
            self.push_contact_of(user, other);
        }
        // A request of somebody who sees the account already was granted again meanwhile.
        if before.from && !self.subscription_between(user, other).from {
            self.watchers_changed.insert(user);
            self.own_presence_shown_to(user, other, false);
        }
        if before.to && !after.to {
            self.presence_taken_back(user, other);
        }
        if after.to && !before.to {
            self.presence_shown(user, other);
        }
    }

    /// A request: answered at once when it was approved before, else put before the person.
    fn requested(
        &mut self,
        user: UserId,
        other: UserId,
        bare: &BareJid,
        before: Subscription,
        after: Subscription,
    ) {
        let approved = self
            .accounts
            .get(&user)
            .and_then(|account| account.roster.by_user(&other).or_else(|| account.roster.get(bare.as_str())))
            .is_some_and(|item| item.approved);
        if approved || before.from {
            if self.say(user, other, bare, Type::Subscribed).is_err() {
                self.count("grants that could not be sent");
            }
            if before.from {
                // A further device of a watcher asks: it has not seen what the others have.
                self.overlay.show_presence_again(&user, &other, self.now);
            }
        } else if after.pending_in {
            self.tell(user, bare, Type::Subscribe);
        }
    }

    /// Tells the clients of an account about a statement of somebody else (RFC 6121 §3.1.3, §3.1.6, §3.2.3, §3.3.3).
    pub(super) fn tell(&mut self, user: UserId, from: &BareJid, type_: Type) {
        let Some(account) = self.accounts.get(&user) else { return };
        let mut stanza = Stanza::new(Kind::Presence, type_);
        stanza.from = Some(from.clone().into());
        stanza.to = Some(account.jid.clone().into());
        let sessions = match type_ {
            Type::Subscribe => self.sessions_of(user, |session| session.presence.is_some()),
            _ => self.sessions_of(user, |session| session.interested),
        };
        for id in sessions {
            self.send(id, stanza.clone(), None, true);
        }
    }

    /// Requests that nobody has answered are shown to each client that comes (RFC 6121 §3.1.3).
    pub(super) fn send_pending_requests(&mut self, id: SessionId, user: UserId) {
        let Some(account) = self.accounts.get(&user) else { return };
        let to = Jid::from(account.jid.clone());
        let relations = account.roster.relations.keys().copied();
        let pending: Vec<UserId> = relations
            .filter(|other| account.roster.subscription(other).pending_in)
            .take(REQUESTS_SHOWN)
            .collect();
        for other in pending {
            let Some(address) = self.address_for(user, &other) else { continue };
            let mut stanza = Stanza::new(Kind::Presence, Type::Subscribe);
            stanza.from = Some(address.to_bare().into());
            stanza.to = Some(to.clone());
            self.send(id, stanza, None, false);
        }
        for stanza in self.requests_outside(&user) {
            self.send(id, Stanza { to: Some(to.clone()), ..stanza }, None, false);
        }
    }

    /// The contact begins to see the user, or no longer does: told at once, by presence as it is now. Users elsewhere
    /// are told by the overlay, which knows the watchers.
    pub(super) fn own_presence_shown_to(&mut self, user: UserId, other: UserId, shown: bool) {
        let Some(account) = self.accounts.get(&other).filter(|_| !self.is_blocked(other, &user)) else {
            return;
        };
        let to = Jid::from(account.jid.clone());
        for id in self.sessions_of(user, |session| session.presence.is_some()) {
            let Some(presence) = self.session(id).and_then(|session| session.presence.clone()) else {
                continue;
            };
            let presence = match shown {
                true => presence,
                false => Stanza { type_: Type::Unavailable, payload: Vec::new(), ..presence },
            };
            self.presence_to_sessions(other, &Stanza { to: Some(to.clone()), ..presence });
        }
    }

    /// The user now sees the contact: as it is known.
    pub(super) fn presence_shown(&mut self, user: UserId, other: UserId) {
        self.early_presence_shown(user, other);
        let to = self.accounts.get(&user).map(|account| Jid::from(account.jid.clone()));
        for stanza in self.presences_of(other, user) {
            self.presence_to_sessions(user, &Stanza { to: to.clone(), ..stanza });
        }
    }

    /// The user no longer sees a contact elsewhere.
    fn presence_taken_back(&mut self, user: UserId, other: UserId) {
        if self.accounts.contains(&other) {
            return;
        }
        let to = self.accounts.get(&user).map(|account| Jid::from(account.jid.clone()));
        for stanza in self.presences_of(other, user) {
            let gone = Stanza { type_: Type::Unavailable, payload: Vec::new(), to: to.clone(), ..stanza };
            self.presence_to_sessions(user, &gone);
        }
        self.forget_unwatched(other);
    }

    /// Subscription between an account and another user.
    pub(crate) fn subscription_between(&self, user: UserId, other: UserId) -> Subscription {
        self.accounts.get(&user).map(|account| account.roster.subscription(&other)).unwrap_or_default()
    }

    /// A request never reached the other, and is not on its way any more: it is taken back here, so that the client does not
    /// wait for ever and may ask again.
    pub(super) fn request_failed(&mut self, user: UserId, other: UserId, record: &[u8]) {
        let before = self.subscription_between(user, other);
        let relation = self.accounts.get(&user).and_then(|account| account.roster.relations.get(&other));
        let asked = relation.and_then(|relation| relation.slots.my_watch.as_ref());
        if !before.ask || asked.is_none_or(|asked| asked.bytes() != record) {
            return;
        }
        let Some(address) = self.address_for(user, &other) else { return };
        let says = Says::Withdraw;
        if let Some(taken_back) = self.overlay.sign_contact(&user, &other, says.side(), says, self.now) {
            self.record_said(user, other, &taken_back, before, true);
            self.sync_record(user, taken_back.bytes());
            self.tell(user, &address.to_bare(), Type::Unsubscribed);
        }
    }

    /// Takes a record into its slot. Returns whether it changed anything.
    fn store_record(&mut self, user: UserId, other: UserId, record: &Verified<ContactRecord>) -> bool {
        if !self.has_room_for_relation(&user, &other) {
            self.count("contact records for which there was no room");
            return false;
        }
        let address =
            self.address_for(user, &other).map(|address| address.to_bare().to_string()).unwrap_or_default();
        let Some(account) = self.accounts.get_mut(&user) else { return false };
        let relation = account.roster.relations.entry(other).or_default();
        if relation.address.is_empty() {
            relation.address.clone_from(&address);
        }
        if !relation.slots.insert(&user, record.clone()) {
            return false;
        }
        let stored =
            StoredContactRecord { record: record.bytes().to_vec(), address: relation.address.clone() };
        let slot = slot_number(&user, record);
        if !is_on(Mutant::ContactsUnsaved) {
            self.writes.put(
                Tree::ContactRecord,
                key(user.as_bytes(), other.as_bytes(), slot),
                encode(&stored),
            );
        }
        self.tell_server_later(user);
        true
    }

    /// Ends both directions with a contact that is removed from the list (RFC 6121 §2.5.2).
    ///
    /// # Errors
    /// When the other cannot be told.
    pub(super) fn end_subscriptions(&mut self, user: UserId, item: &RosterItem) -> Result<(), StanzaError> {
        let Some(other) = user_of(item) else { return self.end_outside(user, item) };
        let Ok(bare) = BareJid::new(&item.jid) else { return Ok(()) };
        // The entry goes: what it is on the way is shown to nobody (RFC 6121 §2.5.2).
        self.state(user, other, &bare, Type::Unsubscribe, false)?;
        self.state(user, other, &bare, Type::Unsubscribed, false)
    }

    /// The other was told nothing for as long as anything waits: what still holds is said again.
    pub(super) fn record_expired(&mut self, user: UserId, other: UserId, record: &[u8]) {
        let relation = self.accounts.get(&user).and_then(|account| account.roster.relations.get(&other));
        let slots = relation.map(|relation| [&relation.slots.my_watch, &relation.slots.my_publish]);
        let said = slots.into_iter().flatten().flatten().find(|said| said.bytes() == record).cloned();
        if let Some(record) = said
            && self.send_record(user, other, record).is_err()
        {
            self.count("contact records that could not be sent again");
        }
    }
}

/// Which of the four slots a record belongs to.
fn slot_number(user: &UserId, record: &ContactRecord) -> u8 {
    let mine = record.from == *user;
    match (mine, record.says) {
        (true, Says::Request | Says::Withdraw) => 0,
        (false, Says::Grant | Says::Refuse) => 1,
        (false, Says::Request | Says::Withdraw) => 2,
        (true, Says::Grant | Says::Refuse) => 3,
    }
}
