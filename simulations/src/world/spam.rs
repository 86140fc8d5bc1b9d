//! Strangers with nodes and accounts like everybody's, who write and ask without end; and how they are blocked. *Pure.*

use crosstalk::xmpp::{Element, ns};

use super::World;
use super::events::{ClientId, PersonId};

/// How what spammers write begins.
pub(crate) const SPAM: &str = "spam";

impl World {
    /// A spammer writes to somebody.
    pub(crate) fn spam(&mut self, client: ClientId, to: PersonId, number: u64) {
        let text = format!("{SPAM}{number}");
        let body = Element::new("body", ns::CLIENT).text(&text);
        let message = Element::new("message", ns::CLIENT).attr("to", &self.people[to.0].jid);
        self.clients[client.0].out.push(message.attr("type", "chat").attr("id", text).child(body));
        self.flush(client);
    }

    /// A client blocks somebody (XEP-0191).
    pub(crate) fn block(&mut self, client: ClientId, whom: PersonId) {
        let item = Element::new("item", ns::BLOCKING).attr("jid", &self.people[whom.0].jid);
        let block = Element::new("block", ns::BLOCKING).child(item);
        let id = format!("{BLOCK}{}", whom.0);
        let set = Element::new("iq", ns::CLIENT).attr("type", "set").attr("id", id);
        self.clients[client.0].send_plain(set.child(block));
        self.flush(client);
    }

    /// A node has answered a client: perhaps that somebody is blocked now.
    pub(crate) fn note_blocked(&mut self, client: ClientId, iq: &Element) {
        let whom = iq.get_attr("id").and_then(|id| id.strip_prefix(BLOCK)?.parse().ok()).map(PersonId);
        if let Some(whom) = whom.filter(|_| iq.get_attr("type") == Some("result")) {
            let (by, time) = (self.clients[client.0].person, self.time);
            self.book.blocked(by, whom, time);
        }
    }

    /// Whether somebody is blocked by a client's person, as its node has confirmed.
    pub(crate) fn has_blocked(&self, client: ClientId, whom: PersonId) -> bool {
        self.book.has_blocked(self.clients[client.0].person, whom)
    }
}

/// How the id of a question begins that blocks somebody.
const BLOCK: &str = "block-";

/// Whether a message is of a spammer.
pub(crate) fn is_spam(message: &Element) -> bool {
    message.get("body", ns::CLIENT).is_some_and(|body| body.own_text().starts_with(SPAM))
}
