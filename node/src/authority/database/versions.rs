//! The version of a server's database: raised step by step, forward only, each step in one commit.

use crosstalk_storage::tree::authority::AuditLine;
use crosstalk_storage::{Stored, Tree, WriteSet};

use super::engine::Engine;
use super::{DatabaseError, NEXT_LINE, pages};

/// Where the version stands, in [`Tree::Meta`]: 4 bytes, big-endian.
pub(super) const VERSION: &[u8] = b"version";

/// What leads from one version to the next.
struct Step {
    /// Trees that are new in it.
    trees: &'static [Tree],
    /// What becomes of what is there.
    change: fn(&dyn Engine, &mut WriteSet) -> Result<(), DatabaseError>,
}

/// From nothing, or from before there were versions, to the newest. Only ever appended to.
const STEPS: &[Step] = &[
    Step { trees: &FIRST, change: count_lines },
    Step { trees: &OUTSIDE, change: |_, _| Ok(()) },
    Step { trees: &[Tree::Introduced], change: |_, _| Ok(()) },
    Step { trees: &[Tree::Passed], change: |_, _| Ok(()) },
    Step { trees: &[Tree::Brought], change: |_, _| Ok(()) },
    Step { trees: &[Tree::Person, Tree::FoundBy], change: |_, _| Ok(()) },
    Step { trees: &[Tree::LastShown], change: |_, _| Ok(()) },
    Step { trees: &[Tree::ServerProcess], change: |_, _| Ok(()) },
];

const FIRST: [Tree; 7] = [
    Tree::Meta,
    Tree::ServedDomain,
    Tree::Member,
    Tree::Invitation,
    Tree::Audit,
    Tree::Owner,
    Tree::Statement,
];

/// What goes between users and addresses outside.
const OUTSIDE: [Tree; 2] = [Tree::Upstream, Tree::Outside];

/// The newest version, which this program writes.
pub(super) fn newest() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// All trees of the newest version.
pub(super) fn trees() -> impl Iterator<Item = Tree> {
    STEPS.iter().flat_map(|step| step.trees).copied()
}

/// Raises a database to the newest version.
///
/// # Errors
/// When it is of a newer one, which is left alone, or cannot be written.
pub(super) fn raise(engine: &dyn Engine) -> Result<(), DatabaseError> {
    loop {
        engine.alone()?;
        let raised = step(engine);
        engine.rest();
        if raised? {
            return Ok(());
        }
    }
}

/// Goes one step, or says that there is none left.
fn step(engine: &dyn Engine) -> Result<bool, DatabaseError> {
    engine.make(&[Tree::Meta])?;
    let found = version(engine)?;
    if found > newest() {
        return Err(DatabaseError::Newer { found, known: newest() });
    }
    let Some(step) = usize::try_from(found).ok().and_then(|at| STEPS.get(at)) else { return Ok(true) };
    engine.make(step.trees)?;
    let mut writes = WriteSet::new();
    (step.change)(engine, &mut writes)?;
    writes.put(Tree::Meta, VERSION, (found + 1).to_be_bytes());
    engine.commit(writes)?;
    tracing::debug!("database of the authority: version {}", found + 1);
    Ok(false)
}

fn version(engine: &dyn Engine) -> Result<u32, DatabaseError> {
    let found = engine.get(Tree::Meta, &[VERSION.to_vec()])?.pop().flatten();
    // What is no number was not written by us.
    let read = |bytes: Vec<u8>| bytes.try_into().map_or(u32::MAX, u32::from_be_bytes);
    Ok(found.map_or(0, read))
}

/// The number of the next line of the audit log, which was counted at each start before.
fn count_lines(engine: &dyn Engine, writes: &mut WriteSet) -> Result<(), DatabaseError> {
    let mut next = 1_u64;
    pages(engine, AuditLine::TREE, (&[], &[]), |key, _| {
        if let Ok(number) = key.try_into() {
            next = next.max(u64::from_be_bytes(number).saturating_add(1));
        }
        Ok(())
    })?;
    writes.put(Tree::Meta, NEXT_LINE, next.to_be_bytes());
    Ok(())
}
