//! Committed changes that the engine does not have yet; *pure*.
//!
//! For each key it remembers what the engine held before (as a digest), so that a put and its delete
//! cancel out without the engine ever seeing them, and the digest of the whole state is always at hand.
//! What a checkpoint takes along is set apart, as the engine may hold any part of it until that ends: later
//! changes lie over it. Its size is bounded by the journal, which holds the same changes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::iter;
use std::ops::Bound;
use std::sync::Arc;

use crate::Tree;
use crate::digest::{Digest, Mark, TreeDigest, entry as digest_of};
use crate::engine::Op;

/// What is to become of a key.
#[derive(Clone)]
struct Change {
    value: Option<Vec<u8>>,
    /// Digest of the entry below; `None` if there was none.
    before: Option<TreeDigest>,
}

/// Changes by key.
#[derive(Clone, Default)]
struct Changes(BTreeMap<(Tree, Vec<u8>), Change>);

impl Changes {
    fn get(&self, tree: Tree, key: &[u8]) -> Option<Option<&[u8]>> {
        Some(self.0.get(&(tree, key.to_vec()))?.value.as_deref())
    }

    fn iter(&self) -> impl Iterator<Item = ((Tree, &[u8]), Option<&[u8]>)> {
        self.0.iter().map(|((tree, key), change)| ((*tree, key.as_slice()), change.value.as_deref()))
    }

    /// The same, for the engine.
    fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        self.iter().map(|((tree, key), value)| (tree, key, value))
    }

    /// The changes of one tree from `start` on.
    fn from(&self, tree: Tree, start: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let from = Bound::Included((tree, start.to_vec()));
        self.0
            .range((from, Bound::Unbounded))
            .take_while(move |((of, _), _)| *of == tree)
            .map(|((_, key), change)| (key.as_slice(), change.value.as_deref()))
    }
}

/// What a checkpoint takes along: changes that no longer change.
pub(crate) struct Leaving {
    changes: Changes,
    /// The state with them.
    pub(crate) mark: Mark,
}

impl Leaving {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.0.is_empty()
    }

    /// All changes in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        self.changes.ops()
    }

    /// Whether it changes a key.
    pub(crate) fn has(&self, tree: Tree, key: &[u8]) -> bool {
        self.changes.get(tree, key).is_some()
    }

    /// The changes of one tree.
    pub(crate) fn of(&self, tree: Tree) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes.from(tree, &[])
    }
}

/// The overlay over the engine.
#[derive(Default)]
pub(crate) struct Pending {
    changes: Changes,
    /// Below them, while a checkpoint is under way or failed.
    leaving: Option<Arc<Leaving>>,
    /// Digest of engine and all changes together.
    digest: Digest,
}

impl Pending {
    /// No changes over an engine with this digest.
    pub(crate) fn over(digest: Digest) -> Self {
        Self { digest, ..Self::default() }
    }

    /// The digest of engine and changes together.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Sets the changes so far apart for a checkpoint that brings the engine to `mark`.
    pub(crate) fn leave(&mut self, mark: Mark) -> Arc<Leaving> {
        let leaving = Arc::new(Leaving { changes: std::mem::take(&mut self.changes), mark });
        self.leaving = Some(Arc::clone(&leaving));
        leaving
    }

    /// What was set apart and did not get there yet.
    pub(crate) fn leaving(&self) -> Option<&Arc<Leaving>> {
        self.leaving.as_ref()
    }

    /// Drops what was set apart, now that the engine has it.
    pub(crate) fn left(&mut self) {
        self.leaving = None;
    }

    /// The changed value of a key: `Some(None)` is gone, `None` is unchanged.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(tree, key).or_else(|| self.leaving.as_ref()?.changes.get(tree, key))
    }

    /// Records a change. `before` is asked for the engine's digest of a key that is touched first.
    pub(crate) fn set(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: Option<&[u8]>,
        before: impl FnOnce() -> Option<TreeDigest>,
    ) {
        let old = match self.changes.0.entry((tree, key.to_vec())) {
            Entry::Occupied(mut entry) => {
                let old = entry.get().value.as_ref().map(|value| digest_of(key, value));
                if value.is_none() && entry.get().before.is_none() {
                    entry.remove();
                } else {
                    entry.get_mut().value = value.map(<[u8]>::to_vec);
                }
                old
            }
            Entry::Vacant(entry) => {
                let left = self.leaving.as_ref().and_then(|leaving| leaving.changes.get(tree, key));
                let before = left.map_or_else(before, |left| left.map(|left| digest_of(key, left)));
                if value.is_some() || before.is_some() {
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        let leaving = self.leaving.iter().flat_map(|leaving| leaving.changes.iter());
        laid_over(self.changes.iter(), leaving).map(|((tree, key), value)| (tree, key, value))
    }

    /// The changes that are not set apart, in order.
    pub(crate) fn since(&self) -> impl Iterator<Item = Op<'_>> {
        self.changes.ops()
    }

    /// The changes of one tree from `start` on.
    pub(crate) fn from(&self, tree: Tree, start: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let leaving = self.leaving.iter().flat_map(move |leaving| leaving.changes.from(tree, start));
        laid_over(self.changes.from(tree, start), leaving)
    }
}

/// Both in order; of a key in both, the upper one.
fn laid_over<K: Ord, V>(
    upper: impl Iterator<Item = (K, V)>,
    lower: impl Iterator<Item = (K, V)>,
) -> impl Iterator<Item = (K, V)> {
    let (mut upper, mut lower) = (upper.peekable(), lower.peekable());
    iter::from_fn(move || {
        let order = match (upper.peek(), lower.peek()) {
            (Some((above, _)), Some((below, _))) => above.cmp(below),
            (None, _) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        };
        match order {
            Ordering::Less => upper.next(),
            Ordering::Greater => lower.next(),
            Ordering::Equal => {
                lower.next();
                upper.next()
            }
        }
    })
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
        assert_eq!(pending.iter().count(), 0);
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
    fn later_changes_lie_over_what_a_checkpoint_takes_along() {
        let mut pending = Pending::default();
        for key in [b"1", b"2"] {
            pending.set(Tree::Outbox, key, Some(b"message"), || None);
        }
        let leaving = pending.leave(Mark::default());
        pending.set(Tree::Outbox, b"1", None, || unreachable!());
        pending.set(Tree::Outbox, b"3", Some(b"new"), || None);
        assert_eq!(leaving.iter().count(), 2, "they stay as they were");
        let changes: Vec<_> = pending.from(Tree::Outbox, &[]).collect();
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"1", None), (b"2", Some(b"message")), (b"3", Some(b"new"))];
        assert_eq!(changes, expected);
        assert_eq!(pending.iter().map(|(_, key, value)| (key, value)).collect::<Vec<_>>(), expected);
        assert_eq!((pending.get(Tree::Outbox, b"1"), pending.get(Tree::Outbox, b"4")), (Some(None), None));
        assert_eq!(pending.digest().tree(Tree::Outbox).count, 2);
        pending.left();
        assert_eq!(pending.iter().count(), 2, "the engine holds 1 now, and 2");
    }
}
