//! From whom a user hides because the address is blocked under which its contact list has them (XEP-0191): that address may be known
//! to nobody else, so it is looked for where both are known. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::id::UserId;
use jid::Jid;

use crate::core::account::block_forms;
use crate::core::sync::entry::Entry;

/// What a user's contact list and block list say of that.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Hiding {
    /// Whose key a contact has, by address.
    contacts: BTreeMap<String, UserId>,
    blocked: BTreeSet<String>,
}

impl Hiding {
    /// What was said of a thing is another now.
    pub(super) fn change(&mut self, before: Option<Entry>, after: Option<Entry>) {
        match before {
            Some(Entry::Contact(item)) => drop(self.contacts.remove(&item.jid)),
            Some(Entry::Block(field)) => drop(self.blocked.remove(&field.jid)),
            _ => {}
        }
        match after {
            Some(Entry::Contact(item)) if !item.removed => {
                let user = item.user.as_deref().and_then(UserId::from_slice);
                self.contacts.extend(user.map(|user| (item.jid.clone(), user)));
            }
            Some(Entry::Block(field)) if !field.blocked.lifted => drop(self.blocked.insert(field.jid)),
            _ => {}
        }
    }

    /// Those users.
    pub(super) fn from(&self) -> BTreeSet<UserId> {
        let blocked = |address: &str| {
            Jid::new(address)
                .is_ok_and(|jid| block_forms(&jid).iter().any(|form| self.blocked.contains(form)))
        };
        let listed = self.contacts.iter().filter(|_| !self.blocked.is_empty());
        listed.filter(|(address, _)| blocked(address)).map(|(_, user)| *user).collect()
    }
}
