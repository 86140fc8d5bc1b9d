//! What the stock server brings: for users of the domain alone, and never in the name of one of them, nor of the overlay.

use crosstalk_link_local::instance::LINK_DOMAIN;
use crosstalk_overlay::enrol::MAX_LETTER;
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::time::Now;
use crosstalk_storage::tree::upstream::{Contact, HeldStanza};
use jid::Jid;

use super::book::Page;
use super::gate::{Gate, GateError};
use super::shares::Full;
use crate::authority::database::{Change, Database};
use crate::core::is_durable;
use crate::core::upstream::subscription;
use crate::xmpp::{Condition, Element, Kind, Stanza, StanzaError, Type, ns};

/// Answers of the domain itself, and of users who are not there.
const FEATURES: [&str; 2] = [ns::DISCO_INFO, ns::PING];

impl Gate {
    /// An element of the stock server.
    ///
    /// # Errors
    /// When the database fails: the stanza was not taken, and whoever sent it does not know.
    pub fn came(&mut self, database: &Database, element: Element, now: Now) -> Result<(), GateError> {
        let Some(kind) = Stanza::kind_of(&element) else {
            self.refuse("elements of the XMPP server that are no stanzas");
            return Ok(());
        };
        let stanza = match Stanza::from_element(kind, element) {
            Ok(stanza) => stanza,
            Err((stanza, error)) => {
                if self.is_outside(stanza.from.as_ref()) {
                    self.bounce(&stanza, &error);
                }
                return Ok(());
            }
        };
        if self.is_echo(database, &stanza, now)? {
            return Ok(());
        }
        let (Some(from), Some(to)) = (stanza.from.clone(), stanza.to.clone()) else {
            self.refuse("stanzas of the XMPP server without from or to");
            return Ok(());
        };
        if !self.is_outside(Some(&from)) {
            self.refuse("stanzas of the XMPP server in a name that is not outside");
            return Ok(());
        }
        if to.domain().as_str() != self.domain {
            self.refuse("stanzas of the XMPP server for another domain");
            return Ok(());
        }
        if to.node().is_none() {
            self.for_domain(&stanza);
            return Ok(());
        }
        match self.user_at(database, &to)? {
            Some(user) => self.for_user(database, user, &from, stanza, now),
            None => {
                self.nobody(&stanza);
                Ok(())
            }
        }
    }

    pub(super) fn is_outside(&self, jid: Option<&Jid>) -> bool {
        jid.is_some_and(|jid| {
            let domain = jid.domain().as_str();
            domain != self.domain && ![XID_DOMAIN, LINK_DOMAIN, "localhost"].contains(&domain)
        })
    }

    pub(super) fn bounce(&mut self, stanza: &Stanza, error: &StanzaError) {
        if let Some(answer) = stanza.error(error) {
            self.write(&answer);
        }
    }

    /// RFC 6121 §8.5.1: whether nobody has the name, or no more, is not told.
    fn nobody(&mut self, stanza: &Stanza) {
        match (stanza.kind, stanza.type_) {
            (Kind::Presence, Type::Subscribe | Type::Probe) => {
                let mut answer = Stanza::new(Kind::Presence, Type::Unsubscribed);
                (answer.from, answer.to) = (bare(stanza.to.as_ref()), bare(stanza.from.as_ref()));
                self.write(&answer);
            }
            (Kind::Presence, _) => {}
            _ => self.bounce(stanza, &Condition::ServiceUnavailable.into()),
        }
    }

    /// For the domain itself.
    fn for_domain(&mut self, stanza: &Stanza) {
        if stanza.kind == Kind::Presence {
            return;
        }
        match account_answer(stanza, ("server", "im")) {
            Some(answer) => self.write(&answer),
            None => self.bounce(stanza, &Condition::ServiceUnavailable.into()),
        }
    }

    fn for_user(
        &mut self,
        database: &Database,
        user: UserId,
        from: &Jid,
        stanza: Stanza,
        now: Now,
    ) -> Result<(), GateError> {
        // Whoever goes, or ends a subscription, is heard at any rate.
        let ends = matches!(stanza.type_, Type::Unavailable | Type::Unsubscribe | Type::Unsubscribed);
        if !self.inward.takes_from(from, &user, now.mono) && !ends {
            self.refuse("stanzas from outside that came too fast");
            let text = "too much comes at once: try again later";
            self.bounce(&stanza, &StanzaError::new(Condition::ResourceConstraint, text));
            return Ok(());
        }
        if self.is_blocked(database, &user, from)? {
            return self.refuse_blocked(database, user, from, &stanza);
        }
        match stanza.kind {
            Kind::Message => self.message_in(database, user, stanza, now),
            Kind::Iq => {
                self.iq_in(user, &stanza);
                Ok(())
            }
            Kind::Presence => self.presence_in(database, user, from, &stanza),
        }
    }

    fn message_in(
        &mut self,
        database: &Database,
        user: UserId,
        stanza: Stanza,
        now: Now,
    ) -> Result<(), GateError> {
        let bytes = stanza.to_bytes();
        if bytes.len() > MAX_LETTER {
            let text = format!("a message from outside has at most {MAX_LETTER} bytes here");
            self.bounce(&stanza, &StanzaError::new(Condition::PolicyViolation, text));
            return Ok(());
        }
        if !is_durable(&stanza) && stanza.type_ != Type::Error {
            if !self.push_to_all(user, &stanza) && stanza.type_ == Type::Groupchat {
                self.bounce(&stanza, &Condition::ServiceUnavailable.into());
            }
            return Ok(());
        }
        let from = stanza.from.as_ref().map(|from| from.to_bare());
        let book = self.book(database, &user)?;
        let stranger = from.is_none_or(|from| is_stranger(&book.contact(from.as_str())));
        let letter = HeldStanza { at: now.wall, stanza: bytes, by: Vec::new(), stranger };
        let mut page = Page::default();
        let (change, full) = page.letter(book, &user, &letter, Change::default())?;
        if let Some(full) = full.or_else(|| self.full_inward(&letter)) {
            self.refuse(full.what());
            self.bounce(&stanza, &StanzaError::new(Condition::ResourceConstraint, refusal(full)));
            return Ok(());
        }
        if let Err(error) = self.commit(database, change) {
            // Its sender hears of it, as long as there is a way back.
            let text = "messages cannot be kept here now: try again later";
            self.bounce(&stanza, &StanzaError::new(Condition::ResourceConstraint, text));
            return Err(error.into());
        }
        let moved = self.book(database, &user)?.apply(page);
        self.moved(moved);
        self.passed.taken_in += 1;
        self.news_for(user);
        Ok(())
    }

    pub(super) fn news_for(&mut self, user: UserId) {
        for device in self.seats_of(user) {
            if let Some(node) = self.seats.get(&device).map(|seat| seat.node) {
                self.news(node);
            }
        }
    }

    /// A request for a session goes to the laptop that has it, one for the account to one that is there, or is answered here;
    /// an answer goes to all laptops, of which one has asked.
    fn iq_in(&mut self, user: UserId, iq: &Stanza) {
        if iq.to_bytes().len() > MAX_LETTER {
            let text = format!("a request from outside has at most {MAX_LETTER} bytes here");
            return self.bounce(iq, &StanzaError::new(Condition::PolicyViolation, text));
        }
        if !iq.is_request() {
            self.push_to_all(user, iq);
            return;
        }
        let resource = iq.to.as_ref().and_then(Jid::resource).map(|part| part.as_str().to_owned());
        let device = match resource {
            Some(resource) => self.seat_with(user, &resource),
            None => {
                if let Some(answer) = account_answer(iq, ("account", "registered")) {
                    return self.write(&answer);
                }
                self.seats_of(user).first().copied()
            }
        };
        match device {
            Some(device) => self.push(device, iq),
            None => self.bounce(iq, &Condition::ServiceUnavailable.into()),
        }
    }

    pub(super) fn presence_in(
        &mut self,
        database: &Database,
        user: UserId,
        from: &Jid,
        presence: &Stanza,
    ) -> Result<(), GateError> {
        let contact = from.to_bare();
        let before = self.book(database, &user)?.contact(contact.as_str());
        match presence.type_ {
            Type::Available | Type::Unavailable => {
                if presence.to_bytes().len() <= MAX_LETTER {
                    self.contact_says(user, presence, before.to);
                }
                Ok(())
            }
            Type::Probe if before.from => {
                let here = self.presences_of(user);
                self.shows(user, &contact, true);
                if here.is_empty() {
                    let mut away = Stanza::new(Kind::Presence, Type::Unavailable);
                    (away.from, away.to) = (bare(presence.to.as_ref()), Some(contact.into()));
                    self.write(&away);
                }
                Ok(())
            }
            Type::Probe => {
                self.nobody(presence);
                Ok(())
            }
            Type::Subscribe if before.from => {
                let mut granted = Stanza::new(Kind::Presence, Type::Subscribed);
                (granted.from, granted.to) = (bare(presence.to.as_ref()), Some(contact.clone().into()));
                self.write(&granted);
                self.shows(user, &contact, true);
                Ok(())
            }
            // What was asked reached nobody.
            Type::Error => match subscription::inbound(before, Type::Unsubscribed).filter(|_| before.ask) {
                Some(after) => self.stands(database, user, contact.as_str(), after),
                None => Ok(()),
            },
            type_ => {
                let Some(after) = subscription::inbound(before, type_) else { return Ok(()) };
                self.stands(database, user, contact.as_str(), after)?;
                if before.from && !after.from {
                    self.shows(user, &contact, false);
                }
                if before.to && !after.to {
                    self.contact_ends(user, &contact);
                }
                Ok(())
            }
        }
    }

    /// How a contact stands with a user, from now on and durably.
    fn stands(
        &mut self,
        database: &Database,
        user: UserId,
        address: &str,
        after: Contact,
    ) -> Result<(), GateError> {
        let book = self.book(database, &user)?;
        if !book.has_room_for(address, after.pending_in) {
            self.refuse("requests from outside beyond the limit");
            return Ok(());
        }
        let mut page = Page::default();
        let change = page.contact(book, &user, (address, after), Change::default())?;
        self.commit(database, change)?;
        let _ = self.book(database, &user)?.apply(page);
        self.news_for(user);
        Ok(())
    }
}

/// Neither of the two sees the other, and the user has not asked for it.
fn is_stranger(contact: &Contact) -> bool {
    !(contact.to || contact.from || contact.ask)
}

/// What the sender is told.
fn refusal(full: Full) -> &'static str {
    match full {
        Full::Sender => "too many messages of this sender wait already: try again when some were read",
        Full::Domain => "too many messages from this server wait already: try again when some were read",
        Full::Strangers => "too many messages of people unknown here wait already: try again later",
        Full::All => "too many messages wait already: try again when some were read",
    }
}

fn bare(jid: Option<&Jid>) -> Option<Jid> {
    jid.map(|jid| jid.to_bare().into())
}

/// What is answered without any laptop (RFC 6121 §8.5.2.1.1): what there is (XEP-0030), and a ping (XEP-0199).
fn account_answer(iq: &Stanza, (category, kind): (&str, &str)) -> Option<Stanza> {
    let payload = iq.payload.first().filter(|_| iq.is_request() && iq.type_ == Type::Get)?;
    if payload.is("ping", ns::PING) {
        return Some(iq.result(None));
    }
    if !payload.is("query", ns::DISCO_INFO) || payload.get_attr("node").is_some() {
        return None;
    }
    let identity = Element::new("identity", ns::DISCO_INFO).attr("category", category).attr("type", kind);
    let features = FEATURES.iter().map(|var| Element::new("feature", ns::DISCO_INFO).attr("var", var));
    Some(iq.result(Some(Element::new("query", ns::DISCO_INFO).child(identity).children_from(features))))
}
