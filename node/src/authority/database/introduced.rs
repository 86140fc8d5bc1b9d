//! Domains that the server introduces, as they stand in the database.

use crosstalk_storage::tree::authority::StoredIntroduction;

use super::{Change, Database, DatabaseError};

impl Database {
    /// All that is signed of other domains, by domain.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn introductions(&self) -> Result<Vec<(String, StoredIntroduction)>, DatabaseError> {
        self.all(|key| String::from_utf8(key.to_vec()).ok())
    }
}

impl Change {
    /// Changes what is said of another domain, or removes it.
    #[must_use]
    pub fn introduction(mut self, domain: &str, said: Option<StoredIntroduction>) -> Self {
        self.introductions.push((domain.to_owned(), said));
        self
    }
}
