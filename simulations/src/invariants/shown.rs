//! What a client shows was really said by the one whose name stands over it; and nobody who is gone is shown as here.
//! *Pure.*

use crosstalk::xmpp::{Element, ns};
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::record::{PresenceRecord, Record, Unverified};
use crosstalk_overlay::wire::{self, Frame};

use super::ownership::numbered;
use crate::client::Client;
use crate::client::contacts::NOBODY;
use crate::client::view::bare_of;
use crate::world::World;
use crate::world::events::{ClientId, HostId, PersonId};
use crate::world::host::Power;
use crate::world::spam::is_spam;
use crate::world::story::Checked;
use crate::world::theft::is_lie;

/// How a frame with presence begins: field 5, a message (`overlay/PROTOCOL.md` §3).
const PRESENCE: u8 = 5 << 3 | 2;
/// Leaving is seen within 30 s (DESIGN.md §6), counted from what the last frame may have needed on its way.
const LEAVING: u64 = 30_000 + 8_000;

impl World {
    /// A client got a stanza.
    pub(crate) fn check_stanza(&mut self, to: ClientId, stanza: &Element) -> Checked {
        if self.clients[to.0].lawless {
            let key = numbered(&stanza.to_bytes(ns::CLIENT)).filter(|key| key.from.0 < self.clients.len());
            return key.map_or(Ok(()), |key| self.check_thief_got(key));
        }
        self.note_answer(to, stanza);
        if stanza.get_attr("type") == Some("error") {
            return self.check_error(to, stanza);
        }
        match stanza.name() {
            "message" => self.check_message(to, stanza),
            "presence" => self.check_presence(to, stanza),
            _ => self.check_iq(to, stanza),
        }
    }

    pub(super) fn forged(&self, to: ClientId, stanza: &Element, why: &str) -> crate::world::Violation {
        let text = String::from_utf8_lossy(&stanza.to_bytes(ns::CLIENT)).into_owned();
        self.violation(format!("{} was shown what {why}: {text}", self.clients[to.0].name))
    }

    fn check_message(&mut self, to: ClientId, message: &Element) -> Checked {
        let from = message.get_attr("from").unwrap_or_default();
        let own = &self.people[self.clients[to.0].person.0].jid;
        if let Some(copy) = message.get("sent", ns::CARBONS) {
            let key = numbered(&copy.to_bytes(ns::CLIENT));
            return match key.filter(|key| from == own && key.from.0 < self.clients.len()) {
                Some(key) => self.check_copy(to, key),
                None => Err(self.forged(to, message, "is no copy of anything sent")),
            };
        }
        if is_lie(message) && self.stolen_address().is_some_and(|stolen| from == stolen) {
            return match self.has_known_since(self.clients[to.0].host) {
                Some(_) => Err(self.forged(to, message, "a thief said")),
                None => Ok(()),
            };
        }
        if from == XID_DOMAIN && is_about_nobody(message) {
            return Ok(());
        }
        if is_spam(message) {
            return self.check_blocked(to, message);
        }
        let key = numbered(&message.to_bytes(ns::CLIENT)).filter(|key| key.from.0 < self.clients.len());
        let Some(key) = key else { return Err(self.forged(to, message, "nobody said")) };
        let sender = &self.clients[key.from.0];
        let expected = format!("{}/{}", self.people[sender.person.0].jid, sender.resource);
        if from != expected {
            return Err(self.forged(to, message, "somebody else said"));
        }
        self.check_delivery(to, key)
    }

    fn check_presence(&mut self, to: ClientId, presence: &Element) -> Checked {
        let from = presence.get_attr("from").unwrap_or_default();
        let Some(person) = self.person_at(bare_of(from)) else {
            return Err(self.forged(to, presence, "comes from nobody who exists"));
        };
        let viewer = self.clients[to.0].person;
        match presence.get_attr("type") {
            None => self.check_available(to, presence, person, viewer),
            Some("unavailable") => Ok(()),
            Some("subscribe") => {
                self.check_blocked(to, presence)?;
                match self.book.has_stated(person, viewer, "subscribe") {
                    true => Ok(()),
                    false => Err(self.forged(to, presence, "was never stated")),
                }
            }
            Some(type_) if self.book.has_stated(person, viewer, type_) => Ok(()),
            Some(_) => Err(self.forged(to, presence, "was never stated")),
        }
    }

    fn check_available(
        &mut self,
        to: ClientId,
        presence: &Element,
        person: PersonId,
        viewer: PersonId,
    ) -> Checked {
        let from = presence.get_attr("from").unwrap_or_default();
        match presence.has("delay", ns::DELAY) {
            true => self.book.aged.insert((to, from.to_owned()), self.time),
            false => self.book.aged.remove(&(to, from.to_owned())),
        };
        let resource = from.split_once('/').map_or("", |(_, resource)| resource);
        let known = |client: &crate::client::Client| client.person == person && client.resource == resource;
        if resource != "nearby" {
            if !self.clients.iter().any(known) {
                return Err(self.forged(to, presence, "comes from no client of that person"));
            }
            if person != viewer && !self.book.has_stated(person, viewer, "subscribed") {
                return Err(self.forged(to, presence, "its owner did not permit"));
            }
        }
        let known = self.has_known_since(self.clients[to.0].host).is_some();
        if known && self.stolen_address().is_some_and(|stolen| from == stolen) {
            return Err(self.forged(to, presence, "a thief said of itself"));
        }
        self.check_blocked(to, presence)?;
        let Some(status) = presence.get("status", ns::CLIENT).map(|status| status.own_text().to_string())
        else {
            return Ok(());
        };
        if !self.book.statuses.contains(&(person, status.clone())) {
            return Err(self.forged(to, presence, "that person never published"));
        }
        self.check_age(to, presence, &status)
    }

    /// What a client says of itself gets newer under each address, never older.
    fn check_age(&mut self, to: ClientId, presence: &Element, status: &str) -> Checked {
        let numbers = status.strip_prefix('s').and_then(|status| status.split_once('.'));
        let numbers = numbers.and_then(|(client, number)| Some((client.parse().ok()?, number.parse().ok()?)));
        let Some((client, number)) = numbers else { return Ok(()) };
        let from = presence.get_attr("from").unwrap_or_default().to_owned();
        let newest = self.book.newest_status.entry((to, from, client)).or_default();
        if number < *newest {
            return Err(self.forged(to, presence, "is older than what it was shown before"));
        }
        *newest = number;
        Ok(())
    }

    fn check_iq(&mut self, to: ClientId, iq: &Element) -> Checked {
        self.note_blocked(to, iq);
        let from = iq.get_attr("from").unwrap_or_default();
        let own = &self.people[self.clients[to.0].person.0].jid;
        if !from.is_empty() && from != XID_DOMAIN && bare_of(from) != own {
            return Err(self.forged(to, iq, "nobody asked"));
        }
        let mut items = iq.get("query", ns::ROSTER).into_iter().flat_map(Element::children);
        items.try_for_each(|item| self.check_item(to, iq, item))
    }

    /// Nobody whose hosts have all been out of reach for some time is shown as available. While a node cannot save, what it
    /// tells a client may wait behind a promise; so its word counts from when it can. What is shown with its age, by a
    /// server or the hash table, may be so for the life of a record.
    pub(crate) fn check_departed(&self) -> Checked {
        let present = |client: &Client| client.is_ready() && !client.lawless;
        let left: Vec<&Client> = self.clients.iter().filter(|client| client.left.is_some()).collect();
        let stolen = self.stolen_address();
        let all_in_reach = self.network.all_in_reach()
            && stolen.is_none()
            && self.people.iter().all(|person| !person.hosts.is_empty());
        for (id, client) in self.clients.iter().enumerate().filter(|(_, client)| present(client)) {
            let host = &self.hosts[client.host.0];
            let here_since = client.ready_since.max(host.booted).max(host.woken).max(host.disk.roomy_since);
            if host.power != Power::On || host.disk.full || here_since + LEAVING > self.time {
                continue;
            }
            let told = self.has_known_since(client.host).filter(|told| told + LEAVING < self.time);
            let name = client.name;
            if told.is_some() && stolen.as_ref().is_some_and(|stolen| client.view.online.contains_key(stolen))
            {
                return Err(self.violation(format!("{name} is still shown a thief, of whom its node knows")));
            }
            let twice = client.view.shown_twice().and_then(|bare| self.person_at(bare));
            if let Some(person) = twice {
                let who = self.who(person);
                return Err(self.violation(format!("{name} is shown {who} as a neighbour and as a contact")));
            }
            if !left.is_empty() {
                self.check_logged_out(ClientId(id), &left, here_since)?;
            }
            if !all_in_reach {
                self.check_out_of_reach(ClientId(id))?;
            }
        }
        Ok(())
    }

    /// Nobody is shown at a client that has logged out in order, if everybody could have been told since.
    fn check_logged_out(&self, at: ClientId, left: &[&Client], here_since: u64) -> Checked {
        let client = &self.clients[at.0];
        let late = |one: &&&Client| one.left.is_some_and(|left| left.max(here_since) + LEAVING < self.time);
        for one in left.iter().filter(late) {
            let full = format!("{}/{}", self.people[one.person.0].jid, one.resource);
            if client.view.online.contains_key(&full) && !self.is_shown_with_age(at, &full) {
                let (name, gone) = (client.name, self.who(one.person));
                return Err(self.violation(format!(
                    "{name} is shown {gone} as available at a client that has logged out"
                )));
            }
        }
        Ok(())
    }

    /// Nobody is shown whose hosts have all been out of reach for too long.
    fn check_out_of_reach(&self, at: ClientId) -> Checked {
        let client = &self.clients[at.0];
        let leaving = LEAVING * self.book.hops.max(1);
        let void = self.has_known_since(client.host).is_some_and(|told| told + leaving < self.time);
        let gone = |other: &HostId| {
            let since = self.network.news_from(client.host, *other);
            void && self.is_stolen(*other)
                || *other != client.host && since.is_some_and(|since| since + leaving < self.time)
        };
        let people = self.people.iter().enumerate().filter(|(_, person)| person.hosts.iter().all(gone));
        for (number, person) in people {
            let mut shown = client.view.online_as(&person.jid);
            if shown.any(|full| !self.is_shown_with_age(at, full)) {
                let (name, gone) = (client.name, self.who(PersonId(number)));
                let why =
                    format!("{name} is shown {gone} as available, who has been out of reach for too long");
                return Err(self.violation(why));
            }
        }
        Ok(())
    }

    /// Whether somebody is shown with the age of what is shown, which may be so for the life of a record.
    fn is_shown_with_age(&self, at: ClientId, full: &str) -> bool {
        let aged = self.book.aged.get(&(at, full.to_owned()));
        aged.is_some_and(|since| self.time < since + PresenceRecord::MAX_LIFE + LEAVING)
    }

    /// What a node tells another of a contact's presence is for those only whom its owner has permitted it.
    pub(crate) fn check_told(&self, by: HostId, frame: &[u8]) -> Checked {
        if self.hosts[by.0].attacker.is_some() || frame.first() != Some(&PRESENCE) {
            return Ok(());
        }
        let Ok(Frame::Presence { to, record }) = wire::decode(frame) else { return Ok(()) };
        let Ok(said) = Unverified::<PresenceRecord>::parse(&record) else { return Ok(()) };
        let person = |user: &UserId| self.people.iter().position(|person| person.user == *user).map(PersonId);
        let Some(owner) = person(&said.claim().user) else { return Ok(()) };
        for watcher in to.iter().filter_map(person).filter(|watcher| *watcher != owner) {
            if !self.book.has_stated(owner, watcher, "subscribed") {
                let (owner, watcher) = (self.who(owner), self.who(watcher));
                return Err(self.violation(format!(
                    "presence of {owner} was sent to {watcher}, who was not permitted it"
                )));
            }
        }
        Ok(())
    }
}

/// Whether a node says that devices of a user disagree about somebody who is nowhere: those are edited at random.
fn is_about_nobody(message: &Element) -> bool {
    message.get("subject", ns::CLIENT).is_some_and(|subject| {
        subject.own_text().starts_with(NOBODY) && subject.own_text().ends_with("is kept by another")
    })
}
