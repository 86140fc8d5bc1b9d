//! What holds the entries of a server's database: the one seam between what is kept and where.
//!
//! All that is read since the last [`Engine::commit`] or [`Engine::rest`] is of one moment, and a commit is refused as
//! [`DatabaseError::Changed`] if any of it is not so any more: whoever checks and then changes needs no lock, and puts
//! the question again. What is committed is durable.

use std::time::Duration;

use crosstalk_storage::{Entry, Tree, WriteSet};

use super::DatabaseError;

/// Holds entries: keys and values in trees, in the order of their keys. Used by one thread.
pub(super) trait Engine: Send {
    /// The values of some keys, in their order.
    ///
    /// # Errors
    /// When it cannot be read now, or at all.
    fn get(&self, tree: Tree, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, DatabaseError>;

    /// The first entries whose keys begin with `prefix` and are not before `start`, in order.
    ///
    /// # Errors
    /// As [`Engine::get`].
    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, DatabaseError>;

    /// How many entries a tree has.
    ///
    /// # Errors
    /// As [`Engine::get`].
    fn count(&self, tree: Tree) -> Result<usize, DatabaseError>;

    /// Makes all of it durable, or nothing.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then, unless the database went away
    /// in between: that nobody can know.
    fn commit(&self, writes: WriteSet) -> Result<(), DatabaseError>;

    /// What is read from now on is of another moment.
    fn rest(&self);

    /// The version of the database is being raised: until the next commit or rest nobody else does.
    ///
    /// # Errors
    /// When it cannot be reached.
    fn alone(&self) -> Result<(), DatabaseError>;

    /// Has room for some trees from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    fn make(&self, trees: &[Tree]) -> Result<(), DatabaseError>;

    /// What can be done while nobody waits.
    ///
    /// # Errors
    /// When it cannot be done now; nothing is lost then.
    fn tend(&self) -> Result<(), DatabaseError>;

    /// How often [`Engine::tend`] is wanted while nothing is asked; nothing: not at all.
    fn pause(&self) -> Option<Duration>;

    /// Whether other processes may have it, too.
    fn is_shared(&self) -> bool;

    /// Ends in order.
    ///
    /// # Errors
    /// When it does not; nothing is lost then.
    fn close(self: Box<Self>) -> Result<(), DatabaseError>;
}
