//! Committed changes that the engine does not have yet; *pure*.
//!
//! For each key it remembers what the engine held before (as a digest), so that a put and its delete
//! cancel out without the engine ever seeing them, and the digest of the whole state is always at hand.
//! Its size is bounded by the journal, which holds the same changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use crate::Tree;
use crate::digest::{Digest, TreeDigest, entry as digest_of};

/// What is to become of a key.
#[derive(Clone)]
struct Change {
    value: Option<Vec<u8>>,
    /// Digest of the entry in the engine; `None` if there was none.
    before: Option<TreeDigest>,
}

/// The overlay over the engine.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    changes: BTreeMap<(Tree, Vec<u8>), Change>,
    /// Digest of engine and changes together.
    digest: Digest,
    /// The engine may hold some of the changes already (a checkpoint failed half-way): nothing may
    /// cancel out until one succeeds.
    half_applied: bool,
}

impl Pending {
    /// No changes over an engine with this digest.
    pub(crate) fn over(digest: Digest) -> Self {
        Self { changes: BTreeMap::new(), digest, half_applied: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The digest of engine and changes together.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn half_applied(&mut self) {
        self.half_applied = true;
    }

    /// Drops the changes, now that the engine has them.
    pub(crate) fn applied(&mut self) {
        self.changes.clear();
        self.half_applied = false;
    }

    /// The changed value of a key: `Some(None)` is gone, `None` is unchanged.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Option<Option<&[u8]>> {
        Some(self.changes.get(&(tree, key.to_vec()))?.value.as_deref())
    }

    /// Records a change. `before` is asked for the engine's digest of a key that is touched first.
    pub(crate) fn set(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: Option<&[u8]>,
        before: impl FnOnce() -> Option<TreeDigest>,
    ) {
        let old = match self.changes.entry((tree, key.to_vec())) {
            Entry::Occupied(mut entry) => {
                let old = entry.get().value.as_ref().map(|value| digest_of(key, value));
                if value.is_none() && entry.get().before.is_none() && !self.half_applied {
                    entry.remove();
                } else {
                    entry.get_mut().value = value.map(<[u8]>::to_vec);
                }
                old
            }
            Entry::Vacant(entry) => {
                let before = before();
                if value.is_some() || before.is_some() || self.half_applied {
                    entry.insert(Change { value: value.map(<[u8]>::to_vec), before });
                }
                before
            }
        };
        self.digest.update(tree, |digest| {
            digest.remove(old.unwrap_or_default());
            digest.add(value.map(|value| digest_of(key, value)).unwrap_or_default());
        });
    }

    /// All changes in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tree, &[u8], Option<&[u8]>)> {
        self.changes.iter().map(|((tree, key), change)| (*tree, key.as_slice(), change.value.as_deref()))
    }

    /// The changes of one tree from `start` on.
    pub(crate) fn from(&self, tree: Tree, start: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let from = Bound::Included((tree, start.to_vec()));
        self.changes
            .range((from, Bound::Unbounded))
            .take_while(move |((of, _), _)| *of == tree)
            .map(|((_, key), change)| (key.as_slice(), change.value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_and_its_delete_cancel_out() {
        let mut pending = Pending::default();
        pending.set(Tree::Outbox, b"1", Some(b"message"), || None);
        assert_eq!(pending.digest().tree(Tree::Outbox).count, 1);
        pending.set(Tree::Outbox, b"1", None, || unreachable!());
        assert!(pending.is_empty());
        assert_eq!(pending.digest(), &Digest::default());
    }

    #[test]
    fn a_delete_of_what_the_engine_holds_is_kept() {
        let mut engine = Digest::default();
        let held = digest_of(b"1", b"message");
        engine.update(Tree::Outbox, |tree| tree.add(held));
        let mut pending = Pending::over(engine);
        pending.set(Tree::Outbox, b"1", None, || Some(held));
        assert_eq!(pending.get(Tree::Outbox, b"1"), Some(None));
        assert_eq!(pending.digest(), &Digest::default());
    }

    #[test]
    fn nothing_cancels_out_while_the_engine_may_hold_a_part() {
        let mut pending = Pending::default();
        pending.set(Tree::Outbox, b"1", Some(b"message"), || None);
        pending.half_applied();
        pending.set(Tree::Outbox, b"1", None, || None);
        pending.set(Tree::Outbox, b"2", None, || None);
        assert_eq!(pending.iter().count(), 2);
        assert_eq!(pending.digest(), &Digest::default());
    }
}
