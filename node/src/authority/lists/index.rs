//! What the server keeps of a user, in memory: marks to compare by, and how much it is. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::enrol::Statement;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::Says;
use crosstalk_storage::tree::authority::Said;
use prost::Message;

use super::hidden::Hiding;
use super::{BYTES, Merged, PER_USER, whole};
use crate::core::sync::entry::{Entry, Mark, Marks, Place};

/// Users whose marks are in memory, and things of all of them; of more the one asked for longest ago is read again.
const INDEXES: usize = 128;
const INDEXED: usize = 1_000_000;

/// What a user has here, in memory.
#[derive(Default)]
pub(super) struct Index {
    pub(super) marks: BTreeMap<Mark, Place>,
    /// Who has granted, as the user's devices have heard, that the user sees them.
    pub(super) grants: BTreeSet<UserId>,
    pub(super) hiding: Hiding,
    /// With those that were removed.
    pub(super) things: usize,
    pub(super) bytes: usize,
    /// How often that had changed when it was read.
    pub(super) changes: u64,
    pub(super) used: u64,
}

impl Index {
    pub(super) fn marks(&self) -> Marks {
        Marks(self.marks.keys().copied().collect())
    }

    /// Drops what there is no room for, so that the rest is taken; how much that is.
    pub(super) fn leave_out(&self, changes: &mut BTreeMap<Place, Merged>) -> u32 {
        let (mut things, mut bytes, mut full) = (self.things, self.bytes, 0);
        changes.retain(|_, change| {
            let fresh = change.before.statements.is_empty();
            let (gone, after) = (change.before.encoded_len(), change.after.encoded_len());
            let fits = (!fresh || things < PER_USER) && (after <= gone || bytes + after - gone <= BYTES);
            if fits {
                things += usize::from(fresh);
                bytes = (bytes + after).saturating_sub(gone);
            } else {
                full += 1;
            }
            fits
        });
        full
    }

    pub(super) fn forget(&mut self, said: &Said) {
        let said: Vec<Entry> = entries(said).collect();
        for entry in &said {
            entry.mark().map(|mark| self.marks.remove(&mark));
            granted_by(entry).map(|other| self.grants.remove(&other));
        }
        self.hiding.change(said.into_iter().reduce(Entry::merge), None);
    }

    pub(super) fn add(&mut self, place: Place, said: &Said) {
        let said: Vec<Entry> = entries(said).collect();
        for entry in &said {
            self.marks.extend(entry.mark().map(|mark| (mark, place)));
            self.grants.extend(granted_by(entry));
        }
        self.hiding.change(None, said.into_iter().reduce(Entry::merge));
    }

    /// From whom its user hides after some changes.
    pub(super) fn hiding_after<'a>(&self, changes: impl Iterator<Item = &'a Merged>) -> Hiding {
        let mut hiding = self.hiding.clone();
        changes.for_each(|change| hiding.change(whole(&change.before), whole(&change.after)));
        hiding
    }
}

/// So that one user more has room.
pub(super) fn make_room(indexes: &mut BTreeMap<UserId, Index>) {
    let things =
        |indexes: &BTreeMap<UserId, Index>| indexes.values().map(|index| index.things).sum::<usize>();
    while indexes.len() >= INDEXES || things(indexes) + PER_USER > INDEXED {
        let oldest = indexes.iter().min_by_key(|(_, index)| index.used).map(|(user, _)| *user);
        let Some(oldest) = oldest else { return };
        indexes.remove(&oldest);
    }
}

/// The statements about a thing that can be read.
pub(super) fn entries(said: &Said) -> impl Iterator<Item = Entry> {
    said.statements.iter().filter_map(|statement| Entry::read(&statement.said))
}

pub(super) fn mark_of(statement: &Statement) -> Option<Mark> {
    Entry::read(&statement.said)?.mark()
}

/// Who says by it that somebody may see them.
fn granted_by(entry: &Entry) -> Option<UserId> {
    match entry {
        Entry::Record(_, record) => (record.says == Says::Grant).then_some(record.from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_large_users_or_many_small_ones_are_in_memory() {
        for (things, kept) in [(10, INDEXES - 1), (PER_USER, INDEXED / PER_USER - 1)] {
            let mut indexes = BTreeMap::new();
            for number in 0..200_u8 {
                make_room(&mut indexes);
                let index = Index { things, used: u64::from(number), ..Index::default() };
                indexes.insert(UserId::from_bytes([number; 32]), index);
            }
            make_room(&mut indexes);
            assert_eq!(indexes.len(), kept, "{things}");
            assert!(
                indexes.contains_key(&UserId::from_bytes([199; 32])),
                "the one asked for longest ago goes"
            );
        }
    }
}
