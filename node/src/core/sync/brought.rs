//! What a user brought along from another server (XEP-0227) becomes the account's own: contacts, blocks, nickname, vCard. What
//! was changed here meanwhile stays, so the same page may come again. *Pure.*

use crosstalk_overlay::enrol::{Brought, BroughtContact};
use crosstalk_overlay::id::UserId;
use jid::{BareJid, Jid};

use crate::core::Core;
use crate::core::router::Route;
use crate::xmpp::{Condition, Element, StanzaError, Type, ns};

impl Core {
    /// Takes in a page.
    pub(super) fn take_brought(&mut self, user: UserId, page: Brought) {
        for contact in page.contacts {
            if self.take_brought_contact(user, contact).is_err() {
                self.count("contacts from another server that could not be taken in");
            }
        }
        let Some(account) = self.accounts.get(&user) else { return };
        let blocked = page.blocked.iter().filter_map(|address| Jid::new(address).ok());
        let blocked: Vec<Jid> = blocked.filter(|jid| !account.blocks.contains_key(jid.as_str())).collect();
        let unnamed = account.stored.nickname == account.stored.name;
        let is_card = |bytes: &[u8]| Element::read(bytes).is_ok_and(|card| card.is("vCard", ns::VCARD));
        let card = Some(page.vcard).filter(|card| account.vcard.is_none() && is_card(card));
        let nickname = Some(page.nickname).filter(|name| unnamed && !name.trim().is_empty());
        if !blocked.is_empty() {
            self.block(user, &blocked);
        }
        match card {
            Some(card) => self.set_vcard(user, card, nickname),
            None if nickname.is_some() => self.set_profile(user, nickname, None),
            None => {}
        }
    }

    /// Who is outside stands with the user as the server says (`overlay/PROTOCOL.md` §14). Of the own domain whoever the user saw,
    /// or had asked, is asked by the signed way, and whoever saw the user is let see it without a question.
    fn take_brought_contact(&mut self, user: UserId, contact: BroughtContact) -> Result<(), StanzaError> {
        let Ok(jid) = BareJid::new(&contact.address) else { return Err(Condition::JidMalformed.into()) };
        let Some(account) = self.accounts.get(&user).filter(|_| contact.listed) else { return Ok(()) };
        if account.jid == jid {
            return Ok(());
        }
        let address = self.canonical(user, &jid);
        let known = self.accounts.get(&user).and_then(|account| account.roster.items.get(address.as_str()));
        if known.is_some_and(|known| known.removed) {
            return Ok(());
        }
        if known.is_none_or(|known| known.name.is_none() && known.groups.is_empty()) {
            let name = Some(contact.name).filter(|name| !name.is_empty());
            self.set_contact(user, &jid, name, contact.groups)?;
        }
        match self.route(&Jid::from(jid.clone())) {
            Route::Name(_) if contact.from => self.approve_name_in_advance(user, &jid, true),
            Route::Local(other) | Route::Overlay(other) => {
                if contact.from {
                    self.say(user, other, &jid, Type::Subscribed)?;
                }
                match contact.to || contact.ask {
                    true => self.say(user, other, &jid, Type::Subscribe),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
