//! The directory of key files: nothing but the owner reads it, every change is durable before it counts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{AuthorityKey, NodeKey, SealingKey};
use zeroize::Zeroizing;

use super::key_file::{self, FormatError, Kind};
use super::random;
use crate::core::settings::DeviceKeys;

/// Where they are in the data directory.
pub const KEYS: &str = "keys";
const NODE: &str = "node.key";
/// The node's key before a copy of another one was put in place.
const FORMER_NODE: &str = "node.former.key";
const AUTHORITY: &str = "authority.key";
/// The key that is to take the place of [`AUTHORITY`].
const NEXT: &str = "authority.next.key";
const ENROLMENT: &str = "enrolment.key";
const USER_SUFFIX: &str = ".keys";
/// Extension of a file that is being erased.
const ERASING: &str = "erasing";

/// Key files of users that are read, as many as a node may have accounts with some over.
const MAX_FILES: usize = 10_000;

/// What is wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others can read them.
    #[error("others may read {path}, which holds private keys: run `chmod {mode} {path}`", path = .path.display())]
    Exposed {
        /// File or directory.
        path: PathBuf,
        /// The mode it should have.
        mode: &'static str,
    },
    /// A file is not what it should be.
    #[error("key file {path}: {what}", path = .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: FormatError,
    },
    /// A file stands under another user's name.
    #[error("key file {path} belongs to another user than its name says: put the right one back", path = .0.display())]
    Misnamed(PathBuf),
    /// More files than there can be accounts.
    #[error("more than {MAX_FILES} key files in {path}: remove those of no account", path = .0.display())]
    TooMany(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] random::NoRandomness),
}

/// `keys/` in the data directory.
#[derive(Clone, Debug)]
pub struct KeyDir {
    path: PathBuf,
}

impl KeyDir {
    /// Opens the directory, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or others may read it.
    pub fn open(data: &Path) -> Result<Self, KeyError> {
        let path = Self::at(data).path;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed("make", &path))?;
        refuse_exposed(&path, &fs::metadata(&path).map_err(failed("read", &path))?, "700")?;
        Ok(Self { path })
    }

    /// The directory, which is looked at when something in it is wanted.
    pub fn at(data: &Path) -> Self {
        Self { path: data.join(KEYS) }
    }

    /// The node's key, and whether it was made just now.
    ///
    /// # Errors
    /// When the file cannot be read, trusted or written.
    pub fn node_key(&self) -> Result<(NodeKey, bool), KeyError> {
        let (seed, made) = self.seed_or_new(NODE, Kind::Node)?;
        Ok((NodeKey::from_seed(*seed), made))
    }

    /// The authority's key, made now if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, trusted or written.
    pub fn authority_key(&self) -> Result<AuthorityKey, KeyError> {
        let (seed, _) = self.seed_or_new(AUTHORITY, Kind::Authority)?;
        Ok(AuthorityKey::from_seed(*seed))
    }

    /// Whether there is the file of [`Self::authority_key`].
    pub fn has_authority_key(&self) -> bool {
        self.path.join(AUTHORITY).exists()
    }

    /// The key that the authority's is to be handed over to, made now if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, trusted or written.
    pub fn next_authority_key(&self) -> Result<AuthorityKey, KeyError> {
        let (seed, _) = self.seed_or_new(NEXT, Kind::Authority)?;
        Ok(AuthorityKey::from_seed(*seed))
    }

    /// Whether there is one.
    pub fn has_next_authority_key(&self) -> bool {
        self.path.join(NEXT).exists()
    }

    /// That key takes the place of the authority's, which is not there any more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn adopt_next_authority_key(&self) -> Result<(), KeyError> {
        let (from, to) = (self.path.join(NEXT), self.path.join(AUTHORITY));
        fs::rename(&from, &to).map_err(failed("replace", &to))?;
        self.sync()
    }

    /// Puts copies of the two files back: the authority's key and what passwords were registered with.
    ///
    /// # Errors
    /// When they cannot be written durably.
    pub fn put_authority(&self, authority: &[u8; 32], enrolment: &[u8; 32]) -> Result<(), KeyError> {
        self.replace(AUTHORITY, &key_file::encode_seed(Kind::Authority, authority))?;
        self.replace(ENROLMENT, &key_file::encode_seed(Kind::Enrolment, enrolment))
    }

    /// Reads copies of the two files from a directory.
    ///
    /// # Errors
    /// When one is not there, or not what it should be.
    pub fn read_authority(from: &Path) -> Result<[Zeroizing<[u8; 32]>; 2], KeyError> {
        let seed = |name: &str, kind| {
            let path = from.join(name);
            let bytes = read(&path)?;
            key_file::decode_seed(kind, &bytes).map_err(|what| KeyError::Format { path, what })
        };
        Ok([seed(AUTHORITY, Kind::Authority)?, seed(ENROLMENT, Kind::Enrolment)?])
    }

    /// The files of [`Self::authority_key`] and [`Self::enrolment_seed`].
    pub fn authority_files(&self) -> [PathBuf; 2] {
        [AUTHORITY, ENROLMENT].map(|name| self.path.join(name))
    }

    /// The file of [`Self::node_key`].
    pub fn node_file(&self) -> PathBuf {
        self.path.join(NODE)
    }

    /// Reads a copy of the node's key from a directory; nothing if there is none.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn read_node(from: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, KeyError> {
        let path = from.join(NODE);
        match read(&path) {
            Ok(bytes) => key_file::decode_seed(Kind::Node, &bytes)
                .map(Some)
                .map_err(|what| KeyError::Format { path, what }),
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a copy of a node's key in place; the machine's own is kept beside it.
    ///
    /// # Errors
    /// When it cannot be written durably.
    pub fn put_node(&self, seed: &[u8; 32]) -> Result<(), KeyError> {
        let path = self.path.join(NODE);
        let bytes = key_file::encode_seed(Kind::Node, seed);
        match read(&path) {
            Ok(there) if *there == *bytes => return Ok(()),
            // The first that was there is this machine's own; others were copies.
            Ok(there) if !self.path.join(FORMER_NODE).exists() => self.replace(FORMER_NODE, &there)?,
            Ok(_) => {}
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.replace(NODE, &bytes)
    }

    /// What passwords are registered with at this node, if it is the server of a domain; made now if there is none.
    /// Whoever has it and the server's database can try passwords.
    ///
    /// # Errors
    /// When the file cannot be read, trusted or written.
    pub fn enrolment_seed(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        Ok(self.seed_or_new(ENROLMENT, Kind::Enrolment)?.0)
    }

    /// Whether there is the file of [`Self::enrolment_seed`].
    pub fn has_enrolment_seed(&self) -> bool {
        self.path.join(ENROLMENT).exists()
    }

    /// All users' keys, by user.
    ///
    /// # Errors
    /// At the first file that cannot be read or trusted.
    pub fn users(&self) -> Result<BTreeMap<UserId, DeviceKeys>, KeyError> {
        let mut users = BTreeMap::new();
        for entry in fs::read_dir(&self.path).map_err(failed("read", &self.path))? {
            let path = entry.map_err(failed("read", &self.path))?.path();
            if path.extension().is_some_and(|extension| extension == ERASING) {
                // The node ended while it was at it.
                self.finish_erasing(&path)?;
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(xid) = name.strip_suffix(USER_SUFFIX) else { continue };
            let (user, keys) = read_user(&path)?;
            if user.xid() != xid {
                return Err(KeyError::Misnamed(path));
            }
            if users.len() == MAX_FILES {
                return Err(KeyError::TooMany(self.path.clone()));
            }
            users.insert(user, keys);
        }
        Ok(users)
    }

    /// One user's keys.
    ///
    /// # Errors
    /// When the file cannot be read or trusted.
    pub fn user(&self, user: UserId) -> Result<DeviceKeys, KeyError> {
        read_user(&self.path.join(file_name(user))).map(|(_, keys)| keys)
    }

    /// Writes a user's key file.
    ///
    /// # Errors
    /// When it cannot be written durably.
    pub fn put(&self, user: UserId, keys: &DeviceKeys) -> Result<(), KeyError> {
        self.replace(&file_name(user), &key_file::encode_user(user, keys))
    }

    /// Adds a sealing key to a user's file.
    ///
    /// # Errors
    /// When the file cannot be read or written durably.
    pub fn add_sealing(&self, user: UserId, key: &SealingKey) -> Result<(), KeyError> {
        let (_, mut keys) = read_user(&self.path.join(file_name(user)))?;
        keys.sealing.push(key.clone());
        self.put(user, &keys)
    }

    /// Erases a sealing key from a user's file; one that is not there is no error.
    ///
    /// # Errors
    /// When the file cannot be read or written durably.
    pub fn erase_sealing(&self, user: UserId, public: &[u8; 32]) -> Result<(), KeyError> {
        let (_, mut keys) = read_user(&self.path.join(file_name(user)))?;
        keys.sealing.retain(|key| key.public() != *public);
        self.put(user, &keys)
    }

    /// Erases a user's key file: set aside, overwritten, removed. One that is not there is no error.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn erase(&self, user: UserId) -> Result<(), KeyError> {
        let path = self.path.join(file_name(user));
        let aside = path.with_extension(ERASING);
        match fs::rename(&path, &aside) {
            Ok(()) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("set aside", &path)(error)),
        }
        self.finish_erasing(&aside)
    }

    fn finish_erasing(&self, path: &Path) -> Result<(), KeyError> {
        overwrite(path).and_then(|()| fs::remove_file(path)).map_err(failed("erase", path))?;
        self.sync()
    }

    fn seed_or_new(&self, name: &str, kind: Kind) -> Result<(Zeroizing<[u8; 32]>, bool), KeyError> {
        let path = self.path.join(name);
        match read(&path) {
            Ok(bytes) => key_file::decode_seed(kind, &bytes)
                .map(|seed| (seed, false))
                .map_err(|what| KeyError::Format { path, what }),
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let seed = Zeroizing::new(random::bytes()?);
                self.replace(name, &key_file::encode_seed(kind, &seed))?;
                Ok((seed, true))
            }
            Err(error) => Err(error),
        }
    }

    /// Old or new file after a power cut, never half of one.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        write_synced(&fresh, bytes).map_err(failed("write", &fresh))?;
        // The old bytes stay on the disk until something else is written there; only full-disk encryption helps.
        fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), KeyError> {
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(failed("save", &self.path))
    }
}

/// Whether a file of the directory holds keys that count.
pub fn is_key_file(name: &str) -> bool {
    let seeds = [NODE, FORMER_NODE, AUTHORITY, NEXT, ENROLMENT];
    let of_user = |xid: &str| !xid.is_empty() && xid.bytes().all(|byte| byte.is_ascii_alphanumeric());
    seeds.contains(&name) || name.strip_suffix(USER_SUFFIX).is_some_and(of_user)
}

/// A user's key file, from the data directory on.
pub fn user_file(user: UserId) -> String {
    format!("{KEYS}/{}", file_name(user))
}

fn file_name(user: UserId) -> String {
    user.xid() + USER_SUFFIX
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_path_buf();
    move |source| KeyError::Io { what, path, source }
}

fn refuse_exposed(path: &Path, meta: &fs::Metadata, mode: &'static str) -> Result<(), KeyError> {
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_path_buf(), mode });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = File::open(path).map_err(failed("read", path))?;
    refuse_exposed(path, &file.metadata().map_err(failed("read", path))?, "600")?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(key_file::MAX_SIZE + 1));
    let most = u64::try_from(key_file::MAX_SIZE + 1).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

fn read_user(path: &Path) -> Result<(UserId, DeviceKeys), KeyError> {
    let bytes = read(path)?;
    key_file::decode_user(&bytes).map_err(|what| KeyError::Format { path: path.to_path_buf(), what })
}

pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn overwrite(path: &Path) -> io::Result<()> {
    let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or(0).min(key_file::MAX_SIZE);
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_overlay::keys::DeviceKey;

    fn keys() -> DeviceKeys {
        DeviceKeys {
            device: DeviceKey::from_seed([2; 32]),
            sealing: vec![SealingKey::from_seed([3; 32], 1_000)],
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_private() {
        let data = tempfile::tempdir().expect("dir");
        let dir = KeyDir::open(data.path()).expect("opened");
        let (first, made) = dir.node_key().expect("made");
        assert!(made);
        let (again, made) = dir.node_key().expect("read");
        assert!(!made && first.id() == again.id());
        assert_eq!(dir.authority_key().expect("made").id(), dir.authority_key().expect("read").id());
        assert_eq!(mode(&data.path().join("keys")), 0o700);
        assert_eq!(mode(&data.path().join("keys/node.key")), 0o600);
    }

    #[test]
    fn a_copy_of_the_nodes_key_takes_the_place_of_another_which_is_kept() {
        let (data, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (dir, new) =
            (KeyDir::open(data.path()).expect("opened"), KeyDir::open(other.path()).expect("opened"));
        let (key, own) = (dir.node_key().expect("made").0.id(), new.node_key().expect("made").0.id());
        let copy = tempfile::tempdir().expect("dir");
        assert!(KeyDir::read_node(copy.path()).expect("read").is_none());
        fs::copy(dir.node_file(), copy.path().join("node.key")).expect("copied");
        let seed = KeyDir::read_node(copy.path()).expect("read").expect("there");
        for _ in 0..2 {
            new.put_node(&seed).expect("in place");
            assert_eq!(new.node_key().expect("read").0.id(), key);
            let former = fs::read(other.path().join("keys/node.former.key")).expect("kept");
            let seed = key_file::decode_seed(Kind::Node, &former).expect("a key");
            assert_eq!(NodeKey::from_seed(*seed).id(), own);
        }
        assert!(is_key_file("node.former.key"));
    }

    #[test]
    fn sealing_keys_come_and_go() {
        let data = tempfile::tempdir().expect("dir");
        let dir = KeyDir::open(data.path()).expect("opened");
        let user = UserId::from_bytes([1; 32]);
        dir.put(user, &keys()).expect("written");
        let second = SealingKey::from_seed([4; 32], 2_000);
        dir.add_sealing(user, &second).expect("added");
        dir.erase_sealing(user, &keys().sealing[0].public()).expect("erased");
        let users = dir.users().expect("read");
        let left: Vec<_> = users[&user].sealing.iter().map(SealingKey::public).collect();
        assert_eq!(left, [second.public()]);
        dir.erase(user).expect("erased");
        dir.erase(user).expect("gone already");
        assert!(dir.users().expect("read").is_empty());
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_remedy() {
        let data = tempfile::tempdir().expect("dir");
        let dir = KeyDir::open(data.path()).expect("opened");
        dir.node_key().expect("made");
        let file = data.path().join("keys/node.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("chmod");
        let text = dir.node_key().expect_err("refused").to_string();
        assert!(text.contains("chmod 600") && text.contains("node.key"), "{text}");
        fs::set_permissions(data.path().join("keys"), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(KeyDir::open(data.path()).expect_err("refused").to_string().contains("chmod 700"));
    }

    #[test]
    fn an_erasure_that_was_cut_short_is_finished() {
        let data = tempfile::tempdir().expect("dir");
        let dir = KeyDir::open(data.path()).expect("opened");
        let user = UserId::from_bytes([1; 32]);
        dir.put(user, &keys()).expect("written");
        let path = data.path().join("keys").join(file_name(user));
        let aside = path.with_extension(ERASING);
        fs::rename(&path, &aside).expect("set aside");
        overwrite(&aside).expect("overwritten");
        assert!(dir.users().expect("read").is_empty());
        assert!(!aside.exists());
    }

    #[test]
    fn damaged_and_misnamed_files_are_errors_not_losses() {
        let data = tempfile::tempdir().expect("dir");
        let dir = KeyDir::open(data.path()).expect("opened");
        let user = UserId::from_bytes([1; 32]);
        dir.put(user, &keys()).expect("written");
        let path = data.path().join("keys").join(file_name(user));
        let other = data.path().join("keys").join(file_name(UserId::from_bytes([9; 32])));
        fs::rename(&path, &other).expect("renamed");
        assert!(matches!(dir.users(), Err(KeyError::Misnamed(_))));
        fs::write(&other, b"CTKEY").expect("cut");
        assert!(matches!(dir.users(), Err(KeyError::Format { .. })));
        fs::write(data.path().join("keys/node.key"), b"junk").expect("junk");
        assert!(dir.node_key().is_err());
    }
}
