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
        let group = format!("g{}", self.dice.below(3));
        let removes = self.dice.chance(25);
        let client = &mut self.clients[id.0];
        let number = client.id();
        let (name, edit) = (format!("n{}.{number}", id.0), format!("{EDIT}{number}"));
        let item = Element::new("item", ns::ROSTER).attr("jid", &jid);
        let item = match removes {
            true => item.attr("subscription", "remove"),
            false => item.attr("name", &name).child(Element::new("group", ns::ROSTER).text(&group)),
        };
        let to = Some((name, group)).filter(|_| !removes);
        self.book.edits((id, client.person), &jid, &edit, to);
        let set = Element::new("iq", ns::CLIENT).attr("type", "set").attr("id", edit);
        client.send_plain(set.child(Element::new("query", ns::ROSTER).child(item)));
        self.flush(id);
    }

    /// Whether two clients that are there show the same contacts, by the same names, in the same groups.
    pub(crate) fn lists_agree(&self, [one, other]: [ClientId; 2]) -> bool {
        let [one, other] = [&self.clients[one.0], &self.clients[other.0]];
        one.is_ready() && other.is_ready() && one.view.real_contacts() == other.view.real_contacts()
    }
}
