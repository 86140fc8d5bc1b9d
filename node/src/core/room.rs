//! How much of each tree is used, and whether there is room for more. The store takes what it is given, so that one full
//! tree never keeps the changes of others from the disk: what is asked of the core is refused here. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::UserId;
use crosstalk_storage::Tree;

use super::Core;
use super::account::Account;
use crate::xmpp::{Condition, StanzaError};

/// Trees that grow with use.
const COUNTED: [Tree; 13] = [
    Tree::Account,
    Tree::Roster,
    Tree::ContactRecord,
    Tree::Inbox,
    Tree::Outbox,
    Tree::Unaddressed,
    Tree::Upstream,
    Tree::Outside,
    Tree::Session,
    Tree::Block,
    Tree::Presence,
    Tree::Mail,
    Tree::Node,
];
/// Records of a relation: what each of the two says of each direction.
const RECORDS: usize = 4;

impl Core {
    /// Entries of a tree that grows with use; of a relation all its records count.
    fn entries(&self, tree: Tree) -> usize {
        let sum = |of: fn(&Account) -> usize| self.accounts.iter().map(of).sum::<usize>();
        match tree {
            Tree::Account => self.accounts.len(),
            Tree::Roster => sum(|account| account.roster.items.len()),
            Tree::ContactRecord => RECORDS * sum(|account| account.roster.relations.len()),
            Tree::Inbox => sum(|account| account.inbox.len()),
            Tree::Outbox => self.overlay.outbox().count(),
            Tree::Unaddressed => self.names.waiting(),
            Tree::Upstream => self.letters_waiting(),
            Tree::Outside => self.outside_contacts(),
            Tree::Session => self.sessions.len(),
            Tree::Block => sum(|account| account.blocks.len()),
            Tree::Presence => self.remote_presence.len(),
            Tree::Mail => self.overlay.mail_held().items,
            Tree::Node => self.nodes.len(),
            _ => 0,
        }
    }

    /// Whether a tree takes so many entries more.
    pub(crate) fn has_room(&self, tree: Tree, more: usize) -> bool {
        self.entries(tree).saturating_add(more) <= tree.limit()
    }

    /// Whether an account may have a relation with somebody more than now.
    pub(super) fn has_room_for_relation(&self, user: &UserId, other: &UserId) -> bool {
        let Some(account) = self.accounts.get(user) else { return false };
        account.roster.relations.contains_key(other) || self.has_room_for_relations(account)
    }

    /// Whether an account may have one relation more, with whomever.
    pub(super) fn has_room_for_relations(&self, account: &Account) -> bool {
        account.roster.relations.len() < 2 * self.settings.roster_limit
            && self.has_room(Tree::ContactRecord, RECORDS)
    }

    /// Entries of what grows with use, with its limit.
    pub(super) fn fill(&self) -> BTreeMap<String, (u64, u64)> {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let line = |tree: Tree| (tree.name().to_owned(), (number(self.entries(tree)), number(tree.limit())));
        COUNTED.map(line).into()
    }
}

/// What a client is told when all accounts together have as much as the node holds.
pub(crate) fn full(what: &str) -> StanzaError {
    let text = format!("this node holds no more {what} of all its accounts: remove some, or ask who runs it");
    StanzaError::new(Condition::ResourceConstraint, text)
}
