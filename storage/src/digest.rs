//! A checksum of what each tree holds that can be kept up to date change by change; *pure*.
//!
//! It finds rot, not forgery: an entry's CRC is mixed to 64 bits and the sum over a tree does not
//! depend on the order. The digest of a checkpoint stands in the journal, the snapshot and the engine,
//! so an engine that silently lost its newest part, or a page in the middle, is noticed.

use std::collections::BTreeMap;

use crate::format::{Malformed, Reader, put_u64};
use crate::{Contents, Tree};

/// Number, size and hash of the entries, per tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(BTreeMap<Tree, TreeDigest>);

/// The digest of one tree, or of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeDigest {
    pub(crate) count: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// Sum of the entries' hashes.
    pub(crate) sum: u64,
}

impl TreeDigest {
    pub(crate) fn add(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub(crate) fn remove(&mut self, other: Self) {
        self.count = self.count.wrapping_sub(other.count);
        self.bytes = self.bytes.wrapping_sub(other.bytes);
        self.sum = self.sum.wrapping_sub(other.sum);
    }

    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Self {
        let mut digest = Self::default();
        for (key, value) in entries {
            digest.add(entry(key, value));
        }
        digest
    }
}

impl Digest {
    pub(crate) fn tree(&self, tree: Tree) -> TreeDigest {
        self.0.get(&tree).copied().unwrap_or_default()
    }

    /// Applies `change` to one tree's digest; an empty tree is kept out of the map.
    pub(crate) fn update(&mut self, tree: Tree, change: impl FnOnce(&mut TreeDigest)) {
        let mut digest = self.tree(tree);
        change(&mut digest);
        if digest == TreeDigest::default() {
            self.0.remove(&tree);
        } else {
            self.0.insert(tree, digest);
        }
    }

    /// Bytes of keys and values of all trees.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.values().fold(0, |sum, tree| sum.wrapping_add(tree.bytes))
    }

    /// The part about the trees that a snapshot holds.
    pub(crate) fn in_snapshot(&self) -> Self {
        Self(self.0.iter().filter(|(tree, _)| tree.in_snapshot()).map(|(tree, of)| (*tree, *of)).collect())
    }

    pub(crate) fn of(contents: &Contents) -> Self {
        let mut digest = Self::default();
        for (tree, key, value) in contents.iter() {
            digest.update(tree, |of| of.add(entry(key, value)));
        }
        digest
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for (tree, digest) in &self.0 {
            out.push(tree.id());
            put_u64(out, digest.count);
            put_u64(out, digest.bytes);
            put_u64(out, digest.sum);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut trees = BTreeMap::new();
        for _ in 0..reader.u8()? {
            let tree = reader.tree()?;
            trees.insert(tree, TreeDigest { count: reader.u64()?, bytes: reader.u64()?, sum: reader.u64()? });
        }
        Ok(Self(trees))
    }
}

/// A state of the whole store: everything up to frame `sequence` of the journal, with its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sequence: u64,
    pub(crate) digest: Digest,
}

impl Mark {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.sequence);
        self.digest.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { sequence: reader.u64()?, digest: Digest::decode(reader)? })
    }
}

/// The digest of one entry.
pub(crate) fn entry(key: &[u8], value: &[u8]) -> TreeDigest {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&(key.len() as u64).to_le_bytes());
    crc.update(key);
    crc.update(value);
    let sum = mix(u64::from(crc.finalize()) | ((value.len() as u64) << 32));
    TreeDigest { count: 1, bytes: (key.len() + value.len()) as u64, sum }
}

/// The finaliser of SplitMix64: spreads a few bits over all 64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_undoes_adding_in_any_order() {
        let mut digest = Digest::default();
        let (a, b) = (entry(b"a", b"1"), entry(b"b", b"2"));
        digest.update(Tree::Outbox, |tree| tree.add(a));
        digest.update(Tree::Outbox, |tree| tree.add(b));
        digest.update(Tree::Outbox, |tree| tree.remove(a));
        assert_ne!(digest, Digest::default());
        digest.update(Tree::Outbox, |tree| tree.remove(b));
        assert_eq!(digest, Digest::default());
    }

    #[test]
    fn the_border_between_key_and_value_matters() {
        assert_ne!(entry(b"ab", b"c"), entry(b"a", b"bc"));
    }

    #[test]
    fn the_hash_never_changes() {
        // Golden: it is part of three file formats.
        assert_eq!(entry(b"key", b"value").sum, 1_598_349_190_291_718_948);
    }
}
