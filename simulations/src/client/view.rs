//! What a client shows its user: the contact list and who is there. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk::xmpp::{Element, ns};

/// How the address of somebody ends who is shown as a neighbour.
const NEARBY: &str = "/nearby";

/// A contact as the node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// `none`, `to`, `from` or `both`.
    pub(crate) subscription: String,
    /// A request is unanswered.
    pub(crate) asked: bool,
    /// The name that its user gave.
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl Contact {
    /// Whether somebody is in the group "Nearby".
    fn is_nearby(&self) -> bool {
        self.groups.iter().any(|group| group == "Nearby")
    }
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// By bare JID.
    pub(crate) contacts: BTreeMap<String, Contact>,
    /// Full JIDs that are available, with their status text.
    pub(crate) online: BTreeMap<String, String>,
    /// Bare JIDs that ask to see this user's presence.
    pub(crate) asking: BTreeSet<String>,
    /// The whole list has come.
    pub(crate) complete: bool,
}

impl View {
    /// Takes in an `<item/>` of the contact list.
    pub(crate) fn item(&mut self, item: &Element) {
        let jid = item.get_attr("jid").unwrap_or_default().to_owned();
        let subscription = item.get_attr("subscription").unwrap_or("none").to_owned();
        if subscription == "remove" {
            self.contacts.remove(&jid);
            return;
        }
        let groups = item.children().filter(|child| child.is("group", ns::ROSTER));
        let contact = Contact {
            subscription,
            asked: item.get_attr("ask") == Some("subscribe"),
            name: item.get_attr("name").unwrap_or_default().to_owned(),
            groups: groups.map(|group| group.own_text().to_string()).collect(),
        };
        self.contacts.insert(jid, contact);
    }

    /// Takes in presence.
    pub(crate) fn presence(&mut self, from: &str, type_: Option<&str>, status: String) {
        match type_ {
            None => drop(self.online.insert(from.to_owned(), status)),
            Some("unavailable") => drop(self.online.remove(from)),
            Some("subscribe") => drop(self.asking.insert(from.to_owned())),
            Some(_) => {}
        }
    }

    /// Whether somebody is in the group "Nearby".
    pub(crate) fn is_nearby(&self, bare: &str) -> bool {
        self.contacts.get(bare).is_some_and(Contact::is_nearby)
    }

    /// Whether somebody is shown as available.
    pub(crate) fn is_online(&self, bare: &str) -> bool {
        let of_a_client = format!("{bare}/");
        let first = self.online.range(of_a_client.clone()..).next();
        first.is_some_and(|(full, _)| full.starts_with(&of_a_client)) || self.online.contains_key(bare)
    }

    /// The full JIDs under which somebody is shown as available.
    pub(crate) fn online_as(&self, bare: &str) -> impl Iterator<Item = &String> {
        let from = self.online.range(bare.to_owned()..).map(|(full, _)| full);
        let from = from.take_while(move |full| full.starts_with(bare));
        from.filter(move |full| bare_of(full) == bare)
    }

    /// Somebody who is shown as available as a neighbour, and is a contact.
    pub(crate) fn shown_twice(&self) -> Option<&str> {
        let contacts = self.contacts.iter().filter(|(_, contact)| !contact.is_nearby());
        let twice = |bare: &str| self.online_as(bare).any(|full| full.ends_with(NEARBY));
        contacts.map(|(bare, _)| bare.as_str()).find(|bare| twice(bare))
    }

    /// The subscription with somebody who is a contact.
    pub(crate) fn subscription(&self, bare: &str) -> &str {
        match self.contacts.get(bare) {
            Some(contact) if !contact.is_nearby() => &contact.subscription,
            Some(_) | None => "none",
        }
    }

    /// The list without neighbours.
    pub(crate) fn real_contacts(&self) -> BTreeMap<String, Contact> {
        let real = self.contacts.iter().filter(|(_, contact)| !contact.is_nearby());
        real.map(|(jid, contact)| (jid.clone(), contact.clone())).collect()
    }
}

/// The bare part of an address.
pub(crate) fn bare_of(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}
