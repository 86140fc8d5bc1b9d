//! A contact list: items, relations, versions (RFC 6121 §2). *Pure.*

use std::collections::BTreeMap;

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
    pub(crate) items: BTreeMap<String, RosterItem>,
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

    /// The listed contact that is this user.
    pub(crate) fn by_user(&self, user: &UserId) -> Option<&RosterItem> {
        self.listed().find(|item| item.user.as_deref() == Some(user.as_bytes()))
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
        let removed = self.items.values().filter(|item| item.removed).map(|item| item.version);
        if removed.clone().count() >= TOMBSTONES {
            self.told_from = removed.min().unwrap_or_default().max(from);
        }
    }

    /// The oldest tombstone beyond the limit, taken out to be deleted from the store too.
    pub(crate) fn surplus_tombstone(&mut self) -> Option<RosterItem> {
        let removed = || self.items.values().filter(|item| item.removed);
        if removed().count() <= TOMBSTONES {
            return None;
        }
        let oldest = removed().min_by_key(|item| item.version)?.jid.clone();
        let item = self.items.remove(&oldest)?;
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
