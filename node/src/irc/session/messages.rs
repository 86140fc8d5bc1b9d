//! Messages both ways: text and actions, typing (XEP-0085), copies of other clients (XEP-0280), what came late (XEP-0203), what failed.
//! *Pure.*
//!
//! What IRC cannot show is named, never dropped in silence.

use std::collections::VecDeque;
use std::time::Duration;

use jid::Jid;

use super::{Session, reason, room_of, text_of};
use crate::irc::join::Speech;
use crate::irc::line::Line;
use crate::irc::nicks::LENGTH;
use crate::irc::registration::USER;
use crate::irc::text::{Said, plain, server_time, spent, to_irc, to_xmpp};
use crate::irc::{BOT, CHANNEL, SERVER};
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

/// Receivers of one line (`MAXTARGETS`).
pub(super) const TARGETS: usize = 4;
/// Messages whose beginning is remembered, should they fail.
const REMEMBERED: usize = 64;
/// Characters of it.
const BEGINNING: usize = 40;
/// What says something about messages and nothing to a person.
const UNSEEN: [&str; 8] = [
    ns::CHAT_STATES,
    ns::HINTS,
    ns::STANZA_ID,
    ns::DELAY,
    ns::RECEIPTS,
    ns::NICK,
    "urn:xmpp:chat-markers:0",
    "urn:xmpp:message-correct:0",
];

/// What was sent last.
#[derive(Debug, Default)]
pub(super) struct Sent {
    last: VecDeque<Begun>,
}

/// A message that was sent: to a bare address, and how it begins.
#[derive(Debug)]
struct Begun {
    id: String,
    to: String,
    text: String,
}

/// Whose message is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Them,
    /// Another client of the same user.
    Us,
}

impl Session {
    /// PRIVMSG and NOTICE of the client.
    pub(super) fn say(&mut self, line: &Line, now: Duration) {
        let (targets, text) = (line.get(0), line.get(1));
        if targets.is_empty() {
            return self.reply("411", &[], "Nobody was named to say it to");
        }
        if text.is_empty() {
            return self.reply("412", &[], "There is nothing to say");
        }
        if targets.split(',').count() > TARGETS {
            return self.reply("407", &[targets], "Too many are named at once: four at most");
        }
        let said = Said::read(text);
        for target in targets.split(',') {
            self.say_to(target, &line.command, &said, now);
        }
    }

    fn say_to(&mut self, target: &str, command: &str, said: &Said, now: Duration) {
        if target.eq_ignore_ascii_case(CHANNEL) || target.eq_ignore_ascii_case(BOT) {
            self.flush();
            if let Said::Text(text) = said {
                self.obey(&plain(text));
            }
            return;
        }
        let Some(address) = self.meant(target) else {
            let text = if target.starts_with(['#', '&', '+', '!']) {
                "There is no such channel"
            } else {
                "There is no such nick"
            };
            return self.reply(if text.ends_with("nick") { "401" } else { "403" }, &[target], text);
        };
        let Some(body) = to_xmpp(said) else {
            // An answer to a request of ours there is none of.
            if let (Said::Request(word), "PRIVMSG") = (said, command) {
                let word: String = word.chars().take(20).collect();
                self.reply("404", &[target], &format!("{word} of IRC means nothing to others: not sent"));
            }
            return;
        };
        let address = address.to_string();
        // As a client counts that goes by the lengths announced; one that goes by its own nick has a little more.
        let mask = "-".repeat(LENGTH + USER + SERVER.len() + "!@".len());
        let room = room_of(&mask, command, target).saturating_sub(spent(said));
        let action = matches!(said, Said::Action(_));
        let text = body.strip_prefix("/me ").filter(|_| action).unwrap_or(&body).to_owned();
        for speech in self.joiner.push(Speech { to: address.clone(), action, text }, room, now) {
            self.send_speech(speech);
        }
        self.absence(&address);
    }

    pub(super) fn send_message(&mut self, address: &str, text: &str) {
        let Ok(to) = Jid::new(address) else { return };
        let (id, bare) = (self.id(), to.to_bare().to_string());
        let mut message = Stanza::new(Kind::Message, Type::Chat);
        (message.to, message.id) = (Some(to), Some(id.as_str().into()));
        message.payload.push(Element::new("body", ns::CLIENT).text(text));
        self.send(&message);
        if self.sent.last.len() >= REMEMBERED {
            self.sent.last.pop_front();
        }
        self.sent.last.push_back(Begun { id, to: bare, text: text.chars().take(BEGINNING).collect() });
    }

    /// Tells once that somebody is away who is written to.
    fn absence(&mut self, address: &str) {
        let nick = self.nick_of(address);
        let person = self.person_at(address);
        if std::mem::replace(&mut person.told_away, true) {
            return;
        }
        let text = match person.away() {
            Some(shown) => shown.text.clone(),
            None if person.is_here() => return,
            None if matches!(&person.subscription[..], "to" | "both") => {
                "not here: it waits until then".to_owned()
            }
            None => "not shown to you: it waits if nobody is there".to_owned(),
        };
        self.reply("301", &[&nick], &text);
    }

    /// `+typing` of the client (IRCv3).
    pub(super) fn typing(&mut self, line: &Line) {
        let state = line.tags.iter().rev().find(|(key, _)| key == "+typing").map(|(_, value)| value.as_str());
        let state = match state {
            Some("active") => "composing",
            Some("paused") => "paused",
            Some("done") => "active",
            _ => return,
        };
        let Some(address) = self.meant(line.get(0)) else { return };
        let mut message = Stanza::new(Kind::Message, Type::Chat);
        message.to = Some(address.into());
        message.payload.push(Element::new(state, ns::CHAT_STATES));
        self.send(&message);
    }

    /// A message of the core.
    pub(super) fn message(&mut self, message: &Stanza) {
        let copy =
            message.payload.iter().find(|child| child.ns() == ns::CARBONS && child.name() != "private");
        if let Some(copy) = copy {
            // Only the own account says what was said elsewhere (XEP-0280 §11).
            if self.is_own(message.from.as_ref()) {
                self.copied(copy);
            }
            return;
        }
        match message.type_ {
            Type::Error => self.failed(message),
            _ => self.show(message, By::Them),
        }
    }

    fn copied(&mut self, copy: &Element) {
        let forwarded = copy.get("forwarded", ns::FORWARD);
        let inner = forwarded.and_then(|forwarded| forwarded.get("message", ns::CLIENT));
        let Some(Ok(mut message)) = inner.map(|inner| Stanza::from_element(Kind::Message, inner.clone()))
        else {
            return;
        };
        message.payload.extend(forwarded.and_then(|forwarded| forwarded.get("delay", ns::DELAY)).cloned());
        // Another client answers for it.
        message.remove("request", ns::RECEIPTS);
        self.show(&message, if copy.name() == "sent" { By::Us } else { By::Them });
    }

    fn show(&mut self, message: &Stanza, by: By) {
        let other = match by {
            By::Them => message.from.as_ref(),
            By::Us => message.to.as_ref(),
        };
        let address = other.map_or_else(|| self.address.clone(), |other| other.to_bare().to_string());
        let nick = match self.is_node(other) {
            true => BOT.to_owned(),
            false => self.known(&address, by),
        };
        let text = words(message);
        if let Some(text) = &text {
            self.write_words(&address, &nick, text, message, by);
        } else if by == By::Them {
            self.chat_state(&address, message);
        }
        let receipt =
            message.has("request", ns::RECEIPTS) && message.type_ != Type::Headline && text.is_some();
        let seen = self
            .people
            .get(&address)
            .is_some_and(|person| matches!(&person.subscription[..], "from" | "both"));
        if receipt && seen && by == By::Them {
            self.owes_receipt(message);
        }
    }

    /// The nick of who writes; who is not listed is introduced once.
    fn known(&mut self, address: &str, by: By) -> String {
        let nick = self.nick_of(address);
        if by == By::Us {
            return nick;
        }
        let person = self.person_at(address);
        if !person.listed && !std::mem::replace(&mut person.introduced, true) {
            self.tell(&format!("{nick} is {address}, who is not in your contact list: `verify {nick}`, `add {address}`, `block {nick}`."));
        }
        nick
    }

    fn write_words(&mut self, address: &str, nick: &str, text: &str, message: &Stanza, by: By) {
        // Most clients take what bears their own nick for somebody else's word.
        let (own, elsewhere) = (by == By::Us, by == By::Us && !self.caps.has("znc.in/self-message"));
        let (source, target) = match nick {
            _ if own && !elsewhere => (self.mask(), nick.to_owned()),
            BOT => (super::bot(), self.nick.clone()),
            _ => (self.mask_of(address), self.nick.clone()),
        };
        let quiet = elsewhere || message.type_ == Type::Headline;
        let command = if quiet { "NOTICE" } else { "PRIVMSG" };
        let tagged = self.caps.has("server-time");
        let time = self.stamp(message);
        let text = if elsewhere { format!("-> {text}") } else { text.to_owned() };
        let text = match (&time, tagged) {
            (Some(time), false) => dated(&text, time),
            _ => text,
        };
        for piece in to_irc(&text, room_of(&source, command, &target)) {
            let line = Line::new(command).from(&source).param(&target[..]).param(piece);
            let line = match &time {
                Some(time) if tagged => line.tag("time", &time[..]),
                _ => line,
            };
            self.write(&line);
        }
    }

    fn chat_state(&mut self, address: &str, message: &Stanza) {
        let state = message.payload.iter().find(|child| child.ns() == ns::CHAT_STATES).map(Element::name);
        let typing = match state {
            Some("composing") => "active",
            Some("paused") => "paused",
            Some(_) => "done",
            None => return,
        };
        if self.caps.has("message-tags") {
            let line =
                Line::new("TAGMSG").from(&self.mask_of(address)).param(&self.nick[..]).tag("+typing", typing);
            self.write(&line);
        }
    }

    /// When a message was sent that came late, by the word of this node or the account's server.
    fn stamp(&self, message: &Stanza) -> Option<String> {
        let own = |delay: &&Element| {
            delay.is("delay", ns::DELAY)
                && delay.get_attr("from").is_some_and(|from| self.is_own_domain(from))
        };
        // The last, as a server puts its own behind all that came.
        let delay = message.payload.iter().rfind(own)?;
        server_time(delay.get_attr("stamp").unwrap_or_default())
    }

    /// A message of ours came back.
    fn failed(&mut self, message: &Stanza) {
        // Nobody misses a typing notice, or a receipt.
        let Some(id) = message.id.as_deref() else { return };
        let Some(from) = &message.from else { return };
        let (address, by_node) = (from.to_bare().to_string(), self.is_node(Some(from)));
        // Anybody may send an error: only who got the message knows of it, or this node.
        let counts = |sent: &&Begun| sent.id == id && (by_node || sent.to == address);
        let Some(beginning) = self.sent.last.iter().find(counts).map(|sent| sent.text.clone()) else {
            return;
        };
        let source = match by_node {
            true => SERVER.to_owned(),
            false => {
                self.nick_of(&address);
                self.mask_of(&address)
            }
        };
        let text =
            format!("NOT DELIVERED: \u{201c}{}\u{201d}: {}", beginning.replace('\n', " "), reason(message));
        let target = self.nick.clone();
        for piece in to_irc(&text, room_of(&source, "NOTICE", &target)) {
            self.write(&Line::new("NOTICE").from(&source).param(&target[..]).param(piece));
        }
    }
}

/// What a person reads of a message; `None`: nothing in it is for one.
fn words(message: &Stanza) -> Option<String> {
    let (body, subject) = (text_of(message, "body"), text_of(message, "subject"));
    if message.type_ == Type::Groupchat {
        return Some(format!("(in a room, which IRC does not show yet) {body}"));
    }
    let body = match message.has("replace", "urn:xmpp:message-correct:0") {
        true if !body.is_empty() => format!("(instead of an earlier message) {body}"),
        _ => body,
    };
    match (subject.is_empty(), body.is_empty()) {
        (false, true) => return Some(format!("(about) {subject}")),
        (false, false) => return Some(format!("(about {subject}) {body}")),
        (true, false) => return Some(body),
        (true, true) => {}
    }
    let unseen = |child: &&Element| UNSEEN.contains(&child.ns()) || child.ns() == ns::CLIENT;
    let unknown: Vec<&str> =
        message.payload.iter().filter(|child| !unseen(child)).map(Element::name).collect();
    (!unknown.is_empty()).then(|| format!("(sent something that IRC cannot show: {})", unknown.join(", ")))
}

/// The time before the text, for a client that knows no other way.
fn dated(text: &str, time: &str) -> String {
    let date = time.get(..16).unwrap_or(time).replace('T', " ");
    match text.strip_prefix("/me ") {
        Some(rest) => format!("/me [{date} UTC] {rest}"),
        None => format!("[{date} UTC] {text}"),
    }
}
