//! The seam to what a store is kept on: two files replaced atomically, databases by generation.

pub(crate) mod disk;
pub(crate) mod memory;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::{Engine, EngineError};

/// The two files of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The root of the store, and what was committed since the last checkpoint.
    Journal,
    /// The second copy of what cannot be fetched again.
    Snapshot,
}

/// Writes the new content of a file.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Why a write failed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The file is as before.
    Refused(io::Error),
    /// What it holds now is unknown: write a new one before the next append.
    Unsure(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(error) | WriteError::Unsure(error) => error,
        }
    }
}

/// What a store is kept on.
pub(crate) trait Medium: Send + Sync {
    /// The content of a file, `None` if there is none.
    fn read(&self, part: Part) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file durably and atomically: after a crash it is the old one or the new one.
    fn replace(&self, part: Part, fill: Fill<'_>) -> Result<(), WriteError>;

    /// Cuts the journal to its first `len` bytes, durably.
    fn cut_journal(&self, len: u64) -> io::Result<()>;

    /// Adds a frame to the journal at `at`, its end, and returns when it is durable.
    fn append(&self, at: u64, frame: &[u8]) -> Result<(), WriteError>;

    /// Opens a database, creating it if there is none.
    fn engine(&self, generation: u64) -> Result<Arc<dyn Engine>, EngineError>;

    /// The databases that there are, oldest first.
    fn generations(&self) -> io::Result<Vec<u64>>;

    /// Removes a database that is not open.
    fn remove_engine(&self, generation: u64) -> io::Result<()>;

    /// Starts keeping a damaged store aside: links journal and snapshot into a new place, with `report`.
    fn begin_aside(&self, report: &str) -> io::Result<()>;

    /// Whether an aside was begun and not finished.
    fn aside_begun(&self) -> bool;

    /// Moves closed databases to the aside that was begun and gives it its final name; removes the oldest
    /// such directories above [`MAX_ASIDE`]. Answers with the place and with what was removed.
    fn finish_aside(&self, generations: &[u64]) -> io::Result<(PathBuf, Vec<PathBuf>)>;

    /// Bytes that could still be written, if that is known.
    fn free(&self) -> Option<u64>;

    /// When a file was last written, if that is known.
    fn modified(&self, part: Part) -> Option<SystemTime>;

    /// Where a file is, for messages.
    fn path(&self, part: Part) -> PathBuf;

    /// Where a database is, for messages.
    fn engine_path(&self, generation: u64) -> PathBuf;

    /// Fsyncs made so far, not counting those of the engine.
    fn fsyncs(&self) -> u64;
}

/// Damaged stores kept aside; the oldest goes when there are more.
pub(crate) const MAX_ASIDE: usize = 3;
