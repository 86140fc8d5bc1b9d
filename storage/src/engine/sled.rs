//! The database on disk: sled 0.34.7, set for a small machine. The only file that names sled.
//!
//! Three traps are closed here (TECH.md §3). sled's `flush` is not durable, so the file is fsynced
//! after it. sled panics on some damage, so every call runs under `catch_unwind`. Large values make it
//! write large pages, so a value is cut into parts below 3 KiB, which live in a tree of their own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sled::Transactional as _;
use sled::transaction::TransactionError;

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

    /// Writes or removes an entry that has parts, had some, or both: all of it at once, also across a crash.
    fn change_parts(
        &self,
        tree: Tree,
        key: &[u8],
        value: Option<&[u8]>,
        entries: &sled::Tree,
    ) -> Result<(), sled::Error> {
        let old: Vec<_> = self.parts.scan_prefix(part_prefix(tree, key)).keys().collect::<Result<_, _>>()?;
        let changed = (&self.parts, entries).transaction(|(parts, entries)| {
            for part in &old {
                parts.remove(part)?;
            }
            let Some(value) = value else {
                entries.remove(key)?;
                return Ok(());
            };
            if value.len() > PART {
                for (index, part) in (0u32..).zip(value.chunks(PART)) {
                    parts.insert(part_key(tree, key, index), part)?;
                }
            }
            entries.insert(key, pack(value))?;
            Ok(())
        });
        changed.map_err(|error: TransactionError<Infallible>| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(never) => match never {},
        })
    }

    /// The value behind what is stored.
    fn unpack(&self, tree: Tree, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, EngineError> {
        let damaged = || EngineError::Damaged(format!("a value of tree {} is incomplete", tree.name()));
        match stored.split_first() {
            Some((&WHOLE, value)) => Ok(value.to_vec()),
            Some((&PARTS, rest)) => {
                let len = Reader::new(rest).u32().map_err(|_| damaged())? as usize;
                let mut value = Vec::new();
                for index in (0u32..).take(len.div_ceil(PART)) {
                    let part = self.parts.get(part_key(tree, key, index))?;
                    value.extend_from_slice(&part.ok_or_else(damaged)?);
                }
                if value.len() == len { Ok(value) } else { Err(damaged()) }
            }
            Some(_) | None => Err(damaged()),
        }
    }
}

impl Engine for SledEngine {
    // Singly where one will do: while sled applies several at once, nobody reads anything, of any database of the process.
    fn apply(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        for (tree, key, value) in ops {
            let entries = self.tree(*tree)?;
            guard(|| {
                let had_parts = entries.get(key)?.is_some_and(|stored| stored.first() == Some(&PARTS));
                match value {
                    Some(value) if !had_parts && value.len() <= PART => {
                        entries.insert(key, pack(value)).map(drop)
                    }
                    None if !had_parts => entries.remove(key).map(drop),
                    Some(_) | None => self.change_parts(*tree, key, *value, entries),
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

fn part_key(tree: Tree, key: &[u8], index: u32) -> Vec<u8> {
    let mut part = part_prefix(tree, key);
    part.extend_from_slice(&index.to_be_bytes());
    part
}

/// What is stored of a value where its key is: all of it, or the length of its parts.
fn pack(value: &[u8]) -> Vec<u8> {
    if value.len() <= PART {
        return [&[WHOLE], value].concat();
    }
    let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    [&[PARTS][..], &len.to_le_bytes()].concat()
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

    #[test]
    fn parts_of_a_former_value_are_in_nobodys_way() {
        let home = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(&home.path().join("db"), 1 << 20).unwrap();
        let held = || engine.get(Tree::VCard, b"1").unwrap();
        // As a crash of a former version left it: parts without an entry.
        for index in 0..3 {
            engine.parts.insert(part_key(Tree::VCard, b"1", index), &[1_u8; PART][..]).unwrap();
        }
        let lengths = [2 * PART + 1, PART + 1, 3 * PART, 1, PART, PART + 1];
        for (fill, len) in (2u8..).zip(lengths) {
            let value = vec![fill; len];
            engine.apply(&[(Tree::VCard, b"1", Some(&value))]).unwrap();
            assert_eq!(
                (held(), engine.parts.len()),
                (Some(value), if len > PART { len.div_ceil(PART) } else { 0 })
            );
        }
        engine.parts.insert(part_key(Tree::VCard, b"1", 2), &[1_u8; PART][..]).unwrap();
        assert_eq!(held().map(|value| value.len()), Some(PART + 1), "what is behind it is not read");
        engine.apply(&[(Tree::VCard, b"1", None)]).unwrap();
        assert_eq!((held(), engine.parts.len()), (None, 0));
    }

    /// Whatever the log was written up to when the power went, a large value is the former or the new one.
    #[test]
    fn a_large_value_is_changed_at_once_across_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let (dir, copy) = (home.path().join("db"), home.path().join("copy"));
        let engine = SledEngine::open(&dir, 1 << 20).unwrap();
        let value = |turn: u8| vec![turn; (300 << 10) * usize::from(turn % 3 + 1)];
        for turn in 0..12 {
            engine.apply(&[(Tree::VCard, b"1", Some(&value(turn)))]).unwrap();
            if turn == 5 {
                engine.apply(&[(Tree::VCard, b"1", None)]).unwrap();
            }
            // Not flushed: what is in the files is what sled has written of its log so far.
            let _ = fs::remove_dir_all(&copy);
            copy_dir(&dir, &copy);
            let crashed = SledEngine::open(&copy, 1 << 20).unwrap();
            let held = crashed.get(Tree::VCard, b"1").unwrap();
            assert!(held.is_none() || (0..=turn).any(|turn| held == Some(value(turn))), "turn {turn}");
        }
    }

    fn copy_dir(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_dir(&entry.path(), &to);
            } else if let Err(error) = fs::copy(entry.path(), to) {
                assert_eq!(error.kind(), io::ErrorKind::NotFound, "sled replaces its snapshots");
            }
        }
    }
}
