//! Whom users have blocked (XEP-0191): what the server knows of their lists counts also while none of their laptops is here.

use crosstalk_overlay::id::UserId;
use jid::Jid;

use super::gate::{Gate, GateError};
use crate::authority::database::Database;
use crate::authority::lists::blocked;
use crate::core::account::block_forms;
use crate::xmpp::{Condition, Kind, Stanza, Type};

impl Gate {
    /// Whether a user has blocked somebody outside.
    pub(super) fn is_blocked(
        &self,
        database: &Database,
        user: &UserId,
        who: &Jid,
    ) -> Result<bool, GateError> {
        Ok(blocked(database, user, std::slice::from_ref(who))?.contains(&true))
    }

    /// Of some addresses those that a user has not blocked.
    pub(super) fn unblocked(
        &self,
        database: &Database,
        user: &UserId,
        addresses: Vec<Jid>,
    ) -> Result<Vec<Jid>, GateError> {
        let mut is_blocked = blocked(database, user, &addresses)?.into_iter();
        Ok(addresses.into_iter().filter(|_| !is_blocked.next().unwrap_or_default()).collect())
    }

    /// XEP-0191 §3.1: messages and requests are refused as if nobody had the name, presence goes unanswered. What ends a
    /// subscription is taken in: it is shown to nobody.
    pub(super) fn refuse_blocked(
        &mut self,
        database: &Database,
        user: UserId,
        from: &Jid,
        stanza: &Stanza,
    ) -> Result<(), GateError> {
        self.refuse("stanzas of blocked addresses");
        match (stanza.kind, stanza.type_) {
            (Kind::Presence, Type::Unsubscribe | Type::Unsubscribed | Type::Unavailable) => {
                self.presence_in(database, user, from, stanza)
            }
            (Kind::Presence, _) => Ok(()),
            (Kind::Message | Kind::Iq, _) => {
                self.bounce(stanza, &Condition::ServiceUnavailable.into());
                Ok(())
            }
        }
    }

    /// A user has blocked or unblocked addresses: contacts see the user go or come, and are not seen or asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub fn blocks_changed(
        &mut self,
        database: &Database,
        changes: &[(UserId, Jid)],
    ) -> Result<(), GateError> {
        for (user, changed) in changes {
            let book = self.book(database, user)?;
            let known = book.watchers().chain(book.watched()).filter_map(|contact| Jid::new(contact).ok());
            let meant =
                known.filter(|contact| block_forms(contact).iter().any(|form| form == changed.as_str()));
            let contacts: std::collections::BTreeSet<Jid> = meant.collect();
            for contact in contacts {
                let shown = !self.is_blocked(database, user, &contact)?;
                let stands = self.book(database, user)?.contact(contact.as_str());
                if stands.from {
                    self.shows(*user, &contact.to_bare(), shown);
                }
                match shown {
                    true if stands.to => self.probe_contact(*user, &contact),
                    false => self.contact_ends(*user, &contact.to_bare()),
                    true => {}
                }
            }
        }
        Ok(())
    }

    fn probe_contact(&mut self, user: UserId, contact: &Jid) {
        let from = self.presences_of(user).into_iter().find_map(|presence| presence.from);
        let Some(from) = from else { return };
        let probe = Stanza::new(Kind::Presence, Type::Probe);
        self.write(&Stanza { from: Some(from.to_bare().into()), to: Some(contact.clone()), ..probe });
    }
}
