//! Who may be shown in the directory, as the users' devices have said: the index follows in the same commit.

use crosstalk_storage::tree::authority::Said;
use crosstalk_storage::tree::directory::Listing;

use super::{Merged, whole};
use crate::authority::database::{Change, Database, DatabaseError};
use crate::authority::directory::person;
use crate::core::sync::entry::Entry;

/// With what the index becomes by some changes of what devices of the user with that name have said.
pub(super) fn indexed<'a>(
    change: Change,
    database: &Database,
    name: &str,
    changes: impl Iterator<Item = &'a Merged>,
) -> Result<Change, DatabaseError> {
    let mut said = changes.filter_map(|merged| listing_of(&merged.after));
    said.try_fold(change, |change, listing| {
        let (before, after) = (database.person(name)?, person(name, &listing));
        Ok(match before == after {
            true => change,
            false => change.person(name, before.as_ref(), after.as_ref()),
        })
    })
}

/// What was said of the directory; nothing if that was said of something else.
fn listing_of(said: &Said) -> Option<Listing> {
    match whole(said)? {
        Entry::Listing(listing) => Some(*listing),
        _ => None,
    }
}
