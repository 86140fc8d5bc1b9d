//! Who is told that somebody is here (RFC 6121 §4): sessions of this node and, by signed records, other nodes. *Pure.*

mod devices;
mod seen;

use std::collections::BTreeSet;

use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{PresenceRecord, PresenceSession, Verified};
use crosstalk_storage::Tree;
use crosstalk_storage::tree::presence::key;
use jid::Jid;

use crate::features::delay;
use crate::xmpp::{Condition, Kind, Stanza, Type};

use super::router::Route;
use super::session::{Session, SessionId};
use super::{Core, Origin, Timer};
use devices::Known;
pub(super) use devices::RemotePresence;

/// Addresses that a session may send directed presence to before some are forgotten.
const DIRECTED_LIMIT: usize = 500;

impl Core {
    pub(super) fn presence_from_client(&mut self, id: SessionId, stanza: Stanza) {
        match (stanza.type_, stanza.to.is_some()) {
            (Type::Available, false) => self.available(id, stanza),
            (Type::Unavailable, false) => self.unavailable(id, stanza),
            (Type::Available | Type::Unavailable, true) => self.directed(id, stanza),
            (Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed, true) => {
                self.subscription_from_client(id, stanza);
            }
            (Type::Probe | Type::Error, _) => {}
            _ => self.bounce(Origin::Session(id), &stanza, &Condition::BadRequest.into()),
        }
    }

    /// Initial or changed presence (RFC 6121 §4.2, §4.4).
    fn available(&mut self, id: SessionId, stanza: Stanza) {
        let wall = self.now.wall;
        let Some(session) = self.session_mut(id) else { return };
        let (user, initial) = (session.user, session.presence.is_none());
        let negative_before = session.priority().is_none_or(|priority| priority < 0);
        session.presence = Some(stanza.clone());
        session.since = wall;
        let takes_messages = session.takes_messages();
        if session.management.as_ref().is_some_and(|management| management.resumable) {
            self.dirty.insert(id);
        }
        self.broadcast(user, &stanza);
        self.watchers_changed.insert(user);
        if initial {
            self.send_known_presences(id, user);
            self.send_pending_requests(id, user);
            self.show_nearby_presences(id, user);
            self.recovery_shown(id, user);
        }
        if negative_before && takes_messages {
            self.held_for_nobody_present(user);
            self.flush_inbox(user, id, None);
        }
    }

    fn unavailable(&mut self, id: SessionId, stanza: Stanza) {
        let Some(session) = self.session_mut(id) else { return };
        let (user, directed) = (session.user, std::mem::take(&mut session.directed));
        if session.presence.take().is_none() {
            return self.end_directed(user, &stanza, directed);
        }
        if session.management.as_ref().is_some_and(|management| management.resumable) {
            self.dirty.insert(id);
        }
        self.broadcast(user, &stanza);
        let to = self.accounts.get(&user).map(|account| Jid::from(account.jid.clone()));
        self.send(id, Stanza { to, ..stanza.clone() }, None, false);
        self.end_directed(user, &stanza, self.unseen(user, directed));
        self.watchers_changed.insert(user);
    }

    /// Of the addresses of directed presence, those that a broadcast does not reach.
    fn unseen(&self, user: UserId, directed: BTreeSet<Jid>) -> BTreeSet<Jid> {
        let Some(account) = self.accounts.get(&user) else { return directed };
        let sees = |other: &UserId| self.accounts.contains(other) && account.roster.subscription(other).from;
        let reached = |to: &Jid| matches!(self.route(to), Route::Local(other) if sees(&other));
        directed.into_iter().filter(|to| !reached(to)).collect()
    }

    /// A session ended without saying so: its presence is taken back for it.
    pub(super) fn session_unavailable(&mut self, session: &Session) {
        if session.presence.is_none() && session.directed.is_empty() || is_on(Mutant::LogoutUntold) {
            return;
        }
        let mut stanza = Stanza::new(Kind::Presence, Type::Unavailable);
        stanza.from = Some(Jid::from(session.jid.clone()));
        let mut directed = session.directed.clone();
        if session.presence.is_some() {
            self.broadcast(session.user, &stanza);
            directed = self.unseen(session.user, directed);
        }
        self.end_directed(session.user, &stanza, directed);
        self.watchers_changed.insert(session.user);
    }

    fn end_directed(&mut self, user: UserId, stanza: &Stanza, directed: impl IntoIterator<Item = Jid>) {
        for to in directed {
            self.send_presence_to(user, Stanza { to: Some(to), ..stanza.clone() });
        }
    }

    /// To the user's own sessions and to watchers on this node; those elsewhere get a signed record.
    fn broadcast(&mut self, user: UserId, stanza: &Stanza) {
        let Some(account) = self.accounts.get(&user) else { return };
        let own = account.jid.clone();
        let watchers: Vec<UserId> =
            account.roster.watchers().filter(|other| self.accounts.contains(other)).collect();
        self.presence_to_sessions(user, &Stanza { to: Some(own.into()), ..stanza.clone() });
        for watcher in watchers {
            if !self.is_blocked_between(user, watcher) {
                self.show_presence(watcher, user, stanza.clone());
            }
        }
    }

    /// A client that resumed its stream after a restart still shows who was there before: those who are not there now
    /// are taken back.
    pub(super) fn correct_after_restart(&mut self, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        let user = session.user;
        if !std::mem::replace(&mut session.restored, false) {
            return;
        }
        let Some(account) = self.accounts.get(&user) else { return };
        let to = Jid::from(account.jid.clone());
        let others: Vec<UserId> = account.roster.watched().chain([user]).collect();
        for other in others {
            let Some(address) = self.address_for(user, &other) else { continue };
            let here: BTreeSet<String> = self
                .presences_of(other, user)
                .iter()
                .filter_map(|stanza| Some(stanza.from.as_ref()?.resource()?.as_str().to_owned()))
                .collect();
            let gone = self
                .remote_presence
                .resources(&other)
                .into_iter()
                .filter(|resource| !here.contains(resource));
            for stanza in
                gone.filter_map(|resource| unavailable_stanza(&address, &resource)).collect::<Vec<_>>()
            {
                self.send(id, Stanza { to: Some(to.clone()), ..stanza }, None, false);
            }
        }
        for stanza in self.unseen_outside(&user) {
            self.send(id, Stanza { to: Some(to.clone()), ..stanza }, None, false);
        }
        self.push_changes(id);
        self.correct_neighbours(id);
        self.former_told();
    }

    /// Shows a local user the presence of another local user, if it is subscribed to it.
    fn show_presence(&mut self, watcher: UserId, of: UserId, mut stanza: Stanza) {
        let Some(account) = self.accounts.get(&watcher) else { return };
        if !account.roster.subscription(&of).to {
            return;
        }
        stanza.to = Some(account.jid.clone().into());
        self.presence_to_sessions(watcher, &stanza);
    }

    /// Writes presence to all available sessions of an account.
    pub(super) fn presence_to_sessions(&mut self, user: UserId, stanza: &Stanza) {
        for id in self.sessions_of(user, |session| session.presence.is_some()) {
            self.send(id, stanza.clone(), None, false);
        }
    }

    /// Sessions of an account that meet a condition.
    pub(super) fn sessions_of(&self, user: UserId, meets: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        let Some(account) = self.accounts.get(&user) else { return Vec::new() };
        account.sessions.iter().copied().filter(|id| self.sessions.get(id).is_some_and(&meets)).collect()
    }

    /// Whether XEP-0191 stands between two local users.
    pub(super) fn is_blocked_between(&self, user: UserId, other: UserId) -> bool {
        let (Some(account), Some(other)) = (self.accounts.get(&user), self.accounts.get(&other)) else {
            return false;
        };
        account.blocks(&other.jid.clone().into()) || other.blocks(&account.jid.clone().into())
    }

    /// What a session that has just come sees of others: its own other sessions and its contacts.
    fn send_known_presences(&mut self, id: SessionId, user: UserId) {
        let Some(account) = self.accounts.get(&user) else { return };
        let to: Jid = account.jid.clone().into();
        let own =
            account.sessions.iter().filter(|other| **other != id).filter_map(|other| self.session(*other));
        let mut stanzas: Vec<Stanza> = own.filter_map(|session| session.presence.clone()).collect();
        for other in account.roster.watched() {
            stanzas.extend(self.presences_of(other, user));
        }
        stanzas.extend(self.presences_outside(&user));
        for stanza in stanzas {
            self.send(id, Stanza { to: Some(to.clone()), ..stanza }, None, false);
        }
    }

    /// Current presence stanzas of any user as `viewer` may see them.
    pub(super) fn presences_of(&self, user: UserId, viewer: UserId) -> Vec<Stanza> {
        if self.accounts.contains(&user) {
            if user != viewer
                && (self.is_blocked_between(user, viewer)
                    || !self
                        .accounts
                        .get(&user)
                        .is_some_and(|account| account.roster.subscription(&viewer).from))
            {
                return Vec::new();
            }
            let sessions = self.sessions_of(user, |session| session.presence.is_some());
            return sessions.iter().filter_map(|id| self.session(*id)?.presence.clone()).collect();
        }
        let Some(address) = self.address_for(viewer, &user) else { return Vec::new() };
        if self.is_blocked(viewer, &user) {
            return Vec::new();
        }
        let sessions = self.remote_presence.sessions_for(&user, &viewer);
        sessions.filter_map(|(session, said)| remote_stanza(&address, session, said)).collect()
    }

    /// Directed presence (RFC 6121 §4.6), remembered so that leaving is told there too.
    fn directed(&mut self, id: SessionId, stanza: Stanza) {
        let Some(to) = stanza.to.clone() else { return };
        let Some(user) = self.session(id).map(|session| session.user) else { return };
        if self.accounts.get(&user).is_some_and(|account| account.blocks(&to)) {
            return self.bounce(Origin::Session(id), &stanza, &crate::features::blocking::blocked_by_you());
        }
        let Some(session) = self.session_mut(id) else { return };
        match stanza.type_ {
            Type::Available => {
                session.directed.insert(to.clone());
                if session.directed.len() > DIRECTED_LIMIT {
                    session.directed.pop_first();
                }
            }
            _ => {
                session.directed.remove(&to);
            }
        }
        self.send_presence_to(user, stanza);
    }

    /// Sends a presence stanza of a local user to its `to`, anywhere.
    pub(super) fn send_presence_to(&mut self, user: UserId, stanza: Stanza) {
        let Some(to) = &stanza.to else { return };
        match self.route(to) {
            Route::Local(other) => self.presence_for_local(other, stanza),
            Route::Overlay(other) => {
                if self.live_to_remote(user, other, &stanza).is_err() {
                    self.count("directed presence to users who are away");
                }
            }
            // What people of the link see is what is announced to all.
            Route::Outside => self.directed_outside(user, &stanza),
            Route::Here | Route::Link(_) | Route::Name(_) | Route::Refuse(_) => {}
        }
    }

    /// Presence of another user for an account of this node: to the session it names, or to all that are available.
    pub(super) fn presence_for_local(&mut self, user: UserId, stanza: Stanza) {
        let blocked =
            |account: &super::account::Account| stanza.from.as_ref().is_some_and(|from| account.blocks(from));
        if self.accounts.get(&user).is_none_or(blocked) {
            return;
        }
        match stanza.to.as_ref().and_then(|to| self.session_at(&user, to)) {
            Some(session) => self.send(session, stanza, None, false),
            None if stanza.to.as_ref().is_some_and(|to| to.resource().is_none()) => {
                self.presence_to_sessions(user, &stanza);
            }
            None => {}
        }
    }

    /// At the end of a batch: tells the overlay what each changed user publishes, and to whom.
    pub(super) fn republish_presence(&mut self) {
        for user in std::mem::take(&mut self.watchers_changed) {
            let Some(account) = self.accounts.get(&user) else { continue };
            let watchers: Vec<UserId> = account
                .roster
                .watchers()
                .filter(|other| !self.accounts.contains(other))
                .filter(|other| !self.is_blocked(user, other))
                .collect();
            let ids = self.sessions_of(user, |session| session.presence.is_some());
            let sessions = ids.iter().filter_map(|id| self.session(*id)).filter_map(published).collect();
            self.overlay.set_presence(&user, sessions, watchers, self.now);
            if let Some(record) = self.overlay.own_presence(&user).cloned() {
                self.save_presence(&record, self.now.wall);
                self.remote_presence.restore(record, self.now.wall);
            }
            self.show_server_soon(user);
            self.publish_to_link(user, &ids);
            self.show_outside(user);
        }
    }

    /// A newer record of a device elsewhere: sessions that changed are shown, those that are gone are taken back.
    pub(super) fn remote_presence(&mut self, to: UserId, record: Verified<PresenceRecord>, live: bool) {
        let (from, device) = (record.user, record.device);
        let subscription = self.subscription_between(to, from);
        // The grant goes another way than what it lets see, and may come later: it shows what is known by then.
        if !subscription.to && !subscription.ask {
            if self.overlay.has_other_devices(&to) {
                self.remote_presence.early.keep(to, record, live, self.now.mono);
            }
            return self.count("presence of people nobody here subscribed to");
        }
        let key = (from, device);
        let newer = |known: &Known| !live && known.record.at > record.at;
        if self.remote_presence.devices.get(&key).is_some_and(newer) {
            return self.count("presence that others knew less newly");
        }
        if !self.remote_presence.devices.contains_key(&key) {
            if let Some(surplus) = self.remote_presence.surplus(&from) {
                self.remote_unknown(from, surplus);
                self.forget_device(from, surplus);
            } else if !self.has_room(Tree::Presence, 1) {
                return self.count("presence for which there was no room");
            }
        }
        let said = (!live).then_some(record.at.millis.min(self.now.wall));
        if let Some(then) = said.filter(|then| then.saturating_add(record.life()) <= self.now.wall) {
            return self.was_seen(record, then);
        }
        let known = self.remote_presence.devices.get_mut(&key).filter(|known| known.current);
        let confirmed = live && known.as_ref().is_some_and(|known| known.said.is_some());
        let (before, mut viewers) = known
            .as_ref()
            .map_or_else(Default::default, |known| (known.record.sessions.clone(), known.viewers.clone()));
        if record.sessions.is_empty()
            && viewers.iter().any(|viewer| *viewer != to)
            && let Some(known) = known
        {
            // Gone for one of several: blocked perhaps, and what the others see stands.
            if known.viewers.remove(&to) {
                self.show_remote_change(from, &BTreeSet::from([to]), (&before, &[]), &[], None);
            }
            return;
        }
        let seen = said.unwrap_or(self.now.wall);
        self.save_presence(&record, seen);
        let until = self.now.mono + record.life().saturating_sub(self.now.wall - seen);
        self.cancel_timer(Timer::Presence(from, device));
        self.timers.insert((until, Timer::Presence(from, device)));
        let after = record.sessions.clone();
        let news: Vec<&PresenceSession> =
            after.iter().filter(|session| confirmed || !before.contains(session)).collect();
        self.show_remote_change(from, &viewers, (&before, &after), &news, said);
        if viewers.insert(to) {
            let news: Vec<&PresenceSession> = after.iter().collect();
            self.show_remote_change(from, &BTreeSet::from([to]), (&[], &after), &news, said);
        }
        self.remote_presence.devices.insert(key, Known { record, seen, current: true, said, until, viewers });
    }

    /// A user here sees somebody from now on, as another device of it has arranged: what came before is shown.
    pub(super) fn early_presence_shown(&mut self, to: UserId, from: UserId) {
        for (record, live) in self.remote_presence.early.take(to, from, self.now.mono) {
            self.remote_presence(to, record, live);
        }
    }

    /// A device elsewhere is out of reach, or its record has outlived itself: nobody knows any longer.
    pub(super) fn remote_unknown(&mut self, user: UserId, device: DeviceId) {
        self.remote_presence.early.forget(user, device);
        let Some(known) = self.remote_presence.devices.get_mut(&(user, device)) else { return };
        if std::mem::replace(&mut known.current, false) {
            let (before, viewers) = (known.record.sessions.clone(), std::mem::take(&mut known.viewers));
            viewers.iter().for_each(|viewer| self.look_anew(viewer));
            self.show_remote_change(user, &viewers, (&before, &[]), &[], None);
        }
    }

    /// Nobody here sees or asks to see a user any more: what is known of its devices is forgotten.
    pub(super) fn forget_unwatched(&mut self, user: UserId) {
        let watches = |account: &super::account::Account| {
            let subscription = account.roster.subscription(&user);
            subscription.to || subscription.ask
        };
        if self.accounts.contains(&user) || self.accounts.iter().any(watches) {
            return;
        }
        for device in self.remote_presence.of(&user).map(|(device, _)| device).collect::<Vec<_>>() {
            self.forget_device(user, device);
        }
    }

    fn forget_device(&mut self, user: UserId, device: DeviceId) {
        self.remote_presence.devices.remove(&(user, device));
        self.cancel_timer(Timer::Presence(user, device));
        self.writes.delete(Tree::Presence, key(user.as_bytes(), device.as_bytes()));
    }

    pub(super) fn presence_outlived(&mut self, user: UserId, device: DeviceId) {
        let known = self.remote_presence.devices.get(&(user, device));
        if known.is_some_and(|known| known.until <= self.now.mono) {
            self.remote_unknown(user, device);
        }
    }

    /// Of the sessions `before` takes back those that are not there `after`, and shows the `news`, `said` then, to those
    /// of the viewers who want it.
    fn show_remote_change(
        &mut self,
        from: UserId,
        viewers: &BTreeSet<UserId>,
        (before, after): (&[PresenceSession], &[PresenceSession]),
        news: &[&PresenceSession],
        said: Option<u64>,
    ) {
        for viewer in viewers.iter().copied() {
            if !self.subscription_between(viewer, from).to {
                continue;
            }
            let Some(address) = self.address_for(viewer, &from) else { continue };
            let gone = before.iter().filter(|old| after.iter().all(|new| new.resource != old.resource));
            let gone = gone.filter_map(|old| unavailable_stanza(&address, &old.resource));
            let changed = news.iter().filter_map(|new| remote_stanza(&address, new, said));
            let to = self.accounts.get(&viewer).map(|account| Jid::from(account.jid.clone()));
            for stanza in gone.chain(changed).collect::<Vec<_>>() {
                self.presence_for_local(viewer, Stanza { to: to.clone(), ..stanza });
            }
        }
    }

    /// Whether a user is online, here or elsewhere.
    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        !self.sessions_of(*user, |session| session.presence.is_some()).is_empty()
            || self.remote_presence.is_online(user)
    }
}

/// What a session publishes: its presence without addresses.
fn published(session: &Session) -> Option<PresenceSession> {
    let presence = session.presence.as_ref()?;
    let bare = Stanza { from: None, to: None, ..presence.clone() };
    Some(PresenceSession {
        resource: session.jid.resource().as_str().to_owned(),
        priority: session.priority()?.into(),
        since: session.since,
        payload: bare.to_bytes(),
    })
}

/// The presence stanza of a session elsewhere, with the time at which it was said if that was not heard just now.
fn remote_stanza(address: &Jid, session: &PresenceSession, said: Option<u64>) -> Option<Stanza> {
    let mut stanza = Stanza::read_from_peer(&session.payload).ok()?;
    if let Some(said) = said {
        delay::stamp(&mut stanza, address.to_bare().as_str(), said);
    }
    let plain = stanza.kind == Kind::Presence && stanza.type_ == Type::Available;
    let from = address.to_bare().with_resource_str(&session.resource).ok()?;
    plain.then(|| Stanza { from: Some(from.into()), to: None, id: None, ..stanza })
}

/// `unavailable` from a session elsewhere.
pub(super) fn unavailable_stanza(address: &Jid, resource: &str) -> Option<Stanza> {
    let from = address.to_bare().with_resource_str(resource).ok()?;
    Some(Stanza { from: Some(from.into()), ..Stanza::new(Kind::Presence, Type::Unavailable) })
}
