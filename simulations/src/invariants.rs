//! What has to be true after each step, and what in the end. Knows what was done, and compares. *Pure.*
//!
//! | file | promise |
//! | --- | --- |
//! | `delivery` | exactly once, in order |
//! | `refusal` | refused only for want of room; then told, and not delivered |
//! | `ownership` | from its acknowledgement on a message always has a durable owner |
//! | `lists` | contact lists are what their owners made of them |
//! | `blocked` | who was blocked is not shown |
//! | `entrusted` | a new laptop gets from the server what others had when they met it last |
//! | `shown` | nothing unverified is shown; nobody who is gone is shown as here |
//! | `ending` | when all is well again: all delivered, nothing left over, both sides agree; bounds |

mod blocked;
mod delivery;
mod ending;
mod entrusted;
mod lists;
mod ownership;
mod refusal;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_storage::Tree;

use crate::world::events::{ClientId, HostId, PersonId};

/// A numbered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageKey {
    pub(crate) from: ClientId,
    pub(crate) to: PersonId,
    /// From 1 for each sender and recipient.
    pub(crate) number: u32,
}

/// Where a message is kept durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The outbox of a host.
    Outbox(HostId),
    /// The inbox of a host.
    Inbox(HostId),
}

/// What was done, as the world saw it.
#[derive(Default)]
pub(crate) struct Book {
    /// How many messages were sent, by sender and recipient.
    sent: BTreeMap<(ClientId, PersonId), u32>,
    /// Of those to its owner how many were sent before a client was on its laptop, by sender.
    before: BTreeMap<(ClientId, ClientId), u32>,
    /// Messages that their senders were told are safe.
    accepted: BTreeSet<MessageKey>,
    /// Messages that nodes had no room for.
    refused: BTreeMap<MessageKey, refusal::Refusal>,
    /// How often a client got a message.
    got: BTreeMap<(ClientId, MessageKey), u32>,
    /// The newest message of a sender that a client got.
    newest: BTreeMap<(ClientId, ClientId, PersonId), u32>,
    /// How often a client got the copy of a message that another device sent.
    copies: BTreeMap<(ClientId, MessageKey), u32>,
    /// Clients whose sessions were lost for good: what they sent or got last may come twice (DESIGN.md §5).
    excused: BTreeSet<ClientId>,
    /// Messages that a client got and that its node still held when it logged out: its acknowledgement may be lost
    /// with the node, so each may come once more.
    unsure: BTreeSet<(ClientId, MessageKey)>,
    /// Committed entries that hold a message.
    holdings: BTreeMap<(HostId, Tree, Vec<u8>), MessageKey>,
    /// How many of them, by place and message.
    owners: BTreeMap<(Place, MessageKey), u32>,
    /// Messages whose owners have changed since they were looked at.
    doubtful: BTreeSet<MessageKey>,
    /// Status texts that a person ever published.
    pub(crate) statuses: BTreeSet<(PersonId, String)>,
    /// The newest status of a client that another was shown under an address.
    newest_status: BTreeMap<(ClientId, String, u32), u32>,
    /// Presence that a client was shown with its age, as nobody near has heard it: by full address, since when.
    aged: BTreeMap<(ClientId, String), u64>,
    /// Statements about subscriptions: who, to whom, what.
    stated: BTreeSet<(PersonId, PersonId, &'static str)>,
    /// What was done to the lists of people, by owner and contact, in the order of time.
    edits: BTreeMap<(PersonId, String), Vec<lists::Edit>>,
    /// The newest of them by each client that another was shown.
    newest_edit: BTreeMap<(ClientId, String, ClientId), usize>,
    /// The names of contacts that a client was ever shown.
    listed: BTreeMap<(ClientId, String), BTreeSet<String>>,
    /// Who has blocked whom, since when it is so.
    blocked: BTreeMap<(PersonId, PersonId), u64>,
    /// What somebody had on the laptop that met the server last, and which that was.
    entrusted: BTreeMap<PersonId, (&'static str, entrusted::Possessions)>,
    /// Order may give way: a gap is released after 30 s (DESIGN.md §5), which happens only when frames are lost.
    pub(crate) any_order: bool,
    /// That somebody is gone may have to be noticed by so many, one after the other; 0 counts as one.
    pub(crate) hops: u64,
}

impl Book {
    /// Numbers the next message of a sender to a recipient.
    pub(crate) fn next_message(&mut self, from: ClientId, to: PersonId) -> MessageKey {
        let number = self.sent.entry((from, to)).or_default();
        *number += 1;
        MessageKey { from, to, number: *number }
    }

    /// A session was lost for good.
    pub(crate) fn not_resumed(&mut self, client: ClientId) {
        self.excused.insert(client);
    }

    /// A client logs out of a host.
    pub(crate) fn logged_out(&mut self, client: ClientId, host: HostId) {
        let held = self
            .owners
            .keys()
            .filter(|(place, _)| *place == Place::Inbox(host))
            .map(|(_, key)| (client, *key));
        let unsure: Vec<_> = held.filter(|got| self.got.contains_key(got)).collect();
        self.unsure.extend(unsure);
    }

    /// Somebody made a statement about a subscription.
    pub(crate) fn stated(&mut self, by: PersonId, to: PersonId, what: &'static str) {
        self.stated.insert((by, to, what));
    }

    /// Messages sent so far.
    pub(crate) fn messages(&self) -> u64 {
        self.sent.values().map(|count| u64::from(*count)).sum()
    }

    /// Messages that nodes had no room for.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.len() as u64
    }

    /// The node of a client has forgotten what was not saved: it may say what it had before.
    pub(crate) fn forget_statuses(&mut self, is_its: impl Fn(ClientId) -> bool) {
        let client = |number: u32| ClientId(usize::try_from(number).unwrap_or(usize::MAX));
        self.newest_status.retain(|(_, _, number), _| !is_its(client(*number)));
    }

    fn has_stated(&self, by: PersonId, to: PersonId, what: &str) -> bool {
        self.stated.contains(&(by, to, what))
    }
}
