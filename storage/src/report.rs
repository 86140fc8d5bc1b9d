//! What the store is told at opening and what it tells about itself; *pure*.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::Tree;

/// How a store is to behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of the journal, in bytes, from which a checkpoint is due (default 4 MiB). It bounds the
    /// memory for changes that the engine does not have yet, and the time to open after a crash. A large
    /// snapshot raises it, up to four times, so that it is not rewritten too often.
    pub journal_limit: u64,
    /// Page cache of the engine in bytes (default 4 MiB); sled takes it as a hint.
    pub cache_bytes: u64,
    /// A database above this size on disk, in bytes (default 64 MiB), and above eight times what it
    /// holds, is rewritten compactly at the next checkpoint.
    pub compact_above: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { journal_limit: 4 << 20, cache_bytes: 4 << 20, compact_above: 64 << 20 }
    }
}

/// What happened when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was no store; an empty one was made.
    Fresh,
    /// It was closed in order.
    Clean,
    /// It was not closed in order; nothing that was acknowledged is missing.
    Replayed {
        /// Commits taken from the journal.
        commits: u64,
        /// Bytes of an unfinished commit, never acknowledged, that were cut off the journal's end.
        cut: u64,
    },
    /// It was damaged and has been made anew from what could be read. Show this to the user.
    Rebuilt(Rebuilt),
}

/// How a damaged store was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What was wrong.
    pub reason: String,
    /// Where the entries of each tree come from; each is brought up to date from the journal.
    pub from: BTreeMap<Tree, Source>,
    /// Trees that may lack entries or hold old ones. All others are complete and verified.
    pub incomplete: Vec<Tree>,
    /// Where the damaged files are kept.
    pub aside: PathBuf,
    /// Older damaged stores that were removed to bound the space.
    pub removed: Vec<PathBuf>,
}

/// Where a tree was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The database, verified.
    Database,
    /// The snapshot, verified.
    Snapshot,
    /// Whatever could be read of both.
    Remains,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Database => "database",
            Source::Snapshot => "snapshot",
            Source::Remains => "what was readable",
        })
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opened::Fresh => f.write_str("a new store"),
            Opened::Clean => f.write_str("closed in order"),
            Opened::Replayed { commits, cut } => {
                write!(f, "{commits} commits replayed, {cut} bytes of an unfinished one cut off")
            }
            Opened::Rebuilt(rebuilt) => rebuilt.fmt(f),
        }
    }
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The store was damaged and has been rebuilt: {}.", self.reason)?;
        let names =
            |trees: &mut dyn Iterator<Item = Tree>| trees.map(Tree::name).collect::<Vec<_>>().join(", ");
        for source in [Source::Snapshot, Source::Remains] {
            let trees = names(&mut self.from.iter().filter(|(_, of)| **of == source).map(|(tree, _)| *tree));
            if !trees.is_empty() {
                writeln!(f, "Taken from {source}: {trees}.")?;
            }
        }
        if self.incomplete.is_empty() {
            writeln!(f, "Nothing is missing.")?;
        } else {
            writeln!(f, "May lack entries: {}.", names(&mut self.incomplete.iter().copied()))?;
        }
        write!(f, "The damaged files are kept in {}", self.aside.display())?;
        for path in &self.removed {
            write!(f, "; {} was removed to bound the space", path.display())?;
        }
        f.write_str(".")
    }
}

/// Figures about a store, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of entries per tree.
    pub entries: BTreeMap<Tree, u64>,
    /// Bytes of all keys and values.
    pub live_bytes: u64,
    /// Length of the journal in bytes.
    pub journal_bytes: u64,
    /// The database's size on disk in bytes.
    pub engine_bytes: u64,
    /// Calls of `commit` that wrote something, since the store was opened.
    pub commits: u64,
    /// Fsyncs of journal, snapshot and directory since the store was opened.
    pub fsyncs: u64,
    /// Checkpoints since the store was opened.
    pub checkpoints: u64,
    /// Compact rewrites of the database since the store was opened.
    pub compactions: u64,
    /// When the snapshot was written; compare with your clock for its age.
    pub snapshot_written: Option<SystemTime>,
}
