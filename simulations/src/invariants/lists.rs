//! The contact list by its model: what its owner's clients have said of whom, in which order, and what they knew then.
//! Each entry that a client is shown was made so by somebody who may; nobody's newer word gives way to an older one; in
//! the end nothing accepted is lost but what somebody changed who knew it (RFC 6121 §2 and §3, DESIGN.md §6). *Pure.*

use std::collections::BTreeSet;

use crosstalk::xmpp::{Element, ns};

use super::Book;
use crate::client::contacts::{EDIT, NOBODY};
use crate::client::view::Contact;
use crate::world::World;
use crate::world::events::{ClientId, PersonId};
use crate::world::story::Checked;

/// What a node has said of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing: it may have been lost with the connection.
    None,
    Accepted,
    /// At this time. A node that has started again since takes what the client sends once more.
    Refused(u64),
}

/// A change of a list by one of its owner's clients.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    by: ClientId,
    /// Of the `<iq/>`.
    id: String,
    /// The name, which is no other edit's, and the group. None: the contact is removed.
    pub(crate) to: Option<(String, String)>,
    /// The names that its client had been shown when it was accepted.
    knew: BTreeSet<String>,
    answer: Answer,
    /// Its client was shown another's word after it: who removes that knows of this.
    gave_way: bool,
}

impl Edit {
    fn groups(&self, groups: &[String]) -> bool {
        self.to.as_ref().is_some_and(|(_, group)| groups == std::slice::from_ref(group))
    }

    fn is_refused(&self) -> bool {
        matches!(self.answer, Answer::Refused(_))
    }

    fn is_named(&self, name: &str) -> bool {
        self.to.as_ref().is_some_and(|(own, _)| own == name)
    }
}

impl Book {
    /// A client edits the entry of somebody.
    pub(crate) fn edits(
        &mut self,
        by: (ClientId, PersonId),
        jid: &str,
        id: &str,
        to: Option<(String, String)>,
    ) {
        let edit = Edit {
            by: by.0,
            id: id.to_owned(),
            to,
            knew: BTreeSet::new(),
            answer: Answer::None,
            gave_way: false,
        };
        self.edits.entry((by.1, jid.to_owned())).or_default().push(edit);
    }

    /// A node answers a client's edit.
    fn edit_answered(&mut self, by: ClientId, id: &str, answer: Answer) {
        for ((_, jid), edits) in &mut self.edits {
            for edit in edits.iter_mut().filter(|edit| edit.by == by && edit.id == id) {
                edit.answer = answer;
                edit.knew = self.listed.get(&(by, jid.clone())).cloned().unwrap_or_default();
            }
        }
    }

    /// A client is shown another's word about somebody.
    fn gives_way(&mut self, client: ClientId, entry: (PersonId, String)) {
        let edits = self.edits.get_mut(&entry).into_iter().flatten();
        edits
            .filter(|edit| edit.by == client && edit.answer == Answer::Accepted)
            .for_each(|edit| edit.gave_way = true);
    }

    /// Whether a list may say this of somebody in the end.
    fn may_end_as(edits: &[Edit], shown: Option<&Contact>) -> bool {
        let kept = |edit: &Edit| edit.answer == Answer::Accepted && !edit.gave_way;
        let mut there = edits.iter().filter(|edit| edit.to.is_some() && stands(edits, edit, |_| true));
        let Some(contact) = shown else {
            // What its client was not shown when it removed it may have been there all the same.
            let removed = |edit: &Edit| edit.to.is_none() && edit.knew.is_empty();
            return !there.any(kept)
                || edits.iter().any(|edit| removed(edit) && stands(edits, edit, |_| true));
        };
        // Two devices may have changed one field each (DESIGN.md §6); a field outlives a removal that gave way.
        let field = |is: &dyn Fn(&Edit) -> bool| {
            edits.iter().any(|edit| is(edit) && stands(edits, edit, |other| other.to.is_some()))
        };
        there.next().is_some()
            && field(&|edit| edit.is_named(&contact.name))
            && field(&|edit| edit.groups(&contact.groups))
    }
}

/// Whether no accepted edit of these is known to have been made after this one.
fn stands(edits: &[Edit], edit: &Edit, counts: impl Fn(&Edit) -> bool) -> bool {
    let after = edits.iter().skip_while(|other| !std::ptr::eq(*other, edit)).skip(1);
    let mut own = after.filter(|other| other.by == edit.by);
    let knew = |other: &Edit| edit.to.as_ref().is_some_and(|(name, _)| other.knew.contains(name));
    let mut others = edits.iter().filter(|other| other.by != edit.by && knew(other));
    let later = |other: &Edit| other.answer == Answer::Accepted && counts(other);
    !edit.is_refused() && !own.any(later) && !others.any(later)
}

impl World {
    /// A node answers an edit of its list.
    pub(super) fn note_answer(&mut self, by: ClientId, iq: &Element) {
        let answer = match iq.get_attr("type") {
            Some("result") => Answer::Accepted,
            Some("error") => Answer::Refused(self.time),
            Some(_) | None => return,
        };
        if let Some(id) = iq.get_attr("id").filter(|id| id.starts_with(EDIT)) {
            self.book.edit_answered(by, id, answer);
        }
    }

    /// A client is shown an entry of its contact list.
    pub(super) fn check_item(&mut self, to: ClientId, iq: &Element, item: &Element) -> Checked {
        let jid = item.get_attr("jid").unwrap_or_default();
        if let Some(other) = self.person_at(jid) {
            return self.check_subscription(to, other, iq, item);
        }
        if !jid.starts_with(NOBODY) {
            return Err(self.forged(to, iq, "is a contact that does not exist"));
        }
        let owner = self.clients[to.0].person;
        let edits = self.book.edits.get(&(owner, jid.to_owned())).map(Vec::as_slice).unwrap_or_default();
        let booted = |edit: &Edit| self.hosts[self.clients[edit.by.0].host.0].booted;
        let is_void = |edit: &Edit| matches!(edit.answer, Answer::Refused(at) if at >= booted(edit));
        if item.get_attr("subscription") == Some("remove") {
            return match edits.iter().any(|edit| edit.to.is_none() && !is_void(edit)) {
                true => Ok(()),
                false => Err(self.forged(to, iq, "removes whom nobody removed")),
            };
        }
        let name = item.get_attr("name").unwrap_or_default();
        let groups = item.children().filter(|child| child.is("group", ns::ROSTER));
        let groups: Vec<String> = groups.map(|group| group.own_text().to_string()).collect();
        let made = edits.iter().enumerate().rev().find(|(_, edit)| edit.is_named(name));
        match made.filter(|_| edits.iter().any(|edit| edit.groups(&groups))) {
            Some((_, edit)) if is_void(edit) => Err(self.forged(to, iq, "is an edit that was refused")),
            Some((place, edit)) => {
                let newest = self.book.newest_edit.entry((to, jid.to_owned(), edit.by)).or_default();
                if place < *newest {
                    return Err(self.forged(to, iq, "is an older edit than it was shown before"));
                }
                *newest = place;
                if edit.by != to {
                    self.book.gives_way(to, (owner, jid.to_owned()));
                }
                self.book.listed.entry((to, jid.to_owned())).or_default().insert(name.to_owned());
                Ok(())
            }
            None => Err(self.forged(to, iq, "is an edit that nobody made")),
        }
    }

    /// RFC 6121 §3: each side of a subscription was asked for by one and granted by the other.
    fn check_subscription(&self, to: ClientId, other: PersonId, iq: &Element, item: &Element) -> Checked {
        let is_nearby = |group: &Element| group.own_text() == "Nearby";
        if item.children().any(|child| child.is("group", ns::ROSTER) && is_nearby(child)) {
            return Ok(());
        }
        let own = self.clients[to.0].person;
        let granted = |by, whom| self.book.has_stated(by, whom, "subscribed");
        let asked = |by, whom| self.book.has_stated(by, whom, "subscribe");
        let state = item.get_attr("subscription").unwrap_or_default();
        let (sees, shown) = (matches!(state, "to" | "both"), matches!(state, "from" | "both"));
        if sees && !(granted(other, own) && asked(own, other)) {
            return Err(self.forged(to, iq, "shows a permission that was not given"));
        }
        if shown && !granted(own, other) {
            return Err(self.forged(to, iq, "permits somebody whom its owner did not"));
        }
        if item.get_attr("ask").is_some() && !asked(own, other) {
            return Err(self.forged(to, iq, "asks for what its owner did not"));
        }
        Ok(())
    }

    /// When all is well again: a client's list says what its model says.
    pub(crate) fn check_list(&self, client: ClientId) -> Checked {
        let Some(shown) = self.clients.get(client.0) else { return Ok(()) };
        for ((_, jid), edits) in self.book.edits.iter().filter(|((owner, _), _)| *owner == shown.person) {
            let contact = shown.view.contacts.get(jid);
            if !Book::may_end_as(edits, contact) {
                let name = shown.name;
                let why = format!("{name} shows {jid} as {contact:?} in the end, after {edits:?}");
                return Err(self.violation(why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(by: usize, to: Option<&str>, knew: Option<&str>, answer: Answer) -> Edit {
        let to = to.map(|name| (name.to_owned(), "g".to_owned()));
        let knew = knew.map(str::to_owned).into_iter().collect();
        Edit { by: ClientId(by), id: String::new(), to, knew, answer, gave_way: false }
    }

    fn may_end_as(edits: &[Edit], name: Option<&str>) -> bool {
        let contact = name.map(|name| Contact {
            subscription: "none".to_owned(),
            asked: false,
            name: name.to_owned(),
            groups: vec!["g".to_owned()],
        });
        Book::may_end_as(edits, contact.as_ref())
    }

    #[test]
    fn the_last_word_counts_and_what_was_not_answered_may() {
        use Answer::{Accepted, None as Lost, Refused};
        let edits = [edit(0, Some("a"), None, Accepted), edit(0, Some("b"), Some("a"), Accepted)];
        assert!(!may_end_as(&edits, Some("a")) && may_end_as(&edits, Some("b")) && !may_end_as(&edits, None));
        let edits = [edit(0, Some("a"), None, Accepted), edit(0, None, Some("a"), Lost)];
        assert!(may_end_as(&edits, Some("a")), "the removal may have been lost");
        let edits = [edit(0, Some("a"), None, Accepted), edit(0, Some("b"), Some("a"), Refused(0))];
        assert!(may_end_as(&edits, Some("a")) && !may_end_as(&edits, Some("b")));
    }

    #[test]
    fn of_two_devices_each_may_win_but_nothing_goes_that_nobody_knew() {
        use Answer::Accepted;
        let edits = [edit(0, Some("a"), None, Accepted), edit(1, Some("b"), None, Accepted)];
        assert!(may_end_as(&edits, Some("a")) && may_end_as(&edits, Some("b")) && !may_end_as(&edits, None));
        let edits = [edit(0, Some("a"), None, Accepted), edit(1, Some("b"), Some("a"), Accepted)];
        assert!(!may_end_as(&edits, Some("a")), "b was made of it");
        let edits = [
            edit(0, Some("a"), None, Accepted),
            edit(1, None, Some("a"), Accepted),
            edit(0, Some("c"), Some("a"), Accepted),
        ];
        assert!(may_end_as(&edits, Some("c")) && !may_end_as(&edits, None), "silently deleted");
        let edits = [
            edit(0, Some("a"), None, Accepted),
            edit(1, Some("b"), None, Accepted),
            edit(1, None, Some("b"), Accepted),
        ];
        assert!(may_end_as(&edits, Some("a")) && may_end_as(&edits, Some("b")), "kept, by the newer name");
        assert!(!may_end_as(&edits, None), "silently deleted");
    }
}
