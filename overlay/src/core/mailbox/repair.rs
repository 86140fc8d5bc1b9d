//! Copies that have to be made, as other holders of a mailbox have gone. *Pure.*

use std::collections::BTreeSet;

use super::job::{Job, JobKey};
use crate::core::Overlay;
use crate::core::query::Purpose;
use crate::id::{ItemId, NodeId, UserId};
use crate::mailbox::Offer;
use crate::time::Now;

/// Other holders of an item that are remembered; of more, it is not known that they have it.
const MAX_KNOWN: usize = 16;

impl Overlay {
    /// Another node holds what is held here.
    pub(super) fn note_replica(&mut self, mailbox: UserId, id: ItemId, node: NodeId) {
        if self.mail.held.get(id, mailbox).is_some() {
            let known = self.mail.replicas.entry((mailbox, id)).or_default();
            if known.len() < MAX_KNOWN {
                known.insert(node);
            }
        }
    }

    /// From time to time asks where the mailboxes are now that this node holds something of, or has put something into.
    pub(super) fn repair_if_due(&mut self, now: Now) {
        let due = |last: u64| now.mono >= last.saturating_add(self.limits.repair);
        if self.queries.nodes == 0 || !self.mail.places.repaired.is_none_or(due) {
            return;
        }
        self.mail.places.repaired = Some(now.mono);
        let held: BTreeSet<UserId> = self.mail.held.owners().collect();
        for user in held.union(&self.users_with_deposits()) {
            self.ask_table(Purpose::FindHolders(*user), now);
        }
    }

    /// Offers everything of a mailbox to those of its nodes that are not known to hold it.
    pub(super) fn pass_on(&mut self, mailbox: &UserId, nodes: &[NodeId], now: Now) {
        let mut missing = Vec::new();
        for held in self.mail.held.of(*mailbox) {
            let there = self.mail.replicas.get(&(*mailbox, held.id));
            let lack = nodes.iter().filter(|node| !there.is_some_and(|there| there.contains(node)));
            let only: BTreeSet<NodeId> = lack.copied().collect();
            if !only.is_empty() {
                missing.push((held.id, only, Offer { replica: true, ..held.offer.clone() }));
            }
        }
        for (id, only, offer) in missing {
            let key = JobKey::Replica(*mailbox, id);
            if self.mail.jobs.extend(&key, &only) {
                self.mail_soon(now);
            } else {
                self.add_job(key, Job::replica(id, offer, only), now);
            }
        }
    }
}
