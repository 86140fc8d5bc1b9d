//! A client of IRC as a session of the core: lines one way, stanzas the other way. *Pure.*
//!
//! To the core it is a client like any other, that binds, fetches its contact list and becomes available; it has nothing of its own
//! but what one connection shows.

mod commands;
mod iq;
mod messages;
mod people;
mod presence;
mod proof;
mod queries;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crosstalk_link_local::clean::status;
use jid::BareJid;

use super::caps::{Caps, numeric};
use super::join::{Joiner, Speech};
use super::line::{Heard, LINE, Line};
use super::registration::Login;
use super::{BOT, CHANNEL, SERVER};
use crate::xmpp::{Element, Kind, Stanza, StreamError, Type, ns};
use iq::Asked;
use messages::Sent;
use people::People;
use proof::Proofs;

/// Characters of the words of others that stand among those of the node.
const BRIEF: usize = 200;

/// A session.
pub struct Session {
    nick: String,
    user: String,
    /// The account's bare address, once the core has said it.
    address: String,
    /// The node's.
    domains: Vec<String>,
    caps: Caps,
    /// Contacts are known, and the client has been welcomed.
    ready: bool,
    /// The client is in the control channel.
    joined: bool,
    away: bool,
    people: People,
    asked: Asked,
    joiner: Joiner,
    sent: Sent,
    proofs: Proofs,
    next: u64,
    irc: String,
    stanzas: Vec<Element>,
    over: bool,
}

/// What a session has to say.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To the client.
    pub irc: Vec<u8>,
    /// To the core, in order.
    pub stanzas: Vec<Element>,
    /// Nothing follows: the client has ended it, or was told why it ends.
    pub over: bool,
}

impl Session {
    /// A session of somebody who was let in, at a node of these domains; it begins with what it says to the core.
    pub fn new(login: Login, domains: Vec<String>) -> Self {
        let mut session = Self {
            people: People::new(&login.nick),
            nick: login.nick,
            user: login.user,
            caps: login.caps,
            address: String::new(),
            domains,
            ready: false,
            joined: true,
            away: false,
            asked: Asked::default(),
            joiner: Joiner::default(),
            sent: Sent::default(),
            proofs: Proofs::default(),
            next: 0,
            irc: String::new(),
            stanzas: Vec::new(),
            over: false,
        };
        session.bind();
        session
    }

    /// Whether the client may be read: what it says before cannot be understood.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What it has to say since this was asked last.
    pub fn take(&mut self) -> Outcome {
        Outcome {
            irc: std::mem::take(&mut self.irc).into_bytes(),
            stanzas: std::mem::take(&mut self.stanzas),
            over: self.over,
        }
    }

    /// Bytes that [`Self::take`] would give the client.
    pub fn pending(&self) -> usize {
        self.irc.len()
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Duration> {
        self.joiner.due()
    }

    /// What waited for more is whole.
    pub fn tick(&mut self, now: Duration) {
        if self.joiner.due().is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    /// Takes what the client has sent.
    pub fn hear(&mut self, heard: &Heard, now: Duration) {
        match heard {
            Heard::Text(text) => {
                if let Some(mut line) = Line::read(text) {
                    clean(&mut line);
                    self.line(&line, now);
                }
            }
            Heard::TooLong => self.reply("417", &[], "That line is too long, and was not taken"),
            Heard::NotText => {
                self.notice("That line is not UTF-8, and was not taken: set your program to UTF-8.");
            }
        }
    }

    fn line(&mut self, line: &Line, now: Duration) {
        if self.over {
            return;
        }
        // Whatever else is said comes behind a message that waits for more.
        if !matches!(line.command.as_str(), "PRIVMSG" | "PING" | "PONG" | "TAGMSG") {
            self.flush();
        }
        match line.command.as_str() {
            "PRIVMSG" | "NOTICE" => self.say(line, now),
            "TAGMSG" => self.typing(line),
            "PONG" => self.proved(line),
            "QUIT" => self.end("Closing link: you have left"),
            _ => self.query(line),
        }
    }

    /// Takes an element of the core.
    pub fn element(&mut self, element: Element) {
        let Some(kind) = Stanza::kind_of(&element) else { return };
        let Ok(stanza) = Stanza::from_element(kind, element) else { return };
        match stanza.kind {
            Kind::Iq => self.iq(&stanza),
            Kind::Presence => self.presence(&stanza),
            Kind::Message => self.message(&stanza),
        }
    }

    /// The connection is lost: what waited for more is said.
    pub fn lost(&mut self) {
        self.flush();
    }

    /// The core ends the session, and takes nothing more.
    pub fn ended(&mut self, error: Option<&StreamError>) {
        if let Some(speech) = self.joiner.take() {
            self.notice(&format!("NOT DELIVERED: {}", speech.text));
        }
        let why = error.map_or("the node ends it", |error| match error.text.as_str() {
            "" => error.condition.as_str(),
            text => text,
        });
        self.end(&format!("Closing link: {why}"));
    }

    fn end(&mut self, why: &str) {
        self.flush();
        if !self.over {
            self.write(&Line::new("ERROR").param(why));
            self.over = true;
        }
    }

    /// A message that waited for more is said.
    fn flush(&mut self) {
        if let Some(speech) = self.joiner.take() {
            self.send_speech(speech);
        }
    }

    fn send_speech(&mut self, speech: Speech) {
        let text = if speech.action { format!("/me {}", speech.text) } else { speech.text };
        self.send_message(&speech.to, &text);
    }

    fn write(&mut self, line: &Line) {
        if !self.over {
            line.write(&mut self.irc);
        }
    }

    /// A numeric reply: parameters behind the nick, then a text.
    fn reply(&mut self, number: &str, params: &[&str], text: &str) {
        let line = params.iter().fold(numeric(number, &self.nick), |line, param| line.param(*param));
        self.write(&line.param(text));
    }

    /// A word of the server, to be read by a person.
    fn notice(&mut self, text: &str) {
        let line = Line::new("NOTICE").from(SERVER).param(&self.nick[..]).param(text);
        self.write(&line);
    }

    /// A word of the node in the control channel, or to the nick of who is not in it.
    fn tell(&mut self, text: &str) {
        let (command, target) = match self.joined {
            true => ("PRIVMSG", CHANNEL),
            false => ("NOTICE", &self.nick[..]),
        };
        let source = bot();
        let room = room_of(&source, command, target);
        let pieces = super::text::to_irc(text, room);
        let lines: Vec<Line> = pieces
            .into_iter()
            .map(|piece| Line::new(command).from(&source).param(target).param(piece))
            .collect();
        lines.iter().for_each(|line| self.write(line));
    }

    /// The client itself, as a source.
    fn mask(&self) -> String {
        format!("{}!{}@{SERVER}", self.nick, self.user)
    }

    fn send(&mut self, stanza: &Stanza) {
        self.stanzas.push(stanza.to_element());
    }

    /// An id for a stanza of ours.
    fn id(&mut self) -> String {
        self.next += 1;
        format!("irc-{}", self.next)
    }

    fn is_own(&self, address: Option<&jid::Jid>) -> bool {
        address.is_none_or(|address| address.to_bare().as_str() == self.address)
    }

    /// Whether it is this node or the account that speaks: what has no sender is the account's own word (RFC 6120 §8.1.2.1).
    fn is_node(&self, from: Option<&jid::Jid>) -> bool {
        self.is_own(from)
            || from.is_some_and(|from| from.node().is_none() && self.is_own_domain(from.domain().as_str()))
    }

    fn is_own_domain(&self, domain: &str) -> bool {
        let own = self.address.split_once('@').map(|(_, own)| own);
        own == Some(domain) || self.domains.iter().any(|own| own == domain)
    }

    /// The address that a person means by a nick or an address.
    fn meant(&self, word: &str) -> Option<BareJid> {
        let address = self.people.nicks.address(word);
        let address = address.or_else(|| word.contains('@').then_some(word))?;
        BareJid::new(address).ok()
    }
}

/// Takes out what XML cannot have, and with it what means nothing but in words to a person: there codes of formatting stay, as
/// they are marks in a body.
fn clean(line: &mut Line) {
    let speech = matches!(line.command.as_str(), "PRIVMSG" | "NOTICE");
    for (number, param) in line.params.iter_mut().enumerate() {
        *param =
            if speech && number == 1 { super::text::characters(param) } else { super::text::plain(param) };
    }
}

/// Words of others among those of the node: one line, not long, without what is not seen.
fn brief(text: &str) -> String {
    status(text).chars().take(BRIEF).collect()
}

/// The node in the control channel, as a source.
fn bot() -> String {
    format!("{BOT}!{BOT}@{SERVER}")
}

/// Bytes that a line of this kind has for its text.
fn room_of(source: &str, command: &str, target: &str) -> usize {
    let spent =
        [":", source, " ", command, " ", target, " :", "\r\n"].iter().map(|part| part.len()).sum::<usize>();
    LINE.saturating_sub(spent).max(64)
}

/// A presence.
fn presence(type_: Type) -> Stanza {
    Stanza::new(Kind::Presence, type_)
}

/// Text of a child of a stanza.
fn text_of(stanza: &Stanza, name: &str) -> String {
    stanza.get(name, ns::CLIENT).map(|child| child.own_text().to_string()).unwrap_or_default()
}

/// An error as a person can read it.
fn reason(stanza: &Stanza) -> String {
    let Some(error) = stanza.get("error", ns::CLIENT) else { return "no reason was given".to_owned() };
    let text = error.get("text", ns::STANZAS).map(|text| text.own_text().to_string());
    let condition = error.children().find(|child| child.ns() == ns::STANZAS && child.name() != "text");
    let words = condition.map(|condition| condition.name().replace('-', " "));
    let text = text.map(|text| brief(&text)).filter(|text| !text.is_empty());
    text.or(words.map(|words| brief(&words))).unwrap_or_else(|| "no reason was given".to_owned())
}
