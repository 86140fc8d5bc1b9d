//! The database of a domain's server: a store of its own beside the node's, read once and then kept in memory.
//!
//! It is not in the node's store so that a slow disk or a large audit log holds up no message, it is backed up and moved
//! by itself, and a server of another make (PostgreSQL) takes the place of this file alone. A change is in memory only
//! after it is durable, so whoever is answered was told the truth.

use std::collections::BTreeMap;
use std::path::Path;

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::{
    AuditLine, DOMAIN_KEY, Member, Owner, Said, ServedDomain, StoredInvitation,
};
use crosstalk_storage::{
    CheckpointError, CodecError, CommitError, OpenError, Options, ReadError, Store, Stored, Tree, WriteSet,
    decode, encode,
};

/// Where it lies in the data directory.
pub const DATABASE: &str = "authority";

/// What is wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something in it is not understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Nothing can be written now.
    #[error("nothing can be saved now: {0}")]
    Commit(#[from] CommitError),
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

/// What is to be changed together.
#[derive(Debug, Default)]
pub struct Change {
    domain: Option<ServedDomain>,
    members: Vec<(String, Member)>,
    invitations: Vec<([u8; 32], Option<StoredInvitation>)>,
    audit: Vec<AuditLine>,
    owners: Vec<(UserId, Owner)>,
    said: Vec<(Vec<u8>, Said)>,
}

impl Change {
    /// A change that the audit log tells so.
    pub fn told(line: AuditLine) -> Self {
        Self { audit: vec![line], ..Self::default() }
    }

    /// With one more line in the audit log.
    #[must_use]
    pub fn and_told(mut self, line: AuditLine) -> Self {
        self.audit.push(line);
        self
    }

    /// Makes the domain.
    #[must_use]
    pub fn domain(mut self, domain: ServedDomain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Changes a user, or adds one.
    #[must_use]
    pub fn member(mut self, name: &str, member: Member) -> Self {
        self.members.push((name.to_owned(), member));
        self
    }

    /// Changes an invitation, adds or removes one.
    #[must_use]
    pub fn invitation(mut self, mark: [u8; 32], invitation: Option<StoredInvitation>) -> Self {
        self.invitations.push((mark, invitation));
        self
    }

    /// Changes what is kept of a user.
    #[must_use]
    pub fn owner(mut self, user: &UserId, owner: Owner) -> Self {
        self.owners.push((*user, owner));
        self
    }

    /// Changes what a user's devices have said of one thing.
    #[must_use]
    pub fn said(mut self, user: &UserId, place: &[u8; 16], said: Said) -> Self {
        self.said.push((said_key(user, place), said));
        self
    }
}

fn said_key(user: &UserId, place: &[u8; 16]) -> Vec<u8> {
    [&user.as_bytes()[..], place].concat()
}

/// The open database.
pub struct Database {
    store: Store,
    domain: Option<ServedDomain>,
    members: BTreeMap<String, Member>,
    invitations: BTreeMap<[u8; 32], StoredInvitation>,
    next_line: u64,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({} users)", self.members.len())
    }
}

impl Database {
    /// Whether there is one in a data directory.
    pub fn is_in(data: &Path) -> bool {
        data.join(DATABASE).exists()
    }

    /// Opens the database in a data directory, or makes one.
    ///
    /// # Errors
    /// When it cannot be opened or holds what a newer program wrote.
    pub fn open(data: &Path) -> Result<Self, DatabaseError> {
        let (store, contents, opened) = Store::open(&data.join(DATABASE), Options::default())?;
        tracing::debug!("database of the authority: {opened}");
        let domain = contents.get(Tree::ServedDomain, DOMAIN_KEY).map(decode).transpose()?;
        let mut members = BTreeMap::new();
        for (key, value) in contents.tree(Tree::Member) {
            members.insert(String::from_utf8_lossy(key).into_owned(), decode(value)?);
        }
        let mut invitations = BTreeMap::new();
        for (key, value) in contents.tree(Tree::Invitation) {
            if let Ok(mark) = key.try_into() {
                invitations.insert(mark, decode(value)?);
            }
        }
        let numbers =
            contents.tree(Tree::Audit).filter_map(|(key, _)| Some(u64::from_be_bytes(key.try_into().ok()?)));
        let next_line = numbers.max().map_or(1, |last| last.saturating_add(1));
        Ok(Self { store, domain, members, invitations, next_line })
    }

    /// The domain, once it is made.
    pub fn domain(&self) -> Option<&ServedDomain> {
        self.domain.as_ref()
    }

    /// A user.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// All users, by name.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// An invitation, by the mark of its token.
    pub fn invitation(&self, mark: &[u8; 32]) -> Option<&StoredInvitation> {
        self.invitations.get(mark)
    }

    /// All invitations.
    pub fn invitations(&self) -> impl Iterator<Item = (&[u8; 32], &StoredInvitation)> {
        self.invitations.iter()
    }

    /// What is kept of a user beside what its devices have said; read from the store.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn owner(&self, user: &UserId) -> Result<Owner, DatabaseError> {
        Ok(self.read(user.as_bytes())?.unwrap_or_default())
    }

    /// What a user's devices have said of one thing; read from the store.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn said(&self, user: &UserId, place: &[u8; 16]) -> Result<Said, DatabaseError> {
        Ok(self.read(&said_key(user, place))?.unwrap_or_default())
    }

    /// All that a user's devices have said, at most so much.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn all_said(&self, user: &UserId, most: usize) -> Result<Vec<([u8; 16], Said)>, DatabaseError> {
        let mut all = Vec::new();
        for (key, value) in self.store.scan(Tree::Statement, user.as_bytes(), most)? {
            if let Some(Ok(place)) = key.get(32..).map(TryInto::try_into) {
                all.push((place, decode(&value)?));
            }
        }
        Ok(all)
    }

    fn read<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, DatabaseError> {
        Ok(self.store.get(T::TREE, key)?.map(|value| decode(&value)).transpose()?)
    }

    /// Makes a change durable, then true.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub fn commit(&mut self, change: Change) -> Result<(), DatabaseError> {
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
        for (number, line) in (self.next_line..).zip(&change.audit) {
            writes.put(AuditLine::TREE, number.to_be_bytes(), encode(line));
            if let Some(oldest) = number.checked_sub(AuditLine::TREE.limit() as u64) {
                writes.delete(AuditLine::TREE, oldest.to_be_bytes());
            }
        }
        for (user, owner) in &change.owners {
            writes.put(Tree::Owner, user.as_bytes(), encode(owner));
        }
        for (key, said) in &change.said {
            writes.put(Tree::Statement, key.clone(), encode(said));
        }
        self.store.commit(&[writes])?;
        self.next_line = self.next_line.saturating_add(change.audit.len() as u64);
        self.domain = change.domain.or(self.domain.take());
        self.members.extend(change.members);
        for (mark, invitation) in change.invitations {
            match invitation {
                Some(invitation) => drop(self.invitations.insert(mark, invitation)),
                None => drop(self.invitations.remove(&mark)),
            }
        }
        Ok(())
    }

    /// The newest lines of the audit log, oldest first, with their numbers.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn audit(&self, most: usize) -> Result<Vec<(u64, AuditLine)>, DatabaseError> {
        let first = self.next_line.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX)).max(1);
        let mut lines = Vec::new();
        for number in first..self.next_line {
            if let Some(line) = self.store.get(Tree::Audit, &number.to_be_bytes())? {
                lines.push((number, decode(&line)?));
            }
        }
        Ok(lines)
    }

    /// What is taken back, or ends, always finds room.
    fn check_room(&self, change: &Change) -> Result<(), DatabaseError> {
        let members = change.members.iter().filter(|(name, _)| !self.members.contains_key(name)).count();
        let made = |(mark, invitation): &&([u8; 32], Option<StoredInvitation>)| {
            invitation.is_some() && !self.invitations.contains_key(mark)
        };
        let invitations = change.invitations.iter().filter(made).count();
        for (what, tree, held, more) in [
            ("users", Tree::Member, self.members.len(), members),
            ("invitations", Tree::Invitation, self.invitations.len(), invitations),
        ] {
            if more > 0 && held + more > tree.limit() {
                return Err(DatabaseError::Full { what, limit: tree.limit() });
            }
        }
        Ok(())
    }

    /// What can be done while nobody waits.
    ///
    /// # Errors
    /// When the disk refuses; nothing is lost then.
    pub fn maintain(&mut self) -> Result<(), DatabaseError> {
        Ok(self.store.maintain().map(drop)?)
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// When the disk refuses; nothing is lost then.
    pub fn close(self) -> Result<(), DatabaseError> {
        Ok(self.store.close()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str) -> AuditLine {
        AuditLine { what: what.into(), ..AuditLine::default() }
    }

    /// The log forgets its oldest lines: names can be given and taken back however long it is.
    #[test]
    fn a_full_log_makes_room_for_a_new_line() {
        let data = tempfile::tempdir().expect("dir");
        let mut database = Database::open(data.path()).expect("opened");
        database.commit(Change::told(line("first"))).expect("durable");
        database.commit(Change::told(line("second"))).expect("durable");
        database.next_line = 1 + Tree::Audit.limit() as u64;
        database.commit(Change::told(line("last"))).expect("durable");
        let kept =
            |number: u64| database.store.get(Tree::Audit, &number.to_be_bytes()).expect("read").is_some();
        assert_eq!([1, 2, 1 + Tree::Audit.limit() as u64].map(kept), [false, true, true]);
    }

    #[test]
    fn as_many_users_as_a_domain_may_have_and_no_more() {
        let data = tempfile::tempdir().expect("dir");
        let mut database = Database::open(data.path()).expect("opened");
        let mut change = Change::told(line("added"));
        for number in 0..Tree::Member.limit() {
            change = change.member(&number.to_string(), Member::default());
        }
        database.commit(change).expect("durable");
        let one_more = Change::told(line("added")).member("more", Member::default());
        assert!(matches!(database.commit(one_more), Err(DatabaseError::Full { what: "users", .. })));
        database.commit(Change::told(line("disabled")).member("7", Member::default())).expect("durable");
    }

    /// As a process that dies leaves it.
    #[test]
    fn what_was_committed_is_there_again() {
        let data = tempfile::tempdir().expect("dir");
        let mut database = Database::open(data.path()).expect("opened");
        let member = Member { serial: 7, ..Member::default() };
        let invitation = StoredInvitation { name: "alice".into(), ..StoredInvitation::default() };
        let change = Change::told(line("added"))
            .member("alice", member.clone())
            .invitation([1; 32], Some(invitation.clone()))
            .invitation([2; 32], Some(invitation.clone()));
        database.commit(change).expect("durable");
        database.commit(Change::told(line("withdrawn")).invitation([2; 32], None)).expect("durable");
        drop(database);
        let mut database = Database::open(data.path()).expect("opened");
        assert_eq!(database.member("alice"), Some(&member));
        assert_eq!(database.invitations().collect::<Vec<_>>(), [(&[1; 32], &invitation)]);
        database.commit(Change::told(line("last"))).expect("durable");
        let told: Vec<_> = database.audit(2).expect("read").into_iter().map(|(n, l)| (n, l.what)).collect();
        assert_eq!(told, [(2, "withdrawn".to_owned()), (3, "last".to_owned())]);
        database.close().expect("closed");
    }
}
