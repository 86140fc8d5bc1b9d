//! A contact list: items, relations, versions (RFC 6121 §2). *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{Slots, Subscription, subscription};
use crosstalk_storage::tree::roster::RosterItem;

use crate::xmpp::{Element, ns};

/// Tombstones kept for clients that come back with an old version of the list.
const TOMBSTONES: usize = 1_000;

/// A contact list in memory. Items are keyed by bare JID, relations by the other's user key: the subscription is
/// derived from signed contact records and never stored as such.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Changed by [`Self::put`] alone.
    pub(crate) items: BTreeMap<String, RosterItem>,
    /// The listed ones whose user is known: each stanza of somebody asks for them.
    known: BTreeSet<(UserId, String)>,
    removed: usize,
    pub(crate) relations: BTreeMap<UserId, Relation>,
    /// Lowest version from which changes can be told; an older client gets the whole list.
    pub(crate) told_from: u64,
}

/// What stands between the account and one other user.
#[derive(Debug, Default)]
pub(crate) struct Relation {
    pub(crate) slots: Slots,
    /// Address under which the other was known when the first record came.
    pub(crate) address: String,
    /// When a request of ours, or our answer, was said again because the other was seen: monotonic milliseconds.
    pub(crate) said_again: Option<u64>,
}

impl Roster {
    /// The listed contact with this address.
    pub(crate) fn get(&self, jid: &str) -> Option<&RosterItem> {
        self.items.get(jid).filter(|item| !item.removed)
    }

    /// Listed contacts.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &RosterItem> {
        self.items.values().filter(|item| !item.removed)
    }

    /// How many are listed.
    pub(crate) fn count(&self) -> usize {
        self.items.len() - self.removed
    }

    /// The listed contact that is this user.
    pub(crate) fn by_user(&self, user: &UserId) -> Option<&RosterItem> {
        let (of, jid) = self.known.range((*user, String::new())..).next()?;
        self.items.get(jid).filter(|_| of == user)
    }

    /// Lists a contact, or what was removed, in place of what stood at its address.
    pub(crate) fn put(&mut self, item: RosterItem) {
        self.take(&item.jid);
        match user_of(&item) {
            _ if item.removed => self.removed += 1,
            Some(user) => drop(self.known.insert((user, item.jid.clone()))),
            None => {}
        }
        self.items.insert(item.jid.clone(), item);
    }

    fn take(&mut self, jid: &str) -> Option<RosterItem> {
        let item = self.items.remove(jid)?;
        match user_of(&item) {
            _ if item.removed => self.removed -= 1,
            Some(user) => drop(self.known.remove(&(user, item.jid.clone()))),
            None => {}
        }
        Some(item)
    }

    /// Subscription to and from this user.
    pub(crate) fn subscription(&self, user: &UserId) -> Subscription {
        self.relations.get(user).map(|relation| subscription(&relation.slots)).unwrap_or_default()
    }

    /// Users who may see the account's presence.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = UserId> {
        self.relations
            .iter()
            .filter(|(_, relation)| subscription(&relation.slots).from || is_on(Mutant::PermissionForgotten))
            .map(|(user, _)| *user)
    }

    /// Users whose presence the account may see.
    pub(crate) fn watched(&self) -> impl Iterator<Item = UserId> {
        self.relations.iter().filter(|(_, relation)| subscription(&relation.slots).to).map(|(user, _)| *user)
    }

    /// After a start: versions before `from` count no more, and where as many removals are remembered as may be, older ones were
    /// forgotten.
    pub(crate) fn restored(&mut self, from: u64) {
        self.told_from = from;
        if self.removed >= TOMBSTONES {
            let removed = self.items.values().filter(|item| item.removed).map(|item| item.version);
            self.told_from = removed.min().unwrap_or_default().max(from);
        }
    }

    /// The oldest tombstone beyond the limit, taken out to be deleted from the store too.
    pub(crate) fn surplus_tombstone(&mut self) -> Option<RosterItem> {
        if self.removed <= TOMBSTONES {
            return None;
        }
        let removed = self.items.values().filter(|item| item.removed);
        let oldest = removed.min_by_key(|item| item.version)?.jid.clone();
        let item = self.take(&oldest)?;
        self.told_from = self.told_from.max(item.version);
        Some(item)
    }
}

/// User key of a contact, once it is known.
pub(crate) fn user_of(item: &RosterItem) -> Option<UserId> {
    item.user.as_deref().and_then(UserId::from_slice)
}

/// `none`, `to`, `from` or `both`.
pub(crate) fn subscription_name(subscription: Subscription) -> &'static str {
    match (subscription.to, subscription.from) {
        (false, false) => "none",
        (true, false) => "to",
        (false, true) => "from",
        (true, true) => "both",
    }
}

/// The `<item/>` of a contact (RFC 6121 §2.1.2).
pub(crate) fn item_element(item: &RosterItem, subscription: Subscription) -> Element {
    let state = if item.removed { "remove" } else { subscription_name(subscription) };
    let element = Element::new("item", ns::ROSTER).attr("jid", &item.jid).attr("subscription", state);
    if item.removed {
        return element;
    }
    let element = element
        .attr_opt("name", item.name.as_deref())
        .attr_opt("ask", subscription.ask.then_some("subscribe"))
        .attr_opt("approved", item.approved.then_some("true"));
    element.children_from(item.groups.iter().map(|group| Element::new("group", ns::ROSTER).text(group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_found_by_its_user_as_long_as_it_is_listed() {
        let (bob, eve) = (UserId::from_bytes([1; 32]), UserId::from_bytes([2; 32]));
        let item = |jid: &str, user: Option<UserId>| RosterItem {
            jid: jid.to_owned(),
            user: user.map(|user| user.as_bytes().to_vec()),
            ..RosterItem::default()
        };
        let mut roster = Roster::default();
        let found = |roster: &Roster, user| roster.by_user(&user).map(|item| item.jid.clone());
        roster.put(item("bob@a.example", None));
        assert_eq!((found(&roster, bob), roster.count()), (None, 1));
        // Who it is becomes known, and that somebody has two addresses; the first one counts.
        roster.put(item("bob@b.example", Some(bob)));
        roster.put(item("bob@a.example", Some(bob)));
        roster.put(item("eve@a.example", Some(eve)));
        assert_eq!((found(&roster, bob).as_deref(), roster.count()), (Some("bob@a.example"), 3));
        roster.put(RosterItem { removed: true, ..item("bob@a.example", Some(bob)) });
        assert_eq!((found(&roster, bob).as_deref(), roster.count()), (Some("bob@b.example"), 2));
        roster.put(item("bob@b.example", Some(eve)));
        assert_eq!(found(&roster, bob), None);
        assert_eq!(found(&roster, eve).as_deref(), Some("bob@b.example"));
        // What was removed is remembered up to a number, and may be listed again.
        for version in 1..=TOMBSTONES as u64 {
            let jid = format!("{version}@a.example");
            roster.put(RosterItem { removed: true, version, ..item(&jid, Some(bob)) });
        }
        assert_eq!(roster.surplus_tombstone().map(|item| item.jid).as_deref(), Some("bob@a.example"));
        assert!(roster.surplus_tombstone().is_none());
        roster.put(item("1@a.example", Some(bob)));
        assert_eq!((found(&roster, bob).as_deref(), roster.count()), (Some("1@a.example"), 3));
        assert_eq!(roster.listed().count(), roster.count());
    }
}
