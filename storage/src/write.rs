//! Write-sets and loaded contents: the vocabulary between the core and the store; *pure*.

use std::collections::BTreeMap;
use std::fmt;

use crate::Tree;

/// Changes that become durable together or not at all. Within a set the last write of a key wins.
///
/// ```
/// use crosstalk_storage::{Tree, WriteSet};
///
/// let mut set = WriteSet::new();
/// set.put(Tree::Outbox, "1", "first");
/// set.delete(Tree::Outbox, "1");
/// assert_eq!(set.len(), 1); // one key, and its last word is "gone"
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WriteSet {
    ops: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
}

impl WriteSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` of `tree` to `value`.
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.insert(tree, key.into(), Some(value.into()));
    }

    /// Removes `key` from `tree`, present or not.
    pub fn delete(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.insert(tree, key.into(), None);
    }

    fn insert(&mut self, tree: Tree, key: Vec<u8>, value: Option<Vec<u8>>) {
        let key_len = key.len();
        let value_len = value.as_ref().map_or(0, Vec::len);
        match self.ops.insert((tree, key), value) {
            Some(old) => self.bytes = self.bytes + value_len - old.map_or(0, |value| value.len()),
            None => self.bytes += key_len + value_len,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Number of keys touched.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes in order of tree and key; `None` is a removal.
    pub fn iter(&self) -> impl Iterator<Item = (Tree, &[u8], Option<&[u8]>)> {
        self.ops.iter().map(|((tree, key), value)| (*tree, key.as_slice(), value.as_deref()))
    }

    /// Adds what `later` changes; where both touch a key, `later` wins.
    pub fn merge(&mut self, later: WriteSet) {
        for ((tree, key), value) in later.ops {
            self.insert(tree, key, value);
        }
    }
}

impl<'a> FromIterator<(Tree, &'a [u8], Option<&'a [u8]>)> for WriteSet {
    fn from_iter<I: IntoIterator<Item = (Tree, &'a [u8], Option<&'a [u8]>)>>(changes: I) -> Self {
        let mut set = Self::new();
        for (tree, key, value) in changes {
            set.insert(tree, key.to_vec(), value.map(<[u8]>::to_vec));
        }
        set
    }
}

impl fmt::Debug for WriteSet {
    /// Sizes only: keys and values are private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteSet({} keys, {} bytes)", self.len(), self.bytes)
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Everything the store held when it was opened: per tree an ordered map from key to value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<Tree, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Contents {
    /// The entries of one tree in the order of their keys.
    pub fn tree(&self, tree: Tree) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.get(&tree).into_iter().flatten().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The value of a key.
    pub fn get(&self, tree: Tree, key: &[u8]) -> Option<&[u8]> {
        self.0.get(&tree)?.get(key).map(Vec::as_slice)
    }

    /// Number of entries of all trees.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Whether there is no entry in any tree.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies a set, as a commit does: a model of the store for tests and simulations.
    pub fn apply(&mut self, set: &WriteSet) {
        for (tree, key, value) in set.iter() {
            self.set(tree, key, value);
        }
    }

    pub(crate) fn set(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) {
        let entries = self.0.entry(tree).or_default();
        match value {
            Some(value) => {
                entries.insert(key.to_vec(), value.to_vec());
            }
            None => {
                entries.remove(key);
            }
        }
        if entries.is_empty() {
            self.0.remove(&tree);
        }
    }

    pub(crate) fn put_tree(&mut self, tree: Tree, entries: BTreeMap<Vec<u8>, Vec<u8>>) {
        if !entries.is_empty() {
            self.0.insert(tree, entries);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tree, &[u8], &[u8])> {
        self.0
            .iter()
            .flat_map(|(tree, map)| map.iter().map(|(key, value)| (*tree, key.as_slice(), value.as_slice())))
    }
}

impl fmt::Debug for Contents {
    /// Sizes only: keys and values are private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(tree, map)| (tree.name(), map.len()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_of_a_key_wins_and_bytes_follow() {
        let mut set = WriteSet::new();
        set.put(Tree::Meta, "key", "value");
        assert_eq!(set.bytes(), 8);
        set.put(Tree::Meta, "key", "v");
        assert_eq!((set.len(), set.bytes()), (1, 4));
        set.delete(Tree::Meta, "key");
        assert_eq!((set.len(), set.bytes()), (1, 3));
        assert_eq!(set.iter().collect::<Vec<_>>(), [(Tree::Meta, b"key".as_slice(), None)]);
    }

    #[test]
    fn a_merge_prefers_the_later_set() {
        let (mut first, mut later) = (WriteSet::new(), WriteSet::new());
        first.put(Tree::Meta, "a", "old");
        first.put(Tree::Meta, "b", "kept");
        later.put(Tree::Meta, "a", "newer");
        first.merge(later);
        let mut contents = Contents::default();
        contents.apply(&first);
        assert_eq!(contents.get(Tree::Meta, b"a"), Some(b"newer".as_slice()));
        assert_eq!(contents.get(Tree::Meta, b"b"), Some(b"kept".as_slice()));
        assert_eq!(contents.len(), 2);
        assert_eq!(first.bytes(), 2 + 5 + 4);
    }

    #[test]
    fn debug_output_shows_no_key_and_no_value() {
        let mut set = WriteSet::new();
        set.put(Tree::Inbox, "juliet@capulet", "wherefore");
        let mut contents = Contents::default();
        contents.apply(&set);
        let shown = format!("{set:?} {contents:?}");
        assert!(!shown.contains("juliet") && !shown.contains("wherefore"), "{shown}");
    }
}
