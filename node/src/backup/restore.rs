//! Puts the back-up of a node into an empty data directory.
//!
//! The file is read to its end before anything is written. The store is marked until all of it is there, so what was cut off
//! is no node, and is begun again.
//!
//! What came after the back-up is not in it, but others remember it: so every account begins a new epoch of its envelopes
//! (`overlay/PROTOCOL.md` §4), letters for outside get numbers that were never used, and sessions of clients cannot be resumed.
//! Else new messages would be taken for repeats of those that were sent since.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crosstalk_storage::tree::account::Account;
use crosstalk_storage::tree::session::StoredSession;
use crosstalk_storage::tree::upstream::{OutsideState, State};
use crosstalk_storage::{
    CheckpointError, CodecError, CommitError, FORMAT_VERSION, OpenError, Options, ReadError, Store, Tree,
    WriteSet, decode, encode,
};
use sha2::{Digest, Sha256};

use super::{FILE, FILES, is_taken_along};
use crate::accounts::key_dir::{KEYS, write_synced};
use crate::accounts::random;
use crate::archive::{self, ArchiveError, Contents, Kind, damaged};
use crate::authority::database::DATABASE;
use crate::event_loop::clock::wall_millis;
use crate::run::STORE;

/// Where stands, in [`Tree::Meta`], that the store is not whole yet.
pub const RESTORING: &[u8] = b"restoring";
/// Bytes that are written together.
const BATCH: usize = 1 << 20;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A newer program has made it.
    #[error(
        "{path} holds a store of format {found}, this program knows up to {FORMAT_VERSION}: use the newer program, nothing was \
         restored", path = path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format of its store.
        found: u32,
    },
    /// There is a node already.
    #[error(
        "there is a node in {path} already, nothing was restored: name an empty directory with --data DIR", path = .0.display()
    )]
    NotEmpty(PathBuf),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something in the file is not understood.
    #[error("something in the back-up is not understood ({0}): nothing was restored")]
    Codec(#[from] CodecError),
    /// What was written cannot be read.
    #[error("nothing was restored: {0}")]
    Read(#[from] ReadError),
    /// Nothing can be written.
    #[error("nothing was restored: {0}")]
    Commit(#[from] CommitError),
    /// The store does not close.
    #[error("nothing was restored: {0}")]
    Close(#[from] CheckpointError),
    /// A file beside the store.
    #[error("nothing was restored, cannot write {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] random::NoRandomness),
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How much.
    pub contents: Contents,
    /// The accounts, by their login names.
    pub accounts: Vec<String>,
}

/// Makes the node of a file in a data directory without one.
///
/// # Errors
/// When there is one, the file is not whole, or it cannot be written; the directory is as it was then.
pub fn restore(path: &Path, data: &Path) -> Result<Restored, RestoreError> {
    let (_, found) = archive::read::<RestoreError>(path, Kind::Node, &mut |number, key, _| {
        let unknown = number == FILE && !std::str::from_utf8(&key).is_ok_and(is_taken_along);
        if unknown { Err(damaged(path, "a file in it belongs nowhere").into()) } else { Ok(()) }
    })?;
    if found > FORMAT_VERSION {
        return Err(RestoreError::Newer { path: path.to_path_buf(), found });
    }
    let mut place = Place { data, made: vec![data.join(STORE)] };
    let mut store = empty_store(data)?;
    let done = fill(path, &mut place, &mut store).and_then(|restored| {
        store.close()?;
        Ok(restored)
    });
    if done.is_err() {
        place.clear();
    }
    done
}

/// Where it is restored to.
struct Place<'a> {
    data: &'a Path,
    /// What was not there before.
    made: Vec<PathBuf>,
}

impl Place<'_> {
    /// Settings and the like that are there already stay; keys are none, or of a restore that was cut off.
    fn put(&mut self, name: &str, content: &[u8]) -> Result<(), RestoreError> {
        let path = self.data.join(name);
        if path.exists() && FILES.contains(&name) {
            return Ok(());
        }
        self.made.push(path.clone());
        write_synced(&path, content).map_err(|source| RestoreError::File { path, source })
    }

    fn clear(&self) {
        for path in &self.made {
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

/// A marked store where there was none, or none that is whole.
fn empty_store(data: &Path) -> Result<Store, RestoreError> {
    let failed = |source| RestoreError::File { path: data.to_path_buf(), source };
    let taken = || RestoreError::NotEmpty(data.to_path_buf());
    let has_keys = fs::read_dir(data.join(KEYS)).is_ok_and(|mut keys| keys.next().is_some());
    if data.join(DATABASE).exists() || has_keys && !data.join(STORE).exists() {
        return Err(taken());
    }
    private_dir(data).and_then(|()| private_dir(&data.join(KEYS))).map_err(failed)?;
    let (mut store, contents, _) = Store::open(&data.join(STORE), Options::default())?;
    if contents.get(Tree::Meta, RESTORING).is_none() && (has_keys || !contents.is_empty()) {
        return Err(taken());
    }
    let mut writes = WriteSet::new();
    for tree in Tree::ALL {
        contents.tree(*tree).for_each(|(key, _)| writes.delete(*tree, key));
    }
    writes.put(Tree::Meta, RESTORING, [1]);
    store.commit(&[writes])?;
    Ok(store)
}

fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn fill(path: &Path, place: &mut Place<'_>, store: &mut Store) -> Result<Restored, RestoreError> {
    let renewal = Renewal { now: wall_millis(), secret: random::bytes()? };
    let mut writes = WriteSet::new();
    let (contents, _) = archive::read(path, Kind::Node, &mut |number, key, value| {
        match (Tree::from_id(number), value) {
            (Some(tree), Some(value)) => {
                writes.put(tree, renewal.key(tree, key), renewal.value(tree, &value)?);
            }
            (Some(tree), None) => writes.delete(tree, renewal.key(tree, key)),
            (None, Some(value)) if number == FILE => place.put(&String::from_utf8_lossy(&key), &value)?,
            (None, _) => {}
        }
        if writes.bytes() >= BATCH {
            store.commit(&[std::mem::take(&mut writes)])?;
        }
        Ok::<(), RestoreError>(())
    })?;
    store.commit(&[writes])?;
    let accounts = finish(place.data, store)?;
    Ok(Restored { contents, accounts })
}

/// From here on it is a node.
fn finish(data: &Path, store: &mut Store) -> Result<Vec<String>, RestoreError> {
    for dir in [data.join(KEYS), data.to_path_buf()] {
        let saved = fs::File::open(&dir).and_then(|dir| dir.sync_all());
        saved.map_err(|source| RestoreError::File { path: dir, source })?;
    }
    let found = store.scan(Tree::Account, &[], Tree::Account.limit())?;
    let names = found.iter().map(|(_, value)| Ok(decode::<Account>(value)?.name));
    let names = names.collect::<Result<_, CodecError>>()?;
    let mut writes = WriteSet::new();
    writes.delete(Tree::Meta, RESTORING);
    store.commit(&[writes])?;
    Ok(names)
}

/// What becomes of the entries of a store that is put back.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// Unix milliseconds.
    pub now: u64,
    /// Nobody knows it.
    pub secret: [u8; 16],
}

impl Renewal {
    /// Sessions get names that no client knows. They end by themselves, in order: what was not acknowledged is held for the
    /// next one.
    pub fn key(&self, tree: Tree, key: Vec<u8>) -> Vec<u8> {
        match tree {
            Tree::Session => {
                let digest = Sha256::new_with_prefix(self.secret).chain_update(&key).finalize();
                digest.into_iter().take(key.len()).collect()
            }
            _ => key,
        }
    }

    /// The entry's value.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn value(&self, tree: Tree, value: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(match tree {
            Tree::Account => {
                let account: Account = decode(value)?;
                // What was numbered since the back-up is numbered again: clients that keep their list fetch all of it (XEP-0237).
                let version = self.later(account.roster_version);
                let epoch = self.later(account.epoch);
                encode(&Account { epoch, roster_version: version, roster_from: version, ..account })
            }
            Tree::Outside => {
                let mut state: OutsideState = decode(value)?;
                if let Some(State::Come(come)) = &mut state.state {
                    come.sent = self.later(come.sent);
                }
                encode(&state)
            }
            Tree::Session => {
                encode(&StoredSession { presence: Vec::new(), roster_known: 0, ..decode(value)? })
            }
            _ => value.to_vec(),
        })
    }

    /// Of two restores of the same file the later one has the higher number, unless the clock went back.
    fn later(&self, before: u64) -> u64 {
        self.now.max(before.saturating_add(1))
    }
}
