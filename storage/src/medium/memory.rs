//! A store in memory that can crash, fill up and fail at a chosen step: for simulations and tests.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{Fill, Medium, Part, WriteError};
use crate::engine::memory::{MemoryEngine, State as EngineState};
use crate::engine::{Engine, EngineError};

/// A disk in memory. Clones are the same disk; it outlives the stores opened on it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<DiskState>>);

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these files and an empty database, as it might be found after an accident.
    pub fn with_files(journal: Option<Vec<u8>>, snapshot: Option<Vec<u8>>) -> Self {
        let disk = Self::default();
        disk.with(|state| (state.journal, state.snapshot) = (journal, snapshot));
        disk
    }

    /// The journal and the snapshot as they are now.
    pub fn files(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        self.with(|state| (state.journal.clone(), state.snapshot.clone()))
    }

    /// Cuts the power: what was not flushed is lost, and a store still open on this disk fails until
    /// [`MemoryDisk::restart`].
    pub fn crash(&self) {
        self.with(|state| {
            state.down = true;
            let keep = state.keep_unflushed;
            state.engines.values_mut().for_each(|engine| engine.crash(keep));
        });
    }

    /// Ends a crash, a shortage and every planned fault.
    pub fn restart(&self) {
        self.with(|state| {
            state.down = false;
            state.fault_in = None;
            state.full_in = None;
            state.full = false;
        });
    }

    /// While `true` every write fails as on a full disk.
    pub fn set_full(&self, full: bool) {
        self.with(|state| state.full = full);
    }

    /// Plans a crash at the `steps`-th write from now (0 is the next one): an append or a replacement
    /// leaves a part behind, and of the engine's unflushed changes the first `keep` survive.
    pub fn crash_at(&self, steps: u64, keep: usize) {
        self.with(|state| {
            state.fault_in = Some(steps);
            state.keep_unflushed = keep;
        });
    }

    /// Plans a disk that is full from the `steps`-th write on, until [`MemoryDisk::restart`].
    pub fn fill_at(&self, steps: u64) {
        self.with(|state| state.full_in = Some(steps));
    }

    /// While `true`, files cannot be replaced: checkpoints fail, appends succeed.
    pub fn refuse_replacing(&self, refuse: bool) {
        self.with(|state| state.refuse_replacing = refuse);
    }

    /// Lets the next append, or the next new journal, fail in its fsync: what the journal holds is unknown then.
    pub fn fail_next_fsync(&self) {
        self.with(|state| state.fail_fsync = true);
    }

    /// Whether the disk has crashed and not been restarted.
    pub fn is_down(&self) -> bool {
        self.with(|state| state.down)
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut DiskState) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is on the disk, and what is about to go wrong.
#[derive(Default)]
pub(crate) struct DiskState {
    journal: Option<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    pub(crate) engines: BTreeMap<u64, EngineState>,
    asides: u64,
    aside_begun: bool,
    fsyncs: u64,
    down: bool,
    full: bool,
    fault_in: Option<u64>,
    full_in: Option<u64>,
    refuse_replacing: bool,
    fail_fsync: bool,
    keep_unflushed: usize,
}

/// What the next write meets.
pub(crate) enum Fault {
    None,
    /// The disk is full or down; nothing is written.
    Refuse(io::Error),
    /// The power fails during this write.
    Crash(io::Error),
}

impl DiskState {
    /// Counts a write and says what it meets.
    pub(crate) fn step(&mut self) -> Fault {
        if self.down {
            return Fault::Refuse(io::Error::other("the memory disk has crashed"));
        }
        match self.full_in {
            Some(0) => self.full = true,
            Some(steps) => self.full_in = Some(steps - 1),
            None => {}
        }
        if self.full {
            return Fault::Refuse(io::Error::from(io::ErrorKind::StorageFull));
        }
        match self.fault_in {
            Some(0) => {
                self.down = true;
                let keep = self.keep_unflushed;
                self.engines.values_mut().for_each(|engine| engine.crash(keep));
                Fault::Crash(io::Error::other("the memory disk crashed"))
            }
            Some(steps) => {
                self.fault_in = Some(steps - 1);
                Fault::None
            }
            None => Fault::None,
        }
    }

    fn file(&mut self, part: Part) -> &mut Option<Vec<u8>> {
        match part {
            Part::Journal => &mut self.journal,
            Part::Snapshot => &mut self.snapshot,
        }
    }
}

/// An open memory disk.
pub(crate) struct Memory(pub(crate) MemoryDisk);

impl Medium for Memory {
    fn read(&self, part: Part) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.with(|state| state.file(part).clone()))
    }

    fn replace(&self, part: Part, fill: Fill<'_>) -> Result<(), WriteError> {
        let mut bytes = Vec::new();
        fill(&mut bytes).map_err(WriteError::Refused)?;
        self.0.with(|state| match state.step() {
            Fault::None if state.refuse_replacing => {
                Err(WriteError::Refused(io::Error::from(io::ErrorKind::StorageFull)))
            }
            Fault::None => {
                state.fsyncs += 2;
                *state.file(part) = Some(bytes);
                match part == Part::Journal && std::mem::take(&mut state.fail_fsync) {
                    true => Err(WriteError::Unsure(io::Error::other("fsync failed"))),
                    false => Ok(()),
                }
            }
            Fault::Refuse(error) | Fault::Crash(error) => Err(WriteError::Refused(error)),
        })
    }

    fn cut_journal(&self, len: u64) -> io::Result<()> {
        self.0.with(|state| match state.step() {
            Fault::None => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                state.journal.get_or_insert_default().truncate(len);
                Ok(())
            }
            Fault::Refuse(error) | Fault::Crash(error) => Err(error),
        })
    }

    fn append(&self, at: u64, frame: &[u8]) -> Result<(), WriteError> {
        self.0.with(|state| {
            let fault = state.step();
            let journal = state.journal.get_or_insert_default();
            journal.truncate(usize::try_from(at).unwrap_or(usize::MAX));
            match fault {
                Fault::None => {
                    state.fsyncs += 1;
                    if std::mem::take(&mut state.fail_fsync) {
                        journal.extend_from_slice(&frame[..frame.len() / 2]);
                        return Err(WriteError::Unsure(io::Error::other("fsync failed")));
                    }
                    journal.extend_from_slice(frame);
                    Ok(())
                }
                Fault::Refuse(error) => Err(WriteError::Refused(error)),
                Fault::Crash(error) => {
                    journal.extend_from_slice(&frame[..frame.len() / 2]);
                    Err(WriteError::Unsure(error))
                }
            }
        })
    }

    fn engine(&self, generation: u64) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(MemoryEngine::open(self.0.clone(), generation)))
    }

    fn generations(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.with(|state| state.engines.keys().copied().collect()))
    }

    fn remove_engine(&self, generation: u64) -> io::Result<()> {
        self.0.with(|state| state.engines.remove(&generation));
        Ok(())
    }

    fn begin_aside(&self, _report: &str) -> io::Result<()> {
        self.0.with(|state| state.aside_begun = true);
        Ok(())
    }

    fn aside_begun(&self) -> bool {
        self.0.with(|state| state.aside_begun)
    }

    fn finish_aside(&self, generations: &[u64]) -> io::Result<(PathBuf, Vec<PathBuf>)> {
        let number = self.0.with(|state| {
            state.engines.retain(|generation, _| !generations.contains(generation));
            state.aside_begun = false;
            state.asides += 1;
            state.asides
        });
        Ok((PathBuf::from(format!("memory/damaged-{number}")), Vec::new()))
    }

    fn free(&self) -> Option<u64> {
        None
    }

    fn modified(&self, _part: Part) -> Option<SystemTime> {
        None
    }

    fn path(&self, part: Part) -> PathBuf {
        PathBuf::from(match part {
            Part::Journal => "memory/journal",
            Part::Snapshot => "memory/snapshot",
        })
    }

    fn engine_path(&self, generation: u64) -> PathBuf {
        PathBuf::from(format!("memory/db-{generation}"))
    }

    fn fsyncs(&self) -> u64 {
        self.0.with(|state| state.fsyncs)
    }
}
