//! Whom users have blocked (XEP-0191), as their devices have said.

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::Said;
use jid::Jid;

use super::{Lists, Merged, whole};
use crate::authority::database::{Database, DatabaseError};
use crate::core::account::block_forms;
use crate::core::sync::entry::{Entry, Key};

/// Of some addresses those that a user has blocked: each as it is, its bare form, or its domain.
///
/// # Errors
/// When the database fails.
pub fn blocked(database: &Database, user: &UserId, addresses: &[Jid]) -> Result<Vec<bool>, DatabaseError> {
    let forms: Vec<[String; 3]> = addresses.iter().map(block_forms).collect();
    let places: Vec<_> = forms.iter().flatten().map(|form| Key::Block(form.clone()).place()).collect();
    let said = database.said(user, &places)?;
    Ok(said
        .chunks(3)
        .map(|forms| forms.iter().any(|said| block_of(said).is_some_and(|(_, on)| on)))
        .collect())
}

/// The address that something was said of, and whether it is blocked; nothing if that was said of something else.
fn block_of(said: &Said) -> Option<(String, bool)> {
    match whole(said)? {
        Entry::Block(field) => Some((field.jid, !field.blocked.lifted)),
        _ => None,
    }
}

impl Lists {
    /// Remembers who is blocked, or not any more, since something was told.
    pub(super) fn note_blocks<'a>(&mut self, user: UserId, changes: impl Iterator<Item = &'a Merged>) {
        for Merged { before, after, .. } in changes {
            let Some((jid, on)) = block_of(after) else { continue };
            if on != block_of(before).is_some_and(|(_, on)| on)
                && let Ok(jid) = Jid::new(&jid)
            {
                self.blocks.push((user, jid));
            }
        }
    }

    /// Whom users have blocked or unblocked since this was asked last, which is after each [`Lists::tell`].
    pub fn take_blocks(&mut self) -> Vec<(UserId, Jid)> {
        std::mem::take(&mut self.blocks)
    }
}
