//! The store: group commit, reads through the overlay, figures. Owned by one thread; synchronous.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::new_marker;
use crate::digest::{Digest, Mark, entry};
use crate::engine::Engine;
use crate::error::{CheckpointError, CommitError, OpenError, ReadError};
use crate::journal::{Header, Marker, encode_checkpoint, encode_commit};
use crate::lock::Lock;
use crate::medium::disk::{Disk, create_dir};
use crate::medium::memory::{Memory, MemoryDisk};
use crate::medium::{Medium, Part, WriteError};
use crate::pending::Pending;
use crate::report::{Opened, Options, Stats};
use crate::write::Entry;
use crate::{Contents, Tree, WriteSet, open};
use crosstalk_overlay::mutant::{Mutant, is_on};

/// Longest key, in bytes: a user and the longest address (RFC 7622: 3 × 1,023 and 2 more) have room.
pub const MAX_KEY: usize = 4096;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// Largest group of sets committed together, in bytes of their frame: what its length field can say.
const MAX_COMMIT: usize = u32::MAX as usize;

/// While checkpoints fail, commits go on until the journal has this many times its limit.
const BACKLOG: u64 = 16;
/// A checkpoint should not wait for a better moment when the journal has this many times its limit.
const PRESSING: u64 = 3;
/// A commit itself tries a checkpoint when the journal has this many times its limit.
const OVERDUE: u64 = 4;

/// Where a store lives, to open it again.
#[derive(Clone)]
pub(crate) enum Home {
    Dir(PathBuf),
    Memory(MemoryDisk),
}

/// The open store.
pub struct Store {
    pub(crate) home: Home,
    pub(crate) options: Options,
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) generation: u64,
    /// What the frames of the journal begin with.
    pub(crate) marker: Marker,
    pub(crate) pending: Pending,
    /// The newest frame of the journal, or its base.
    pub(crate) sequence: u64,
    /// The frame that the journal starts behind.
    pub(crate) base: u64,
    /// Where the journal ends.
    pub(crate) journal_len: u64,
    /// What the snapshot holds, by digest; `None` if it has to be written anew.
    pub(crate) snapshot: Option<Digest>,
    pub(crate) snapshot_len: u64,
    /// The journal's end is unknown: it must be written anew before the next append.
    pub(crate) unsure: bool,
    /// The engine refused a write: sled refuses all others from then on, until it is opened again.
    pub(crate) reopen: bool,
    /// Why the engine cannot be used any more until the next start.
    pub(crate) engine_failed: Option<String>,
    /// The journal length from which a commit tries a checkpoint itself.
    pub(crate) force_at: u64,
    pub(crate) last_failure: String,
    pub(crate) commits: u64,
    pub(crate) checkpoints: u64,
    pub(crate) compactions: u64,
}

impl Store {
    /// Opens the store in `dir`, creating it if there is none, repairing it if it is damaged.
    ///
    /// Answers with everything it holds and with what happened. It reads all of the database once.
    ///
    /// # Errors
    ///
    /// Each variant of [`OpenError`]. Damage is no error but [`Opened::Rebuilt`].
    pub fn open(dir: &Path, options: Options) -> Result<(Store, Contents, Opened), OpenError> {
        create_dir(dir).map_err(|error| OpenError::io(dir, "create the directory", error))?;
        let lock = Lock::take(dir)?;
        let disk = Disk::new(dir, options.cache_bytes, lock);
        open::open(Home::Dir(dir.to_owned()), Arc::new(disk), options)
    }

    /// Opens a store on a disk in memory: the same code above another engine and medium.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]; on a disk without planned faults none occurs.
    pub fn open_memory(disk: &MemoryDisk, options: Options) -> Result<(Store, Contents, Opened), OpenError> {
        open::open(Home::Memory(disk.clone()), Arc::new(Memory(disk.clone())), options)
    }

    /// A new store in memory with the default options.
    ///
    /// # Errors
    ///
    /// None in practice: a new memory disk refuses nothing.
    pub fn memory() -> Result<Store, OpenError> {
        Ok(Self::open_memory(&MemoryDisk::new(), Options::default())?.0)
    }

    /// Ends as a crash would, without a checkpoint, and opens the store again.
    ///
    /// In memory everything that was not flushed is lost; on disk this is the end of a process.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn crash(self) -> Result<(Store, Contents, Opened), OpenError> {
        let (home, options) = (self.home.clone(), self.options.clone());
        drop(self);
        match home {
            Home::Dir(dir) => Self::open(&dir, options),
            Home::Memory(disk) => {
                disk.crash();
                disk.restart();
                Self::open_memory(&disk, options)
            }
        }
    }

    /// Commits `sets` together, in order: one append, one fsync. On `Ok` all of them are durable.
    ///
    /// It blocks for the disk. A journal that is long overdue is checkpointed on the way.
    ///
    /// # Errors
    ///
    /// Each variant of [`CommitError`]. No set was kept then (but see [`CommitError::Io`]) and the store
    /// stays usable.
    pub fn commit(&mut self, sets: &[WriteSet]) -> Result<(), CommitError> {
        if sets.iter().all(WriteSet::is_empty) {
            return Ok(());
        }
        check_sizes(sets)?;
        self.check_backlog()?;
        if self.unsure {
            self.renew_journal()
                .map_err(|source| CommitError::io(self.medium.path(Part::Journal), source))?;
        }
        let frame = encode_commit(self.marker, self.sequence + 1, sets);
        if is_on(Mutant::CommitInMemory) {
            return Ok(());
        }
        self.append(&frame).map_err(|source| CommitError::io(self.medium.path(Part::Journal), source))?;
        self.commits += 1;
        for (tree, key, value) in sets.iter().flat_map(WriteSet::iter) {
            self.set_pending(tree, key, value);
        }
        Ok(())
    }

    /// Whether the journal is long enough for a checkpoint.
    pub fn is_checkpoint_due(&self) -> bool {
        self.journal_len > self.journal_limit()
    }

    /// Whether the journal is so long that a checkpoint should begin, however much there is to commit.
    pub fn is_checkpoint_pressing(&self) -> bool {
        self.journal_len > PRESSING * self.journal_limit()
    }

    /// Whether the journal is so long that a commit would do a checkpoint on the way.
    pub fn is_checkpoint_overdue(&self) -> bool {
        self.journal_len > OVERDUE * self.journal_limit()
    }

    /// Does a checkpoint if the journal is long enough; call it when there is nothing else to do.
    /// Answers whether it did one.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`].
    pub fn maintain(&mut self) -> Result<bool, CheckpointError> {
        if !self.is_checkpoint_due() {
            return Ok(false);
        }
        self.checkpoint().map(|()| true)
    }

    /// Closes the store in order, with a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`]; nothing is lost then, the next opening replays the journal.
    pub fn close(mut self) -> Result<(), CheckpointError> {
        self.checkpoint()
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the database turns out to be damaged.
    pub fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.pending.get(tree, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.engine.get(tree, key).map_err(|error| ReadError::new(tree, &error)),
        }
    }

    /// The first `limit` entries of a tree whose keys start with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the database turns out to be damaged.
    pub fn scan(&self, tree: Tree, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, ReadError> {
        self.scan_from(tree, prefix, prefix, limit)
    }

    /// The same, beginning at a key: whatever is before `start` is left out.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the database turns out to be damaged.
    pub fn scan_from(
        &self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        self.engine
            .scan(tree, start, &|key| self.pending.get(tree, key).is_some(), &mut |key, value| {
                if !key.starts_with(prefix) {
                    return ControlFlow::Break(());
                }
                found.insert(key.to_vec(), value.to_vec());
                if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| ReadError::new(tree, &error))?;
        let changed = self.pending.from(tree, start).take_while(|(key, _)| key.starts_with(prefix));
        let put = changed.filter_map(|(key, value)| Some((key, value?))).take(limit);
        found.extend(put.map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok(found.into_iter().take(limit).collect())
    }

    /// The number of entries of a tree.
    pub fn count(&self, tree: Tree) -> u64 {
        self.pending.digest().tree(tree).count
    }

    /// Figures for the operator.
    pub fn stats(&self) -> Stats {
        let digest = self.pending.digest();
        Stats {
            entries: Tree::ALL.iter().map(|tree| (*tree, digest.tree(*tree).count)).collect(),
            live_bytes: digest.bytes(),
            journal_bytes: self.journal_len,
            engine_bytes: self.engine.size(),
            commits: self.commits,
            fsyncs: self.medium.fsyncs(),
            checkpoints: self.checkpoints,
            compactions: self.compactions,
            snapshot_written: self.medium.modified(Part::Snapshot),
        }
    }

    /// The length of the journal from which a checkpoint is due.
    fn journal_limit(&self) -> u64 {
        let limit = self.options.journal_limit;
        (self.snapshot_len / 2).clamp(limit, limit.saturating_mul(4))
    }

    pub(crate) fn set_pending(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) {
        let (engine, failed) = (&self.engine, &mut self.engine_failed);
        self.pending.set(tree, key, value, || match engine.get(tree, key) {
            Ok(held) => held.map(|held| entry(key, &held)),
            Err(error) => {
                tracing::error!(tree = tree.name(), %error, "the database cannot be read; restart to repair it");
                failed.get_or_insert_with(|| error.to_string());
                None
            }
        });
    }

    /// Appends the frame of number `sequence + 1`.
    pub(crate) fn append(&mut self, frame: &[u8]) -> Result<(), std::io::Error> {
        match self.medium.append(self.journal_len, frame) {
            Ok(()) => {
                self.journal_len += frame.len() as u64;
                self.sequence += 1;
                Ok(())
            }
            Err(error) => Err(self.noted(error)),
        }
    }

    /// Notes whether the journal can be trusted after an error.
    fn noted(&mut self, error: WriteError) -> std::io::Error {
        self.unsure |= matches!(error, WriteError::Unsure(_));
        error.into()
    }

    /// Keeps the journal bounded when nobody calls `maintain`, or when checkpoints fail.
    fn check_backlog(&mut self) -> Result<(), CommitError> {
        let limit = self.journal_limit();
        let is_over = |store: &Self| store.journal_len > BACKLOG * limit;
        let is_overdue = self.is_checkpoint_overdue() && self.journal_len > self.force_at || is_over(self);
        if is_overdue && !self.is_checkpoint_under_way() {
            match self.checkpoint() {
                Ok(()) => self.force_at = 0,
                Err(error) => {
                    tracing::warn!(%error, "checkpoint failed; commits go on in the journal");
                    self.last_failure = error.to_string();
                    self.force_at = self.journal_len.saturating_add(limit);
                }
            }
        }
        if is_over(self) {
            let path = self.medium.path(Part::Journal);
            let reason = self.last_failure.clone();
            return Err(CommitError::Backlog { path, size: self.journal_len, reason });
        }
        Ok(())
    }

    /// Writes a new journal from memory: the state of the engine is as before, all changes since are in
    /// one frame. For a journal whose end is unknown after a failed write or fsync.
    pub(crate) fn renew_journal(&mut self) -> std::io::Result<()> {
        let all: WriteSet = self.pending.iter().collect();
        let digest = self.pending.digest().clone();
        let base = Mark { sequence: self.sequence, digest: digest.clone() };
        self.replace_journal(self.generation, base, &all, Some(&digest))
    }

    /// Replaces the journal by one that starts from `base` and has `changes` in one frame, if there are any;
    /// behind them `digest` of all, if it is given, proves the whole.
    pub(crate) fn replace_journal(
        &mut self,
        generation: u64,
        base: Mark,
        changes: &WriteSet,
        digest: Option<&Digest>,
    ) -> std::io::Result<()> {
        let (marker, mut sequence) = (new_marker()?, base.sequence);
        let mut bytes = Header { marker, generation, base }.encode();
        if !changes.is_empty() {
            sequence += 1;
            bytes.extend(encode_commit(marker, sequence, std::slice::from_ref(changes)));
        }
        if let Some(digest) = digest {
            sequence += 1;
            bytes.extend(encode_checkpoint(marker, &Mark { sequence, digest: digest.clone() }));
        }
        self.medium
            .replace(Part::Journal, &mut |out| out.write_all(&bytes))
            .map_err(|error| self.noted(error))?;
        self.marker = marker;
        self.sequence = sequence;
        self.journal_len = bytes.len() as u64;
        self.unsure = false;
        Ok(())
    }
}

/// Refuses keys, values and groups that are too large.
fn check_sizes(sets: &[WriteSet]) -> Result<(), CommitError> {
    let mut total = 1usize;
    for (tree, key, value) in sets.iter().flat_map(WriteSet::iter) {
        let value = value.map_or(0, <[u8]>::len);
        total = total.saturating_add(10).saturating_add(key.len()).saturating_add(value);
        let checks =
            [("a key", key.len(), MAX_KEY), ("a value", value, MAX_VALUE), ("a commit", total, MAX_COMMIT)];
        for (what, size, limit) in checks {
            if size > limit {
                return Err(CommitError::TooLarge { what, tree, size, limit });
            }
        }
    }
    Ok(())
}
