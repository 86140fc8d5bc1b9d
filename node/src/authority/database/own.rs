//! The database as a store of our own (sled behind a journal), in the data directory: the default.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use crosstalk_storage::{Entry, Options, Store, Tree, WriteSet};

use super::engine::Engine;
use super::versions::VERSION;
use super::{DatabaseError, Signs};

/// How often it is looked whether there is room again on the disk.
const LOOK: Duration = Duration::from_secs(3);

/// An open store. Its lock lets one process in, so nothing changes between a check and a change.
pub(super) struct Own {
    store: RefCell<Store>,
    signs: Signs,
    /// Nothing could be written last: the disk is full, as a rule.
    full: Cell<bool>,
}

impl Own {
    /// Opens the store in a directory, or makes one.
    pub(super) fn open(dir: &Path, signs: Signs) -> Result<Self, DatabaseError> {
        let (store, _, opened) = Store::open(dir, Options::default())?;
        tracing::debug!("database of the authority: {opened}");
        Ok(Self::over(store, signs))
    }

    /// A store that is open already.
    pub(super) fn over(store: Store, signs: Signs) -> Self {
        Self { store: RefCell::new(store), signs, full: Cell::new(false) }
    }
}

impl Engine for Own {
    fn get(&self, tree: Tree, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, DatabaseError> {
        let store = self.store.borrow();
        keys.iter().map(|key| Ok(store.get(tree, key)?)).collect()
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, DatabaseError> {
        Ok(self.store.borrow().scan_from(tree, prefix, start, limit)?)
    }

    fn count(&self, tree: Tree) -> Result<usize, DatabaseError> {
        Ok(usize::try_from(self.store.borrow().count(tree)).unwrap_or(usize::MAX))
    }

    fn commit(&self, writes: WriteSet) -> Result<(), DatabaseError> {
        let done = self.store.borrow_mut().commit(&[writes]);
        match &done {
            Ok(()) if self.full.replace(false) => {
                self.signs.there();
                self.signs.alone();
            }
            Ok(()) => {}
            Err(error) => {
                self.full.set(true);
                self.signs.away(&error.to_string());
            }
        }
        Ok(done?)
    }

    fn rest(&self) {}

    fn alone(&self) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn make(&self, _: &[Tree]) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn tend(&self) -> Result<(), DatabaseError> {
        if self.full.get() {
            // What stands there already, once more: whether that can be written.
            let version = self.get(Tree::Meta, &[VERSION.to_vec()])?.pop().flatten();
            let mut writes = WriteSet::new();
            version.into_iter().for_each(|version| writes.put(Tree::Meta, VERSION, version));
            self.commit(writes)?;
        }
        Ok(self.store.borrow_mut().maintain().map(drop)?)
    }

    fn pause(&self) -> Option<Duration> {
        self.full.get().then_some(LOOK)
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn close(self: Box<Self>) -> Result<(), DatabaseError> {
        Ok(self.store.into_inner().close()?)
    }
}
