//! What two nodes tell each other of what is void: digests, lists, revocations. *Pure.*

use super::shape::{RevocationsField, RevokedListField};
use super::{MAX_MARKS, MAX_REVOCATIONS, MAX_SCOPES, Mark, WireError, all_at_most, at_most, marks};
use crate::record::{Record as _, Revocation};

/// The revocations by one user or one authority, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedDigest {
    /// Names the user or the authority.
    pub scope: Mark,
    /// Names the set.
    pub digest: Mark,
}

/// The same, each by its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedList {
    /// Names the user or the authority.
    pub scope: Mark,
    /// What the sender has.
    pub have: Vec<Mark>,
}

/// What is void.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// What the sender has; it wants the rest of these scopes.
    pub lists: Vec<RevokedList>,
    /// Whether `lists` answer such lists, and so want no lists in return.
    pub answer: bool,
    /// Signed [`Revocation`]s.
    pub records: Vec<Vec<u8>>,
}

pub(super) fn concatenated(digests: &[RevokedDigest]) -> Vec<u8> {
    digests.iter().flat_map(|one| [one.scope, one.digest]).flatten().collect()
}

pub(super) fn field(told: Revocations) -> RevocationsField {
    let Revocations { lists, answer, records } = told;
    let list = |RevokedList { scope, have }| RevokedListField { scope: scope.to_vec(), have: have.concat() };
    RevocationsField { lists: lists.into_iter().map(list).collect(), answer, records }
}

pub(super) fn digests(bytes: &[u8]) -> Result<Vec<RevokedDigest>, WireError> {
    let (digests, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(WireError::Field { what: "list of digests" });
    }
    at_most(digests.len(), MAX_SCOPES, "list of digests")?;
    let (halves, _) = bytes.as_chunks::<8>();
    Ok(halves.chunks_exact(2).map(|pair| RevokedDigest { scope: pair[0], digest: pair[1] }).collect())
}

pub(super) fn told(field: RevocationsField) -> Result<Revocations, WireError> {
    let RevocationsField { lists, answer, records } = field;
    at_most(lists.len(), MAX_SCOPES, "list of scopes")?;
    at_most(records.len(), MAX_REVOCATIONS, "list of revocations")?;
    all_at_most(&records, Revocation::MAX_SIZE, "revocation")?;
    let list = |list: RevokedListField| {
        let scope = list.scope.try_into().map_err(|_| WireError::Field { what: "scope" })?;
        Ok(RevokedList { scope, have: marks(&list.have)? })
    };
    let lists: Vec<RevokedList> = lists.into_iter().map(list).collect::<Result<_, _>>()?;
    at_most(lists.iter().map(|list| list.have.len()).sum(), MAX_MARKS, "list of marks")?;
    Ok(Revocations { lists, answer, records })
}
