//! The database on disk: sled 0.34.7, set for a small machine. The only file that names sled.
//!
//! Three traps are closed here (TECH.md §3). sled's `flush` is not durable, so the file is fsynced
//! after it. sled panics on some damage, so every call runs under `catch_unwind`. Large values make it
//! write large pages, so a value is cut into parts below 3 KiB, which live in a tree of their own.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Engine, EngineError, LeaveOut, Op, Visit};
use crate::Tree;
use crate::digest::Mark;
use crate::format::{Reader, put_bytes};

/// Longest part of a value, in bytes.
const PART: usize = 3000;
/// First byte of a stored value: the rest is the value.
const WHOLE: u8 = 0;
/// First byte of a stored value: the rest is the length in bytes (u32); the parts are elsewhere.
const PARTS: u8 = 1;
const PARTS_TREE: &str = "parts";
const MARK_TREE: &str = "mark";
const MARK_KEY: &[u8] = b"mark";
/// A database that was just dropped gives its lock back from another thread: tries, 10 ms apart.
const LOCK_TRIES: u32 = 200;

/// An open sled database.
pub(crate) struct SledEngine {
    dir: PathBuf,
    db: sled::Db,
    trees: BTreeMap<Tree, sled::Tree>,
    parts: sled::Tree,
    marks: sled::Tree,
    /// The directory entries are durable.
    settled: AtomicBool,
}

impl SledEngine {
    /// Opens or creates the database in `dir`, with about `cache` bytes of page cache.
    pub(crate) fn open(dir: &Path, cache: u64) -> Result<Self, EngineError> {
        if !dir.exists() {
            fs::DirBuilder::new().mode(0o700).create(dir)?;
        }
        let engine = guard(|| {
            let db = open_db(dir, cache)?;
            let mut trees = BTreeMap::new();
            for tree in Tree::ALL {
                trees.insert(*tree, db.open_tree(tree.name())?);
            }
            let (parts, marks) = (db.open_tree(PARTS_TREE)?, db.open_tree(MARK_TREE)?);
            Ok(Self { dir: dir.to_owned(), db, trees, parts, marks, settled: AtomicBool::new(false) })
        })?;
        make_private(dir)?;
        Ok(engine)
    }

    fn tree(&self, tree: Tree) -> Result<&sled::Tree, EngineError> {
        self.trees.get(&tree).ok_or_else(|| EngineError::Damaged(format!("no tree {}", tree.name())))
    }

    /// Removes the parts of `key`, if its present value has parts.
    fn drop_parts(&self, tree: Tree, key: &[u8], entries: &sled::Tree) -> Result<(), sled::Error> {
        if entries.get(key)?.is_some_and(|stored| stored.first() == Some(&PARTS)) {
            for part in self.parts.scan_prefix(part_prefix(tree, key)).keys() {
                self.parts.remove(part?)?;
            }
        }
        Ok(())
    }

    /// Writes a value, whole or in parts.
    fn put(&self, tree: Tree, key: &[u8], value: &[u8], entries: &sled::Tree) -> Result<(), sled::Error> {
        let mut stored = Vec::with_capacity(1 + value.len().min(PART));
        if value.len() <= PART {
            stored.push(WHOLE);
            stored.extend_from_slice(value);
        } else {
            stored.push(PARTS);
            stored.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            for (index, part) in (0u32..).zip(value.chunks(PART)) {
                let mut part_key = part_prefix(tree, key);
                part_key.extend_from_slice(&index.to_be_bytes());
                self.parts.insert(part_key, part)?;
            }
        }
        entries.insert(key, stored).map(drop)
    }

    /// The value behind what is stored.
    fn unpack(&self, tree: Tree, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, EngineError> {
        let damaged = || EngineError::Damaged(format!("a value of tree {} is incomplete", tree.name()));
        match stored.split_first() {
            Some((&WHOLE, value)) => Ok(value.to_vec()),
            Some((&PARTS, rest)) => {
                let len = Reader::new(rest).u32().map_err(|_| damaged())?;
                let mut value = Vec::new();
                for part in self.parts.scan_prefix(part_prefix(tree, key)) {
                    value.extend_from_slice(&part?.1);
                }
                if value.len() as u64 == u64::from(len) { Ok(value) } else { Err(damaged()) }
            }
            Some(_) | None => Err(damaged()),
        }
    }
}

impl Engine for SledEngine {
    // Not by sled's batches: while it applies one, nobody reads anything, of any database of the process.
    fn apply(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        for (tree, key, value) in ops {
            let entries = self.tree(*tree)?;
            guard(|| {
                self.drop_parts(*tree, key, entries)?;
                match value {
                    Some(value) => self.put(*tree, key, value, entries),
                    None => entries.remove(key).map(drop),
                }
            })?;
        }
        Ok(())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let entries = self.tree(tree)?;
        catch(|| match entries.get(key)? {
            Some(stored) => self.unpack(tree, key, &stored).map(Some),
            None => Ok(None),
        })
    }

    fn scan(
        &self,
        tree: Tree,
        start: &[u8],
        leave_out: LeaveOut<'_>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let entries = self.tree(tree)?;
        catch(|| {
            for entry in entries.range(start..) {
                let (key, stored) = entry?;
                if leave_out(&key) {
                    continue;
                }
                if visit(&key, &self.unpack(tree, &key, &stored)?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn set_mark(&self, mark: &Mark) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        mark.encode(&mut bytes);
        guard(|| self.marks.insert(MARK_KEY, bytes).map(drop))
    }

    fn mark(&self) -> Result<Option<Mark>, EngineError> {
        let Some(bytes) = guard(|| self.marks.get(MARK_KEY))? else { return Ok(None) };
        Mark::decode(&mut Reader::new(&bytes))
            .map(Some)
            .map_err(|_| EngineError::Damaged("its mark is unreadable".to_owned()))
    }

    fn flush(&self) -> Result<(), EngineError> {
        guard(|| self.db.flush().map(drop))?;
        sync_files(&self.dir.join("blobs"))?;
        if self.settled.load(Ordering::Relaxed) {
            File::open(self.dir.join("db"))?.sync_all()?;
        } else {
            sync_files(&self.dir)?;
            make_private(&self.dir)?;
            self.settled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        disk_usage(&self.dir)
    }
}

/// Opens sled itself, waiting for the lock of a database that was dropped a moment ago.
fn open_db(dir: &Path, cache: u64) -> Result<sled::Db, sled::Error> {
    let config =
        sled::Config::new().path(dir).cache_capacity(cache).flush_every_ms(None).mode(sled::Mode::LowSpace);
    let mut tries = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// Parts of one value stand together: tree ‖ length of the key ‖ key.
fn part_prefix(tree: Tree, key: &[u8]) -> Vec<u8> {
    let mut prefix = vec![tree.id()];
    put_bytes(&mut prefix, key);
    prefix
}

/// Runs a call into sled; a panic in it is damage.
fn guard<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, EngineError> {
    catch(|| call().map_err(EngineError::from))
}

fn catch<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(EngineError::Damaged("sled panicked while reading it".to_owned())))
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if is_of_the_system(&error) => Self::System(error),
            sled::Error::Io(_)
            | sled::Error::Corruption { .. }
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::CollectionNotFound(_) => Self::Damaged(error.to_string()),
        }
    }
}

/// Whether an error comes from the system and not from what the file holds. Everything else counts as
/// damage: a rebuild keeps the old directory, so a wrong guess costs no data.
fn is_of_the_system(error: &io::Error) -> bool {
    use io::ErrorKind::{
        Interrupted, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, ResourceBusy, StorageFull,
        WouldBlock,
    };
    use rustix::io::Errno;
    let kinds = [
        Interrupted,
        PermissionDenied,
        QuotaExceeded,
        ReadOnlyFilesystem,
        ResourceBusy,
        StorageFull,
        WouldBlock,
    ];
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    kinds.contains(&error.kind())
        || error.raw_os_error().is_some_and(|code| codes.contains(&code))
        || is_locked(error)
}

/// sled reports a lock held by somebody else only in words.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Fsyncs the files of a directory and the directory itself; none is fine.
fn sync_files(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Takes away what others may read: sled creates its files with the umask alone.
fn make_private(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        match fs::set_permissions(entry.path(), Permissions::from_mode(mode)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Bytes of the files below a directory, as far as they can be asked for.
fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::engine::nothing;

    #[test]
    fn a_value_that_is_left_out_is_not_put_together() {
        let home = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(&home.path().join("db"), 1 << 20).unwrap();
        let long = vec![7; 2 * PART];
        engine.apply(&[(Tree::Inbox, b"1", Some(&long)), (Tree::Inbox, b"2", Some(b"whole"))]).unwrap();
        // As it is in the middle of a change.
        engine.parts.clear().unwrap();
        let scan = |leave_out: LeaveOut<'_>| {
            let mut keys = Vec::new();
            let end = engine.scan(Tree::Inbox, &[], leave_out, &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            });
            end.map(|()| keys)
        };
        assert!(matches!(scan(&nothing), Err(EngineError::Damaged(_))));
        assert_eq!(scan(&|key| key == b"1").unwrap(), [b"2".to_vec()]);
    }
}
