//! What an account changes of itself: visibility, password, block list, its own end; nickname and vCard are in `sync/own.rs`. *Pure.*

use std::collections::BTreeSet;

use crosstalk_overlay::id::UserId;
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::block::{Blocked, key as block_key};
use jid::Jid;
use zeroize::Zeroizing;

use crate::features::Request;
use crate::secret::Secret;
use crate::xmpp::error::StreamCondition;
use crate::xmpp::{Condition, Element, Kind, Stanza, StanzaError, StreamError, Type, ns};

use super::account::to_stored;
use super::io::{Credentials, LoginChange, Output};
use super::session::SessionId;
use super::settings::LinkMode;
use super::{Core, Origin};

/// Recovery codes that wait for their person.
const RECOVERIES: usize = 100;

impl Core {
    /// Whether whoever asks may see the presence of an account: itself, or a contact with a subscription.
    pub(crate) fn may_see(&self, user: UserId, request: &Request<'_>) -> bool {
        let asker = match request.origin {
            Origin::Session(id) => self.session(id).map(|session| session.user),
            Origin::Remote(asker) => Some(asker),
            Origin::Local | Origin::Outside(_) => None,
        };
        asker.is_some_and(|asker| asker == user || self.subscription_between(user, asker).from)
    }

    /// Milliseconds since the start.
    pub(crate) fn uptime(&self) -> u64 {
        self.now.mono.saturating_sub(self.started)
    }

    /// A request of a client changed something: with XEP-0198, that it was handled is stored with the change.
    pub(crate) fn changed_by(&mut self, origin: Origin) {
        if let Origin::Session(id) = origin {
            self.dirty.insert(id);
        }
    }

    /// The vCard of an account.
    pub(crate) fn vcard(&self, user: UserId) -> Option<Element> {
        let bytes = self.accounts.get(&user)?.vcard.as_ref()?;
        Element::read(bytes).ok()
    }

    /// Changes nickname and visibility.
    pub(super) fn set_profile(&mut self, user: UserId, nickname: Option<String>, visible: Option<bool>) {
        if let Some(nickname) = nickname {
            self.set_nickname(user, &nickname);
        }
        let Some(account) = self.accounts.get_mut(&user) else { return };
        if let Some(visible) = visible {
            account.stored.hidden = !visible;
            self.save_account(&user);
            self.watchers_changed.insert(user);
        }
    }

    /// Whether a change of the account's password is under way.
    pub(crate) fn password_is_changing(&self, user: UserId) -> bool {
        self.passwords.values().any(|(id, _)| self.session(*id).is_none_or(|session| session.user == user))
    }

    /// XEP-0077 §3.3: the credentials are made outside, the answer waits for them and for the commit.
    pub(crate) fn new_password(
        &mut self,
        id: SessionId,
        user: UserId,
        iq: &Stanza,
        password: Zeroizing<String>,
    ) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.passwords.insert(ticket, (id, iq.error_base()));
        self.output(Output::NewPassword { ticket, user, password }, false);
    }

    pub(super) fn password_made(&mut self, ticket: u64, credentials: Option<Credentials>) {
        let Some((id, iq)) = self.passwords.remove(&ticket) else { return };
        let Some(user) = self.session(id).map(|session| session.user) else { return };
        match credentials {
            Some(credentials) => {
                self.set_credentials(user, credentials, None);
                self.changed_by(Origin::Session(id));
                self.answer(Origin::Session(id), iq.result(None), true);
                let stored = self.accounts.get(&user).map(|account| &account.stored);
                let name = stored.map(|stored| stored.name.clone());
                let at_server = match stored.is_some_and(|stored| stored.server.is_some()) {
                    true => " and the server of your domain asks for that on a further laptop",
                    false => "",
                };
                let text = format!(
                    "Your user key is still sealed under the earlier password{at_server}: keep that or the recovery code, or run \
                     `crosstalk account password {}` to seal it under the new one.",
                    name.unwrap_or_default()
                );
                self.tell_person(id, "Your password was changed", &text);
            }
            None => {
                let error = StanzaError::new(
                    Condition::NotAcceptable,
                    "this password is not possible: choose another",
                );
                self.bounce(Origin::Session(id), &iq, &error);
            }
        }
    }

    /// Keeps the recovery code of a new account, in memory only, for the first client that comes.
    pub(super) fn show_recovery(&mut self, user: UserId, recovery: Secret) {
        self.recoveries.insert(user, recovery);
        if self.recoveries.len() > RECOVERIES {
            self.recoveries.pop_first();
        }
    }

    /// Shows the recovery code of a new account to a client that has just become available.
    pub(super) fn recovery_shown(&mut self, id: SessionId, user: UserId) {
        let Some(recovery) = self.recoveries.remove(&user) else { return };
        let text = format!(
            "The recovery code of this account is {}. Write it down now: it is not shown again, and without it nobody \
             can help when the password is lost.",
            recovery.reveal()
        );
        self.tell_person(id, "Your recovery code", &text);
    }

    /// Tells the person at a client something. Not held: it is for now.
    fn tell_person(&mut self, id: SessionId, subject: &str, text: &str) {
        let Some(session) = self.session(id) else { return };
        let mut message = Stanza::new(Kind::Message, Type::Headline);
        message.to = Some(session.jid.clone().into());
        message.from = Jid::new(&self.domain()).ok();
        message.payload = vec![
            Element::new("subject", ns::CLIENT).text(subject),
            Element::new("body", ns::CLIENT).text(text),
            Element::new("no-store", ns::HINTS),
        ];
        self.send(id, message, None, true);
    }

    /// New credentials; without a new seal the user key stays sealed under the earlier password.
    pub(super) fn set_credentials(
        &mut self,
        user: UserId,
        credentials: Credentials,
        sealed: Option<Vec<u8>>,
    ) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        account.stored.sha1 = to_stored(&credentials.sha1);
        account.stored.sha256 = to_stored(&credentials.sha256);
        account.stored.seal_is_older = sealed.is_none();
        if let Some(sealed) = sealed {
            account.stored.sealed_by_password = sealed;
        }
        let login = account.login_change();
        self.save_account(&user);
        self.output(Output::Login(login), false);
    }

    /// XEP-0077 §3.2: the account is removed, its streams end.
    pub(crate) fn remove_account_for(&mut self, id: SessionId, iq: &Stanza) {
        let Some(user) = self.session(id).map(|session| session.user) else { return };
        self.answer(Origin::Session(id), iq.result(None), true);
        self.remove_account(user);
    }

    /// Removes an account: contacts are told, everything it holds is deleted.
    pub(super) fn remove_account(&mut self, user: UserId) {
        self.forget_server(&user);
        let Some(account) = self.accounts.get(&user) else { return };
        // One laptop less of somebody who has others is no end of friendships.
        let contacts: Vec<_> = match self.overlay.has_other_devices(&user) {
            true => Vec::new(),
            false => account.roster.listed().cloned().collect(),
        };
        for item in contacts {
            if self.end_subscriptions(user, &item).is_err() {
                self.count("withdrawals that could not be sent");
            }
        }
        let sessions: Vec<_> =
            self.accounts.get(&user).map(|a| a.sessions.iter().copied().collect()).unwrap_or_default();
        for id in sessions {
            let error = StreamError::new(StreamCondition::NotAuthorized, "the account was removed");
            self.end_session(id, Some(error));
        }
        self.announce_on_link(user, None);
        self.overlay.set_link_presence(&user, None, self.now);
        self.overlay.remove_local(&user, self.now);
        let Some(account) = self.accounts.remove(&user) else { return };
        self.delete_account_data(&account);
        let (name, domain) = (account.stored.name, account.stored.domain);
        self.output(Output::Login(LoginChange::Remove { name, domain }), false);
        self.output(Output::EraseKeys { user }, true);
    }

    fn delete_account_data(&mut self, account: &super::account::Account) {
        use crosstalk_storage::tree::{contact_record, inbox, presence, roster};
        let user = account.user.as_bytes();
        self.writes.delete(Tree::Account, user.to_vec());
        self.writes.delete(Tree::Presence, presence::key(user, account.device.as_bytes()));
        self.writes.delete(Tree::VCard, user.to_vec());
        for jid in account.roster.items.keys() {
            self.writes.delete(Tree::Roster, roster::key(user, jid));
        }
        for other in account.roster.relations.keys() {
            for slot in 0..4 {
                self.writes.delete(Tree::ContactRecord, contact_record::key(user, other.as_bytes(), slot));
            }
        }
        self.held_bytes -= account.inbox.bytes();
        for (number, _) in account.inbox.iter() {
            self.writes.delete(Tree::Inbox, inbox::key(user, number));
        }
        self.forget_waiting(&account.user);
        self.forget_way(&account.user);
        for jid in account.blocks.keys() {
            self.writes.delete(Tree::Block, block_key(user, jid));
        }
    }

    /// Blocks addresses: they see the account leave (XEP-0191 §3.3).
    pub(crate) fn block(&mut self, user: UserId, jids: &[Jid]) {
        self.edit_blocks(user, jids, false);
    }

    /// Unblocks addresses: those with a subscription see the account again.
    pub(crate) fn unblock(&mut self, user: UserId, jids: &[Jid]) {
        self.edit_blocks(user, jids, true);
    }

    fn edit_blocks(&mut self, user: UserId, jids: &[Jid], lifted: bool) {
        let Some(edit) = self.edit_by(user) else { return };
        let blocked = Blocked { since: self.now.wall, edit: Some(edit), lifted };
        self.change_blocks(user, jids.iter().map(|jid| (jid.clone(), blocked.clone())).collect());
        jids.iter().for_each(|jid| self.sync_block(user, jid.as_str()));
    }

    /// Another device of the user has blocked or unblocked addresses.
    pub(super) fn blocks_merged(&mut self, user: UserId, blocks: Vec<(Jid, Blocked)>) {
        let is_blocked =
            |jid: &Jid| self.accounts.get(&user).is_some_and(|a| a.blocked.contains(jid.as_str()));
        let changed: Vec<(Jid, bool)> = blocks
            .iter()
            .filter(|(jid, blocked)| is_blocked(jid) == blocked.lifted)
            .map(|(jid, blocked)| (jid.clone(), blocked.lifted))
            .collect();
        if blocks.is_empty() {
            return;
        }
        self.change_blocks(user, blocks);
        for (name, which) in [("block", false), ("unblock", true)] {
            let items = changed.iter().filter(|(_, lifted)| *lifted == which);
            let items: Vec<Element> =
                items.map(|(jid, _)| Element::new("item", ns::BLOCKING).attr("jid", jid.as_str())).collect();
            if !items.is_empty() {
                self.push_blocking(user, &Element::new(name, ns::BLOCKING).children_from(items));
            }
        }
    }

    fn change_blocks(&mut self, user: UserId, blocks: Vec<(Jid, Blocked)>) {
        let before = self.seen_by(user);
        let hidden: Vec<UserId> = self.hidden_from(user);
        let near = self.shown_nearby(user);
        for (jid, blocked) in blocks {
            self.writes.put(Tree::Block, block_key(user.as_bytes(), jid.as_str()), encode(&blocked));
            let Some(account) = self.accounts.get_mut(&user) else { return };
            account.set_block(jid.as_str(), blocked);
            if let Some(surplus) = account.surplus_lifted() {
                self.writes.delete(Tree::Block, block_key(user.as_bytes(), &surplus));
            }
        }
        let after = self.seen_by(user);
        for other in before.difference(&after) {
            self.own_presence_shown_to(user, *other, false);
        }
        for other in after.difference(&before) {
            self.own_presence_shown_to(user, *other, true);
        }
        let still = self.hidden_from(user);
        for other in hidden.into_iter().filter(|other| !still.contains(other)) {
            self.presence_shown(user, other);
        }
        self.nearby_changed(user, &near);
        self.link_blocked(user);
        self.watchers_changed.insert(user);
    }

    /// How much of XEP-0174 an account uses, of what the node's settings allow.
    pub(super) fn set_link_mode(&mut self, user: UserId, mode: LinkMode) {
        let near = self.shown_nearby(user);
        let Some(account) = self.accounts.get_mut(&user) else { return };
        account.set_link_mode(mode);
        self.save_account(&user);
        self.nearby_changed(user, &near);
        self.watchers_changed.insert(user);
    }

    /// Users of this node who see the account's presence: a block list can hide it from a whole domain.
    fn seen_by(&self, user: UserId) -> BTreeSet<UserId> {
        let watchers = self.accounts.get(&user).into_iter().flat_map(|account| account.roster.watchers());
        let sees = |other: &UserId| self.accounts.contains(other) && !self.is_blocked_between(user, *other);
        watchers.filter(sees).collect()
    }

    /// Contacts whose presence the account does not see because it blocks them.
    fn hidden_from(&self, user: UserId) -> Vec<UserId> {
        let Some(account) = self.accounts.get(&user) else { return Vec::new() };
        account.roster.watched().filter(|other| self.is_blocked(user, other)).collect()
    }

    /// Tells sessions that asked for the block list about a change (XEP-0191 §3.3, §3.5).
    pub(crate) fn push_blocking(&mut self, user: UserId, change: &Element) {
        for id in self.sessions_of(user, |session| session.blocklist) {
            self.next_ticket += 1;
            let push = Stanza::iq(Type::Set, &format!("push-{}", self.next_ticket), change.clone());
            self.send(id, push, None, true);
        }
        debug_assert_eq!(change.ns(), ns::BLOCKING);
    }
}
