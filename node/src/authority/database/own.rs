//! The database as a store of our own (sled behind a journal), in the data directory: the default.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use crosstalk_storage::{Entry, Options, Store, Tree, WriteSet};

use super::DatabaseError;
use super::engine::Engine;

/// An open store. Its lock lets one process in, so nothing changes between a check and a change.
pub(super) struct Own(RefCell<Store>);

impl Own {
    /// Opens the store in a directory, or makes one.
    pub(super) fn open(dir: &Path) -> Result<Self, DatabaseError> {
        let (store, _, opened) = Store::open(dir, Options::default())?;
        tracing::debug!("database of the authority: {opened}");
        Ok(Self(RefCell::new(store)))
    }
}

impl Engine for Own {
    fn get(&self, tree: Tree, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, DatabaseError> {
        let store = self.0.borrow();
        keys.iter().map(|key| Ok(store.get(tree, key)?)).collect()
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, DatabaseError> {
        Ok(self.0.borrow().scan_from(tree, prefix, start, limit)?)
    }

    fn count(&self, tree: Tree) -> Result<usize, DatabaseError> {
        Ok(usize::try_from(self.0.borrow().count(tree)).unwrap_or(usize::MAX))
    }

    fn commit(&self, writes: WriteSet) -> Result<(), DatabaseError> {
        Ok(self.0.borrow_mut().commit(&[writes])?)
    }

    fn rest(&self) {}

    fn alone(&self) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn make(&self, _: &[Tree]) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn tend(&self) -> Result<(), DatabaseError> {
        Ok(self.0.borrow_mut().maintain().map(drop)?)
    }

    fn pause(&self) -> Option<Duration> {
        None
    }

    fn close(self: Box<Self>) -> Result<(), DatabaseError> {
        Ok(self.0.into_inner().close()?)
    }
}
