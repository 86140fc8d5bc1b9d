//! The database of a domain's server: users, invitations, the audit log, and what is kept of their accounts.
//!
//! It is not in the node's store so that a slow disk or a large audit log holds up no message, it is backed up and moved
//! by itself, and several server processes may share one. Nothing of it is kept in memory: what is asked is read, and
//! whoever is answered was told what is durable.
//!
//! | file | does |
//! | --- | --- |
//! | `archive` | all of it in one file |
//! | `change` | what is to be changed together |
//! | `engine` | the seam to what holds it |
//! | `own` | a store of our own, in the data directory |
//! | `postgres` | PostgreSQL |
//! | `versions` | how an older one becomes the newest |

mod archive;
mod change;
mod engine;
mod introduced;
mod own;
mod people;
mod postgres;
mod servers;
mod shown;
mod versions;

#[cfg(test)]
mod tests;
/// The same, with PostgreSQL.
#[cfg(test)]
#[allow(clippy::duplicate_mod, reason = "the same tests, with another database")]
#[path = "database/tests.rs"]
mod tests_on_postgres;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::{
    AuditLine, DOMAIN_KEY, Member, Owner, Said, ServedDomain, StoredInvitation,
};
use crosstalk_storage::tree::upstream::{contacts_of, devices_of, of_user, queue_of};
use crosstalk_storage::{
    CheckpointError, CodecError, CommitError, OpenError, ReadError, Store, Stored, Tree, WriteSet, decode,
    encode,
};
use tokio::time::Instant;

pub use crate::archive::{ArchiveError, Contents};
pub use change::Change;
use change::said_key;
use engine::Engine;
pub use postgres::{Settings as PostgresSettings, SettingsError};

use super::standing::Signs;
use crate::accounts::random;

/// Where it lies in the data directory.
pub const DATABASE: &str = "authority";
/// Where the number of the next line of the audit log stands, in [`Tree::Meta`]: 8 bytes, big-endian.
const NEXT_LINE: &[u8] = b"next-line";
/// Entries that are read at once: letters of outside are the largest, 12 MiB together, which a slow way to PostgreSQL brings in
/// good time.
const AT_ONCE: usize = 256;
/// How often a question is put because others have changed what it has read.
pub(super) const TRIES: u32 = 32;

/// What is wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A newer program has written it.
    #[error(
        "the database of the domain has version {found}, this program knows up to {known}: start the newer program again, \
         nothing was changed"
    )]
    Newer {
        /// Its version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Something in it is not understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Nothing can be written now.
    #[error("nothing can be saved now: {0}")]
    Commit(#[from] CommitError),
    /// It cannot be reached now; what was asked is to be asked again.
    #[error("the database of the domain is away ({0}): try again when it is back")]
    Away(String),
    /// PostgreSQL refuses, and would again.
    #[error("PostgreSQL says: {0}")]
    Postgres(String),
    /// A back-up.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A restored one needs numbers that nobody had before.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] random::NoRandomness),
    /// Another process has changed what was read: the question is put again.
    #[error("others change the same at the same time: try again")]
    Changed,
    /// There are as many as there may be.
    #[error("a domain has at most {limit} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It did not close in order.
    #[error(transparent)]
    Close(#[from] CheckpointError),
}

impl DatabaseError {
    /// Whether that is said already, once, by how the database stands.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Commit(_))
    }
}

/// Whether an error means that a question is to be put again.
pub(super) trait MayHaveChanged {
    /// Whether others have changed what was read.
    fn has_changed(&self) -> bool;
}

/// Where the database of a domain's server is.
#[derive(Clone, Debug)]
pub enum Home {
    /// In this data directory.
    Own(PathBuf),
    /// In PostgreSQL.
    Postgres(Box<postgres::Settings>),
}

impl Home {
    /// Whether there may be one: without PostgreSQL only whoever makes a domain has one.
    pub fn may_be(&self) -> bool {
        match self {
            Self::Own(data) => data.join(DATABASE).exists(),
            Self::Postgres(_) => true,
        }
    }
}

/// The open database.
pub struct Database {
    engine: Box<dyn Engine>,
    signs: Signs,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the database, or makes one. PostgreSQL is reached when it is first asked, and whenever it is back.
    ///
    /// # Errors
    /// When it cannot be opened or holds what a newer program wrote.
    pub fn open(home: &Home, signs: &Signs) -> Result<Self, DatabaseError> {
        let engine: Box<dyn Engine> = match home {
            Home::Own(data) => {
                let engine = own::Own::open(&data.join(DATABASE), signs.clone())?;
                return Self::alone(engine, signs);
            }
            Home::Postgres(settings) => {
                signs.is("PostgreSQL");
                Box::new(postgres::Postgres::new(settings.as_ref().clone(), signs.clone())?)
            }
        };
        Ok(Self { engine, signs: signs.clone() })
    }

    /// The database that an open store holds, or is to hold.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn over(store: Store, signs: &Signs) -> Result<Self, DatabaseError> {
        Self::alone(own::Own::over(store, signs.clone()), signs)
    }

    /// No other process can have this one.
    fn alone(engine: own::Own, signs: &Signs) -> Result<Self, DatabaseError> {
        versions::raise(&engine)?;
        signs.is("data directory");
        signs.there();
        signs.alone();
        Ok(Self { engine: Box::new(engine), signs: signs.clone() })
    }

    /// The domain, once it is made.
    ///
    /// # Errors
    /// When the database cannot be read; so for all that read.
    pub fn domain(&self) -> Result<Option<ServedDomain>, DatabaseError> {
        self.read(DOMAIN_KEY)
    }

    /// A user.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn member(&self, name: &str) -> Result<Option<Member>, DatabaseError> {
        self.read(name.as_bytes())
    }

    /// All users, by name.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn members(&self) -> Result<Vec<(String, Member)>, DatabaseError> {
        self.all(|key| String::from_utf8(key.to_vec()).ok())
    }

    /// An invitation, by the mark of its token.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn invitation(&self, mark: &[u8; 32]) -> Result<Option<StoredInvitation>, DatabaseError> {
        self.read(mark)
    }

    /// All invitations.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn invitations(&self) -> Result<Vec<([u8; 32], StoredInvitation)>, DatabaseError> {
        self.all(|key| key.try_into().ok())
    }

    /// What is kept of a user beside what its devices have said.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn owner(&self, user: &UserId) -> Result<Owner, DatabaseError> {
        Ok(self.read(user.as_bytes())?.unwrap_or_default())
    }

    /// What a user's devices have said of some things, in their order.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn said(&self, user: &UserId, places: &[[u8; 16]]) -> Result<Vec<Said>, DatabaseError> {
        self.said_of(places.iter().map(|place| (*user, *place)))
    }

    /// The same of several users.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn said_of(
        &self,
        things: impl Iterator<Item = (UserId, [u8; 16])>,
    ) -> Result<Vec<Said>, DatabaseError> {
        self.all_of(things.map(|(user, place)| said_key(&user, &place)).collect())
    }

    /// What stands under these keys, in their order; what is not there is empty.
    fn all_of<T: Stored>(&self, keys: Vec<Vec<u8>>) -> Result<Vec<T>, DatabaseError> {
        let mut all = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            for value in self.engine.get(T::TREE, keys)? {
                all.push(value.map_or_else(|| Ok(T::default()), |value| decode(&value))?);
            }
        }
        Ok(all)
    }

    /// All that a user's devices have said, at most so much.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn all_said(&self, user: &UserId, most: usize) -> Result<Vec<([u8; 16], Said)>, DatabaseError> {
        let mut all = Vec::new();
        let whose = user.as_bytes();
        some_pages(&*self.engine, Said::TREE, (whose, whose, most), |key, value| {
            if let Some(Ok(place)) = key.get(32..).map(TryInto::try_into) {
                all.push((place, decode(value)?));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Something of what goes between users and addresses outside.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn upstream<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, DatabaseError> {
        self.read(key)
    }

    /// All of that whose key begins so, at most so much.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn all_upstream<T: Stored>(
        &self,
        prefix: &[u8],
        most: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, DatabaseError> {
        let mut all = Vec::new();
        some_pages(&*self.engine, T::TREE, (prefix, prefix, most), |key, value| {
            all.push((key.to_vec(), decode(value)?));
            Ok(())
        })?;
        Ok(all)
    }

    /// Shows each of that in turn, at most so many: for what is too large to be held together.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn each_upstream<T: Stored>(
        &self,
        prefix: &[u8],
        most: usize,
        mut take: impl FnMut(&[u8], T),
    ) -> Result<(), DatabaseError> {
        some_pages(&*self.engine, T::TREE, (prefix, prefix, most), |key, value| {
            take(key, decode(value)?);
            Ok(())
        })
    }

    /// The newest lines of the audit log, oldest first, with their numbers.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn audit(&self, most: usize) -> Result<Vec<(u64, AuditLine)>, DatabaseError> {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.audit_from(self.next_line()?.saturating_sub(most).max(1))
    }

    /// The lines of the audit log from a number on, with theirs.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn audit_from(&self, first: u64) -> Result<Vec<(u64, AuditLine)>, DatabaseError> {
        let mut lines = Vec::new();
        pages(&*self.engine, AuditLine::TREE, (&[], &first.to_be_bytes()), |key, line| {
            if let Ok(number) = key.try_into() {
                lines.push((u64::from_be_bytes(number), decode(line)?));
            }
            Ok(())
        })?;
        Ok(lines)
    }

    /// The number that the next line of the audit log gets.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn next_line(&self) -> Result<u64, DatabaseError> {
        let next = self.engine.get(Tree::Meta, &[NEXT_LINE.to_vec()])?.pop().flatten();
        Ok(next.and_then(|bytes| bytes.try_into().ok()).map_or(1, u64::from_be_bytes))
    }

    /// How many users there are.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn count_users(&self) -> Result<usize, DatabaseError> {
        self.engine.count(Tree::Member)
    }

    /// Where it says how it stands.
    pub(super) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// Makes a change durable. Refused as [`DatabaseError::Changed`] if anything read since the last change or
    /// [`Self::rest`] is not so any more.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub fn commit(&self, change: Change) -> Result<(), DatabaseError> {
        self.check_room(&change)?;
        let mut writes = WriteSet::new();
        if let Some(domain) = &change.domain {
            writes.put(Tree::ServedDomain, DOMAIN_KEY, encode(domain));
        }
        for (name, member) in &change.members {
            writes.put(Tree::Member, name.as_bytes(), encode(member));
        }
        for (mark, invitation) in &change.invitations {
            match invitation {
                Some(invitation) => writes.put(Tree::Invitation, mark, encode(invitation)),
                None => writes.delete(Tree::Invitation, mark),
            }
        }
        for (domain, said) in &change.introductions {
            match said {
                Some(said) => writes.put(Tree::Introduced, domain.as_bytes(), encode(said)),
                None => writes.delete(Tree::Introduced, domain.as_bytes()),
            }
        }
        if !change.audit.is_empty() {
            self.tell(&change.audit, &mut writes)?;
        }
        for (user, owner) in &change.owners {
            writes.put(Tree::Owner, user.as_bytes(), encode(owner));
        }
        for (key, said) in &change.said {
            writes.put(Tree::Statement, key.clone(), encode(said));
        }
        for (tree, key, value) in &change.upstream {
            match value {
                Some(value) => writes.put(*tree, key.clone(), value.clone()),
                None => writes.delete(*tree, key.clone()),
            }
        }
        for user in &change.forgotten {
            writes.delete(Tree::Owner, user.as_bytes());
            writes.delete(Tree::LastShown, user.as_bytes());
            let key = user.as_bytes();
            let all = [
                (Tree::Statement, key.to_vec()),
                (Tree::Upstream, queue_of(key)),
                (Tree::Outside, of_user(key)),
                (Tree::Outside, contacts_of(key)),
                (Tree::Outside, devices_of(key)),
            ];
            for (tree, prefix) in all {
                pages(&*self.engine, tree, (&prefix, &prefix), |key, _| {
                    writes.delete(tree, key);
                    Ok(())
                })?;
            }
        }
        let begun = Instant::now();
        self.engine.commit(writes)?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.signs.count(|figures| {
            figures.commits += 1;
            figures.commit_micros = figures.commit_micros.saturating_add(took);
            for line in change.audit {
                *figures.told.entry(line.what).or_default() += 1;
            }
        });
        Ok(())
    }

    /// The log forgets its oldest lines.
    fn tell(&self, lines: &[AuditLine], writes: &mut WriteSet) -> Result<(), DatabaseError> {
        let mut next = self.next_line()?;
        for line in lines {
            writes.put(AuditLine::TREE, next.to_be_bytes(), encode(line));
            if let Some(oldest) = next.checked_sub(AuditLine::TREE.limit() as u64) {
                writes.delete(AuditLine::TREE, oldest.to_be_bytes());
            }
            next = next.saturating_add(1);
        }
        writes.put(Tree::Meta, NEXT_LINE, next.to_be_bytes());
        Ok(())
    }

    /// What is taken back, or ends, always finds room.
    fn check_room(&self, change: &Change) -> Result<(), DatabaseError> {
        let members = change.members.iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
        let made = change.invitations.iter().filter(|(_, invitation)| invitation.is_some());
        let invitations = made.map(|(mark, _)| mark.to_vec()).collect();
        let pages = change.upstream.iter().filter(|(tree, _, page)| *tree == Tree::Brought && page.is_some());
        let pages = pages.map(|(_, key, _)| key.clone()).collect();
        for (what, tree, keys) in [
            ("users", Tree::Member, members),
            ("invitations", Tree::Invitation, invitations),
            ("pages of what users brought along", Tree::Brought, pages),
        ] {
            let keys: Vec<Vec<u8>> = keys;
            let more = self.engine.get(tree, &keys)?.iter().filter(|found| found.is_none()).count();
            if more > 0 && self.engine.count(tree)? + more > tree.limit() {
                return Err(DatabaseError::Full { what, limit: tree.limit() });
            }
        }
        Ok(())
    }

    /// Writes all of it to a new file, as it is at one moment.
    ///
    /// # Errors
    /// When it cannot be read, or the file not be written; there is no file then.
    pub fn back_up(&self, path: &Path) -> Result<Contents, DatabaseError> {
        archive::write(&*self.engine, path)
    }

    /// Puts all that is in a file of [`Self::back_up`] into this database, which must be empty.
    ///
    /// # Errors
    /// When the file is not whole or this database not empty; nothing has changed then. When it is cut off in between:
    /// there is no domain yet, and it can be begun again.
    pub fn restore(&self, path: &Path) -> Result<Contents, DatabaseError> {
        let contents = archive::restore(&*self.engine, path);
        self.rest();
        contents
    }

    /// What is read from now on is of another moment.
    pub fn rest(&self) {
        self.engine.rest();
    }

    /// What can be done while nobody waits.
    ///
    /// # Errors
    /// When it cannot be done now; nothing is lost then.
    pub fn maintain(&self) -> Result<(), DatabaseError> {
        self.engine.tend()
    }

    /// How often [`Self::maintain`] is wanted while nothing is asked; nothing: not at all.
    pub fn pause(&self) -> Option<Duration> {
        self.engine.pause()
    }

    /// Whether other processes may have it, too.
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// When it does not; nothing is lost then.
    pub fn close(self) -> Result<(), DatabaseError> {
        self.engine.close()
    }

    fn read<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, DatabaseError> {
        let found = self.engine.get(T::TREE, &[key.to_vec()])?.pop().flatten();
        Ok(found.map(|value| decode(&value)).transpose()?)
    }

    fn all<K, T: Stored>(&self, name: fn(&[u8]) -> Option<K>) -> Result<Vec<(K, T)>, DatabaseError> {
        let mut all = Vec::new();
        pages(&*self.engine, T::TREE, (&[], &[]), |key, value| {
            if let Some(name) = name(key) {
                all.push((name, decode(value)?));
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// Reads all entries whose keys begin with a prefix, from a key on, a few at a time.
fn pages(
    engine: &dyn Engine,
    tree: Tree,
    (prefix, start): (&[u8], &[u8]),
    take: impl FnMut(&[u8], &[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    some_pages(engine, tree, (prefix, start, usize::MAX), take)
}

/// The same, at most so many.
fn some_pages(
    engine: &dyn Engine,
    tree: Tree,
    (prefix, start, mut most): (&[u8], &[u8], usize),
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let mut start = start.to_vec();
    loop {
        let wanted = most.min(AT_ONCE);
        let page = engine.scan(tree, prefix, &start, wanted)?;
        for (key, value) in &page {
            take(key, value)?;
        }
        most -= page.len().min(wanted);
        match page.last() {
            Some((key, _)) if page.len() == wanted && most > 0 => start = [&key[..], &[0]].concat(),
            _ => return Ok(()),
        }
    }
}
