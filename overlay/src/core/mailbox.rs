//! Mail: what waits at other nodes for users of this one, what this one holds for others, and what it wants held. *Pure.*
//!
//! | file | decides |
//! | --- | --- |
//! | `places` | which nodes hold what waits for a user |
//! | `holder` | what is accepted, shown, given and forgotten here |
//! | `repair` | what has to be passed on, as other holders have gone |
//! | `owner` | what is fetched for our users, and when it may be forgotten |
//! | `receipts` | how the receipts of fetched messages go back |
//! | `sender` | which messages are deposited, and where |
//! | `tokens` | what spares contacts the work |
//! | `job` | one deposit: work, holders asked, acknowledgements |
//!
//! Nobody is believed: a holder proves what it gives by its name, a hash; a message proves its sender when it is opened;
//! a holder that loses or withholds something is one of several.

use std::collections::{BTreeMap, BTreeSet};

use super::timers::{Timer, on_grid};
use super::{Overlay, Restored};
use crate::id::{ItemId, NodeId, UserId};
use crate::mailbox::{Access, Mailboxes};
use crate::time::{Now, SECOND};

mod holder;
mod job;
mod owner;
mod places;
mod receipts;
mod repair;
mod sender;
mod tokens;

/// All about mail.
#[derive(Debug, Default)]
pub(super) struct Mail {
    held: Mailboxes,
    /// The nodes that our users' mail is to wait at; none: wherever the hash table says.
    pub(super) declared: Vec<NodeId>,
    /// For whom peers may take what is held here, beside whoever is proven there.
    access: BTreeMap<NodeId, Access>,
    /// Other nodes that are known to hold what is held here.
    replicas: BTreeMap<(UserId, ItemId), BTreeSet<NodeId>>,
    places: places::Places,
    /// Holders of our users' mail that stay connected, so that what comes is known at once.
    kept: BTreeMap<UserId, Vec<NodeId>>,
    owner: owner::Owner,
    receipts: receipts::Receipts,
    sender: sender::Sender,
    tokens: tokens::Tokens,
    jobs: job::Jobs,
}

impl Overlay {
    pub(super) fn restore_mail(&mut self, restored: &Restored) {
        let (held, damaged) = Mailboxes::restored(self.limits.mailbox, &restored.mail);
        (0..damaged).for_each(|_| self.counters.drop("stored mail"));
        self.mail.held = held;
        self.restore_tokens(restored);
    }

    /// How much this node holds for others.
    pub(super) fn mail_load(&self) -> crate::mailbox::Load {
        self.mail.held.load()
    }

    /// Whether a node holds mail of a user of ours, and stays connected.
    pub(super) fn is_kept_for_mail(&self, node: &NodeId) -> bool {
        self.mail.kept.values().any(|nodes| nodes.contains(node))
    }

    /// A session has begun.
    pub(super) fn on_mail_session(&mut self, node: NodeId, now: Now) {
        self.list_at(node, now);
        if self.queries.nodes == 0 && self.peers.is_near(&node) && self.mail.sender.waits() {
            self.try_deposits_again();
        }
        if !self.mail.jobs.is_empty() || self.mail.sender.waits() {
            self.mail_soon(now);
        }
    }

    /// A session has ended: what was asked on it is not answered any more.
    pub(super) fn forget_mail_session(&mut self, node: &NodeId) {
        self.mail.access.remove(node);
        self.mail.jobs.forget_session(node);
        if self.mail.owner.forget_session(node) {
            self.timers.set_earlier(Timer::Mail, 0);
        }
    }

    /// Looks at everything with the next timeout, which is now.
    pub(super) fn mail_soon(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Mail, now.mono);
    }

    pub(super) fn on_mail_timer(&mut self, now: Now) {
        self.deposit_waiting(now);
        self.repair_if_due(now);
        self.check_mailboxes(now);
        self.send_receipts(now);
        self.advance_jobs(now);
        self.give_up_fetches(now);
        self.fetch_all(now);
        self.send_lists(now);
        self.send_discards(now);
        let busy = !self.mail.jobs.is_empty() || self.mail.owner.is_busy();
        let waits = [
            busy.then(|| on_grid(now.mono + 1, SECOND)),
            self.mail.sender.next(now),
            self.mail.receipts.next(now),
            self.mail.places.next(self.limits.repair),
        ];
        if let Some(next) = waits.into_iter().flatten().min() {
            self.timers.set_earlier(Timer::Mail, next.max(now.mono + 1));
        }
    }
}
