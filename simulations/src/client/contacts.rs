//! What a client does with its contact list, and whether two devices of one person agree on it. *Pure.*

use crosstalk::xmpp::{Element, ns};

use crate::world::World;
use crate::world::events::{ClientId, Event};

/// How the addresses of people begin who are nowhere, and whom contact lists are edited with.
pub(crate) const NOBODY: &str = "nobody";
/// How the id of an edit begins: it may be refused, as a contact is not there or a disk is full.
pub(crate) const EDIT: &str = "edit-";
/// How many of them.
const NOBODIES: u64 = 4;

impl World {
    /// Plans edits of a client's contact list, spread over `span` milliseconds.
    pub(crate) fn gardening(&mut self, id: ClientId, count: u64, span: u64) {
        for _ in 0..count {
            let when = self.time + self.dice.below(span);
            self.plan([(when, Event::Edit(id))]);
        }
    }

    /// A client adds, renames, regroups or removes somebody.
    pub(crate) fn edit_contacts(&mut self, id: ClientId) {
        let jid = format!("{NOBODY}{}@far.example", self.dice.below(NOBODIES));
        if self.dice.chance(25) {
            return self.remove_contact(id, &jid);
        }
        let group = format!("g{}", self.dice.below(3));
        let name = format!("n{}.{}", id.0, self.clients[id.0].id());
        self.set_contact(id, &jid, &name, &group);
    }

    /// A client gives a contact this name, in this group.
    pub(crate) fn set_contact(&mut self, id: ClientId, jid: &str, name: &str, group: &str) {
        let item = Element::new("item", ns::ROSTER).attr("jid", jid).attr("name", name);
        let item = item.child(Element::new("group", ns::ROSTER).text(group));
        let edit = self.edit(id, Element::new("query", ns::ROSTER).child(item));
        self.book.edits(
            (id, self.clients[id.0].person),
            jid,
            &edit,
            Some((name.to_owned(), group.to_owned())),
        );
        self.flush(id);
    }

    /// A client removes a contact.
    pub(crate) fn remove_contact(&mut self, id: ClientId, jid: &str) {
        let item = Element::new("item", ns::ROSTER).attr("jid", jid).attr("subscription", "remove");
        let edit = self.edit(id, Element::new("query", ns::ROSTER).child(item));
        self.book.edits((id, self.clients[id.0].person), jid, &edit, None);
        self.flush(id);
    }

    /// A client blocks or unblocks an address (XEP-0191): `block`, `unblock`.
    pub(crate) fn set_block(&mut self, id: ClientId, what: &str, jid: &str) {
        let item = Element::new("item", ns::BLOCKING).attr("jid", jid);
        self.edit(id, Element::new(what, ns::BLOCKING).child(item));
        self.flush(id);
    }

    /// Puts out an edit. Returns its id.
    fn edit(&mut self, id: ClientId, what: Element) -> String {
        let client = &mut self.clients[id.0];
        let edit = format!("{EDIT}{}", client.id());
        client.send_plain(Element::new("iq", ns::CLIENT).attr("type", "set").attr("id", &edit).child(what));
        edit
    }

    /// Whether two clients that are there show the same contacts, by the same names, in the same groups.
    pub(crate) fn lists_agree(&self, [one, other]: [ClientId; 2]) -> bool {
        let [one, other] = [&self.clients[one.0], &self.clients[other.0]];
        one.is_ready() && other.is_ready() && one.view.real_contacts() == other.view.real_contacts()
    }
}
