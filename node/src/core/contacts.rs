//! Changes of contact lists, by clients, by the CLI and by contact records, and their pushes (RFC 6121 §2). *Pure.*

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::Subscription;
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::roster::{RosterItem, key};
use jid::{BareJid, Jid};

use crate::xmpp::{Condition, Element, StanzaError, Type};

use super::Core;
use super::roster::{item_element, user_of};
use super::router::{Route, is_link_address};
use super::session::SessionId;

/// Bytes of a contact's name, and of each group.
pub(super) const NAME_BYTES: usize = 1_023;
/// Groups of a contact.
pub(super) const GROUPS: usize = 50;

impl Core {
    /// A client or the CLI sets a contact's name and groups; a new contact is added.
    pub(crate) fn set_contact(
        &mut self,
        user: UserId,
        jid: &BareJid,
        name: Option<String>,
        groups: Vec<String>,
    ) -> Result<(), StanzaError> {
        let long = |text: &String| text.len() > NAME_BYTES;
        if groups.len() > GROUPS || groups.iter().any(|group| group.is_empty() || long(group)) {
            return Err(StanzaError::new(
                Condition::NotAcceptable,
                "a group needs a name of at most 1,023 bytes",
            ));
        }
        if name.as_ref().is_some_and(long) {
            return Err(StanzaError::new(Condition::NotAcceptable, "a name has at most 1,023 bytes"));
        }
        let address = self.canonical(user, jid);
        let known =
            self.accounts.get(&user).and_then(|account| account.roster.get(address.as_str())).cloned();
        let other = self.resolve(&address);
        let item = known.unwrap_or_else(|| new_item(&address, other));
        let seen = self.shown_nearby(user);
        let is_new = self.accounts.get(&user).is_none_or(|account| account.roster.get(&item.jid).is_none());
        let wanted = RosterItem { name: name.filter(|name| !name.is_empty()), groups, ..item };
        self.put_wanted(user, wanted)?;
        match self.route(&address.into()) {
            // Somebody of the link is seen by whoever lists them; there is nobody to ask.
            Route::Link(instance) if is_new => {
                let who = Who::Bonjour(instance);
                if !seen.contains(&who) && self.shown_nearby(user).contains(&who) {
                    self.show_neighbour(user, &who, true);
                }
            }
            Route::Name(name) => self.seek_name(&name),
            _ => {}
        }
        Ok(())
    }

    /// Makes sure that a contact is listed, as a subscription does; it is pushed with the subscription.
    pub(super) fn ensure_contact(
        &mut self,
        user: UserId,
        jid: &BareJid,
        other: Option<UserId>,
    ) -> Result<(), StanzaError> {
        if self.accounts.get(&user).is_some_and(|account| account.roster.get(jid.as_str()).is_some()) {
            return Ok(());
        }
        let name = other.and_then(|other| self.nickname_of(&other));
        self.write_contact(user, RosterItem { name, ..new_item(jid, other) }, false).map(drop)
    }

    /// Removes a contact and both subscriptions.
    pub(crate) fn remove_contact(&mut self, user: UserId, jid: &BareJid) -> Result<(), StanzaError> {
        let address = self.canonical(user, jid);
        let Some(item) =
            self.accounts.get(&user).and_then(|account| account.roster.get(address.as_str())).cloned()
        else {
            return match self.nearby_at(user, address.as_str()) {
                Some(neighbour) => {
                    self.dismiss_nearby(user, neighbour);
                    Ok(())
                }
                None => Err(StanzaError::new(
                    Condition::ItemNotFound,
                    format!("{address} is not in this contact list"),
                )),
            };
        };
        self.end_subscriptions(user, &item)?;
        let other = user_of(&item).map(Who::User);
        let other = other.or_else(|| match self.route(&address.clone().into()) {
            Route::Link(instance) => Some(Who::Bonjour(instance)),
            _ => None,
        });
        if let Some(who @ Who::Bonjour(_)) = &other {
            self.show_neighbour(user, who, false);
        }
        // Name and groups stay in the tombstone: another device may want the contact after all.
        let gone = RosterItem { removed: true, approved: false, ..item };
        self.put_contact(user, gone)?;
        if let Some(other) = other {
            self.contact_removed(user, other);
        }
        self.forget_name(address.as_str());
        Ok(())
    }

    /// Writes a contact with a new version of the list, and pushes it.
    pub(super) fn put_contact(&mut self, user: UserId, item: RosterItem) -> Result<(), StanzaError> {
        let item = self.write_contact(user, item, false)?;
        self.push_contact(user, &item);
        Ok(())
    }

    /// The same, as its person says: a conflict about the contact is settled by that, also where nothing is changed.
    pub(super) fn put_wanted(&mut self, user: UserId, item: RosterItem) -> Result<(), StanzaError> {
        let wants = super::sync::in_conflict(&item);
        let item = self.write_contact(user, item, wants)?;
        self.push_contact(user, &item);
        Ok(())
    }

    /// A contact is to stay as it is, although another device has removed it.
    pub(super) fn want_contact(&mut self, user: UserId, jid: &BareJid) -> Result<(), StanzaError> {
        let address = self.canonical(user, jid);
        let listed = self.accounts.get(&user).and_then(|account| account.roster.get(address.as_str()));
        let Some(item) = listed.cloned() else {
            let text = format!("{address} is not in this contact list");
            return Err(StanzaError::new(Condition::ItemNotFound, text));
        };
        self.write_contact(user, item, true).map(drop)
    }

    fn write_contact(
        &mut self,
        user: UserId,
        item: RosterItem,
        wants: bool,
    ) -> Result<RosterItem, StanzaError> {
        if let Some(error) = self.store_error() {
            return Err(error);
        }
        let limit = self.settings.roster_limit;
        let Some(account) = self.accounts.get(&user) else { return Err(Condition::ItemNotFound.into()) };
        if !item.removed && account.roster.get(&item.jid).is_none() && account.roster.count() >= limit {
            let text = format!("a contact list has at most {limit} contacts: remove some");
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        if !account.roster.items.contains_key(&item.jid) && !self.has_room(Tree::Roster, 1) {
            return Err(super::room::full("contacts"));
        }
        self.neighbour_becomes_contact(user, &item);
        let edit = self.edit_by(user);
        let Some((account, edit)) = self.accounts.get_mut(&user).zip(edit) else {
            return Err(Condition::ItemNotFound.into());
        };
        account.stored.roster_version += 1;
        let before = account.roster.items.get(&item.jid);
        let item = super::sync::edited(before, item, edit, wants);
        let changed = before.is_none_or(|before| !super::sync::says_the_same(before, &item));
        let item = RosterItem { version: account.stored.roster_version, ..item };
        account.roster.put(item.clone());
        if let Some(other) = user_of(&item) {
            self.overlay.keep(&other);
        }
        let surplus = self.accounts.get_mut(&user).and_then(|account| account.roster.surplus_tombstone());
        if !is_on(Mutant::RosterUnsaved) {
            self.writes.put(Tree::Roster, key(user.as_bytes(), &item.jid), encode(&item));
        }
        if let Some(old) = surplus {
            self.writes.delete(Tree::Roster, key(user.as_bytes(), &old.jid));
        }
        self.save_account(&user);
        if changed {
            self.sync_contact(user, &item.jid);
        }
        Ok(item)
    }

    /// The subscription of a contact changed: a new version of its entry.
    pub(super) fn push_contact_of(&mut self, user: UserId, other: UserId) {
        let listed = self.accounts.get(&user).and_then(|account| account.roster.by_user(&other)).cloned();
        let subscription = self.subscription_between(user, other);
        // RFC 6121 §3.1.3: a mere request from a stranger does not list it; a granted one does.
        let item = match listed {
            Some(item) => item,
            None if subscription.from || subscription.to || subscription.ask => {
                let Some(address) = self.address_for(user, &other) else { return };
                RosterItem { name: self.nickname_of(&other), ..new_item(&address.to_bare(), Some(other)) }
            }
            None => return,
        };
        if self.put_contact(user, item).is_err() {
            self.count("contact list changes that could not be saved");
        }
    }

    pub(super) fn push_contact(&mut self, user: UserId, item: &RosterItem) {
        let element = self.contact_element(user, item);
        for id in self.sessions_of(user, |session| session.interested && !is_on(Mutant::PushesForgotten)) {
            self.push_to(id, user, element.clone(), Some(item.version));
        }
    }

    /// To a session from before a restart: changes of the list that it may not have got.
    pub(super) fn push_changes(&mut self, id: SessionId) {
        let Some(session) = self.session(id).filter(|session| session.interested) else { return };
        let (user, known) = (session.user, session.roster_known);
        let Some(account) = self.accounts.get(&user) else { return };
        let mut changed: Vec<_> =
            account.roster.items.values().filter(|item| item.version > known).cloned().collect();
        changed.sort_by_key(|item| item.version);
        for item in changed {
            self.push_to(id, user, self.contact_element(user, &item), Some(item.version));
        }
    }

    /// The `<item/>` of a contact with its subscription.
    pub(crate) fn contact_element(&self, user: UserId, item: &RosterItem) -> Element {
        item_element(item, self.subscription_with(user, item))
    }

    /// The subscription of a listed contact. Presence by XEP-0174 is public: with people of the link it is mutual
    /// without being asked for, and nothing of it leaves the link.
    pub(super) fn subscription_with(&self, user: UserId, item: &RosterItem) -> Subscription {
        match user_of(item) {
            Some(other) => self.subscription_between(user, other),
            None if is_link_address(&item.jid) => {
                Subscription { to: true, from: true, ..Subscription::default() }
            }
            // To list a name is to ask for its presence, as soon as it is known whom to ask.
            None => self
                .outside_subscription(user, &item.jid)
                .unwrap_or_else(|| Subscription { ask: self.is_name(&item.jid), ..Subscription::default() }),
        }
    }

    /// The address under which a contact is listed: other addresses of the same user lead to it.
    pub(super) fn canonical(&self, user: UserId, jid: &BareJid) -> BareJid {
        let Some(other) = self.resolve(jid) else { return jid.clone() };
        self.address_for(user, &other).map_or_else(|| jid.clone(), |address| address.to_bare())
    }

    pub(super) fn resolve(&self, jid: &BareJid) -> Option<UserId> {
        match self.route(&Jid::from(jid.clone())) {
            Route::Local(other) | Route::Overlay(other) => Some(other),
            Route::Here | Route::Link(_) | Route::Name(_) | Route::Outside | Route::Refuse(_) => None,
        }
    }

    /// A contact that was listed by a name before it was known whose it is.
    pub(super) fn resolve_contact(&mut self, account: UserId, name: &str, other: UserId) {
        let item = self.accounts.get(&account).and_then(|account| account.roster.get(name)).cloned();
        if let Some(item) = item.filter(|item| item.user.is_none()) {
            let item = RosterItem { user: Some(other.as_bytes().to_vec()), ..item };
            let asked = self.put_contact(account, item);
            let bare = BareJid::new(name);
            if let (Ok(()), Ok(bare)) = (asked, bare) {
                self.count("contacts whose key became known");
                // Adding somebody by name was a wish to see them.
                if self.say(account, other, &bare, Type::Subscribe).is_err() {
                    self.count("requests that could not be sent");
                }
            }
        }
    }

    /// What a user calls itself on the link.
    pub(super) fn nickname_of(&self, user: &UserId) -> Option<String> {
        let own = self.accounts.get(user).map(|account| account.stored.nickname.clone());
        own.or_else(|| self.nearby.get(&Who::User(*user)).map(|person| person.nickname.clone()))
    }
}

/// A contact that is listed for the first time.
pub(super) fn new_item(jid: &BareJid, other: Option<UserId>) -> RosterItem {
    RosterItem {
        jid: jid.to_string(),
        user: other.map(|other| other.as_bytes().to_vec()),
        ..RosterItem::default()
    }
}
