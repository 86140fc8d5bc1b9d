//! A message that a node has no room for is refused: its sender is told so, and nobody gets it. *Pure.*

use crosstalk::xmpp::{Element, ns};

use super::ownership::key_of;
use super::{Book, MessageKey};
use crate::client::contacts::EDIT;
use crate::world::World;
use crate::world::events::{ClientId, HostId};
use crate::world::spam::SPAM;
use crate::world::story::Checked;

/// A message that a node did not take.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    /// When, virtual milliseconds.
    at: u64,
    /// Whether its sender has been told.
    told: bool,
}

impl Book {
    /// Whether a node did not take a message.
    pub(super) fn is_refused(&self, key: &MessageKey) -> bool {
        self.refused.contains_key(key)
    }
}

impl World {
    /// A node answers a client: perhaps with a refusal, for which its disk must have been full.
    pub(crate) fn note_refusals(&mut self, host: HostId, data: &[u8]) -> Checked {
        let text = String::from_utf8_lossy(data);
        let messages = text.split("<message ").skip(1).filter_map(|text| text.split("</message>").next());
        for stanza in messages.filter(|text| is_refusal(text) && !text.contains(SPAM)) {
            let key = stanza.split_once(" id='").and_then(|(_, id)| key_of(id.split('\'').next()?));
            let key = key.filter(|_| self.hosts[host.0].disk.was_full);
            let key = key.ok_or_else(|| self.violation(format!("refused without a reason: {stanza}")))?;
            self.book.refused.entry(key).or_insert(Refusal { at: self.time, told: false });
        }
        Ok(())
    }

    /// A client got an error: it may be that its message was refused.
    pub(super) fn check_error(&mut self, to: ClientId, error: &Element) -> Checked {
        if error.name() == "iq" && error.get_attr("id").is_some_and(|id| id.starts_with(EDIT)) {
            return Ok(());
        }
        let key = error.get_attr("id").and_then(key_of).filter(|key| key.from == to);
        let refusal = key.and_then(|key| self.book.refused.get_mut(&key));
        match refusal.filter(|_| error.name() == "message") {
            Some(refusal) => refusal.told = true,
            None => {
                let text = String::from_utf8_lossy(&error.to_bytes(ns::CLIENT)).into_owned();
                return Err(self.violation(format!("{} got an error: {text}", self.clients[to.0].name)));
            }
        }
        Ok(())
    }

    /// What was refused is not delivered, unless the node has started again since: it has forgotten the refusal then,
    /// and takes what the client sends once more.
    pub(super) fn check_refused(&self, to: ClientId, key: MessageKey) -> Checked {
        let booted = self.hosts[self.clients[key.from.0].host.0].booted;
        match self.book.refused.get(&key) {
            Some(refusal) if refusal.at >= booted => {
                let name = self.clients[to.0].name;
                Err(self.violation(format!("{name} got {}, which was refused", key.body())))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a sender knows that its message was refused. Without XEP-0198 the answer may be lost.
    pub(super) fn is_told(&self, key: &MessageKey) -> bool {
        let reliable = self.clients[key.from.0].traits.resumes;
        self.book.refused.get(key).is_some_and(|refusal| refusal.told || !reliable)
    }
}

fn is_refusal(stanza: &str) -> bool {
    stanza.contains(" type='error'") && stanza.contains("<resource-constraint ")
}
