//! Who is known: contacts, neighbours, who asks or has written; how they are called and what of them is in the control channel. *Pure.*

use std::collections::BTreeMap;

use super::{Session, bot};
use crate::core::nearby::GROUP;
use crate::irc::line::Line;
use crate::irc::nicks::Nicks;
use crate::irc::{BOT, CHANNEL};
use crate::xmpp::{Element, ns};

/// People of a session; a contact list and neighbours have room in it. Of who only wrote, some make room.
const MOST: usize = 8_192;
/// Sessions of one person that are looked at.
const RESOURCES: usize = 32;

/// What one session of somebody shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) away: bool,
    pub(super) text: String,
}

/// Somebody.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// As the list has it, with the tier of a neighbour.
    pub(super) name: String,
    /// Stands in the contact list, or in "Nearby".
    pub(super) listed: bool,
    pub(super) nearby: bool,
    /// `none`, `to`, `from`, `both`.
    pub(super) subscription: String,
    /// We have asked, and are not answered.
    pub(super) asked: bool,
    /// Asks to see us.
    pub(super) asks: bool,
    /// The client was told who this is that is not listed.
    pub(super) introduced: bool,
    pub(super) groups: Vec<String>,
    pub(super) sessions: BTreeMap<String, Shown>,
    /// The client knows that this person is away.
    pub(super) told_away: bool,
}

impl Person {
    pub(super) fn is_here(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// The state of who is there and has no session that is not away.
    pub(super) fn away(&self) -> Option<&Shown> {
        let first = self.sessions.values().find(|shown| shown.away)?;
        self.sessions.values().all(|shown| shown.away).then_some(first)
    }
}

/// People by their addresses.
#[derive(Debug)]
pub(super) struct People {
    pub(super) nicks: Nicks,
    pub(super) known: BTreeMap<String, Person>,
}

impl People {
    pub(super) fn new(own: &str) -> Self {
        let mut nicks = Nicks::default();
        nicks.reserve(BOT);
        nicks.reserve(own);
        Self { nicks, known: BTreeMap::new() }
    }

    /// Who is at an address, known from now on.
    fn at(&mut self, address: &str) -> &mut Person {
        if !self.known.contains_key(address) && self.known.len() >= MOST {
            let strangers = self.known.iter().filter(|(_, person)| !person.listed);
            let mut strangers: Vec<(bool, String)> =
                strangers.map(|(address, person)| (person.asks, address.clone())).collect();
            strangers.sort_unstable();
            for (_, stranger) in strangers.into_iter().take(MOST / 4) {
                self.known.remove(&stranger);
                self.nicks.forget(&stranger);
            }
        }
        self.known.entry(address.to_owned()).or_default()
    }

    pub(super) fn is_listed(&self, address: &str) -> bool {
        self.get(address).is_some_and(|person| person.listed)
    }

    pub(super) fn get(&self, address: &str) -> Option<&Person> {
        self.known.get(address)
    }

    /// In the channel, in the order of their addresses.
    pub(super) fn here(&self) -> impl Iterator<Item = (&str, &Person)> {
        self.known
            .iter()
            .filter(|(_, person)| person.is_here())
            .map(|(address, person)| (&address[..], person))
    }
}

impl Session {
    /// An item of the contact list, fetched or pushed.
    pub(super) fn item(&mut self, item: &Element) {
        let Some(address) = item.get_attr("jid").filter(|_| item.is("item", ns::ROSTER)) else { return };
        let subscription = item.get_attr("subscription").unwrap_or("none").to_owned();
        if subscription == "remove" {
            return self.unlisted(address);
        }
        let groups = item.children().filter(|child| child.is("group", ns::ROSTER));
        let groups: Vec<String> = groups.map(|group| group.own_text().to_string()).collect();
        let name = item.get_attr("name").unwrap_or_default().to_owned();
        let person = self.people.at(address);
        person.listed = true;
        person.nearby = groups.iter().any(|group| group == GROUP);
        person.asked = item.get_attr("ask").is_some();
        person.asks &= !matches!(&subscription[..], "from" | "both");
        (person.name, person.groups, person.subscription) = (name, groups, subscription);
        self.name(address);
    }

    fn unlisted(&mut self, address: &str) {
        self.gone(address, "no contact any more");
        if let Some(person) = self.people.known.get_mut(address) {
            *person = Person { asks: person.asks, ..Person::default() };
        }
    }

    /// Gives somebody the nick that the name asks for, and tells a change.
    fn name(&mut self, address: &str) -> String {
        let person = self.people.known.get(address);
        let name = person
            .map_or("", |person| if person.nearby { bare_name(&person.name) } else { &person.name })
            .to_owned();
        let before = self.people.nicks.nick(address).map(|_| self.mask_of(address));
        let here = person.is_some_and(Person::is_here);
        let nick = self.people.nicks.give(address, &name);
        if let Some(before) = before.filter(|before| here && !before.starts_with(&format!("{nick}!"))) {
            self.write(&Line::new("NICK").from(&before).param(&nick[..]));
        }
        nick
    }

    /// The nick of an address, known from now on.
    pub(super) fn nick_of(&mut self, address: &str) -> String {
        match self.people.nicks.nick(address) {
            Some(nick) => nick.to_owned(),
            None => {
                self.people.at(address);
                self.name(address)
            }
        }
    }

    pub(super) fn person_at(&mut self, address: &str) -> &mut Person {
        self.nick_of(address);
        self.people.at(address)
    }

    /// Somebody as a source: the address is in it, as far as a source can have it.
    pub(super) fn mask_of(&self, address: &str) -> String {
        let (user, host) = user_and_host(address);
        format!("{}!{user}@{host}", self.people.nicks.nick(address).unwrap_or("*"))
    }

    /// A session of somebody says how it is. Who is not listed has no place in the channel.
    pub(super) fn appeared(&mut self, address: &str, resource: &str, shown: Shown) {
        if !self.people.is_listed(address) {
            return;
        }
        let person = self.person_at(address);
        let (was_here, was_away) = (person.is_here(), person.away().cloned());
        if person.sessions.len() < RESOURCES || person.sessions.contains_key(resource) {
            person.sessions.insert(resource.to_owned(), shown);
        }
        let away = person.away().cloned();
        if away.is_none() {
            person.told_away = false;
        }
        let mask = self.mask_of(address);
        match was_here {
            false => self.joins(&mask, away.as_ref()),
            true => self.changed(&mask, was_away.as_ref(), away.as_ref()),
        }
    }

    /// It ended; `None`: all of them.
    pub(super) fn vanished(&mut self, address: &str, resource: Option<&str>, text: &str) {
        let Some(person) = self.people.known.get_mut(address).filter(|person| person.is_here()) else {
            return;
        };
        let was_away = person.away().cloned();
        if let Some(resource) = resource.filter(|_| person.sessions.len() > 1) {
            person.sessions.remove(resource);
            let away = person.away().cloned();
            let mask = self.mask_of(address);
            return self.changed(&mask, was_away.as_ref(), away.as_ref());
        }
        if resource.is_none_or(|resource| person.sessions.contains_key(resource)) {
            self.gone(address, text);
        }
    }

    fn gone(&mut self, address: &str, text: &str) {
        let Some(person) = self.people.known.get_mut(address).filter(|person| person.is_here()) else {
            return;
        };
        person.sessions.clear();
        person.told_away = false;
        if self.joined && self.ready {
            let line = Line::new("PART").from(&self.mask_of(address)).param(CHANNEL).param(text);
            self.write(&line);
        }
    }

    fn joins(&mut self, mask: &str, away: Option<&Shown>) {
        if !self.joined || !self.ready {
            return;
        }
        self.write(&Line::new("JOIN").from(mask).param(CHANNEL));
        match away {
            None => self.voice(mask, "+v"),
            Some(shown) => self.says_away(mask, &shown.text),
        }
    }

    fn changed(&mut self, mask: &str, before: Option<&Shown>, now: Option<&Shown>) {
        if !self.joined || !self.ready {
            return;
        }
        match (before, now) {
            (None, Some(shown)) => {
                self.voice(mask, "-v");
                self.says_away(mask, &shown.text);
            }
            (Some(_), None) => {
                self.voice(mask, "+v");
                self.says_away(mask, "");
            }
            (Some(before), Some(now)) if before.text != now.text => self.says_away(mask, &now.text),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn voice(&mut self, mask: &str, mode: &str) {
        let nick = mask.split('!').next().unwrap_or_default();
        self.write(&Line::new("MODE").from(&bot()).param(CHANNEL).param(mode).param(nick));
    }

    /// To a client that wants it (IRCv3 away-notify); without a text somebody is back.
    fn says_away(&mut self, mask: &str, text: &str) {
        if self.caps.has("away-notify") {
            let line = Line::new("AWAY").from(mask);
            self.write(&if text.is_empty() { line } else { line.param(text) });
        }
    }
}

/// A neighbour's name without what the node says behind it.
fn bare_name(name: &str) -> &str {
    name.strip_suffix(')').and_then(|name| name.rsplit_once(" (")).map_or(name, |(name, _)| name)
}

/// An address in the characters that a source has.
pub(super) fn user_and_host(address: &str) -> (String, String) {
    let (local, domain) = address.split_once('@').unwrap_or(("", address));
    let fits = |char: char| if char.is_ascii_graphic() && !"!@:,*".contains(char) { char } else { '?' };
    let part = |text: &str, most: usize| {
        let text: String = text.chars().take(most).map(fits).collect();
        if text.is_empty() { "?".to_owned() } else { text }
    };
    (part(local, 80), part(domain, 63))
}
