//! "Nearby": neighbours who are no contacts, laid over the contact lists of clients (DESIGN.md §6). *Pure.*
//!
//! Never stored, synced or versioned. Pushes of this layer carry a version that no list has, so that a client which
//! caches its list (RFC 6121 §2.6) asks for the whole one at its next login.

use crosstalk_link_local::clean;
use crosstalk_link_local::neighbours::Event;
use crosstalk_overlay::core::Tier;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::LinkStatus;
use jid::Jid;

use crate::xmpp::{Element, Stanza, Type, ns};

use super::Core;
use super::io::Output;
use super::presence::unavailable_stanza;
use super::session::SessionId;

/// The group that clients show.
pub(crate) const GROUP: &str = "Nearby";
/// Resource that a neighbour's presence is shown from.
pub(crate) const RESOURCE: &str = "nearby";

/// The session that an address names. None: the user, also where presence is shown as that of a neighbour.
pub(super) fn session_of(address: &Jid) -> Option<&str> {
    address.resource().map(|resource| resource.as_str()).filter(|resource| *resource != RESOURCE)
}

/// A neighbour as it shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) nickname: String,
    pub(super) show: String,
    pub(super) status: String,
}

impl Core {
    /// Neighbours that the link reports.
    pub(super) fn drain_neighbours(&mut self) {
        while let Some(event) = self.neighbours.poll_event() {
            match event {
                Event::Appeared(neighbour) | Event::Changed(neighbour) => {
                    let Some(user) = neighbour.user() else { continue };
                    if !self.accounts.contains(&user) {
                        let (nickname, show, status) = neighbour.shown();
                        self.near(user, Person { nickname, show, status });
                    }
                }
                Event::Vanished(neighbour) => {
                    if let Some(user) = neighbour.user().filter(|user| !self.accounts.contains(user)) {
                        self.not_near(user);
                    }
                }
            }
        }
    }

    /// What an account shows on the link: the state of its best session, or nothing.
    pub(super) fn publish_to_link(&mut self, user: UserId, available: &[SessionId]) {
        let best =
            available.iter().filter_map(|id| self.session(*id)).max_by_key(|session| session.priority());
        let presence = best.and_then(|session| session.presence.as_ref());
        let Some(account) = self.accounts.get(&user) else { return };
        let visible = self.settings.visible && !account.stored.hidden;
        let status = presence.filter(|_| visible).map(|presence| LinkStatus {
            instance: account.stored.name.clone(),
            nickname: account.stored.nickname.clone(),
            show: child_text(presence, "show"),
            status: child_text(presence, "status"),
        });
        let local = self.settings.local_nearby.unwrap_or(self.settings.domain.is_none());
        match &status {
            Some(status) if local => {
                let nickname = crosstalk_link_local::clean::nickname(&status.nickname);
                let (show, status) = (status.show.clone(), status.status.clone());
                self.near(user, Person { nickname, show, status });
            }
            Some(_) => {}
            None => self.not_near(user),
        }
        self.overlay.set_link_presence(&user, status, self.now);
    }

    fn near(&mut self, user: UserId, person: Person) {
        if !self.nearby.contains_key(&user) && self.nearby.len() >= self.settings.nearby_limit {
            return self.count("neighbours beyond those that are shown");
        }
        let before = self.nearby.insert(user, person.clone());
        if before.as_ref() == Some(&person) {
            return;
        }
        let renamed = before.is_none_or(|before| before.nickname != person.nickname);
        for viewer in self.viewers(user) {
            if renamed {
                self.push_nearby(viewer, user, true);
            }
            self.show_neighbour(viewer, user, true);
        }
    }

    fn not_near(&mut self, user: UserId) {
        if !self.nearby.contains_key(&user) {
            return;
        }
        for viewer in self.viewers(user) {
            self.show_neighbour(viewer, user, false);
            self.push_nearby(viewer, user, false);
        }
        self.nearby.remove(&user);
        for viewer in self.accounts.iter().map(|account| account.user).collect::<Vec<_>>() {
            if let Some(account) = self.accounts.get_mut(&viewer) {
                account.dismissed.remove(&user);
            }
        }
    }

    /// Accounts that see this neighbour in "Nearby".
    fn viewers(&self, user: UserId) -> Vec<UserId> {
        let accounts = self.accounts.iter().filter(|account| !account.sessions.is_empty());
        accounts.map(|account| account.user).filter(|viewer| self.sees_nearby(*viewer, user)).collect()
    }

    fn sees_nearby(&self, viewer: UserId, user: UserId) -> bool {
        let Some(account) = self.accounts.get(&viewer) else { return false };
        viewer != user
            && self.nearby.contains_key(&user)
            && !account.dismissed.contains(&user)
            && account.roster.by_user(&user).is_none()
            && !self.is_blocked(viewer, &user)
    }

    /// Whether this address is shown to the account in "Nearby".
    pub(crate) fn nearby_at(&self, viewer: UserId, bare: &str) -> Option<UserId> {
        let is_it = |user: &&UserId| {
            self.sees_nearby(viewer, **user)
                && self.address_for(viewer, user).is_some_and(|address| address.to_bare().as_str() == bare)
        };
        self.nearby.keys().find(is_it).copied()
    }

    /// A neighbour removed from "Nearby" by a client is hidden until it comes again.
    pub(crate) fn dismiss_nearby(&mut self, viewer: UserId, user: UserId) {
        self.show_neighbour(viewer, user, false);
        self.push_nearby(viewer, user, false);
        if let Some(account) = self.accounts.get_mut(&viewer) {
            account.dismissed.insert(user);
        }
    }

    /// Before a neighbour becomes a contact: its presence as a neighbour is taken back, the list's own push follows.
    pub(super) fn neighbour_becomes_contact(&mut self, viewer: UserId, user: UserId) {
        if self.sees_nearby(viewer, user) {
            self.show_neighbour(viewer, user, false);
        }
    }

    /// After a contact was removed from the list: a neighbour is back in "Nearby" when it comes again.
    pub(super) fn contact_removed(&mut self, viewer: UserId, user: UserId) {
        if self.nearby.contains_key(&user)
            && let Some(account) = self.accounts.get_mut(&viewer)
        {
            account.dismissed.insert(user);
        }
    }

    /// The layer for a session that has just fetched its contact list: pushed after the real list.
    pub(crate) fn show_all_nearby(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let (viewer, available) = (session.user, session.presence.is_some());
        let near: Vec<UserId> =
            self.nearby.keys().copied().filter(|user| self.sees_nearby(viewer, *user)).collect();
        for user in near {
            if let Some(item) = self.nearby_item(viewer, user, true) {
                self.push_neighbour(id, viewer, user, item, true);
            }
            if available && let Some(presence) = self.neighbour_presence(viewer, user, true) {
                self.send(id, presence, None, false);
            }
        }
    }

    /// Presence of neighbours for a session that has just become available.
    pub(super) fn show_nearby_presences(&mut self, id: SessionId, viewer: UserId) {
        if !self.session(id).is_some_and(|session| session.interested) {
            return;
        }
        let near: Vec<UserId> =
            self.nearby.keys().copied().filter(|user| self.sees_nearby(viewer, *user)).collect();
        for user in near {
            if let Some(presence) = self.neighbour_presence(viewer, user, true) {
                self.send(id, presence, None, false);
            }
        }
    }

    fn push_nearby(&mut self, viewer: UserId, user: UserId, shown: bool) {
        let Some(item) = self.nearby_item(viewer, user, shown) else { return };
        for id in self.sessions_of(viewer, |session| session.interested) {
            self.push_neighbour(id, viewer, user, item.clone(), shown);
        }
    }

    fn push_neighbour(&mut self, id: SessionId, viewer: UserId, user: UserId, item: Element, shown: bool) {
        if let Some(session) = self.session_mut(id) {
            match shown {
                true => session.neighbours.insert(user),
                false => session.neighbours.remove(&user),
            };
            self.dirty.insert(id);
        }
        self.push_to(id, viewer, item, None);
    }

    /// After a restart: neighbours that the client of a resumed session shows and who are not near now.
    pub(super) fn correct_neighbours(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let viewer = session.user;
        let gone = session.neighbours.iter().copied().filter(|user| !self.sees_nearby(viewer, *user));
        for user in gone.collect::<Vec<_>>() {
            let contact =
                self.accounts.get(&viewer).is_some_and(|account| account.roster.by_user(&user).is_some());
            if let Some(gone) = self.absence(viewer, user) {
                self.send(id, gone, None, false);
            }
            if let Some(item) = self.nearby_item(viewer, user, false).filter(|_| !contact) {
                self.push_neighbour(id, viewer, user, item, false);
            }
        }
    }

    fn show_neighbour(&mut self, viewer: UserId, user: UserId, shown: bool) {
        let Some(presence) = self.neighbour_presence(viewer, user, shown) else { return };
        for id in self.sessions_of(viewer, |session| session.interested && session.presence.is_some()) {
            self.send(id, presence.clone(), None, false);
        }
    }

    fn nearby_item(&self, viewer: UserId, user: UserId, shown: bool) -> Option<Element> {
        let address = self.address_for(viewer, &user)?;
        let item = Element::new("item", ns::ROSTER).attr("jid", address.to_bare().as_str());
        if !shown {
            return Some(item.attr("subscription", "remove"));
        }
        let name = self.neighbour_name(&user)?;
        let group = Element::new("group", ns::ROSTER).text(GROUP);
        Some(item.attr("subscription", "both").attr("name", name).child(group))
    }

    /// Nickname with the tier, which is always visible (DESIGN.md §3.5).
    fn neighbour_name(&self, user: &UserId) -> Option<String> {
        let nickname = &self.nearby.get(user)?.nickname;
        let claimed = self.overlay.name_of(user);
        Some(match (self.tier_of(user), claimed) {
            ("key", Some(claimed)) => format!("{nickname} (claims {})", clean::nickname(&claimed.address)),
            (tier, _) => format!("{nickname} ({tier})"),
        })
    }

    /// The tier of any user.
    pub(crate) fn tier_of(&self, user: &UserId) -> &'static str {
        if self.accounts.contains(user) {
            return "this node";
        }
        match self.overlay.tier(user, self.now) {
            Tier::Certified { valid: true, .. } => "certified",
            Tier::Certified { valid: false, .. } => "certificate ended",
            Tier::Key => "key",
        }
    }

    fn neighbour_presence(&self, viewer: UserId, user: UserId, shown: bool) -> Option<Stanza> {
        let mut stanza = self.absence(viewer, user)?;
        if shown {
            let person = self.nearby.get(&user)?;
            stanza.type_ = Type::Available;
            for (name, text) in [("show", &person.show), ("status", &person.status)] {
                if !text.is_empty() {
                    stanza.payload.push(Element::new(name, ns::CLIENT).text(text));
                }
            }
            stanza.payload.push(Element::new("nick", ns::NICK).text(&person.nickname));
        }
        Some(stanza)
    }

    /// `unavailable` from where a neighbour's presence is shown.
    fn absence(&self, viewer: UserId, user: UserId) -> Option<Stanza> {
        let to = self.accounts.get(&viewer).map(|account| Jid::from(account.jid.clone()));
        Some(Stanza { to, ..unavailable_stanza(&self.address_for(viewer, &user)?, RESOURCE)? })
    }

    /// A roster push to one session. Without `from`: that is the account itself (RFC 6121 §2.1.6), and a client that
    /// logged in under another name than it was given (mcabber 1.1) takes no other. `version` is `None` for the
    /// layer of neighbours.
    pub(crate) fn push_to(&mut self, id: SessionId, user: UserId, item: Element, version: Option<u64>) {
        let list = self.accounts.get(&user).map(|account| account.stored.roster_version).unwrap_or_default();
        let version = version.map_or_else(|| format!("{list}{DIRTY}"), |version| version.to_string());
        let query = Element::new("query", ns::ROSTER).attr("ver", version).child(item);
        self.next_ticket += 1;
        let push = Stanza::iq(Type::Set, &format!("push-{}", self.next_ticket), query);
        self.send(id, push, None, true);
    }

    /// Something that the person who runs the node should read.
    pub(super) fn notice(&mut self, text: String) {
        self.output(Output::Notice(text), false);
    }
}

/// Ends the version of a list that has neighbours in it.
pub(crate) const DIRTY: &str = "+nearby";

fn child_text(presence: &Stanza, name: &str) -> String {
    presence.get(name, ns::CLIENT).map(|child| child.own_text().to_string()).unwrap_or_default()
}
