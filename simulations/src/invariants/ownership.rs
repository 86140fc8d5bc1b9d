//! From the moment when a sender is told that a message is safe, until a client has it, somebody holds it durably: the
//! outbox of the sender's node or the inbox of the recipient's (DESIGN.md §5). *Pure.*

use crosstalk_overlay::core::state::OutboxEntry;
use crosstalk_overlay::envelope::Content;
use crosstalk_storage::{Contents, Tree, WriteSet, decode};

use super::{Book, MessageKey, Place};
use crate::world::World;
use crate::world::events::{ClientId, HostId, PersonId};
use crate::world::story::Checked;

impl Book {
    /// A sender was told that a message is safe.
    pub(crate) fn accepted(&mut self, key: MessageKey) {
        self.accepted.insert(key);
        self.doubtful.insert(key);
    }

    /// A host has made changes durable.
    pub(crate) fn committed(&mut self, host: HostId, set: &WriteSet) {
        for (tree, key, value) in set.iter() {
            if matches!(tree, Tree::Outbox | Tree::Inbox) {
                self.holds(host, tree, key, value);
            }
        }
    }

    /// A host has read its store again.
    pub(crate) fn reloaded(&mut self, host: HostId, contents: &Contents) {
        let held: Vec<_> = self.holdings.keys().filter(|(at, ..)| *at == host).cloned().collect();
        for (_, tree, key) in held {
            self.holds(host, tree, &key, contents.get(tree, &key));
        }
        for tree in [Tree::Outbox, Tree::Inbox] {
            contents.tree(tree).for_each(|(key, value)| self.holds(host, tree, key, Some(value)));
        }
    }

    fn holds(&mut self, host: HostId, tree: Tree, key: &[u8], value: Option<&[u8]>) {
        let place = if tree == Tree::Outbox { Place::Outbox(host) } else { Place::Inbox(host) };
        let held = value.and_then(|value| message_in(tree, value));
        let entry = (host, tree, key.to_vec());
        let before = match held {
            Some(held) => self.holdings.insert(entry, held),
            None => self.holdings.remove(&entry),
        };
        if before == held {
            return;
        }
        if let Some(held) = held {
            *self.owners.entry((place, held)).or_default() += 1;
        }
        if let Some(before) = before {
            let count = self.owners.entry((place, before)).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owners.remove(&(place, before));
                self.doubtful.insert(before);
            }
        }
    }

    /// Messages that a host's outbox holds.
    pub(crate) fn outbox_of(&self, host: HostId) -> usize {
        self.holdings.keys().filter(|(at, tree, _)| (*at, *tree) == (host, Tree::Outbox)).count()
    }
}

/// The numbered message that a stored entry holds for its recipient.
fn message_in(tree: Tree, value: &[u8]) -> Option<MessageKey> {
    match tree {
        // A copy of what its user sent elsewhere is not the message.
        Tree::Inbox if memchr::memmem::find(value, b"urn:xmpp:carbons:2").is_some() => None,
        Tree::Inbox => numbered(value),
        Tree::Outbox => {
            let entry: OutboxEntry = decode(value).ok()?;
            match Content::decode(&entry.content).ok()? {
                Content::Stanza { xml, .. } => numbered(&xml),
                Content::Contact(_)
                | Content::Copy { .. }
                | Content::Audience { .. }
                | Content::Tokens(_)
                | Content::Sync(_) => None,
            }
        }
        _ => None,
    }
}

/// The message whose text stands somewhere in these bytes.
pub(super) fn numbered(bytes: &[u8]) -> Option<MessageKey> {
    let start = memchr::memmem::find(bytes, b"<body>m")? + 6;
    let rest = bytes.get(start..)?;
    key_of(std::str::from_utf8(rest.get(..memchr::memchr(b'<', rest)?)?).ok()?)
}

/// The message whose text this is, as [`MessageKey::body`] writes it.
pub(super) fn key_of(text: &str) -> Option<MessageKey> {
    let mut parts = text.strip_prefix('m')?.split('.').map(|part| part.parse::<u32>().ok());
    let (from, to, number) = (parts.next()??, parts.next()??, parts.next()??);
    Some(MessageKey {
        from: ClientId(usize::try_from(from).ok()?),
        to: PersonId(usize::try_from(to).ok()?),
        number,
    })
}

impl World {
    /// Whatever has changed still has an owner.
    pub(crate) fn check_owners(&mut self) -> Checked {
        for key in std::mem::take(&mut self.book.doubtful) {
            if !self.book.accepted.contains(&key) || self.book.is_refused(&key) {
                continue;
            }
            for receiver in self.receivers(key.to) {
                let is_promised = self.clients[receiver.0].traits.resumes && self.is_promised(receiver, &key);
                if is_promised && !self.is_owned(key, receiver) {
                    let name = self.clients[receiver.0].name;
                    let why = format!(
                        "nobody holds {} durably, which was accepted and {name} has not got",
                        key.body()
                    );
                    return Err(self.violation(why));
                }
            }
        }
        Ok(())
    }

    fn is_owned(&self, key: MessageKey, receiver: ClientId) -> bool {
        let sender = self.clients[key.from.0].host;
        let owned = |place| self.book.owners.contains_key(&(place, key));
        self.book.got.contains_key(&(receiver, key))
            || owned(Place::Outbox(sender))
            || owned(Place::Inbox(self.clients[receiver.0].host))
    }
}
