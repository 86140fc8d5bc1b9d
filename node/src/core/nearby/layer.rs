//! What clients are sent of neighbours: items of the contact list, and presence. *Pure.*

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::id::UserId;
use jid::Jid;

use crate::core::Core;
use crate::core::presence::unavailable_stanza;
use crate::core::session::SessionId;
use crate::xmpp::{Element, Stanza, Type, ns};

/// The group that clients show.
pub(crate) const GROUP: &str = "Nearby";
/// Resource that a neighbour's presence is shown from.
pub(crate) const RESOURCE: &str = "nearby";

/// Ends the version of a list that has neighbours in it.
pub(crate) const DIRTY: &str = "+nearby";

impl Core {
    /// The layer for a session that has just fetched its contact list: pushed after the real list.
    pub(crate) fn show_all_nearby(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let (viewer, available) = (session.user, session.presence.is_some());
        let near: Vec<Who> =
            self.nearby.keys().filter(|who| self.sees_nearby(viewer, who)).cloned().collect();
        for who in near {
            if let Some(item) = self.nearby_item(viewer, &who, true) {
                self.push_neighbour(id, viewer, &who, item, true);
            }
            if available && let Some(presence) = self.neighbour_presence(viewer, &who, true) {
                self.send(id, presence, None, false);
            }
        }
    }

    /// Presence of neighbours for a session that has just become available. Contacts of the link are shown to it even
    /// if it has not asked for the list.
    pub(in crate::core) fn show_nearby_presences(&mut self, id: SessionId, viewer: UserId) {
        let interested = self.session(id).is_some_and(|session| session.interested);
        for who in self.shown_nearby(viewer) {
            if !interested && !self.watches_on_link(viewer, &who) {
                continue;
            }
            if let Some(presence) = self.neighbour_presence(viewer, &who, true) {
                self.send(id, presence, None, false);
            }
        }
    }

    pub(super) fn push_nearby(&mut self, viewer: UserId, who: &Who, shown: bool) {
        let Some(item) = self.nearby_item(viewer, who, shown) else { return };
        for id in self.sessions_of(viewer, |session| session.interested) {
            self.push_neighbour(id, viewer, who, item.clone(), shown);
        }
    }

    fn push_neighbour(&mut self, id: SessionId, viewer: UserId, who: &Who, item: Element, shown: bool) {
        self.push_to(id, viewer, item, None);
        let Some(session) = self.session_mut(id) else { return };
        match shown {
            true => {
                session.neighbours.insert(who.clone(), None);
                self.dirty.insert(id);
            }
            false => session.took_back(who),
        }
    }

    /// After a restart: neighbours that the client of a resumed session shows and who are not near now.
    pub(in crate::core) fn correct_neighbours(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let viewer = session.user;
        let gone = session.neighbours.keys().filter(|who| !self.sees_nearby(viewer, who)).cloned();
        for who in gone.collect::<Vec<_>>() {
            let contact = match &who {
                Who::User(user) => {
                    self.accounts.get(&viewer).is_some_and(|account| account.roster.by_user(user).is_some())
                }
                Who::Bonjour(_) => self.lists_link_person(viewer, &who),
            };
            if !self.watches_on_link(viewer, &who)
                && let Some(gone) = self.absence(viewer, &who)
            {
                self.send(id, gone, None, false);
                if let Some(session) = self.session_mut(id) {
                    session.took_back(&who);
                }
            }
            if let Some(item) = self.nearby_item(viewer, &who, false).filter(|_| !contact) {
                self.push_neighbour(id, viewer, &who, item, false);
            }
        }
    }

    pub(in crate::core) fn show_neighbour(&mut self, viewer: UserId, who: &Who, shown: bool) {
        let Some(presence) = self.neighbour_presence(viewer, who, shown) else { return };
        let contact = self.watches_on_link(viewer, who);
        for id in
            self.sessions_of(viewer, |session| (session.interested || contact) && session.presence.is_some())
        {
            self.send(id, presence.clone(), None, false);
        }
    }

    fn nearby_item(&self, viewer: UserId, who: &Who, shown: bool) -> Option<Element> {
        let address = self.neighbour_address(viewer, who)?;
        let item = Element::new("item", ns::ROSTER).attr("jid", address.as_str());
        if !shown {
            return Some(item.attr("subscription", "remove"));
        }
        let name = self.neighbour_name(who)?;
        let group = Element::new("group", ns::ROSTER).text(GROUP);
        Some(item.attr("subscription", "both").attr("name", name).child(group))
    }

    fn neighbour_presence(&self, viewer: UserId, who: &Who, shown: bool) -> Option<Stanza> {
        let mut stanza = self.absence(viewer, who)?;
        if shown {
            let person = self.nearby.get(who)?;
            stanza.type_ = Type::Available;
            for (name, text) in [("show", &person.show), ("status", &person.status)] {
                if !text.is_empty() {
                    stanza.payload.push(Element::new(name, ns::CLIENT).text(text));
                }
            }
            let nick = match who {
                Who::User(_) => person.nickname.clone(),
                Who::Bonjour(_) => self.neighbour_name(who)?,
            };
            stanza.payload.push(Element::new("nick", ns::NICK).text(&nick));
            if let Who::Bonjour(_) = who {
                stanza.payload.push(picture_update(person.picture));
            }
        }
        Some(stanza)
    }

    /// `unavailable` from where a neighbour's presence is shown.
    fn absence(&self, viewer: UserId, who: &Who) -> Option<Stanza> {
        let to = self.accounts.get(&viewer).map(|account| Jid::from(account.jid.clone()));
        Some(Stanza { to, ..unavailable_stanza(&self.neighbour_address(viewer, who)?, RESOURCE)? })
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
}

/// XEP-0153 §3.1: the hash of the picture, or that there is none.
fn picture_update(picture: Option<[u8; 20]>) -> Element {
    let photo = Element::new("photo", ns::VCARD_UPDATE);
    let photo = match picture {
        Some(hash) => photo.text(&crate::core::hex(&hash)),
        None => photo,
    };
    Element::new("x", ns::VCARD_UPDATE).child(photo)
}
