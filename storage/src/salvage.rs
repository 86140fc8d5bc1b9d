//! Judges what was found on disk, tree by tree, and puts together the best state; *pure*.
//!
//! Each tree can be had from the database and mostly from the snapshot too. Either copy knows up to which
//! journal frame it is complete (its mark), and the journal knows the digest of every tree at its start
//! and at each checkpoint that was begun. So a copy is brought up to that point with the frames behind
//! its mark; if the digest is right then, the copy is proven whole. Frames are absolute puts and deletes:
//! applying one that is in the copy already changes nothing in the end.

use std::collections::BTreeMap;

use crate::digest::{Digest, Mark, TreeDigest};
use crate::journal::{Event, Found, Frame, Header};
use crate::report::Source;
use crate::snapshot::Snapshot;
use crate::{Contents, Tree};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the database gave.
#[derive(Default)]
pub(crate) struct EngineView {
    pub(crate) mark: Option<Mark>,
    pub(crate) contents: Contents,
    /// What stopped the reading of it or of a tree, if anything did.
    pub(crate) failure: Option<String>,
}

/// Everything that was found.
pub(crate) struct Evidence {
    pub(crate) journal: Option<Found>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) engine: EngineView,
}

/// The state that was put together.
pub(crate) struct Verdict {
    /// Why the store must be rebuilt; `None` if the database with the journal is whole.
    pub(crate) damage: Option<String>,
    pub(crate) from: BTreeMap<Tree, Source>,
    pub(crate) incomplete: Vec<Tree>,
    /// The state after the last commit that was found.
    pub(crate) contents: Contents,
    /// The newest frame number seen anywhere that can be counted on from.
    pub(crate) sequence: u64,
}

/// No store commits so often: a number from here on was never written by one, whatever its checksum says.
const END_OF_NUMBERS: u64 = 1 << 62;

/// A copy of the trees, with the frame up to which it is complete.
struct Copy<'a> {
    mark: &'a Mark,
    contents: &'a Contents,
}

impl Evidence {
    fn frames(&self) -> &[Frame] {
        self.journal.as_ref().map_or(&[], |journal| &journal.frames)
    }

    fn header(&self) -> Option<&Header> {
        self.journal.as_ref()?.header.as_ref()
    }

    /// The newest state whose digest the journal knows.
    fn target(&self) -> Option<Mark> {
        let begun = self.frames().iter().rev().find_map(|frame| match &frame.event {
            Event::Checkpoint(digest) => Some(Mark { sequence: frame.sequence, digest: digest.clone() }),
            Event::Commit(_) => None,
        });
        begun.or_else(|| self.header().map(|header| header.base.clone()))
    }

    /// Whether every frame after `sequence` is there, as far as can be known.
    fn continuous_after(&self, sequence: u64) -> bool {
        let Some(journal) = &self.journal else { return false };
        let mut expected = sequence.saturating_add(1);
        for frame in journal.frames.iter().filter(|frame| frame.sequence > sequence) {
            if frame.sequence != expected {
                return false;
            }
            expected = expected.saturating_add(1);
        }
        let last = journal.frames.last().map(|frame| frame.sequence);
        match (&journal.header, last) {
            (Some(header), last) => last.unwrap_or(header.base.sequence) >= sequence,
            (None, Some(last)) => last >= sequence,
            (None, None) => self.only_a_header(journal.torn),
        }
    }

    /// Whether a journal with an unreadable header is just as long as a header: it had no frames.
    fn only_a_header(&self, len: u64) -> bool {
        let marks = self.engine.mark.iter().chain(self.snapshot.as_ref().map(|snapshot| &snapshot.mark));
        marks
            .into_iter()
            .any(|mark| Header { base: mark.clone(), ..Header::default() }.encode().len() as u64 == len)
    }

    /// Judges all of it.
    pub(crate) fn judge(&self) -> Verdict {
        let nothing = Mark::default();
        let engine =
            Copy { mark: self.engine.mark.as_ref().unwrap_or(&nothing), contents: &self.engine.contents };
        let snapshot =
            self.snapshot.as_ref().map(|found| Copy { mark: &found.mark, contents: &found.contents });
        let target = self.target();
        let last = self.last_sequence();
        let mut verdict = Verdict {
            damage: self.damage_of_files(last),
            from: BTreeMap::new(),
            incomplete: Vec::new(),
            contents: Contents::default(),
            sequence: if last < END_OF_NUMBERS { last } else { 0 },
        };
        for tree in Tree::ALL {
            let (entries, source, whole) =
                self.judge_tree(*tree, &engine, snapshot.as_ref(), target.as_ref());
            verdict.contents.put_tree(*tree, entries);
            verdict.from.insert(*tree, source);
            if !whole {
                verdict.incomplete.push(*tree);
            }
            if verdict.damage.is_none() && (source != Source::Database || !whole) {
                verdict.damage = Some(format!("tree {} is not what was written", tree.name()));
            }
        }
        verdict
    }

    fn judge_tree(
        &self,
        tree: Tree,
        engine: &Copy<'_>,
        snapshot: Option<&Copy<'_>>,
        target: Option<&Mark>,
    ) -> (Entries, Source, bool) {
        let from_engine = self.restore(tree, engine, target);
        if from_engine.proven {
            return (from_engine.entries, Source::Database, from_engine.current);
        }
        let Some(copy) = snapshot.filter(|_| tree.in_snapshot()) else {
            return (from_engine.entries, Source::Remains, false);
        };
        let from_snapshot = self.restore(tree, copy, target);
        if from_snapshot.proven {
            return (from_snapshot.entries, Source::Snapshot, from_snapshot.current);
        }
        let (mut entries, newer) = if copy.mark.sequence > engine.mark.sequence {
            (from_engine.entries, from_snapshot.entries)
        } else {
            (from_snapshot.entries, from_engine.entries)
        };
        entries.extend(newer);
        (entries, Source::Remains, false)
    }

    /// Brings one tree of a copy up to date, and proves it on the way if that can be done.
    fn restore(&self, tree: Tree, copy: &Copy<'_>, target: Option<&Mark>) -> Restored {
        let expected = target.filter(|target| target.sequence >= copy.mark.sequence).unwrap_or(copy.mark);
        let mut entries: Entries =
            copy.contents.tree(tree).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let between = |low: u64, high: u64| {
            self.frames().iter().filter(move |frame| frame.sequence > low && frame.sequence <= high)
        };
        between(copy.mark.sequence, expected.sequence).for_each(|frame| replay(frame, tree, &mut entries));
        let proven = TreeDigest::of(&entries) == expected.digest.tree(tree);
        between(expected.sequence, u64::MAX).for_each(|frame| replay(frame, tree, &mut entries));
        Restored { entries, proven, current: self.continuous_after(expected.sequence) }
    }

    fn damage_of_files(&self, last: u64) -> Option<String> {
        let journal = match &self.journal {
            _ if last >= END_OF_NUMBERS => Some("a frame number is not one that was ever written"),
            None => Some("the journal is missing"),
            Some(found) if found.header.is_none() => Some("the header of the journal is damaged"),
            Some(found) if found.holes => Some("the journal is damaged in the middle"),
            Some(_) => None,
        };
        journal.map(str::to_owned).or_else(|| self.engine.failure.clone())
    }

    fn last_sequence(&self) -> u64 {
        let frames = self.frames().last().map(|frame| frame.sequence);
        let header = self.header().map(|header| header.base.sequence);
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.mark.sequence);
        let engine = self.engine.mark.as_ref().map(|mark| mark.sequence);
        [frames, header, snapshot, engine].into_iter().flatten().max().unwrap_or(0)
    }

    /// Whether the snapshot would serve, should the database be lost now.
    pub(crate) fn snapshot_serves(&self) -> bool {
        let wanted = self.header().map(|header| header.base.digest.in_snapshot()).unwrap_or_default();
        match &self.snapshot {
            Some(snapshot) => snapshot.mark.digest.in_snapshot() == wanted,
            None => wanted == Digest::default(),
        }
    }
}

struct Restored {
    entries: Entries,
    /// The digest was right at the point where one is known.
    proven: bool,
    /// No frame behind that point is missing.
    current: bool,
}

fn replay(frame: &Frame, tree: Tree, entries: &mut Entries) {
    let Event::Commit(set) = &frame.event else { return };
    for (of, key, value) in set.iter() {
        if of != tree {
            continue;
        }
        match value {
            Some(value) => drop(entries.insert(key.to_vec(), value.to_vec())),
            None => drop(entries.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Marker, encode_commit};
    use crate::{MemoryDisk, Opened, Options, Rebuilt, Store, WriteSet};

    /// A checkpointed store with one entry per tree, whose database then loses one without a trace.
    fn rotten(tree: Tree) -> (Contents, Rebuilt) {
        let disk = MemoryDisk::new();
        let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
        let mut set = WriteSet::new();
        Tree::ALL.iter().for_each(|tree| set.put(*tree, "key", tree.name()));
        store.commit(&[set]).unwrap();
        store.checkpoint().unwrap();
        assert!(disk.with(|state| state.engines.get_mut(&1).unwrap().rot(tree, b"key")));
        let (_, contents, opened) = store.crash().unwrap();
        let Opened::Rebuilt(rebuilt) = opened else { panic!("not noticed: {opened}") };
        (contents, rebuilt)
    }

    #[test]
    fn a_lost_entry_comes_back_from_the_snapshot() {
        let (contents, rebuilt) = rotten(Tree::Outbox);
        assert_eq!(contents.get(Tree::Outbox, b"key"), Some(b"outbox".as_slice()));
        assert_eq!(
            (rebuilt.from[&Tree::Outbox], rebuilt.from[&Tree::Seen]),
            (Source::Snapshot, Source::Database)
        );
        assert!(rebuilt.incomplete.is_empty() && rebuilt.to_string().contains("Nothing is missing"));
    }

    /// Opens a store whose journal starts at `base`, with one commit of this number.
    fn numbered(base: u64, frame: u64) -> (Store, Opened) {
        let mut set = WriteSet::new();
        set.put(Tree::Outbox, "key", "value");
        let (marker, base) = (Marker([7; 16]), Mark { sequence: base, digest: Digest::default() });
        let header = Header { marker, generation: 1, base };
        let journal = [header.encode(), encode_commit(marker, frame, &[set])].concat();
        let disk = MemoryDisk::with_files(Some(journal), None);
        let (store, contents, opened) = Store::open_memory(&disk, Options::default()).unwrap();
        assert_eq!(contents.get(Tree::Outbox, b"key"), Some(b"value".as_slice()));
        (store, opened)
    }

    #[test]
    fn impossible_frame_numbers_are_damage_and_counting_begins_anew() {
        for (base, frame) in [(END_OF_NUMBERS, END_OF_NUMBERS + 1), (u64::MAX - 1, u64::MAX), (7, u64::MAX)] {
            let (mut store, opened) = numbered(base, frame);
            assert!(matches!(opened, Opened::Rebuilt(_)), "{base}, {frame}: {opened}");
            let mut set = WriteSet::new();
            set.put(Tree::Outbox, "more", "value");
            store.commit(&[set]).unwrap();
            let (store, contents, opened) = store.crash().unwrap();
            assert!(matches!(opened, Opened::Replayed { commits: 1, cut: 0 }), "{base}, {frame}: {opened}");
            assert_eq!((store.sequence, contents.len()), (2, 2));
        }
        assert!(matches!(numbered(END_OF_NUMBERS - 2, END_OF_NUMBERS - 1).1, Opened::Replayed { .. }));
    }

    #[test]
    fn a_lost_entry_that_no_snapshot_holds_is_reported() {
        let (contents, rebuilt) = rotten(Tree::Seen);
        assert_eq!(contents.len(), Tree::ALL.len() - 1);
        assert_eq!(
            (rebuilt.incomplete.as_slice(), rebuilt.from[&Tree::Seen]),
            ([Tree::Seen].as_slice(), Source::Remains)
        );
        assert!(rebuilt.to_string().contains("May lack entries: seen"), "{rebuilt}");
    }
}
