//! The checkpoint: pending changes into the engine, a new snapshot, a new journal.
//!
//! It is made in three steps, so that commits need not wait for the long one: [`Store::begin_checkpoint`]
//! announces it and sets the changes so far apart; [`Checkpoint::write`] brings them to engine and snapshot;
//! [`Store::end_checkpoint`] begins a new journal with what was committed meanwhile.
//!
//! A crash between any two steps loses nothing. The frame written first tells what the engine must hold
//! once the journal up to it is replayed, applied already or not; the rename of the new journal is the
//! moment at which the checkpoint counts.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::digest::Mark;
use crate::engine::{BATCH, Closed, Engine, EngineError, Op, Rest, apply_all};
use crate::error::CheckpointError;
use crate::journal::{Header, Marker, encode_checkpoint};
use crate::medium::{Medium, Part};
use crate::pending::Leaving;
use crate::snapshot::Writer;
use crate::store::Store;
use crate::{Tree, WriteSet};

/// The database may take this many times the bytes that it holds before it is rewritten.
const GROWTH: u64 = 8;

/// Entries that are visited without a rest.
const VISITED: usize = 64;

/// Free bytes without which no checkpoint begins: four of sled's segments.
const ROOM: u64 = 2 << 20;

/// A checkpoint that was begun: what it takes along. Where it is dropped, the next one takes the same.
pub struct Checkpoint {
    medium: Arc<dyn Medium>,
    engine: Arc<dyn Engine>,
    leaving: Arc<Leaving>,
    generation: u64,
    /// The database has grown too large.
    rewrites: bool,
    /// The snapshot is older than what it is for.
    snapshot: bool,
}

/// A checkpoint that was written, or why it was not: for [`Store::end_checkpoint`].
pub struct Written {
    leaving: Arc<Leaving>,
    outcome: Result<Done, Failure>,
}

struct Done {
    rewritten: Option<Arc<dyn Engine>>,
    snapshot_len: Option<u64>,
}

struct Failure {
    error: CheckpointError,
    /// The engine refused a write; damaged, it cannot be used any more.
    by_engine: bool,
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self { error, by_engine: false }
    }
}

impl Store {
    /// Makes a checkpoint now, if anything changed since the last one. It blocks for the disk.
    ///
    /// # Errors
    ///
    /// Each variant of [`CheckpointError`]; nothing is lost, and a later call starts over.
    pub fn checkpoint(&mut self) -> Result<(), CheckpointError> {
        // The second time for what lies over one that failed.
        while let Some(begun) = self.begin_checkpoint()? {
            self.end_checkpoint(begun.write(&|| ()))?;
        }
        Ok(())
    }

    /// Begins a checkpoint of what was committed so far, if anything was and none is under way. Have it
    /// written, on any thread, and hand the result to [`Store::end_checkpoint`]; commits may go on meanwhile.
    ///
    /// # Errors
    ///
    /// Each variant of [`CheckpointError`]; nothing is lost, and a later call starts over.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Checkpoint>, CheckpointError> {
        let current = self.snapshot.as_ref() == Some(&self.pending.digest().in_snapshot());
        let settled =
            self.sequence == self.base && current && !self.unsure && self.pending.leaving().is_none();
        if settled || self.is_checkpoint_under_way() {
            return Ok(None);
        }
        if let Some(reason) = self.engine_failed.clone() {
            return Err(CheckpointError::Damaged { path: self.medium.engine_path(self.generation), reason });
        }
        self.check_room()?;
        self.reopen_engine()?;
        if self.unsure {
            self.renew_journal().map_err(|error| self.failed(Part::Journal, error))?;
        }
        let leaving = match self.pending.leaving() {
            Some(leaving) => Arc::clone(leaving),
            None => {
                let mark = self.announce()?;
                self.pending.leave(mark)
            }
        };
        Ok(Some(Checkpoint {
            medium: Arc::clone(&self.medium),
            engine: Arc::clone(&self.engine),
            generation: self.generation,
            rewrites: self.is_overgrown(&leaving.mark),
            snapshot: self.snapshot.as_ref() != Some(&leaving.mark.digest.in_snapshot()),
            leaving,
        }))
    }

    /// Whether a checkpoint was begun and is still being written.
    pub fn is_checkpoint_under_way(&self) -> bool {
        self.pending.leaving().is_some_and(|leaving| Arc::strong_count(leaving) > 1)
    }

    /// Ends a checkpoint: a new journal begins, with what was committed since it was begun.
    ///
    /// # Errors
    ///
    /// Each variant of [`CheckpointError`]: why it could not be written, or ended. Nothing is lost, and the
    /// next one starts over.
    pub fn end_checkpoint(&mut self, written: Written) -> Result<(), CheckpointError> {
        let Done { rewritten, snapshot_len } = written.outcome.map_err(|failure| {
            self.reopen |= failure.by_engine;
            if let (true, CheckpointError::Damaged { reason, .. }) = (failure.by_engine, &failure.error) {
                self.engine_failed.get_or_insert_with(|| reason.clone());
            }
            failure.error
        })?;
        let mark = written.leaving.mark.clone();
        if let Some(len) = snapshot_len {
            self.snapshot_len = len;
            self.snapshot = Some(mark.digest.in_snapshot());
        }
        let since: WriteSet = self.pending.since().collect();
        let generation = self.generation + u64::from(rewritten.is_some());
        let base = mark.sequence;
        self.replace_journal(generation, mark, &since, None)
            .map_err(|error| self.failed(Part::Journal, error))?;
        self.base = base;
        self.pending.left();
        self.checkpoints += 1;
        if let Some(engine) = rewritten {
            self.switch(engine, generation);
        }
        Ok(())
    }

    /// Refuses before sled meets a full disk: it bears that badly, and grows by whole segments.
    fn check_room(&self) -> Result<(), CheckpointError> {
        let needed = ROOM.saturating_add(self.journal_len.saturating_mul(2));
        match self.medium.free() {
            Some(free) if free < needed => {
                Err(CheckpointError::Full { path: self.medium.engine_path(self.generation) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Opens the engine again after it refused a write: sled refuses all others from then on.
    fn reopen_engine(&mut self) -> Result<(), CheckpointError> {
        if self.reopen {
            // It gives its lock back first.
            self.engine = Arc::new(Closed);
            self.engine = self
                .medium
                .engine(self.generation)
                .map_err(|error| CheckpointError::engine(self.medium.engine_path(self.generation), error))?;
            self.reopen = false;
        }
        Ok(())
    }

    /// Writes down what the engine will hold.
    fn announce(&mut self) -> Result<Mark, CheckpointError> {
        let mark = Mark { sequence: self.sequence + 1, digest: self.pending.digest().clone() };
        self.append(&encode_checkpoint(self.marker, &mark))
            .map_err(|error| self.failed(Part::Journal, error))?;
        Ok(mark)
    }

    fn is_overgrown(&self, mark: &Mark) -> bool {
        self.engine.size() > self.options.compact_above.max(GROWTH.saturating_mul(mark.digest.bytes()))
    }

    /// From now on the new database is the current one; the journal says so already.
    fn switch(&mut self, engine: Arc<dyn Engine>, generation: u64) {
        let old = self.generation;
        tracing::info!(bytes = self.engine.size(), "database rewritten compactly");
        self.engine = engine;
        self.generation = generation;
        self.compactions += 1;
        if let Err(error) = self.medium.remove_engine(old) {
            tracing::warn!(%error, "an old database could not be removed; the next start tries again");
        }
    }

    fn failed(&self, part: Part, error: io::Error) -> CheckpointError {
        CheckpointError::io(self.medium.path(part), error)
    }
}

impl Checkpoint {
    /// Brings everything to engine and snapshot; takes long. Reads and commits may go on beside it: they wait for a piece
    /// of it at most, and not at all while it rests.
    pub fn write(self, rest: Rest<'_>) -> Written {
        let outcome = self.write_all(rest);
        Written { leaving: self.leaving, outcome }
    }

    fn write_all(&self, rest: Rest<'_>) -> Result<Done, Failure> {
        let rewritten = if self.rewrites { Some(self.rewrite_engine(rest)?) } else { None };
        if rewritten.is_none() && !self.leaving.is_empty() {
            self.update_engine(rest)?;
        }
        let snapshot_len = if self.snapshot { Some(self.write_snapshot(rest)?) } else { None };
        Ok(Done { rewritten, snapshot_len })
    }

    /// Brings the engine up to the mark.
    fn update_engine(&self, rest: Rest<'_>) -> Result<(), Failure> {
        let apply = || {
            apply_all(self.engine.as_ref(), self.leaving.iter(), rest)?;
            self.engine.set_mark(&self.leaving.mark)?;
            self.engine.flush()
        };
        apply().map_err(|error| Failure {
            error: CheckpointError::engine(self.medium.engine_path(self.generation), error),
            by_engine: true,
        })
    }

    /// Copies everything into a new database.
    fn rewrite_engine(&self, rest: Rest<'_>) -> Result<Arc<dyn Engine>, CheckpointError> {
        let generation = self.generation + 1;
        self.copy_to(generation, rest)
            .map_err(|error| CheckpointError::engine(self.medium.engine_path(generation), error))
    }

    fn copy_to(&self, generation: u64, rest: Rest<'_>) -> Result<Arc<dyn Engine>, EngineError> {
        self.medium.remove_engine(generation)?;
        let engine = self.medium.engine(generation)?;
        let mut batch: Vec<(Tree, Vec<u8>, Vec<u8>)> = Vec::with_capacity(BATCH);
        let apply = |batch: &mut Vec<(Tree, Vec<u8>, Vec<u8>)>| {
            let ops: Vec<Op<'_>> =
                batch.iter().map(|(tree, key, value)| (*tree, &key[..], Some(&value[..]))).collect();
            let applied = engine.apply(&ops);
            batch.clear();
            applied
        };
        self.visit_all(rest, &mut |tree, key, value| {
            batch.push((tree, key.to_vec(), value.to_vec()));
            if batch.len() == BATCH { apply(&mut batch) } else { Ok(()) }
        })?;
        apply(&mut batch)?;
        engine.set_mark(&self.leaving.mark)?;
        engine.flush()?;
        Ok(engine)
    }

    fn write_snapshot(&self, rest: Rest<'_>) -> Result<u64, CheckpointError> {
        write_snapshot(self.medium.as_ref(), &self.leaving.mark, &|visit| self.visit_all(rest, visit))
            .map_err(|error| CheckpointError::io(self.medium.path(Part::Snapshot), error))
    }

    /// Visits every entry as it will be after the checkpoint, in order of tree and key.
    fn visit_all(&self, rest: Rest<'_>, visit: VisitAll<'_>) -> Result<(), EngineError> {
        let mut visited = 0_usize;
        let mut visit = |tree: Tree, key: &[u8], value: &[u8]| {
            visited += 1;
            if visited.is_multiple_of(VISITED) {
                rest();
            }
            visit(tree, key, value)
        };
        Tree::ALL
            .iter()
            .try_for_each(|tree| visit_tree(self.engine.as_ref(), &self.leaving, *tree, &mut visit))
    }
}

/// Called for every entry of the store.
pub(crate) type VisitAll<'a> = &'a mut dyn FnMut(Tree, &[u8], &[u8]) -> Result<(), EngineError>;

/// Merges one tree of the engine with the changes over it.
fn visit_tree(
    engine: &dyn Engine,
    leaving: &Leaving,
    tree: Tree,
    visit: VisitAll<'_>,
) -> Result<(), EngineError> {
    let mut changes = leaving.of(tree).peekable();
    let mut outcome = Ok(());
    // What changes is not read: it may be in the middle of that, after a checkpoint that failed.
    engine.scan(tree, &[], &|key| leaving.has(tree, key), &mut |key, value| {
        let mut step = || -> Result<(), EngineError> {
            while let Some((changed, new)) = changes.next_if(|(changed, _)| *changed < key) {
                new.map_or(Ok(()), |new| visit(tree, changed, new))?;
            }
            visit(tree, key, value)
        };
        match step() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    outcome?;
    changes.try_for_each(|(key, new)| new.map_or(Ok(()), |new| visit(tree, key, new)))
}

/// Visits all entries of some state, for [`write_snapshot`].
pub(crate) type Visitor<'a> = &'a dyn Fn(VisitAll<'_>) -> Result<(), EngineError>;

/// Replaces the snapshot; answers with its length.
pub(crate) fn write_snapshot(medium: &dyn Medium, mark: &Mark, all: Visitor<'_>) -> io::Result<u64> {
    let mut len = 0;
    medium.replace(Part::Snapshot, &mut |out| {
        let mut counted = Counted { out, len: 0 };
        let mut writer = Writer::new(&mut counted, mark)?;
        all(&mut |tree, key, value| Ok(writer.entry(tree, key, value)?)).map_err(|error| match error {
            EngineError::System(error) => error,
            EngineError::Damaged(reason) => io::Error::other(reason),
        })?;
        writer.finish()?;
        len = counted.len;
        Ok(())
    })?;
    Ok(len)
}

/// Replaces the journal by an empty one that starts from `base`.
pub(crate) fn start_journal(medium: &dyn Medium, generation: u64, base: Mark) -> io::Result<Header> {
    let header = Header { marker: new_marker()?, generation, base };
    let bytes = header.encode();
    medium.replace(Part::Journal, &mut |out| out.write_all(&bytes))?;
    Ok(header)
}

/// The marker of a new journal.
pub(crate) fn new_marker() -> io::Result<Marker> {
    let mut marker = Marker::NONE;
    getrandom::fill(&mut marker.0).map_err(io::Error::from)?;
    Ok(marker)
}

/// Counts what is written.
struct Counted<'a> {
    out: &'a mut dyn Write,
    len: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
