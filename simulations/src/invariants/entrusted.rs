//! What is entrusted to the server of a domain: a laptop that goes from a meeting with it leaves everything there, and a new one that
//! meets nobody else gets all of that (DESIGN.md §7). *Pure.*

use std::collections::BTreeMap;

use crosstalk::core::admin::{Command, ContactView, Reply};

use crate::world::World;
use crate::world::events::{HostId, PersonId};
use crate::world::story::{Checked, Violation};

/// What somebody has on a laptop, as far as it is the same on all: a sentence about each thing.
pub(crate) type Possessions = BTreeMap<String, String>;

impl World {
    /// A laptop that is in step with its server goes.
    pub(crate) fn entrusts(&mut self, person: PersonId, host: HostId) -> Checked {
        let (name, all) = (self.hosts[host.0].name, self.possessions(person, host)?);
        self.book.entrusted.insert(person, (name, all));
        Ok(())
    }

    /// A new laptop has met nobody but the server: it has what the laptop of the same person had that met it last.
    pub(crate) fn check_entrusted(&mut self, person: PersonId, host: HostId) -> Checked {
        let has = self.possessions(person, host)?;
        let (name, who) = (self.hosts[host.0].name, self.who(person));
        let Some((last, had)) = self.book.entrusted.get(&person) else {
            return Err(self.violation(format!("nobody has met the server with a laptop of {who}")));
        };
        let keys = had.keys().chain(has.keys());
        match keys.into_iter().find(|key| had.get(*key) != has.get(*key)) {
            Some(key) => Err(self.violation(format!(
                "{name}, which enrolled at the server alone, has for {key}: {:?}, and {last}, which met the server last, had {:?}",
                has.get(key),
                had.get(key)
            ))),
            None => Ok(()),
        }
    }

    fn possessions(&mut self, person: PersonId, host: HostId) -> Result<Possessions, Violation> {
        let account = || self.who(person).to_owned();
        let (contacts, account_of) = (Command::Contacts(account()), Command::ShowAccount(account()));
        let Reply::Contacts(contacts) = self.ask(host, contacts)? else {
            return Err(self.violation("a node does not tell its contacts"));
        };
        let Reply::Account(account) = self.ask(host, account_of)? else {
            return Err(self.violation("a node does not tell its account"));
        };
        let of_contact = |one: ContactView| {
            let ContactView { name, groups, subscription, ask, pending_in, .. } = one;
            let conflict = one.conflict.is_some();
            let said = format!("{name:?} {groups:?} {subscription} {ask} {pending_in} {conflict}");
            (format!("the contact {}", one.jid), said)
        };
        let blocks =
            self.blocks(host).into_iter().map(|jid| (format!("the block of {jid}"), "there".to_owned()));
        let nickname = ("the nickname".to_owned(), account.nickname);
        Ok(contacts.into_iter().map(of_contact).chain(blocks).chain([nickname]).collect())
    }
}
