//! What is said in the control channel: the contact list, by words (RFC 6121 §2, §3, XEP-0191). *Pure.*

use jid::BareJid;

use super::iq::Purpose;
use super::people::Person;
use super::{Session, presence};
use crate::features::commands::identity;
use crate::xmpp::form::{field, form, form_type};
use crate::xmpp::{Element, Type, ns};

const HELP: &[&str] = &[
    "add ADDRESS [NAME]: a new contact, who is asked to let you see when they are there",
    "accept NICK, deny NICK: answers somebody who asks to see when you are there; accepting asks back",
    "rename NICK NAME: what a contact is called",
    "remove NICK: out of the contact list; neither sees the other any more",
    "block NICK, unblock NICK, blocked: who reaches you with nothing, and who that is",
    "verify NICK: who it is and how sure that is, with the keys of both to be compared by telephone or face to face",
    "contacts: all, also those who are not here; requests: who waits for an answer",
    "Instead of NICK it can be an address. To write to somebody: /msg NICK, or /msg ADDRESS. /away TEXT, /away: how you are shown.",
];
/// Contacts that are listed at once.
const LISTED: usize = 500;

impl Session {
    /// Carries out what a person said to the node.
    pub(super) fn obey(&mut self, said: &str) {
        let said = said.trim();
        let said = said
            .strip_prefix("crosstalk:")
            .or_else(|| said.strip_prefix("crosstalk,"))
            .unwrap_or(said)
            .trim();
        let (word, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
        let rest = rest.trim();
        let (who, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word.to_lowercase().as_str() {
            "help" => HELP.iter().for_each(|line| self.tell(line)),
            "contacts" => self.list(|_| true, "You have no contacts yet: `add ADDRESS`."),
            "requests" => self.list(|person| person.asks || person.asked, "No request waits for an answer."),
            "blocked" => self.ask(Type::Get, None, Element::new("blocklist", ns::BLOCKING), Purpose::Blocked),
            "add" => self.about(who, |session, address| session.add(address, more.trim())),
            "accept" | "approve" => self.about(who, Self::accept),
            "deny" | "reject" => self.about(who, |session, address| {
                session.answer(address, Type::Unsubscribed);
                session.person_at(address.as_str()).asks = false;
                session.tell(&format!("{address} is told no."));
            }),
            "remove" => self.about(who, |session, address| {
                let item = Element::new("item", ns::ROSTER)
                    .attr("jid", address.as_str())
                    .attr("subscription", "remove");
                session.set_item(item, format!("{address} is removed."));
            }),
            "rename" if !more.trim().is_empty() => {
                self.about(who, |session, address| session.rename(address, more.trim()))
            }
            "block" => self.about(who, |session, address| session.block("block", address, "is blocked")),
            "unblock" => self
                .about(who, |session, address| session.block("unblock", address, "is not blocked any more")),
            "verify" => self.about(who, |session, address| {
                session.ask_identity(address.as_str(), Purpose::Verify(address.to_string()));
            }),
            "" => {}
            _ => {
                let word: String = word.chars().take(30).collect();
                self.tell(&format!("`{word}` is nothing that can be done like this. Say `help`; to write to somebody: /msg NICK."));
            }
        }
    }

    /// Does it about whom a word means.
    fn about(&mut self, who: &str, act: impl FnOnce(&mut Self, &BareJid)) {
        match self.meant(who) {
            Some(address) if address.node().is_some() => act(self, &address),
            Some(_) | None if who.is_empty() => self.tell("Say about whom, too: a nick or an address."),
            Some(_) | None => {
                let who: String = who.chars().take(80).collect();
                self.tell(&format!("{who} is no nick of this session, and no address."));
            }
        }
    }

    fn add(&mut self, address: &BareJid, name: &str) {
        let known = self.people.get(address.as_str()).filter(|person| person.listed && !person.nearby);
        let (known, groups) =
            (known.map(|person| person.name.clone()), known.map(|person| person.groups.clone()));
        let name = Some(name.to_owned()).filter(|name| !name.is_empty()).or(known);
        self.set_item(
            item_of(address, name.as_deref(), groups.as_deref().unwrap_or_default()),
            format!("{address} is added, and asked to let you see when they are there."),
        );
        self.answer(address, Type::Subscribe);
    }

    fn accept(&mut self, address: &BareJid) {
        self.answer(address, Type::Subscribed);
        let person = self.person_at(address.as_str());
        person.asks = false;
        // Neighbours are shown as if they were contacts of both sides.
        let asks_back =
            !person.asked && (person.nearby || !matches!(&person.subscription[..], "to" | "both"));
        if asks_back {
            self.answer(address, Type::Subscribe);
        }
        let nick = self.nick_of(address.as_str());
        self.tell(&format!(
            "{nick} may see when you are there{}.",
            if asks_back { ", and is asked for the same" } else { "" }
        ));
    }

    fn rename(&mut self, address: &BareJid, name: &str) {
        let person = self.people.get(address.as_str()).filter(|person| person.listed && !person.nearby);
        let Some(groups) = person.map(|person| person.groups.clone()) else {
            return self.tell(&format!("{address} is not in your contact list: `add {address} {name}`."));
        };
        self.set_item(item_of(address, Some(name), &groups), format!("{address} is called {name} now."));
    }

    fn answer(&mut self, address: &BareJid, type_: Type) {
        let mut answer = presence(type_);
        answer.to = Some(address.clone().into());
        self.send(&answer);
    }

    fn set_item(&mut self, item: Element, done: String) {
        let query = Element::new("query", ns::ROSTER).child(item);
        self.ask(Type::Set, None, query, Purpose::Change(done));
    }

    fn block(&mut self, what: &str, address: &BareJid, done: &str) {
        let item = Element::new("item", ns::BLOCKING).attr("jid", address.as_str());
        let done = format!("{address} {done}.");
        self.ask(Type::Set, None, Element::new(what, ns::BLOCKING).child(item), Purpose::Change(done));
    }

    pub(super) fn show_blocked(&mut self, list: Option<&Element>) {
        let items = list.iter().flat_map(|list| list.children()).filter_map(|item| item.get_attr("jid"));
        let blocked: Vec<&str> = items.take(LISTED).collect();
        match blocked.is_empty() {
            true => self.tell("Nobody is blocked."),
            false => self.tell(&format!("Blocked: {}", blocked.join(" "))),
        }
    }

    fn list(&mut self, which: impl Fn(&Person) -> bool, nobody: &str) {
        let shown = |(_, person): &(&String, &Person)| (person.listed || person.asks) && which(person);
        let lines: Vec<String> = self
            .people
            .known
            .iter()
            .filter(shown)
            .take(LISTED)
            .map(|(address, person)| line_of(self.people.nicks.nick(address).unwrap_or("?"), address, person))
            .collect();
        if lines.is_empty() {
            self.tell(nobody);
        }
        lines.iter().for_each(|line| self.tell(line));
    }

    /// Asks the core who is at an address (XEP-0050).
    pub(super) fn ask_identity(&mut self, address: &str, purpose: Purpose) {
        let asked = form("submit").child(form_type(identity::NODE)).child(field(
            "address",
            "jid-single",
            "",
            address,
        ));
        let command = Element::new("command", ns::COMMANDS).attr("node", identity::NODE).child(asked);
        let domain = self.address.split_once('@').map(|(_, domain)| domain.to_owned());
        self.ask(Type::Set, domain.as_deref(), command, purpose);
    }

    pub(super) fn show_identity(&mut self, address: &str, answer: Option<&Element>) {
        let nick = self.nick_of(address);
        self.tell(&format!("{nick} is {address}"));
        for (what, text) in answer.into_iter().flat_map(fields) {
            self.tell(&match &what[..] {
                "tier" => format!("how sure: {text}"),
                "key" => format!("their key: {text}"),
                "own-key" => format!("your key:  {text}"),
                _ => continue,
            });
        }
        self.tell("If both of you read the same two keys, nobody is between you.");
    }
}

/// What the core says of somebody.
pub(super) fn fields(command: &Element) -> Vec<(String, String)> {
    let form = command.get("x", ns::DATA);
    let fields = form.iter().flat_map(|form| form.children()).filter(|child| child.is("field", ns::DATA));
    fields
        .filter_map(|field| {
            let value = field.get("value", ns::DATA)?.own_text().to_string();
            Some((field.get_attr("var")?.to_owned(), value))
        })
        .collect()
}

fn item_of(address: &BareJid, name: Option<&str>, groups: &[String]) -> Element {
    let item = Element::new("item", ns::ROSTER).attr("jid", address.as_str()).attr_opt("name", name);
    item.children_from(groups.iter().map(|group| Element::new("group", ns::ROSTER).text(group)))
}

fn line_of(nick: &str, address: &str, person: &Person) -> String {
    let state = match (person.is_here(), person.away()) {
        (true, None) => "here".to_owned(),
        (true, Some(shown)) => format!("away: {}", shown.text),
        (false, _) => "not here".to_owned(),
    };
    let stands = match (&person.subscription[..], person.asked, person.asks) {
        (_, _, true) => ", asks to see you",
        (_, true, _) => ", is asked and has not answered",
        ("from", ..) => ", sees you only",
        ("to", ..) => ", does not see you",
        ("both", ..) => "",
        _ => ", neither sees the other",
    };
    let name =
        if person.name.is_empty() { String::new() } else { format!(" \u{201c}{}\u{201d}", person.name) };
    format!("{nick} ({address}){name}: {state}{stands}")
}
