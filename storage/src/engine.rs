//! The seam to the database: named trees, small batches, durable flush.
//!
//! Only [`sled`] names the crate behind it. The store above makes a checkpoint atomic with its journal,
//! so an engine need not be atomic across trees; it must keep what was flushed.

pub(crate) mod memory;
pub(crate) mod sled;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use crate::Tree;
use crate::digest::Mark;

/// A change for the engine: tree, key, and the new value or `None` to remove it.
pub(crate) type Op<'a> = (Tree, &'a [u8], Option<&'a [u8]>);

/// Called for each entry of a scan; may stop it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Whether a scan leaves out the entry of a key.
pub(crate) type LeaveOut<'a> = &'a dyn Fn(&[u8]) -> bool;

/// For [`Engine::scan`]: none is left out.
pub(crate) fn nothing(_key: &[u8]) -> bool {
    false
}

/// Changes handed to [`Engine::apply`] at once: a millisecond of work.
pub(crate) const BATCH: usize = 16;

/// Called between the pieces of a long work, when nothing is locked: a place to let others go first.
pub type Rest<'a> = &'a dyn Fn();

/// A database of named trees.
pub(crate) trait Engine: Send + Sync {
    /// Applies up to [`BATCH`] changes, one after the other: readers may see some of them.
    fn apply(&self, ops: &[Op<'_>]) -> Result<(), EngineError>;

    /// The value of a key.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Visits the entries of a tree in the order of their keys, from `start` on. What is left out is not read: it may be
    /// in the middle of a change.
    fn scan(
        &self,
        tree: Tree,
        start: &[u8],
        leave_out: LeaveOut<'_>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;

    /// Notes which state the engine holds; call it after the last batch of a checkpoint.
    fn set_mark(&self, mark: &Mark) -> Result<(), EngineError>;

    /// The state noted last.
    fn mark(&self) -> Result<Option<Mark>, EngineError>;

    /// Returns when everything applied so far would survive a power cut.
    fn flush(&self) -> Result<(), EngineError>;

    /// Bytes on disk.
    fn size(&self) -> u64;
}

/// Why the engine failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// What it holds is not what was written: salvage it.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The system refuses: the data may be perfectly sound.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Stands in for a database that was closed to be opened again, should that fail.
pub(crate) struct Closed;

impl Closed {
    fn refuse<T>() -> Result<T, EngineError> {
        Err(EngineError::System(io::Error::other("the database could not be opened again after an error")))
    }
}

impl Engine for Closed {
    fn apply(&self, _ops: &[Op<'_>]) -> Result<(), EngineError> {
        Self::refuse()
    }

    fn get(&self, _tree: Tree, _key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Self::refuse()
    }

    fn scan(
        &self,
        _tree: Tree,
        _start: &[u8],
        _leave_out: LeaveOut<'_>,
        _visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        Self::refuse()
    }

    fn set_mark(&self, _mark: &Mark) -> Result<(), EngineError> {
        Self::refuse()
    }

    fn mark(&self) -> Result<Option<Mark>, EngineError> {
        Self::refuse()
    }

    fn flush(&self) -> Result<(), EngineError> {
        Self::refuse()
    }

    fn size(&self) -> u64 {
        0
    }
}

/// All entries of a tree, as far as they can be read, and what stopped the reading.
pub(crate) fn read_tree(
    engine: &dyn Engine,
    tree: Tree,
) -> (BTreeMap<Vec<u8>, Vec<u8>>, Result<(), EngineError>) {
    let mut entries = BTreeMap::new();
    let end = engine.scan(tree, &[], &nothing, &mut |key, value| {
        entries.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    (entries, end)
}

/// Collects changes into batches of the right size, and rests between them.
pub(crate) fn apply_all<'a>(
    engine: &dyn Engine,
    ops: impl Iterator<Item = Op<'a>>,
    rest: Rest<'_>,
) -> Result<(), EngineError> {
    let mut batch = Vec::with_capacity(BATCH);
    for op in ops {
        batch.push(op);
        if batch.len() == BATCH {
            engine.apply(&batch)?;
            batch.clear();
            rest();
        }
    }
    if batch.is_empty() { Ok(()) } else { engine.apply(&batch) }
}
