//! Whoever was blocked (XEP-0191) is not shown from then on: no message, no presence, no request. *Pure.*

use std::collections::BTreeSet;

use crosstalk::xmpp::Element;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::{Tree, decode};

use super::Book;
use crate::client::view::bare_of;
use crate::world::World;
use crate::world::events::{ClientId, HostId, PersonId};
use crate::world::story::Checked;

/// What was on its way to the client when its node heard of the block is shown yet, milliseconds.
const ON_ITS_WAY: u64 = 1_000;

impl Book {
    /// A node has confirmed to a client that somebody is blocked.
    pub(crate) fn blocked(&mut self, by: PersonId, whom: PersonId, time: u64) {
        self.blocked.entry((by, whom)).or_insert(time);
    }

    /// Whether somebody has been blocked.
    pub(crate) fn has_blocked(&self, by: PersonId, whom: PersonId) -> bool {
        self.blocked.contains_key(&(by, whom))
    }
}

impl World {
    /// Whom the people of a host have blocked, by what is durable there.
    pub(crate) fn blocks(&self, host: HostId) -> BTreeSet<String> {
        let entries = self.hosts[host.0].disk.contents().tree(Tree::Block);
        let blocked = entries.filter_map(|(key, value)| {
            let lifted = decode::<Blocked>(value).ok()?.lifted;
            String::from_utf8(key.get(32..)?.to_vec()).ok().filter(|_| !lifted)
        });
        blocked.collect()
    }

    /// A client is shown something of somebody.
    pub(super) fn check_blocked(&self, to: ClientId, stanza: &Element) -> Checked {
        let from = bare_of(stanza.get_attr("from").unwrap_or_default());
        let Some(person) = self.person_at(from) else { return Ok(()) };
        let since = self.book.blocked.get(&(self.clients[to.0].person, person));
        match since.is_some_and(|since| since + ON_ITS_WAY < self.time) {
            true => Err(self.forged(to, stanza, "was said by somebody blocked")),
            false => Ok(()),
        }
    }
}
