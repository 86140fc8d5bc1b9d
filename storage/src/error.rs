//! What can go wrong, each with the file it is about and the way out.

use std::io;
use std::path::{Path, PathBuf};

use crate::Tree;
use crate::engine::EngineError;

/// Why a store was not opened. Nothing was changed, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is held by {}: stop that program, or choose another data directory", path.display(), holder(*pid))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it wrote its number down.
        pid: Option<u32>,
    },
    /// It was written by a newer program.
    #[error(
        "{} has format {found}, this program reads up to {supported}: start the newer program again, nothing was changed",
        path.display()
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// It was written by an earlier program, and not closed in order.
    #[error(
        "{} has format {found} and holds changes that only the earlier program reads: start that once and stop it in \
         order, then this one; nothing was changed",
        path.display()
    )]
    Older {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The system does not let us at it.
    #[error("no permission to {action} {}: run as the owner of the data directory, or give it to this user (chown -R)", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
    },
    /// No space left.
    #[error("the disk is full, cannot {action} {}: free some space and start again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
    },
    /// Any other refusal of the system.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Whether an error means "no space".
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl OpenError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { path, action }
        } else if is_full(&source) {
            Self::Full { path, action }
        } else {
            Self::Io { path, action, source }
        }
    }

    pub(crate) fn engine(path: &Path, action: &'static str, error: EngineError) -> Self {
        match error {
            EngineError::System(source) => Self::io(path, action, source),
            EngineError::Damaged(reason) => Self::io(path, action, io::Error::other(reason)),
        }
    }
}

/// Why a commit failed. Nothing of it was kept, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space left for the journal. The store stays usable.
    #[error("the disk is full, cannot add to {}: free some space and try again", path.display())]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// A key, a value or the whole commit is too large.
    #[error("{what} of {size} bytes in tree {} exceeds {limit} bytes: store less", tree.name())]
    TooLarge {
        /// Key, value, or commit.
        what: &'static str,
        /// The tree; of a whole commit, the last one.
        tree: Tree,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Checkpoints fail and the journal has grown to its hard limit.
    #[error("{} has grown to {size} bytes because checkpoints fail: {reason}", path.display())]
    Backlog {
        /// The journal.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// Why the last checkpoint failed.
        reason: String,
    },
    /// The system refused. Whether the commit survives a crash now is unknown; the store writes a new
    /// journal before the next one.
    #[error("cannot add to {}: {source}; check the disk", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CommitError {
    /// Whether the same commit can never succeed, whatever becomes of the disk.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    pub(crate) fn io(path: PathBuf, source: io::Error) -> Self {
        if is_full(&source) { Self::Full { path } } else { Self::Io { path, source } }
    }
}

/// Why a checkpoint failed. Nothing is lost: the journal still holds every commit.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// No space left.
    #[error("the disk is full, cannot write {}: free some space", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot write {}: {source}; check the disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database turned out to be damaged.
    #[error("{}: {reason}; restart the program, which rebuilds it from snapshot and journal", path.display())]
    Damaged {
        /// The database directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl CheckpointError {
    pub(crate) fn io(path: PathBuf, source: io::Error) -> Self {
        if is_full(&source) { Self::Full { path } } else { Self::Io { path, source } }
    }

    pub(crate) fn engine(path: PathBuf, error: EngineError) -> Self {
        match error {
            EngineError::System(source) => Self::io(path, source),
            EngineError::Damaged(reason) => Self::Damaged { path, reason },
        }
    }
}

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read tree {}: {reason}; restart the program, which repairs the store", tree.name())]
pub struct ReadError {
    /// The tree.
    pub tree: Tree,
    /// What was found.
    pub reason: String,
}

impl ReadError {
    pub(crate) fn new(tree: Tree, error: &EngineError) -> Self {
        Self { tree, reason: error.to_string() }
    }
}
