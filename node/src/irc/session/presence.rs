//! Presence and contact requests as a client is shown them (RFC 6121 §3, §4). *Pure.*

use super::people::Shown;
use super::{Session, brief, reason, text_of};
use crate::irc::NETWORK;
use crate::xmpp::{Stanza, Type};

impl Session {
    pub(super) fn presence(&mut self, stanza: &Stanza) {
        let Some(from) = stanza.from.clone().filter(|_| !self.is_own(stanza.from.as_ref())) else { return };
        let address = from.to_bare().to_string();
        let resource = from.resource().map(|resource| resource.as_str());
        match stanza.type_ {
            Type::Available => {
                let show = text_of(stanza, "show");
                let status = brief(&text_of(stanza, "status"));
                let away = matches!(show.as_str(), "away" | "xa" | "dnd");
                let text = match (status.is_empty(), away) {
                    (true, true) => words(&show).to_owned(),
                    _ => status,
                };
                self.appeared(&address, resource.unwrap_or_default(), Shown { away, text });
            }
            Type::Unavailable => {
                self.vanished(&address, resource, &brief(&text_of(stanza, "status")));
            }
            Type::Subscribe => self.asked_by(&address, &text_of(stanza, "status")),
            Type::Subscribed => self.told_of(&address, "lets you see when they are there"),
            Type::Unsubscribed => self.told_of(&address, "does not let you see when they are there"),
            Type::Unsubscribe => self.told_of(&address, "does not want to see any more when you are there"),
            Type::Error if self.people.is_listed(&address) => {
                self.tell(&format!("{NETWORK} says of {address}: {}", reason(stanza)))
            }
            _ => {}
        }
    }

    fn asked_by(&mut self, address: &str, words: &str) {
        let nick = self.nick_of(address);
        self.person_at(address).asks = true;
        let words = brief(words);
        let words = if words.is_empty() { String::new() } else { format!(", saying: {words}") };
        self.tell(&format!(
            "{nick} ({address}) asks to see when you are there{words}. Say `accept {nick}`, `deny {nick}` or `block {nick}`."
        ));
    }

    fn told_of(&mut self, address: &str, what: &str) {
        let nick = self.nick_of(address);
        self.tell(&format!("{nick} ({address}) {what}."));
    }
}

/// What a state means that has no text.
fn words(show: &str) -> &'static str {
    match show {
        "dnd" => "not to be disturbed",
        "xa" => "away for long",
        _ => "away",
    }
}
