//! The back-up of a node: its whole store and the files beside it, as they were at one moment, in one file
//! ([`crate::archive`]).
//!
//! The keys are in it. A user's key is the account: without it what is stored could not be sent, received or answered again, and
//! letters that wait elsewhere are sealed to keys of this device. So the file is a secret like the data directory itself: only its
//! owner can read it, and whoever makes one is told. What is not in it: the database of a domain's server, which has a back-up of
//! its own.

mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crosstalk_overlay::id::UserId;
use crosstalk_storage::{FORMAT_VERSION, Tree};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::accounts::key_dir::{KEYS, is_key_file, user_file};
use crate::archive::{ArchiveError, Contents, Kind, Writer};
use crate::bypass;
use crate::c2s::tls;
use crate::config;
use crate::store_thread::copying::{Copier, Piece};

pub use restore::{RESTORING, Renewal, RestoreError, Restored, restore};

/// The number of a file in the archive; trees have lower ones.
const FILE: u8 = u8::MAX;
/// Files of the data directory that are taken along, beside the keys.
const FILES: [&str; 4] = [config::FILE_NAME, tls::FILE, bypass::tls::FILE, "component.secret"];
/// Longest file that is taken along, bytes: as long as a value may be.
const LONGEST: u64 = crosstalk_storage::MAX_VALUE as u64;
/// Pieces of a copy that wait to be written.
const PIECES: usize = 16;
/// Wishes for a copy that wait.
const COPIES: usize = 1;

/// Why there is no back-up.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store.
    #[error("the store cannot be copied: {0}")]
    Store(String),
    /// The store's thread has something else to do.
    #[error(
        "no back-up can be made now: another one is being made, or the node is stopping. Try again in a moment"
    )]
    Busy,
    /// Accounts came or went while it was made.
    #[error("accounts were made or removed meanwhile, there is no back-up: try again")]
    Changed,
    /// A file beside the store.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes back-ups of one node.
#[derive(Clone, Debug)]
pub struct Backups {
    data: PathBuf,
    copies: mpsc::Sender<Copier>,
}

impl Backups {
    /// For the node in a data directory; whoever has its store makes the copies that are wished for.
    pub fn new(data: PathBuf) -> (Self, mpsc::Receiver<Copier>) {
        let (copies, wishes) = mpsc::channel(COPIES);
        (Self { data, copies }, wishes)
    }

    /// Writes a new file, beside whatever the node does.
    ///
    /// # Errors
    /// When it cannot be written whole; there is no file then.
    pub async fn make(&self, path: PathBuf) -> Result<Contents, BackupError> {
        let (to, pieces) = sync_channel(PIECES);
        let (data, copies) = (self.data.clone(), self.copies.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &data, || wish(&copies, to), &pieces));
        written.await.unwrap_or(Err(BackupError::Busy))
    }
}

fn wish(copies: &mpsc::Sender<Copier>, to: SyncSender<Piece>) -> Result<(), BackupError> {
    copies.try_send(to).map_err(|_| BackupError::Busy)
}

type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

fn write(
    path: &Path,
    data: &Path,
    begin: impl FnOnce() -> Result<(), BackupError>,
    pieces: &Receiver<Piece>,
) -> Result<Contents, BackupError> {
    let mut out = Writer::create(path, Kind::Node, FORMAT_VERSION)?;
    // Those of an account are there before it is, and until it is not any more.
    let mut files = read_files(data)?;
    begin()?;
    let accounts = write_store(&mut out, pieces)?;
    files.append(&mut read_files(data)?);
    let of_account = |user: &Vec<u8>| UserId::from_slice(user).map(user_file);
    if !accounts.iter().filter_map(of_account).all(|file| files.contains_key(&file)) {
        return Err(BackupError::Changed);
    }
    for (name, content) in &files {
        out.put(FILE, name.as_bytes(), Some(content))?;
    }
    Ok(out.finish()?)
}

/// Returns the keys of the accounts that are in it.
fn write_store(out: &mut Writer, pieces: &Receiver<Piece>) -> Result<BTreeSet<Vec<u8>>, BackupError> {
    let mut accounts = BTreeSet::new();
    loop {
        match pieces.recv().map_err(|_| BackupError::Busy)? {
            Piece::Page(tree, page) => {
                for (key, value) in page {
                    out.put(tree.id(), &key, Some(&value))?;
                    if tree == Tree::Account {
                        accounts.insert(key);
                    }
                }
            }
            Piece::Changes(changes) => {
                for (tree, key, value) in changes.iter() {
                    out.put(tree.id(), key, value)?;
                    match value {
                        Some(_) if tree == Tree::Account => accounts.insert(key.to_vec()),
                        None if tree == Tree::Account => accounts.remove(key),
                        Some(_) | None => false,
                    };
                }
                return Ok(accounts);
            }
            Piece::Failed(why) => return Err(BackupError::Store(why)),
        }
    }
}

/// The files beside the store, by their place in the data directory.
fn read_files(data: &Path) -> Result<Files, BackupError> {
    let mut files = Files::new();
    let failed = |path: &Path, source| BackupError::File { path: path.to_path_buf(), source };
    let keys = data.join(KEYS);
    for entry in fs::read_dir(&keys).map_err(|source| failed(&keys, source))? {
        let name = entry.map_err(|source| failed(&keys, source))?.file_name();
        let name = format!("{KEYS}/{}", name.to_string_lossy());
        if is_taken_along(&name) {
            read_file(data, name, &mut files)?;
        }
    }
    FILES.iter().try_for_each(|name| read_file(data, (*name).to_owned(), &mut files))?;
    Ok(files)
}

fn read_file(data: &Path, name: String, files: &mut Files) -> Result<(), BackupError> {
    use std::io::Read;
    let path = data.join(&name);
    let read = fs::File::open(&path).and_then(|file| {
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LONGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LONGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    });
    match read {
        Ok(bytes) => {
            files.insert(name, bytes);
            Ok(())
        }
        // It may have gone since it was seen.
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BackupError::File { path, source }),
    }
}

/// Whether a file of the data directory is one of those: nothing else is written there either.
fn is_taken_along(name: &str) -> bool {
    FILES.contains(&name) || name.split_once('/').is_some_and(|(dir, file)| dir == KEYS && is_key_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use crosstalk_overlay::keys::{DeviceKey, SealingKey, UserKey};
    use crosstalk_storage::tree::account::Account;
    use crosstalk_storage::{Options, Store, WriteSet, decode, encode};

    use crate::accounts::key_dir::KeyDir;
    use crate::core::settings::DeviceKeys;
    use crate::run::STORE;
    use crate::store_thread::StoreThread;

    /// A node with an account, as far as a back-up goes.
    fn node(data: &Path) -> UserId {
        let keys = KeyDir::open(data).expect("opened");
        keys.node_key().expect("made");
        let user = UserKey::from_seed([1; 32]).id();
        let sealing = vec![SealingKey::from_seed([3; 32], 1_000)];
        keys.put(user, &DeviceKeys { device: DeviceKey::from_seed([2; 32]), sealing }).expect("written");
        fs::write(data.join(config::FILE_NAME), "# mine\n").expect("written");
        fs::write(data.join("crosstalk.log"), "not mine").expect("written");
        let (mut store, ..) = Store::open(&data.join(STORE), Options::default()).expect("opened");
        let account = Account { name: "juliet".to_owned(), epoch: 1, ..Account::default() };
        let mut writes = WriteSet::new();
        writes.put(Tree::Account, user.as_bytes(), encode(&account));
        writes.put(Tree::Outbox, "1", "a message that waits");
        store.commit(&[writes]).expect("committed");
        store.close().expect("closed");
        user
    }

    fn backed_up(data: &Path, file: &Path) -> Result<Contents, BackupError> {
        let (store, ..) = Store::open(&data.join(STORE), Options::default()).expect("opened");
        let mut thread = StoreThread::start(store).expect("started");
        let (to, pieces) = sync_channel(PIECES);
        thread.copy(to);
        let written = write(file, data, || Ok(()), &pieces);
        thread.close().expect("closed");
        written
    }

    #[test]
    fn a_node_comes_back_with_its_keys_and_in_a_new_epoch() {
        let home = tempfile::tempdir().expect("dir");
        let (data, file, fresh) =
            (home.path().join("data"), home.path().join("file"), home.path().join("new"));
        let user = node(&data);
        let contents = backed_up(&data, &file).expect("written");
        // Account, message, settings, two key files.
        assert_eq!(contents.entries, 5);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(matches!(restore(&file, &data), Err(RestoreError::NotEmpty(_))));
        let restored = restore(&file, &fresh).expect("restored");
        assert_eq!((restored.contents, restored.accounts), (contents, vec!["juliet".to_owned()]));
        let (_, store, _) = Store::open(&fresh.join(STORE), Options::default()).expect("opened");
        let account: Account =
            decode(store.get(Tree::Account, user.as_bytes()).expect("there")).expect("read");
        assert!(account.epoch > 1 && store.get(Tree::Meta, RESTORING).is_none());
        assert_eq!(store.get(Tree::Outbox, b"1"), Some(&b"a message that waits"[..]));
        let (old, new) = (KeyDir::open(&data).expect("opened"), KeyDir::open(&fresh).expect("opened"));
        assert_eq!(new.node_key().expect("read").0.id(), old.node_key().expect("read").0.id());
        assert_eq!(new.user(user).expect("read").device.id(), old.user(user).expect("read").device.id());
        assert!(fresh.join(config::FILE_NAME).exists() && !fresh.join("crosstalk.log").exists());
    }

    #[test]
    fn what_is_no_whole_back_up_leaves_nothing_behind_and_what_was_cut_off_is_begun_again() {
        let home = tempfile::tempdir().expect("dir");
        let (data, file, fresh) =
            (home.path().join("data"), home.path().join("file"), home.path().join("new"));
        node(&data);
        backed_up(&data, &file).expect("written");
        let whole = fs::read(&file).expect("read");
        let broken = home.path().join("broken");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bytes in [&flipped[..], &whole[..whole.len() - 40], b"CTAUTHOR", b""] {
            fs::write(&broken, bytes).expect("written");
            let error = restore(&broken, &fresh).expect_err("refused").to_string();
            assert!(error.contains("nothing was restored") && !fresh.exists(), "{error}");
        }
        // A store of a newer program, and a file that would go elsewhere.
        for (version, number, name) in
            [(FORMAT_VERSION + 1, FILE, "keys/node.key"), (1, FILE, "keys/../../elsewhere.key")]
        {
            fs::remove_file(&broken).expect("removed");
            let mut writer = Writer::create(&broken, Kind::Node, version).expect("made");
            writer.put(number, name.as_bytes(), Some(b"x")).expect("written");
            writer.finish().expect("whole");
            assert!(restore(&broken, &fresh).is_err() && !fresh.exists());
        }
        // Killed in the middle: the mark stands, some of it is there.
        let (mut store, ..) = Store::open(&fresh.join(STORE), Options::default()).expect("opened");
        let mut writes = WriteSet::new();
        writes.put(Tree::Meta, RESTORING, [1]);
        writes.put(Tree::Outbox, "2", "of another back-up");
        store.commit(&[writes]).expect("committed");
        drop(store);
        restore(&file, &fresh).expect("restored");
        let (_, store, _) = Store::open(&fresh.join(STORE), Options::default()).expect("opened");
        assert!(store.get(Tree::Outbox, b"2").is_none() && store.get(Tree::Outbox, b"1").is_some());
    }

    #[test]
    fn an_account_without_its_keys_is_no_back_up() {
        let home = tempfile::tempdir().expect("dir");
        let (data, file) = (home.path().join("data"), home.path().join("file"));
        let user = node(&data);
        fs::remove_file(data.join(user_file(user))).expect("removed");
        assert!(matches!(backed_up(&data, &file), Err(BackupError::Changed)));
        assert!(!file.exists());
    }
}
