//! What the devices of users showed last.

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::LastShown;
use crosstalk_storage::{Stored as _, decode};

use super::{AT_ONCE, Change, Database, DatabaseError};

impl Database {
    /// What some users showed last, in their order.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn last_shown(&self, users: &[UserId]) -> Result<Vec<LastShown>, DatabaseError> {
        let mut shown = Vec::with_capacity(users.len());
        for users in users.chunks(AT_ONCE) {
            let keys: Vec<Vec<u8>> = users.iter().map(|user| user.as_bytes().to_vec()).collect();
            for value in self.engine.get(LastShown::TREE, &keys)? {
                shown.push(value.map(|value| decode(&value)).transpose()?.unwrap_or_default());
            }
        }
        Ok(shown)
    }
}

impl Change {
    /// Changes what a user showed last.
    #[must_use]
    pub fn shown(self, user: &UserId, shown: &LastShown) -> Self {
        self.upstream(user.as_bytes().to_vec(), Some(shown))
    }
}
