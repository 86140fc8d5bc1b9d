//! The checkpoint: pending changes into the engine, a new snapshot, a new journal.
//!
//! A crash between any two steps loses nothing. The frame written first tells what the engine must hold
//! once the journal up to it is replayed, applied already or not; the rename of the new journal is the
//! moment at which the checkpoint counts.

use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::Tree;
use crate::digest::Mark;
use crate::engine::{BATCH, Closed, Engine, EngineError, Op, apply_all};
use crate::error::CheckpointError;
use crate::journal::{Header, Marker, encode_checkpoint};
use crate::medium::{Medium, Part};
use crate::pending::Pending;
use crate::snapshot::Writer;
use crate::store::Store;

/// The database may take this many times the bytes that it holds before it is rewritten.
const GROWTH: u64 = 8;

/// Free bytes without which no checkpoint begins: four of sled's segments.
const ROOM: u64 = 2 << 20;

impl Store {
    /// Makes a checkpoint now, if anything changed since the last one.
    ///
    /// # Errors
    ///
    /// Each variant of [`CheckpointError`]; nothing is lost, and a later call starts over.
    pub fn checkpoint(&mut self) -> Result<(), CheckpointError> {
        let current = self.snapshot.as_ref() == Some(&self.pending.digest().in_snapshot());
        if self.sequence == self.base && current && !self.unsure {
            return Ok(());
        }
        if let Some(reason) = self.engine_failed.clone() {
            return Err(CheckpointError::Damaged { path: self.medium.engine_path(self.generation), reason });
        }
        self.check_room()?;
        let mark = self.announce()?;
        let rewritten = self.update_engine(&mark)?;
        if !current {
            self.snapshot_len = write_snapshot(self.medium.as_mut(), &mark, &|visit| {
                visit_all(self.engine.as_ref(), &self.pending, visit)
            })
            .map_err(|error| self.failed(Part::Snapshot, error))?;
            self.snapshot = Some(mark.digest.in_snapshot());
        }
        let generation = if rewritten.is_some() { self.generation + 1 } else { self.generation };
        let header = start_journal(self.medium.as_mut(), generation, mark)
            .map_err(|error| self.failed(Part::Journal, error))?;
        self.journal_len = header.encode().len() as u64;
        self.marker = header.marker;
        self.unsure = false;
        self.base = self.sequence;
        self.pending.applied();
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

    /// Writes down what the engine will hold, unless the last attempt did.
    fn announce(&mut self) -> Result<Mark, CheckpointError> {
        let digest = self.pending.digest().clone();
        if self.announced == Some(self.sequence) && !self.unsure {
            return Ok(Mark { sequence: self.sequence, digest });
        }
        let mark = Mark { sequence: self.sequence + 1, digest };
        if self.unsure {
            // The journal cannot be appended to, and is replaced at the end in any case.
            self.sequence += 1;
        } else {
            self.append(&encode_checkpoint(self.marker, &mark))
                .map_err(|error| self.failed(Part::Journal, error))?;
            self.announced = Some(self.sequence);
        }
        Ok(mark)
    }

    /// Brings the engine up to `mark`. Answers with a new engine if it had grown too large.
    fn update_engine(&mut self, mark: &Mark) -> Result<Option<Box<dyn Engine>>, CheckpointError> {
        let path = self.medium.engine_path(self.generation);
        if self.reopen {
            self.engine = Box::new(Closed);
            self.engine = self
                .medium
                .engine(self.generation)
                .map_err(|error| CheckpointError::engine(path.clone(), error))?;
            self.reopen = false;
        }
        if self.is_overgrown(mark) {
            let generation = self.generation + 1;
            let path = self.medium.engine_path(generation);
            let rewritten = self.rewrite_engine(generation, mark);
            return rewritten.map(Some).map_err(|error| CheckpointError::engine(path, error));
        }
        if !self.pending.is_empty() {
            self.pending.half_applied();
            self.apply_pending(mark).map_err(|error| {
                self.reopen = true;
                if let EngineError::Damaged(reason) = &error {
                    self.engine_failed = Some(reason.clone());
                }
                CheckpointError::engine(path, error)
            })?;
        }
        Ok(None)
    }

    fn apply_pending(&mut self, mark: &Mark) -> Result<(), EngineError> {
        apply_all(self.engine.as_mut(), self.pending.iter())?;
        self.engine.set_mark(mark)?;
        self.engine.flush()
    }

    fn is_overgrown(&self, mark: &Mark) -> bool {
        self.engine.size() > self.options.compact_above.max(GROWTH.saturating_mul(mark.digest.bytes()))
    }

    /// Copies everything into a new database.
    fn rewrite_engine(&mut self, generation: u64, mark: &Mark) -> Result<Box<dyn Engine>, EngineError> {
        self.medium.remove_engine(generation)?;
        let mut engine = self.medium.engine(generation)?;
        let mut batch: Vec<(Tree, Vec<u8>, Vec<u8>)> = Vec::with_capacity(BATCH);
        let mut apply = |batch: &mut Vec<(Tree, Vec<u8>, Vec<u8>)>| {
            let ops: Vec<Op<'_>> =
                batch.iter().map(|(tree, key, value)| (*tree, &key[..], Some(&value[..]))).collect();
            let applied = engine.apply(&ops);
            batch.clear();
            applied
        };
        visit_all(self.engine.as_ref(), &self.pending, &mut |tree, key, value| {
            batch.push((tree, key.to_vec(), value.to_vec()));
            if batch.len() == BATCH { apply(&mut batch) } else { Ok(()) }
        })?;
        apply(&mut batch)?;
        engine.set_mark(mark)?;
        engine.flush()?;
        Ok(engine)
    }

    /// From now on the new database is the current one; the journal says so already.
    fn switch(&mut self, engine: Box<dyn Engine>, generation: u64) {
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

/// Called for every entry of the store.
pub(crate) type VisitAll<'a> = &'a mut dyn FnMut(Tree, &[u8], &[u8]) -> Result<(), EngineError>;

/// Visits every entry as it will be after the checkpoint, in order of tree and key.
fn visit_all(engine: &dyn Engine, pending: &Pending, visit: VisitAll<'_>) -> Result<(), EngineError> {
    Tree::ALL.iter().try_for_each(|tree| visit_tree(engine, pending, *tree, visit))
}

/// Merges one tree of the engine with the changes over it.
fn visit_tree(
    engine: &dyn Engine,
    pending: &Pending,
    tree: Tree,
    visit: VisitAll<'_>,
) -> Result<(), EngineError> {
    let mut changes = pending.from(tree, &[]).peekable();
    let mut outcome = Ok(());
    engine.scan(tree, &[], &mut |key, value| {
        let mut step = || -> Result<(), EngineError> {
            while let Some((changed, new)) = changes.next_if(|(changed, _)| *changed < key) {
                new.map_or(Ok(()), |new| visit(tree, changed, new))?;
            }
            match changes.next_if(|(changed, _)| *changed == key) {
                Some((_, new)) => new.map_or(Ok(()), |new| visit(tree, key, new)),
                None => visit(tree, key, value),
            }
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
pub(crate) fn write_snapshot(medium: &mut dyn Medium, mark: &Mark, all: Visitor<'_>) -> io::Result<u64> {
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
pub(crate) fn start_journal(medium: &mut dyn Medium, generation: u64, base: Mark) -> io::Result<Header> {
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
