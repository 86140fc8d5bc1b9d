//! Requests and answers: how a session begins (RFC 6120 §7, RFC 6121 §2.2), what was asked of the core, pushes (RFC 6121 §2.1.6). *Pure.*

use std::collections::BTreeMap;

use super::{Session, reason};
use crate::irc::NETWORK;
use crate::xmpp::{Condition, Element, Stanza, StanzaError, Type, ns};

/// Questions under way.
const MOST: usize = 256;

/// What a question is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A resource.
    Bind,
    /// The contact list.
    Roster,
    /// Who is blocked: to be shown.
    Blocked,
    /// Something that only needs to have been done.
    Silent,
    /// A change, with the words for its success.
    Change(String),
    /// Who somebody is, for WHOIS.
    Whois(String),
    /// The same, for a person who compares keys.
    Verify(String),
}

/// Questions under way by their ids.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_id: BTreeMap<String, Purpose>,
}

impl Session {
    /// The first words to the core.
    pub(super) fn bind(&mut self) {
        self.ask(Type::Set, None, Element::new("bind", ns::BIND), Purpose::Bind);
    }

    /// Asks the account, or `to`.
    pub(super) fn ask(&mut self, type_: Type, to: Option<&str>, payload: Element, purpose: Purpose) {
        if self.asked.by_id.len() >= MOST {
            return self.tell("Too many questions are unanswered: try again later.");
        }
        let id = self.id();
        let mut iq = Stanza::iq(type_, &id, payload);
        iq.to = to.and_then(|to| jid::Jid::new(to).ok());
        self.asked.by_id.insert(id, purpose);
        self.send(&iq);
    }

    pub(super) fn iq(&mut self, iq: &Stanza) {
        if !iq.is_request() {
            return self.answered(iq);
        }
        // A stranger's request with the payload of a push is none.
        let own = self.is_own(iq.from.as_ref());
        let node =
            iq.from.as_ref().is_some_and(|from| from.node().is_none()) && self.is_node(iq.from.as_ref());
        match iq.payload.first() {
            Some(query) if own && iq.type_ == Type::Set && query.is("query", ns::ROSTER) => {
                query.children().for_each(|item| self.item(item));
                self.send(&iq.result(None));
            }
            Some(_) if own && iq.type_ == Type::Set => self.send(&iq.result(None)),
            Some(ping) if node && ping.is("ping", ns::PING) => self.pinged(iq),
            _ => {
                let text = "the other uses IRC, where there is nothing of that kind";
                let error = StanzaError::new(Condition::ServiceUnavailable, text);
                iq.error(&error).iter().for_each(|answer| self.send(answer));
            }
        }
    }

    fn answered(&mut self, iq: &Stanza) {
        let Some(purpose) = iq.id.as_deref().and_then(|id| self.asked.by_id.remove(id)) else { return };
        let failed = (iq.type_ == Type::Error).then(|| reason(iq));
        let payload = iq.payload.first().filter(|_| failed.is_none());
        match (purpose, failed) {
            (Purpose::Bind, None) => {
                let jid = payload.and_then(|bind| bind.get("jid", ns::BIND)).map(Element::own_text);
                let jid = jid.and_then(|jid| jid::Jid::new(&jid).ok());
                self.address = jid.map(|jid| jid.to_bare().to_string()).unwrap_or_default();
                self.ask(Type::Set, None, Element::new("enable", ns::CARBONS), Purpose::Silent);
                self.ask(Type::Get, None, Element::new("query", ns::ROSTER), Purpose::Roster);
            }
            (Purpose::Bind | Purpose::Roster, Some(why)) => self.end(&format!("Closing link: {why}")),
            (Purpose::Roster, None) => {
                payload.iter().flat_map(|query| query.children()).for_each(|item| self.item(item));
                self.ready = true;
                self.welcome();
                self.send(&super::presence(Type::Available));
            }
            (Purpose::Blocked, None) => self.show_blocked(payload),
            (Purpose::Silent, _) => {}
            (Purpose::Change(done), None) => self.tell(&done),
            (Purpose::Whois(address), failed) => {
                self.whois(&address, payload.filter(|_| failed.is_none()));
            }
            (Purpose::Verify(address), None) => self.show_identity(&address, payload),
            (Purpose::Blocked | Purpose::Change(_) | Purpose::Verify(_), Some(why)) => {
                self.tell(&format!("{NETWORK} refuses: {why}"));
            }
        }
    }
}
