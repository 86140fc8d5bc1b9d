//! A copy of the whole store, made while commits go on: pages of what is there, and behind them what has changed since.
//!
//! Whoever applies the pieces in their order has the store as it was when the last one was made: a later piece tells of
//! each change that a page may have missed.

use std::sync::mpsc::{SyncSender, TrySendError};

use crosstalk_storage::{Entry, ReadError, Store, Tree, WriteSet};

/// Entries of a page.
const PAGE: usize = 64;
/// Bytes of changes that wait until the pages are through; past that whoever takes the copy is too slow.
const CHANGES: usize = 64 << 20;

/// A part of the copy.
#[derive(Debug)]
pub enum Piece {
    /// Some entries of a tree.
    Page(Tree, Vec<Entry>),
    /// What has changed since: the last piece.
    Changes(WriteSet),
    /// There will be no copy, for this reason.
    Failed(String),
}

/// Where a copy goes; a small queue.
pub type Copier = SyncSender<Piece>;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More, at once.
    More,
    /// Whoever takes the pieces has no room.
    Full,
    /// Nothing: it is through, or nobody wants it any more.
    End,
}

/// A copy under way.
#[derive(Debug)]
pub(super) struct Copying {
    to: Copier,
    /// The tree that is being read, and the key to begin at.
    at: (usize, Vec<u8>),
    changes: WriteSet,
    /// A piece that found no room.
    held: Option<Piece>,
}

impl Copying {
    pub(super) fn new(to: Copier) -> Self {
        Self { to, at: (0, Vec::new()), changes: WriteSet::new(), held: None }
    }

    /// Notes what was committed.
    pub(super) fn changed(&mut self, sets: &[WriteSet]) {
        sets.iter().for_each(|set| self.changes.merge(set.clone()));
    }

    /// Goes on by one piece, without waiting.
    pub(super) fn step(&mut self, store: &Store) -> Step {
        if self.changes.bytes() > CHANGES {
            let _ = self
                .to
                .try_send(Piece::Failed("it is written more slowly than the store changes".to_owned()));
            return Step::End;
        }
        let piece = match self.held.take().map_or_else(|| self.next(store), Ok) {
            Ok(piece) => piece,
            Err(error) => Piece::Failed(error.to_string()),
        };
        // What was held meanwhile may have changed since; a page and an earlier change make no difference.
        let last = !matches!(piece, Piece::Page(..));
        match self.to.try_send(piece) {
            Ok(()) if last => Step::End,
            Ok(()) => Step::More,
            Err(TrySendError::Full(Piece::Changes(changes))) => {
                self.changes = changes;
                Step::Full
            }
            Err(TrySendError::Full(piece)) => {
                self.held = Some(piece);
                Step::Full
            }
            Err(TrySendError::Disconnected(_)) => Step::End,
        }
    }

    fn next(&mut self, store: &Store) -> Result<Piece, ReadError> {
        while let Some(tree) = Tree::ALL.get(self.at.0).copied() {
            let page = store.scan_from(tree, &[], &self.at.1, PAGE)?;
            match page.last() {
                Some((last, _)) if page.len() == PAGE => self.at.1 = [&last[..], &[0]].concat(),
                _ => self.at = (self.at.0 + 1, Vec::new()),
            }
            if !page.is_empty() {
                return Ok(Piece::Page(tree, page));
            }
        }
        Ok(Piece::Changes(std::mem::take(&mut self.changes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn set(key: u32, value: Option<&str>) -> WriteSet {
        let (key, mut set) = (key.to_be_bytes(), WriteSet::new());
        match value {
            Some(value) => set.put(Tree::Inbox, key, value),
            None => set.delete(Tree::Inbox, key),
        }
        set
    }

    #[test]
    fn the_copy_is_the_store_of_its_last_moment_whatever_changes_meanwhile() {
        let mut store = Store::memory().expect("opened");
        for key in 0..1_000 {
            store.commit(&[set(key, Some("before"))]).expect("committed");
        }
        let (to, pieces) = sync_channel(2);
        let mut copying = Copying::new(to);
        let mut copy = crosstalk_storage::Contents::default();
        let (mut turn, mut ended) = (0_u32, false);
        while !ended {
            // Moves back over what was read, and forward into what was not: nothing of it may be lost or doubled.
            let moved = [
                set(turn * 7 % 1_000, None),
                set(999 - turn * 11 % 1_000, Some("after")),
                set(2_000 + turn, Some("new")),
            ];
            store.commit(&moved).expect("committed");
            copying.changed(&moved);
            ended = (0..3).any(|_| copying.step(&store) == Step::End);
            for piece in pieces.try_iter() {
                match piece {
                    Piece::Page(tree, page) => page.into_iter().for_each(|(key, value)| {
                        let mut set = WriteSet::new();
                        set.put(tree, key, value);
                        copy.apply(&set);
                    }),
                    Piece::Changes(changes) => copy.apply(&changes),
                    Piece::Failed(why) => panic!("{why}"),
                }
            }
            turn += 1;
        }
        assert!(turn > 5, "it took some turns");
        let now = store.scan(Tree::Inbox, &[], usize::MAX).expect("read");
        let copied: Vec<Entry> =
            copy.tree(Tree::Inbox).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(copied, now);
    }

    #[test]
    fn who_does_not_take_the_copy_is_not_waited_for_for_ever() {
        let mut store = Store::memory().expect("opened");
        let (to, _pieces) = sync_channel(0);
        let mut copying = Copying::new(to);
        let value = "x".repeat(1 << 20);
        for key in 0..64 {
            assert_eq!(copying.step(&store), Step::Full, "nothing waits for it");
            let large = set(key, Some(&value));
            store.commit(std::slice::from_ref(&large)).expect("committed");
            copying.changed(&[large]);
        }
        assert_eq!(copying.step(&store), Step::End);
    }
}
