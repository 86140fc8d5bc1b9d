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
/// Mailboxes that are asked for at a time; of more, the others have their turn the next time.
const AT_A_TIME: usize = 2_048;

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
        let mut all: BTreeSet<UserId> = self.mail.held.owners().collect();
        all.append(&mut self.users_with_deposits());
        let some = in_turn(&all, self.mail.places.repaired_last.as_ref());
        self.mail.places.repaired_last = some.last().copied();
        some.into_iter().for_each(|user| self.ask_table(Purpose::FindHolders(user), now));
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

/// Those whose turn it is after the one who was last.
fn in_turn(all: &BTreeSet<UserId>, last: Option<&UserId>) -> Vec<UserId> {
    let is_next = |user: &&UserId| last.is_none_or(|last| *user > last);
    let (next, others) = (all.iter().filter(is_next), all.iter().filter(|user| !is_next(user)));
    next.chain(others).take(AT_A_TIME).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_mailboxes_all_have_their_turn() {
        let user = |number: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            UserId::from_bytes(bytes)
        };
        let all: BTreeSet<UserId> = (0..5_000).map(user).collect();
        let (mut asked, mut last) = (BTreeSet::new(), None);
        for _ in 0..3 {
            let some = in_turn(&all, last.as_ref());
            assert_eq!(some.len(), AT_A_TIME);
            last = some.last().copied();
            asked.extend(some);
        }
        assert_eq!(asked, all);
        let few: BTreeSet<UserId> = (0..9).map(user).collect();
        assert_eq!(in_turn(&few, last.as_ref()).len(), 9, "each once");
    }
}
