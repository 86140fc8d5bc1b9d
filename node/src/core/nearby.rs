//! "Nearby": neighbours who are no contacts, laid over the contact lists of clients (DESIGN.md §6). *Pure.*
//!
//! Never stored, synced or versioned. Pushes of this layer carry a version that no list has, so that a client which
//! caches its list (RFC 6121 §2.6) asks for the whole one at its next login.

mod layer;

use std::collections::BTreeSet;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::neighbours::{Event, Neighbour, Who};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::LinkStatus;
use crosstalk_storage::tree::roster::RosterItem;
use jid::Jid;

use crate::xmpp::{Stanza, ns};

use super::Core;
use super::io::Output;
use super::roster::user_of;
use super::session::SessionId;
use super::settings::LinkMode;

pub(crate) use layer::{DIRTY, GROUP, RESOURCE};

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
    /// SHA-1 of the picture.
    pub(super) picture: Option<[u8; 20]>,
    /// Somebody else had the same nickname first: more has to be shown to tell them apart.
    pub(super) is_alike: bool,
}

impl Person {
    fn of(neighbour: &Neighbour, picture: Option<[u8; 20]>) -> Self {
        let (nickname, show, status) = neighbour.shown();
        Self { nickname, show, status, picture, is_alike: false }
    }
}

impl Core {
    /// Neighbours that the link reports.
    pub(super) fn drain_neighbours(&mut self) {
        loop {
            for instance in self.neighbours.take_renamed() {
                self.verification_changed(&instance);
            }
            let Some(event) = self.neighbours.poll_event() else { return };
            match event {
                Event::Appeared(neighbour) | Event::Changed(neighbour) => {
                    let picture = self.link_picture_hash(&neighbour.who);
                    if !self.is_own_account(&neighbour.who) {
                        self.near(neighbour.who.clone(), Person::of(&neighbour, picture));
                    }
                }
                Event::Vanished(neighbour) if self.is_own_account(&neighbour.who) => {}
                Event::Vanished(neighbour) => self.not_near(&neighbour.who),
            }
        }
    }

    /// What is shown of somebody on the link beside what [`Neighbour`] has may be another.
    pub(super) fn refresh_link_person(&mut self, instance: &Instance) {
        let who = Who::Bonjour(instance.clone());
        if self.nearby.contains_key(&who)
            && let Some(person) =
                self.neighbours.get(&who).map(|shown| Person::of(shown, self.link_picture_hash(&who)))
        {
            self.near(who, person);
        }
    }

    /// A place in "Nearby" became free: somebody who found none may have it.
    fn fill_nearby(&mut self) {
        let waits = |neighbour: &&Neighbour| {
            matches!(neighbour.who, Who::Bonjour(_)) && !self.nearby.contains_key(&neighbour.who)
        };
        let next = self.neighbours.iter().find(waits);
        let next = next.map(|next| (next.who.clone(), Person::of(next, self.link_picture_hash(&next.who))));
        if let Some((who, person)) = next {
            self.near(who, person);
        }
    }

    pub(super) fn is_own_account(&self, who: &Who) -> bool {
        matches!(who, Who::User(user) if self.accounts.contains(user))
    }

    /// What an account shows on the link: the state of its best session, or nothing.
    pub(super) fn publish_to_link(&mut self, user: UserId, available: &[SessionId]) {
        let best =
            available.iter().filter_map(|id| self.session(*id)).max_by_key(|session| session.priority());
        let presence = best.and_then(|session| session.presence.as_ref());
        let Some(account) = self.accounts.get(&user) else { return };
        let visible = self.settings.visible && !account.stored.hidden;
        let presence = presence.filter(|_| visible).cloned();
        self.announce_on_link(user, presence.as_ref());
        let Some(account) = self.accounts.get(&user) else { return };
        let instance = self.announced_as(&user).map(ToString::to_string).unwrap_or_default();
        let status = presence.as_ref().map(|presence| LinkStatus {
            instance,
            nickname: account.stored.nickname.clone(),
            show: child_text(presence, "show"),
            status: child_text(presence, "status"),
        });
        let local = self.settings.local_nearby.unwrap_or(self.settings.domain.is_none());
        match &status {
            Some(status) if local => {
                let nickname = crosstalk_link_local::clean::nickname(&status.nickname);
                let (show, status) = (status.show.clone(), status.status.clone());
                self.near(Who::User(user), Person { nickname, show, status, picture: None, is_alike: false });
            }
            Some(_) => {}
            None => self.not_near(&Who::User(user)),
        }
        self.overlay.set_link_presence(&user, status, self.now);
    }

    fn near(&mut self, who: Who, mut person: Person) {
        if !self.nearby.contains_key(&who) && !self.has_room_nearby(&who) {
            return self.count("neighbours beyond those that are shown");
        }
        person.is_alike = match self.nearby.get(&who) {
            Some(before) if before.nickname == person.nickname => before.is_alike,
            Some(_) | None => self.is_named_like_another(&who, &person.nickname),
        };
        let before = self.nearby.insert(who.clone(), person.clone());
        if before.as_ref() == Some(&person) {
            return;
        }
        let renamed = before.is_none_or(|before| before.nickname != person.nickname);
        for viewer in self.viewers(&who) {
            if renamed && self.sees_nearby(viewer, &who) {
                self.push_nearby(viewer, &who, true);
            }
            self.show_neighbour(viewer, &who, true);
        }
    }

    fn is_named_like_another(&self, who: &Who, nickname: &str) -> bool {
        let folded = nickname.to_lowercase();
        self.nearby.iter().any(|(other, person)| other != who && person.nickname.to_lowercase() == folded)
    }

    /// Names of XEP-0174 cost nothing to invent: they fill half of the room at most, and somebody's contact always has
    /// a place.
    fn has_room_nearby(&self, who: &Who) -> bool {
        let limit = self.settings.nearby_limit;
        match who {
            Who::User(_) => self.nearby.len() < limit,
            Who::Bonjour(_) => {
                let bonjour = self.nearby.keys().filter(|who| matches!(who, Who::Bonjour(_))).count();
                bonjour < limit / 2 && self.nearby.len() < limit
                    || self.accounts.iter().any(|account| self.lists_link_person(account.user, who))
            }
        }
    }

    fn not_near(&mut self, who: &Who) {
        if !self.nearby.contains_key(who) || is_on(Mutant::NeighboursStay) {
            return;
        }
        for viewer in self.viewers(who) {
            self.show_neighbour(viewer, who, false);
            if self.sees_nearby(viewer, who) {
                self.push_nearby(viewer, who, false);
            }
        }
        self.nearby.remove(who);
        for viewer in self.accounts.iter().map(|account| account.user).collect::<Vec<_>>() {
            if let Some(account) = self.accounts.get_mut(&viewer) {
                account.dismissed.remove(who);
            }
        }
        if let Who::Bonjour(_) = who {
            self.fill_nearby();
        }
    }

    /// Accounts that are shown this neighbour: in "Nearby", or as a contact of the link.
    fn viewers(&self, who: &Who) -> Vec<UserId> {
        let accounts = self.accounts.iter().filter(|account| !account.sessions.is_empty());
        let sees = |viewer: &UserId| self.sees_nearby(*viewer, who) || self.watches_on_link(*viewer, who);
        accounts.map(|account| account.user).filter(sees).collect()
    }

    fn sees_nearby(&self, viewer: UserId, who: &Who) -> bool {
        let Some(account) = self.accounts.get(&viewer) else { return false };
        let is_contact = match who {
            Who::User(user) => viewer == *user || account.roster.by_user(user).is_some(),
            Who::Bonjour(_) => {
                self.lists_link_person(viewer, who) || self.link_mode_of(account) == LinkMode::Off
            }
        };
        !is_contact
            && self.nearby.contains_key(who)
            && !account.dismissed.contains(who)
            && !self.is_neighbour_blocked(viewer, who)
    }

    /// Whether the account has somebody of the link in its contact list.
    fn lists_link_person(&self, viewer: UserId, who: &Who) -> bool {
        let Who::Bonjour(_) = who else { return false };
        let Some(jid) = self.neighbour_address(viewer, who) else { return false };
        self.accounts.get(&viewer).is_some_and(|account| account.roster.get(jid.as_str()).is_some())
    }

    /// Whether the account sees the presence of somebody of the link as that of a contact.
    fn watches_on_link(&self, viewer: UserId, who: &Who) -> bool {
        let Some(account) = self.accounts.get(&viewer) else { return false };
        self.nearby.contains_key(who)
            && self.lists_link_person(viewer, who)
            && self.link_mode_of(account) != LinkMode::Off
            && !self.is_neighbour_blocked(viewer, who)
    }

    fn is_neighbour_blocked(&self, viewer: UserId, who: &Who) -> bool {
        match who {
            Who::User(user) => self.is_blocked(viewer, user),
            Who::Bonjour(_) => {
                let account = self.accounts.get(&viewer);
                let address = self.neighbour_address(viewer, who);
                account.zip(address).is_none_or(|(account, address)| account.blocks(&address))
            }
        }
    }

    /// The bare address under which an account sees a neighbour.
    fn neighbour_address(&self, viewer: UserId, who: &Who) -> Option<Jid> {
        match who {
            Who::User(user) => self.address_for(viewer, user).map(|address| address.to_bare().into()),
            Who::Bonjour(instance) => Jid::new(&instance.to_jid()).ok(),
        }
    }

    /// Neighbours that an account is shown, in "Nearby" or as contacts of the link.
    pub(super) fn shown_nearby(&self, viewer: UserId) -> BTreeSet<Who> {
        let sees = |who: &&Who| self.sees_nearby(viewer, who) || self.watches_on_link(viewer, who);
        self.nearby.keys().filter(sees).cloned().collect()
    }

    /// After a change of what an account may see: neighbours are shown or taken back.
    pub(super) fn nearby_changed(&mut self, viewer: UserId, before: &BTreeSet<Who>) {
        let after = self.shown_nearby(viewer);
        for who in before.symmetric_difference(&after) {
            let shown = after.contains(who);
            let contact = match who {
                Who::User(user) => {
                    self.accounts.get(&viewer).is_some_and(|account| account.roster.by_user(user).is_some())
                }
                Who::Bonjour(_) => self.lists_link_person(viewer, who),
            };
            if shown && !contact {
                self.push_nearby(viewer, who, true);
            }
            self.show_neighbour(viewer, who, shown);
            if !shown && !contact {
                self.push_nearby(viewer, who, false);
            }
        }
    }

    /// Whether this address is shown to the account in "Nearby".
    pub(crate) fn nearby_at(&self, viewer: UserId, bare: &str) -> Option<Who> {
        let is_it = |who: &&Who| {
            self.sees_nearby(viewer, who)
                && self.neighbour_address(viewer, who).is_some_and(|address| address.as_str() == bare)
        };
        self.nearby.keys().find(is_it).cloned()
    }

    /// A neighbour removed from "Nearby" by a client is hidden until it comes again.
    pub(crate) fn dismiss_nearby(&mut self, viewer: UserId, who: Who) {
        self.show_neighbour(viewer, &who, false);
        self.push_nearby(viewer, &who, false);
        if let Some(account) = self.accounts.get_mut(&viewer) {
            account.dismissed.insert(who);
        }
    }

    /// Before an entry of the list is written: if it makes a neighbour a contact, its presence as a neighbour is taken back; the
    /// list's own push follows.
    pub(super) fn neighbour_becomes_contact(&mut self, viewer: UserId, entry: &RosterItem) {
        let Some(who) = user_of(entry).filter(|_| !entry.removed).map(Who::User) else { return };
        if self.sees_nearby(viewer, &who) && !is_on(Mutant::NeighbourTwice) {
            self.show_neighbour(viewer, &who, false);
        }
    }

    /// After a contact was removed from the list: a neighbour is back in "Nearby" when it comes again.
    pub(super) fn contact_removed(&mut self, viewer: UserId, who: Who) {
        if self.nearby.contains_key(&who)
            && let Some(account) = self.accounts.get_mut(&viewer)
        {
            account.dismissed.insert(who);
        }
    }

    /// Something that the person who runs the node should read.
    pub(super) fn notice(&mut self, text: String) {
        self.output(Output::Notice(text), false);
    }
}

fn child_text(presence: &Stanza, name: &str) -> String {
    presence.get(name, ns::CLIENT).map(|child| child.own_text().to_string()).unwrap_or_default()
}
