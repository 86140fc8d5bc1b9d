//! What is to be changed together.

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::{
    AuditLine, Member, Owner, Said, ServedDomain, StoredIntroduction, StoredInvitation,
};
use crosstalk_storage::{Stored, Tree, encode};

/// What is to be changed together.
#[derive(Debug, Default)]
pub struct Change {
    pub(super) domain: Option<ServedDomain>,
    pub(super) members: Vec<(String, Member)>,
    pub(super) invitations: Vec<([u8; 32], Option<StoredInvitation>)>,
    pub(super) audit: Vec<AuditLine>,
    pub(super) owners: Vec<(UserId, Owner)>,
    pub(super) said: Vec<(Vec<u8>, Said)>,
    pub(super) forgotten: Vec<UserId>,
    pub(super) upstream: Vec<(Tree, Vec<u8>, Option<Vec<u8>>)>,
    pub(super) introductions: Vec<(String, Option<StoredIntroduction>)>,
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

    /// Changes something that has a tree of its own, such as what goes between users and addresses outside, or removes it.
    #[must_use]
    pub fn upstream<T: Stored>(mut self, key: Vec<u8>, value: Option<&T>) -> Self {
        self.upstream.push((T::TREE, key, value.map(encode)));
        self
    }

    /// Whether nothing of that is to be changed.
    pub fn is_empty_upstream(&self) -> bool {
        self.upstream.is_empty()
    }

    /// Deletes all that is kept of a user and its devices have said.
    #[must_use]
    pub fn forgotten(mut self, user: &UserId) -> Self {
        self.forgotten.push(*user);
        self
    }

    /// Changes what a user's devices have said of one thing.
    #[must_use]
    pub fn said(mut self, user: &UserId, place: &[u8; 16], said: Said) -> Self {
        self.said.push((said_key(user, place), said));
        self
    }
}

pub(super) fn said_key(user: &UserId, place: &[u8; 16]) -> Vec<u8> {
    [&user.as_bytes()[..], place].concat()
}
