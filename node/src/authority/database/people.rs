//! Who stands in the directory, and the words by which each is found.

use std::collections::BTreeSet;

use crosstalk_storage::tree::directory::{FoundBy, Person, found_by, read_found_by};
use crosstalk_storage::{Stored as _, decode};

use super::{Change, Database, DatabaseError};

impl Database {
    /// How somebody stands there; nothing for who does not.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn person(&self, name: &str) -> Result<Option<Person>, DatabaseError> {
        self.read(name.as_bytes())
    }

    /// The same of several, in their order.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn people_named(&self, names: &[String]) -> Result<Vec<Option<Person>>, DatabaseError> {
        let keys: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let found = self.engine.get(Person::TREE, &keys)?;
        found.into_iter().map(|value| Ok(value.map(|value| decode(&value)).transpose()?)).collect()
    }

    /// All, by name.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn people(&self) -> Result<Vec<(String, Person)>, DatabaseError> {
        self.all(|key| String::from_utf8(key.to_vec()).ok())
    }

    /// Those with a word that begins so; nothing: there are so many entries of the index, or more.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn found_by(&self, beginning: &str, most: usize) -> Result<Option<BTreeSet<String>>, DatabaseError> {
        let begins = beginning.as_bytes();
        let rows = self.engine.scan(FoundBy::TREE, begins, begins, most)?;
        let names = || rows.iter().filter_map(|(key, _)| read_found_by(key).map(str::to_owned)).collect();
        Ok((rows.len() < most).then(names))
    }
}

impl Change {
    /// Changes how somebody stands in the directory, with the index; `before` is as it is there now.
    #[must_use]
    pub fn person(mut self, name: &str, before: Option<&Person>, after: Option<&Person>) -> Self {
        for word in before.into_iter().flat_map(|person| &person.words) {
            self = self.upstream::<FoundBy>(found_by(word, name), None);
        }
        for word in after.into_iter().flat_map(|person| &person.words) {
            self = self.upstream(found_by(word, name), Some(&FoundBy {}));
        }
        self.upstream(name.as_bytes().to_vec(), after)
    }
}
