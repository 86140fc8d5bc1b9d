//! What the devices of users showed last.

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::authority::LastShown;

use super::{Change, Database, DatabaseError};

impl Database {
    /// What some users showed last, in their order.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn last_shown(&self, users: &[UserId]) -> Result<Vec<LastShown>, DatabaseError> {
        self.all_of(users.iter().map(|user| user.as_bytes().to_vec()).collect())
    }
}

impl Change {
    /// Changes what a user showed last.
    #[must_use]
    pub fn shown(self, user: &UserId, shown: &LastShown) -> Self {
        self.upstream(user.as_bytes().to_vec(), Some(shown))
    }
}
