//! The directory of a domain: who of its users has agreed to be found, and by whom (`overlay/PROTOCOL.md` §15).
//!
//! Who stands in it is what the users' devices have signed (`lists/listing.rs`); the index changes in the commit of that.

mod pace;
mod words;

use crosstalk_overlay::enrol::{
    Answer as Said, Directory, MAX_PEOPLE, MAX_SEARCH, People, Person, Refused, Search, Why,
};
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::tree::directory::{Listing, Person as Stored, Shown};

use super::counter::Stop;
use super::database::{Change, DatabaseError};
use super::office::{Office, OfficeError};
use super::{Answer, PersonView};
pub(super) use pace::Pace;
use words::Wanted;

/// Rows of the index that are read for one question: a word of many people is refused before they are looked at.
const ROWS: usize = 512;
/// What a question costs that is refused as too wide, as if so many people were shown.
const WIDE: usize = 9;

/// How somebody stands in the index who has agreed to that; nothing for who has not.
pub(super) fn person(name: &str, listing: &Listing) -> Option<Stored> {
    (listing.shown() != Shown::Nothing).then(|| {
        let Listing { nickname, full_name, .. } = listing.clone();
        let words = words::of_person(name, &nickname, &full_name);
        Stored { nickname, full_name, words }
    })
}

impl Office {
    /// Whether the owner wants a directory.
    pub fn set_directory(&mut self, on: bool) {
        self.directory = on;
    }

    /// What laptops are told of that.
    pub(super) fn has_directory(&self) -> Directory {
        if self.directory { Directory::Yes } else { Directory::No }
    }

    /// A user searches.
    pub(super) fn search(&mut self, node: NodeId, ask: &Search) -> Result<Said, Stop> {
        let (user, _, _) = self.lists.user_of(&self.database, node, ask.session, self.now().wall)?;
        if !self.directory {
            return Err(Stop::Why(Why::NoDirectory));
        }
        if ask.text.len() > MAX_SEARCH {
            return Err(Stop::Why(Why::Policy));
        }
        let wanted = Wanted::read(&ask.text, &self.domain).ok_or(Stop::Why(Why::TooShort))?;
        let now = self.now().mono;
        if let Some(wait) = self.pace.wait(&user, now) {
            return Ok(Said::Refused(Refused { why: Why::Slowly.into(), wait, ..Refused::default() }));
        }
        let found = self.found(&wanted)?;
        self.pace.spent(user, found.as_ref().map_or(WIDE, Vec::len), now);
        let people = found.ok_or(Stop::Why(Why::TooMany))?;
        Ok(Said::People(People { people }))
    }

    /// Nothing: too many.
    fn found(&self, wanted: &Wanted) -> Result<Option<Vec<Person>>, DatabaseError> {
        let Some(names) = self.database.found_by(&wanted.first, ROWS)? else { return Ok(None) };
        let names: Vec<String> = names.into_iter().collect();
        let people = names.iter().zip(self.database.people_named(&names)?);
        let meant = people.filter_map(|(name, person)| Some((name, person?)));
        let meant = meant.filter(|(_, person)| wanted.means(&person.words));
        let found: Vec<Person> = meant
            .map(|(name, Stored { nickname, full_name, .. })| Person {
                address: self.address(name),
                nickname,
                full_name,
            })
            .collect();
        Ok((found.len() <= MAX_PEOPLE).then_some(found))
    }

    /// A user whose name is taken back does not stand there any more.
    pub(super) fn without_person(&self, name: &str, change: Change) -> Result<Change, DatabaseError> {
        Ok(match self.database.person(name)? {
            Some(before) => change
                .person(name, Some(&before), None)
                .and_told(self.line("taken out of the directory", name)),
            None => change,
        })
    }

    /// Who stands in it, for whoever runs the server.
    pub(super) fn listed(&self) -> Result<Answer, OfficeError> {
        let view = |(name, person): (String, Stored)| PersonView {
            address: self.address(&name),
            nickname: person.nickname,
            full_name: Some(person.full_name).filter(|name| !name.is_empty()),
        };
        let people = self.database.people()?.into_iter().map(view).collect();
        Ok(Answer::Directory { on: self.directory, people })
    }
}
