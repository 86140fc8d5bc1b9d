//! The whole database in one file ([`crate::archive`]): its back-up, and the way from one kind of database to the other.

use std::path::Path;

use crosstalk_storage::tree::upstream::{OutsideState, State};
use crosstalk_storage::{Tree, WriteSet, decode, encode};

use super::engine::Engine;
use super::{DatabaseError, pages, versions};
use crate::accounts::random;
use crate::archive::{self, ArchiveError, Contents, Kind, Writer};

/// Where stands, in [`Tree::Meta`], that a database is being restored: what is there may go.
const RESTORING: &[u8] = b"restoring";
/// Bytes that are written together.
const BATCH: usize = 1 << 20;

/// Writes all there is to a new file, as it is at one moment. Whoever has it can try passwords.
pub(super) fn write(engine: &dyn Engine, path: &Path) -> Result<Contents, DatabaseError> {
    let written = write_to(engine, path);
    engine.rest();
    written
}

fn write_to(engine: &dyn Engine, path: &Path) -> Result<Contents, DatabaseError> {
    let mut out = Writer::create(path, Kind::Server, versions::newest())?;
    for tree in versions::trees() {
        pages(engine, tree, (&[], &[]), |key, value| Ok(out.put(tree.id(), key, Some(value))?))?;
    }
    Ok(out.finish()?)
}

/// Puts all that is in a file into an empty database; the domain last, so that what was cut off serves nothing and can
/// be begun again.
pub(super) fn restore(engine: &dyn Engine, path: &Path) -> Result<Contents, DatabaseError> {
    let version = archive::read::<DatabaseError>(path, Kind::Server, &mut |_, _, _| Ok(()))?.1;
    if version > versions::newest() {
        return Err(DatabaseError::Newer { found: version, known: versions::newest() });
    }
    make_room(engine)?;
    let mut writes = WriteSet::new();
    let mut last = WriteSet::new();
    last.delete(Tree::Meta, RESTORING);
    let (contents, _) = archive::read(path, Kind::Server, &mut |tree, key, value| {
        let (Some(tree), Some(value)) = (Tree::from_id(tree), value) else { return Ok(()) };
        let held = matches!(tree, Tree::Meta | Tree::ServedDomain);
        if held { &mut last } else { &mut writes }.put(tree, key, anew(tree, &value)?);
        if writes.bytes() >= BATCH {
            engine.commit(std::mem::take(&mut writes))?;
        }
        Ok::<(), DatabaseError>(())
    })?;
    engine.commit(writes)?;
    engine.commit(last)?;
    versions::raise(engine)?;
    Ok(contents)
}

/// A queue for a user gets another name: what laptops know of it may be later than the back-up, and they would take new
/// letters for such as they have.
fn anew(tree: Tree, value: &[u8]) -> Result<Vec<u8>, DatabaseError> {
    let state = if tree == Tree::Outside { decode::<OutsideState>(value)?.state } else { None };
    let Some(State::Queue(mut queue)) = state else { return Ok(value.to_vec()) };
    queue.id = random::queue_id()?;
    Ok(encode(&OutsideState { state: Some(State::Queue(queue)) }))
}

fn make_room(engine: &dyn Engine) -> Result<(), DatabaseError> {
    let begun = engine.get(Tree::Meta, &[RESTORING.to_vec()])?.pop().flatten().is_some();
    let mut gone = WriteSet::new();
    for tree in versions::trees().filter(|tree| *tree != Tree::Meta) {
        if !begun && engine.count(tree)? > 0 {
            engine.rest();
            return Err(ArchiveError::NotEmpty.into());
        }
        pages(engine, tree, (&[], &[]), |key, _| {
            gone.delete(tree, key);
            Ok(())
        })?;
    }
    gone.put(Tree::Meta, RESTORING, [1]);
    engine.commit(gone)
}
